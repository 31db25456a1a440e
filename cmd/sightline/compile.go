package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/backstage"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// loadConfig reads the configuration, or takes the defaults when none is named.
func loadConfig(path string, catalogPaths []string) (*config.Config, error) {
	if path == "" {
		var c config.Config
		c.Catalog.Files = catalogPaths
		c.SLO.Window = "30d"
		return &c, nil
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	if len(catalogPaths) > 0 {
		c.Catalog.Backstage, c.Catalog.Files = nil, catalogPaths
	}
	return c, nil
}

// loadCatalog reads the entities that a configuration names.
func loadCatalog(ctx context.Context, c *config.Config, pool *upstream.Pool) (*catalog.Graph, []catalog.Problem, error) {
	entities, problems, err := loadEntities(ctx, c, pool)
	if err != nil {
		return nil, nil, err
	}
	owner := catalog.Ref{}
	if c.Catalog.PlatformOwner != "" {
		if owner, err = catalog.ParseRef(c.Catalog.PlatformOwner, "group"); err != nil {
			return nil, nil, hintError{fmt.Errorf("catalog.platform_owner: %w", err), `write it like "group:default/platform"`}
		}
	}
	g, more := catalog.NewGraph(entities, owner)
	problems = append(problems, more...)
	for i := range problems {
		if problems[i].Owner.IsZero() && !problems[i].Entity.IsZero() {
			problems[i].Owner = g.Owner(problems[i].Entity)
		}
	}
	return g, problems, nil
}

// backstageOptions are those of every client of Backstage, so that the pool gives one client for all.
func backstageOptions(b *config.Backstage) upstream.Options {
	return upstream.Options{Name: "backstage", BaseURL: b.URL, TokenFile: b.TokenFile, CAFile: b.CAFile}
}

// loadEntities reads them from Backstage or from files.
func loadEntities(ctx context.Context, c *config.Config, pool *upstream.Pool) ([]*catalog.Entity, []catalog.Problem, error) {
	if b := c.Catalog.Backstage; b != nil {
		client, err := pool.Client(backstageOptions(b))
		if err != nil {
			return nil, nil, err
		}
		entities, problems, err := backstage.Load(ctx, client)
		if err != nil {
			if file := new(fs.PathError); errors.As(err, &file) {
				err = hintError{err, "catalog.backstage.token_file and ca_file must name files that this process may read"}
			} else if hintOf(err) == "" {
				err = hintError{err, "check that Backstage runs and that catalog.backstage.url is right"}
			}
			return nil, nil, exitError{exitUpstream, err}
		}
		return entities, problems, nil
	}
	if len(c.Catalog.Files) == 0 {
		return nil, nil, hintError{errors.New("no catalog is named"), "use --catalog PATH, or --config FILE with a catalog"}
	}
	found, err := files.Load(ctx, c.Catalog.Files)
	if err != nil {
		return nil, nil, err
	}
	if len(found.Entities) == 0 {
		return nil, nil, hintError{fmt.Errorf("no Backstage entity in %s", strings.Join(c.Catalog.Files, ", ")), "entities have an apiVersion such as backstage.io/v1alpha1"}
	}
	return found.Entities, found.Problems, nil
}

// compileOptions maps the configuration to the compilers' options.
func compileOptions(c *config.Config, sloth bool) (plan.Options, error) {
	exclusions, err := exclusionFiles(c.SLO.Exclusions)
	if err != nil {
		return plan.Options{}, err
	}
	zone, err := time.LoadLocation(c.SLO.Timezone) // config.Load has checked it
	if err != nil {
		zone = time.UTC
	}
	o := plan.Options{
		SLO:        slo.Options{Environments: c.Environments, Selectors: c.SLO.Selectors, Window: c.SLO.Window, Zone: zone, Exclusions: exclusions},
		Sloth:      sloth,
		Alerts:     alerts.Options{SecretsDir: c.Alertmanager.Receivers.SecretsDir},
		Dashboards: dashboards.Options{},
	}
	if s := c.Alertmanager.Receivers.Slack; s != nil {
		o.Alerts.Slack.APIURLFile = s.APIURLFile
	}
	if e := c.Alertmanager.Receivers.Email; e != nil {
		o.Alerts.Email = alerts.Email{Smarthost: e.Smarthost, From: e.From}
	}
	if u := strings.TrimRight(c.Server.URL, "/"); u != "" {
		o.Rules.SLOURL, o.Dashboards.URL = u+"/entities?ref=$entity", u
	}
	return o, nil
}

// library loads the built-in indicators and those of the configuration's folder.
func library(c *config.Config) (*slo.Library, error) {
	var extra []fs.FS
	if c.SLO.Library != "" {
		extra = append(extra, os.DirFS(c.SLO.Library))
	}
	lib, err := slo.LoadLibrary(extra...)
	if err != nil {
		return nil, hintError{err, "mend the file, or leave slo.library out"}
	}
	return lib, nil
}

// compile loads a catalog and compiles it.
func compile(ctx context.Context, c *config.Config, sloth bool, adjust ...func(*plan.Options)) (*plan.Plan, []slo.Objective, error) {
	_, p, objectives, err := compileGraph(ctx, c, sloth, adjust...)
	return p, objectives, err
}

// compileGraph is compile, and gives the catalog as well.
func compileGraph(ctx context.Context, c *config.Config, sloth bool, adjust ...func(*plan.Options)) (*catalog.Graph, *plan.Plan, []slo.Objective, error) {
	lib, err := library(c)
	if err != nil {
		return nil, nil, nil, err
	}
	g, problems, err := loadCatalog(ctx, c, upstream.NewPool())
	if err != nil {
		return nil, nil, nil, err
	}
	opts, err := compileOptions(c, sloth)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, f := range adjust {
		f(&opts)
	}
	p, objectives, err := plan.Compile(ctx, g, lib, problems, opts)
	return g, p, objectives, err
}

// failOn gives the exit error of problems: those at least as bad as the level fail.
func failOn(level string, problems []catalog.Problem) error {
	for _, p := range problems {
		if level == "error" && p.Severity == catalog.SeverityError || level == "warning" && p.Severity != catalog.SeverityInfo {
			return exitError{code: exitProblems}
		}
	}
	return nil
}

func count(problems []catalog.Problem) string {
	n := map[catalog.Severity]int{}
	for _, p := range problems {
		n[p.Severity]++
	}
	return plural(n[catalog.SeverityError], "error") + ", " + plural(n[catalog.SeverityWarning], "warning") + ", " + plural(n[catalog.SeverityInfo], "note")
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
