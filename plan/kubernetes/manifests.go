// Package kubernetes turns a plan into Kubernetes manifests: PrometheusRules of the Prometheus operator, ConfigMaps for the
// sidecar that loads Grafana's dashboards, and a Secret with Alertmanager's configuration.
//
// Every object bears the label app.kubernetes.io/managed-by=sightline, and the slug of its owner in the label
// sightline.dev/owner. Names are made from entities and boards, not from owners, so that an object outlives a change of
// owner. Equal plans give identical bytes.
package kubernetes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
)

// The labels and annotations of every object.
const (
	ManagedBy = "app.kubernetes.io/managed-by" // label: "sightline"
	Owner     = "sightline.dev/owner"          // label: the owner's slug; annotation: the owner's reference
)

// AlertmanagerSecret is the name of the Secret for spec.configSecret of an Alertmanager.
const AlertmanagerSecret = "sightline-alertmanager"

// Limits of Kubernetes and of the operator, in bytes.
const (
	maxData  = 1 << 20   // of a ConfigMap or Secret, keys and values
	maxRules = 512 << 10 // of a PrometheusRule: the operator joins rules to ConfigMaps of half the largest size
)

// Options say how objects are labelled.
type Options struct {
	Namespace string            // "" leaves it to whoever applies the manifests
	Labels    map[string]string // further labels of every object, such as those that a ruleSelector wants
}

// check refuses what the API would refuse for every object, and labels that are Sightline's.
func (o *Options) check() error {
	if o.Namespace != "" {
		if wrong := validation.IsDNS1123Label(o.Namespace); len(wrong) > 0 {
			return fmt.Errorf("%q is no name of a namespace: %s", o.Namespace, wrong[0])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
		if k == ManagedBy || k == Owner {
			return fmt.Errorf("the label %s is Sightline's own", k)
		}
		if wrong := append(validation.IsQualifiedName(k), validation.IsValidLabelValue(o.Labels[k])...); len(wrong) > 0 {
			return fmt.Errorf("%s=%s is no label: %s", k, o.Labels[k], wrong[0])
		}
	}
	return nil
}

type object struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   metadata          `yaml:"metadata"`
	Type       string            `yaml:"type,omitempty"`
	Data       map[string]string `yaml:"data,omitempty"`
	Spec       *spec             `yaml:"spec,omitempty"`
}

