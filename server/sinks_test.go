package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// executed is a source of one pipeline that was executed, which it finds anew at each Sync, and of its history.
type executed struct{ runs }

func (s executed) Sync(ctx context.Context, _ *catalog.Graph, to exporter.Sink) error {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	pipeline := func(key string) exporter.Run {
		return exporter.Run{
			ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: key}, Level: exporter.LevelPipeline, Entity: catalog.NewRef("component", "", "checkout"),
			Owner: catalog.NewRef("group", "", "payments"), Pipeline: "deploy", Name: "deploy", RefKind: "default", Started: at, Finished: at.Add(time.Minute), Duration: new(60.0),
			State: exporter.StateFinished, Result: exporter.ResultSuccess, Attempt: exporter.AttemptFirst,
		}
	}
	if err := to.Commit(ctx, exporter.Batch{History: true, Cursor: "h", Position: "1", Runs: []exporter.Run{pipeline("42/pipeline/1000")}}); err != nil {
		return err
	}
	err := to.Commit(ctx, exporter.Batch{Cursor: "c", Position: "1", Runs: []exporter.Run{pipeline("42/pipeline/1001")}})
	s.synced <- struct{}{}
	return err
}

func TestARunReachesTheTraceStoreOnceAcrossDowntimeAndRestart(t *testing.T) {
	requests, status := make(chan *collector.ExportTraceServiceRequest, 10), http.StatusServiceUnavailable
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		req := &collector.ExportTraceServiceRequest{}
		if err != nil || proto.Unmarshal(b, req) != nil {
			t.Errorf("not an OTLP request: %v", err)
		}
		w.WriteHeader(status)
		requests <- req
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	start := func() (metric func(string) string, stop func()) {
		source := executed{runs{make(chan struct{}, 1)}}
		client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		url, _, stop := run(t, Options{
			Path: filepath.Join(dir, "data"), Sources: []Source{{Source: source, Poll: time.Hour}}, Sinks: []exporter.Sender{otlp.New(client, "test")},
			Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
		})
		<-source.synced
		return func(name string) string {
			_, body := get(t, url+"/metrics")
			for line := range strings.Lines(body) {
				if strings.HasPrefix(line, name+"{") {
					return strings.TrimSpace(line)
				}
			}
			return ""
		}, stop
	}

	metric, stop := start()
	<-requests
	if got := metric("sightline_outbox_runs"); got != `sightline_outbox_runs{sink="otlp"} 1` {
		t.Errorf("while the store is away: %q", got)
	}
	stop()

	status = http.StatusOK
	metric, stop = start()
	got := <-requests
	span := got.ResourceSpans[0].ScopeSpans[0].Spans
	if ids := fmt.Sprintf("%x", span[0].TraceId); len(span) != 1 || ids != "df4cdbd0bd964ae798c8491a7cd08624" {
		t.Errorf("%d spans, the first of trace %s; want that of the pipeline that is news", len(span), ids)
	}
	for deadline := time.Now().Add(10 * time.Second); metric("sightline_outbox_runs") != `sightline_outbox_runs{sink="otlp"} 0`; {
		if time.Now().After(deadline) {
			t.Fatalf("after it was sent: %q", metric("sightline_outbox_runs"))
		}
	}
	stop()

	if metric, stop = start(); metric("sightline_outbox_runs") != `sightline_outbox_runs{sink="otlp"} 0` {
		t.Errorf("after another start: %q", metric("sightline_outbox_runs"))
	}
	stop()
	if len(requests) != 0 {
		t.Errorf("%d more requests were sent", len(requests))
	}
}

// A picky sender wants nothing, or tells what it was sent.
type picky struct {
	name  string
	wants bool
	sent  chan []exporter.Run
}

func (p picky) Name() string               { return p.name }
func (p picky) Wants(r *exporter.Run) bool { return p.wants }

func (p picky) Send(_ context.Context, runs []exporter.Run) (int, error) {
	p.sent <- runs
	return 0, nil
}

func TestARunWaitsOnlyForTheSinksThatWantIt(t *testing.T) {
	source := executed{runs{make(chan struct{}, 1)}}
	none, all := picky{"none", false, make(chan []exporter.Run, 1)}, picky{"all", true, make(chan []exporter.Run, 1)}
	url, _, _ := run(t, Options{
		Path: t.TempDir(), Sources: []Source{{Source: source, Poll: time.Hour}}, Sinks: []exporter.Sender{none, all},
		Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
	})
	<-source.synced
	if runs := <-all.sent; len(runs) != 1 {
		t.Errorf("%d runs were sent to the sink that wants them", len(runs))
	}
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, `sightline_outbox_runs{sink="none"} 0`) || len(none.sent) != 0 {
		t.Errorf("a run waits for a sink that does not want it, or was sent to it")
	}
}
