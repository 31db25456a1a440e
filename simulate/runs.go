package simulate

import (
	"context"
	"fmt"
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
	for from.Before(until) {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := from.Add(24 * time.Hour)
		if next.After(until) {
			next = until
		}
		batch := exporter.Batch{Runs: Runs(g, from, next), Cursor: cursor, Position: strconv.FormatInt(next.Unix(), 10), History: history}
		if err := to.Commit(ctx, batch); err != nil {
			return err
		}
		from = next
	}
	return nil
}

// Runs are the simulated pipelines, jobs, tasks and steps that finished in (from, until], oldest first.
func Runs(g *catalog.Graph, from, until time.Time) []exporter.Run {
	var out []exporter.Run
	for day := from.Add(-24 * time.Hour).UTC().Truncate(24 * time.Hour); day.Before(until); day = day.Add(24 * time.Hour) {
		for e := range g.Entities() {
			for _, r := range runsOfDay(g, e, day) {
				if r.Finished.After(from) && !r.Finished.After(until) {
					out = append(out, r)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b exporter.Run) int { return a.Finished.Compare(b.Finished) })
	return out
}

func runsOfDay(g *catalog.Graph, e *catalog.Entity, day time.Time) []exporter.Run {
	switch {
	case e.Ref.Kind == "template":
		return tasksOfDay(g, e, day)
	case e.Annotations["gitlab.com/project-slug"] != "" && e.Ref.Name != staleService:
		return pipelinesOfDay(g, e, day)
	}
	return nil
}

type step struct {
	name    string
	seconds float64
	fails   float64 // probability
}

var jobs = []step{{"build", 95, 0.03}, {"test", 180, 0.05}, {"scan", 40, 0.004}, {"deploy", 60, 0.01}}

var steps = []step{{"fetch", 3, 0.01}, {"publish", 9, 0.03}, {"register", 2, 0.005}}

func pipelinesOfDay(g *catalog.Graph, e *catalog.Entity, day time.Time) []exporter.Run {
	n := 2 + int(8*unit(e.Ref, "busy")*unit(e.Ref, day.Unix(), "n"))
	if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
		n /= 4
	}
	project := hash(e.Ref, "project") % 9000
	var out []exporter.Run
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
			url: fmt.Sprintf("https://%s/%s/-/pipelines/%d", Host, e.Annotations["gitlab.com/project-slug"], number),
		}
		out = append(out, shape.runs()...)
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

func tasksOfDay(g *catalog.Graph, e *catalog.Entity, day time.Time) []exporter.Run {
	n := 1 + int(4*unit(e.Ref, day.Unix(), "n"))
	if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
		n = 0
	}
	var out []exporter.Run
	for k := range n {
		id := fmt.Sprintf("%016x", hash(e.Ref, day.Unix(), k, "task"))
		shape := runShape{
			g: g, e: e, source: "scaffolder", key: id,
			childKey: func(j int) string { return fmt.Sprintf("%s/step/%s", id, steps[j].name) },
			pipeline: e.Ref.Name, created: day.Add(7*time.Hour + time.Duration(11*unit(e.Ref, id, "at")*float64(time.Hour))).Truncate(time.Second),
			steps: steps, flaky: 0.4 + unit(e.Ref, "flaky"), url: "https://backstage.simulated/create/tasks/" + id,
		}
		out = append(out, shape.runs()...)
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
}

// runs plays the steps one after the other; the first that fails ends the run, and what follows is skipped.
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
		duration := math.Round(st.seconds * (0.6 + 0.9*unit(s.key, st.name, "d")))
		wait := 1 + math.Round(4*unit(s.key, st.name, "q"))
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