type metadata struct {
	Name        string            `yaml:"name"`
	Namespace   string            `yaml:"namespace,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type spec struct {
	Groups []group `yaml:"groups"`
}

type group struct {
	Name     string         `yaml:"name"`
	Interval string         `yaml:"interval,omitempty"`
	Rules    []rule         `yaml:"rules"`
	More     map[string]any `yaml:",inline"` // what others set
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
	More        map[string]any    `yaml:",inline"`
}

// Manifests gives one artifact for each object, at kubernetes/<kind>-<name>.yaml, sorted by path. What does not fit into an
// object is left out, and the error, a join of one for each, names it.
func Manifests(p *plan.Plan, o Options) ([]plan.Artifact, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var out []plan.Artifact
	var failed []error
	for _, a := range p.Artifacts {
		var objects []object
		var err error
		switch a.Kind {
		case plan.KindRules:
			objects, err = rules(a)
		case plan.KindDashboard:
			objects, err = dashboard(a)
		case plan.KindAlertmanager:
			objects, err = alertmanager(a)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", a.Path, err))
			continue
		}
		for _, obj := range objects {
			body, err := obj.render(a.Owner, o)
			if err != nil {
				return nil, fmt.Errorf("write the manifest of %s: %w", a.Path, err)
			}
			file := "kubernetes/" + strings.ToLower(obj.Kind) + "-" + obj.Metadata.Name + ".yaml"
			out = append(out, plan.Artifact{Kind: a.Kind, Path: file, Owner: a.Owner, Body: body})
		}
	}
	slices.SortFunc(out, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	for i := range out {
		if i > 0 && out[i].Path == out[i-1].Path {
			failed = append(failed, fmt.Errorf("two objects have the manifest %s", out[i].Path))
		}
	}
	return out, errors.Join(failed...)
}

func (obj *object) render(owner catalog.Ref, o Options) ([]byte, error) {
	m := &obj.Metadata
	m.Namespace, m.Labels = o.Namespace, map[string]string{ManagedBy: "sightline"}
	maps.Copy(m.Labels, o.Labels)
	if obj.Kind == "ConfigMap" {
		m.Labels["grafana_dashboard"] = "1" // what the sidecar of Grafana's Helm chart looks for
	}
	if !owner.IsZero() {
		m.Labels[Owner] = catalog.Slug(owner, 63)
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[Owner] = owner.String()
	}
	return obj.yaml()
}

// yaml is the whole text of a manifest.
func (obj *object) yaml() ([]byte, error) {
	out := bytes.NewBufferString("# Generated by Sightline; do not edit.\n")
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(obj); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// rules makes a PrometheusRule of a rule file, or several when it is large. Groups stay whole.
func rules(a plan.Artifact) ([]object, error) {
	var doc spec
	if err := yaml.Unmarshal(a.Body, &doc); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	parts := strings.SplitN(strings.TrimSuffix(path.Base(a.Path), ".yaml"), ".", 3)
	if len(parts) != 3 {
		return nil, errors.New("the file is not named for an entity")
	}
	name := catalog.Slug(catalog.NewRef(parts[0], parts[1], parts[2]), 55) // room for "sl-" and "-9999"
	var out []object
	size := maxRules + 1
	for _, g := range doc.Groups {
		body, err := yaml.Marshal(g)
		if err != nil {
			return nil, err
		}
		if len(body) > maxRules {
			return nil, fmt.Errorf("the rule group %s has %d bytes; the Prometheus operator takes %d", g.Name, len(body), maxRules)
		}
		if size += len(body); size > maxRules {
			obj := object{APIVersion: "monitoring.coreos.com/v1", Kind: "PrometheusRule", Metadata: metadata{Name: "sl-" + name}, Spec: &spec{}}
			if len(out) > 0 {
				obj.Metadata.Name += fmt.Sprintf("-%d", len(out)+1)
			}
			out, size = append(out, obj), len(body)
		}
		last := out[len(out)-1].Spec
		last.Groups = append(last.Groups, g)
	}
	return out, nil
}

// dashboard makes a ConfigMap of a board. One that is too large is written without blanks.
func dashboard(a plan.Artifact) ([]object, error) {
	var board struct{ UID string }
	if err := json.Unmarshal(a.Body, &board); err != nil {
		return nil, fmt.Errorf("read the board: %w", err)
	}
	if board.UID == "" {
		return nil, errors.New("the board has no uid")
	}
	key, body := board.UID+".json", a.Body
	if len(key)+len(body) > maxData {
		var small bytes.Buffer
		if err := json.Compact(&small, body); err != nil {
			return nil, err
		}
		body = small.Bytes()
	}
	if n := len(key) + len(body); n > maxData {
		return nil, fmt.Errorf("the board has %d bytes; a ConfigMap takes %d: load it from a file or through Grafana's API", n, maxData)
	}
	obj := object{APIVersion: "v1", Kind: "ConfigMap", Metadata: metadata{Name: board.UID}, Data: map[string]string{key: string(body)}}
	if !a.Owner.IsZero() {
		obj.Metadata.Annotations = map[string]string{"grafana_folder": a.Owner.Dotted()}
	}
	return []object{obj}, nil
}

// alertmanager makes the Secret; the configuration names secrets and holds none, but the operator wants a Secret.
func alertmanager(a plan.Artifact) ([]object, error) {
	const key = "alertmanager.yaml"
	if n := len(key) + len(a.Body); n > maxData {
		return nil, fmt.Errorf("the configuration has %d bytes; a Secret takes %d: give fewer groups receivers of their own", n, maxData)
	}
	return []object{{
		APIVersion: "v1", Kind: "Secret", Metadata: metadata{Name: AlertmanagerSecret}, Type: "Opaque",
		Data: map[string]string{key: base64.StdEncoding.EncodeToString(a.Body)},
	}}, nil
}
