package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/plan/files"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

func newSLOExport(env environment) *cobra.Command {
	var conf, format, out, entity, fail string
	var paths []string
	cmd := &cobra.Command{
		Use: "export --catalog PATH", Short: "Write the objectives as OpenSLO or sloth documents", Args: noArgs,
		Long: `Export writes the objectives of each entity as a document of OpenSLO v1, or of sloth's prometheus/v1: with --out a file
for each entity, else the one of a single entity to the standard output. sightline.dev/slo-ref reads them back. What a
format cannot carry is a problem.`,
		Example: `  sightline slo export --catalog catalog/ --out slos
  sightline slo export --catalog catalog/ --format sloth --entity component:default/checkout > slo.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, string(slo.FormatOpenSLO), string(slo.FormatSloth)); err != nil {
				return err
			}
			if err := oneOf("fail-on", fail, "error", "warning", "never"); err != nil {
				return err
			}
			if entity != "" && out != "" {
				return hintError{errors.New("--entity is for the standard output, and --out for all entities"), "leave one of them out"}
			}
			c, err := loadConfig(conf, paths)
			if err != nil {
				return err
			}
			lib, err := library(c)
			if err != nil {
				return err
			}
			g, problems, err := loadCatalog(cmd.Context(), c, upstream.NewPool())
			if err != nil {
				return err
			}
			opts, err := compileOptions(c, false)
			if err != nil {
				return err
			}
			objectives, found := slo.Build(g, lib, opts.SLO)
			if entity != "" {
				ref, err := catalog.ParseRef(entity, "component")
				if err != nil {
					return hintError{fmt.Errorf("--entity: %w", err), `write it like "component:default/checkout"`}
				}
				objectives = slices.DeleteFunc(objectives, func(o slo.Objective) bool { return o.Entity != ref })
				if len(objectives) == 0 {
					return hintError{fmt.Errorf("%s has no objectives", ref), "`sightline lint` says why"}
				}
				problems, found = nil, nil
			}
			p, err := exportDocuments(objectives, slo.Format(format))
			if err != nil {
				return err
			}
			p.Problems = append(append(p.Problems, problems...), found...)
			slices.SortFunc(p.Problems, catalog.Problem.Compare)
			if out == "" && len(p.Artifacts) > 1 {
				return hintError{fmt.Errorf("%d entities have objectives", len(p.Artifacts)), "name one with --entity, or a folder with --out"}
			}
			if err := reportText(env.stderr, p.Problems, newStyle(env.stderr, env.env)); err != nil {
				return err
			}
			if out == "" {
				for _, a := range p.Artifacts {
					if _, err := env.stdout.Write(a.Body); err != nil {
						return err
					}
				}
				return failOn(fail, p.Problems)
			}
			res, err := files.Write(cmd.Context(), out, p)
			if err != nil {
				return outputError(err)
			}
			fmt.Fprintf(env.stderr, "sightline: %s: %s written, %d unchanged, %d deleted; %s\n", out, plural(len(res.Written), "file"), len(res.Unchanged), len(res.Deleted), count(p.Problems))
			return failOn(fail, p.Problems)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&paths, "catalog", nil, "file, folder or glob of catalog-info.yaml files; repeatable")
	f.StringVar(&conf, "config", "", "configuration file, the one that serve takes (optional)")
	f.StringVar(&format, "format", string(slo.FormatOpenSLO), "openslo (OpenSLO v1) or sloth (sloth's prometheus/v1)")
	f.StringVar(&out, "out", "", "folder to write to, a file for each entity")
	f.StringVar(&entity, "entity", "", "the one entity whose document is printed")
	f.StringVar(&fail, "fail-on", "error", "exit with 1 from this severity on: error, warning or never")
	return cmd
}

// exportDocuments makes a document of each entity's objectives, which come sorted by entity.
func exportDocuments(objectives []slo.Objective, format slo.Format) (*plan.Plan, error) {
	p := &plan.Plan{}
	for len(objectives) > 0 {
		first := objectives[0]
		n := 1
		for n < len(objectives) && objectives[n].Entity == first.Entity {
			n++
		}
		body, problems, err := slo.Export(objectives[:n], format)
		if err != nil {
			return nil, err
		}
		if len(body) > 0 {
			p.Artifacts = append(p.Artifacts, plan.Artifact{Kind: plan.KindDocument, Path: first.Entity.Dotted() + ".yaml", Owner: first.Owner, Body: body})
		}
		p.Problems = append(p.Problems, problems...)
		objectives = objectives[n:]
	}
	slices.SortFunc(p.Artifacts, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return p, nil
}
