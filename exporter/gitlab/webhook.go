package gitlab

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

const (
	// maxHook is the size of the largest body that GitLab sends.
	maxHook = 25 << 20
	// maxUnproved is how many bodies are read at the same time whose sender is known only when the signature was computed.
	maxUnproved = 8
	// hookTime is how long a body may take, and may wait for a place. GitLab itself gives up after ten seconds.
	hookTime = 8 * time.Second
)

// A mark is what a webhook leaves in the journal: this pipeline has changed. What it holds of the payload is shown while the
// pipeline runs; what counts is read from the API, so that webhooks and polling give the same. A job that has ended counts
// at once (webhook_job.go).
type mark struct {
	Project  int64    `json:"project"`
	Pipeline pipeline `json:"pipeline"`
	By       bridge   `json:"by,omitzero"` // what started the pipeline

	Deployment   bool       `json:"deployment,omitzero"`    // a deployment has ended; there is no Pipeline
	MergeRequest openedMark `json:"merge_request,omitzero"` // was opened; there is no Pipeline

	ended *endedJob // nil: the webhook tells of no job, or not all that counts of it
}

func (m *mark) name() string {
	switch {
	case m.Deployment:
		return strconv.FormatInt(m.Project, 10) + "/deployments"
	case m.MergeRequest.IID != 0:
		return fmt.Sprintf("%d/merge_request/%d", m.Project, m.MergeRequest.IID)
	}
	return strconv.FormatInt(m.Project, 10) + "/" + strconv.FormatInt(m.Pipeline.ID, 10)
}

// A Receiver takes the webhooks of one or more GitLab hosts. It implements http.Handler.
//
// It answers as soon as the journal has the change, and before anything is asked of GitLab. Webhooks may come twice, late,
// in any order, or not at all.
type Receiver struct {
	hosts    []Hooked
	to       exporter.Sink
	count    *exporter.WebhookMetrics
	unproved chan struct{} // holds a value for each body that is read before its sender is known
}

// Hooked is one host whose webhooks are taken.
type Hooked struct {
	Source      *Source
	SecretFiles []string // one secret each; read at each call, so that a new one is taken over
}

// NewReceiver makes a Receiver that stores in a sink. count may be nil.
func NewReceiver(to exporter.Sink, count *exporter.WebhookMetrics, hosts ...Hooked) *Receiver {
	return &Receiver{hosts, to, count, make(chan struct{}, maxUnproved)}
}

// ServeHTTP answers 200 to what is stored, and to what is known and not of interest: GitLab switches a hook off that is
// refused again and again. 401 is for a wrong secret, 400 for what is no webhook, 413 for what is too large, and 503 when
// the journal did not take it or too many are signed by nobody knows whom.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	fail := func(status int, result, text string) {
		r.count.Count("gitlab", result)
		http.Error(w, text, status)
	}
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(http.StatusMethodNotAllowed, exporter.WebhookRefused, "webhooks are POSTed")
		return
	}
	signed := req.Header.Get(standardwebhooks.HeaderWebhookSignature) != ""
	if !signed && req.Header.Get("X-Gitlab-Token") == "" {
		fail(http.StatusUnauthorized, exporter.WebhookRefused, "the webhook has no secret token and no signature")
		return
	}
	host, err := r.byToken(req.Header)
	if err != nil {
		fail(http.StatusServiceUnavailable, exporter.WebhookFailed, "the secrets cannot be read")
		return
	}
	if host == nil && !signed {
		fail(http.StatusUnauthorized, exporter.WebhookRefused, "the secret token is wrong")
		return
	}
	if host == nil { // anybody can send that much
		select {
		case r.unproved <- struct{}{}:
			defer func() { <-r.unproved }()
		case <-req.Context().Done():
			return
		case <-time.After(hookTime):
			fail(http.StatusServiceUnavailable, exporter.WebhookFailed, "too many webhooks at once")
			return
		}
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(hookTime)) // where the connection has none, the server's own limit holds
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxHook))
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		fail(status, exporter.WebhookRefused, "the body cannot be read")
		return
	}
	if host == nil {
		host, err = r.bySignature(body, req.Header)
		if host == nil || err != nil {
			fail(http.StatusUnauthorized, exporter.WebhookRefused, "the signature is wrong, or too old")
			return
		}
	}
	id := req.Header.Get("Idempotency-Key")
	if id == "" {
		id = req.Header.Get(standardwebhooks.HeaderWebhookID)
	}
	switch result, err := host.Source.hook(req.Context(), r.to, delivery{id, req.Header.Get("X-Gitlab-Event"), body, true}); {
	case result == exporter.WebhookRefused:
		fail(http.StatusBadRequest, result, err.Error())
	case err != nil:
		host.Source.opts.Logger.Error("a webhook was not stored; GitLab sends it again", "source", "gitlab", "host", host.Source.host, "error", err)
		fail(http.StatusServiceUnavailable, exporter.WebhookFailed, "the journal did not take it")
	default:
		r.count.Count("gitlab", result)
		w.WriteHeader(http.StatusOK)
	}
}

