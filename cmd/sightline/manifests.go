package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/plan/kubernetes"
)

// manifestFlags are the flags for Kubernetes manifests beside the other files.
type manifestFlags struct {
	on   bool
	opts kubernetes.Options
}

func (m *manifestFlags) flags(f *pflag.FlagSet) {
	f.BoolVar(&m.on, "manifests", false, "also Kubernetes manifests, in kubernetes/: PrometheusRules, ConfigMaps of dashboards, a Secret with alertmanager.yaml")
	f.StringVar(&m.opts.Namespace, "namespace", "", "namespace in the manifests")
	f.StringToStringVar(&m.opts.Labels, "label", nil, "label on every manifest, such as the one that Prometheus selects rules by; repeatable")
}

// add puts the manifests of a plan into it.
func (m *manifestFlags) add(p *plan.Plan) error {
	if !m.on {
		if m.opts.Namespace != "" || len(m.opts.Labels) > 0 {
			return hintError{errors.New("--namespace and --label are for manifests"), "add --manifests"}
		}
		return nil
	}
	made, err := kubernetes.Manifests(p, m.opts)
	if err != nil {
		return err
	}
	p.Artifacts = append(p.Artifacts, made...)
	slices.SortFunc(p.Artifacts, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return nil
}
