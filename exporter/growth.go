package exporter

import (
	"slices"
	"time"
)

// A Step is by how much a counter grew at a time.
type Step struct {
	At time.Time
	By float64
}

// A Growth is how one counter grew, by the times of what was counted, while nobody saw it.
type Growth struct {
	Key   TallyKey
	Base  float64 // its value before the first step
	Steps []Step  // in any order
	// Settled is when it became visible, for a counter that began with history; zero for one that was there before.
	Settled time.Time
}

// IsCounter tells whether a tally of this key is exposed as a counter.
func (k TallyKey) IsCounter() bool {
	return k.Measure == MeasureRuns || k.Level == LevelObservation && kinds[ObservationKind(k.Measure)].Type == "counter"
}

// Bounds gives the upper bounds, without the infinite one, of the classic buckets of a tally of this key; nil where it is no
// histogram.
func (k TallyKey) Bounds() []float64 {
	if k.Measure == MeasureRuns || k.Level == LevelObservation && kinds[ObservationKind(k.Measure)].Type != "histogram" {
		return nil
	}
	return slices.Clone(bounds(k))
}

// SeriesLabels gives the labels, the name of the family among them, that a tally of this key is exposed with. Empty ones are
// left out.
func (k TallyKey) SeriesLabels() map[string]string {
	name := families[pipelineRuns].Name
	switch k.Level {
	case LevelObservation:
		name = kinds[ObservationKind(k.Measure)].Name
	case LevelTask:
		name = families[taskRuns].Name
	}
	out := map[string]string{"__name__": name}
	for _, p := range (&collector{}).metric(&Tally{Key: k}, labels{}).(tallyMetric).labels {
		if p.GetValue() != "" {
			out[p.GetName()] = p.GetValue()
		}
	}
	return out
}

// Total is the value of the counter that the tally is exposed as.
func (t *Tally) Total() float64 {
	if t.Key.Measure == MeasureRuns {
		return float64(t.Count)
	}
	return t.Sum
}