// byToken finds the host whose secret the request carries in plain, in constant time.
func (r *Receiver) byToken(h http.Header) (*Hooked, error) {
	got := sha256.Sum256([]byte(h.Get("X-Gitlab-Token")))
	var found *Hooked
	err := r.secrets(func(host *Hooked, secret string) {
		if want := sha256.Sum256([]byte(secret)); subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			found = host
		}
	})
	return found, err
}

// bySignature finds the host whose secret has signed the body.
func (r *Receiver) bySignature(body []byte, h http.Header) (*Hooked, error) {
	var found *Hooked
	err := r.secrets(func(host *Hooked, secret string) {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			wh, err = standardwebhooks.NewWebhookRaw([]byte(secret))
		}
		if err == nil && wh.Verify(body, h) == nil {
			found = host
		}
	})
	return found, err
}

func (r *Receiver) secrets(each func(*Hooked, string)) error {
	var errs []error
	n := 0
	for i := range r.hosts {
		for _, file := range r.hosts[i].SecretFiles {
			b, err := os.ReadFile(file)
			secret := strings.TrimSpace(string(b))
			if err != nil || secret == "" {
				errs = append(errs, fmt.Errorf("webhook secret file %s: %w", file, err))
				continue
			}
			n++
			each(&r.hosts[i], secret)
		}
	}
	if n == 0 {
		return errors.Join(errs...)
	}
	return nil
}

var errNoHook = errors.New("the body is no webhook of GitLab")

// hooks are the changes that webhooks told of and that have not been read. Safe for concurrent use.
type hooks struct {
	ended   map[int64][]*endedJob // by project
	cursors cursors               // locked while a mark is stored or taken out of the journal

	mu      sync.Mutex
	pending map[string]mark      // by cursor
	came    map[string]time.Time // when, by cursor; not of those that a restart found in the journal
	timer   *time.Timer          // will nudge at due; nil when none does
	due     time.Time
	seen    map[string]bool // idempotency keys
	order   []string
	nudge   chan struct{}
}

const (
	rememberedKeys = 10_000
	longestKey     = 200 // bytes; a longer one is no idempotency key of GitLab's
)

// A delivery is a webhook as it came.
type delivery struct {
	key, event string // Idempotency-Key and X-Gitlab-Event; "" where they are lost
	body       []byte
	proved     bool // a secret tells that GitLab sent it
}

// hook stores what a webhook tells of, and says what became of it.
func (s *Source) hook(ctx context.Context, to exporter.Sink, d delivery) (result string, err error) {
	key := d.key
	if len(key) > longestKey {
		key = ""
	}
	if s.hooks.known(key) {
		return exporter.WebhookRepeated, nil
	}
	m, ok, err := readHook(d.event, d.body)
	if err != nil {
		return exporter.WebhookRefused, err
	}
	if !ok || !s.follows(m.Project) {
		return exporter.WebhookIgnored, nil
	}
	if m.ended != nil && d.proved {
		defer s.hooks.end(m.Project, m.ended)
	}
	m.ended = nil
	result = exporter.WebhookRepeated
	cursor := s.markPrefix() + m.name()
	defer s.hooks.cursors.lock(cursor)()
	if s.hooks.newer(cursor, m) {
		text, err := json.Marshal(m)
		if err != nil {
			return "", err
		}
		if err := to.Commit(ctx, exporter.Batch{Cursor: cursor, Position: string(text)}); err != nil {
			return "", err
		}
		s.hooks.put(cursor, m, s.opts.Now())
		result = exporter.WebhookStored
	}
	s.hooks.remember(key)
	return result, nil
}

func (s *Source) markPrefix() string { return "gitlab/" + s.host + "/hooks/" }

// follows tells whether the project is read: an entity names it, or it is below a group that is read.
func (s *Source) follows(project int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followed[project] != nil {
		return true
	}
	for _, k := range s.known {
		if k.ID == project && !k.Missing {
			return true
		}
	}
	return false
}

