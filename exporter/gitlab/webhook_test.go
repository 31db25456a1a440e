package gitlab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

const secret = "hook-secret"

// send delivers a webhook and gives the status of the answer.
func (w *world) send(h fakegitlab.Hook) int {
	w.t.Helper()
	return w.post(h.Body, http.Header{"X-Gitlab-Token": {secret}, "X-Gitlab-Event": {h.Event}, "Idempotency-Key": {h.Key}})
}

func (w *world) post(body []byte, header http.Header) int {
	w.t.Helper()
	r := NewReceiver(w.journal, nil, Hooked{w.source, []string{tokenFile(w.t, "another"), tokenFile(w.t, secret)}})
	req := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "/webhooks/gitlab", bytes.NewReader(body))
	req.Header = header
	rec := httptest.NewRecorder()
	r.ServeHTTP(rec, req)
	return rec.Code
}

// nudge reads what webhooks told of, as Follow does.
func (w *world) nudge() error {
	select {
	case <-w.source.Nudge():
		return w.source.SyncNudged(w.t.Context(), w.graph, w.journal)
	default:
		return nil
	}
}

// later lets the pipelines settle that were read a moment ago.
func (w *world) later() {
	w.t.Helper()
	w.pass(settleDelay)
	if err := w.source.SyncNudged(w.t.Context(), w.graph, w.journal); err != nil {
		w.t.Fatal(err)
	}
}

func TestWebhooksAloneCountAPipelineWithTwoCalls(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	p := w.add("success")
	for range 9 {
		w.attempt(p, fmt.Sprint("job-", len(p.Jobs)), w.now, "success")
	}
	w.pass(2 * time.Minute)
	hooks := w.fake.Hooks(w.project, from.Add(-time.Second), w.now)
	if len(hooks) < 33 {
		t.Fatalf("%d webhooks", len(hooks))
	}
	w.api.calls = 0
	end := w.now
	for _, h := range hooks {
		w.now = h.At
		if code := w.send(h); code != http.StatusOK {
			t.Fatalf("%s answered %d", h.Event, code)
		}
		if err := w.nudge(); err != nil {
			t.Fatal(err)
		}
	}
	w.now = end
	w.later()
	if w.api.calls > 2 {
		t.Errorf("%d webhooks cost %d calls, want at most 2", len(hooks), w.api.calls)
	}
	if p, j := w.total(); p != 1 || j != 10 {
		t.Errorf("counted %d pipelines and %d jobs, want 1 and 10", p, j)
	}
	for _, h := range hooks { // all of them again
		w.send(h)
	}
	if err := w.nudge(); err != nil || w.api.calls > 2 {
		t.Errorf("repeated webhooks cost calls: %d, %v", w.api.calls, err)
	}
}

func TestAWebhookThatWasStoredSurvivesAKill(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("failed")
	w.pass(5 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.open() // nothing was read
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		if strings.HasSuffix(r.URL.Path, "/pipelines") { // the feed does not tell
			_, _ = rw.Write([]byte("[]"))
			return true
		}
		return false
	}
	w.sync()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	w.later()
	w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
	if left := w.journal.Positions("gitlab/gitlab.example.com/hooks/"); len(left) != 0 {
		t.Errorf("the journal still holds %v", left)
	}
}

func TestARetryWhoseWebhooksAreLostBelongsToTheFirstFinish(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	p := w.add("failed")
	w.pass(62 * time.Second)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	w.pass(5 * time.Second)
	w.attempt(p, "build", w.now, "success") // nothing tells of it
	w.later()
	w.want(map[string]uint64{"job build failure": 1})
	w.pass(2 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build failure": 1, "job build success": 1, "first success": 1})
}

func TestOneTimerAtMostWaitsForPipelinesToSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hooks{nudge: make(chan struct{}, 1)}
		wakes := 0
		for range 60 { // a busy minute
			h.later(settleDelay)
			time.Sleep(time.Second) // of the test's clock
			select {
			case <-h.nudge:
				wakes++
			default:
			}
		}
		if wakes > 6 {
			t.Errorf("%d nudges in a minute, want one in %s at most", wakes, settleDelay)
		}
		time.Sleep(time.Minute)
		<-h.nudge
		h.later(settleDelay)
		h.later(time.Second)
		begin := time.Now()
		<-h.nudge
		if d := time.Since(begin); d != time.Second {
			t.Errorf("what can be read in a second is read after %s", d)
		}
	})
}

