package slo_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

func excluded(kind string, from, to int) slo.Exclusion {
	return slo.Exclusion{Kind: kind, From: at(from), To: at(to), By: "anna", Reason: "a move"}
}

// requests are two counters that grow by minute: all requests by 600, the failed ones by what bad says of each minute.
type requests struct {
	bad   func(minute int) float64
	sum   []float64 // of the failed ones
	shift time.Duration
}

func (r *requests) until(m int) float64 {
	for len(r.sum) <= m {
		n := len(r.sum)
		last := 0.0
		if n > 0 {
			last = r.sum[n-1] + r.bad(n-1)
		}
		r.sum = append(r.sum, last)
	}
	return r.sum[m]
}

// scrape gives the counters at the beginning of a minute, which hold all minutes before it.
func (r *requests) scrape(m int) []engine.Sample {
	bad := r.until(m)
	return []engine.Sample{
		{Labels: map[string]string{"__name__": "req_total", "job": "a", "code": "200"}, Value: 1e7 + 600*float64(m) - bad, Time: at(m).Add(r.shift)},
		{Labels: map[string]string{"__name__": "req_total", "job": "a", "code": "500"}, Value: 1e5 + bad, Time: at(m).Add(r.shift)},
	}
}

// counted is the error ratio of the minutes from one until another, without those that are left out.
func (r *requests) counted(from, until int, out ...[2]int) float64 {
	bad, all := 0.0, 0.0
	for m := max(0, from); m < until; m++ {
		if !slices.ContainsFunc(out, func(o [2]int) bool { return o[0] <= m && m < o[1] }) {
			bad += r.bad(m)
			all += 600
		}
	}
	return bad / all
}

// The window is a week. An hour in which half of all requests fail is corrected after it happened; the budget is that of
// the other minutes, before, while and after the hour leaves the window.
func TestACorrectionLeavesItsMinutesOutOfTheBudget(t *testing.T) {
	const from, to, week = 600, 660, 7 * 24 * 60
	for name, shift := range map[string]time.Duration{"rules are evaluated at whole steps": 0, "rules are evaluated beside the steps": 2*time.Minute + 17*time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &requests{shift: shift - 23*time.Second, bad: func(m int) float64 {
				switch {
				case from <= m && m < to:
					return 300
				case m < 3000:
					return 6
				}
				return 12
			}}
			o := objective(t, "payments")
			o.Window = slo.Window{Days: 7}
			group := slo.Groups(o, slo.RuleOptions{})[1:]
			base := []slo.RuleGroup{{Name: group[0].Name, Interval: group[0].Interval, Rules: group[0].Rules[:2]}}
			e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return start }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			set := func(groups []slo.RuleGroup) {
				t.Helper()
				if err := e.SetRules(map[string][]byte{"a.yaml": slo.AppendYAML(nil, groups)}); err != nil {
					t.Fatal(err)
				}
			}
			set(base)
			m := 0
			run := func(until int) {
				t.Helper()
				for ; m <= until; m++ {
					if err := e.Append(t.Context(), r.scrape(m)); err != nil {
						t.Fatal(err)
					}
					if m%5 == 0 {
						if err := e.Evaluate(t.Context(), at(m).Add(shift)); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			ratio := func(until int, groups []slo.RuleGroup) float64 {
				t.Helper()
				run(until - 10)
				set(groups)
				run(until)
				got, err := e.Query(t.Context(), slo.SeriesErrorRatio+"7d", at(until).Add(shift))
				if err != nil || len(got) != 1 {
					t.Fatalf("minute %d: %v, %v", until, got, err)
				}
				set(base)
				return got[0].Value
			}
			near := func(until int, groups []slo.RuleGroup, out ...[2]int) {
				t.Helper()
				want := r.counted(until-week, until, out...)
				if got := ratio(until, groups); math.Abs(got/want-1) > 0.005 {
					t.Errorf("minute %d: error ratio %.6f, counted %.6f (%+.2f %%)", until, got, want, 100*(got/want-1))
				}
			}
			near(900, group)
			corrected := o
			corrected.Exclusions = []slo.Exclusion{excluded(slo.ExclusionCorrection, from, to)}
			without := slo.Groups(corrected, slo.RuleOptions{})[1:]
			out := [2]int{from, to}
			near(1000, without, out)
			// Of a correction of half an hour the other half still counts, but for what shares base samples with it.
			half := o
			half.Exclusions = []slo.Exclusion{excluded(slo.ExclusionCorrection, from-20, from+30)}
			most, least := r.counted(0, 1100, [2]int{from - 20 - 11, from + 30}), r.counted(0, 1100, [2]int{from - 20, from + 30 + 11})
			if got := ratio(1100, slo.Groups(half, slo.RuleOptions{})[1:]); got < 0.995*least || got > 1.005*most {
				t.Errorf("half corrected: error ratio %.6f, want between %.6f and %.6f", got, least, most)
			}
			near(week+from-60, without, out)
			near(week+from+30, without, out)
			near(week+to+60, without, out)
			near(week+to+120, group)
		})
	}
}

// fired runs all rules of an objective over counters and gives the minutes at which each alert was active, by name and
// severity. Nothing is scraped in the minutes that gone names.
func fired(t *testing.T, o slo.Objective, r *requests, minutes int, gone func(m int) bool) map[string][]int {
	t.Helper()
	e := newEngine(t, o, engine.Options{})
	out := map[string][]int{}
	for m := range minutes {
		if !gone(m) {
			if err := e.Append(t.Context(), r.scrape(m)); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatalf("minute %d: %v", m, err)
		}
		for _, a := range e.Alerts() {
			if m > 10 {
				out[a.Name+" "+a.Labels["severity"]] = append(out[a.Name+" "+a.Labels["severity"]], m)
			}
		}
	}
	return out
}

