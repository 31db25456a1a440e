package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	lokipush "github.com/grafana/loki/pkg/push"
	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/joblog"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/upstream"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func job(id int, change func(*exporter.Run)) exporter.Run {
	r := exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "127.0.0.1", Key: fmt.Sprintf("42/job/%d", id)}, Parent: exporter.RunID{Source: "gitlab", Host: "127.0.0.1", Key: "42/pipeline/1001"},
		Level: exporter.LevelTask, Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"), Pipeline: "deploy", Name: "test",
		Started: noon, Finished: noon.Add(time.Minute), State: exporter.StateFinished, Result: exporter.ResultFailure,
	}
	if change != nil {
		change(&r)
	}
	return r
}

// A gitlab answers for the logs of jobs.
type gitlab struct {
	mu     sync.Mutex
	status int
	log    string
	asked  []string
}

func (g *gitlab) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.URL.Path)
	if g.status == http.StatusFound {
		w.Header().Set("Location", "https://objects.example.com/log")
	}
	if g.status != 0 {
		w.WriteHeader(g.status)
		return
	}
	io.WriteString(w, g.log)
}

func (g *gitlab) paths() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func client(t *testing.T, h http.Handler) *upstream.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reader(t *testing.T, g *gitlab, limit int) *joblog.GitLab {
	t.Helper()
	m, err := correlate.NewMask(nil)
	if err != nil {
		t.Fatal(err)
	}
	return joblog.NewGitLab(client(t, g), 36_000_000, limit, m) // a budget that holds nothing up
}

// A store keeps what it is given, unless it is to fail.
type store struct {
	linesErr, spansErr error
	lines              []correlate.Line
	spans              []correlate.Span
}

func (s *store) SendLines(_ context.Context, lines []correlate.Line) (int, error) {
	if s.linesErr != nil {
		return 0, s.linesErr
	}
	s.lines = append(s.lines, lines...)
	return len(lines), nil
}

func (s *store) SendSpans(_ context.Context, spans []correlate.Span) (int, error) {
	if s.spansErr == nil {
		s.spans = append(s.spans, spans...)
	}
	return 0, s.spansErr
}

const log = "Running\nsection_start:1772366410:step_script\r\x1b[0K$ make test\nexport TOKEN=glpat-AbCdEfGhIjKlMnOpQrSt\nFAIL\nsection_end:1772366450:step_script\r\x1b[0KERROR: Job failed\n"

func TestWhoseLogsAreWanted(t *testing.T) {
	for _, tt := range []struct {
		name        string
		run         exporter.Run
		failed, all bool
	}{
		{"a job that failed", job(1, nil), true, true},
		{"a job that took too long", job(1, func(r *exporter.Run) { r.Result = exporter.ResultTimeout }), true, true},
		{"a job that succeeded", job(1, func(r *exporter.Run) { r.Result = exporter.ResultSuccess }), false, true},
		{"a job that was cancelled", job(1, func(r *exporter.Run) { r.Result = exporter.ResultCancellation }), false, true},
		{"a job that never ran", job(1, func(r *exporter.Run) { r.Started = time.Time{} }), false, false},
		{"a job that runs", job(1, func(r *exporter.Run) { r.State, r.Result = exporter.StateExecuting, "" }), false, false},
		{"a pipeline", job(1, func(r *exporter.Run) { r.ID, r.Level = r.Parent, exporter.LevelPipeline }), false, false},
		{"a job of another host", job(1, func(r *exporter.Run) { r.ID.Host = "gitlab.example.com" }), false, false},
	} {
		g := reader(t, &gitlab{}, 1<<20)
		for all, want := range map[bool]bool{false: tt.failed, true: tt.all} {
			if got := joblog.New(joblog.Options{Readers: []joblog.Reader{g}, All: all}).LinesTo(&store{}).Wants(&tt.run); got != want {
				t.Errorf("%s, all %v: wanted %v, want %v", tt.name, all, got, want)
			}
		}
	}
}

