package slo_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

const day = 1440

// daily is the traffic of a day, many requests at noon and few at night, with a ratio of errors by minute.
func daily(ratio func(minute int) float64) traffic {
	tr := traffic{bad: make([]float64, day), total: make([]float64, day), base: 1e6, every: time.Minute}
	for m := range day {
		tr.total[m] = math.Round(3000 - 2900*math.Cos(2*math.Pi*float64(m)/day))
		tr.bad[m] = math.Round(tr.total[m] * ratio(m))
	}
	return tr
}

// The tolerances are those of rate(): a base of five minutes and a scrape sees each increment of a series that lives
// throughout in five evaluations; what a series of errors counts before its first sample nobody sees, and from 0 it is
// extrapolated by less. A scrape that fails takes a sample from one end or the other of the base window.
func TestTheBudgetIsTheCountOfEventsWhateverTheScrapesSee(t *testing.T) {
	steady := func(m int) float64 { return 0.002 + 0.001*float64(m%7) }
	incident := func(m int) float64 {
		if m > 700 && m <= 730 {
			return 0.3
		}
		return 0
	}
	tests := []struct {
		name               string
		change             func(*traffic)
		ratio              func(int) float64
		anchored, portable float64 // tolerance
	}{
		{"day and night", nil, steady, 0.005, 0.005},
		{"an incident at noon", nil, incident, 0.005, 0.005},
		{"two hours without any traffic", func(tr *traffic) {
			for m := 200; m < 320; m++ {
				tr.bad[m], tr.total[m] = 0, 0
			}
		}, steady, 0.005, 0.005},
		{"the counters are reset three times", func(tr *traffic) {
			tr.pods = []pod{{share: 1, until: day, restarts: []int{301, 720, 1100}}}
		}, steady, 0.005, 0.005},
		{"pods come and go", func(tr *traffic) {
			tr.pods = []pod{{share: 0.5, until: day}, {share: 0.5, until: 500}, {share: 0.5, from: 500, until: 900}, {share: 0.5, from: 900, until: day}}
		}, steady, 0.005, 0.01},
		{"the error series is there only in an incident", func(tr *traffic) { tr.errorsFrom, tr.errorsUntil = 700, 760 }, incident, 0.005, 0.05},
		{"every other scrape is late", func(tr *traffic) { tr.late = tr.every / 3 }, steady, 0.005, 0.005},
		{"every tenth scrape fails", func(tr *traffic) { tr.missing = 10 }, steady, 0.005, 0.005},
		{"no errors at all, and no series of them", func(tr *traffic) { tr.errorsFrom = 2 * day }, func(int) float64 { return 0 }, 0, 0},
	}
	n := 0
	for _, tt := range tests {
		for _, every := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute} {
			for _, base := range []float64{0, 1e6} {
				for _, anchored := range []bool{true, false} {
					if n++; !whole() && n%3 != 0 && tt.name != "day and night" {
						continue
					}
					t.Run(fmt.Sprintf("%s, each %v from %g, anchored %v", tt.name, every, base, anchored), func(t *testing.T) {
						t.Parallel()
						tr := daily(tt.ratio)
						tr.base, tr.every = base, every
						if tt.change != nil {
							tt.change(&tr)
						}
						tolerance := tt.portable
						switch {
						case anchored:
							tolerance = tt.anchored
						case base == 0:
							tolerance *= 2
						}
						h := newTimeline(t)
						tr.scrape(h)
						h.evaluate(t, slo.Groups(objective(t, "payments"), slo.RuleOptions{Anchored: anchored, ScrapeInterval: every}), timetable{from: start, until: at(day), period: 61 * time.Second})
						want := tr.ratio(day-4, day)
						for _, window := range []string{"1d", "3d", "30d"} {
							points := h.recorded(slo.SeriesErrorRatio + window)
							if len(points) == 0 {
								t.Fatalf("there is no ratio of %s", window)
							}
							if got := points[len(points)-1].v; math.Abs(got-want) > tolerance*want {
								t.Errorf("%s error ratio %.7f, counted %.7f (%+.2f %%)", window, got, want, 100*(got/want-1))
							}
						}
						points := h.recorded(slo.SeriesBudgetRemaining)
						if got, want := points[len(points)-1].v, 1-want/0.001; math.Abs(got-want) > tolerance*math.Abs(1-want) {
							t.Errorf("budget remaining %.5f, counted %.5f", got, want)
						}
						h.noNaN(t)
					})
				}
			}
		}
	}
}

// noNaN fails the test when anything that was recorded is NaN at any time.
func (h *timeline) noNaN(t testing.TB) {
	t.Helper()
	for name, tracks := range h.byName {
		for _, tr := range tracks {
			for _, p := range h.recorded(name) {
				if math.IsNaN(p.v) {
					t.Fatalf("%s is NaN at %v", tr.labels, time.UnixMilli(p.t).UTC())
				}
			}
		}
	}
}
