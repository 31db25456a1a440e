package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/rogpeppe/go-internal/txtar"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/plan"
)

var payments = catalog.Ref{Kind: "group", Namespace: "default", Name: "payments"}

// artifacts are what the compilers make: the goldens of the plan, and the boards of an empty catalog.
func artifacts(t *testing.T) []plan.Artifact {
	t.Helper()
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out []plan.Artifact
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range txtar.Parse(text).Files {
			for dir, kind := range map[string]plan.Kind{"rules/": plan.KindRules, "alertmanager/": plan.KindAlertmanager} {
				if name, ok := strings.CutPrefix(f.Name, "out/"); ok && strings.HasPrefix(name, dir) {
					out = append(out, plan.Artifact{Kind: kind, Path: name, Owner: payments, Body: f.Data})
				}
			}
		}
	}
	graph, _ := catalog.NewGraph(nil, payments)
	boards, _ := dashboards.Build(graph, nil, dashboards.Options{})
	for _, b := range boards {
		out = append(out, plan.Artifact{Kind: plan.KindDashboard, Path: b.Path, Owner: payments, Body: b.JSON})
	}
	return out
}

// Manifests are read back as the API's own types, in which no key is unknown, and hold what the plan holds.
func TestManifestsAreWhatTheAPITakes(t *testing.T) {
	seen := map[string]int{}
	for _, a := range artifacts(t) {
		out, err := Manifests(&plan.Plan{Artifacts: []plan.Artifact{a}}, Options{Namespace: "monitoring", Labels: map[string]string{"release": "prometheus"}})
		if err != nil || len(out) != 1 {
			t.Fatal(a.Path, len(out), err)
		}
		var head struct {
			core.ConfigMap
			Spec any `json:"spec"`
		}
		if err := yaml.Unmarshal(out[0].Body, &head); err != nil {
			t.Fatal(err)
		}
		seen[head.Kind]++
		meta := head.ObjectMeta
		if errs := validation.IsDNS1123Subdomain(meta.Name); len(errs) > 0 || len(meta.Name) > 63 {
			t.Errorf("%s: name %q: %v", a.Path, meta.Name, errs)
		}
		for k, v := range meta.Labels {
			if errs := append(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)...); len(errs) > 0 {
				t.Errorf("%s: label %s=%s: %v", a.Path, k, v, errs)
			}
		}
		if meta.Namespace != "monitoring" || meta.Labels["release"] != "prometheus" || meta.Labels[ManagedBy] != "sightline" ||
			meta.Labels[Owner] != catalog.Slug(payments, 63) || meta.Annotations[Owner] != payments.String() {
			t.Errorf("%s: metadata %+v", a.Path, meta)
		}
		switch head.Kind {
		case "PrometheusRule":
			var got monitoring.PrometheusRule
			if err := yaml.UnmarshalStrict(out[0].Body, &got); err != nil {
				t.Fatalf("%s: %v", a.Path, err)
			}
			var want monitoring.PrometheusRuleSpec
			if err := yaml.UnmarshalStrict(a.Body, &want); err != nil {
				t.Fatalf("%s: %v", a.Path, err)
			}
			if d := cmp.Diff(want, got.Spec); d != "" || len(got.Spec.Groups) == 0 || got.APIVersion != monitoring.SchemeGroupVersion.String() {
				t.Errorf("%s: rules (-want +got):\n%s", a.Path, d)
			}
		case "ConfigMap":
			var got core.ConfigMap
			if err := yaml.UnmarshalStrict(out[0].Body, &got); err != nil {
				t.Fatalf("%s: %v", a.Path, err)
			}
			if d := cmp.Diff(map[string]string{got.Name + ".json": string(a.Body)}, got.Data); d != "" || got.Labels["grafana_dashboard"] != "1" {
				t.Errorf("%s: data (-want +got):\n%s", a.Path, d)
			}
		case "Secret":
			var got core.Secret
			if err := yaml.UnmarshalStrict(out[0].Body, &got); err != nil {
				t.Fatalf("%s: %v", a.Path, err)
			}
			if d := cmp.Diff(string(a.Body), string(got.Data["alertmanager.yaml"])); d != "" {
				t.Errorf("%s: data (-want +got):\n%s", a.Path, d)
			}
		default:
			t.Errorf("%s is a %s", a.Path, head.Kind)
		}
	}
	if len(seen) != 3 {
		t.Errorf("kinds: %v", seen)
	}
}

