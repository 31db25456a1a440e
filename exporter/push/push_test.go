package push_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/upstream"
)

const trace = "df4cdbd0bd964ae798c8491a7cd08624"

var start = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// registry holds a metric of each type. The gauge "going" is there as long as it is registered.
func registry(t *testing.T) (reg *prometheus.Registry, runs prometheus.Counter, going prometheus.Gauge) {
	t.Helper()
	reg = prometheus.NewRegistry()
	runs = prometheus.NewCounter(prometheus.CounterOpts{Name: "runs_total", Help: "Finished runs.", ConstLabels: prometheus.Labels{"owner": "group:default/payments", "empty": ""}})
	going = prometheus.NewGauge(prometheus.GaugeOpts{Name: "going", Help: "Going."})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "Time.", Buckets: []float64{1, 60}, NativeHistogramBucketFactor: 1.1})
	plain := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "plain_seconds", Help: "Time.", Buckets: []float64{1, 60}})
	waited := prometheus.NewSummary(prometheus.SummaryOpts{Name: "waited_seconds", Help: "Time.", Objectives: map[float64]float64{.5: .1}})
	many := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "many", Help: "More than one request takes."}, []string{"n"})
	reg.MustRegister(runs, going, took, plain, waited, many)
	runs.(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"trace_id": trace})
	going.Set(7)
	for _, v := range []float64{.5, 30, 90} {
		took.Observe(v)
		plain.(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": trace})
		waited.Observe(v)
	}
	for n := range 4100 {
		many.WithLabelValues(fmt.Sprint(n)).Set(1)
	}
	return reg, runs, going
}