func TestAWebhookWhosePipelineCannotBeReadIsNotAskedForForEver(t *testing.T) {
	w := newWorld(t)
	w.sync()
	end := func(status string) *fakegitlab.Pipeline {
		from := w.now
		p := w.add(status)
		w.pass(5 * time.Minute)
		for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
			w.send(h)
		}
		w.pass(settleDelay)
		return p
	}
	left := func() int { return len(w.journal.Positions("gitlab/gitlab.example.com/hooks/")) }
	unreadable := func(code, want int) {
		bad := end("failed")
		w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
			if r.URL.Path != fmt.Sprintf("/api/v4/projects/42/pipelines/%d", bad.ID) {
				return false
			}
			rw.WriteHeader(code)
			return true
		}
		err := w.source.SyncNudged(t.Context(), w.graph, w.journal)
		if left() != want || (err != nil) != (want > 0) {
			t.Errorf("with %d: %d left, want %d, and error %v", code, left(), want, err)
		}
	}
	unreadable(http.StatusForbidden, 0)
	end("success")
	w.later()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
	unreadable(http.StatusInternalServerError, 1)
	end("success")
	w.later() // two are read together, and with them what could not be read alone
	w.want(map[string]uint64{"job build success": 2, "first success": 2, "job build failure": 2, "first failure": 2})
	unreadable(http.StatusInternalServerError, 1)
	w.graph = graphOf(t)
	w.fake.Break = nil
	w.sync()
	if err := w.source.SyncNudged(t.Context(), w.graph, w.journal); err != nil {
		t.Fatal(err)
	}
	if left() != 0 {
		t.Errorf("of a project that nobody names any more %d are left", left())
	}
}

func TestVariablesAreNeverStored(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("failed")
	w.pass(30 * time.Second)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	if len(w.journal.Positions("gitlab/gitlab.example.com/hooks/")) == 0 {
		t.Fatal("nothing was stored")
	}
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("hunter2")) || bytes.Contains(b, []byte("DEPLOY_PASSWORD")) {
		t.Error("the journal holds a variable of the pipeline")
	}
}

func TestWebhooksAreRefused(t *testing.T) {
	w := newWorld(t)
	w.sync()
	hook := []byte(`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":7,"status":"running"}}`)
	sign := func(key string, at time.Time) http.Header {
		wh, err := standardwebhooks.NewWebhookRaw([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		s, err := wh.Sign("msg_1", at, hook)
		if err != nil {
			t.Fatal(err)
		}
		return http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {fmt.Sprint(at.Unix())}, "Webhook-Signature": {s}}
	}
	token := http.Header{"X-Gitlab-Token": {secret}}
	for _, c := range []struct {
		name   string
		body   []byte
		header http.Header
		want   int
	}{
		{"the second of the active secrets", hook, token, 200},
		{"the first of them", hook, http.Header{"X-Gitlab-Token": {"another"}}, 200},
		{"signed", hook, sign(secret, time.Now()), 200},
		{"another kind", []byte(`{"object_kind":"note"}`), token, 200},
		{"a project that nobody names", []byte(`{"object_kind":"pipeline","project":{"id":43},"object_attributes":{"id":7,"status":"running"}}`), token, 200},
		{"no secret", hook, http.Header{}, 401},
		{"a wrong secret", hook, http.Header{"X-Gitlab-Token": {"hook-secreT"}}, 401},
		{"signed with another key", hook, sign("other", time.Now()), 401},
		{"signed an hour ago", hook, sign(secret, time.Now().Add(-time.Hour)), 401},
		{"not JSON", []byte("hello"), token, 400},
		{"an array", []byte("[]"), token, 400},
		{"ids that are words", []byte(`{"object_kind":"pipeline","project":{"id":"x"}}`), token, 400},
		{"too large", bytes.Repeat([]byte(" "), maxHook+1), token, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := w.post(c.body, c.header); got != c.want {
				t.Errorf("answered %d, want %d", got, c.want)
			}
		})
	}
	r := NewReceiver(w.journal, nil, Hooked{w.source, []string{filepath.Join(t.TempDir(), "missing")}})
	rec := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(hook))
	req.Header = token
	if r.ServeHTTP(rec, req); rec.Code != 503 {
		t.Errorf("without a readable secret it answered %d, want 503", rec.Code)
	}
	w.journal.Close()
	if got := w.post([]byte(`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":8,"status":"running"}}`), token); got != 503 {
		t.Errorf("with a journal that takes nothing it answered %d, want 503", got)
	}
}

