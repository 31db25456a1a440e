// Package scaffolder reads Backstage's scaffolder: one Run per finish of a task, and one per step of it. Tasks are
// counted from the API, because Backstage's own metric counts a task once per failing step, takes cancellations for
// failures, and has no series before the first task.
//
// Tasks are listed newest first, so tasks made while pages are read are seen twice at worst, and never missed. The
// position remembers the tasks it has read, so that an interrupted reading goes on where it was. A retry is noticed by
// the changed heartbeat of a task among the newest 100, and of an older task by its being listed as unfinished; a retry
// of an older task that begins and ends between two readings is missed.
//
// What finished before the first reading began is history, which becomes the starting value of the counters; what
// finished since then is news. News waits until all history has been read, because a counter that is shown takes no
// history in.
package scaffolder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// API asks Backstage. GetJSON decodes the answer to a GET of the path (which begins with /api) into a value.
type API interface {
	GetJSON(ctx context.Context, path string, into any) (http.Header, error)
}

const (
	pageSize = 100
	// slack is how far the creation times of tasks may lie behind the order in which they become visible.
	slack = 10 * time.Minute
	// patience is how long a task that says that it has finished may go without the event that says when and how.
	patience = time.Hour
)

// A Source follows the scaffolder of one Backstage. It implements exporter.Source.
type Source struct {
	api  API
	base *url.URL
	now  func() time.Time

	makes []*url.URL // systems on which tasks make projects
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
	Status    string    `json:"s,omitempty"`
	Heartbeat string    `json:"h,omitempty"`
	Event     int64     `json:"e,omitempty"` // id of the last event of the last attempt that was counted
	Done      bool      `json:"d,omitempty"` // finished and read, unless the heartbeat changes
	Again     bool      `json:"a,omitempty"` // had been forgotten when it was retried
}

// rerun tells whether the next finish of the task is not its first.
func (s seen) rerun() bool { return s.Event > 0 || s.Again }

type position struct {
	Start time.Time       `json:"start"` // what finished before it is history
	Read  bool            `json:"read"`  // all history has been read
	Since time.Time       `json:"since"` // every task created before it has been seen
	Tasks map[string]seen `json:"tasks"`
}

// Sync reads what is new. The failure of one task does not stop the others; it is asked for again the next time.
func (s *Source) Sync(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	c := &reading{Source: s, graph: g, to: to, cursor: "scaffolder/" + s.Host(), position: position{Start: s.now()}, listed: map[string]bool{}}
	text, ok := to.Position(c.cursor)
	if ok {
		if err := json.Unmarshal([]byte(text), &c.position); err != nil {
			return fmt.Errorf("stored position of %s: %w", c.cursor, err)
		}
	}
	if c.Tasks == nil {
		c.Tasks = map[string]seen{}
	}
	return c.run(ctx, ok)
}

// found is a task that changed.
type found struct {
	id   string
	mark seen
	runs []exporter.Run
	made []made
}

// A reading is one Sync.
type reading struct {
	*Source
	position
	graph  *catalog.Graph
	to     exporter.Sink
	cursor string
	listed map[string]bool // tasks met in this reading
	held   []found         // news that waits for history
	errs   []error
}

