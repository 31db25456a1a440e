package slo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/sightline-dev/sightline/slo"
)

// BenchmarkSamplesTouched evaluates the rules of an objective once, of a service that has one series of errors and one of the
// rest, and of one that has 200 of each, and counts the samples that the engine touches. Those of the base and of the direct
// page window grow with the service; it fails when any other do.
func BenchmarkSamplesTouched(b *testing.B) {
	for b.Loop() {
		var rest [2]int64
		for i, pods := range []int{1, 200} {
			direct, others := samplesTouched(b, pods)
			rest[i] = others
			b.ReportMetric(float64(direct), fmt.Sprintf("samples-base-and-page-%d-series", pods))
			b.ReportMetric(float64(others), fmt.Sprintf("samples-rest-%d-series", pods))
		}
		if rest[0] != rest[1] || rest[0] == 0 {
			b.Fatalf("apart from the base and the direct page window the rules touch %d samples of a service of one series, and %d of one of 200", rest[0], rest[1])
		}
	}
}

// samplesTouched gives the samples of one evaluation of all rules: those of the rules that read the service, and the rest.
func samplesTouched(b *testing.B, pods int) (direct, rest int64) {
	b.Helper()
	o := objective(b, "payments")
	groups := slo.Groups(o, slo.RuleOptions{})
	store := teststorage.New(b)
	defer store.Close()
	var service, everyMinute, every5 []labels.Labels
	for pod := range pods {
		for _, code := range []string{"200", "500"} {
			service = append(service, labels.FromStrings("__name__", "req_total", "job", "a", "code", code, "pod", fmt.Sprint(pod)))
		}
	}
	reads := map[string]bool{slo.SeriesErrors: true, slo.SeriesTotal: true, slo.SeriesErrorsPeriod: true, slo.SeriesTotalPeriod: true, slo.SeriesErrorRatio + "1h": true}
	for _, g := range groups {
		for _, r := range g.Rules {
			if r.Record == "" {
				continue
			}
			l := labels.NewBuilder(labels.FromStrings("__name__", r.Record))
			for _, label := range r.Labels {
				l.Set(label.Name, label.Value)
			}
			if g.Interval == time.Minute {
				everyMinute = append(everyMinute, l.Labels())
			} else {
				every5 = append(every5, l.Labels())
			}
		}
	}
	const minutes = 30 * 24 * 60
	for m := range minutes {
		app := store.Appender(b.Context())
		add := func(series []labels.Labels) {
			for _, l := range series {
				if _, err := app.Append(0, l, start.Add(time.Duration(m-minutes+1)*time.Minute).UnixMilli(), float64(m)); err != nil {
					b.Fatal(err)
				}
			}
		}
		if m%5 == 4 {
			add(every5)
		}
		if m >= minutes-2*60 { // the longest window that reads the service itself is an hour
			add(service)
		}
		if m >= minutes-3*24*60 {
			add(everyMinute)
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute})
	defer engine.Close()
	for _, g := range groups {
		for _, r := range g.Rules {
			q, err := engine.NewInstantQuery(b.Context(), store, nil, r.Expr, start)
			if err != nil {
				b.Fatal(err)
			}
			if res := q.Exec(b.Context()); res.Err != nil {
				b.Fatal(res.Err)
			}
			if n := q.Stats().Samples.TotalSamples; reads[r.Record] {
				direct += n
			} else {
				rest += n
			}
			q.Close()
		}
	}
	return direct, rest
}