func TestAPlannedMaintenanceAlertsNobody(t *testing.T) {
	never := func(int) bool { return false }
	down := func(from, to int) func(int) float64 {
		return func(m int) float64 {
			if from <= m && m < to {
				return 600
			}
			return 0
		}
	}
	window := []slo.Exclusion{excluded(slo.ExclusionMaintenance, 60, 100)}
	tests := []struct {
		name       string
		exclusions []slo.Exclusion
		bad        func(int) float64
		gone       func(int) bool
		minutes    int
		page       [2]int // the first is in this range; zero: there is none
		others     bool
	}{
		{"an outage in the window", window, down(60, 100), never, 170, [2]int{}, false},
		{"the same outage without the window", nil, down(60, 100), never, 100, [2]int{61, 66}, true},
		{"an outage after the window", window, down(120, 180), never, 150, [2]int{121, 126}, true},
		{"an outage before the window", window, down(30, 60), never, 60, [2]int{31, 36}, true},
		{"an outage that outlasts the window", window, down(60, 180), never, 130, [2]int{106, 113}, true},
		{"the metric is away in the window", window, down(0, 0), func(m int) bool { return 60 < m && m < 100 }, 170, [2]int{}, false},
		{"two windows that overlap", append([]slo.Exclusion{excluded(slo.ExclusionMaintenance, 50, 80)}, window...), down(50, 100), never, 170, [2]int{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := objective(t, "payments")
			o.Exclusions = tt.exclusions
			got := fired(t, o, &requests{bad: tt.bad}, tt.minutes, tt.gone)
			pages := got[slo.AlertBurn+" page"]
			switch {
			case tt.page == [2]int{} && len(got) > 0:
				t.Errorf("alerts are active at the minutes %v", got)
			case tt.page != [2]int{} && (len(pages) == 0 || pages[0] < tt.page[0] || pages[0] > tt.page[1]):
				t.Errorf("pages at the minutes %v, want the first from %d to %d", pages, tt.page[0], tt.page[1])
			}
		})
	}
}

func TestACorrectionEndsTheAlertsOfItsMinutes(t *testing.T) {
	o := objective(t, "payments")
	r := &requests{bad: func(m int) float64 {
		if 60 <= m && m < 70 {
			return 300
		}
		return 0
	}}
	e := newEngine(t, o, engine.Options{})
	alerts := func(from, until int) (names []string) {
		for m := from; m < until; m++ {
			if err := e.Append(t.Context(), r.scrape(m)); err != nil {
				t.Fatal(err)
			}
			if err := e.Evaluate(t.Context(), at(m)); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range e.Alerts() {
			names = append(names, a.Name)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	if d := cmp.Diff([]string{slo.AlertBurn, slo.AlertExhausted}, alerts(0, 90)); d != "" {
		t.Fatalf("alerts before the correction (-want +got):\n%s", d)
	}
	o.Exclusions = []slo.Exclusion{excluded(slo.ExclusionCorrection, 60, 70)}
	if err := e.SetRules(map[string][]byte{"a.yaml": slo.AppendYAML(nil, slo.Groups(o, slo.RuleOptions{}))}); err != nil {
		t.Fatal(err)
	}
	if got := alerts(90, 100); len(got) > 0 {
		t.Errorf("alerts after the correction: %v", got)
	}
}

func TestAnObjectiveKnowsItsExcludedMinutes(t *testing.T) {
	o := objective(t, "payments")
	o.Exclusions = []slo.Exclusion{excluded(slo.ExclusionMaintenance, 60, 100), excluded(slo.ExclusionCorrection, 90, 120), excluded(slo.ExclusionCorrection, 200, 210)}
	got := o.ExcludedSpans(at(70), at(205))
	want := []slo.Span{{From: at(70), To: at(120)}, {From: at(200), To: at(205)}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("excluded spans (-want +got):\n%s", d)
	}
	for m, want := range map[int]string{59: "", 60: slo.ExclusionMaintenance, 99: slo.ExclusionMaintenance, 100: slo.ExclusionCorrection, 119: slo.ExclusionCorrection, 120: ""} {
		x, ok := o.Excluded(at(m).Add(30 * time.Second))
		if x.Kind != want || ok != (want != "") {
			t.Errorf("minute %d is excluded by %q, want %q", m, x.Kind, want)
		}
	}
}

func TestBacktestLeavesExclusionsOut(t *testing.T) {
	o := objective(t, "payments")
	h := history(1440, during(601, 661, 300, 0), always(600)) // a base sample holds the minutes before it
	if r := slo.Backtest(&o, h, targets(t, "99.9"), slo.BacktestOptions{}); len(r.Outcomes[0].Alerts) == 0 || r.Attained == 1 {
		t.Fatalf("without an exclusion: %+v", r)
	}
	o.Exclusions = []slo.Exclusion{excluded(slo.ExclusionCorrection, 600, 660)}
	r := slo.Backtest(&o, h, targets(t, "99.9"), slo.BacktestOptions{})
	if len(r.Outcomes[0].Alerts) > 0 || r.Attained != 1 || r.Outcomes[0].Spent != 0 || r.Missing != 0 {
		t.Errorf("with the hour left out: %+v", r)
	}
}
