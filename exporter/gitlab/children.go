package gitlab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// Pipelines start others by bridges: child pipelines in their own project, which the list of pipelines leaves out, and
// downstream pipelines in other projects, which it does not. All count as pipelines of the project that they run in. Child
// pipelines are read from a list of their own when something moved in a project that has some, and every ten minutes; of a
// project that has had none, at most every ten minutes and only after something moved. Where GitLab does not give that list
// (before 17.0), they are read one by one, as bridges name them.

const (
	childrenEvery = 10 * time.Minute
	// startedFor is how long it is remembered which bridge started a pipeline.
	startedFor = 48 * time.Hour
	maxStarted = 200
	// sourceChild and sourceDownstream are the sources of pipelines that bridges started in their own and in another project.
	sourceChild, sourceDownstream = "parent_pipeline", "pipeline"
)

// children is what is stored of a project's child pipelines, and of what its bridges started.
type children struct {
	Since   time.Time           `json:"since,omitzero"` // newest change that was read; zero: the list was never read
	Seen    map[int64]time.Time `json:"seen,omitempty"`
	Looked  time.Time           `json:"looked,omitzero"`
	Moved   bool                `json:"moved,omitzero"`   // something did since
	Refused time.Time           `json:"refused,omitzero"` // GitLab does not know the list
	Newest  int64               `json:"newest,omitzero"`  // pipeline of the project that is no child
	Started map[int64]started   `json:"started,omitempty"`
}

// started says of a pipeline who started it.
type started struct {
	By      bridge    `json:"by,omitzero"`
	Project int64     `json:"project,omitzero"` // of the pipeline, where it is another one
	At      time.Time `json:"at"`
	Read    bool      `json:"read,omitzero"`  // it was found, or need not be
	Asked   bool      `json:"asked,omitzero"` // for who started it
}

// A bridge is a job that starts a pipeline.
type bridge struct {
	Project  int64 `json:"project"`
	Pipeline int64 `json:"pipeline"`
	Job      int64 `json:"job"`
}

// runID is the id of the bridge's pipeline, with the job behind it.
func (b bridge) runID(s *Source) exporter.RunID {
	id := s.runID(b.Project, "pipeline", b.Pipeline)
	if b.Job > 0 {
		id.Key += "/job/" + strconv.FormatInt(b.Job, 10)
	}
	return id
}

// startedBy remembers what the bridges of a pipeline started.
func (r *reading) startedBy(parent int64, bridges []job) {
	for _, b := range bridges {
		d := b.Downstream
		if d == nil || d.ID <= 0 {
			continue
		}
		s := r.Children.Started[d.ID]
		s.By, s.At = bridge{r.project.ID, parent, b.ID}, latest(b.Created.Time, b.Started.Time)
		if d.Project > 0 && d.Project != r.project.ID {
			s.Project, s.Read = d.Project, true
			r.downstream.put(d.Project, d.ID, s)
		}
		r.remember(d.ID, s)
	}
}

func (r *reading) remember(id int64, s started) {
	if s.At.IsZero() {
		s.At = r.clock.now()
	}
	if r.Children.Started == nil {
		r.Children.Started = map[int64]started{}
	}
	r.Children.Started[id] = s
}

// markedBy remembers what a webhook told of who started its pipeline.
func (r *reading) markedBy(m mark) {
	if m.Pipeline.Source == sourceChild {
		r.Bridge = true
	}
	if m.By == (bridge{}) {
		return
	}
	s := r.Children.Started[m.Pipeline.ID]
	s.By, s.Read = m.By, true
	s.At = cmp.Or(s.At, m.Pipeline.Created.Time)
	r.remember(m.Pipeline.ID, s)
}

// seenOf is where it is noted until when a pipeline was read.
func (r *reading) seenOf(row pipeline) map[int64]time.Time {
	if row.Source != sourceChild {
		return r.Seen
	}
	if r.Children.Seen == nil {
		r.Children.Seen = map[int64]time.Time{}
	}
	return r.Children.Seen
}

