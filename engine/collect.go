package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

type metrics struct {
	duration prometheus.Histogram
	series   prometheus.Gauge
	failures prometheus.Counter
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sightline_engine_collect_duration_seconds",
			Help: "How long it took to append Sightline's own metrics to its store.", Buckets: []float64{.005, .02, .1, .5, 2, 10},
		}),
		series: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sightline_engine_collected_series",
			Help: "Series of Sightline's own metrics that the last collection appended.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sightline_engine_collect_failures_total",
			Help: "Collections of Sightline's own metrics that failed or were incomplete.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sightline_engine_refused_samples_total",
			Help: "Samples of Sightline's own metrics that the store refused, mostly because they were not newer than the last.",
		}),
	}
	reg.MustRegister(m.duration, m.series, m.failures, m.refused)
	return m
}

// A collector appends what a registry gathers to the store, as if it had been scraped:
//
//   - all samples of a pass have the same timestamp, unless a metric carries its own;
//   - the labels le and quantile are written as floats ("1.0");
//   - a series that is gone gets a staleness marker;
//   - a counter or classic histogram that appears between two passes with a created timestamp not before the earlier
//     one gets a zero at the earlier one's time, so that its first increments count. A created timestamp that is absent, zero or
//     earlier (a counter that starts from history) gets none.
//
// There are no labels job and instance, and no series up.
type collector struct {
	gatherer prometheus.Gatherer
	db       storage.Appendable
	native   bool

	mu     sync.Mutex
	pass   uint64
	last   int64                   // ms of the last pass; at first, of the opening
	series map[uint64][]*collected // by the hash of the labels
	b      labels.ScratchBuilder
}

type collected struct {
	labels  labels.Labels
	ref     storage.SeriesRef
	pass    uint64 // the last in which it was seen
	native  bool
	unaided bool // it has timestamps of its own, so it gets no staleness marker
}

func newCollector(g prometheus.Gatherer, db storage.Appendable, native bool, now time.Time) *collector {
	return &collector{gatherer: g, db: db, native: native, last: now.UnixMilli(), series: map[uint64][]*collected{}, b: labels.NewScratchBuilder(8)}
}

// Collect appends the Gatherer's metrics with the given time. Times must grow from call to call. Run does it by itself.
// An incomplete gathering is stored as far as it goes, and the error returned. A sample that the store refuses is counted and left out.
func (e *Engine) Collect(ctx context.Context, at time.Time) error {
	if e.collector == nil {
		return errors.New("collect: the engine has no gatherer")
	}
	if e.closed() {
		return errClosed
	}
	start := time.Now()
	n, refused, err := e.collector.collect(ctx, at.UnixMilli())
	e.metrics.duration.Observe(time.Since(start).Seconds())
	e.metrics.series.Set(float64(n))
	e.metrics.refused.Add(float64(refused))
	if err != nil {
		e.metrics.failures.Inc()
		return fmt.Errorf("collect own metrics: %w", err)
	}
	return nil
}

// collectLoop collects at every multiple of the interval. A pass that is late is skipped, not made up for.
func (e *Engine) collectLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for first := true; ; first = false {
		now := e.now()
		at := now.Truncate(e.opts.ScrapeInterval)
		if !first && at.After(last) {
			if err := e.Collect(ctx, at); err != nil && ctx.Err() == nil {
				e.log.Warn("own metrics are incomplete in the store", "err", err)
			}
		}
		if first || at.After(last) {
			last = at
		}
		timer.Reset(max(last.Add(e.opts.ScrapeInterval).Sub(e.now()), time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

func (c *collector) collect(ctx context.Context, at int64) (appended, refused int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at <= c.last && c.pass > 0 {
		return 0, 0, fmt.Errorf("%s is not after the last collection", time.UnixMilli(at).UTC().Format(time.RFC3339Nano))
	}
	families, gatherErr := c.gatherer.Gather()
	if gatherErr != nil && len(families) == 0 {
		return 0, 0, gatherErr
	}
	c.pass++
	p := &pass{c: c, app: c.db.Appender(ctx), at: at}
	for _, f := range families {
		p.family(f)
	}
	p.markStale()
	if err := p.app.Commit(); err != nil {
		// The cached references may name series that were never made.
		c.series = map[uint64][]*collected{}
		return 0, 0, errors.Join(gatherErr, err)
	}
	c.last = at
	return p.appended, p.refused, gatherErr
}

// A pass is one collection into one transaction.
type pass struct {
	c                 *collector
	app               storage.Appender
	at                int64
	appended, refused int
}

func (p *pass) family(f *dto.MetricFamily) {
	name := f.GetName()
	for _, m := range f.GetMetric() {
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			p.float(name, m, "", "", m.GetCounter().GetValue(), created(m.GetCounter().GetCreatedTimestamp()))
		case dto.MetricType_GAUGE:
			p.float(name, m, "", "", m.GetGauge().GetValue(), 0)
		case dto.MetricType_UNTYPED:
			p.float(name, m, "", "", m.GetUntyped().GetValue(), 0)
		case dto.MetricType_SUMMARY:
			s := m.GetSummary()
			ct := created(s.GetCreatedTimestamp())
			for _, q := range s.GetQuantile() {
				p.float(name, m, "quantile", labels.FormatOpenMetricsFloat(q.GetQuantile()), q.GetValue(), 0)
			}
			p.float(name+"_sum", m, "", "", s.GetSampleSum(), ct)
			p.float(name+"_count", m, "", "", float64(s.GetSampleCount()), ct)
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			p.histogram(name, m, f.GetType() == dto.MetricType_GAUGE_HISTOGRAM)
		}
	}
}

func (p *pass) histogram(name string, m *dto.Metric, gauge bool) {
	h := m.GetHistogram()
	ct := created(h.GetCreatedTimestamp())
	if gauge {
		ct = 0
	}
	count := h.GetSampleCountFloat()
	if count <= 0 {
		count = float64(h.GetSampleCount())
	}
	infinite := false
	for _, b := range h.GetBucket() {
		v := b.GetCumulativeCountFloat()
		if v <= 0 {
			v = float64(b.GetCumulativeCount())
		}
		infinite = infinite || math.IsInf(b.GetUpperBound(), +1)
		p.float(name+"_bucket", m, "le", labels.FormatOpenMetricsFloat(b.GetUpperBound()), v, ct)
	}
	if !infinite {
		p.float(name+"_bucket", m, "le", "+Inf", count, ct)
	}
	p.float(name+"_sum", m, "", "", h.GetSampleSum(), ct)
	p.float(name+"_count", m, "", "", count, ct)
	if p.c.native && isNative(h) {
		p.native(name, m, gauge)
	}
}

// created gives a created timestamp in ms; 0 where there is none.
func created(ts interface{ AsTime() time.Time }) int64 { return max(ts.AsTime().UnixMilli(), 0) }

// find gives the cached series of a metric, and whether it is new or back after it had gone.
func (p *pass) find(name string, m *dto.Metric, extraName, extraValue string) (s *collected, fresh bool) {
	c := p.c
	c.b.Reset()
	c.b.Add(model.MetricNameLabel, name)
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" { // an empty label is no label
			c.b.Add(l.GetName(), l.GetValue())
		}
	}
	if extraName != "" {
		c.b.Add(extraName, extraValue)
	}
	c.b.Sort()
	l := c.b.Labels()
	key := l.Hash()
	for _, s := range c.series[key] {
		if labels.Equal(s.labels, l) {
			return s, false
		}
	}
	s = &collected{labels: l}
	c.series[key] = append(c.series[key], s)
	return s, true
}