func TestAHostIsTheSameHoweverItsNameIsWritten(t *testing.T) {
	c, err := upstream.New(upstream.Options{BaseURL: "https://GitLab.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	r := job(1, func(r *exporter.Run) { r.ID.Host = c.Host() }) // as its source names it
	if !joblog.NewGitLab(c, 3600, 1<<20, nil).Wants(&r) {
		t.Errorf("a job of %s is not wanted", r.ID.Host)
	}
}

func TestWhatBecomesOfALogByTheAnswerForIt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		log    string
		errors int // of four attempts, before it is done
		lines  int
	}{
		{"a log", 0, log, 0, 5},
		{"an empty log", 0, "", 0, 0},
		{"a log that is gone", 404, "", 0, 0},
		{"a log that may not be read", 403, "", 0, 0},
		{"a log that is refused", 400, "", 0, 0},
		{"a log that lies on another host", 302, "", 0, 0},
		{"a log that GitLab breaks at", 500, "", 2, 0},
		{"a GitLab that is away", 502, "", 4, 0},
		{"a token that is wrong", 401, "", 4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s store
			sink := joblog.New(joblog.Options{Readers: []joblog.Reader{reader(t, &gitlab{status: tt.status, log: tt.log}, 1<<20)}}).LinesTo(&s)
			failed := 0
			for range 4 {
				_, err := sink.Send(t.Context(), []exporter.Run{job(5001, nil)})
				if err == nil {
					break
				}
				var se *exporter.SendError
				if failed++; errors.As(err, &se) && se.Rejected {
					t.Errorf("the run is given up: %v", err)
				}
			}
			if failed != tt.errors || len(s.lines) != tt.lines {
				t.Errorf("%d errors, %d lines; want %d, %d", failed, len(s.lines), tt.errors, tt.lines)
			}
		})
	}
}

func TestALongLogIsSentWithItsBeginningAndItsEnd(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	var s store
	sink := joblog.New(joblog.Options{Readers: []joblog.Reader{reader(t, &gitlab{log: b.String()}, 1000)}}).LinesTo(&s)
	if _, err := sink.Send(t.Context(), []exporter.Run{job(5001, nil)}); err != nil {
		t.Fatal(err)
	}
	size, omitted := 0, 0
	for _, l := range s.lines {
		size += len(l.Text) + 1
		if strings.HasSuffix(l.Text, "bytes of this log are left out]") {
			omitted++
		}
	}
	if size > 1100 || omitted != 1 || s.lines[0].Text != "line 0" || s.lines[len(s.lines)-1].Text != "line 4999" {
		t.Errorf("%d bytes from %q to %q, %d notes", size, s.lines[0].Text, s.lines[len(s.lines)-1].Text, omitted)
	}
}

func send(t *testing.T, to exporter.Sender, wantErr bool, runs ...exporter.Run) {
	t.Helper()
	if _, err := to.Send(t.Context(), runs); (err != nil) != wantErr {
		t.Errorf("%s: error %v, want one: %v", to.Name(), err, wantErr)
	}
}

func TestGitLabIsAskedOnceForBothSinksAndWhileTheirStoreIsAway(t *testing.T) {
	g := &gitlab{log: log}
	s := store{linesErr: errors.New("no route"), spansErr: errors.New("no route")}
	logs := joblog.New(joblog.Options{Readers: []joblog.Reader{reader(t, g, 1<<20)}})
	lines, sections := logs.LinesTo(&s), logs.SectionsTo(&s)
	for range 3 {
		send(t, lines, true, job(5001, nil))
		send(t, sections, true, job(5001, nil))
	}
	s.linesErr, s.spansErr = nil, nil
	send(t, sections, false, job(5001, nil))
	send(t, lines, false, job(5001, nil))
	send(t, lines, false, job(5002, nil))
	send(t, sections, false, job(5002, nil))
	if want := []string{"/api/v4/projects/42/jobs/5001/trace", "/api/v4/projects/42/jobs/5002/trace"}; !slices.Equal(g.paths(), want) {
		t.Errorf("asked for %q, want %q", g.paths(), want)
	}
	if len(s.lines) != 10 || len(s.spans) != 2 {
		t.Errorf("%d lines and %d spans arrived, want 10 and 2", len(s.lines), len(s.spans))
	}
}