// parent gives what started a pipeline; the zero RunID when nothing did, or it is not known.
func (r *reading) parent(row pipeline) exporter.RunID {
	if row.Source != sourceChild && row.Source != sourceDownstream {
		return exporter.RunID{}
	}
	by := r.Children.Started[row.ID].By
	if by == (bridge{}) {
		by = r.downstream.get(r.project.ID, row.ID)
	}
	if by == (bridge{}) {
		return exporter.RunID{}
	}
	return by.runID(r.Source)
}

// movedBy notes that the list of pipelines told of changes.
func (r *reading) movedBy(rows []pipeline) {
	for _, row := range rows {
		r.moved = true
		r.Children.Newest = max(r.Children.Newest, row.ID)
	}
}

// children reads the child pipelines that changed.
func (r *reading) children(ctx context.Context) error {
	c, now := &r.Children, r.clock.now()
	busy := false
	for _, o := range r.Open {
		busy = busy || o.Look.Sub(now) < childrenEvery // and is not stuck
	}
	if r.moved || busy || r.everyJob != nil && r.Bridge {
		c.Moved = true
	}
	due := c.Moved && r.Bridge || (c.Moved || r.Bridge) && now.Sub(c.Looked) >= childrenEvery
	if due && now.Sub(c.Refused) >= refreshProject {
		if err := r.listChildren(ctx); err != nil {
			return err
		}
	}
	if due && !r.Bridge && !c.Refused.IsZero() && c.Newest > 0 { // the newest pipeline tells whether there are any
		bridges, err := r.bridgesOf(ctx, c.Newest)
		if err != nil {
			return err
		}
		r.Bridge = len(bridges) > 0
		r.startedBy(c.Newest, bridges)
	}
	if due {
		c.Looked, c.Moved = now, false
	}
	for _, id := range slices.Sorted(maps.Keys(c.Started)) {
		if s := c.Started[id]; due && !s.Read && now.Sub(s.At) < startedFor {
			switch err := r.child(ctx, id); {
			case err == nil:
				s = c.Started[id]
				s.Read = true
				r.remember(id, s)
			case !ofThisAlone(err):
				return err
			}
		}
	}
	return nil
}

// listChildren reads the list of child pipelines, the latest change first. What the first reading of it finds ended before
// the project was read at all is history.
func (r *reading) listChildren(ctx context.Context) error {
	c, upTo := &r.Children, r.Since
	since := c.Since.Add(-overlap)
	if c.Since.IsZero() {
		since, r.filling = r.Start.Add(-r.opts.Backfill), true
		defer func() { r.filling = false }()
	}
	jobs := r.everyJob // of the project's first reading
	if jobs == nil {
		jobs = newJobFeed(r.project.ID)
	}
	newest := c.Since
	err := r.feed(ctx, url.Values{"source": {sourceChild}, "updated_after": {since.Format(time.RFC3339Nano)}}, func(page []pipeline) (bool, error) {
		seen := r.seenOf(pipeline{Source: sourceChild})
		var changed []pipeline
		for _, row := range page {
			at, ok := seen[row.ID]
			if row.Source != sourceChild || row.Updated.Before(since) || ok && at.Equal(row.Updated.Time) {
				continue
			}
			r.Bridge = true
			s := c.Started[row.ID]
			s.At, s.Read = cmp.Or(s.At, row.Created.Time), true
			r.remember(row.ID, s)
			changed = append(changed, row)
		}
		if err := r.take(ctx, changed, jobs, &newest, seen); err != nil {
			return false, err
		}
		if r.filling {
			if err := r.commitHistory(ctx); err != nil {
				return false, err
			}
		}
		return len(page) > 0 && !page[len(page)-1].Updated.Before(since), nil
	})
	if isStatus(err, http.StatusBadRequest) || isStatus(err, http.StatusNotFound) {
		c.Refused = r.clock.now()
		return nil
	}
	if err != nil {
		return err
	}
	c.Refused, c.Since = time.Time{}, latest(newest, upTo) // what had changed by then is in the list
	return nil
}

// child reads one child pipeline that a bridge named. Of one that may not be read there is nothing to tell.
func (r *reading) child(ctx context.Context, id int64) error {
	if _, seen := r.Children.Seen[id]; seen || r.Open[id] != nil {
		return nil
	}
	if err := r.marked(ctx, pipeline{ID: id}); !isStatus(err, http.StatusNotFound) && !isStatus(err, http.StatusForbidden) {
		return err
	}
	return nil
}

