package push

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// seriesPerRequest is what Prometheus itself sends in one request.
const seriesPerRequest = 2000

// A RemoteWrite is a Target that takes Prometheus remote write 2.0: Prometheus, Mimir, Thanos, Cortex. Samples carry type, help, exemplars and
// start timestamps; histograms are sent both classic and native. A series that is gone gets a staleness marker.
type RemoteWrite struct {
	api    *remote.API
	labels map[string]string
	now    func() time.Time
	sent   map[string]labels.Labels // what the last push sent
	native map[string]bool          // which of these are native histograms
}

// RemoteWriteOptions are the settings of NewRemoteWrite.
type RemoteWriteOptions struct {
	URL    string            // where samples are posted to
	Client *http.Client      // carries what authenticates
	Tenant string            // value of X-Scope-OrgID; "" for none
	Labels map[string]string // added to every series that has no label of the name
	Now    func() time.Time  // default time.Now
}

// NewRemoteWrite makes a RemoteWrite.
func NewRemoteWrite(o RemoteWriteOptions) (*RemoteWrite, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	client := *o.Client
	if o.Tenant != "" {
		client.Transport = tenant{client.Transport, o.Tenant}
	}
	api, err := remote.NewAPI(o.URL, remote.WithAPIPath(""), remote.WithAPIHTTPClient(&client),
		remote.WithAPIBackoff(remote.BackoffConfig{Min: time.Second, Max: 5 * time.Second, MaxRetries: 4}))
	if err != nil {
		return nil, fmt.Errorf("remote write: %w", err)
	}
	return &RemoteWrite{api: api, labels: o.Labels, now: o.Now, sent: map[string]labels.Labels{}, native: map[string]bool{}}, nil
}

type tenant struct {
	http.RoundTripper
	id string
}

// RoundTrip adds the tenant.
func (t tenant) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Scope-OrgID", t.id)
	return t.RoundTripper.RoundTrip(req)
}

// Name is "remote_write".
func (*RemoteWrite) Name() string { return "remote_write" }

// Push implements Target. A request that fails in a way that may pass (5xx, 429, no connection) is tried up to five times. One that is
// refused, for what one of its series is, holds none of the others back.
func (w *RemoteWrite) Push(ctx context.Context, from prometheus.Gatherer) error {
	families, err := from.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	b := &samples{at: w.now().UnixMilli(), extra: w.labels, sent: map[string]labels.Labels{}, native: map[string]bool{}}
	for _, f := range families {
		b.family(f)
	}
	b.stale(w.sent, w.native)
	var errs []error
	for _, r := range b.requests {
		if _, err := w.api.Write(ctx, remote.WriteV2MessageType, r); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		maps.Copy(w.sent, b.sent) // some may be there, and all end some time
		maps.Copy(w.native, b.native)
		return fmt.Errorf("push metrics by remote write: %w", err)
	}
	w.sent, w.native = b.sent, b.native
	return nil
}

// samples is one push in the making.
type samples struct {
	at       int64
	extra    map[string]string
	requests []*writev2.Request
	symbols  writev2.SymbolsTable // of the last request
	sent     map[string]labels.Labels
	native   map[string]bool
}

type metadata struct {
	kind writev2.Metadata_MetricType
	help string
}

var types = map[dto.MetricType]writev2.Metadata_MetricType{
	dto.MetricType_COUNTER: writev2.Metadata_METRIC_TYPE_COUNTER, dto.MetricType_GAUGE: writev2.Metadata_METRIC_TYPE_GAUGE,
	dto.MetricType_SUMMARY: writev2.Metadata_METRIC_TYPE_SUMMARY, dto.MetricType_HISTOGRAM: writev2.Metadata_METRIC_TYPE_HISTOGRAM,
	dto.MetricType_GAUGE_HISTOGRAM: writev2.Metadata_METRIC_TYPE_GAUGEHISTOGRAM, dto.MetricType_UNTYPED: writev2.Metadata_METRIC_TYPE_UNSPECIFIED,
}

func (b *samples) family(f *dto.MetricFamily) {
	name := f.GetName()
	meta := metadata{types[f.GetType()], f.GetHelp()}
	for _, m := range f.GetMetric() {
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			c := m.GetCounter()
			b.float(meta, m, name, "", "", c.GetValue(), c.GetCreatedTimestamp(), c.GetExemplar())
		case dto.MetricType_GAUGE:
			b.float(meta, m, name, "", "", m.GetGauge().GetValue(), nil, nil)
		case dto.MetricType_UNTYPED:
			b.float(meta, m, name, "", "", m.GetUntyped().GetValue(), nil, nil)
		case dto.MetricType_SUMMARY:
			s := m.GetSummary()
			for _, q := range s.GetQuantile() {
				b.float(meta, m, name, "quantile", labels.FormatOpenMetricsFloat(q.GetQuantile()), q.GetValue(), nil, nil)
			}
			b.float(meta, m, name+"_sum", "", "", s.GetSampleSum(), s.GetCreatedTimestamp(), nil)
			b.float(meta, m, name+"_count", "", "", float64(s.GetSampleCount()), s.GetCreatedTimestamp(), nil)
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			b.histogram(meta, m, name)
		}
	}
}