// deadlines is a connection that notes its limits.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestBodiesOfNobodyKnowsWhomAreBounded(t *testing.T) {
	w := newWorld(t)
	secretFile := tokenFile(t, secret)
	synctest.Test(t, func(t *testing.T) {
		r := NewReceiver(w.journal, nil, Hooked{w.source, []string{secretFile}})
		post := func(body io.Reader, name, value string) *deadlines {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/gitlab", body)
			req.Header.Set(name, value)
			d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			r.ServeHTTP(d, req)
			return d
		}
		var wg sync.WaitGroup
		var ends []*io.PipeWriter
		for range maxUnproved {
			slow, end := io.Pipe()
			ends = append(ends, end)
			wg.Go(func() { post(slow, "Webhook-Signature", "v1,AAAA") })
		}
		synctest.Wait()
		if d := post(strings.NewReader("{}"), "Webhook-Signature", "v1,AAAA"); d.Code != http.StatusServiceUnavailable {
			t.Errorf("beside %d that are read already another one is answered %d, want 503", maxUnproved, d.Code)
		}
		d := post(strings.NewReader(`{"object_kind":"note"}`), "X-Gitlab-Token", secret)
		if d.Code != http.StatusOK {
			t.Errorf("one with the secret is answered %d, want 200", d.Code)
		}
		if len(d.set) != 2 || time.Until(d.set[0]) != hookTime || !d.set[1].IsZero() {
			t.Errorf("the limits on reading are %v, want one for the body and none after it", d.set)
		}
		for _, end := range ends {
			end.Close()
		}
		wg.Wait()
	})
}

