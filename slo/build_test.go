package slo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
)

const twoSLOs = `version: prometheus/v1
service: checkout
slos:
  - name: availability
    objective: 99.95
    sli: {events: {error_query: "sum(rate(bad[{{.window}}]))", total_query: "sum(rate(all[{{.window}}]))"}}
    alerting: {page_alert: {disable: true}}
  - name: refunds
    objective: 99.5
    sli: {events: {error_query: "sum(rate(refund_bad[{{.window}}]))", total_query: "sum(rate(refunds[{{.window}}]))"}}
`

// build gives a line for each objective and each problem of one component of a catalog.
func build(t *testing.T, e *catalog.Entity, others ...*catalog.Entity) (objectives, problems []string) {
	t.Helper()
	lib, err := LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	g, _ := catalog.NewGraph(append(others, e), catalog.Ref{})
	out, found := Build(g, lib, Options{})
	for _, o := range out {
		objectives = append(objectives, fmt.Sprintf("%s %s%% %s %s %s", o.Indicator, o.Target.Percent(), o.Window, o.MaxSeverity, o.Source))
	}
	for _, p := range found {
		problems = append(problems, fmt.Sprintf("%s:%d %s %s %s: %s", p.File, p.Line, p.Severity, strings.TrimPrefix(p.Annotation, catalog.Prefix), p.Rule, p.Message))
	}
	return objectives, problems
}

func service(annotations ...string) *catalog.Entity {
	e := &catalog.Entity{
		Ref: catalog.NewRef("component", "", "checkout"), Name: "checkout", Type: "service", Lifecycle: "production",
		Annotations: map[string]string{}, AnnotationPositions: map[string]catalog.Position{}, Position: catalog.Position{File: "svc/catalog-info.yaml", Line: 1},
	}
	for i := 0; i+1 < len(annotations); i += 2 {
		key := catalog.Prefix + annotations[i]
		e.Annotations[key] = annotations[i+1]
		e.AnnotationPositions[key] = catalog.Position{File: e.Position.File, Line: 10 + i}
	}
	return e
}

