package plan

import (
	"context"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/slo"
)

// Options are those of all compilers.
type Options struct {
	SLO        slo.Options
	Rules      slo.RuleOptions
	Sloth      bool // what sloth's library generates instead of the exact rules
	Alerts     alerts.Options
	Dashboards dashboards.Options
}

// Compile runs the compilers over a catalog: objectives, rules, alert routes, boards. The problems of loading are added
// to those of the compilers.
func Compile(ctx context.Context, g *catalog.Graph, lib *slo.Library, problems []catalog.Problem, opts Options) (*Plan, []slo.Objective, error) {
	objectives, found := slo.Build(g, lib, opts.SLO)
	problems = append(append([]catalog.Problem(nil), problems...), found...)
	if opts.Sloth {
		objectives, found = slo.WithoutComposites(objectives)
		problems = append(problems, found...)
	}
	routes, found := alerts.Build(g, opts.Alerts)
	problems = append(problems, found...)
	boards, found := dashboards.Build(g, objectives, opts.Dashboards)
	problems = append(problems, found...)
	w := slo.Writer{Options: opts.Rules}
	rules := func(dst []byte, objectives []slo.Objective, _ func(*slo.Objective, error)) []byte {
		return w.Append(dst, objectives)
	}
	if opts.Sloth {
		problems = append(problems, slo.ExclusionsOfSloth(objectives)...)
		rules = slothRules(ctx)
	}
	p, err := Build(Input{Graph: g, Objectives: objectives, Rules: rules, Alerts: routes, Boards: boards, Problems: problems})
	return p, objectives, err
}

// slothRules writes what sloth's library generates.
func slothRules(ctx context.Context) func([]byte, []slo.Objective, func(*slo.Objective, error)) []byte {
	return func(dst []byte, objectives []slo.Objective, failed func(*slo.Objective, error)) []byte {
		var groups []slo.RuleGroup
		for i := range objectives {
			made, err := slo.SlothGroups(ctx, objectives[i])
			if err != nil {
				failed(&objectives[i], err)
				continue
			}
			groups = append(groups, made...)
		}
		if len(groups) == 0 {
			return dst
		}
		return slo.AppendYAML(dst, groups)
	}
}