func TestRecordedWebhooksAreRead(t *testing.T) {
	for name, want := range map[string]string{
		"client-go/testdata/webhooks/pipeline.json": "1 31 success", "client-go/testdata/webhooks/job.json": "31537070 743121198 ", "client-go/testdata/webhooks/deployment.json": "30 0 ",
		"client-go/testdata/webhooks/merge_request.json": "1 0 ", "client-go/testdata/webhooks/push.json": "", "gitlab4j/pipeline-event.json": "1 31 success", "gitlab4j/job-event.json": "",
		"otel/gitlabreceiver/pipeline/with_null_timestamps_job.json": "?", "otel/gitlabreceiver/pipeline/valid_with_jobs.json": "?",
	} {
		b, err := os.ReadFile(recordings(t, strings.Split(name, "/")...))
		if err != nil {
			t.Fatal(err)
		}
		m, ok, err := readHook("Pipeline Hook", b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		if ok {
			got = fmt.Sprint(m.Project, " ", m.Pipeline.ID, " ", m.Pipeline.Status)
		}
		if want != "?" && got != want || want == "?" && (!ok || m.Pipeline.Created.IsZero()) {
			t.Errorf("%s: got %q %+v, want %q", name, got, m, want)
		}
	}
}

// TestWebhooksAndPollingGiveTheSame lets random pipelines go on, and delivers their webhooks twice, late, in any order or not
// at all, with readings of the API in between, calls that fail and restarts.
func TestWebhooksAndPollingGiveTheSame(t *testing.T) {
	seeds := 5
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 11))
			w := newWorld(t)
			w.fake.NoChildren = random.IntN(3) == 0
			w.sync()
			begin := w.now
			for range 5 + random.IntN(15) {
				w.pass(time.Duration(1+random.IntN(400)) * time.Second)
				w.story(random)
			}
			w.inOrder()
			end := w.now.Add(2 * time.Hour)
			hooks := w.fake.Hooks(w.project, begin, end)
			if random.IntN(2) == 0 {
				for i := range hooks { // some come up to five minutes late
					if random.IntN(3) == 0 {
						hooks[i].At = hooks[i].At.Add(time.Duration(random.IntN(300)) * time.Second)
					}
				}
			}
			w.deliver(random, hooks, begin, end)
			w.wantTruth()
		})
	}
}

// deliver lets the time from begin to end pass, with webhooks of which some are lost and some come twice, with readings of the
// API in between or without, calls that fail and restarts, and reads once more when all is over.
func (w *world) deliver(random *rand.Rand, hooks []fakegitlab.Hook, begin, end time.Time) {
	w.t.Helper()
	poll := random.IntN(2) == 0
	w.now = begin
	for w.now.Before(end) {
		step := time.Duration(1+random.IntN(90)) * time.Second
		for _, h := range hooks {
			if h.At.After(w.now) && !h.At.After(w.now.Add(step)) && (!poll || random.IntN(4) > 0) {
				w.send(h)
				if random.IntN(5) == 0 {
					h.Key = ""
					w.send(h)
				}
			}
		}
		w.pass(step)
		w.api.calls, w.api.failAt = 0, 0
		if random.IntN(4) == 0 {
			w.api.failAt = 1 + random.IntN(4)
		}
		err := w.nudge()
		if err == nil && poll && random.IntN(3) == 0 {
			err = w.source.Sync(w.t.Context(), w.graph, w.journal)
		}
		if partial := (*exporter.PartialError)(nil); err != nil && w.api.failAt == 0 && !errors.As(err, &partial) {
			w.t.Fatal(err)
		}
		if random.IntN(10) == 0 {
			w.open()
			w.source.Sync(w.t.Context(), w.graph, w.journal)
		}
	}
	w.api.failAt = 0
	w.pass(time.Hour)
	w.restart()
	w.sync()
	w.later()
	w.pass(time.Hour)
	w.sync()
}

