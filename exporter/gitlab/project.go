package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

const (
	// overlap is how far behind the newest change the feed is read again: rows become visible out of order.
	overlap = time.Minute
	// abandoned is how long the jobs of a pipeline that has ended may stay unfinished before they count as skipped.
	abandoned = time.Hour
	// fewPipelines is how many pipelines are asked for their jobs one by one; more are read from the list of all jobs.
	fewPipelines = 2
)

// A follower reads one project.
type follower struct {
	*Source
	busy    sync.Mutex // held by a reading; it guards what follows
	project project
	claims  []claim
	cursor  string
	cached  map[int64]cached // of open pipelines that wait for nothing but time

	failures       int
	notUntil       time.Time
	lastErr        error
	listed         time.Time      // when the list of pipelines was last read
	listedForHooks time.Time      // likewise, between two pollings
	told           map[int64]bool // pipelines of which the first end was taken for Feedback

	mergeRequestsAt time.Time // not before
	deploying       deploying
	compared        bool // no pipeline's verdict waits to be compared
}

// cached are the jobs of a pipeline, and when they were judged.
type cached struct {
	jobs   []job
	judged time.Time
}

// logRead is how long GitLab may need to find the coverage in the log of a job that has ended.
const logRead = 5 * time.Second

// tooEarly tells that the jobs were read so soon after one ended that its coverage may be missing.
func (c cached) tooEarly() bool {
	return slices.ContainsFunc(c.jobs, func(j job) bool { return c.judged.Sub(j.Finished.Time) < logRead })
}

// position is what is stored of a project. Times are GitLab's.
type position struct {
	Start    time.Time               `json:"start"`           // of the first reading; what it finds ended is history
	Since    time.Time               `json:"since"`           // newest change that was read
	Floor    time.Time               `json:"floor,omitzero"`  // the first reading goes back to here; zero when it is done
	Until    time.Time               `json:"until,omitzero"`  // the first reading is done down to here
	Seen     map[int64]time.Time     `json:"seen,omitempty"`  // pipelines changed within the overlap, and when
	Open     map[int64]*openPipeline `json:"open,omitempty"`  // pipelines to be looked at again
	Bridge   bool                    `json:"bridge,omitzero"` // the project has jobs that start other pipelines
	Children children                `json:"children,omitzero"`
	Covered  bool                    `json:"covered,omitzero"`  // jobs of the project have a coverage
	Reports  map[int64]*report       `json:"reports,omitempty"` // to be read, by pipeline
	Reported bool                    `json:"reported,omitzero"` // one was wanted already
	Feedback feedback                `json:"feedback,omitzero"`
}

// openPipeline is a pipeline that may finish, or finish again, without a change of its row.
type openPipeline struct {
	Pipeline pipeline  `json:"p"`
	Look     time.Time `json:"look"`
	Changed  time.Time `json:"changed"`
}

// sync reads what is new. A panic is an error of this project alone: in a goroutine it would end the process.
func (f *follower) sync(ctx context.Context, g *catalog.Graph, to exporter.Sink, c *claimed, quiet bool) (err error) {
	f.busy.Lock()
	defer f.busy.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panicked: %v\n%s", p, debug.Stack())
		}
	}()
	f.project, f.claims = c.project, c.claims
	if f.opts.Now().Before(f.notUntil) {
		return fmt.Errorf("%w (%d failures, the next attempt is at %s)", f.lastErr, f.failures, f.notUntil.UTC().Format(time.TimeOnly))
	}
	if f.opts.Now().Sub(f.listedForHooks) < f.opts.Poll/2 {
		quiet = true
	}
	f.lastErr = f.read(ctx, g, to, quiet)
	if f.lastErr == nil {
		f.fill(f.project.ID)
		f.failures, f.notUntil = 0, time.Time{}
		return f.readDeployments(ctx, g, to)
	}
	if no := (*forbiddenError)(nil); errors.As(f.lastErr, &no) {
		f.fill(f.project.ID) // there is nothing to wait for
		f.failures, f.notUntil = 1, f.opts.Now().Add(retryForbidden-f.opts.Poll/2)
		return f.lastErr
	}
	f.failures++
	f.notUntil = f.opts.Now().Add(min(f.opts.Poll<<min(f.failures-1, 10), 10*time.Minute) - f.opts.Poll/2)
	return f.lastErr
}

