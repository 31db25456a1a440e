package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine/remote"
)

func newLint(env environment) *cobra.Command {
	var conf, format, fail, prometheus, tokenFile, tenant string
	names := slices.Sorted(maps.Keys(reporters))
	cmd := &cobra.Command{
		Use: "lint [PATH...]", Short: "Check the annotations of catalog-info.yaml files",
		Long: `Lint says what is wrong with the Sightline annotations of files, folders and globs: bad values, unknown keys, objectives
whose alerts can never fire. With --config and no PATH it reads the catalog that the configuration names, as serve does.
With --prometheus it also asks a Prometheus whether the metrics, labels and buckets that the objectives read are there.
Formats: text, json, junit, codequality (GitLab) and sarif.`,
		Example: `  sightline lint catalog-info.yaml
  sightline lint --config sightline.yaml
  sightline lint --config sightline.yaml --prometheus http://prometheus:9090
  sightline lint 'services/**/catalog-info.yaml' org/ --format codequality > gl-code-quality-report.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && conf == "" {
				return hintError{fmt.Errorf("lint needs a PATH"), "try `sightline lint catalog-info.yaml`, or --config FILE for the catalog that a configuration names"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, names...); err != nil {
				return err
			}
			if err := oneOf("fail-on", fail, "error", "warning", "never"); err != nil {
				return err
			}
			c, err := loadConfig(conf, args)
			if err != nil {
				return err
			}
			g, p, objectives, err := compileGraph(cmd.Context(), c, false)
			if err != nil {
				return err
			}
			addRetention(c, p, objectives)
			addExpired(p, objectives)
			if conf == "" { // what the configuration lacks cannot be told without it
				p.Problems = slices.DeleteFunc(p.Problems, func(p catalog.Problem) bool { return p.Rule == alerts.RulePlatformUnrouted })
			}
			if prometheus != "" {
				found, err := lintReality(cmd.Context(), newProgress(env.stderr, false), remote.Options{URL: prometheus, TokenFile: tokenFile, Tenant: tenant}, g, objectives, len(args) == 0)
				if err != nil {
					return exitError{exitUpstream, hintError{err, "check that it runs, and that --prometheus is what stands before /api/v1"}}
				}
				p.Problems = append(p.Problems, found...)
				slices.SortStableFunc(p.Problems, catalog.Problem.Compare)
			}
			if err := reporters[format](env.stdout, p.Problems, newStyle(env.stdout, env.env)); err != nil {
				return err
			}
			if format == "text" {
				fmt.Fprintf(env.stderr, "sightline: %s\n", count(p.Problems))
			}
			return failOn(fail, p.Problems)
		},
	}
	cmd.Flags().StringVar(&conf, "config", "", "configuration file, the one that serve takes (optional)")
	cmd.Flags().StringVar(&prometheus, "prometheus", "", "Prometheus-compatible API to compare the objectives with, what stands before /api/v1")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with a bearer token for --prometheus")
	cmd.Flags().StringVar(&tenant, "tenant", "", "its X-Scope-OrgID")
	cmd.Flags().StringVar(&format, "format", "text", strings.Join(names, ", "))
	cmd.Flags().StringVar(&fail, "fail-on", "error", "exit with 1 from this severity on: error, warning or never")
	return cmd
}
