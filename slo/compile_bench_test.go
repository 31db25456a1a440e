package slo

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// BenchmarkCompile10000 compiles 10,000 objectives to rule files, and a hundredth of them with sloth's library to its
// rule groups in the same run. The ratio is sloth's time per objective by ours; ours includes the YAML, sloth's does not.
func BenchmarkCompile10000(b *testing.B) {
	target, err := ParseTarget("99.9")
	if err != nil {
		b.Fatal(err)
	}
	objectives := make([]Objective, 10_000)
	for i := range objectives {
		job := fmt.Sprintf("service-%05d", i)
		objectives[i] = Objective{
			Entity: catalog.NewRef("component", "", job), Owner: catalog.NewRef("group", "", "team"), Indicator: "availability",
			Target: target, Window: Window{Days: 30}, NoTraffic: NoTrafficIgnore, MaxSeverity: SeverityPage,
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
		began := time.Now()
		for i := range objectives {
			body = AppendYAML(body[:0], Groups(objectives[i], RuleOptions{}))
		}
		ours += time.Since(began)
		b.StopTimer()
		runtime.ReadMemStats(&after)
		allocations += after.Mallocs - before.Mallocs
		began = time.Now()
		for i := 0; i < len(objectives); i += 100 {
			if _, err := SlothGroups(b.Context(), objectives[i]); err != nil {
				b.Fatal(err)
			}
		}
		sloths += time.Since(began)
		b.StartTimer()
	}
	n := float64(b.N * len(objectives))
	b.ReportMetric(float64(ours.Microseconds())/n, "µs/objective")
	b.ReportMetric(float64(allocations)/n, "allocs/objective")
	b.ReportMetric(100*float64(sloths)/float64(ours), "×sloth")
}