// read reads what changed; nothing of a quiet project has but what is under way.
func (f *follower) read(ctx context.Context, g *catalog.Graph, to exporter.Sink, quiet bool) error {
	r, err := f.begin(g, to)
	if err != nil {
		return err
	}
	r.quiet = quiet
	return r.run(ctx)
}

// begin makes a reading that goes on from the stored position.
func (f *follower) begin(g *catalog.Graph, to exporter.Sink) (*reading, error) {
	var p position
	text, ok := to.Position(f.cursor)
	if ok {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, fmt.Errorf("stored position of %s: %w", f.cursor, err)
		}
	} else {
		p.Start = f.clock.now()
		p.Since = p.Start
		p.Floor = p.Start.Add(-f.opts.Backfill)
		p.Children.Looked = p.Start
	}
	if p.Seen == nil {
		p.Seen = map[int64]time.Time{}
	}
	if p.Open == nil {
		p.Open = map[int64]*openPipeline{}
	}
	return &reading{follower: f, position: p, stored: text, graph: g, to: to, resumed: ok}, nil
}

// A reading is one Sync of one project.
type reading struct {
	*follower
	position
	stored string // the position in the journal
	graph  *catalog.Graph
	to     exporter.Sink
	past   []exporter.Run // found, history
	news   []exporter.Run // found
	seen   struct{ past, news []exporter.Observation }
	gone   []exporter.RunID

	resumed    bool           // the project was read before
	quiet      bool           // no pipeline has changed
	filling    bool           // the first reading goes back
	complete   bool           // everything that ended before the reading is known
	listedRows map[int64]bool // pipelines that the list had
	moved      bool           // the feed told of a change after which there may be child pipelines that were not seen
	everyJob   *jobFeed       // of the first reading
	verdicts   *verdicts
	spared     int     // pipelines in a row that could not be read
	tell       []int64 // pipelines that are told once this is committed
}