func (p *pass) float(name string, m *dto.Metric, extraName, extraValue string, v float64, created int64) {
	s, fresh := p.find(name, m, extraName, extraValue)
	at := p.at
	if m.TimestampMs != nil {
		at, s.unaided = m.GetTimestampMs(), true
	}
	if c := p.c; fresh && created >= c.last && c.last < at && !s.unaided {
		// It was not there at the last pass, so that is where it was still 0, also when it was created between this pass's
		// time and its gathering. Where that instant is taken, by a marker
		// of an earlier life of the series, the created timestamp itself is as good.
		for _, zero := range []int64{c.last, min(created, at-1)} {
			ref, err := p.app.Append(s.ref, s.labels, zero, 0)
			if err == nil {
				s.ref = ref
				break
			}
		}
	}
	ref, err := p.app.Append(s.ref, s.labels, at, v)
	p.done(s, ref, err)
}

func (p *pass) native(name string, m *dto.Metric, gauge bool) {
	s, _ := p.find(name, m, "", "")
	s.native = true
	at := p.at
	if m.TimestampMs != nil {
		at, s.unaided = m.GetTimestampMs(), true
	}
	h, fh := nativeHistogram(m.GetHistogram(), gauge)
	ref, err := p.app.AppendHistogram(s.ref, s.labels, at, h, fh)
	p.done(s, ref, err)
}

func (p *pass) done(s *collected, ref storage.SeriesRef, err error) {
	s.pass = p.c.pass
	if err != nil {
		p.refused++
		return
	}
	s.ref = ref
	p.appended++
}

// markStale ends the series that this pass did not see.
func (p *pass) markStale() {
	for key, list := range p.c.series {
		kept := list[:0]
		for _, s := range list {
			if s.pass == p.c.pass {
				kept = append(kept, s)
				continue
			}
			if s.unaided {
				continue
			}
			var err error
			if s.native {
				_, err = p.app.AppendHistogram(s.ref, s.labels, p.at, &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, nil)
			} else {
				_, err = p.app.Append(s.ref, s.labels, p.at, math.Float64frombits(value.StaleNaN))
			}
			if err != nil {
				p.refused++
			}
		}
		clear(list[len(kept):])
		if len(kept) == 0 {
			delete(p.c.series, key)
		} else {
			p.c.series[key] = kept
		}
	}
}

func isNative(h *dto.Histogram) bool {
	return len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0 || h.GetZeroCountFloat() > 0
}

func nativeHistogram(h *dto.Histogram, gauge bool) (*histogram.Histogram, *histogram.FloatHistogram) {
	hint := histogram.UnknownCounterReset
	if gauge {
		hint = histogram.GaugeType
	}
	if h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 {
		fh := &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: h.GetSchema(), Count: h.GetSampleCountFloat(), Sum: h.GetSampleSum(),
			ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(),
			PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: slices.Clone(h.GetPositiveCount()),
			NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: slices.Clone(h.GetNegativeCount()),
		}
		return nil, fh.Compact(0)
	}
	ih := &histogram.Histogram{
		CounterResetHint: hint, Schema: h.GetSchema(), Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCount(),
		PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: slices.Clone(h.GetPositiveDelta()),
		NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: slices.Clone(h.GetNegativeDelta()),
	}
	return ih.Compact(0), nil
}

func spans(in []*dto.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}