func (c *reading) run(ctx context.Context, stored bool) error {
	before, _ := json.Marshal(c.position)
	var newest time.Time
	first := map[string]bool{} // tasks of the first page are remembered, so that retries are noticed
	err := c.list(ctx, "", func(offset int, tasks []task) (bool, error) {
		old := false
		for _, t := range tasks {
			if t.CreatedAt.After(newest) {
				newest = t.CreatedAt
			}
			old = old || t.CreatedAt.Before(c.Since)
			if offset == 0 {
				first[t.ID] = true
			}
		}
		if !stored { // from here on it is known what is news, whatever becomes of this reading
			if err := c.commit(ctx, exporter.Batch{History: true}); err != nil {
				return false, err
			}
			stored = true
		}
		return !old, c.take(ctx, tasks, false)
	})
	if err != nil {
		return errors.Join(append(c.errs, err)...)
	}
	err = c.list(ctx, "&status=open&status=processing", func(_ int, tasks []task) (bool, error) {
		return true, c.take(ctx, tasks, true)
	})
	if err != nil {
		return errors.Join(append(c.errs, err)...)
	}
	rest, gone := c.unlisted(ctx)
	if err := c.take(ctx, rest, false); err != nil {
		return errors.Join(append(c.errs, err)...)
	}
	if !c.Read {
		if len(c.errs) > 0 && c.now().Sub(c.Start) < slack {
			return errors.Join(c.errs...)
		}
		c.Read = true
		if err := c.commit(ctx, exporter.Batch{}); err != nil { // shows the history
			return errors.Join(append(c.errs, err)...)
		}
		if err := c.count(ctx, c.held, false); err != nil {
			return errors.Join(append(c.errs, err)...)
		}
	}
	if err := c.ready(ctx); err != nil {
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
	for _, id := range gone {
		delete(c.Tasks, id.Key)
	}
	if after, _ := json.Marshal(c.position); string(after) != string(before) {
		if err := c.commit(ctx, exporter.Batch{Gone: gone}); err != nil {
			c.errs = append(c.errs, err)
		}
	}
	return errors.Join(c.errs...)
}

// list hands over the tasks page by page, newest first, until a page is the last one or no more are wanted.
func (c *reading) list(ctx context.Context, filter string, page func(offset int, tasks []task) (more bool, err error)) error {
	for offset := 0; ; {
		var answer struct {
			Tasks []task `json:"tasks"`
		}
		path := "/api/scaffolder/v2/tasks?limit=" + strconv.Itoa(pageSize) + "&offset=" + strconv.Itoa(offset) + "&order=desc:created_at" + filter
		if _, err := c.api.GetJSON(ctx, path, &answer); err != nil {
			return fmt.Errorf("list tasks: %w", err)
		}
		more, err := page(offset, answer.Tasks)
		if err != nil || !more || len(answer.Tasks) < pageSize {
			return err
		}
		offset += len(answer.Tasks)
	}
}

// unlisted asks for the unfinished tasks that no list held, and tells which of them were deleted.
func (c *reading) unlisted(ctx context.Context) (rest []task, gone []exporter.RunID) {
	for _, id := range slices.Sorted(maps.Keys(c.Tasks)) {
		if c.Tasks[id].Done || c.listed[id] {
			continue
		}
		var t task
		_, err := c.api.GetJSON(ctx, taskPath(id), &t)
		var status *upstream.StatusError
		switch {
		case err == nil:
			rest = append(rest, t)
		case errors.As(err, &status) && status.Code == http.StatusNotFound && status.Message != "": // a Backstage that is starting says nothing
			gone = append(gone, c.id(id))
		default:
			c.errs = append(c.errs, fmt.Errorf("task %s: %w", id, err))
		}
	}
	return rest, gone
}

func taskPath(id string) string { return "/api/scaffolder/v2/tasks/" + url.PathEscape(id) }

func (c *reading) id(task string) exporter.RunID {
	return exporter.RunID{Source: "scaffolder", Host: c.Host(), Key: task}
}

// take reads the tasks that changed and counts their runs, history first. Tasks that are unfinished are news even when they
// are old and forgotten.
func (c *reading) take(ctx context.Context, tasks []task, unfinished bool) error {
	var history, news []found
	for _, t := range tasks {
		if t.ID == "" || c.listed[t.ID] {
			continue
		}
		known, ok := c.Tasks[t.ID]
		forgotten := !ok && c.Read && t.CreatedAt.Before(c.Since)
		if forgotten && !unfinished {
			continue
		}
		c.listed[t.ID] = true
		if ok && known.Done && known.Heartbeat == t.Heartbeat && t.terminal() {
			continue
		}
		f := found{id: t.ID, mark: seen{Created: t.CreatedAt, Status: t.Status, Heartbeat: t.Heartbeat, Event: known.Event, Again: known.Again || forgotten}}
		var events []event
		switch {
		case t.dryRun():
			f.mark.Done = true
		case !t.terminal() && ok && !known.Done && known.Status == t.Status:
			c.Tasks[t.ID] = f.mark // nothing new to tell
			continue
		case !t.terminal() && c.Read:
			f.runs = []exporter.Run{c.running(t, f.mark)}
		default: // of a task that runs at the first start, the attempts before this one are history
			if _, err := c.api.GetJSON(ctx, taskPath(t.ID)+"/events", &events); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c.errs = append(c.errs, fmt.Errorf("events of task %s: %w", t.ID, err))
				f.mark.Status = "" // ask again
				break
			}
			past, rest := c.split(c.finished(t, events, f.mark))
			f.made = c.made(t, events, slices.Concat(past.runs, rest.runs))
			if len(past.runs) > 0 {
				f.mark.Event, f.runs = past.event, past.runs
				f.mark.Done = t.terminal() && len(rest.runs) == 0
				h := f
				if !h.mark.Done {
					h.mark.Status = "" // there is more to read, should this reading end here
				}
				history = append(history, h)
			}
			switch f.runs = rest.runs; {
			case len(rest.runs) > 0:
				f.mark.Event, f.mark.Done = rest.event, t.terminal()
			case f.mark.Done:
				continue
			}
			if !t.terminal() {
				f.runs = append(f.runs, c.running(t, f.mark))
			}
		}
		news = append(news, f)
	}
	if err := c.count(ctx, history, true); err != nil {
		return err
	}
	if !c.Read {
		c.held = append(c.held, news...)
		return nil
	}
	return c.count(ctx, news, false)
}