func (r *reading) run(ctx context.Context) error {
	began := r.opts.Now()
	if !r.Floor.IsZero() {
		r.complete = r.Until.IsZero() // reading from now to the floor in one go sees everything
		r.filling = true
		if err := r.backfill(ctx); err != nil {
			return err
		}
		r.filling = false
	}
	if !r.complete && (!r.quiet || r.awaitsFeed()) {
		if err := r.changes(ctx); err != nil {
			return err
		}
		r.complete = true
	}
	if !r.quiet {
		r.listed = began
	}
	if err := r.look(ctx, func(int64) bool { return true }); err != nil {
		return err
	}
	if err := r.children(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	return r.reports(ctx)
}

// finish commits what was found, and the position.
func (r *reading) finish(ctx context.Context) error {
	for id, at := range r.Seen {
		if at.Before(r.Since.Add(-overlap)) {
			delete(r.Seen, id)
		}
	}
	r.forgetStarted()
	if err := r.flakyJobs(); err != nil {
		return err
	}
	if err := r.commit(ctx); err != nil {
		return err
	}
	if err := r.mergeRequests(ctx); err != nil { // they are asked for again with the next pipeline
		r.opts.Logger.Warn("merge requests cannot be read", "source", "gitlab", "host", r.host, "project", r.project.Path, "error", err)
	}
	return r.commit(ctx)
}

// commit commits what was found since the last commit, and the position.
func (r *reading) commit(ctx context.Context) error {
	if err := r.storeVerdicts(ctx); err != nil {
		return err
	}
	if err := r.commitHistory(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(r.position)
	if err != nil {
		return fmt.Errorf("position of %s: %w", r.cursor, err)
	}
	if string(text) == r.stored && len(r.news)+len(r.seen.news)+len(r.gone) == 0 {
		r.flakyJobsCommitted(time.Time{})
		return nil
	}
	r.deploying.due = r.deploying.due || r.resumed && len(r.news) > 0 // a deployment may have ended with a job
	if err := r.to.Commit(ctx, exporter.Batch{Runs: r.news, Seen: r.seen.news, Gone: r.gone, Cursor: r.cursor, Position: string(text)}); err != nil {
		return err
	}
	r.news, r.seen.news, r.gone, r.stored = nil, nil, nil, string(text)
	r.flakyJobsCommitted(time.Time{})
	if len(r.told)+len(r.tell) > maxTold {
		clear(r.told)
	}
	for _, id := range r.tell { // what was not committed is found again
		r.told[id] = true
	}
	r.tell = nil
	return nil
}

// commitHistory commits what became visible late; the position must not pass what is not stored.
func (r *reading) commitHistory(ctx context.Context) error {
	if len(r.past)+len(r.seen.past) == 0 {
		return nil
	}
	if err := r.to.Commit(ctx, exporter.Batch{Runs: r.past, Seen: r.seen.past, Cursor: r.cursor, Position: r.stored, History: true}); err != nil {
		return err
	}
	r.past, r.seen.past = nil, nil
	return nil
}

// backfill reads back to the floor, the latest change first, and commits history page by page. Until it is through,
// the stored position holds only how far it came: news is found again by the changes since Start.
func (r *reading) backfill(ctx context.Context) error {
	q := url.Values{"updated_after": {r.Floor.Format(time.RFC3339Nano)}}
	at := position{Start: r.Start, Since: r.Start, Floor: r.Floor, Until: r.Until}
	if !at.Until.IsZero() {
		q.Set("updated_before", at.Until.Add(time.Second).Format(time.RFC3339Nano))
	}
	jobs := newJobFeed(r.project.ID)
	jobs.all = true
	r.everyJob = jobs
	err := r.feed(ctx, q, func(page []pipeline) (bool, error) {
		for _, row := range page {
			r.Children.Newest = max(r.Children.Newest, row.ID)
		}
		if err := r.take(ctx, page, jobs, &r.Since, r.Seen); err != nil {
			return false, err
		}
		for _, row := range page {
			if !row.Updated.IsZero() {
				at.Until = row.Updated.Time
			}
		}
		if err := r.flakyJobs(); err != nil {
			return false, err
		}
		at.Open, at.Bridge, at.Children, at.Reports, at.Reported = r.Open, r.Bridge, r.Children, r.Reports, r.Reported
		text, err := json.Marshal(at)
		if err != nil {
			return false, fmt.Errorf("position of %s: %w", r.cursor, err)
		}
		if err := r.storeVerdicts(ctx); err != nil {
			return false, err
		}
		if err := r.to.Commit(ctx, exporter.Batch{Runs: r.past, Seen: r.seen.past, Cursor: r.cursor, Position: string(text), History: true}); err != nil {
			return false, err
		}
		r.flakyJobsCommitted(at.Until)
		r.past, r.seen.past, r.stored = nil, nil, string(text)
		return at.Until.IsZero() || at.Until.After(r.Floor), nil
	})
	r.Floor, r.Until = time.Time{}, time.Time{}
	return err
}

// changes reads what was updated since the last reading.
func (r *reading) changes(ctx context.Context) error {
	since := r.Since.Add(-overlap)
	var changed []pipeline
	err := r.feed(ctx, url.Values{"updated_after": {since.Format(time.RFC3339Nano)}}, func(page []pipeline) (bool, error) {
		for _, row := range page {
			if at, ok := r.Seen[row.ID]; row.Updated.Before(since) || ok && at.Equal(row.Updated.Time) {
				continue
			}
			changed = append(changed, row)
		}
		return len(page) > 0 && !page[len(page)-1].Updated.Before(since), nil
	})
	if err != nil {
		return err
	}
	r.movedBy(changed)
	r.listedRows = map[int64]bool{}
	for _, row := range changed {
		r.listedRows[row.ID] = true
	}
	return r.take(ctx, changed, newJobFeed(r.project.ID), &r.Since, r.Seen)
}

// feed reads the list of pipelines, the latest change first.
func (r *reading) feed(ctx context.Context, q url.Values, take func([]pipeline) (bool, error)) error {
	q.Set("order_by", "updated_at")
	q.Set("sort", "desc")
	q.Set("per_page", strconv.Itoa(pageSize))
	var failed error
	_, err := pages(ctx, r.api, projectPath(r.project.ID)+"/pipelines?"+q.Encode(), r.clock, func(rows []pipeline) bool {
		more, err := take(rows)
		failed = err
		return more && err == nil
	})
	if failed != nil {
		return failed
	}
	if isStatus(err, http.StatusForbidden) {
		return &forbiddenError{fmt.Errorf("list pipelines: %w", err)}
	}
	if err != nil {
		return fmt.Errorf("list pipelines: %w", err)
	}
	return nil
}

// take reads the jobs of pipelines that changed, and makes runs of them. since becomes the newest change, and seen gets them.
func (r *reading) take(ctx context.Context, rows []pipeline, feed *jobFeed, since *time.Time, seen map[int64]time.Time) error {
	rows = slices.DeleteFunc(rows, func(p pipeline) bool { return p.ID <= 0 })
	jobs, err := r.jobs(ctx, rows, feed)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Updated.After(*since) {
			*since = row.Updated.Time
		}
		seen[row.ID] = row.Updated.Time
		list, ok := jobs[row.ID]
		if !ok {
			continue // spared
		}
		if err := r.spare(row, row.Updated.Time, r.judge(ctx, row, list, row.Updated.Time)); err != nil {
			return err
		}
	}
	for id, at := range seen { // not to let it grow over the pages of a first reading
		if at.Before(since.Add(-overlap)) {
			delete(seen, id)
		}
	}
	return nil
}

// found keeps runs for the commit. History is what the first reading finds ended, and what ended before it goes back.
func (r *reading) found(runs ...exporter.Run) {
	for _, run := range runs {
		if run.State == exporter.StateFinished && run.Finished.Before(r.historyEnds()) {
			r.past = append(r.past, run)
		} else {
			r.news = append(r.news, run)
		}
	}
}

// saw keeps observations for the commit, those of a job with its run.
func (r *reading) saw(list ...exporter.Observation) {
	for _, o := range list {
		if o.At.Before(r.historyEnds()) {
			r.seen.past = append(r.seen.past, o)
		} else {
			r.seen.news = append(r.seen.news, o)
		}
	}
}

func (r *reading) historyEnds() time.Time {
	if r.filling {
		return r.Start
	}
	return r.Start.Add(-r.opts.Backfill)
}

// look reads the jobs of pipelines that may have gone on without a change of their row.
func (r *reading) look(ctx context.Context, which func(id int64) bool) error {
	now := r.clock.now()
	ids := make([]int64, 0, len(r.Open))
	for id, o := range r.Open {
		if !o.Look.After(now) && which(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		o := r.Open[id]
		c, ok := r.cached[id]
		var err error
		if !ok || r.Covered || c.tooEarly() {
			c.jobs, err = r.jobsOf(ctx, id)
		}
		if isStatus(err, http.StatusNotFound) { // deleted
			delete(r.Open, id)
			delete(r.cached, id)
			r.gone = append(r.gone, r.runID("pipeline", id))
			continue
		}
		if err == nil {
			err = r.judge(ctx, o.Pipeline, c.jobs, o.Changed)
		}
		if err := r.spare(o.Pipeline, o.Changed, err); err != nil {
			return err
		}
	}
	return nil
}

// maxSpared is how many pipelines in a row may be unreadable before that is taken for a fault of GitLab as a whole.
const maxSpared = 10

// spare takes the error of reading one pipeline. What GitLab cannot give of this one alone must hold no other up: it is
// looked at again later.
func (r *reading) spare(row pipeline, changed time.Time, err error) error {
	if err == nil {
		r.spared = 0
		return nil
	}
	if r.spared++; !ofThisAlone(err) || r.spared > maxSpared {
		return err
	}
	r.opts.Logger.Warn("a pipeline cannot be read and is left for later", "source", "gitlab", "host", r.host, "project", r.project.Path, "pipeline", row.ID, "error", err)
	delete(r.cached, row.ID)
	r.Open[row.ID] = &openPipeline{row, r.clock.now().Add(10 * time.Minute), changed}
	return nil
}

// ofThisAlone tells errors that may concern one address of GitLab and no other.
func ofThisAlone(err error) bool {
	var status *upstream.StatusError
	var content *upstream.ContentError
	return errors.As(err, &content) || errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code >= 500)
}

// judge makes the runs of one pipeline, and remembers it when there is more to come.
func (r *reading) judge(ctx context.Context, row pipeline, jobs []job, changed time.Time) error {
	now := r.clock.now()
	var attempts []attempt
	for i := range jobs {
		a := jobs[i].attempt()
		if terminal(row.Status) && !terminal(a.status) && a.status != "manual" && now.Sub(changed) > abandoned {
			a.status = "skipped"
		}
		attempts = append(attempts, a)
	}
	fs, settled := finishes(attempts, now)
	paused := len(fs) > 1 || len(fs) == 1 && !settled // or a bridge was busy in between
	if r.Bridge || paused || settled && atOdds(row, fs) {
		bridges, err := r.bridgesOf(ctx, row.ID)
		if err != nil {
			return err
		}
		r.startedBy(row.ID, bridges)
		r.found(r.bridgeRuns(row, bridges)...)
		for i := range bridges {
			attempts = append(attempts, bridges[i].attempt())
		}
		if len(bridges) > 0 {
			r.Bridge = true
			fs, settled = finishes(attempts, now)
		}
	}
	waits := slices.ContainsFunc(attempts, func(a attempt) bool { return a.status == "manual" })
	if len(fs) == 0 && settled && !waits && terminal(row.Status) { // no job ran: only GitLab's own word is left
		fs = []finish{{at: latest(row.Updated.Time, row.Created.Time), kind: exporter.AttemptFirst, result: resultOf(row.Status, "")}}
	}
	if len(attempts) == 0 && !terminal(row.Status) {
		settled = false
	}
	if len(fs) > 0 && !fs[len(fs)-1].at.Before(r.historyEnds()) {
		if err := r.findParent(ctx, row); err != nil {
			return err
		}
	}
	r.found(r.tasks(row, jobs)...)
	r.Covered = r.Covered || slices.ContainsFunc(jobs, func(j job) bool { return j.Coverage != nil })
	common := r.describe(row, jobs)
	r.saw(measure(common, jobs)...)
	r.saw(measureFinishes(common, fs)...)
	r.found(r.finished(row, jobs, fs)...)
	r.firstResults(row, jobs, fs)
	if err := r.decided(row, jobs); err != nil {
		return err
	}
	if settled {
		r.wantReport(row, jobs, fs)
	}
	if !settled && row.Status != "manual" {
		r.found(r.active(row, jobs, len(fs)))
	}
	r.keep(row, jobs, settled, changed)
	return nil
}

// atOdds tells that GitLab says something else of a pipeline than its jobs, so that there must be more than jobs.
func atOdds(row pipeline, fs []finish) bool {
	if row.Status == "manual" || row.Status == "skipped" {
		return false
	}
	if !terminal(row.Status) {
		return true
	}
	if len(fs) == 0 {
		return true
	}
	want, got := resultOf(row.Status, ""), fs[len(fs)-1].result
	if got == exporter.ResultError || got == exporter.ResultTimeout {
		got = exporter.ResultFailure
	}
	return want != got
}

// stuckPause is the longest time for which a pipeline is left alone of which no job runs.
const stuckPause = 6 * time.Hour

// keep remembers a pipeline that has not come to rest. A long-running one is looked at less often, and one that is stuck
// less and less often.
func (r *reading) keep(row pipeline, jobs []job, settled bool, changed time.Time) {
	delete(r.cached, row.ID)
	if settled || row.Status == "manual" {
		delete(r.Open, row.ID)
		return
	}
	now := r.clock.now()
	wait := now.Sub(latest(row.Created.Time, changed)) / 30
	busy := slices.ContainsFunc(jobs, func(j job) bool { return !terminal(j.Status) && j.Status != "manual" })
	if !busy && len(jobs) > 0 && terminal(row.Status) {
		wait = 0 // all that is missing is time; a change would show in the feed
		r.cached[row.ID] = cached{jobs, now}
	}
	limit := 10 * time.Minute
	if !slices.ContainsFunc(jobs, func(j job) bool { return stateOf(j.Status) != exporter.StatePending && !terminal(j.Status) }) {
		limit = stuckPause // when something starts, the pipeline's row changes
	}
	r.Open[row.ID] = &openPipeline{row, now.Add(min(wait, limit)), changed}
}

// A jobFeed reads a project's list of all jobs, the latest first. What was read and not asked for yet is kept.
type jobFeed struct {
	path   string // of the next page; "" at the end
	oldest time.Time
	jobs   map[int64][]job // by pipeline
	kept   int
	all    bool // every page will be wanted; it also shows whether there are child pipelines
	off    bool // it held too much and is of no use any more
	limit  int  // of kept
}

const maxKeptJobs = 50_000 // of pipelines that nobody asks for, such as child pipelines

func newJobFeed(project int64) *jobFeed {
	path := fmt.Sprintf("%s/jobs?pagination=keyset&order_by=id&sort=desc&per_page=%d", projectPath(project), pageSize)
	return &jobFeed{path: path, oldest: time.Unix(1<<40, 0), jobs: map[int64][]job{}, limit: maxKeptJobs}
}

// next reads one page.
func (f *jobFeed) next(ctx context.Context, r *reading) error {
	var page list[job]
	header, err := r.api.GetJSON(ctx, f.path, &page)
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	r.clock.set(header)
	next := nextPage(f.path, header)
	if next == f.path || len(page) == 0 {
		next = ""
	}
	f.path = next
	for _, j := range page {
		r.Bridge = r.Bridge || j.Pipeline.Source == sourceChild
		f.jobs[j.Pipeline.ID] = append(f.jobs[j.Pipeline.ID], j)
		f.kept++
		f.oldest = j.Created.Time
	}
	if f.kept > f.limit {
		f.off, f.jobs = true, nil
	}
	return nil
}

// take gives the jobs of a pipeline; false when the feed has not come to the pipeline's creation yet.
func (f *jobFeed) take(p pipeline) ([]job, bool) {
	if f.off || f.path != "" && !f.oldest.Before(p.Created.Time) {
		return nil, false
	}
	list := f.jobs[p.ID]
	delete(f.jobs, p.ID)
	f.kept -= len(list)
	return list, true
}

// jobs gives the jobs of pipelines, retried ones included. Several pipelines are read from the list of all jobs, as long
// as that may cost less than a call for each. The list is sorted by age: once it has come to a job that is older than a
// pipeline, that pipeline is complete.
func (r *reading) jobs(ctx context.Context, rows []pipeline, feed *jobFeed) (map[int64][]job, error) {
	out := map[int64][]job{}
	left := slices.Clone(rows)
	for budget := len(left); ; budget-- {
		left = slices.DeleteFunc(left, func(p pipeline) bool {
			list, ok := feed.take(p)
			if ok {
				out[p.ID] = list
			}
			return ok
		})
		if len(left) <= fewPipelines && budget < len(rows) && !feed.all || len(left) == 0 || len(rows) <= fewPipelines && !feed.all || budget == 0 || feed.path == "" || feed.off {
			break
		}
		if err := feed.next(ctx, r); err != nil {
			if !ofThisAlone(err) {
				return nil, err
			}
			feed.off, feed.jobs = true, nil // one job may be at fault
		}
	}
	for _, p := range left {
		r.moved = true // and not all jobs were seen
		list, err := r.jobsOf(ctx, p.ID)
		if isStatus(err, http.StatusNotFound) {
			err = nil
		}
		if err == nil {
			out[p.ID] = list
		}
		if err := r.spare(p, p.Updated.Time, err); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *reading) jobsOf(ctx context.Context, id int64) ([]job, error) {
	return r.rowsOf(ctx, id, "jobs?include_retried=true&")
}

func (r *reading) bridgesOf(ctx context.Context, id int64) ([]job, error) {
	list, err := r.rowsOf(ctx, id, "bridges?")
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	return list, err
}

func (r *reading) rowsOf(ctx context.Context, id int64, what string) ([]job, error) {
	var out []job
	_, err := pages(ctx, r.api, fmt.Sprintf("%s/pipelines/%d/%sper_page=%d", projectPath(r.project.ID), id, what, pageSize), r.clock, func(page []job) bool {
		out = append(out, page...)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("jobs of pipeline %d: %w", id, err)
	}
	return out, nil
}

// describe makes what the runs of a pipeline have in common.
func (r *reading) describe(row pipeline, jobs []job) exporter.Run {
	name := strings.TrimSpace(row.Name)
	entity := entityOf(r.graph, r.claims, name)
	if name == "" {
		name = r.project.Path
	}
	if entity.IsZero() && !r.opts.First { // where there is one, it tells the host
		name = r.host + "/" + name
	}
	run := exporter.Run{
		ID: r.runID("pipeline", row.ID), Parent: r.parent(row), Level: exporter.LevelPipeline, Pipeline: name, Name: name, Created: row.Created.Time,
		Owner: r.graph.PlatformOwner(), URL: row.WebURL, RefKind: "other",
	}
	if !entity.IsZero() {
		run.Entity, run.Owner, run.System = entity, r.graph.Owner(entity), r.graph.System(entity)
	}
	switch {
	case row.Source == "merge_request_event" || strings.HasPrefix(row.Ref, "refs/merge-requests/"):
		run.RefKind = "merge_request"
	case len(jobs) > 0 && jobs[0].Tag:
		run.RefKind = "tag"
	case row.Ref == r.project.DefaultBranch && row.Ref != "":
		run.RefKind = "default"
	}
	return run
}

func (r *reading) runID(kind string, id int64) exporter.RunID {
	return r.Source.runID(r.project.ID, kind, id)
}

// finished makes a run of each finish.
func (r *reading) finished(row pipeline, jobs []job, fs []finish) []exporter.Run {
	var out []exporter.Run
	for _, f := range fs {
		run := r.describe(row, jobs)
		run.State, run.Result, run.Attempt = exporter.StateFinished, f.result, f.kind
		run.Started, run.Finished, run.Duration = f.started, f.at, f.duration
		if f.kind == exporter.AttemptFirst && !f.started.IsZero() && !row.Created.IsZero() {
			waited := max(f.started.Sub(row.Created.Time).Seconds(), 0)
			run.Queued = &waited
		}
		out = append(out, run)
	}
	return out
}

// active makes the run of a pipeline that is under way, after so many finishes.
func (r *reading) active(row pipeline, jobs []job, finishes int) exporter.Run {
	run := r.describe(row, jobs)
	run.State, run.Attempt = exporter.StatePending, exporter.AttemptFirst
	if finishes > 0 {
		run.Attempt = exporter.AttemptRerun
	}
	for _, j := range jobs {
		if !j.Started.IsZero() && (run.Started.IsZero() || j.Started.Before(run.Started)) {
			run.Started, run.State = j.Started.Time, exporter.StateExecuting
		}
	}
	if row.Status == "canceling" {
		run.State = exporter.StateFinalizing
	}
	return run
}

// tasks makes a run of each job that ended.
func (r *reading) tasks(row pipeline, jobs []job) []exporter.Run {
	common := r.describe(row, jobs)
	var out []exporter.Run
	for _, j := range jobs {
		if !j.ended() {
			continue
		}
		run := common
		run.ID, run.Parent, run.Level, run.Name = jobID(common.ID, j.ID), common.ID, exporter.LevelTask, j.Name
		run.Created, run.Started, run.Finished = j.Created.Time, j.Started.Time, j.end(row.Created.Time)
		run.State, run.Result, run.Reason = exporter.StateFinished, resultOf(j.Status, j.Reason), ""
		if j.Status == "failed" {
			run.Reason = j.Reason
		}
		run.Queued, run.Duration, run.URL = j.Queued, nil, j.WebURL
		if !j.Started.IsZero() {
			run.Duration = j.Duration
		}
		out = append(out, run)
	}
	return out
}