func board(size int) plan.Artifact {
	body, _ := json.MarshalIndent(map[string]any{"uid": "sl-component-abc", "title": "x", "text": strings.Repeat("a", size), "blank": make([]int, 1000)}, "", "                    ")
	return plan.Artifact{Kind: plan.KindDashboard, Path: "dashboards/x.json", Owner: payments, Body: body}
}

func TestLargeThings(t *testing.T) {
	group := func(name string, size int) string {
		return fmt.Sprintf("- name: %s\n  rules:\n  - record: a:b\n    expr: '%s'\n", name, strings.Repeat("1", size))
	}
	file := func(groups ...string) plan.Artifact {
		return plan.Artifact{Kind: plan.KindRules, Path: "rules/default/payments/component.default.check.out.yaml", Body: []byte("groups:\n" + strings.Join(groups, ""))}
	}
	slug := catalog.Slug(catalog.NewRef("component", "default", "check.out"), 55)
	for _, c := range []struct {
		sentence string
		artifact plan.Artifact
		want     []string // file names
		err      string
	}{
		{"small rules are one object", file(group("a", 10), group("b", 10)), []string{"prometheusrule-sl-" + slug}, ""},
		{"large rules are several", file(group("a", 300<<10), group("b", 300<<10), group("c", 100)), []string{"prometheusrule-sl-" + slug + "-2", "prometheusrule-sl-" + slug}, ""},
		{"a group that fits nowhere is refused by name", file(group("huge", 600<<10)), nil, "the rule group huge has"},
		{"a board that fits", board(1000), []string{"configmap-sl-component-abc"}, ""},
		{"a board that fits without blanks", board(1<<20 - 10000), []string{"configmap-sl-component-abc"}, ""},
		{"a board that does not fit", board(1 << 20), nil, "a ConfigMap takes 1048576"},
		{"a configuration that does not fit", plan.Artifact{Kind: plan.KindAlertmanager, Path: "alertmanager/alertmanager.yml", Body: make([]byte, 1<<20)}, nil, "a Secret takes 1048576"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			// Something that is well beside it is written all the same.
			fine := plan.Artifact{Kind: plan.KindRules, Path: "rules/x/sightline.default.watchdog.yaml", Body: []byte("groups:\n" + group("w", 1))}
			out, err := Manifests(&plan.Plan{Artifacts: []plan.Artifact{c.artifact, fine}}, Options{})
			var got []string
			for _, a := range out {
				if name := strings.TrimSuffix(strings.TrimPrefix(a.Path, "kubernetes/"), ".yaml"); !strings.Contains(name, "watchdog") {
					got = append(got, name)
				}
				if len(a.Body) > maxData+4096 {
					t.Errorf("%s has %d bytes", a.Path, len(a.Body))
				}
			}
			if d := cmp.Diff(c.want, got); d != "" || len(out) != len(c.want)+1 {
				t.Errorf("manifests (-want +got):\n%s", d)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), c.artifact.Path)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestEqualPlansGiveIdenticalBytes(t *testing.T) {
	all := artifacts(t)
	var first []plan.Artifact
	for range 5 {
		out, _ := Manifests(&plan.Plan{Artifacts: all[:min(len(all), 3)]}, Options{Labels: map[string]string{"a": "1", "b": "2", "c": "3"}})
		if first == nil {
			first = out
		}
		if len(out) == 0 {
			t.Fatal("no manifest")
		}
		for i := range out {
			if !bytes.Equal(out[i].Body, first[i].Body) {
				t.Fatalf("%s differs", out[i].Path)
			}
		}
	}
}

func TestOptionsThatTheAPIWouldRefuse(t *testing.T) {
	for want, o := range map[string]Options{
		"Sightline's own":       {Labels: map[string]string{ManagedBy: "helm"}},
		"is no label":           {Labels: map[string]string{"release": "my prometheus"}},
		"no name of a namespac": {Namespace: "Monitoring"},
	} {
		if _, err := Manifests(&plan.Plan{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
