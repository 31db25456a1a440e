package loki_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/grafana/loki/pkg/push"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func run(id int, result exporter.Result) exporter.Run {
	return exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: fmt.Sprintf("42/pipeline/%d", id)}, Level: exporter.LevelPipeline,
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"), Pipeline: "deploy", Name: "deploy",
		Started: noon, Finished: noon.Add(time.Duration(id) * time.Second), State: exporter.StateFinished, Result: result, Attempt: exporter.AttemptFirst,
	}
}

// A store is a Loki: it keeps lines once, and refuses those that are before oldest while it takes the others.
type store struct {
	t         *testing.T
	status    int // instead of taking anything
	silent    bool
	busyAfter int // requests that are taken before one is too many; 0: none is
	oldest    time.Time
	lines     []string
	known     map[string]bool
	tenants   []string
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var req push.PushRequest
	if err == nil {
		b, err = snappy.Decode(nil, b)
	}
	if err == nil {
		err = req.Unmarshal(b)
	}
	if err != nil || r.URL.Path != "/loki/api/v1/push" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		s.t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
	}
	s.tenants = append(s.tenants, r.Header.Get("X-Scope-OrgID"))
	if s.silent {
		<-r.Context().Done()
		return
	}
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if s.busyAfter > 0 && len(s.tenants) > s.busyAfter {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	old, all := 0, 0
	for _, stream := range req.Streams {
		for _, e := range stream.Entries {
			if all++; e.Timestamp.Before(s.oldest) {
				old++
				continue
			}
			var metadata []string
			for _, m := range e.StructuredMetadata {
				metadata = append(metadata, m.Name+"="+m.Value)
			}
			line := fmt.Sprintf("%s %s %s %s", stream.Labels, e.Timestamp.Sub(noon), strings.Join(metadata, " "), e.Line)
			if !s.known[line] {
				s.known[line] = true
				s.lines = append(s.lines, line)
			}
		}
	}
	if old > 0 {
		http.Error(w, fmt.Sprintf("entry has timestamp too old, total ignored: %d out of %d", old, all), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func sink(t *testing.T, s *store, tenant string, timeout time.Duration) *loki.Sink {
	t.Helper()
	s.t, s.known = t, map[string]bool{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return loki.New(client, tenant)
}

func TestLinesArriveInFewStreamsInTheOrderOfTime(t *testing.T) {
	s := &store{}
	refused, err := sink(t, s, "shop", 0).Send(t.Context(), []exporter.Run{run(3, exporter.ResultSuccess), run(2, exporter.ResultFailure), run(1, exporter.ResultSuccess)})
	if refused != 0 || err != nil {
		t.Fatalf("refused %d, error %v", refused, err)
	}
	var got []string
	for _, l := range s.lines {
		before, _, _ := strings.Cut(l, " span_id")
		got = append(got, before+" … "+l[strings.Index(l, "msg="):])
	}
	labels := func(level string) string {
		return `{level="` + level + `", owner="group:default/payments", service_name="checkout", source="gitlab"}`
	}
	want := []string{
		labels("error") + ` 2s entity=component:default/checkout run_id=42/pipeline/2 … msg="pipeline finished" result=failure pipeline=deploy attempt=first`,
		labels("info") + ` 1s entity=component:default/checkout run_id=42/pipeline/1 … msg="pipeline finished" result=success pipeline=deploy attempt=first`,
		labels("info") + ` 3s entity=component:default/checkout run_id=42/pipeline/3 … msg="pipeline finished" result=success pipeline=deploy attempt=first`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !slices.Equal(s.tenants, []string{"shop"}) {
		t.Errorf("tenants %q", s.tenants)
	}
}

func TestWhatAFailureMeans(t *testing.T) {
	for _, c := range []struct {
		name     string
		store    store
		timeout  time.Duration
		rejected bool
	}{
		{"a bad request is rejected", store{status: 400}, 0, true},
		{"a missing tenant is worth another attempt", store{status: 401}, 0, false},
		{"a rate limit is worth another attempt", store{status: 429}, 0, false},
		{"a broken Loki is worth another attempt", store{status: 500}, 0, false},
		{"a Loki that does not answer is worth another attempt", store{silent: true}, 20 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sink(t, &c.store, "", c.timeout).Send(t.Context(), []exporter.Run{run(1, exporter.ResultSuccess)})
			var se *exporter.SendError
			if rejected := errors.As(err, &se) && se.Rejected; err == nil || rejected != c.rejected {
				t.Errorf("error %v, rejected %v; want %v", err, rejected, c.rejected)
			}
		})
	}
}

// box is an outbox in memory that ends the test when it is empty.
type box struct {
	unsent []exporter.Unsent
	empty  func()
}

func (b *box) Waiting(_ string, limit int) ([]exporter.Unsent, error) {
	return slices.Clone(b.unsent[:min(limit, len(b.unsent))]), nil
}

func (b *box) Sent(_ context.Context, _ string, keys []string) error {
	b.unsent = slices.DeleteFunc(b.unsent, func(u exporter.Unsent) bool { return slices.Contains(keys, u.Key) })
	if len(b.unsent) == 0 {
		b.empty()
	}
	return nil
}

func (*box) Arrived(string) <-chan struct{} { return nil }

func TestLinesThatAreTooOldAreRefusedAndTheOthersStay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &box{empty: cancel}
	for i := range 100 {
		b.unsent = append(b.unsent, exporter.Unsent{Key: fmt.Sprint(i), Run: run(i, exporter.ResultSuccess)})
	}
	reg := prometheus.NewRegistry()
	s := &store{oldest: noon.Add(3 * time.Second)}
	err := exporter.Deliver(ctx, sink(t, s, "", 0), exporter.DeliverOptions{Outbox: b, Metrics: exporter.NewSinkMetrics(reg)})
	if !errors.Is(err, context.Canceled) || len(s.lines) != 97 || len(s.tenants) > 20 {
		t.Errorf("%d lines in %d requests, error %v; want 97 in a few", len(s.lines), len(s.tenants), err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
	}
	if got["sightline_sink_refused_runs_total"] != 3 || got["sightline_sink_sent_runs_total"] != 97 || got["sightline_sink_errors_total"] != 0 {
		t.Errorf("metrics %v; want 3 refused, 97 sent", got)
	}
}
