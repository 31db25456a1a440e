//go:build unix

package slo_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// value is what a healthy service's series has at a minute: a counter from the beginning on, a rate of events, or a ratio.
func value(series map[string]string, minute, i int) float64 {
	wobble := float64(minute % (i%7 + 2))
	switch name := series["__name__"]; {
	case series["code"] == "500":
		return float64((minute + 100_000) / 100)
	case name == "req_total":
		return float64(minute+100_000)*1000 + wobble
	case name == slo.SeriesTotal, name == slo.SeriesTotalPeriod:
		return 16 + wobble
	case name == slo.SeriesTotalSum+"1d":
		return 288 * 16
	case name == slo.SeriesTotalSum+"3d":
		return 864 * 16
	}
	return wobble / 1e5
}

// BenchmarkEvaluate evaluates the rules of 200 objectives for five minutes, in which the period group is due once, over 30
// days of what they recorded and three days of a service's counters, and sloth's rules of the same objectives over the same
// counters. Both sides see two counters each, scraped once a minute: the fewest that there can be, and for sloth the cheapest.
func BenchmarkEvaluate(b *testing.B) {
	const n, minutes = 200, 5
	for b.Loop() {
		ours, sloths := map[string][]byte{}, map[string][]byte{}
		var recent, all, every5 []map[string]string // recorded for three days, for 30 days, and for 30 days each five minutes
		target, err := slo.ParseTarget("99.9")
		if err != nil {
			b.Fatal(err)
		}
		for i := range n {
			job := fmt.Sprintf("service-%d", i)
			o := slo.Objective{
				Entity: catalog.NewRef("component", "", job), Owner: catalog.NewRef("group", "", "team"), Indicator: "availability",
				Target: target, Window: slo.Window{Days: 30}, NoTraffic: slo.NoTrafficIgnore, MaxSeverity: slo.SeverityPage,
				ErrorQuery: `sum(rate(req_total{job="` + job + `",code=~"5.."}[$window]))`, TotalQuery: `sum(rate(req_total{job="` + job + `"}[$window]))`,
			}
			groups := slo.Groups(o, slo.RuleOptions{})
			theirs, err := slo.SlothGroups(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			ours[job], sloths[job] = slo.AppendYAML(nil, groups), slo.AppendYAML(nil, theirs)
			record := func(groups []slo.RuleGroup, series string) map[string]string {
				for _, g := range groups {
					for _, r := range g.Rules {
						if r.Record == series {
							l := map[string]string{"__name__": series}
							for _, label := range r.Labels {
								l[label.Name] = label.Value
							}
							return l
						}
					}
				}
				b.Fatalf("no rule records %s", series)
				return nil
			}
			recent = append(recent, map[string]string{"__name__": "req_total", "job": job, "code": "200"}, map[string]string{"__name__": "req_total", "job": job, "code": "500"},
				record(groups, slo.SeriesErrors), record(groups, slo.SeriesTotal))
			every5 = append(every5, record(groups, slo.SeriesErrorsPeriod), record(groups, slo.SeriesTotalPeriod), record(groups, slo.SeriesErrorsSum+"1d"),
				record(groups, slo.SeriesTotalSum+"1d"), record(groups, slo.SeriesErrorsSum+"3d"), record(groups, slo.SeriesTotalSum+"3d"))
			all = append(all, record(theirs, slo.SeriesErrorRatio+"5m"))
		}
		path := b.TempDir()
		for day := -30; day < 0; day++ {
			var block []engine.Series
			add := func(series []map[string]string, step int) {
				for i, l := range series {
					s := engine.Series{Labels: l}
					for m := day * 1440; m < (day+1)*1440; m += step {
						s.Points = append(s.Points, engine.Point{Time: at(m), Value: value(l, m, i)})
					}
					block = append(block, s)
				}
			}
			add(all, 1)
			add(every5, 5)
			if day >= -3 {
				add(recent, 1)
			}
			if err := engine.WriteBlock(b.Context(), path, block); err != nil {
				b.Fatal(err)
			}
		}
		e, err := engine.Open(engine.Options{Path: path, Retention: 40 * 24 * time.Hour, Now: func() time.Time { return start }})
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC() // of what the blocks were made from
		minute := 0
		evaluate := func(files map[string][]byte) (took time.Duration) {
			if err := e.SetRules(files); err != nil {
				b.Fatal(err)
			}
			for range minutes {
				var samples []engine.Sample
				for i, l := range recent {
					if l["job"] != "" {
						samples = append(samples, engine.Sample{Labels: l, Value: value(l, minute, i), Time: at(minute)})
					}
				}
				if err := e.Append(b.Context(), samples); err != nil {
					b.Fatal(err)
				}
				before := cpu(b)
				if err := e.Evaluate(b.Context(), at(minute)); err != nil {
					b.Fatal(err)
				}
				took += cpu(b) - before
				minute++
			}
			return took
		}
		mine := evaluate(ours)
		theirs := evaluate(sloths)
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		cores := func(took time.Duration) float64 { return took.Seconds() / (60 * minutes) * 10_000 / n }
		b.ReportMetric(mine.Seconds()/minutes, "cpu-s/minute")
		b.ReportMetric(theirs.Seconds()/minutes, "sloth-cpu-s/minute")
		b.ReportMetric(cores(mine), "cores-at-10000")
		b.ReportMetric(cores(theirs), "sloth-cores-at-10000")
		b.ReportMetric(theirs.Seconds()/mine.Seconds(), "×sloth")
	}
}
