package slo_test

import (
	"cmp"
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	marks "github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/sightline-dev/sightline/slo"
)

func init() { parser.EnableExtendedRangeSelectors = true }

// A timeline holds series in memory and evaluates rules over all of their time at once, each rule by one range query of
// Prometheus' engine. Since a rule reads what stands before it in its group at the same time, and of the other group what
// is older, this gives what a rule manager records from minute to minute, at a hundredth of the cost:
// TestATimelineIsWhatTheRuleManagerRecords holds one against the other.
type timeline struct {
	byName map[string][]*track
	engine *promql.Engine
}

// A track is a series and its points in the order of time.
type track struct {
	labels labels.Labels
	points []floatSample
}

func newTimeline(t testing.TB) *timeline {
	t.Helper()
	e := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: 5 * time.Minute, EnableAtModifier: true})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &timeline{map[string][]*track{}, e}
}

// scrape adds a counter's samples, every interval from a time on, for as long as value gives any; NaN is a missing one.
func (h *timeline) scrape(series string, from, until time.Time, every time.Duration, value func(at time.Time) float64) {
	tr := newTrack(series)
	for at := from; at.Before(until); at = at.Add(every) {
		if v := value(at); !math.IsNaN(v) {
			tr.points = append(tr.points, floatSample{at.UnixMilli(), v})
		}
	}
	h.add(tr)
}

func newTrack(series string) *track {
	l, err := parser.ParseMetric(series)
	if err != nil {
		panic(err) // of the test's own text
	}
	return &track{labels: l}
}

func (h *timeline) add(tr *track) {
	name := tr.labels.Get(model.MetricNameLabel)
	h.byName[name] = append(h.byName[name], tr)
}

// A timetable says when rules are evaluated.
type timetable struct {
	from, until time.Time
	derived     time.Time           // from when on all but the base series are; from, where it is zero
	period      time.Duration       // how much later than from the groups of five minutes begin
	wanted      func(slo.Rule) bool // the rules to evaluate, with those that they read; all, where it is nil
}

var bases = []string{slo.SeriesErrors, slo.SeriesTotal, slo.SeriesErrorsPeriod, slo.SeriesTotalPeriod}

type scheduled struct {
	slo.Rule
	every time.Duration
	reads []string
}

// evaluate runs the rules of groups and adds what they record, and ALERTS of the alerts that fire.
func (h *timeline) evaluate(t testing.TB, groups []slo.RuleGroup, when timetable) {
	t.Helper()
	var todo []scheduled
	for _, g := range groups {
		for _, r := range g.Rules {
			expr, err := parser.ParseExpr(r.Expr)
			if err != nil {
				t.Fatalf("%s%s: %v", r.Record, r.Alert, err)
			}
			s := scheduled{r, cmp.Or(g.Interval, time.Minute), nil}
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				if v, ok := n.(*parser.VectorSelector); ok {
					s.reads = append(s.reads, v.Name)
				}
				return nil
			})
			todo = append(todo, s)
		}
	}
	todo = closure(todo, when.wanted)
	for len(todo) > 0 {
		ready := slices.IndexFunc(todo, func(s scheduled) bool {
			return !slices.ContainsFunc(todo, func(other scheduled) bool { return other.Record != "" && slices.Contains(s.reads, other.Record) })
		})
		if ready < 0 {
			t.Fatalf("the rules read each other in a circle, from %s%s on", todo[0].Record, todo[0].Alert)
		}
		h.run(t, todo[ready], when)
		todo = slices.Delete(todo, ready, ready+1)
	}
}

// closure gives the wanted rules and those that they read.
func closure(all []scheduled, wanted func(slo.Rule) bool) []scheduled {
	if wanted == nil {
		return all
	}
	keep := make([]bool, len(all))
	for again := true; again; {
		again = false
		for i, s := range all {
			if !keep[i] && (wanted(s.Rule) || slices.ContainsFunc(all, func(other scheduled) bool {
				return keep[slices.IndexFunc(all, func(a scheduled) bool {
					return a.Record == other.Record && a.Alert == other.Alert && a.Expr == other.Expr
				})] &&
					s.Record != "" && slices.Contains(other.reads, s.Record)
			})) {
				keep[i], again = true, true
			}
		}
	}
	var out []scheduled
	for i, s := range all {
		if keep[i] {
			out = append(out, s)
		}
	}
	return out
}

