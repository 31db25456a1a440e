package slo_test

import (
	"math"
	"testing"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

const thresholdDocument = `apiVersion: openslo/v1
kind: SLO
metadata: {name: backlog}
spec:
  service: shop
  budgetingMethod: Occurrences
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator:
    metadata: {name: backlog}
    spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: queue_length}}}}
  objectives: [{target: 0.99, op: lte, value: 100}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: slices}
spec:
  service: shop
  budgetingMethod: Timeslices
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator:
    metadata: {name: slices}
    spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: queue_length}}}}
  objectives: [{target: 0.99, op: lte, value: 100, timeSliceTarget: 0.5, timeSliceWindow: 5m}]
---
version: prometheus/v1
service: shop
slos:
  - name: probes
    objective: 99
    sli: {raw: {error_ratio_query: '1 - avg_over_time(probe_success[{{.window}}])'}}
  - name: unsummed
    objective: 99
    sli: {events: {error_query: 'increase(errors_total[{{.window}}])', total_query: 'increase(requests_total[{{.window}}])'}}
`

// Two queues are sampled each minute. One is too long from minute 61 to 100, the other from 81 to 100: a half of the
// samples of a slice still meets a target of 0.5. Of the slices of five minutes, which end at minute 0, 5 and so on until
// 150, those until 85, 90, 95 and 100 are bad.
func TestWhatDocumentsCountIsCounted(t *testing.T) {
	const minutes = 150
	owner := catalog.NewRef("group", "", "payments")
	e := &catalog.Entity{Ref: catalog.NewRef("component", "", "shop"), Name: "shop", Type: "library", Owner: owner, Annotations: map[string]string{"sightline.dev/slo": thresholdDocument}}
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: owner}, e}, owner)
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	objectives, problems := slo.Build(g, lib, slo.Options{})
	if len(problems) > 0 || len(objectives) != 4 {
		t.Fatalf("%d objectives, %v", len(objectives), problems)
	}
	want := map[string]float64{"backlog": 60. / 2 / minutes, "slices": 4. / (minutes/5 + 1), "probes": 60. / 2 / minutes, "unsummed": 0.1}
	for _, o := range objectives {
		t.Run(o.Indicator, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, o, engine.Options{})
			for m := range minutes + 1 {
				length := func(bad bool) float64 {
					if bad {
						return 150
					}
					return 50
				}
				up := func(bad bool) float64 { return 1 - math.Floor(length(bad)/100) }
				first, second := m > 60 && m <= 100, m > 80 && m <= 100
				samples := []engine.Sample{
					sample("queue_length", at(m), length(first), "queue", "a"), sample("queue_length", at(m), length(second), "queue", "b"),
					sample("probe_success", at(m), up(first), "instance", "a"), sample("probe_success", at(m), up(second), "instance", "b"),
				}
				for _, pod := range []string{"a", "b"} {
					samples = append(samples, sample("errors_total", at(m), 1e6+float64(6*m), "pod", pod), sample("requests_total", at(m), 1e6+float64(60*m), "pod", pod))
				}
				if err := e.Append(t.Context(), samples); err != nil {
					t.Fatal(err)
				}
				if err := e.Evaluate(t.Context(), at(m)); err != nil {
					t.Fatalf("minute %d: %v", m, err)
				}
			}
			got, err := e.Query(t.Context(), slo.SeriesErrorRatio+"30d", at(minutes))
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			if math.Abs(got[0].Value/want[o.Indicator]-1) > 0.03 { // the budget of so short a time is five minutes late
				t.Errorf("the error ratio is %.5f, counted were %.5f", got[0].Value, want[o.Indicator])
			}
			noNaN(t, e, minutes)
		})
	}
}
