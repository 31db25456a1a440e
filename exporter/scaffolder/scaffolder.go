// Package scaffolder reads Backstage's scaffolder: one Run per finish of a task, and one per step of it. Tasks are
// counted from the API, because Backstage's own metric counts a task once per failing step, takes cancellations for
// failures, and has no series before the first task.
//
// Tasks are listed newest first, so tasks made while pages are read are seen twice at worst, and never missed. The
// position remembers the tasks it has read, so that an interrupted reading goes on where it was. A retry is noticed by
// the changed heartbeat of a task among the newest 100, or of any task that has not finished.
package scaffolder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// API asks Backstage. GetJSON decodes the answer to a GET of the path (which begins with /api) into a value.
type API interface {
	GetJSON(ctx context.Context, path string, into any) (http.Header, error)
}

const (
	pageSize = 100
	// slack is how far the creation times of tasks may lie behind the order in which they become visible.
	slack = 10 * time.Minute
)

// A Source follows the scaffolder of one Backstage. It implements exporter.Source.
type Source struct {
	api  API
	base *url.URL
	now  func() time.Time
}

// New makes a Source. baseURL is Backstage's address, which is where the host of the runs comes from; now is the
// clock, time.Now in production.
func New(api API, baseURL string, now func() time.Time) (*Source, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("backstage base URL: %w", err)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("backstage base URL %q has no host", baseURL)
	}
	return &Source{api: api, base: u, now: now}, nil
}

// Name is "scaffolder".
func (s *Source) Name() string { return "scaffolder" }

// Host is the host of Backstage's base URL, without port.
func (s *Source) Host() string { return s.base.Hostname() }

// seen is what the position remembers of a task.
type seen struct {
	Created   time.Time `json:"c"`
	Heartbeat string    `json:"h,omitempty"`
	Event     int64     `json:"e,omitempty"` // id of the last completion event that was counted
	Done      bool      `json:"d,omitempty"` // finished and read, unless the heartbeat changes
}

type position struct {
	Start time.Time       `json:"start"` // what finished before it is history
	Since time.Time       `json:"since"` // every task created before it has been seen
	Tasks map[string]seen `json:"tasks"`
}

// Sync reads what is new. The failure of one task does not stop the others; it is asked for again the next time.
func (s *Source) Sync(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	cursor := "scaffolder/" + s.Host()
	p := position{Start: s.now()}
	if text, ok := to.Position(cursor); ok {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return fmt.Errorf("stored position of %s: %w", cursor, err)
		}
	}
	if p.Tasks == nil {
		p.Tasks = map[string]seen{}
	}
	c := &reading{Source: s, graph: g, to: to, cursor: cursor, position: p, listed: map[string]bool{}}
	return c.run(ctx)
}

// A reading is one Sync.
type reading struct {
	*Source
	position
	graph  *catalog.Graph
	to     exporter.Sink
	cursor string
	listed map[string]bool // tasks met in this reading
	errs   []error
}

