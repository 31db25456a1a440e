package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/plan/files"
)

func newGenerate(env environment) *cobra.Command {
	var conf, out, rules, fail, prometheus string
	var paths []string
	var force bool
	var manifests manifestFlags
	cmd := &cobra.Command{
		Use: "generate --catalog PATH --out DIR", Short: "Write rules, dashboards and alertmanager.yml for a catalog", Args: noArgs,
		Long: `Generate compiles a catalog and writes the result to a folder: Prometheus rules for each entity, Grafana dashboards,
an alertmanager.yml and problems.json. Equal input gives identical bytes; only changed files are written, and only files
that an earlier run made are replaced or deleted.`,
		Example: `  sightline generate --catalog catalog-info.yaml --out out
  sightline generate --catalog 'services/**/catalog-info.yaml' --catalog org/ --config sightline.yaml --out out
  sightline generate --catalog catalog/ --out out --rules sloth
  sightline generate --catalog catalog/ --out out --manifests --namespace monitoring --label release=prometheus`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("rules", rules, "exact", "sloth"); err != nil {
				return err
			}
			if err := oneOf("fail-on", fail, "error", "warning", "never"); err != nil {
				return err
			}
			c, err := loadConfig(conf, paths)
			if err != nil {
				return err
			}
			bar := newProgress(env.stderr, false)
			bar.say("compiling the catalog ...")
			var anchored bool
			if prometheus != "" {
				if anchored, err = knowsAnchored(cmd.Context(), prometheus); err != nil {
					bar.done()
					return err
				}
			}
			p, _, err := compile(cmd.Context(), c, rules == "sloth", func(o *plan.Options) { o.Rules.Anchored = anchored })
			bar.done()
			if err != nil {
				return err
			}
			if err := manifests.add(p); err != nil {
				return err
			}
			if err := reportText(env.stderr, p.Problems, newStyle(env.stderr, env.env)); err != nil {
				return err
			}
			old, err := files.Read(out)
			if err != nil {
				return outputError(err)
			}
			if err := plan.Guard(plan.Compare(old, p.Artifacts), plan.Limits{}); err != nil && !force {
				return exitError{exitProblems, hintError{err, "check the catalog; --force does it all the same"}}
			}
			bar.say("writing %d files ...", len(p.Artifacts))
			res, err := files.Write(cmd.Context(), out, p)
			bar.done()
			if err != nil {
				return outputError(err)
			}
			for _, k := range res.Kept {
				fmt.Fprintf(env.stderr, "sightline: %s is no longer generated, but somebody changed it: left alone\n", k)
			}
			fmt.Fprintf(env.stderr, "sightline: %s: %s written, %d unchanged, %d deleted; %s\n", out, plural(len(res.Written), "file"), len(res.Unchanged), len(res.Deleted), count(p.Problems))
			return failOn(fail, p.Problems)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&paths, "catalog", nil, "file, folder or glob of catalog-info.yaml files; repeatable")
	f.StringVar(&conf, "config", "", "configuration file, the one that serve takes (optional)")
	f.StringVar(&out, "out", "", "folder to write to")
	f.StringVar(&prometheus, "prometheus", "", "Prometheus that will evaluate the rules: asked whether it knows the modifier anchored, which counts every event")
	f.StringVar(&rules, "rules", "exact", "exact (two-series rules) or sloth (what sloth generates)")
	manifests.flags(f)
	f.BoolVar(&force, "force", false, "also when a large part of the files would be deleted")
	f.StringVar(&fail, "fail-on", "error", "exit with 1 from this severity on: error, warning or never")
	cobra.CheckErr(cmd.MarkFlagRequired("out"))
	return cmd
}

func newDiff(env environment) *cobra.Command {
	var conf, against, rules, format string
	var paths, names []string
	var code bool
	var manifests manifestFlags
	cmd := &cobra.Command{
		Use: "diff --catalog PATH --against DIR | --config FILE --target NAME", Short: "Show what generate would change in a folder, or apply at a target", Args: noArgs,
		Long: `Diff prints the files that generate would add (+), change (~) and delete (-), with the changed lines; with --target what
apply would do at targets of the configuration. It writes nothing.`,
		Example: `  sightline diff --catalog catalog/ --against out
  sightline diff --catalog catalog/ --against out --exit-code
  sightline diff --config sightline.yaml --target ruler`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("rules", rules, "exact", "sloth"); err != nil {
				return err
			}
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if (against == "") == (len(names) == 0) {
				return hintError{errors.New("diff needs either --against DIR or --target NAME"), "`sightline diff --help` shows how it is used"}
			}
			if len(names) > 0 {
				p, targets, err := planFor(cmd.Context(), env, conf, paths, rules, names)
				if err != nil {
					return err
				}
				return diffTargets(cmd.Context(), env, p, targets, format, code)
			}
			if format != "text" {
				return hintError{errors.New("--format json needs --target"), "leave it out, or name a target"}
			}
			c, err := loadConfig(conf, paths)
			if err != nil {
				return err
			}
			p, _, err := compile(cmd.Context(), c, rules == "sloth")
			if err != nil {
				return err
			}
			if err := manifests.add(p); err != nil {
				return err
			}
			old, err := files.Read(against)
			if err != nil {
				return outputError(err)
			}
			if _, err := os.Stat(against); errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(env.stderr, "sightline: there is no folder %s yet: everything in it would be new\n", against)
			}
			d := plan.Compare(old, p.Artifacts)
			if err := writeDiff(env, d); err != nil {
				return err
			}
			if code && !d.Empty() {
				return exitError{code: exitProblems}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&paths, "catalog", nil, "file, folder or glob of catalog-info.yaml files; repeatable")
	f.StringVar(&conf, "config", "", "configuration file, the one that serve takes (optional)")
	f.StringVar(&against, "against", "", "folder that generate wrote")
	f.StringVar(&rules, "rules", "exact", "exact (two-series rules) or sloth (what sloth generates)")
	manifests.flags(f)
	f.BoolVar(&code, "exit-code", false, "exit with 1 when there are changes")
	f.StringArrayVar(&names, "target", nil, "target of the configuration ("+strings.Join(targetNames(), ", ")+"); repeatable")
	f.StringVar(&format, "format", "text", "text or json; json only with --target")
	return cmd
}

// outputError adds a hint to what the file system says of an output folder.
func outputError(err error) error {
	var system *fs.PathError
	if hintOf(err) == "" && errors.As(err, &system) {
		return hintError{err, "name a folder that you may write to; it is made where it does not exist"}
	}
	return err
}

// writeDiff prints what is new, changed and gone, and the lines of what changed.
func writeDiff(env environment, d plan.Diff) error {
	st := newStyle(env.stdout, env.env)
	for _, part := range []struct {
		code, mark string
		changes    []plan.Change
	}{{"32", "+ ", d.Added}, {"33", "~ ", d.Changed}, {"31", "- ", d.Removed}} {
		for _, c := range part.changes {
			if _, err := fmt.Fprintf(env.stdout, "%s\n%s", st.paint(part.code, part.mark+c.Artifact.Path), c.Unified); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(env.stderr, "sightline: %d to add, %d to change, %d to delete, %d unchanged\n", len(d.Added), len(d.Changed), len(d.Removed), len(d.Unchanged))
	return err
}