func httpClient(t *testing.T) *http.Client {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := upstream.NewHTTPClient(upstream.Options{TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRemoteWriteFillsAPrometheus(t *testing.T) {
	now := start
	e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := httptest.NewServer(e.RemoteWriteHandler())
	t.Cleanup(srv.Close)
	to, err := push.NewRemoteWrite(push.RemoteWriteOptions{URL: srv.URL, Client: httpClient(t), Labels: map[string]string{"cluster": "eu"}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	reg, runs, going := registry(t)
	query := func(expr string) string {
		t.Helper()
		samples, err := e.Query(t.Context(), expr, now)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		var out []string
		for _, s := range samples {
			out = append(out, fmt.Sprint(s.Value))
		}
		return strings.Join(out, " ")
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		for expr, want := range want {
			if got := query(expr); got != want {
				t.Errorf("%s, %s is %q, want %q", when, expr, got, want)
			}
		}
	}
	if err := to.Push(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	check("after the first push", map[string]string{
		`runs_total{owner="group:default/payments",cluster="eu"}`: "3",
		`going{cluster="eu"}`:                                 "7",
		`took_seconds_bucket{le="60.0"}`:                      "2",
		`took_seconds_bucket{le="+Inf"}`:                      "3",
		`took_seconds_sum`:                                    "120.5",
		`histogram_count(took_seconds)`:                       "3",
		`histogram_sum(took_seconds)`:                         "120.5",
		`plain_seconds_bucket{le="1.0"}`:                      "1",
		`waited_seconds{quantile="0.5"}`:                      "30",
		`waited_seconds_count`:                                "3",
		`count(many)`:                                         "4100",
		`count({__name__=~".+",cluster!="eu"})`:               "",
		`count(count by (n) (many == 1))`:                     "4100",
		`count(runs_total{empty=~".+"})`:                      "",
		`histogram_fraction(0, 1, took_seconds) > 0.3 < 0.34`: "0.3333333333333333",
	})
	runs.Add(2)
	reg.Unregister(going)
	now = now.Add(30 * time.Second)
	if err := to.Push(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	check("after the second push", map[string]string{`runs_total`: "5", `going`: "", `count(many)`: "4100"})
}

func TestRemoteWriteSaysTypeStartAndTraceAndTriesAgain(t *testing.T) {
	var mu sync.Mutex
	var got []writev2.Request
	tries := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "X-Prometheus-Remote-Write-Version": "2.0.0",
			"Authorization": "Bearer secret", "X-Scope-OrgID": "platform",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		raw, err := snappy.Decode(nil, body)
		var req writev2.Request
		if err != nil || req.Unmarshal(raw) != nil {
			t.Errorf("not a remote write 2.0 request: %v", err)
		}
		got = append(got, req)
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", fmt.Sprint(len(req.Timeseries)))
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	to, err := push.NewRemoteWrite(push.RemoteWriteOptions{URL: srv.URL + "/api/v1/push", Client: httpClient(t), Tenant: "platform"})
	if err != nil {
		t.Fatal(err)
	}
	reg, _, _ := registry(t)
	if err := to.Push(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, req := range got {
		if len(req.Timeseries) > 2000 || req.Symbols[0] != "" {
			t.Errorf("a request has %d series, and its first symbol is %q", len(req.Timeseries), req.Symbols[0])
		}
		for _, s := range req.Timeseries {
			name := ""
			for i := 0; i < len(s.LabelsRefs); i += 2 {
				if req.Symbols[s.LabelsRefs[i]] == "__name__" {
					name = req.Symbols[s.LabelsRefs[i+1]]
				}
			}
			if name != "runs_total" {
				continue
			}
			found["type"], found["help"] = s.Metadata.Type.String(), req.Symbols[s.Metadata.HelpRef]
			found["has a start"] = fmt.Sprint(s.Samples[0].StartTimestamp > start.UnixMilli() && s.Samples[0].StartTimestamp <= s.Samples[0].Timestamp)
			e := s.Exemplars[0]
			found["exemplar"] = req.Symbols[e.LabelsRefs[0]] + "=" + req.Symbols[e.LabelsRefs[1]]
		}
	}
	want := map[string]string{"type": "METRIC_TYPE_COUNTER", "help": "Finished runs.", "has a start": "true", "exemplar": "trace_id=" + trace}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("of runs_total (-want +got):\n%s", diff)
	}
}

func TestOTLPMetricsReachACollector(t *testing.T) {
	requests := make(chan *collector.ExportMetricsServiceRequest, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/otlp/v1/metrics" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("posted to %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		b, err := io.ReadAll(z)
		req := &collector.ExportMetricsServiceRequest{}
		if err != nil || proto.Unmarshal(b, req) != nil {
			t.Errorf("not an OTLP request: %v", err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		requests <- req
	}))
	t.Cleanup(srv.Close)
	to, err := push.NewOTLP(srv.URL+"/otlp/", "1.2.3", httpClient(t))
	if err != nil {
		t.Fatal(err)
	}
	reg, _, _ := registry(t)
	broken := prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "Fails.", nil, nil), errors.New("no"))
	reg.MustRegister(one{broken})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		push.Run(ctx, to, push.Options{From: reg, Interval: time.Hour, Metrics: push.NewMetrics(prometheus.NewRegistry())})
	}()
	req := <-requests
	cancel()
	<-done
	resource := map[string]string{}
	for _, a := range req.ResourceMetrics[0].Resource.Attributes {
		resource[a.Key] = a.Value.GetStringValue()
	}
	if diff := cmp.Diff(map[string]string{"service.name": "sightline", "service.version": "1.2.3"}, resource); diff != "" {
		t.Errorf("resource (-want +got):\n%s", diff)
	}
	metrics := map[string]*metricspb.Metric{}
	for _, m := range req.ResourceMetrics[0].ScopeMetrics[0].Metrics {
		metrics[m.Name] = m
	}
	sum := metrics["runs_total"].GetSum()
	if p := sum.DataPoints[0]; !sum.IsMonotonic || p.GetAsDouble() != 3 || len(p.Exemplars) != 1 || hex.EncodeToString(p.Exemplars[0].TraceId) != trace {
		t.Errorf("the counter is %v", sum)
	}
	if h := metrics["took_seconds"].GetExponentialHistogram(); h == nil || h.DataPoints[0].Count != 3 || h.DataPoints[0].GetSum() != 120.5 {
		t.Errorf("the native histogram is %v", metrics["took_seconds"])
	}
	if p := metrics["plain_seconds"].GetHistogram().DataPoints[0]; p.Count != 3 || len(p.Exemplars) != 3 || hex.EncodeToString(p.Exemplars[0].TraceId) != trace {
		t.Errorf("the classic histogram is %v", p)
	}
	if g := metrics["going"].GetGauge().DataPoints[0]; g.GetAsDouble() != 7 {
		t.Errorf("the gauge is %v", g)
	}
}

// one is a collector of one metric.
type one struct{ prometheus.Metric }

func (o one) Describe(ch chan<- *prometheus.Desc) { ch <- o.Desc() }
func (o one) Collect(ch chan<- prometheus.Metric) { ch <- o.Metric }

type flaky struct{ answers []error }

func (*flaky) Name() string { return "flaky" }

func (f *flaky) Push(ctx context.Context, _ prometheus.Gatherer) error {
	err := f.answers[0]
	f.answers = f.answers[1:]
	if errors.Is(err, context.DeadlineExceeded) { // hangs
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func TestATargetThatFailsIsLoggedOncePerChangeAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("no route")
		to := &flaky{[]error{nil, down, down, context.DeadlineExceeded, nil, nil, down}}
		reg := prometheus.NewRegistry()
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			push.Run(ctx, to, push.Options{From: reg, Interval: time.Minute, Metrics: push.NewMetrics(reg), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		}()
		time.Sleep(6*time.Minute + time.Second) // of the bubble's clock
		synctest.Wait()
		cancel()
		<-done
		if len(to.answers) != 0 {
			t.Errorf("%d pushes were left out", len(to.answers))
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[0], "no route") || !strings.Contains(lines[1], "after_failures=3") || !strings.Contains(lines[2], "level=WARN") {
			t.Errorf("the log says:\n%s", log.String())
		}
		want := `
# HELP sightline_push_errors_total Pushes of Sightline's metrics that failed, retries included; the next push makes up for them.
# TYPE sightline_push_errors_total counter
sightline_push_errors_total{target="flaky"} 4
# HELP sightline_push_total Pushes of Sightline's metrics that the target took.
# TYPE sightline_push_total counter
sightline_push_total{target="flaky"} 3
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sightline_push_errors_total", "sightline_push_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestARequestThatIsRefusedHoldsNoOtherBack(t *testing.T) {
	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 { // one of its samples is too old
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	to, err := push.NewRemoteWrite(push.RemoteWriteOptions{URL: srv.URL, Client: httpClient(t)})
	if err != nil {
		t.Fatal(err)
	}
	reg, _, _ := registry(t)
	if err := to.Push(t.Context(), reg); err == nil {
		t.Error("a request was refused, and that is no error")
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d of 3 requests were sent", n)
	}
}