func (c *reading) run(ctx context.Context) error {
	before, _ := json.Marshal(c.position)
	var newest time.Time
	first := map[string]bool{} // tasks of the first page are remembered, so that retries are noticed
	for offset := 0; ; {
		var page struct {
			Tasks []task `json:"tasks"`
		}
		path := "/api/scaffolder/v2/tasks?limit=" + strconv.Itoa(pageSize) + "&offset=" + strconv.Itoa(offset) + "&order=desc:created_at"
		if _, err := c.api.GetJSON(ctx, path, &page); err != nil {
			return errors.Join(append(c.errs, fmt.Errorf("list tasks: %w", err))...)
		}
		old := false
		for _, t := range page.Tasks {
			if t.CreatedAt.After(newest) {
				newest = t.CreatedAt
			}
			old = old || t.CreatedAt.Before(c.Since)
			if offset == 0 {
				first[t.ID] = true
			}
		}
		if err := c.take(ctx, page.Tasks); err != nil {
			return errors.Join(append(c.errs, err)...)
		}
		if old || len(page.Tasks) < pageSize {
			break
		}
		offset += len(page.Tasks)
	}
	var rest []task
	var ids []string
	for id, t := range c.Tasks {
		if !t.Done && !c.listed[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		var t task
		if _, err := c.api.GetJSON(ctx, "/api/scaffolder/v2/tasks/"+url.PathEscape(id), &t); err != nil {
			c.errs = append(c.errs, fmt.Errorf("task %s: %w", id, err))
			continue
		}
		rest = append(rest, t)
	}
	if err := c.take(ctx, rest); err != nil {
		return errors.Join(append(c.errs, err)...)
	}
	if since := newest.Add(-slack); since.After(c.Since) {
		c.Since = since
	}
	for id, t := range c.Tasks {
		if t.Done && !first[id] && t.Created.Before(c.Since) {
			delete(c.Tasks, id)
		}
	}
	if after, _ := json.Marshal(c.position); string(after) != string(before) {
		if err := c.commit(ctx, nil, false); err != nil {
			c.errs = append(c.errs, err)
		}
	}
	return errors.Join(c.errs...)
}

// take reads the tasks that changed and commits their runs, history first.
func (c *reading) take(ctx context.Context, tasks []task) error {
	type found struct {
		id   string
		mark seen
		runs []exporter.Run
	}
	var history, news []found
	for _, t := range tasks {
		if t.ID == "" || c.listed[t.ID] {
			continue
		}
		c.listed[t.ID] = true
		known, ok := c.Tasks[t.ID]
		if ok && known.Done && known.Heartbeat == t.Heartbeat && t.terminal() {
			continue
		}
		if !ok && !c.Since.IsZero() && t.CreatedAt.Before(c.Since) {
			continue // read, and forgotten since
		}
		f := found{id: t.ID, mark: seen{Created: t.CreatedAt, Heartbeat: t.Heartbeat, Event: known.Event}}
		switch {
		case t.dryRun():
			f.mark.Done = true
		case !t.terminal():
			if ok && !known.Done && known.Heartbeat != "" && t.Heartbeat != "" {
				c.Tasks[t.ID] = f.mark // still running: nothing new to tell
				continue
			}
			f.runs = []exporter.Run{c.running(t, known.Event > 0)}
		default:
			var events []event
			if _, err := c.api.GetJSON(ctx, "/api/scaffolder/v2/tasks/"+url.PathEscape(t.ID)+"/events", &events); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c.errs = append(c.errs, fmt.Errorf("events of task %s: %w", t.ID, err))
				f.mark.Heartbeat = "" // ask again
				break
			}
			f.runs, f.mark.Event = c.finished(t, events, known.Event)
			f.mark.Done = f.mark.Event > known.Event || known.Done || c.now().Sub(t.CreatedAt) > 24*time.Hour
		}
		past := len(f.runs) > 0
		for _, r := range f.runs {
			past = past && !r.Finished.IsZero() && r.Finished.Before(c.Start)
		}
		if past {
			history = append(history, f)
		} else {
			news = append(news, f)
		}
	}
	for _, part := range []struct {
		found   []found
		history bool
	}{{history, true}, {news, false}} {
		var runs []exporter.Run
		for _, f := range part.found {
			c.Tasks[f.id] = f.mark
			runs = append(runs, f.runs...)
		}
		if len(runs) > 0 {
			if err := c.commit(ctx, runs, part.history); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *reading) commit(ctx context.Context, runs []exporter.Run, history bool) error {
	text, err := json.Marshal(c.position)
	if err != nil {
		return fmt.Errorf("position of %s: %w", c.cursor, err)
	}
	slices.SortFunc(runs, func(a, b exporter.Run) int {
		return cmp.Or(a.Finished.Compare(b.Finished), cmp.Compare(a.ID.Key, b.ID.Key))
	})
	return c.to.Commit(ctx, exporter.Batch{Runs: runs, Cursor: c.cursor, Position: string(text), History: history})
}

func (c *reading) describe(t task) exporter.Run {
	ref := t.template()
	r := exporter.Run{
		ID: exporter.RunID{Source: "scaffolder", Host: c.Host(), Key: t.ID}, Level: exporter.LevelPipeline, Pipeline: ref.Name, Name: ref.Name,
		Created: t.CreatedAt, URL: c.base.JoinPath("create", "tasks", t.ID).String(),
	}
	if c.graph != nil && c.graph.Entity(ref) != nil {
		r.Entity, r.Owner, r.System = ref, c.graph.Owner(ref), c.graph.System(ref)
	}
	return r
}

func (c *reading) running(t task, again bool) exporter.Run {
	r := c.describe(t)
	r.State, r.Attempt = exporter.StateExecuting, exporter.AttemptFirst
	if t.Status == "open" {
		r.State = exporter.StatePending
	}
	if again {
		r.Attempt = exporter.AttemptRerun
	}
	return r
}

// finished gives the runs of every attempt that was completed by an event newer than after, and that event's id.
func (c *reading) finished(t task, events []event, after int64) ([]exporter.Run, int64) {
	var runs []exporter.Run
	last := after
	for n, events := range attempts(events) {
		end := events[len(events)-1]
		if end.Type != "completion" || end.ID <= after {
			continue
		}
		last = end.ID
		r := c.describe(t)
		r.State, r.Attempt = exporter.StateFinished, exporter.AttemptFirst
		if n > 0 || after > 0 {
			r.Attempt = exporter.AttemptRerun
		}
		r.Started, r.Finished = events[0].CreatedAt, end.CreatedAt
		r.Duration = seconds(r.Started, r.Finished)
		if r.Attempt == exporter.AttemptFirst {
			r.Queued = seconds(t.CreatedAt, r.Started)
		}
		r.Result = exporter.ResultSuccess
		if len(end.Body.Error) > 0 && string(end.Body.Error) != "null" || end.Body.Message == "Run completed with status: failed" {
			r.Result = exporter.ResultFailure
		}
		if slices.ContainsFunc(events, func(e event) bool { return e.Type == "cancelled" }) || end.Body.Message == "Run completed with status: cancelled" {
			r.Result = exporter.ResultCancellation
		}
		runs = append(runs, r)
		for _, st := range steps(events, r.Finished) {
			sr := r
			sr.ID.Key = "task/" + t.ID + "/step/" + st.id
			if n > 0 {
				sr.ID.Key += "/retry/" + strconv.Itoa(n)
			}
			sr.Parent, sr.Level, sr.Name, sr.Result, sr.Queued = r.ID, exporter.LevelTask, normalise(st.id), st.result, nil
			sr.Created, sr.Started, sr.Finished, sr.Duration = time.Time{}, st.started, st.ended, nil
			if !st.started.IsZero() {
				sr.Duration = seconds(st.started, st.ended)
			}
			runs = append(runs, sr)
		}
	}
	return runs, last
}

func seconds(from, to time.Time) *float64 {
	d := max(to.Sub(from).Seconds(), 0)
	return &d
}
