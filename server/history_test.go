package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/rules"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

// A platform is a journal, an embedded store and what stands between them, on a clock that the test moves.
type platform struct {
	t       *testing.T
	path    string
	now     time.Time
	journal *journal.Journal
	engine  *engine.Engine
	history *historian
	rules   map[string][]byte
	offset  time.Duration // of the times at which the period group is evaluated, which a restart does not change
	aligned bool          // it has been evaluated since it was opened
	runs    int
	failed  int
	paged   []string
}

type scripted struct{ exporter.Source }

func (scripted) Name() string { return "gitlab" }
func (scripted) Host() string { return "git.example.com" }

var shop = catalog.NewRef("component", "", "shop")

func newPlatform(t *testing.T) *platform {
	t.Helper()
	g, _ := catalog.NewGraph([]*catalog.Entity{{
		Ref: shop, Name: "shop", Type: "library", Lifecycle: "production",
		Annotations: map[string]string{"gitlab.com/project-slug": "shop/shop", catalog.Prefix + "objective.pipeline_success": "99"},
	}}, catalog.Ref{})
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := plan.Compile(t.Context(), g, lib, nil, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t: t, path: t.TempDir(), now: time.Date(2026, 3, 4, 10, 2, 0, 0, time.UTC), rules: map[string][]byte{}}
	for _, a := range made.Artifacts {
		if a.Kind == plan.KindRules {
			p.rules[a.Path] = a.Body
		}
	}
	t.Cleanup(p.close)
	return p
}

// open starts a process. Without a historian, as before there was one, everything that is found counts at once.
func (p *platform) open(historian bool) {
	p.t.Helper()
	var err error
	clock := func() time.Time { return p.now }
	if p.journal, err = journal.Open(filepath.Join(p.path, "journal.db"), journal.Options{Now: clock, Past: historian}); err != nil {
		p.t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(exporter.NewCollector(p.journal))
	o := engine.Options{Path: filepath.Join(p.path, "tsdb"), Now: clock, Gatherer: registry}
	p.history, p.aligned = nil, false
	if historian {
		p.history = newHistorian(p.journal, []Source{{Source: scripted{}}}, slog.New(slog.DiscardHandler), clock)
		o.Gatherer = p.history.gatherer(registry)
	}
	if p.engine, err = engine.Open(o); err != nil {
		p.t.Fatal(err)
	}
	if historian {
		p.history.start(p.engine)
	}
	if err := p.engine.SetRules(p.rules); err != nil {
		p.t.Fatal(err)
	}
	for _, r := range p.engine.Rules() {
		if strings.HasPrefix(r.Group, "sightline-slo-period-") {
			group := rules.NewGroup(rules.GroupOptions{Name: r.Group, File: r.File, Interval: 5 * time.Minute, Opts: &rules.ManagerOptions{Logger: slog.New(slog.DiscardHandler)}})
			p.offset = time.Duration(group.EvalTimestamp(p.now.UnixNano()).UnixNano() % int64(5*time.Minute))
		}
	}
}

func (p *platform) close() {
	if p.journal == nil {
		return
	}
	if err := errors.Join(p.engine.Close(), p.journal.Close()); err != nil {
		p.t.Error(err)
	}
	p.journal = nil
}

// pass lets time go by, with a collection every half minute and an evaluation every minute.
func (p *platform) pass(d time.Duration) {
	p.t.Helper()
	for end := p.now.Add(d); p.now.Before(end); {
		before := p.now
		p.now = p.now.Add(30 * time.Second)
		at := p.now.Add(-p.offset).Truncate(time.Minute).Add(p.offset)
		if at.After(before) && (p.aligned || at.Add(-p.offset).Minute()%5 == 0) {
			p.aligned = true
			if err := p.engine.Evaluate(p.t.Context(), at); err != nil {
				p.t.Fatal(err)
			}
		}
		if err := p.engine.Collect(p.t.Context(), p.now); err != nil {
			p.t.Fatal(err)
		}
		for _, a := range p.engine.Alerts() {
			if a.Labels["severity"] == "page" && a.State == "firing" {
				p.paged = append(p.paged, p.now.Format(time.TimeOnly))
			}
		}
	}
}

// finished commits runs that finished every so often in (from, to]; the third of each three failed.
func (p *platform) finished(from, to time.Time, every time.Duration, history bool) {
	p.t.Helper()
	b := exporter.Batch{Cursor: "gitlab/42", Position: to.String(), History: history}
	for at := from.Add(every); !at.After(to); at = at.Add(every) {
		p.runs++
		r := exporter.Run{
			ID: exporter.RunID{Source: "gitlab", Host: "git.example.com", Key: fmt.Sprintf("42/pipeline/%d", p.runs)}, Level: exporter.LevelPipeline, Entity: shop,
			Pipeline: "shop", Name: "shop", RefKind: "default", State: exporter.StateFinished, Result: exporter.ResultSuccess, Created: at, Started: at, Finished: at,
		}
		if p.runs%3 == 0 {
			p.failed++
			r.Result = exporter.ResultFailure
		}
		b.Runs = append(b.Runs, r)
	}
	if err := p.journal.Commit(p.t.Context(), b); err != nil {
		p.t.Fatal(err)
	}
}

// read says that the source was read, completely or not at all.
func (p *platform) read(err error) {
	p.t.Helper()
	if err == nil {
		if err := p.journal.Settle(p.t.Context(), "gitlab", "git.example.com"); err != nil {
			p.t.Fatal(err)
		}
	}
	if p.history != nil {
		p.history.synced(p.t.Context(), "gitlab", "git.example.com", err)
	}
}

// counts compares what the store says of the last 30 days with what finished: the counters, and the base of the budget.
func (p *platform) counts() {
	p.t.Helper()
	for expr, want := range map[string]int{
		`sum(increase(cicd_pipeline_runs_total[30d] anchored))`:                                 p.runs,
		`sum(increase(cicd_pipeline_runs_total{cicd_pipeline_result="failure"}[30d] anchored))`: p.failed,
		`sum(cicd_pipeline_runs_total)`:                                                         p.runs,
		`sum(resets(cicd_pipeline_runs_total[30d]))`:                                            0,
		`sum_over_time(` + slo.SeriesTotalPeriod + `[30d]) * 300`:                               p.runs,
		`sum_over_time(` + slo.SeriesErrorsPeriod + `[30d]) * 300`:                              p.failed,
	} {
		got, err := p.engine.Query(p.t.Context(), expr, p.now)
		if err != nil || len(got) != 1 || math.Abs(got[0].Value-float64(want)) > 1e-6 {
			p.t.Errorf("%s is %v (%v), want %d", expr, got, err, want)
		}
	}
}

func (p *platform) nobodyIsPaged() {
	p.t.Helper()
	if len(p.paged) > 0 {
		p.t.Errorf("paged at %s", strings.Join(p.paged, ", "))
	}
}

const quiet = 65 * time.Minute

func TestAFirstStartPlacesHistoryInThePastAndPagesNobody(t *testing.T) {
	p := newPlatform(t)
	p.open(true)
	start := p.now
	p.pass(2 * time.Minute) // while it reads
	p.finished(start.Add(-8*24*time.Hour), start.Add(-time.Hour), 2*time.Hour, true)
	p.pass(2 * time.Minute)
	p.finished(start.Add(-time.Hour), start, time.Minute, true) // something is wrong right now
	p.read(nil)
	p.pass(quiet)
	p.nobodyIsPaged()
	p.counts()
	// At the time of the events.
	got, err := p.engine.Query(t.Context(), `sum(increase(cicd_pipeline_runs_total[4d] anchored))`, start.Add(-time.Hour))
	if err != nil || len(got) != 1 || got[0].Value != 48 {
		t.Errorf("four days before the start: %v (%v), want 48 runs", got, err)
	}
	// What goes wrong now does page.
	p.finished(p.now, p.now.Add(3*time.Minute), 30*time.Second, false)
	p.pass(5 * time.Minute)
	if len(p.paged) == 0 {
		t.Error("nobody is paged for what goes wrong after the start")
	}
}

func TestCatchingUpAfterADowntimePagesNobody(t *testing.T) {
	for name, historian := range map[string]bool{"at the times of the events": true, "at once, which pages": false} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t)
			p.open(historian)
			p.read(nil)
			p.pass(time.Minute)
			p.finished(p.now.Add(-time.Minute), p.now, time.Minute, false)
			p.pass(time.Hour)
			down := p.now
			p.close()
			p.now = p.now.Add(6 * time.Hour)
			p.open(historian)
			p.pass(3 * time.Minute)
			p.finished(down, p.now.Add(-time.Minute), 4*time.Minute, false)
			p.read(nil)
			p.pass(quiet)
			if historian {
				p.nobodyIsPaged()
			} else if len(p.paged) == 0 {
				t.Error("nobody is paged, so this test proves nothing")
			}
			p.counts()
		})
	}
}

