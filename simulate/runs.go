package simulate

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// A Source yields the simulated pipelines and scaffolder tasks of a catalog. It follows the contract of
// exporter.Source, so it runs through the same journal as the real ones.
type Source struct {
	start    time.Time
	backfill time.Duration
	now      func() time.Time
}

// NewSource makes a Source whose first Sync yields backfill of history.
func NewSource(start time.Time, backfill time.Duration, now func() time.Time) *Source {
	return &Source{start, backfill, now}
}

// Name is "simulated".
func (s *Source) Name() string { return "simulated" }

// Host is the simulated host.
func (s *Source) Host() string { return Host }

// Sync commits what has finished since the last one.
func (s *Source) Sync(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	const cursor = "simulated/" + Host
	from, history := s.start.Add(-s.backfill), true
	if position, ok := to.Position(cursor); ok {
		seconds, err := strconv.ParseInt(position, 10, 64)
		if err != nil {
			return fmt.Errorf("read cursor %s: %w", cursor, err)
		}
		from, history = time.Unix(seconds, 0), false
	}
	until := s.now().Truncate(time.Second)
	p := newPlayer(g, s.start)
	for from.Before(until) {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := from.Add(24 * time.Hour)
		if next.After(until) {
			next = until
		}
		runs, seen := p.play(from, next)
		batch := exporter.Batch{Runs: runs, Seen: seen, Cursor: cursor, Position: strconv.FormatInt(next.Unix(), 10), History: history}
		if err := to.Commit(ctx, batch); err != nil {
			return err
		}
		from = next
	}
	if history { // a batch that is none shows it
		return to.Commit(ctx, exporter.Batch{Cursor: cursor, Position: strconv.FormatInt(until.Unix(), 10)})
	}
	return nil
}

// Runs are the simulated pipelines, jobs, tasks and steps that finished in (from, until], oldest first.
func Runs(g *catalog.Graph, from, until time.Time) []exporter.Run {
	var out []exporter.Run
	p := newPlayer(g, from)
	for from.Before(until) {
		next := from.Add(24 * time.Hour)
		if next.After(until) {
			next = until
		}
		runs, _ := p.play(from, next)
		out = append(out, runs...)
		from = next
	}
	return out
}

// A player plays the days of a catalog, each once as long as its time goes on.
type player struct {
	graph *catalog.Graph
	start time.Time // of the simulation
	days  map[time.Time][]played
}

func newPlayer(g *catalog.Graph, start time.Time) *player {
	return &player{g, start, map[time.Time][]played{}}
}

// play gives the runs that finished in (from, until], and what was measured beside them in that time, both oldest first. It
// must not go back in time.
func (p *player) play(from, until time.Time) (runs []exporter.Run, seen []exporter.Observation) {
	first := from.Add(-journeys - 24*time.Hour).UTC().Truncate(24 * time.Hour)
	maps.DeleteFunc(p.days, func(day time.Time, _ []played) bool { return day.Before(first) })
	within := func(t time.Time) bool { return t.After(from) && !t.After(until) }
	for day := first; day.Before(until); day = day.Add(24 * time.Hour) {
		if p.days[day] == nil {
			p.days[day] = p.day(day, day.Add(48*time.Hour).After(from)) // pipelines end at the latest on the day after
		}
		for i := range p.days[day] {
			one := &p.days[day][i]
			for j := range one.runs {
				if within(one.runs[j].Finished) {
					runs = append(runs, one.runs[j])
				}
			}
			for j := range one.seen {
				if within(one.seen[j].At) {
					seen = append(seen, one.seen[j])
				}
			}
		}
	}
	slices.SortStableFunc(runs, func(a, b exporter.Run) int { return a.Finished.Compare(b.Finished) })
	slices.SortStableFunc(seen, func(a, b exporter.Observation) int { return a.At.Compare(b.At) })
	return runs, seen
}

// day plays what begins on a day.
func (p *player) day(day time.Time, pipelines bool) []played {
	out := []played{}
	for e := range p.graph.Entities() {
		switch {
		case e.Ref.Kind == "template":
			out = append(out, tasksOfDay(p.graph, e, day)...)
		case pipelines && simulated(e):
			out = append(append(out, pipelinesOfDay(p.graph, e, day)...), played{seen: failures(p.graph, e, p.start, day)})
		}
	}
	return out
}

// simulated tells whether pipelines of an entity are played.
func simulated(e *catalog.Entity) bool {
	return e.Ref.Kind != "template" && e.Annotations["gitlab.com/project-slug"] != "" && e.Ref.Name != staleService
}

type step struct {
	name    string
	seconds float64
	fails   float64 // probability
}

var jobs = []step{{"build", 95, 0.03}, {"test", 180, 0.05}, {"scan", 40, 0.004}, {"deploy", 60, 0.01}}

var steps = []step{{"fetch", 3, 0.01}, {"publish", 9, 0.03}, {"register", 2, 0.005}}

func pipelinesOfDay(g *catalog.Graph, e *catalog.Entity, day time.Time) []played {
	n := 2 + int(8*unit(e.Ref, "busy")*unit(e.Ref, day.Unix(), "n"))
	if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
		n /= 4
	}
	project := hash(e.Ref, "project") % 9000
	var out []played
	for k := range n {
		number := day.Unix()/86400*1000 + int64(k)
		kind := "default"
		if unit(e.Ref, number, "kind") < 0.55 {
			kind = "merge_request"
		}
		created := day.Add(7*time.Hour + time.Duration(12*unit(e.Ref, number, "at")*float64(time.Hour))).Truncate(time.Second)
		shape := runShape{
			g: g, e: e, source: "gitlab", key: fmt.Sprintf("%d/pipeline/%d", project, number),
			childKey: func(j int) string { return fmt.Sprintf("%d/job/%d%02d", project, number, j) },
			pipeline: e.Ref.Name, refKind: kind, created: created, steps: jobs, flaky: flakiness(e.Ref),
			retries: true, busiest: 100,
			url: fmt.Sprintf("https://%s/%s/-/pipelines/%d", Host, e.Annotations["gitlab.com/project-slug"], number),
		}
		p := played{runs: shape.runs()}
		id := strconv.FormatUint(project, 10)
		p.measureJobs()
		p.measureFeedback(id)
		p.measureDeployment(id)
		out = append(out, p)
	}
	return out
}