// run evaluates one rule. A series that has no sample at a time at which the rule is evaluated ends there, as with a rule
// manager.
func (h *timeline) run(t testing.TB, s scheduled, when timetable) {
	t.Helper()
	from := when.from
	if !slices.Contains(bases, s.Record) && !when.derived.IsZero() {
		from = when.derived
	}
	if s.every == 5*time.Minute {
		from = when.from.Add(from.Sub(when.from).Truncate(s.every) + when.period)
	}
	q, err := h.engine.NewRangeQuery(context.Background(), h, nil, s.Expr, from, when.until.Add(-time.Millisecond), s.every)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	res := q.Exec(context.Background())
	m, err := res.Matrix()
	if err != nil {
		t.Fatalf("%s%s: %v", s.Record, s.Alert, err)
	}
	for _, series := range m {
		b := labels.NewBuilder(series.Metric)
		b.Set(model.MetricNameLabel, s.Record)
		if s.Alert != "" {
			b.Set(model.MetricNameLabel, "ALERTS")
			b.Set("alertname", s.Alert)
			b.Set("alertstate", "firing")
		}
		for _, l := range s.Labels {
			b.Set(l.Name, l.Value)
		}
		tr := &track{labels: b.Labels()}
		since := series.Floats[0].T // when an alert became active
		for i, p := range series.Floats {
			if i > 0 {
				if last := series.Floats[i-1].T + s.every.Milliseconds(); last < p.T {
					tr.points = append(tr.points, floatSample{last, math.Float64frombits(marks.StaleNaN)})
					since = p.T
				}
			}
			if s.Alert == "" || p.T-since >= s.For.Milliseconds() {
				tr.points = append(tr.points, floatSample{p.T, p.F})
			}
		}
		if last := series.Floats[len(series.Floats)-1].T + s.every.Milliseconds(); last < when.until.UnixMilli() {
			tr.points = append(tr.points, floatSample{last, math.Float64frombits(marks.StaleNaN)})
		}
		h.add(tr)
	}
}

// recorded gives the points of the series of a name whose labels hold the pairs, without the marks of their ends.
func (h *timeline) recorded(name string, pairs ...string) []floatSample {
	var out []floatSample
	for _, tr := range h.byName[name] {
		if !hasLabels(tr.labels, pairs) {
			continue
		}
		for _, p := range tr.points {
			if !marks.IsStaleNaN(p.v) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b floatSample) int { return cmp.Compare(a.t, b.t) })
	return out
}

func hasLabels(l labels.Labels, pairs []string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if l.Get(pairs[i]) != pairs[i+1] {
			return false
		}
	}
	return true
}

// Querier and the rest make a timeline a storage of Prometheus' engine.
func (h *timeline) Querier(_, _ int64) (storage.Querier, error) { return querier{h}, nil }

type querier struct{ h *timeline }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []*track
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			for _, tr := range q.h.byName[m.Value] {
				if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(tr.labels.Get(m.Name)) }) {
					found = append(found, tr)
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b *track) int { return labels.Compare(a.labels, b.labels) })
	return &seriesSet{tracks: found}
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) Close() error { return nil }

type seriesSet struct {
	tracks []*track
	next   int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.tracks) }
func (s *seriesSet) At() storage.Series                { return s.tracks[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

func (tr *track) Labels() labels.Labels { return tr.labels }
func (tr *track) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(samples(tr.points))
}

// samples and sample are points as the storage wants them, without a copy.
type samples []floatSample

func (s samples) Get(i int) chunks.Sample { return &s[i] }
func (s samples) Len() int                { return len(s) }

type floatSample struct {
	t int64
	v float64
}

func (p *floatSample) T() int64                    { return p.t }
func (p *floatSample) F() float64                  { return p.v }
func (*floatSample) ST() int64                     { return 0 }
func (*floatSample) H() *histogram.Histogram       { return nil }
func (*floatSample) FH() *histogram.FloatHistogram { return nil }
func (*floatSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p *floatSample) Copy() chunks.Sample         { c := *p; return &c }
