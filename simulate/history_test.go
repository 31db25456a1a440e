package simulate

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

var start = time.Date(2026, 3, 4, 10, 2, 30, 0, time.UTC)

// checkout is a catalog of one component with two objectives.
func checkout(t *testing.T) (*catalog.Graph, []slo.Objective, map[string][]byte) {
	t.Helper()
	g, _ := catalog.NewGraph([]*catalog.Entity{{
		Ref: catalog.NewRef("component", "", "checkout"), Name: "checkout", Type: "service", Lifecycle: "production",
		Annotations: map[string]string{catalog.Prefix + "objective.availability": "99.9", catalog.Prefix + "objective.latency": "99@300ms"},
	}}, catalog.Ref{})
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	p, objectives, err := plan.Compile(t.Context(), g, lib, nil, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]byte{}
	for _, a := range p.Artifacts {
		if a.Kind == plan.KindRules {
			rules[a.Path] = a.Body
		}
	}
	return g, objectives, rules
}

func openStore(t *testing.T, path string, g prometheus.Gatherer) *engine.Engine {
	t.Helper()
	e, err := engine.Open(engine.Options{Path: path, Gatherer: g, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func totals(t *testing.T, e *engine.Engine, expr string) map[string]string {
	t.Helper()
	got, err := e.Query(context.Background(), expr, start)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range got {
		out[s.Labels["sloth_id"]+" "+s.Labels["series"]] = fmt.Sprintf("%.9g", s.Value)
	}
	return out
}

func TestBlocksHoldTheSameHistoryAsAnOpenStore(t *testing.T) {
	g, objectives, rules := checkout(t)
	appended := openStore(t, t.TempDir(), nil)
	if err := WriteHistory(t.Context(), appended, g, objectives, start); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	h := NewHistory(g, objectives, start)
	if written, err := h.WriteBlocks(t.Context(), path); err != nil || !written {
		t.Fatalf("written %v, %v", written, err)
	}
	if written, err := NewHistory(g, objectives, start).WriteBlocks(t.Context(), path); err != nil || written {
		t.Errorf("a folder that holds something: written %v, %v", written, err)
	}
	registry, traffic := prometheus.NewRegistry(), NewTraffic(g, start, start.Add(-2*time.Hour), func() time.Time { return start })
	registry.MustRegister(traffic)
	blocks := openStore(t, path, registry)
	if err := blocks.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	if err := h.Append(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"count_over_time", "sum_over_time"} {
		expr := `sum by (sloth_id, series) (label_replace(` + f + `({__name__=~"slo:.*"}[31d]), "series", "$1", "__name__", "(.*)"))`
		want := totals(t, appended, expr)
		if len(want) != 2 { // functions over time drop the name, so a sum for each objective
			t.Fatalf("%s: %v", f, want)
		}
		if diff := cmp.Diff(want, totals(t, blocks, expr)); diff != "" {
			t.Errorf("%s (-appended +blocks):\n%s", f, diff)
		}
	}

	if err := h.Finish(t.Context(), blocks, traffic); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		if got := totals(t, blocks, "slo:sli_error:ratio_rate"+w); len(got) != 2 {
			t.Errorf("window %s after the start: %v, want a value for each of the 2 objectives", w, got)
		}
	}
}

func TestWhatIsMeasuredGoesOnWhereTheHistoryEnds(t *testing.T) {
	dir := t.TempDir()
	if err := WriteCatalog(filepath.Join(dir, "catalog")); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, name := range []string{"org.yaml", "systems.yaml", "templates.yaml", "payments.yaml", "search.yaml"} {
		paths = append(paths, filepath.Join(dir, "catalog", name))
	}
	found, err := files.Load(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := catalog.NewGraph(found.Entities, catalog.Ref{})
	if written, err := NewHistory(g, nil, start).WriteBlocks(t.Context(), filepath.Join(dir, "tsdb")); err != nil || !written {
		t.Fatalf("written %v, %v", written, err)
	}
	at := start
	now := func() time.Time { return at }
	j, err := journal.Open(filepath.Join(dir, "journal.db"), journal.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	registry := prometheus.NewRegistry()
	registry.MustRegister(exporter.NewCollector(j))
	e := openStore(t, filepath.Join(dir, "tsdb"), registry)
	source := NewSource(start, historyLength, now)
	sync := func() {
		t.Helper()
		if err := source.Sync(t.Context(), g, j); err != nil {
			t.Fatal(err)
		}
		if err := e.Collect(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(expr string) float64 {
		t.Helper()
		got, err := e.Query(t.Context(), expr, at)
		if err != nil || len(got) > 1 {
			t.Fatalf("%s: %v, %v", expr, got, err)
		}
		if len(got) == 0 {
			return 0
		}
		return got[0].Value
	}
	sync()
	at = start.Add(4 * time.Hour)
	sync() // four hours later

	for _, f := range exporter.Kinds() {
		names := []string{f.Name}
		if f.Type == "histogram" {
			names = []string{f.Name + "_bucket", f.Name + "_count", f.Name + "_sum"}
		}
		for _, name := range names {
			whole, live := ask("count(last_over_time("+name+"[31d]))"), ask("count("+name+")")
			if whole == 0 || whole != live {
				t.Errorf("%s: %v series with the history, %v without", name, whole, live)
			}
			if n := ask("sum(resets(" + name + "[31d]))"); n > 0 && f.Type != "gauge" {
				t.Errorf("%s: %v resets", name, n)
			}
		}
	}
	wants := map[string]float64{}
	once := map[string]bool{}
	_, seen := newPlayer(g, start).play(start.Add(-historyLength), at)
	for _, o := range seen {
		if id := o.ID.String() + string(o.Kind); !o.Declare && !o.OfTask && !once[id] {
			once[id] = true
			wants[string(o.Kind)]++
		}
	}
	for kind, series := range map[exporter.ObservationKind]string{
		exporter.Deployments: "sightline_deployments_total", exporter.DeploymentsFailed: "sightline_deployments_failed_total",
		exporter.DeploymentsRework: "sightline_deployments_rework_total", exporter.RecoveryTime: "sightline_deployment_recovery_seconds_count",
		exporter.LeadTime: "sightline_change_lead_time_seconds_count", exporter.Journey: "sightline_journey_seconds_count",
	} {
		want, got := wants[string(kind)], ask("sum(increase("+series+"[31d]))")
		if want < 10 || got < 0.97*want || got > 1.03*want {
			t.Errorf("%s grew by %v; want %v, and at least 10", series, got, want)
		}
	}
	if n := ask(`sum(increase(sightline_deployments_failed_total{cause="incident"}[31d]))`); n == 0 {
		t.Error("no incident is put down to a deployment")
	}
}