func (h *hooks) known(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return key != "" && h.seen[key]
}

func (h *hooks) remember(key string) {
	if key == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[string]bool{}
	}
	if !h.seen[key] {
		h.seen[key] = true
		h.order = append(h.order, key)
	}
	if len(h.order) > rememberedKeys {
		delete(h.seen, h.order[0])
		h.order = h.order[1:]
	}
}

// newer tells whether a mark says more than the one that is waiting: an end is not undone by a webhook that came late.
func (h *hooks) newer(cursor string, m mark) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	have, ok := h.pending[cursor]
	return !ok || have.Pipeline.Status != m.Pipeline.Status && !terminal(have.Pipeline.Status) && m.Pipeline.Status != ""
}

func (h *hooks) put(cursor string, m mark, now time.Time) {
	h.mu.Lock()
	if h.pending == nil {
		h.pending = map[string]mark{}
	}
	if h.came == nil {
		h.came = map[string]time.Time{}
	}
	h.pending[cursor], h.came[cursor] = m, now
	h.mu.Unlock()
	h.wake()
}

// sourcePipeline is how payloads tell of the bridge that started a pipeline.
type sourcePipeline struct {
	Project struct {
		ID int64 `json:"id"`
	} `json:"project"`
	Pipeline int64 `json:"pipeline_id"`
	Job      int64 `json:"job_id"`
}

func (p sourcePipeline) bridge() bridge {
	if p.Project.ID <= 0 || p.Pipeline <= 0 {
		return bridge{}
	}
	return bridge{p.Project.ID, p.Pipeline, max(p.Job, 0)}
}

// eventKinds are the values of X-Gitlab-Event, for bodies that a custom template left without object_kind.
var eventKinds = map[string]string{"Pipeline Hook": "pipeline", "Job Hook": "build", "Deployment Hook": "deployment", "Merge Request Hook": "merge_request"}

// readHook takes out of a payload which pipeline changed. ok is false for what is of no interest. Variables are never
// read.
func readHook(event string, body []byte) (m mark, ok bool, err error) {
	var kind struct {
		Kind string `json:"object_kind"`
	}
	if json.Unmarshal(body, &kind) != nil {
		return m, false, errNoHook
	}
	if kind.Kind == "" {
		kind.Kind = eventKinds[event]
	}
	switch kind.Kind {
	case "":
		return m, false, errNoHook
	case "pipeline":
		var p struct {
			Project struct {
				ID int64 `json:"id"`
			} `json:"project"`
			Attributes struct {
				pipeline
				URL string `json:"url"`
			} `json:"object_attributes"`
			By sourcePipeline `json:"source_pipeline"`
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return m, false, fmt.Errorf("%w: %w", errNoHook, err)
		}
		m = mark{Project: p.Project.ID, Pipeline: p.Attributes.pipeline, By: p.By.bridge()}
		m.Pipeline.WebURL = p.Attributes.URL
	case "build":
		var p struct {
			ProjectID  int64          `json:"project_id"`
			PipelineID int64          `json:"pipeline_id"`
			Status     string         `json:"build_status"`
			Ref        string         `json:"ref"`
			By         sourcePipeline `json:"source_pipeline"`
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return m, false, fmt.Errorf("%w: %w", errNoHook, err)
		}
		if !terminal(p.Status) || p.Status == "skipped" {
			return m, false, nil // the pipeline's own webhook, or the end of the job, tells as much
		}
		m = mark{Project: p.ProjectID, Pipeline: pipeline{ID: p.PipelineID, Ref: p.Ref}, By: p.By.bridge(), ended: readEndedJob(body)}
	case "deployment":
		var p struct {
			Project struct {
				ID int64 `json:"id"`
			} `json:"project"`
			Status string `json:"status"`
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return m, false, fmt.Errorf("%w: %w", errNoHook, err)
		}
		return mark{Project: p.Project.ID, Deployment: true}, p.Project.ID > 0 && deploymentResults[p.Status] != "", nil
	case "merge_request":
		return readMergeRequestHook(body)
	default:
		return m, false, nil
	}
	return m, m.Project > 0 && m.Pipeline.ID > 0, nil
}

// Nudge yields a value when webhooks told of a change. It implements exporter.Nudged.
func (s *Source) Nudge() <-chan struct{} { return s.hooks.nudge }