func TestDocumentsBecomeObjectives(t *testing.T) {
	with := func(e *catalog.Entity, body string) *catalog.Entity {
		e.Documents = map[string][]byte{"./slo.yaml": []byte(body)}
		return e
	}
	fromAPI := func(e *catalog.Entity) *catalog.Entity {
		e.Position, e.AnnotationPositions = catalog.Position{}, nil
		return e
	}
	defaults := "latency 95% 30d ticket profile"
	tests := []struct {
		name                 string
		entity               *catalog.Entity
		objectives, problems []string
	}{
		{
			"an SLO takes the place of the default of its name, and the other defaults stay",
			with(service("slo-ref", "./slo.yaml"), twoSLOs),
			[]string{"availability 99.95% 30d ticket ./slo.yaml", defaults, "refunds 99.5% 30d page ./slo.yaml"},
			nil,
		},
		{
			"annotations give the window, and a nearer severity",
			with(service("slo-ref", "./slo.yaml", "window.refunds", "7d", "alerting.availability", "page"), twoSLOs),
			[]string{"availability 99.95% 30d page ./slo.yaml", defaults, "refunds 99.5% 7d page ./slo.yaml"},
			nil,
		},
		{
			"an annotation of the same objective wins and is said",
			with(service("slo-ref", "./slo.yaml", "objective.availability", "99"), twoSLOs),
			[]string{"availability 99% 30d page annotation", defaults, "refunds 99.5% 30d page ./slo.yaml"},
			[]string{"svc/slo.yaml:4 error slo-ref slo-document-twice: the objective availability is set elsewhere too; that one is used"},
		},
		{
			"problems point into the document",
			with(service("slo-ref", "./slo.yaml"), strings.Replace(twoSLOs, "99.95", "99,95", 1)),
			[]string{"availability 99% 30d ticket profile", defaults, "refunds 99.5% 30d page ./slo.yaml"},
			[]string{`svc/slo.yaml:5 error slo-ref slo-document-syntax: the document cannot be read: objective cannot be of type string`},
		},
		{
			"a document that Backstage has put in place",
			fromAPI(service("slo", twoSLOs)),
			[]string{"availability 99.95% 30d ticket sightline.dev/slo", defaults, "refunds 99.5% 30d page sightline.dev/slo"},
			nil,
		},
		{
			"problems of such a document name its line",
			fromAPI(service("slo", strings.Replace(twoSLOs, "99.95", "100", 1))),
			[]string{"availability 99% 30d ticket profile", defaults, "refunds 99.5% 30d page sightline.dev/slo"},
			[]string{`:0 error slo slo-document-target: line 5 of the document: target "100" is not between 0 and 100`},
		},
		{
			"a path from Backstage's API cannot be followed, and the problem says which way works",
			fromAPI(service("slo-ref", "./slo.yaml")),
			[]string{"availability 99% 30d ticket profile", defaults},
			[]string{":0 error slo-ref not-supported-yet: slo-ref is not supported yet for entities that come from Backstage's API"},
		},
		{
			"an empty document",
			with(service("slo-ref", "./slo.yaml"), ""),
			[]string{"availability 99% 30d ticket profile", defaults},
			[]string{"svc/slo.yaml:0 error slo-ref slo-document-syntax: the document is empty"},
		},
		{
			"an address is no path",
			service("slo-ref", "https://example.com/slo.yaml"),
			[]string{"availability 99% 30d ticket profile", defaults},
			[]string{"svc/catalog-info.yaml:10 error slo-ref slo-ref: slo-ref is a path and no address"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objectives, problems := build(t, tt.entity)
			if d := cmp.Diff(tt.objectives, objectives); d != "" {
				t.Errorf("objectives (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.problems, problems); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

func TestAlertsThatCanNeverFireAreSaidWithTheArithmetic(t *testing.T) {
	pairs := func(first, second string) string {
		return "svc/catalog-info.yaml:10 error objective.availability objective-cannot-alert: no " + first + "; " + second + "; the objective is refused"
	}
	tests := []struct {
		name                 string
		annotations          []string
		objectives, problems []string
	}{
		{
			"at 93 percent only the fastest page is out of reach, 14.4 × 0.07",
			[]string{"objective.availability", "93"},
			[]string{"availability 93% 30d page annotation"},
			[]string{"svc/catalog-info.yaml:10 warning objective.availability burn-pair-dead: a part of the page alert of availability can never fire and is left out: on 5m and 1h it needs an error ratio above 14.4 × 0.07 = 1.008, and none exceeds 1"},
		},
		{"just above, every pair can fire", []string{"objective.availability", "93.06"}, []string{"availability 93.06% 30d page annotation"}, nil},
		{
			"at 80 percent no page can fire",
			[]string{"objective.availability", "80"},
			nil,
			[]string{pairs("page alert of availability at 80 % can ever fire: on 5m and 1h it needs an error ratio above 14.4 × 0.2 = 2.88, and none exceeds 1", "on 30m and 6h it needs an error ratio above 6 × 0.2 = 1.2, and none exceeds 1")},
		},
		{
			"the same target with tickets is fine",
			[]string{"objective.availability", "80", "alerting", "ticket"},
			[]string{"availability 80% 30d ticket annotation"},
			nil,
		},
		{
			"and so it is without alerts",
			[]string{"objective.availability", "1", "alerting", "off"},
			[]string{"availability 1% 30d off annotation"},
			nil,
		},
		{
			"a long window makes tickets impossible",
			[]string{"objective.availability", "80", "alerting", "ticket", "window.availability", "366d"},
			nil,
			[]string{pairs("ticket alert of availability at 80 % can ever fire: on 2h and 1d it needs an error ratio above 36.6 × 0.2 = 7.32, and none exceeds 1", "on 6h and 3d it needs an error ratio above 12.2 × 0.2 = 2.44, and none exceeds 1")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objectives, problems := build(t, service(append(tt.annotations, "objective.latency", "off")...))
			if d := cmp.Diff(tt.objectives, objectives); d != "" {
				t.Errorf("objectives (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.problems, problems); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

func TestADefaultThatCanNeverAlertStaysWithoutAlerts(t *testing.T) {
	objectives, problems := build(t, service("window", "366d", "objective.availability", "off", "tier", "4"))
	if d := cmp.Diff([]string{"latency 90% 366d off profile"}, objectives); d != "" {
		t.Errorf("objectives (-want +got):\n%s", d)
	}
	if len(problems) != 1 || !strings.Contains(problems[0], "warning objective.latency objective-cannot-alert") || !strings.Contains(problems[0], "12.2 × 0.1 = 1.22") {
		t.Errorf("problems: %q", problems)
	}
}

func TestAnObjectiveThatNobodyAskedForNeverPages(t *testing.T) {
	objectives, _ := build(t, service("alerting", "page", "alerting.latency", "off", "tier", "1"))
	if d := cmp.Diff([]string{"availability 99.9% 30d ticket profile", "latency 99% 30d off profile"}, objectives); d != "" {
		t.Errorf("objectives (-want +got):\n%s", d)
	}
	objectives, _ = build(t, service("objective.availability", "99.9", "objective.latency", "off", "alerting", "page", "tier", "1"))
	if d := cmp.Diff([]string{"availability 99.9% 30d page annotation"}, objectives); d != "" {
		t.Errorf("a declared one pages (-want +got):\n%s", d)
	}
}

func TestNoTrafficIsBadOnlyWhereSomethingIsToBeThere(t *testing.T) {
	site := service("no-traffic", "bad")
	site.Type = "website"
	if _, problems := build(t, site); len(problems) > 0 {
		t.Errorf("problems of a web site: %q", problems)
	}
	_, problems := build(t, service("no-traffic", "bad"))
	want := []string{"svc/catalog-info.yaml:10 warning no-traffic no-traffic-kind: no indicator of this entity counts samples or time, so that no traffic cannot be bad; it is ignored"}
	if d := cmp.Diff(want, problems); d != "" {
		t.Errorf("problems of a service (-want +got):\n%s", d)
	}
}

func TestAnIndicatorWithoutDefaultsIsMadeWhereItIsAskedFor(t *testing.T) {
	pipelines := func(annotations ...string) *catalog.Entity {
		e := service(append(annotations, "objective.availability", "off", "objective.latency", "off")...)
		e.Annotations["gitlab.com/project-slug"] = "shop/checkout"
		return e
	}
	objectives, problems := build(t, pipelines())
	if d := cmp.Diff([]string{"pipeline_success 85% 30d ticket profile"}, objectives); d != "" || len(problems) > 0 {
		t.Errorf("problems %q, objectives (-want +got):\n%s", problems, d)
	}
	objectives, problems = build(t, pipelines("objective.pipeline-duration", "95@10m"))
	if d := cmp.Diff([]string{"pipeline_duration 95% 30d page annotation", "pipeline_success 85% 30d ticket profile"}, objectives); d != "" || len(problems) > 0 {
		t.Errorf("problems %q, objectives (-want +got):\n%s", problems, d)
	}
	_, problems = build(t, pipelines("objective.pipeline-duration", "95@7m"))
	if len(problems) != 1 || !strings.Contains(problems[0], "error objective.pipeline-duration objective-threshold: no bucket ends at the threshold 420; the nearest end at 300 and 600") {
		t.Errorf("problems of a threshold between two buckets: %q", problems)
	}
}
