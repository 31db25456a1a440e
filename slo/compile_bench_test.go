//go:build unix

package slo_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// BenchmarkCompile10000 compiles 10,000 objectives to rule files, and a hundredth of them with sloth's library to its
// rule groups in the same run. The ratio is sloth's CPU time per objective by ours; ours includes the YAML, sloth's does
// not.
func BenchmarkCompile10000(b *testing.B) {
	target, err := slo.ParseTarget("99.9")
	if err != nil {
		b.Fatal(err)
	}
	objectives := make([]slo.Objective, 10_000)
	for i := range objectives {
		job := fmt.Sprintf("service-%05d", i)
		objectives[i] = slo.Objective{
			Entity: catalog.NewRef("component", "", job), Owner: catalog.NewRef("group", "", "team"), Indicator: "availability",
			Target: target, Window: slo.Window{Days: 30}, NoTraffic: slo.NoTrafficIgnore, MaxSeverity: slo.SeverityPage,
			ErrorQuery: `sum(rate(req_total{job="` + job + `",code=~"5.."}[$window]))`, TotalQuery: `sum(rate(req_total{job="` + job + `"}[$window]))`,
		}
	}
	var ours, sloths time.Duration
	var body []byte
	var allocations uint64
	var before, after runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		runtime.ReadMemStats(&before)
		began := cpu(b)
		for i := range objectives {
			body = slo.AppendYAML(body[:0], slo.Groups(objectives[i], slo.RuleOptions{}))
		}
		ours += cpu(b) - began
		b.StopTimer()
		runtime.ReadMemStats(&after)
		allocations += after.Mallocs - before.Mallocs
		began = cpu(b)
		for i := 0; i < len(objectives); i += 100 {
			if _, err := slo.SlothGroups(b.Context(), objectives[i]); err != nil {
				b.Fatal(err)
			}
		}
		sloths += cpu(b) - began
		b.StartTimer()
	}
	n := float64(b.N * len(objectives))
	b.ReportMetric(float64(ours.Microseconds())/n, "µs/objective")
	b.ReportMetric(float64(allocations)/n, "allocs/objective")
	b.ReportMetric(100*float64(sloths)/float64(ours), "×sloth")
}
