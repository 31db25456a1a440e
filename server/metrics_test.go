package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/sightline-dev/sightline/exporter/push"
)

// scrape asks for the metrics in the form that accept names.
func scrape(t *testing.T, url, accept string) (http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %.200s", resp.StatusCode, err, b)
	}
	return resp.Header, b
}

func TestMetricsComeAsTextOpenMetricsAndProtobuf(t *testing.T) {
	source := executed{runs{make(chan struct{}, 1)}}
	url, _, _ := run(t, Options{
		Path: t.TempDir(), Sources: []Source{{Source: source, Poll: time.Hour}},
		Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
	})
	<-source.synced
	const trace = "df4cdbd0bd964ae798c8491a7cd08624" // of the pipeline that is news

	header, text := scrape(t, url, "text/plain")
	if format := expfmt.ResponseFormat(header); format.FormatType() != expfmt.TypeTextPlain || strings.Contains(string(text), "trace_id") {
		t.Errorf("plain text is %s, and has exemplars: %v", format, strings.Contains(string(text), "trace_id"))
	}

	header, open := scrape(t, url, "application/openmetrics-text;version=1.0.0")
	if got := header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("asked for OpenMetrics, got %s", got)
	}
	found := map[string]string{}
	p := textparse.NewOpenMetricsParser(open, labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("Prometheus cannot read OpenMetrics: %v", err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		p.Labels(&series)
		for ex := (exemplar.Exemplar{}); p.Exemplar(&ex); {
			found[series.Get("__name__")+series.Get("le")] = ex.Labels.Get("trace_id")
		}
		if strings.HasSuffix(series.Get("__name__"), "_created") {
			t.Errorf("a line for a created timestamp: %s", series)
		}
	}
	if found["cicd_pipeline_runs_total"] != trace {
		t.Errorf("exemplars %v; want that of the trace %s on the counter", found, trace)
	}

	header, proto := scrape(t, url, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if got := expfmt.ResponseFormat(header).FormatType(); got != expfmt.TypeProtoDelim {
		t.Errorf("asked for protobuf, got %v", got)
	}
	families := map[string]*dto.MetricFamily{}
	for dec := expfmt.NewDecoder(strings.NewReader(string(proto)), expfmt.ResponseFormat(header)); ; {
		f := &dto.MetricFamily{}
		if err := dec.Decode(f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
	news := func(f *dto.MetricFamily, is func(*dto.Metric) bool) *dto.Metric {
		for _, m := range f.GetMetric() {
			if is(m) {
				return m
			}
		}
		t.Fatalf("no such series of %s", f.GetName())
		return nil
	}
	h := news(families["cicd_pipeline_run_duration_seconds"], func(m *dto.Metric) bool { return m.GetHistogram().GetBucket()[0].GetExemplar() != nil }).GetHistogram()
	if h.GetSchema() != 3 || len(h.GetPositiveSpan()) == 0 || len(h.GetPositiveDelta()) == 0 || h.GetCreatedTimestamp() == nil {
		t.Errorf("the histogram has no native buckets or no created timestamp: %v", h)
	}
	if got := h.GetBucket()[0].GetExemplar().GetLabel()[0].GetValue(); got != trace {
		t.Errorf("the exemplar of its first bucket is %s, want %s", got, trace)
	}
}

func TestMetricsArePushedToAnotherServer(t *testing.T) {
	compiled := func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }
	there, _, _ := run(t, Options{Path: t.TempDir(), Compile: compiled})
	to, err := push.NewRemoteWrite(push.RemoteWriteOptions{URL: there + "/api/v1/write", Client: &http.Client{Timeout: 10 * time.Second}, Labels: map[string]string{"job": "sightline"}})
	if err != nil {
		t.Fatal(err)
	}
	source := executed{runs{make(chan struct{}, 1)}}
	here, _, _ := run(t, Options{Path: t.TempDir(), Compile: compiled, Sources: []Source{{Source: source, Poll: time.Hour}}, Push: []push.Target{to}, PushEvery: 3 * time.Second})
	<-source.synced
	query := "/api/v1/query?query=" + url.QueryEscape(`cicd_pipeline_runs_total{job="sightline",cicd_pipeline_result="success"} == 1`)
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, answer := get(t, there+query)
		if strings.Contains(answer, `"owner":"group:default/payments"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other server has %s", answer)
		}
	}
	if _, text := scrape(t, here, "text/plain"); !strings.Contains(string(text), `sightline_push_errors_total{target="remote_write"} 0`) {
		t.Error("pushes failed")
	}
}