func FuzzHook(f *testing.F) {
	f.Add([]byte(`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":7,"status":"running","created_at":"2016-08-12 15:23:28 UTC"}}`))
	f.Add([]byte(`{"object_kind":"build","project_id":1,"pipeline_id":2,"build_status":"failed"}`))
	f.Add([]byte(`{"object_kind":"merge_request","project":{"id":42},"object_attributes":{"iid":7,"action":"open","source_branch":"tax","created_at":"2016-08-12 15:23:28 UTC"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok, err := readHook("", b)
		if ok && (err != nil || m.Project <= 0 || m.Pipeline.ID <= 0 && m.MergeRequest.IID <= 0 && !m.Deployment) {
			t.Errorf("took %+v, %v", m, err)
		}
	})
}

func TestAWebhookOfAProjectThatWasNotReadSinceTheStartWaitsForIt(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("success")
	w.pass(30 * time.Second)
	w.open()
	w.source.follower(42) // a Sync is under way, and has not come to the project
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.fake.Requests()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	if active, calls := w.journal.Snapshot().Active, w.fake.Requests(); len(active)+len(calls) != 0 {
		t.Errorf("of a project that is not known, %v is shown and %v asked", active, calls)
	}
	w.sync()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
	if active := w.journal.Snapshot().Active; len(active) != 0 {
		t.Errorf("%v is still shown", active)
	}
}

func TestDeploymentsAreReadAfterThePipelinesThatWebhooksToldOf(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("success")
	w.pass(5 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.send(w.fake.DeploymentHook(w.project, w.deploy("production", "r1"), w.now))
	w.pass(settleDelay)
	asked := false
	w.api.breaks = func(path string) error {
		if strings.Contains(path, "/deployments?") && !asked {
			asked = true
			w.want(map[string]uint64{"job build success": 1, "first success": 1})
		}
		return nil
	}
	if err := w.nudge(); err != nil || !asked {
		t.Errorf("deployments were asked for: %v, %v", asked, err)
	}
}

func TestAPipelineThatIsDeletedBeforeItSettlesIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("success")
	w.pass(63 * time.Second)
	w.sync()
	f := w.source.follower(42)
	if len(f.cached) != 1 {
		t.Fatalf("%d pipelines wait for time alone, want 1", len(f.cached))
	}
	p.Deleted = w.now.Add(time.Second)
	w.pass(2 * time.Second)
	w.sync()
	if len(f.cached) != 0 {
		t.Error("the deleted pipeline is kept, and nudges for ever")
	}
}

func TestTheLastJobsWebhookDoesNotHideThatItsPipelineHasEnded(t *testing.T) {
	w := newWorld(t)
	w.sync()
	const pipelines = 300
	var both sync.WaitGroup
	for id := range pipelines {
		for _, body := range []string{
			`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":%d,"status":"success"}}`,
			`{"object_kind":"build","project_id":42,"pipeline_id":%d,"build_status":"success"}`,
		} {
			both.Go(func() {
				if _, err := w.source.hook(t.Context(), w.journal, delivery{body: fmt.Appendf(nil, body, id+1)}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	both.Wait()
	hidden := 0
	for cursor, m := range w.source.hooks.pending {
		if text, _ := w.journal.Position(cursor); m.Pipeline.Status != "success" || !strings.Contains(text, `"success"`) {
			hidden++
		}
	}
	if n := len(w.source.hooks.pending); n != pipelines || hidden > 0 {
		t.Errorf("of %d pipelines that have ended %d wait to be read, and of %d it is not known that they have ended", pipelines, n, hidden)
	}
}

func TestPipelinesThatEndTogetherAreReadTogether(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	for i := range 9 {
		p := w.add("success")
		for range 9 {
			w.attempt(p, fmt.Sprint("job-", len(p.Jobs)), w.now, "success")
		}
		w.pass(time.Duration(i) * time.Millisecond)
	}
	w.pass(2 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.api.calls = 0
	w.later()
	if w.api.calls > 2 {
		t.Errorf("the end of nine pipelines of ten jobs cost %d calls, want one for the list of pipelines and one for that of jobs", w.api.calls)
	}
	if p, j := w.total(); p != 9 || j != 90 {
		t.Errorf("counted %d pipelines and %d jobs, want 9 and 90", p, j)
	}
	if left := w.journal.Positions("gitlab/gitlab.example.com/hooks/"); len(left) != 0 {
		t.Errorf("the journal still holds %v", left)
	}
	w.sync()
	if w.api.calls > 2 {
		t.Errorf("with the polling that follows at once it cost %d calls", w.api.calls)
	}
}

func TestWhatPollingHasReadIsNotAskedForByWebhooks(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("success")
	w.pass(2 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.pass(time.Second)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
	w.api.calls = 0
	w.later()
	if left := w.journal.Positions("gitlab/gitlab.example.com/hooks/"); w.api.calls != 0 || len(left) != 0 {
		t.Errorf("a pipeline that polling has counted cost %d calls more, and %v is left", w.api.calls, left)
	}
}