// split tells history from news; finishes are in the order of time.
func (c *reading) split(finishes []finish) (past, rest finish) {
	for _, f := range finishes {
		part := &past
		if !f.runs[0].Finished.Before(c.Start) {
			part = &rest
		}
		part.event, part.runs = f.event, append(part.runs, f.runs...)
	}
	return past, rest
}

// count commits the runs of tasks together with the knowledge that they were read.
func (c *reading) count(ctx context.Context, tasks []found, history bool) error {
	if err := c.leave(ctx, tasks); err != nil {
		return err
	}
	var runs []exporter.Run
	for _, f := range tasks {
		c.Tasks[f.id] = f.mark
		runs = append(runs, f.runs...)
	}
	if len(runs) == 0 {
		return nil
	}
	slices.SortFunc(runs, func(a, b exporter.Run) int {
		return cmp.Or(a.Finished.Compare(b.Finished), cmp.Compare(a.ID.Key, b.ID.Key))
	})
	return c.commit(ctx, exporter.Batch{Runs: runs, History: history})
}

// commit stores a batch with the position that has been reached.
func (c *reading) commit(ctx context.Context, b exporter.Batch) error {
	text, err := json.Marshal(c.position)
	if err != nil {
		return fmt.Errorf("position of %s: %w", c.cursor, err)
	}
	b.Cursor, b.Position = c.cursor, string(text)
	return c.to.Commit(ctx, b)
}

func (c *reading) describe(t task) exporter.Run {
	ref := t.template()
	r := exporter.Run{
		ID: c.id(t.ID), Level: exporter.LevelPipeline, Pipeline: ref.Name, Name: ref.Name,
		Created: t.CreatedAt, URL: c.base.JoinPath("create", "tasks", t.ID).String(),
	}
	if c.graph != nil && c.graph.Entity(ref) != nil {
		r.Entity, r.Owner, r.System = ref, c.graph.Owner(ref), c.graph.System(ref)
	}
	return r
}

