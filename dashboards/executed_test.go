package dashboards_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/simulate"
	"github.com/sightline-dev/sightline/slo"
)

// demoFiles is the part of the simulated platform that is played: two teams, and the templates.
var demoFiles = []string{"org.yaml", "systems.yaml", "templates.yaml", "payments.yaml", "platform.yaml"}

// demo is a store that holds what a demo has stored after some time, up to at.
type demo struct {
	graph      *catalog.Graph
	objectives []slo.Objective
	boards     []dashboards.Board
	engine     *engine.Engine
	at         time.Time
}

// newDemo evaluates the compiled rules of the simulated platform on its simulated metrics of a Wednesday.
func newDemo(t *testing.T) *demo {
	t.Helper()
	dir := t.TempDir()
	if err := simulate.WriteCatalog(filepath.Join(dir, "catalog")); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, name := range demoFiles {
		paths = append(paths, filepath.Join(dir, "catalog", name))
	}
	found, err := files.Load(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := catalog.NewGraph(found.Entities, catalog.NewRef("group", "", "platform"))
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	compiled, objectives, err := plan.Compile(t.Context(), g, lib, nil, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]byte{}
	d := &demo{graph: g, objectives: objectives}
	for _, a := range compiled.Artifacts {
		switch a.Kind {
		case plan.KindRules:
			rules[a.Path] = a.Body
		case plan.KindDashboard:
			d.boards = append(d.boards, dashboards.Board{Path: a.Path, JSON: a.Body})
		}
	}

	start := time.Date(2026, 11, 4, 13, 0, 0, 0, time.UTC)
	d.at = start
	now := func() time.Time { return d.at }
	runs, err := journal.Open(filepath.Join(dir, "journal.db"), journal.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runs.Close() })
	var info exporter.EntityInfo
	info.Set(g)
	registry := prometheus.NewRegistry()
	registry.MustRegister(&info, exporter.NewCollector(runs), simulate.NewTraffic(g, start, start.Add(-6*time.Hour), now))
	sources := exporter.NewSourceMetrics(registry)
	if d.engine, err = engine.Open(engine.Options{Path: filepath.Join(dir, "tsdb"), Gatherer: registry, Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.engine.Close() })
	if err := d.engine.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	if err := simulate.WriteHistory(t.Context(), d.engine, g, objectives, start); err != nil {
		t.Fatal(err)
	}
	source := simulate.NewSource(start, 4*24*time.Hour, now)
	minutes := []int{-2 * 24 * 60} // what happens from then on is seen to happen
	for m := -180; m <= 10; m += 5 {
		minutes = append(minutes, m)
	}
	for _, minute := range minutes {
		d.at = start.Add(time.Duration(minute) * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		if err := exporter.Follow(ctx, source, exporter.FollowOptions{
			Graph: func() *catalog.Graph { return g }, Sink: runs, Metrics: sources, Synced: func(error) { cancel() },
		}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := d.engine.Collect(t.Context(), d.at); err != nil {
			t.Fatal(err)
		}
		if minute < 0 {
			continue // rules over the past are what WriteHistory has written
		}
		if err := d.engine.Evaluate(t.Context(), d.at); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

type panel struct {
	Title, Type string
	Panels      []panel
	Targets     []struct {
		Expr, RefID string
		Instant     bool
	}
}

// silent are the queries that have no answer on the simulated platform, with the reason. A panel is named by a pattern.
var silent = []struct{ board, panel, reason string }{
	{"*", "Firing alerts", "nothing fires in the first minutes"},
	{"platform.json", "Plugin *", "the simulated platform has no Backstage"},
	{"owner.json", "Scaffolder *", "only the platform team owns templates"},
	{"owner.json", "Templates *", "only the platform team owns templates"},
	{"*", "Burn rates: pipeline_success", "no pipeline of the component has finished in that window"},
	{"*", "Burn rates: task_success", "nobody has used the template in that window"},
	{"*", "Recovery time, median", "no change of one of them has failed in two days"},
	{"component.*", "Flaky jobs", "no job of the component has been retried in two days"},
	{"component.*", "Failed jobs per day by reason", "no job of the component has failed"},
	{"*", "Error*", "no pipeline or task of an entity without requests has finished in a day"},
}

func TestEveryQueryOfTheDemosBoardsHasAnAnswer(t *testing.T) {
	d := newDemo(t)
	owners, systems := map[string]bool{}, map[string]bool{} // that have objectives in the part that is played
	for _, o := range d.objectives {
		owners[o.Owner.String()], systems["systems/"+o.System.Namespace+"."+o.System.Name+".json"] = true, true
	}
	answers := map[string]int{} // series by query
	ask := func(where, expr string, instant bool) int {
		expr = strings.NewReplacer("$__rate_interval", "10m", "$__range", "49h").Replace(expr)
		n, seen := answers[expr]
		if seen {
			return n
		}
		if instant {
			answer, err := d.engine.Query(t.Context(), expr, d.at)
			if err != nil {
				t.Errorf("%s: %v", where, err)
			}
			n = len(answer)
		} else {
			answer, err := d.engine.QueryRange(t.Context(), expr, d.at.Add(-5*time.Minute), d.at, time.Minute)
			if err != nil {
				t.Errorf("%s: %v", where, err)
			}
			n = len(answer)
		}
		answers[expr] = n
		return n
	}
	used := map[string]bool{}
	for _, b := range d.boards {
		name := filepath.Base(b.Path)
		played := !strings.Contains(b.Path, "/systems/") || systems["systems/"+name]
		var board struct{ Panels []panel }
		if err := json.Unmarshal(b.JSON, &board); err != nil {
			t.Fatal(err)
		}
		panels := board.Panels
		for _, p := range board.Panels {
			panels = append(panels, p.Panels...)
		}
		for _, p := range panels {
			for _, target := range p.Targets {
				where := fmt.Sprintf("%s: %q %s", b.Path, p.Title, target.RefID)
				answered := false
				if strings.Contains(target.Expr, "$owner") {
					answered = true
					for _, o := range d.graph.Owners() {
						n := ask(where, strings.ReplaceAll(target.Expr, "$owner", o.String()), target.Instant)
						answered = answered && (n > 0 || !owners[o.String()])
					}
				} else {
					answered = ask(where, target.Expr, target.Instant) > 0
				}
				if answered || !played {
					continue
				}
				i := slices.IndexFunc(silent, func(s struct{ board, panel, reason string }) bool {
					return matches(s.board, name) && matches(s.panel, p.Title)
				})
				if i < 0 {
					t.Errorf("%s has no answer: %s", where, target.Expr)
					continue
				}
				used[silent[i].panel] = true
			}
		}
	}
	for _, s := range silent {
		if !used[s.panel] {
			t.Errorf("%q has answers everywhere: it is no exception any more", s.panel)
		}
	}
	if len(d.boards) < 20 || len(answers) < 500 {
		t.Errorf("only %d queries of %d boards were run", len(answers), len(d.boards))
	}
}

func matches(pattern, name string) bool {
	head, tail, wild := strings.Cut(pattern, "*")
	return pattern == name || wild && strings.HasPrefix(name, head) && strings.HasSuffix(name, tail)
}

func TestTheBoardsOfTheWholeSimulatedPlatformAreClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	if err := simulate.WriteCatalog(dir); err != nil {
		t.Fatal(err)
	}
	found, err := files.Load(t.Context(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := catalog.NewGraph(found.Entities, catalog.NewRef("group", "", "platform"))
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	compiled, _, err := plan.Compile(t.Context(), g, lib, nil, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
	if err != nil {
		t.Fatal(err)
	}
	boards := 0
	for _, a := range compiled.Artifacts {
		if a.Kind != plan.KindDashboard {
			continue
		}
		boards++
		for _, f := range dashboards.LintJSON(a.Path, a.Body) {
			t.Errorf("%s: %+v", a.Path, f)
		}
	}
	if boards < 60 {
		t.Errorf("only %d boards", boards)
	}
}
