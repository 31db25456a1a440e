package slo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// answers puts one row for each job into the answers to all questions of objectives.
func answers(objectives []slo.Objective, rows ...slo.Seen) map[string][]slo.Seen {
	out := map[string][]slo.Seen{}
	for _, q := range slo.Questions(objectives) {
		out[q.Series()] = rows
	}
	return out
}

func TestRealityIsComparedWithWhatObjectivesRead(t *testing.T) {
	row := func(job string, series, samples float64) slo.Seen {
		return slo.Seen{Labels: map[string]string{"job": job}, Series: series, Samples: samples}
	}
	bucket := func(job, le string) slo.Seen {
		return slo.Seen{Labels: map[string]string{"job": job, "le": le}, Series: 3, Samples: 20}
	}
	latency := func(o *slo.Objective) {
		o.Kind, o.Threshold = slo.KindHistogram, "0.3"
		o.TotalQuery = `sum(rate(latency_bucket{job="a",le=~"0\\.3"}[$window]))`
	}
	tests := []struct {
		name    string
		change  func(*slo.Objective)
		reality slo.Reality
		rows    []slo.Seen
		want    string // rule: message (hint); "" for none
	}{
		{name: "all is there", reality: slo.Reality{Retention: 40 * 24 * time.Hour, Types: map[string]string{"req_total": "counter"}}, rows: []slo.Seen{row("a", 3, 20), row("b", 3, 20)}},
		{
			name: "a metric of another name", reality: slo.Reality{Metrics: []string{"reqs_total", "up"}},
			want: "warning metric-missing: availability has no data: the server has no metric req_total (did you mean reqs_total?)",
		},
		{
			name: "a label's value of another name", rows: []slo.Seen{row("aa", 1, 20), row("zebra", 1, 20)},
			want: `warning label-value-missing: availability has no data: req_total has no series with job="a" (did you mean job="aa"?)`,
		},
		{
			name: "a label that the metric does not have", rows: []slo.Seen{row("", 1, 20)},
			want: "warning label-missing: availability has no data: req_total has no label job there (set sightline.dev/selector to labels that it has)",
		},
		{
			name: "a gauge", reality: slo.Reality{Types: map[string]string{"req_total": "gauge"}}, rows: []slo.Seen{row("a", 1, 20)},
			want: "error metric-type: req_total is a gauge, of which availability cannot count events (name a counter or a histogram, or an indicator of another kind)",
		},
		{
			name: "scrapes too far apart", rows: []slo.Seen{row("a", 1, 3)},
			want: "warning scrape-interval: req_total has 3 samples in five minutes, the shortest window of availability: it needs 4 (scrape it at least every 75 seconds)",
		},
		{
			name: "no bucket at the threshold", change: latency, rows: []slo.Seen{bucket("a", "1.0"), bucket("a", "+Inf"), bucket("a", "0.25"), bucket("b", "0.3")},
			want: "error bucket-missing: availability has no data: no bucket of latency_bucket ends at 0.3 (its buckets end at 0.25, 1.0, +Inf)",
		},
		{name: "a bucket at the threshold", change: latency, rows: []slo.Seen{bucket("a", "0.3")}},
		{
			name: "too many series", rows: []slo.Seen{row("a", 20000, 20)},
			want: "warning selector-cardinality: availability reads 20000 series, each minute over an hour (record a sum of them without the labels that are not needed, and let the objective read that)",
		},
		{
			name: "a retention that is too short", reality: slo.Reality{Retention: 15 * 24 * time.Hour}, rows: []slo.Seen{row("a", 1, 20)},
			want: "error retention-short: the window of availability is 30d, but the server keeps samples for 15d: its budget would be wrong (keep samples for longer than the longest window, or set a shorter one)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := objective(t, "payments")
			if tt.change != nil {
				tt.change(&o)
			}
			all := []slo.Objective{o}
			if tt.rows != nil {
				tt.reality.Answers = answers(all, tt.rows...)
			}
			got := ""
			for _, p := range tt.reality.Check(all) {
				if p.Rule != "rule-cost" {
					got += fmt.Sprintf("%s %s: %s (%s)", p.Severity, p.Rule, p.Message, p.Hint)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAProblemOfACompositeNamesItsAnnotation(t *testing.T) {
	made := objective(t, "payments")
	made.Entity, made.Indicator = catalog.NewRef("system", "", "shop"), "checkout_path"
	made.ErrorQuery, made.TotalQuery = "", ""
	made.Composite = &slo.Composite{Members: []slo.CompositeMember{{ID: "component.default.payments-availability", Weight: "1", Target: made.Target}}}
	all := []slo.Objective{made, objective(t, "payments")}
	r := slo.Reality{Retention: 15 * 24 * time.Hour, Answers: answers(all, slo.Seen{Labels: map[string]string{"job": "a"}, Series: 1, Samples: 20})}
	got := map[string]string{}
	for _, p := range r.Check(all) {
		if p.Rule == "retention-short" {
			got[p.Entity.String()] = p.Annotation
		}
	}
	want := map[string]string{"system:default/shop": "sightline.dev/composite.checkout-path", "component:default/checkout": "sightline.dev/objective.availability"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTenThousandObjectivesOfAProfileNeedOneQuestion(t *testing.T) {
	var all []slo.Objective
	var rows []slo.Seen
	for i := range 10_000 {
		o := objective(t, "payments")
		job := fmt.Sprintf("service-%d", i)
		o.Entity = catalog.NewRef("component", "", job)
		o.TotalQuery = strings.ReplaceAll(o.TotalQuery, `"a"`, `"`+job+`"`)
		all = append(all, o)
		if i != 77 {
			rows = append(rows, slo.Seen{Labels: map[string]string{"job": job}, Series: 2, Samples: 20})
		}
	}
	questions := slo.Questions(all)
	if len(questions) != 1 || questions[0].Series() != "count by (job) (req_total)" || questions[0].Samples() != "max by (job) (count_over_time(req_total[5m]))" {
		t.Fatalf("questions %v", questions)
	}
	r := slo.Reality{Answers: answers(all, rows...)}
	problems := r.Check(all)
	if len(problems) != 2 || problems[0].Entity.Name != "service-77" {
		t.Fatalf("%d problems, the first %v", len(problems), problems[0])
	}
	if cost := problems[1].Message; !strings.HasPrefix(cost, "10000 objectives read 19998 series; their ") || !strings.Contains(cost, " in 20000 groups touch about ") {
		t.Errorf("the cost is %q", cost)
	}
}