func (c *reading) running(t task, mark seen) exporter.Run {
	r := c.describe(t)
	r.State, r.Attempt = exporter.StateExecuting, exporter.AttemptFirst
	if t.Status == "open" {
		r.State = exporter.StatePending
	}
	if mark.rerun() {
		r.Attempt = exporter.AttemptRerun
	}
	return r
}

// A finish is what one attempt at a task, or several, left behind.
type finish struct {
	event int64 // the last one of the attempt
	runs  []exporter.Run
}

// finished gives the attempts that finished and have not been counted, oldest first. What began after the end of the last one that was
// counted has not: a line can be written after that end, and a retry deletes the end.
func (c *reading) finished(t task, events []event, mark seen) []finish {
	var out []finish
	again := mark.rerun()
	parts := attempts(events)
	for n, events := range parts {
		last := n == len(parts)-1
		if last && !t.terminal() {
			break // when it is said to run, it is for the next reading
		}
		result := t.outcome(events, last)
		if result == "" {
			continue
		}
		f := finish{event: events[len(events)-1].ID}
		if events[0].ID > mark.Event && (last || mark.Event > 0 || !mark.Again) { // of a forgotten task, all but the last attempt have been counted
			f.runs = c.attempt(t, events, result, again, n)
			out = append(out, f)
		}
		again = true
	}
	news := mark.Event == 0 || slices.ContainsFunc(events, func(e event) bool { return e.ID > mark.Event })
	if end := t.lastSign(events); len(out) == 0 && news && t.terminal() && c.now().Sub(end) > patience {
		r := c.describe(t)
		r.State, r.Attempt, r.Result, r.Finished, r.Reason = exporter.StateFinished, exporter.AttemptFirst, t.result(), end, "no completion event"
		if again {
			r.Attempt = exporter.AttemptRerun
		}
		f := finish{event: max(mark.Event, 1), runs: []exporter.Run{r}}
		for _, e := range events {
			f.event = max(f.event, e.ID)
		}
		out = append(out, f)
	}
	return out
}

// began is the event with which an attempt began.
func began(events []event) event {
	return events[max(slices.IndexFunc(events, event.starts), 0)]
}

// stepKey is the key of the id of a step's run in attempt n at a task.
func stepKey(task string, id stepID, n int, events []event) string {
	key := task + "/step/" + string(id)
	if n > 0 || events[0].Type == "recovered" {
		key += "/retry/" + strconv.FormatInt(events[0].ID, 10)
	}
	return key
}

// attempt gives the runs of attempt n at a task: the task's and its steps'.
func (c *reading) attempt(t task, events []event, result exporter.Result, again bool, n int) []exporter.Run {
	r := c.describe(t)
	r.State, r.Attempt, r.Result = exporter.StateFinished, exporter.AttemptFirst, result
	r.Started, r.Finished = began(events).CreatedAt, events[len(events)-1].CreatedAt
	r.Duration = seconds(r.Started, r.Finished)
	if again {
		r.Attempt = exporter.AttemptRerun
	} else {
		r.Queued = seconds(t.CreatedAt, r.Started)
	}
	runs := []exporter.Run{r}
	for _, st := range t.steps(events, result, r.Finished) {
		sr := r
		sr.ID.Key = stepKey(t.ID, st.id, n, events)
		sr.Parent, sr.Level, sr.Name, sr.Result, sr.Queued = r.ID, exporter.LevelTask, normalise(st.id), st.result, nil
		sr.Created, sr.Started, sr.Finished, sr.Duration = time.Time{}, st.started, st.ended, nil
		if !st.started.IsZero() {
			sr.Duration = seconds(st.started, st.ended)
		}
		runs = append(runs, sr)
	}
	return runs
}

func seconds(from, to time.Time) *float64 {
	d := max(to.Sub(from).Seconds(), 0)
	return &d
}