func TestNeitherStoreHoldsTheOtherBack(t *testing.T) {
	s := store{spansErr: errors.New("no route")}
	logs := joblog.New(joblog.Options{Readers: []joblog.Reader{reader(t, &gitlab{log: log}, 1<<20)}})
	lines, sections := logs.LinesTo(&s), logs.SectionsTo(&s)
	for id := range 20 {
		send(t, lines, false, job(id+1, nil))
	}
	send(t, sections, true, job(1, nil))
	if len(s.lines) != 100 {
		t.Errorf("%d lines arrived while the trace store is away, want 100", len(s.lines))
	}
	s.spansErr, s.linesErr = nil, errors.New("no route")
	send(t, lines, true, job(21, nil))
	for id := range 21 {
		send(t, sections, false, job(id+1, nil))
	}
	if len(s.spans) != 21 {
		t.Errorf("%d sections arrived while the log store is away, want 21", len(s.spans))
	}
}

func TestARefusalOfEitherStoreCostsThisStoreOneRun(t *testing.T) {
	refused := exporter.HTTPSendError(errors.New("bad"), 400)
	s := store{linesErr: refused, spansErr: refused}
	logs := joblog.New(joblog.Options{Readers: []joblog.Reader{reader(t, &gitlab{log: log}, 1<<20)}})
	for _, sink := range []exporter.Sender{logs.LinesTo(&s), logs.SectionsTo(&s)} {
		s.linesErr, s.spansErr = refused, refused
		_, err := sink.Send(t.Context(), []exporter.Run{job(5001, nil)})
		var se *exporter.SendError
		if !errors.As(err, &se) || !se.Rejected {
			t.Errorf("%s: %v; want a rejection", sink.Name(), err)
		}
		s.linesErr, s.spansErr = nil, nil
		send(t, sink, false, job(5002, nil))
	}
	if len(s.lines) != 5 || len(s.spans) != 1 {
		t.Errorf("%d lines and %d spans arrived, want those of the second job", len(s.lines), len(s.spans))
	}
}

// A pile is a Reader of logs of a megabyte.
type pile struct{ read int }

func (*pile) Wants(*exporter.Run) bool { return true }
func (*pile) Sections() bool           { return true }

func (p *pile) ReadLog(context.Context, exporter.Run) ([]correlate.Line, []correlate.Span, error) {
	p.read++
	return []correlate.Line{{Text: strings.Repeat("x", 1<<20)}}, nil, nil
}

func TestLogsOfRunsThatTheOutboxDroppedAreNotKept(t *testing.T) {
	logs := joblog.New(joblog.Options{Readers: []joblog.Reader{&pile{}}})
	away := &store{linesErr: errors.New("no route")}
	sink := logs.LinesTo(away)
	logs.SectionsTo(away)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for id := range 300 { // each the only one that waits
		if _, err := sink.Send(t.Context(), []exporter.Run{job(id+1, nil)}); err == nil {
			t.Fatal("lines were not sent, and that is no error")
		}
	}
	if grown := int64(heap() - before); grown > 100<<20 {
		t.Errorf("%d MiB are kept of 300 logs that nobody will ask for", grown>>20)
	}
	runtime.KeepAlive(sink)
}

// A loki keeps lines by content, as Loki does.
type lokiStore struct {
	mu     sync.Mutex
	away   bool
	pushes chan struct{}
	lines  map[string]int
}