// findParent looks for the bridge that started a child pipeline of which that is not known: among the pipelines under way of
// the same commit, then among all of it. It is asked for once.
func (r *reading) findParent(ctx context.Context, row pipeline) error {
	s := r.Children.Started[row.ID]
	if row.Source != sourceChild || row.SHA == "" || s.By != (bridge{}) || s.Asked {
		return nil
	}
	s.Asked, s.Read = true, true
	s.At = cmp.Or(s.At, row.Created.Time)
	r.remember(row.ID, s)
	try := func(rows []pipeline) error {
		slices.SortFunc(rows, func(a, b pipeline) int { return cmp.Compare(b.ID, a.ID) })
		for _, p := range rows[:min(len(rows), 3)] {
			bridges, err := r.bridgesOf(ctx, p.ID)
			if err != nil {
				return err
			}
			r.startedBy(p.ID, bridges)
			r.found(r.bridgeRuns(p, bridges)...)
			if r.Children.Started[row.ID].By != (bridge{}) {
				return nil
			}
		}
		return nil
	}
	var open []pipeline
	for id, o := range r.Open {
		if id < row.ID && o.Pipeline.SHA == row.SHA {
			open = append(open, o.Pipeline)
		}
	}
	if err := try(open); err != nil || r.Children.Started[row.ID].By != (bridge{}) {
		return err
	}
	var rows list[pipeline]
	var others []pipeline
	path := fmt.Sprintf("%s/pipelines?sha=%s&order_by=id&sort=desc&per_page=20", projectPath(r.project.ID), url.QueryEscape(row.SHA))
	if _, err := r.api.GetJSON(ctx, path, &rows); err != nil {
		return fmt.Errorf("pipelines of commit %.12s: %w", row.SHA, err)
	}
	for _, p := range rows {
		if p.ID < row.ID && !slices.ContainsFunc(open, func(o pipeline) bool { return o.ID == p.ID }) {
			others = append(others, p)
		}
	}
	return try(others)
}

// forgetStarted forgets who started pipelines long ago.
func (r *reading) forgetStarted() {
	c, now := &r.Children, r.clock.now()
	read := c.Since.Add(-overlap)
	if c.Since.IsZero() { // there is no list: bridges name them, for so long
		read = now.Add(-startedFor)
	}
	maps.DeleteFunc(c.Seen, func(_ int64, at time.Time) bool { return at.Before(read) })
	maps.DeleteFunc(c.Started, func(id int64, s started) bool { return now.Sub(s.At) > startedFor && r.Open[id] == nil })
	if more := len(c.Started) - maxStarted; more > 0 {
		ids := slices.SortedFunc(maps.Keys(c.Started), func(a, b int64) int { return cmp.Or(c.Started[a].At.Compare(c.Started[b].At), cmp.Compare(a, b)) })
		for _, id := range ids[:more] {
			delete(c.Started, id)
		}
	}
}

// downstream is who started pipelines in other projects than its own, by project and pipeline. Safe for concurrent use.
type downstream struct {
	mu sync.Mutex
	by map[[2]int64]started
}

func (d *downstream) put(project, pipeline int64, s started) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[[2]int64]started{}
	}
	d.by[[2]int64{project, pipeline}] = s
	if len(d.by) > 100*maxStarted { // those of long ago are of no use any more
		maps.DeleteFunc(d.by, func(_ [2]int64, x started) bool { return s.At.Sub(x.At) > startedFor })
	}
}

func (d *downstream) get(project, pipeline int64) bridge {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[[2]int64{project, pipeline}].By
}

// load takes over what was stored before a restart: the project of a downstream pipeline may be read first.
func (d *downstream) load(positions map[string]string) {
	for _, text := range positions {
		var p struct {
			Children children `json:"children"`
		}
		if json.Unmarshal([]byte(text), &p) != nil {
			continue // another kind of cursor
		}
		for id, s := range p.Children.Started {
			if s.Project > 0 {
				d.put(s.Project, id, s)
			}
		}
	}
}
