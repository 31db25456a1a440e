package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
)

func newLint(env environment) *cobra.Command {
	var conf, format, fail string
	names := slices.Sorted(maps.Keys(reporters))
	cmd := &cobra.Command{
		Use: "lint [PATH...]", Short: "Check the annotations of catalog-info.yaml files",
		Long: `Lint says what is wrong with the Sightline annotations of files, folders and globs: bad values, unknown keys, objectives
whose alerts can never fire. With --config and no PATH it reads the catalog that the configuration names, as serve does.
Formats: text, json, junit, codequality (GitLab) and sarif.`,
		Example: `  sightline lint catalog-info.yaml
  sightline lint --config sightline.yaml
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
			p, objectives, err := compile(cmd.Context(), c, false)
			if err != nil {
				return err
			}
			addRetention(c, p, objectives)
			addExpired(p, objectives)
			if conf == "" { // what the configuration lacks cannot be told without it
				p.Problems = slices.DeleteFunc(p.Problems, func(p catalog.Problem) bool { return p.Rule == alerts.RulePlatformUnrouted })
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
	cmd.Flags().StringVar(&format, "format", "text", strings.Join(names, ", "))
	cmd.Flags().StringVar(&fail, "fail-on", "error", "exit with 1 from this severity on: error, warning or never")
	return cmd
}