func (l *lokiStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.pushes <- struct{}{}:
	default:
	}
	if l.away {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b, _ := io.ReadAll(r.Body)
	raw, err := snappy.Decode(nil, b)
	var req lokipush.PushRequest
	if err != nil || req.Unmarshal(raw) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, stream := range req.Streams {
		for _, e := range stream.Entries {
			l.lines[fmt.Sprint(stream.Labels, e.Timestamp.UnixNano(), e.StructuredMetadata, e.Line)]++
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func TestALogFollowsItsJobOnceAcrossDowntimeAndRestart(t *testing.T) {
	g := &gitlab{log: log}
	store := &lokiStore{away: true, pushes: make(chan struct{}, 1), lines: map[string]int{}}
	traces := &traceStore{spans: map[string]string{}}
	gitlab := reader(t, g, 1<<20)
	lines, spans := loki.New(client(t, store), ""), otlp.New(client(t, traces), "test")
	path := filepath.Join(t.TempDir(), "journal")
	start := func() (*journal.Journal, func()) {
		logs := joblog.New(joblog.Options{Readers: []joblog.Reader{gitlab}})
		sinks := []exporter.Sender{logs.LinesTo(lines), logs.SectionsTo(spans)}
		j, err := journal.Open(path, journal.Options{Outboxes: []string{"job_logs", "job_log_sections"}, Wanted: func(sink string, r *exporter.Run) bool {
			i := slices.IndexFunc(sinks, func(s exporter.Sender) bool { return s.Name() == sink })
			return sinks[i].(exporter.Selective).Wants(r)
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var done sync.WaitGroup
		metrics := exporter.NewSinkMetrics(prometheus.NewRegistry())
		for _, sink := range sinks {
			done.Go(func() {
				_ = exporter.Deliver(ctx, sink, exporter.DeliverOptions{Outbox: j, Metrics: metrics, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond})
			})
		}
		return j, func() {
			cancel()
			done.Wait()
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	waiting := func(j *journal.Journal) int {
		return j.Snapshot().Outbox["job_logs"].Waiting + j.Snapshot().Outbox["job_log_sections"].Waiting
	}
	j, stop := start()
	if err := j.Commit(t.Context(), exporter.Batch{History: true, Cursor: "h", Position: "1", Runs: []exporter.Run{job(4000, nil)}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(t.Context(), exporter.Batch{Runs: []exporter.Run{
		job(5001, nil), job(5002, func(r *exporter.Run) { r.Result = exporter.ResultSuccess }),
		job(5003, func(r *exporter.Run) { r.ID, r.Parent, r.Level = r.Parent, exporter.RunID{}, exporter.LevelPipeline }),
	}}); err != nil {
		t.Fatal(err)
	}
	<-store.pushes
	if got := j.Snapshot().Outbox["job_logs"].Waiting; got != 1 {
		t.Errorf("%d runs wait for their logs, want the failed job", got)
	}
	stop()

	store.mu.Lock()
	store.away = false
	store.mu.Unlock()
	j, stop = start()
	for deadline := time.Now().Add(20 * time.Second); waiting(j) != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the log never arrived")
		}
		runtime.Gosched()
	}
	stop()
	for _, p := range g.paths() {
		if p != "/api/v4/projects/42/jobs/5001/trace" {
			t.Errorf("asked for %s", p)
		}
	}
	if len(store.lines) != 5 {
		t.Errorf("Loki has %d lines, want 5: %v", len(store.lines), store.lines)
	}
	for l := range store.lines {
		if strings.Contains(l, "glpat-") || !strings.HasPrefix(l, `{kind="job_log", level="info", owner="group:default/payments", service_name="checkout", source="gitlab"}`) {
			t.Errorf("a line is %s", l)
		}
	}
	span, _ := correlate.SpanOf(job(5001, nil))
	if d := cmp.Diff(map[string]string{"step_script": span.ID.String()}, traces.spans); d != "" {
		t.Errorf("spans, and those above them (-want +got):\n%s", d)
	}
}

type traceStore struct {
	mu    sync.Mutex
	spans map[string]string
}

func (s *traceStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, _ := io.ReadAll(r.Body)
	req := &collector.ExportTraceServiceRequest{}
	if proto.Unmarshal(b, req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, span := range ss.Spans {
				s.spans[span.Name] = fmt.Sprintf("%x", bytes.Clone(span.ParentSpanId))
			}
		}
	}
}
