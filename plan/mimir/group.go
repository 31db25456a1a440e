package mimir

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/slo"
)

// A group is a rule group with what it says beyond what Sightline writes, and the YAML that it was read from.
type group struct {
	slo.RuleGroup
	more map[string]any
	node *yaml.Node
}

type yamlGroup struct {
	Name     string         `yaml:"name"`
	Interval model.Duration `yaml:"interval"`
	Rules    []yamlRule     `yaml:"rules"`
	More     map[string]any `yaml:",inline"`
}

type yamlRule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         model.Duration    `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
	More        map[string]any    `yaml:",inline"`
}

// parse reads a rule file.
func parse(body []byte) ([]group, error) {
	var doc struct {
		Groups []yaml.Node `yaml:"groups"`
	}
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return groupsOf(doc.Groups)
}

// parseNamespaces reads a ruler's list of groups by namespace.
func parseNamespaces(body []byte) (map[string][]group, error) {
	var doc map[string][]yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	out := map[string][]group{}
	for namespace, nodes := range doc {
		groups, err := groupsOf(nodes)
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", namespace, err)
		}
		out[namespace] = groups
	}
	return out, nil
}

func groupsOf(nodes []yaml.Node) ([]group, error) {
	var out []group
	for i := range nodes {
		n := &nodes[i]
		var read yamlGroup
		if err := n.Decode(&read); err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		g := group{slo.RuleGroup{Name: read.Name, Interval: time.Duration(read.Interval)}, meaningful(read.More), n}
		for at, r := range read.Rules {
			g.Rules = append(g.Rules, slo.Rule{Record: r.Record, Alert: r.Alert, Expr: r.Expr, For: time.Duration(r.For), Labels: slo.LabelsOf(r.Labels), Annotations: slo.LabelsOf(r.Annotations)})
			for k, v := range meaningful(r.More) {
				g.more[fmt.Sprintf("rules[%d].%s", at, k)] = v
			}
		}
		out = append(out, g)
	}
	return out, nil
}

// meaningful leaves out values that say nothing: servers write them where nothing was set.
func meaningful(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch text := fmt.Sprint(v); text {
		case "", "0", "0s", "false", "<nil>", "[]", "map[]":
		default:
			out[k] = v
		}
	}
	return out
}

// render writes groups in the form of the plan's rule files, with what goes beyond it as comments.
func render(groups []group) []byte {
	var plain []slo.RuleGroup
	var extra bytes.Buffer
	for _, g := range groups {
		plain = append(plain, g.RuleGroup)
		for _, k := range slices.Sorted(maps.Keys(g.more)) {
			fmt.Fprintf(&extra, "# %q also has %s: %q\n", g.Name, k, fmt.Sprint(g.more[k]))
		}
	}
	return append(slo.AppendYAML(nil, plain), extra.Bytes()...)
}

// yaml is the group alone, as the ruler API wants it.
func (g group) yaml() ([]byte, error) {
	body, err := yaml.Marshal(g.node)
	if err != nil {
		return nil, fmt.Errorf("write the group %q: %w", g.Name, err)
	}
	return body, nil
}