// SyncNudged reads what webhooks told of, and nothing else. It implements exporter.Nudged. What fails is kept, and read
// the next time.
func (s *Source) SyncNudged(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	marks, at := s.hooks.byProject(), s.opts.Now()
	s.mu.Lock()
	followed := maps.Clone(s.followed)
	s.mu.Unlock()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(followed)) {
		if now := s.opts.Now(); now.Sub(at) > time.Second { // it waited for the budget, and more have come
			marks, at = s.hooks.byProject(), now
		}
		if err := followed[id].nudged(ctx, g, to, marks[id]); err != nil {
			errs = append(errs, fmt.Errorf("project %d: %w", id, err))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(marks)) {
		if _, ok := followed[id]; !ok && !s.follows(id) { // no entity names it any more
			errs = append(errs, s.forget(ctx, to, marks[id]))
		}
	}
	return errors.Join(errs...)
}

// forget takes marks out of the journal, unless another webhook has come meanwhile.
func (s *Source) forget(ctx context.Context, to exporter.Sink, marks map[string]mark) error {
	take := func(cursor string) error {
		defer s.hooks.cursors.lock(cursor)()
		if !s.hooks.done(cursor, marks[cursor]) {
			return nil
		}
		return to.Commit(ctx, exporter.Batch{Cursor: cursor})
	}
	for _, cursor := range slices.Sorted(maps.Keys(marks)) {
		if err := take(cursor); err != nil {
			return err
		}
	}
	return nil
}

// nudged reads the marked pipelines of one project, and those that wait for nothing but time. A pipeline that has ended is
// read only when no retry can follow any more: a retry of which the webhook is late or lost is seen then.
func (f *follower) nudged(ctx context.Context, g *catalog.Graph, to exporter.Sink, marks map[string]mark) error {
	if !f.busy.TryLock() { // a reading that takes long must not hold the other projects up
		f.hooks.later(busyDelay)
		return nil
	}
	defer f.busy.Unlock()
	deployed := f.deploying.waits && f.opts.Now().Sub(f.deploying.asked) >= settled
	if f.project.ID == 0 || len(marks) == 0 && len(f.cached) == 0 && !deployed && !f.hooks.hasEnded(f.project.ID) {
		return nil // a Sync that has not come to the project yet nudges at its end
	}
	r, err := f.begin(g, to)
	if err != nil {
		return err
	}
	if r.stored == "" || !r.Floor.IsZero() {
		return nil // the first reading finds them
	}
	var errs []error
	read, again := map[string]mark{}, time.Duration(0)
	ended := f.hooks.takeEnded(f.project.ID)
	var due []string          // cursors of pipelines that have ended
	judge := map[int64]bool{} // pipelines whose end was read, and whose jobs are to be read anew
	for _, cursor := range slices.Sorted(maps.Keys(marks)) {
		m := marks[cursor]
		if m.Deployment {
			f.deploying.due, deployed = true, true
			read[cursor] = m // what could not be read is read later anyway
			continue
		}
		if o := m.MergeRequest; o.IID != 0 {
			r.wasOpened(o.IID, o.At.Time, o.Branch, o.From)
			read[cursor] = m
			continue
		}
		if wait := f.hooks.fresh(cursor, f.opts.Now()); wait > 0 && (m.Pipeline.Status == "" || terminal(m.Pipeline.Status)) {
			if again == 0 || wait < again {
				again = wait
			}
			continue
		}
		if r.ended(m) {
			if f.hooks.cameBefore(cursor, r.listed) && r.knows(m.Pipeline.ID) {
				r.markedBy(m)
				judge[m.Pipeline.ID], read[cursor] = true, m
				continue
			}
			due = append(due, cursor)
			continue
		}
		r.markedBy(m)
		if err := r.marked(ctx, m.Pipeline); err != nil {
			return err
		}
		read[cursor] = m
	}
	r.jobsEnded(ended)
	if len(ended) > 0 && len(due) > 0 { // what is known must not wait for the budget
		if err := r.finish(ctx); err != nil {
			return err
		}
	}
	listed := len(due) > 1
	if listed {
		if err := r.many(ctx); err != nil {
			return err
		}
	}
	for _, cursor := range due {
		m := marks[cursor]
		r.markedBy(m)
		if listed && r.knows(m.Pipeline.ID) {
			read[cursor] = m
			continue
		}
		err := r.marked(ctx, m.Pipeline)
		var status *upstream.StatusError
		switch {
		case err == nil:
		case !errors.As(err, &status):
			return err
		case status.Code/100 == 4 && status.Code != http.StatusTooManyRequests: // asking again is useless; polling finds what may be read
			f.opts.Logger.Warn("a pipeline that a webhook told of cannot be read", "source", "gitlab", "host", f.host, "project", f.project.Path, "error", err)
		default:
			errs = append(errs, err)
			continue
		}
		read[cursor] = m
	}
	now := r.clock.now()
	err = r.look(ctx, func(id int64) bool {
		c, ok := r.cached[id]
		if !judge[id] && (!ok || now.Sub(c.judged) < quiet) {
			return false
		}
		delete(r.cached, id) // to be read anew
		return true
	})
	if err != nil {
		return err
	}
	if err := r.wholeFeed(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	if err := r.reports(ctx); err != nil {
		return err
	}
	if deployed { // after the pipelines, which wait for nothing
		errs = append(errs, f.readDeployments(ctx, g, to))
		if f.deploying.waits {
			f.hooks.later(settled + time.Second)
		}
	}
	if err := f.forget(ctx, to, read); err != nil {
		return err
	}
	if d := f.nextLook(); d > 0 && (again == 0 || d < again) {
		again = d
	}
	if again > 0 {
		f.hooks.later(again)
	}
	return errors.Join(errs...)
}

// marked reads one pipeline. One that is under way costs no call.
func (r *reading) marked(ctx context.Context, row pipeline) error {
	known, open := r.Open[row.ID]
	now := r.clock.now()
	switch {
	case row.Status == "" && open:
		return nil // its own webhooks tell of it
	case row.Status != "" && !terminal(row.Status):
		if !open {
			known = &openPipeline{Pipeline: row, Changed: now}
			r.Open[row.ID] = known
			r.found(r.active(row, nil, 0))
		}
		known.Pipeline.Status = row.Status
		known.Look = now.Add(time.Minute)
		return nil
	}
	header, err := r.api.GetJSON(ctx, fmt.Sprintf("%s/pipelines/%d", projectPath(r.project.ID), row.ID), &row)
	if isStatus(err, http.StatusNotFound) {
		delete(r.Open, row.ID)
		delete(r.cached, row.ID)
		r.gone = append(r.gone, r.runID("pipeline", row.ID))
		return nil
	}
	if err != nil {
		return fmt.Errorf("pipeline %d: %w", row.ID, err)
	}
	r.clock.set(header)
	seen := r.seenOf(row)
	if at, ok := seen[row.ID]; ok && at.Equal(row.Updated.Time) && !open {
		return nil // a reading of the project came first
	}
	jobs, err := r.jobsOf(ctx, row.ID)
	if err != nil {
		return err
	}
	seen[row.ID] = row.Updated.Time
	if row.Source != sourceChild {
		r.Children.Moved = true
		r.movedBy([]pipeline{row})
	}
	return r.judge(ctx, row, jobs, row.Updated.Time)
}

// done forgets a mark; false when another one has taken its place.
func (h *hooks) done(cursor string, m mark) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending[cursor] != m {
		return false
	}
	delete(h.pending, cursor)
	delete(h.came, cursor)
	return true
}

