package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	lokipush "github.com/grafana/loki/pkg/push"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/joblog"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
	"github.com/sightline-dev/sightline/upstream"
)

// A strictLoki has Loki's default limits, by the clock of the test: 4 MB a second with bursts of 6, and no line that is more than an hour
// behind the newest of its stream. It counts how often each line came.
type strictLoki struct {
	room   float64 // bytes that it takes now
	filled time.Time
	newest map[string]time.Time
	lines  map[string]int
	busy   int // answers of 429
	behind int // lines
}

func (l *strictLoki) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	raw, err := snappy.Decode(nil, b)
	var req lokipush.PushRequest
	if err != nil || req.Unmarshal(raw) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	size := 0
	for _, stream := range req.Streams {
		for _, e := range stream.Entries {
			size += len(e.Line)
			for _, m := range e.StructuredMetadata {
				size += len(m.Name) + len(m.Value)
			}
		}
	}
	l.room = min(6<<20, l.room+4*(1<<20)*time.Since(l.filled).Seconds())
	l.filled = time.Now()
	if float64(size) > l.room {
		l.busy++
		http.Error(w, "ingestion rate limit exceeded", http.StatusTooManyRequests)
		return
	}
	l.room -= float64(size)
	behind := 0
	for _, stream := range req.Streams {
		for _, e := range stream.Entries {
			if e.Timestamp.Before(l.newest[stream.Labels].Add(-time.Hour)) {
				behind++
				continue
			}
			if e.Timestamp.After(l.newest[stream.Labels]) {
				l.newest[stream.Labels] = e.Timestamp
			}
			l.lines[lineID(stream.Labels, e.Timestamp, e.Line, func(yield func(name, value string) bool) {
				for _, m := range e.StructuredMetadata {
					if !yield(m.Name, m.Value) {
						return
					}
				}
			})]++
		}
	}
	if l.behind += behind; behind > 0 {
		http.Error(w, fmt.Sprintf("entry too far behind, total ignored: %d", behind), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// lineID is what Loki tells lines apart by.
func lineID(stream string, at time.Time, text string, metadata func(yield func(name, value string) bool)) string {
	id := fmt.Sprint(stream, at.UnixNano())
	for name, value := range metadata {
		id += " " + name + "=" + value
	}
	return id + " " + text
}

// A platform is what is around Sightline while a store is away, on the clock of the test and without a network.
type platform struct {
	loki       *strictLoki
	traces     *traceStore
	lokiAway   bool
	tracesAway bool
	logs       map[string]int // how often the log of a run was asked for
	tasks      map[string]exporter.Run
	mask       *correlate.Mask
	want       map[string]int // lines, each once
	total      int            // runs
	said       bytes.Buffer   // the log of the journal
}

// answer is the transport of one upstream.
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func (p *platform) client(t *testing.T, name string, h http.Handler, away *bool) *upstream.Client {
	t.Helper()
	c, err := upstream.New(upstream.Options{BaseURL: "http://" + name, Tries: 1, Transport: answer(func(r *http.Request) (*http.Response, error) {
		if away != nil && *away {
			return nil, errors.New("connection refused")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result(), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// jobLog is the log of a job: some are a megabyte of short lines, which is more than Loki takes at once, with what it has beside each.
func jobLog(key string) string {
	short := "section_start:946684800:step_script\r\x1b[0K$ make test of " + key + "\nFAIL\n"
	if strings.HasSuffix(key, "4787") {
		short += strings.Repeat("ok a test that is fine\n", 40_000)
	}
	return short + "ERROR: Job failed\n"
}

func (p *platform) gitlab(w http.ResponseWriter, r *http.Request) {
	key := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/v4/projects/"), "/trace"), "/jobs/", "/job/")
	p.logs[key]++
	io.WriteString(w, jobLog(key))
}

func taskEvents(task exporter.Run) []exporter.LogLine {
	return []exporter.LogLine{
		{Time: task.Started, Run: task.ID, Text: "Starting up task with 1 steps"},
		{Time: task.Started.Add(time.Second), Run: task.ID, Text: "\x1b[31merror\x1b[39m: no such repository as " + task.ID.Key},
	}
}

func (p *platform) backstage(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/scaffolder/v2/tasks/"), "/events")
	p.logs[key]++
	b := &backstage{}
	for _, e := range taskEvents(p.tasks[key]) {
		b.say(e.Time.Format(time.RFC3339Nano), "", "", e.Text)
	}
	r.URL.Path = "/api/scaffolder/v2/tasks/" + taskID + "/events"
	b.ServeHTTP(w, r)
}

const pipelines = 12

// work is what the platform does in a minute: 12 pipelines of ten jobs and two scaffolder tasks. One job of sixty fails, and one task of two.
func (p *platform) work() exporter.Batch {
	var b exporter.Batch
	now := time.Now().UTC()
	add := func(r exporter.Run) {
		r.State, r.Attempt, r.Owner = exporter.StateFinished, exporter.AttemptFirst, catalog.NewRef("group", "", "payments")
		p.total++
		b.Runs = append(b.Runs, r)
		p.expect(r)
	}
	for i := range pipelines {
		pipeline := exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: fmt.Sprintf("%d/pipeline/%d", i, 1_000_000+p.total)}
		finished := now.Add(time.Duration(i-pipelines) * time.Second)
		for range 10 {
			result := exporter.ResultSuccess
			if p.total%60 == 47 {
				result = exporter.ResultFailure
			}
			add(exporter.Run{
				ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: fmt.Sprintf("%d/job/%d", i, 5_000_000+p.total)}, Parent: pipeline, Level: exporter.LevelTask, Result: result,
				Entity: catalog.NewRef("component", "", "checkout"), Pipeline: "deploy", Name: "test", Started: finished.Add(-3 * time.Minute), Finished: finished,
			})
		}
		add(exporter.Run{
			ID: pipeline, Level: exporter.LevelPipeline, Entity: catalog.NewRef("component", "", "checkout"), Pipeline: "deploy", Name: "deploy", RefKind: "default",
			Result: exporter.ResultSuccess, Started: finished.Add(-4 * time.Minute), Finished: finished,
		})
	}
	for _, result := range []exporter.Result{exporter.ResultSuccess, exporter.ResultFailure} {
		add(exporter.Run{
			ID: exporter.RunID{Source: "scaffolder", Host: "backstage.example.com", Key: fmt.Sprintf("task-%d", p.total)}, Level: exporter.LevelPipeline, Entity: catalog.NewRef("template", "", "service"),
			Pipeline: "service", Name: "service", Result: result, Started: now.Add(-time.Minute), Finished: now,
		})
	}
	return b
}

// expect adds what Loki is to have of a run.
func (p *platform) expect(r exporter.Run) {
	var lines []correlate.Line
	if l, ok := correlate.LineOf(r); ok {
		lines = append(lines, l)
	}
	switch {
	case r.Result != exporter.ResultFailure:
	case r.ID.Source == "scaffolder":
		p.tasks[r.ID.Key] = r
		lines = append(lines, correlate.ReadTaskLog(r, taskEvents(r), 1<<20, p.mask)...)
	default:
		job, _ := correlate.ReadJobLog(r, correlate.JobLog{Head: []byte(jobLog(r.ID.Key))}, p.mask)
		lines = append(lines, job...)
	}
	for _, l := range lines {
		var labels []string
		for _, label := range l.Labels {
			labels = append(labels, fmt.Sprintf("%s=%q", label.Name, label.Value))
		}
		p.want[lineID("{"+strings.Join(labels, ", ")+"}", l.Time, l.Text, func(yield func(name, value string) bool) {
			for _, m := range l.Metadata {
				if !yield(m.Name, m.Value) {
					return
				}
			}
		})]++
	}
}

// A process is one life of Sightline as far as sinks go.
type process struct {
	*journal.Journal
	registry *prometheus.Registry
	stop     func()
}

func (p *platform) start(t *testing.T, path string, limit int) process {
	t.Helper()
	to := loki.New(p.client(t, "loki.example.com", p.loki, &p.lokiAway), "")
	spans := otlp.New(p.client(t, "tempo.example.com", p.traces, &p.tracesAway), "test")
	tasks, err := scaffolder.New(p.client(t, "backstage.example.com", http.HandlerFunc(p.backstage), nil), "http://backstage.example.com", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	logs := joblog.New(joblog.Options{Readers: []joblog.Reader{
		joblog.NewGitLab(p.client(t, "gitlab.example.com", http.HandlerFunc(p.gitlab), nil), 36_000, 4<<20, p.mask), joblog.NewScaffolder(tasks, 1<<20, p.mask),
	}})
	sinks := map[string]exporter.Sender{}
	for _, s := range []exporter.Sender{to, spans, logs.LinesTo(to), logs.SectionsTo(spans)} {
		sinks[s.Name()] = s
	}
	j, err := journal.Open(path, journal.Options{
		Outboxes: slices.Sorted(maps.Keys(sinks)), OutboxLimit: limit, Logger: slog.New(slog.NewTextHandler(&p.said, nil)),
		Wanted: func(sink string, r *exporter.Run) bool {
			s, ok := sinks[sink].(exporter.Selective)
			return !ok || s.Wants(r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(exporter.NewCollector(j))
	metrics := exporter.NewSinkMetrics(registry)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for _, s := range sinks {
		done.Go(func() {
			if err := exporter.Deliver(ctx, s, exporter.DeliverOptions{Outbox: j, Metrics: metrics}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", s.Name(), err)
			}
		})
	}
	return process{j, registry, func() {
		cancel()
		done.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}}
}

func (p process) waiting(sink string) int { return p.Snapshot().Outbox[sink].Waiting }

// counted is what /metrics says of runs, tasks included; it is scraped as somebody scrapes it, and takes no time of the clock.
func (p process) counted(t *testing.T) (n int) {
	t.Helper()
	began := time.Now()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); name == "cicd_pipeline_runs_total" || name == "cicd_pipeline_task_runs_total" {
			for _, m := range f.GetMetric() {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	if took := time.Since(began); took != 0 {
		t.Errorf("a scrape waited for %s", took)
	}
	return n
}

// minutes works and counts for some minutes: what waits for a store holds neither up.
func (p *platform) minutes(t *testing.T, proc process, n int) {
	t.Helper()
	for range n {
		time.Sleep(time.Minute)
		b := p.work()
		began := time.Now()
		if err := proc.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Fatalf("counting waited for %s", took)
		}
		if got := proc.counted(t); got != p.total {
			t.Fatalf("%d runs are counted, want %d", got, p.total)
		}
	}
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	mask, err := correlate.NewMask(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &platform{
		loki: &strictLoki{newest: map[string]time.Time{}, lines: map[string]int{}}, traces: &traceStore{spans: map[string]string{}},
		logs: map[string]int{}, tasks: map[string]exporter.Run{}, want: map[string]int{}, mask: mask,
	}
}

// An hour of 134 runs a minute is 8,000 runs, of which 200 have a log. The test's clock makes it seconds.
func TestALokiThatIsAwayForAnHourGetsEachLineOnceAndHoldsNoMetricUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		path := filepath.Join(t.TempDir(), "journal")
		proc := p.start(t, path, 0)
		p.minutes(t, proc, 2)
		p.lokiAway, p.tracesAway = true, true
		p.minutes(t, proc, 30)
		proc.stop()
		proc = p.start(t, path, 0)
		if got := proc.counted(t); got != p.total {
			t.Errorf("%d runs are counted after the restart, want %d", got, p.total)
		}
		p.minutes(t, proc, 30)
		if got := proc.waiting("loki"); got < 60*134 {
			t.Errorf("%d runs wait after an hour, want all of it", got)
		}

		p.lokiAway = false
		for began := time.Now(); proc.waiting("loki")+proc.waiting("job_logs") > 0; time.Sleep(time.Minute) {
			if time.Since(began) > 2*time.Hour {
				t.Fatalf("after two hours %d runs and %d logs wait for a Loki that is back", proc.waiting("loki"), proc.waiting("job_logs"))
			}
		}
		for id, n := range p.loki.lines {
			if n != p.want[id] {
				t.Errorf("a line came %d times, want %d: %s", n, p.want[id], id)
			}
		}
		if len(p.loki.lines) != len(p.want) || p.loki.behind != 0 {
			t.Errorf("Loki has %d lines, want %d; it refused %d for their time", len(p.loki.lines), len(p.want), p.loki.behind)
		}
		if p.loki.busy == 0 {
			t.Error("Loki was never busy, so its limits were not tried")
		}

		// The trace store is away all the while, and holds no line back.
		if got := proc.waiting("job_log_sections"); got < 60*2 {
			t.Errorf("%d logs wait for the trace store that is away, want those of an hour", got)
		}
		p.tracesAway = false
		for began := time.Now(); proc.waiting("otlp")+proc.waiting("job_log_sections") > 0; time.Sleep(time.Minute) {
			if time.Since(began) > 2*time.Hour {
				t.Fatalf("after two hours %d runs and %d logs wait for a trace store that is back", proc.waiting("otlp"), proc.waiting("job_log_sections"))
			}
		}
		asked := 0
		for _, n := range p.logs {
			asked += n
		}
		if asked > 2*len(p.logs)+2 {
			t.Errorf("%d logs were asked for %d times, want once for each store that was away, and again what was held at the restart", len(p.logs), asked)
		}
		proc.stop()
	})
}

func TestWhatIsBeyondTheBoundOfTheOutboxIsSaidAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.lokiAway = true
		proc := p.start(t, filepath.Join(t.TempDir(), "journal"), 200)
		p.minutes(t, proc, 3)
		if err := testutil.GatherAndCompare(proc.registry, strings.NewReader(`
# HELP sightline_outbox_dropped_total Counted runs whose spans or log lines were given up, because too many were waiting.
# TYPE sightline_outbox_dropped_total counter
sightline_outbox_dropped_total{sink="job_log_sections"} 0
sightline_outbox_dropped_total{sink="job_logs"} 0
sightline_outbox_dropped_total{sink="loki"} 202
sightline_outbox_dropped_total{sink="otlp"} 0
`), "sightline_outbox_dropped_total"); err != nil {
			t.Error(err)
		}
		var said []string
		for line := range strings.Lines(p.said.String()) {
			if _, after, ok := strings.Cut(line, "level=WARN "); ok {
				said = append(said, strings.TrimSpace(after))
			}
		}
		want := []string{`msg="too many runs wait for a sink: those that finished first are given up" sink=loki limit=200 given_up=68`}
		if d := cmp.Diff(want, said); d != "" {
			t.Errorf("the log (-want +got):\n%s", d)
		}
		time.Sleep(time.Hour)
		p.minutes(t, proc, 1)
		if n := strings.Count(p.said.String(), "sink=loki"); n != 2 {
			t.Errorf("said %d times in an hour, want when it began and an hour later", n)
		}
		p.lokiAway = false
		for proc.waiting("loki") > 0 {
			time.Sleep(time.Minute)
		}
		if n := len(p.loki.lines); n < 200 {
			t.Errorf("%d lines arrived, want those of the latest 200 runs", n)
		}
		proc.stop()
	})
}
