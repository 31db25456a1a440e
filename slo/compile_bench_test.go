//go:build unix

package slo_test

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/slok/sloth/pkg/lib"
	slothv1 "github.com/slok/sloth/pkg/prometheus/api/v1"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// spec is an objective as sloth's library takes it, with labels and alerts like those of ours.
func spec(o *slo.Objective) slothv1.Spec {
	labels := map[string]string{"entity": o.Entity.String(), "owner": o.Owner.String()}
	query := func(q string) string { return strings.ReplaceAll(q, "$window", "{{.window}}") }
	alert := func(severity string) slothv1.Alert {
		return slothv1.Alert{Labels: map[string]string{"severity": severity}}
	}
	return slothv1.Spec{Version: slothv1.Version, Service: o.Service(), Labels: labels, SLOs: []slothv1.SLO{{
		Name: o.Indicator, Objective: 99.9, SLI: slothv1.SLI{Events: &slothv1.SLIEvents{ErrorQuery: query(o.ErrorQuery), TotalQuery: query(o.TotalQuery)}},
		Alerting: slothv1.Alerting{Name: slo.AlertBurn, Labels: labels, PageAlert: alert("page"), TicketAlert: alert("ticket")},
	}}}
}

// BenchmarkCompile10000 validates 10,000 objectives, which is to parse their queries, compiles them and writes them as rule
// files. A hundredth of them goes through sloth's library in the same run, which validates, compiles and writes as well: ×sloth is
// its CPU time per objective by ours, sloth's generator being made once and not counted. ×floor is our time by that of
// appending the same bytes, line by line, to a buffer that is there already. heap-MB-grown is by how much the heap grew over
// the 10,000.
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
	sloth, err := lib.NewPrometheusSLOGenerator(lib.PrometheusSLOGeneratorConfig{PluginsFS: []fs.FS{embed.FS{}}, DefaultSLOPeriod: 30 * 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	validate := func(query string) {
		if _, err := parser.ParseExpr(strings.ReplaceAll(query, "$window", "5m")); err != nil {
			b.Fatal(err)
		}
	}
	var ours, validation, sloths, floor time.Duration
	var w slo.Writer
	var body []byte
	var theirs bytes.Buffer
	var allocations, written uint64
	var grown int64
	var before, after runtime.MemStats
	lap := func(took *time.Duration, work func()) {
		runtime.GC()
		began := cpu(b)
		work()
		*took += cpu(b) - began
	}
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		lap(&ours, func() {
			for i := range objectives {
				validate(objectives[i].ErrorQuery)
				validate(objectives[i].TotalQuery)
				body = w.Append(body[:0], objectives[i:i+1])
				written += uint64(len(body))
			}
		})
		b.StopTimer()
		runtime.ReadMemStats(&after)
		allocations += after.Mallocs - before.Mallocs
		grown += int64(after.HeapSys-after.HeapReleased) - int64(before.HeapSys-before.HeapReleased)
		lap(&validation, func() {
			for i := range objectives {
				validate(objectives[i].ErrorQuery)
				validate(objectives[i].TotalQuery)
			}
		})
		lines := bytes.SplitAfter(bytes.Clone(body), []byte("\n"))
		lap(&floor, func() {
			for range objectives {
				body = body[:0]
				for _, line := range lines {
					body = append(body, line...)
				}
			}
		})
		lap(&sloths, func() {
			for i := 0; i < len(objectives); i += 100 {
				theirs.Reset()
				res, err := sloth.GenerateFromSlothV1(b.Context(), spec(&objectives[i]))
				if err == nil {
					err = sloth.WriteResultAsPrometheusStd(b.Context(), *res, &theirs)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.StartTimer()
	}
	n := float64(b.N * len(objectives))
	b.ReportMetric(ours.Seconds()*1e6/n, "µs/objective")
	b.ReportMetric(validation.Seconds()*1e6/n, "µs-validation/objective")
	b.ReportMetric(ours.Seconds()/float64(b.N), "cpu-s")
	b.ReportMetric(float64(allocations)/n, "allocs/objective")
	b.ReportMetric(max(0, float64(grown))/float64(b.N)/1e6, "heap-MB-grown")
	b.ReportMetric(float64(written)/n, "B/objective")
	b.ReportMetric(float64(theirs.Len()), "sloth-B/objective")
	b.ReportMetric(sloths.Seconds()*1e6/n*100, "sloth-µs/objective")
	b.ReportMetric(100*float64(sloths)/float64(ours), "×sloth")
	b.ReportMetric(float64(ours)/float64(floor), "×floor")
}