// fresh gives how long a mark has to wait until no retry can follow what it tells of.
func (h *hooks) fresh(cursor string, now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	came, ok := h.came[cursor]
	if !ok || came.After(now) {
		return 0
	}
	return max(settleDelay-now.Sub(came), 0)
}

// later nudges after a while, or earlier. One timer runs at most: each nudge may lead to another one.
func (h *hooks) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := time.Now().Add(d)
	if h.timer != nil {
		if !due.Before(h.due) {
			return
		}
		h.timer.Stop()
	}
	h.due = due
	var own *time.Timer
	own = time.AfterFunc(d, func() {
		h.mu.Lock()
		if h.timer == own {
			h.timer = nil
		}
		h.mu.Unlock()
		h.wake()
	})
	h.timer = own
}

func (h *hooks) wake() {
	select {
	case h.nudge <- struct{}{}:
	default: // told already
	}
}

// load takes over what was stored and not read before a restart.
func (h *hooks) load(stored map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for cursor, text := range stored {
		var m mark
		if json.Unmarshal([]byte(text), &m) == nil && m.Project > 0 {
			if h.pending == nil {
				h.pending = map[string]mark{}
			}
			h.pending[cursor] = m
		}
	}
}

func (h *hooks) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pending) > 0
}

// settleDelay is how long after a reading a pipeline that has just ended is judged: a retry may follow within ten seconds.
const settleDelay = quiet + time.Second

// busyDelay is when a project that is being read is tried again.
const busyDelay = time.Second
