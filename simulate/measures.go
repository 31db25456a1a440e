package simulate

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
)

// measures makes the series of what was measured beside runs, as the journal counts it: the counters and histograms that
// the server exposes after its first reading go on where these end.
type measures struct {
	player  *player
	from    time.Time              // of what comes next
	rest    []exporter.Observation // after the last sample
	counted map[string]bool
	tallies map[exporter.TallyKey]*tallied
}

// A tallied is one tally and the series that it is exposed as.
type tallied struct {
	exporter.Tally
	bounds []float64 // of a histogram
	series []engine.Series
}

// every is how far samples lie apart; the first one of a day comes after half of it.
const every = time.Hour

func newMeasures(g *catalog.Graph, start time.Time) *measures {
	return &measures{newPlayer(g, start), start.Add(-historyLength), nil, map[string]bool{}, map[exporter.TallyKey]*tallied{}}
}

// next gives the samples within [from, until); one call continues where the last one ended.
func (m *measures) next(from, until time.Time) []engine.Series {
	for _, t := range m.tallies {
		for i := range t.series {
			t.series[i].Points = nil
		}
	}
	_, seen := m.player.play(m.from, until)
	seen = append(m.rest, seen...)
	for at := from.Add(every / 2); at.Before(until); at = at.Add(every) {
		var news []*tallied
		for ; len(seen) > 0 && !seen[0].At.After(at); seen = seen[1:] {
			if t := m.take(&seen[0]); t != nil {
				news = append(news, t)
			}
		}
		for _, t := range news { // before it was first seen
			t.sample(at.Add(-every/2+time.Second), &exporter.Tally{Key: t.Key, Buckets: make([]uint64, len(t.bounds)+1)})
		}
		for _, t := range m.tallies {
			t.sample(at, &t.Tally)
		}
	}
	m.from, m.rest = until, seen
	var out []engine.Series
	for _, k := range slices.SortedFunc(maps.Keys(m.tallies), exporter.TallyKey.Compare) {
		out = append(out, m.tallies[k].series...)
	}
	return out
}

// take counts an observation once, and gives its tally if that is a new one that begins at zero.
func (m *measures) take(o *exporter.Observation) *tallied {
	if !o.Declare && !o.OfTask {
		id := o.ID.String() + "\x00" + string(o.Kind)
		if m.counted[id] {
			return nil
		}
		m.counted[id] = true
	}
	k := o.Key(func(_, value string) string { return exporter.NormalizeName(value) })
	t, known := m.tallies[k]
	if !known {
		t = newTallied(k)
		m.tallies[k] = t
	}
	t.Take(o)
	if known || t.bounds == nil && !k.IsCounter() {
		return nil
	}
	return t
}

func newTallied(k exporter.TallyKey) *tallied {
	t := &tallied{Tally: exporter.Tally{Key: k}, bounds: k.Bounds()}
	add := func(suffix, le string) {
		l := k.SeriesLabels()
		l["__name__"] += suffix
		if le != "" {
			l["le"] = le
		}
		t.series = append(t.series, engine.Series{Labels: l})
	}
	if t.bounds == nil {
		add("", "")
		return t
	}
	for _, b := range t.bounds {
		add("_bucket", labels.FormatOpenMetricsFloat(b))
	}
	add("_bucket", "+Inf")
	add("_count", "")
	add("_sum", "")
	return t
}

// sample appends what the tally's series are at a time.
func (t *tallied) sample(at time.Time, v *exporter.Tally) {
	add := func(i int, value float64) {
		t.series[i].Points = append(t.series[i].Points, engine.Point{Time: at, Value: value})
	}
	if t.bounds == nil {
		add(0, v.Sum)
		return
	}
	n := len(t.bounds)
	sum := uint64(0)
	for i := range n + 1 {
		if i < len(v.Buckets) {
			sum += v.Buckets[i]
		}
		add(i, float64(sum))
	}
	add(n+1, float64(v.Count))
	add(n+2, v.Sum)
}