func (b *samples) histogram(meta metadata, m *dto.Metric, name string) {
	h := m.GetHistogram()
	created := h.GetCreatedTimestamp()
	count, infinite := either(h.GetSampleCountFloat(), h.GetSampleCount()), false
	for _, bucket := range h.GetBucket() {
		infinite = infinite || math.IsInf(bucket.GetUpperBound(), +1)
		b.float(meta, m, name+"_bucket", "le", labels.FormatOpenMetricsFloat(bucket.GetUpperBound()), either(bucket.GetCumulativeCountFloat(), bucket.GetCumulativeCount()), created, bucket.GetExemplar())
	}
	if !infinite {
		b.float(meta, m, name+"_bucket", "le", "+Inf", count, created, nil)
	}
	b.float(meta, m, name+"_sum", "", "", h.GetSampleSum(), created, nil)
	b.float(meta, m, name+"_count", "", "", count, created, nil)
	if len(h.GetPositiveSpan()) == 0 && len(h.GetNegativeSpan()) == 0 && h.GetZeroThreshold() == 0 {
		return // no native buckets
	}
	out := writev2.Histogram{
		Sum: h.GetSampleSum(), Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), PositiveSpans: spans(h.GetPositiveSpan()), NegativeSpans: spans(h.GetNegativeSpan()),
		PositiveDeltas: h.GetPositiveDelta(), NegativeDeltas: h.GetNegativeDelta(), PositiveCounts: h.GetPositiveCount(), NegativeCounts: h.GetNegativeCount(),
		Timestamp: b.time(m), StartTimestamp: start(created),
		Count: &writev2.Histogram_CountInt{CountInt: h.GetSampleCount()}, ZeroCount: &writev2.Histogram_ZeroCountInt{ZeroCountInt: h.GetZeroCount()},
	}
	if h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 {
		out.Count, out.ZeroCount = &writev2.Histogram_CountFloat{CountFloat: h.GetSampleCountFloat()}, &writev2.Histogram_ZeroCountFloat{ZeroCountFloat: h.GetZeroCountFloat()}
	}
	if meta.kind == writev2.Metadata_METRIC_TYPE_GAUGEHISTOGRAM {
		out.ResetHint = writev2.Histogram_RESET_HINT_GAUGE
	}
	s := b.one(meta, b.of(m, name, "", ""), true, m.TimestampMs == nil)
	s.Histograms = []writev2.Histogram{out}
}

func (b *samples) float(meta metadata, m *dto.Metric, name, label, labelValue string, v float64, created *timestamppb.Timestamp, e *dto.Exemplar) {
	s := b.one(meta, b.of(m, name, label, labelValue), false, m.TimestampMs == nil)
	s.Samples = []writev2.Sample{{Value: v, Timestamp: b.time(m), StartTimestamp: start(created)}}
	if e != nil {
		var pairs []string
		for _, l := range e.GetLabel() {
			pairs = append(pairs, l.GetName(), l.GetValue())
		}
		refs := b.symbols.SymbolizeLabels(labels.FromStrings(pairs...), nil)
		b.requests[len(b.requests)-1].Symbols = b.symbols.Symbols()
		s.Exemplars = []writev2.Exemplar{{LabelsRefs: refs, Value: e.GetValue(), Timestamp: e.GetTimestamp().AsTime().UnixMilli()}}
	}
}

// one begins a series. One whose samples have times of their own ends without a marker.
func (b *samples) one(meta metadata, series labels.Labels, native, ends bool) *writev2.TimeSeries {
	if ends {
		key := string(series.Bytes(nil))
		if native {
			key += "\x00native"
			b.native[key] = true
		}
		b.sent[key] = series
	}
	return b.add(meta, series)
}

// add appends a series to a request that has room for it.
func (b *samples) add(meta metadata, series labels.Labels) *writev2.TimeSeries {
	if n := len(b.requests); n == 0 || len(b.requests[n-1].Timeseries) == seriesPerRequest {
		b.symbols = writev2.NewSymbolTable()
		b.requests = append(b.requests, &writev2.Request{})
	}
	r := b.requests[len(b.requests)-1]
	r.Timeseries = append(r.Timeseries, writev2.TimeSeries{
		LabelsRefs: b.symbols.SymbolizeLabels(series, nil), Metadata: writev2.Metadata{Type: meta.kind, HelpRef: b.symbols.Symbolize(meta.help)},
	})
	r.Symbols = b.symbols.Symbols()
	return &r.Timeseries[len(r.Timeseries)-1]
}

// of gives the labels of a series. An empty value is no label.
func (b *samples) of(m *dto.Metric, name, label, labelValue string) labels.Labels {
	all := maps.Clone(b.extra)
	if all == nil {
		all = map[string]string{}
	}
	for _, l := range m.GetLabel() {
		all[l.GetName()] = l.GetValue()
	}
	all["__name__"] = name
	if label != "" {
		all[label] = labelValue
	}
	maps.DeleteFunc(all, func(_, v string) bool { return v == "" })
	return labels.FromMap(all)
}

// stale ends what the last push sent and this one does not.
func (b *samples) stale(sent map[string]labels.Labels, native map[string]bool) {
	marker := math.Float64frombits(value.StaleNaN)
	for _, key := range slices.Sorted(maps.Keys(sent)) {
		if _, ok := b.sent[key]; ok {
			continue
		}
		s := b.add(metadata{}, sent[key])
		if native[key] {
			s.Histograms = []writev2.Histogram{{Sum: marker, Timestamp: b.at, Count: &writev2.Histogram_CountInt{}, ZeroCount: &writev2.Histogram_ZeroCountInt{}}}
		} else {
			s.Samples = []writev2.Sample{{Value: marker, Timestamp: b.at}}
		}
	}
}

func (b *samples) time(m *dto.Metric) int64 {
	if m.TimestampMs != nil {
		return m.GetTimestampMs()
	}
	return b.at
}

// start gives a created timestamp in ms; 0 where there is none.
func start(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMilli()
}

func either(f float64, n uint64) float64 {
	if f > 0 {
		return f
	}
	return float64(n)
}

func spans(in []*dto.BucketSpan) []writev2.BucketSpan {
	out := make([]writev2.BucketSpan, len(in))
	for i, s := range in {
		out[i] = writev2.BucketSpan{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}