func TestCatchingUpAfterASourceWasAwayPagesNobody(t *testing.T) {
	p := newPlatform(t)
	p.open(true)
	p.read(nil)
	p.pass(time.Minute)
	p.finished(p.now.Add(-time.Minute), p.now, time.Minute, false)
	p.pass(time.Hour)
	away := p.now
	for range 100 {
		p.read(errors.New("GitLab does not answer"))
		p.pass(2 * time.Minute)
	}
	p.finished(away, p.now, 4*time.Minute, false)
	p.read(nil)
	p.pass(quiet)
	p.nobodyIsPaged()
	p.counts()
}

func TestRestartsLoseNothing(t *testing.T) {
	p := newPlatform(t)
	p.open(true)
	start := p.now
	p.finished(start.Add(-24*time.Hour), start, 10*time.Minute, true)
	p.read(nil)
	for i, away := range []time.Duration{0, time.Minute, 9 * time.Minute, 16 * time.Minute, 40 * time.Minute} {
		for _, reading := range []time.Duration{0, time.Minute, 8 * time.Minute, 25 * time.Minute} {
			p.pass(3 * time.Minute)
			down := p.now
			p.close()
			p.now = p.now.Add(away)
			p.open(true)
			p.pass(reading)
			p.finished(down, p.now, 70*time.Second, false)
			if i == 2 { // stopped before it was read completely
				down = p.now
				p.close()
				p.open(true)
				p.pass(reading)
				p.finished(down, p.now, 70*time.Second, false)
			}
			p.read(nil)
		}
	}
	p.pass(quiet)
	p.counts()
}