// flakiness is how much likelier than the table's a component's jobs fail: few components are bad at it.
func flakiness(ref catalog.Ref) float64 {
	if u := unit(ref, "flaky"); u < 0.92 {
		return 0.2 + 0.6*u
	}
	return 1.8
}

func tasksOfDay(g *catalog.Graph, e *catalog.Entity, day time.Time) []played {
	n := 1 + int(4*unit(e.Ref, day.Unix(), "n"))
	if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
		n = 0
	}
	owners := g.Owners()
	var out []played
	for k := range n {
		id := fmt.Sprintf("%016x", hash(e.Ref, day.Unix(), k, "task"))
		shape := runShape{
			g: g, e: e, source: "scaffolder", key: id,
			childKey: func(j int) string { return fmt.Sprintf("%s/step/%s", id, steps[j].name) },
			pipeline: e.Ref.Name, created: day.Add(7*time.Hour + time.Duration(11*unit(e.Ref, id, "at")*float64(time.Hour))).Truncate(time.Second),
			steps: steps, flaky: 0.4 + unit(e.Ref, "flaky"), url: "https://backstage.simulated/create/tasks/" + id,
		}
		p := played{runs: shape.runs()}
		p.measureJourney(owners)
		out = append(out, p)
	}
	return out
}

// A runShape is what one pipeline or task looks like before it is played.
type runShape struct {
	g                      *catalog.Graph
	e                      *catalog.Entity
	source, key            string
	childKey               func(i int) string
	pipeline, refKind, url string
	created                time.Time
	steps                  []step
	flaky                  float64
	busiest                float64 // the longest wait for a runner, in seconds
	retries                bool    // a job that fails may be tried again
}

// retried is how likely the first attempt at a step fails for no reason of its own.
func (s *runShape) retried(st step) bool {
	rate := 0.008
	if st.name == "test" {
		rate = 0.05
	}
	return s.retries && unit(s.key, st.name, "retried") < rate*s.flaky
}

// runs plays the steps one after the other; the first that fails ends the run, and what follows is skipped. The last one is
// the whole.
func (s *runShape) runs() []exporter.Run {
	base := exporter.Run{
		Entity: s.e.Ref, Owner: s.g.Owner(s.e.Ref), System: s.g.System(s.e.Ref), Pipeline: s.pipeline, RefKind: s.refKind,
		State: exporter.StateFinished, Attempt: exporter.AttemptFirst, URL: s.url, Created: s.created,
	}
	id := exporter.RunID{Source: s.source, Host: Host, Key: s.key}
	queued := math.Round(2 + 18*unit(s.key, "queue"))
	at := s.created.Add(time.Duration(queued) * time.Second)
	whole := base
	whole.ID, whole.Level, whole.Name, whole.Started, whole.Queued, whole.Result = id, exporter.LevelPipeline, s.pipeline, at, &queued, exporter.ResultSuccess
	busy := 0.0
	var out []exporter.Run
	for i, st := range s.steps {
		child := base
		child.ID, child.Parent, child.Level, child.Name = exporter.RunID{Source: s.source, Host: Host, Key: s.childKey(i)}, id, exporter.LevelTask, st.name
		if whole.Result != exporter.ResultSuccess {
			child.Result, child.Finished = exporter.ResultSkip, at
			out = append(out, child)
			continue
		}
		if s.retried(st) {
			duration, wait := math.Round(st.seconds*(0.3+0.9*unit(s.key, st.name, "first d"))), 1+math.Round(4*unit(s.key, st.name, "first q"))
			first := child
			first.ID.Key = s.childKey(50 + i)
			first.Started, first.Queued, first.Duration = at.Add(time.Duration(wait)*time.Second), &wait, &duration
			at = first.Started.Add(time.Duration(duration) * time.Second)
			first.Finished, first.Result, first.Reason = at, exporter.ResultFailure, "script_failure"
			if st.name != "test" {
				first.Result, first.Reason = exporter.ResultError, "runner_system_failure"
			}
			busy += duration
			out = append(out, first)
		}
		duration := math.Round(st.seconds * (0.6 + 0.9*unit(s.key, st.name, "d")))
		wait := 1 + math.Round(4*unit(s.key, st.name, "q")+s.busiest*math.Pow(unit(s.key, st.name, "busy"), 8))
		child.Started, child.Queued, child.Duration = at.Add(time.Duration(wait)*time.Second), &wait, &duration
		at = child.Started.Add(time.Duration(duration) * time.Second)
		child.Finished, child.Result = at, exporter.ResultSuccess
		busy += duration
		if unit(s.key, st.name, "fails") < st.fails*s.flaky {
			child.Result, child.Reason = exporter.ResultFailure, "script_failure"
			if unit(s.key, "platform") < 0.2 {
				child.Result, child.Reason = exporter.ResultError, "runner_system_failure"
			}
			whole.Result, whole.Reason = child.Result, child.Reason
		}
		out = append(out, child)
	}
	if whole.Result == exporter.ResultSuccess && unit(s.key, "cancelled") < 0.02 {
		whole.Result = exporter.ResultCancellation
	}
	whole.Finished, whole.Duration = at, &busy
	return append(out, whole)
}
