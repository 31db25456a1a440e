//go:build unix

package plan_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/plan"
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

// organisation is a catalog of teams with a receiver each, and of components with two objectives each.
func organisation(components, teams int) []*catalog.Entity {
	var out []*catalog.Entity
	for i := range teams {
		name := fmt.Sprintf("team-%d", i)
		out = append(out,
			&catalog.Entity{Ref: catalog.NewRef("group", "", name), Name: name, Annotations: map[string]string{catalog.Prefix + "receiver.slack": "#" + name}},
			&catalog.Entity{Ref: catalog.NewRef("system", "", name), Name: name, Owner: catalog.NewRef("group", "", name)})
	}
	for i := range components {
		name, team := fmt.Sprintf("service-%d", i), fmt.Sprintf("team-%d", i%teams)
		out = append(out, &catalog.Entity{
			Ref: catalog.NewRef("component", "", name), Name: name, Type: "service", Lifecycle: "production",
			Owner: catalog.NewRef("group", "", team), System: catalog.NewRef("system", "", team),
			Annotations: map[string]string{catalog.Prefix + "objective.availability": "99.9", catalog.Prefix + "objective.latency": "99@300ms"},
		})
	}
	return out
}

// BenchmarkCompilePlan compiles 10,000 objectives of 1,000 teams to the whole plan, and counts CPU time. The parts are timed
// alone as well; the growth is the time per objective by that of a tenth of the catalog, 1 where the cost is linear.
func BenchmarkCompilePlan(b *testing.B) {
	lib, err := slo.LoadLibrary()
	if err != nil {
		b.Fatal(err)
	}
	compile := func(components, teams int) (took time.Duration, bytes int) {
		entities := organisation(components, teams)
		runtime.GC()
		began := cpu(b)
		g, problems := catalog.NewGraph(entities, catalog.NewRef("group", "", "team-0"))
		p, objectives, err := plan.Compile(b.Context(), g, lib, problems, plan.Options{})
		took = cpu(b) - began
		if err != nil || len(objectives) != 2*components {
			b.Fatalf("got %d objectives, %v", len(objectives), err)
		}
		for _, a := range p.Artifacts {
			bytes += len(a.Body)
		}
		return took, bytes
	}
	var whole, tenth time.Duration
	var bytes int
	parts := map[string]time.Duration{}
	for b.Loop() {
		took, n := compile(5000, 1000)
		whole, bytes = whole+took, bytes+n
		b.StopTimer()
		took, _ = compile(500, 100)
		tenth += took
		began := cpu(b)
		lap := func(part string) {
			parts[part] += cpu(b) - began
			runtime.GC()
			began = cpu(b)
		}
		g, _ := catalog.NewGraph(organisation(5000, 1000), catalog.NewRef("group", "", "team-0"))
		lap("graph")
		objectives, _ := slo.Build(g, lib, slo.Options{})
		lap("objectives")
		routes, _ := alerts.Build(g, alerts.Options{})
		routes.YAML()
		lap("routes")
		dashboards.Build(g, objectives, dashboards.Options{})
		lap("boards")
		var w slo.Writer
		var body []byte
		for i := range objectives {
			body = w.Append(body[:0], objectives[i:i+1])
		}
		lap("rules")
		b.StartTimer()
	}
	n := float64(b.N)
	for part, took := range parts {
		b.ReportMetric(float64(took.Milliseconds())/n, "ms-"+part)
	}
	b.ReportMetric(float64(whole.Microseconds())/n/10_000, "µs/objective")
	b.ReportMetric(float64(bytes)/n/1e6, "MB-written")
	b.ReportMetric(float64(whole)/float64(tenth)/10, "×growth")
}
