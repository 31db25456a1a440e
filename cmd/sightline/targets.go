package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/plan/alertmanager"
	"github.com/sightline-dev/sightline/plan/files"
	"github.com/sightline-dev/sightline/plan/grafana"
	"github.com/sightline-dev/sightline/plan/kubernetes"
	"github.com/sightline-dev/sightline/plan/mimir"
	"github.com/sightline-dev/sightline/upstream"
)

// A targetMaker makes a target of a plan; it gives nil where the configuration does not ask for that target.
type targetMaker func(c *config.Config, pool *upstream.Pool, p *plan.Plan) (plan.Target, error)

// A translator is a target that holds the plan in a form of its own.
type translator interface {
	Translate(p *plan.Plan) (*plan.Plan, error)
}

// targetMakers are the targets by the name that --target takes, in the order in which they are applied: what alerts go
// through stands before what makes them.
var targetMakers = []struct {
	name string
	key  string // of the configuration
	make targetMaker
}{
	{"alertmanager", "alertmanager.file", alertmanagerTarget},
	{"ruler", "ruler.url", rulerTarget},
	{"files", "files.dir", filesTarget},
	{"kubernetes", "kubernetes.namespace", kubernetesTarget},
	{"grafana", "grafana.url", grafanaTarget},
}

// A finisher is a target that has something to do once, after all of an apply.
type finisher interface {
	Finish(ctx context.Context) error
}

func alertmanagerTarget(c *config.Config, pool *upstream.Pool, p *plan.Plan) (plan.Target, error) {
	a := c.Alertmanager
	if a.File == "" {
		return nil, nil
	}
	if a.URL == "" {
		return alertmanager.New(a.File, nil, p), nil
	}
	client, err := pool.Client(upstream.Options{Name: "alertmanager", BaseURL: a.URL, Tries: 1})
	if err != nil {
		return nil, err
	}
	return alertmanager.New(a.File, client, p), nil
}

func rulerTarget(c *config.Config, pool *upstream.Pool, p *plan.Plan) (plan.Target, error) {
	r := c.Ruler
	if r.URL == "" {
		return nil, nil
	}
	client, err := pool.Client(upstream.Options{Name: "ruler", BaseURL: r.URL, TokenFile: r.TokenFile, CAFile: r.CAFile})
	if err != nil {
		return nil, err
	}
	return mimir.New(client, p, mimir.Options{Tenant: r.Tenant, Groups: r.MaxGroups, PerGroup: r.MaxRules}), nil
}

func filesTarget(c *config.Config, pool *upstream.Pool, p *plan.Plan) (plan.Target, error) {
	f := c.Files
	if f.Dir == "" {
		return nil, nil
	}
	if f.PrometheusURL == "" {
		return files.NewTarget(f.Dir, nil, p), nil
	}
	client, err := pool.Client(upstream.Options{Name: "prometheus", BaseURL: f.PrometheusURL, Tries: 1})
	if err != nil {
		return nil, err
	}
	return files.NewTarget(f.Dir, client, p), nil
}

func grafanaTarget(c *config.Config, _ *upstream.Pool, p *plan.Plan) (plan.Target, error) {
	g := c.Grafana
	if g.URL == "" {
		return nil, nil
	}
	return grafana.New(grafana.Options{URL: g.URL, TokenFile: g.TokenFile, CAFile: g.CAFile}, p)
}

// manifestsTarget is a namespace that the plan is applied to as objects.
type manifestsTarget struct {
	*kubernetes.Target
	opts kubernetes.Options
}

// Translate implements translator.
func (t manifestsTarget) Translate(p *plan.Plan) (*plan.Plan, error) {
	objects, err := kubernetes.Manifests(p, t.opts)
	return &plan.Plan{Artifacts: objects, Problems: p.Problems}, err
}

func kubernetesTarget(c *config.Config, _ *upstream.Pool, _ *plan.Plan) (plan.Target, error) {
	k := c.Kubernetes
	if k.Namespace == "" {
		return nil, nil
	}
	t, err := cluster(c)
	if err != nil {
		return nil, err
	}
	return manifestsTarget{t, kubernetes.Options{Namespace: k.Namespace, Labels: k.Labels}}, nil
}

// cluster is the namespace that the configuration names.
func cluster(c *config.Config) (*kubernetes.Target, error) {
	conf, err := kubernetes.Load(c.Kubernetes.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewTarget(conf, c.Kubernetes.Namespace)
}

// targetNames lists what --target takes.
func targetNames() []string {
	var names []string
	for _, m := range targetMakers {
		names = append(names, m.name)
	}
	return names
}

// A namedTarget is a target with the name that --target takes, and the plan in its form.
type namedTarget struct {
	name string
	plan *plan.Plan
	plan.Target
}

// targetsOf makes the targets that are named, or all that the configuration asks for.
func targetsOf(c *config.Config, p *plan.Plan, names []string) ([]namedTarget, error) {
	for _, n := range names {
		if err := oneOf("target", n, targetNames()...); err != nil {
			return nil, err
		}
	}
	wanted := func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return len(names) == 0
	}
	pool := upstream.NewPool()
	var out []namedTarget
	var keys []string
	for _, m := range targetMakers {
		keys = append(keys, m.key)
		if !wanted(m.name) {
			continue
		}
		t, err := m.make(c, pool, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.key, err)
		}
		if t == nil && len(names) > 0 {
			return nil, hintError{fmt.Errorf("--target %s: the configuration does not name it", m.name), "set " + m.key + " in the configuration"}
		}
		if t == nil {
			continue
		}
		own := p
		if form, ok := t.(translator); ok {
			if own, err = form.Translate(p); err != nil {
				return nil, fmt.Errorf("%s: %w", m.key, err)
			}
		}
		out = append(out, namedTarget{m.name, own, t})
	}
	if len(out) == 0 {
		return nil, hintError{errors.New("the configuration names no target"), "set one of " + strings.Join(keys, ", ")}
	}
	return out, nil
}
