package slo_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

func targets(t testing.TB, percents ...string) []slo.Target {
	t.Helper()
	var out []slo.Target
	for _, p := range percents {
		target, err := slo.ParseTarget(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, target)
	}
	return out
}

// history makes one of what happens in each minute, as the base series would hold it.
func history(minutes int, errs, total func(minute int) float64) slo.History {
	h := slo.History{Start: start, Errors: make([]float64, minutes), Total: make([]float64, minutes)}
	base := func(events func(int) float64, m int) float64 {
		sum := 0.0
		for k := max(0, m-4); k <= m; k++ {
			sum += events(k)
		}
		return sum / 300
	}
	for m := range minutes {
		h.Errors[m], h.Total[m] = base(errs, m), base(total, m)
	}
	return h
}

func always(v float64) func(int) float64 { return func(int) float64 { return v } }

// during is v from a minute on and before another, and else otherwise.
func during(from, until int, v, otherwise float64) func(int) float64 {
	return func(m int) float64 {
		if m >= from && m < until {
			return v
		}
		return otherwise
	}
}

// said is what a replay says of its alerts, in minutes from the start.
func said(r slo.Replay) []string {
	var out []string
	for _, o := range r.Outcomes {
		for _, f := range o.Alerts {
			var pairs []string
			for _, p := range f.Pairs {
				pairs = append(pairs, p.Short+"/"+p.Long)
			}
			minute := func(t time.Time) int { return int(t.Sub(start) / time.Minute) }
			open := ""
			if f.Open {
				open = " and on"
			}
			out = append(out, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %d-%d%s", o.Target.Percent(), strings.TrimPrefix(f.Alert, "SLOErrorBudget"), f.Severity, strings.Join(pairs, ","), minute(f.From), minute(f.To), open)), " "))
		}
	}
	return out
}

func TestBacktestReplaysTheAlertsOfAnIncident(t *testing.T) {
	const day = 1440
	tests := []struct {
		name        string
		change      func(*slo.Objective)
		minutes     int
		errs, total func(int) float64
		targets     []string
		want        []string
	}{
		{
			// By the closed form 14.4 × 0.1 % × 60 ÷ 10 % = 8.6 minutes until the page, and 30 × (1 − 0.6 ÷ 10) = 28.2
			// after the end. The ticket comes when a tenth of the 3d, which are one day so far, is bad, and goes
			// 360 × (1 − 0.1 ÷ 10) minutes after the end.
			name: "ten per cent fail for two hours", minutes: 2 * day, errs: during(day, day+120, 6000, 0), total: always(60000), targets: []string{"99.9"},
			want: []string{"99.9 Burn page 5m/1h,30m/6h 1448-1587", "99.9 Burn ticket 6h/3d,2h/1d 1454-1915"},
		},
		{
			name: "the looser of two targets would not have been alerted of", minutes: day, errs: during(600, 720, 1200, 0), total: always(60000), targets: []string{"99.5", "99.9"},
			want: []string{"99.9 Burn ticket 6h/3d,2h/1d 631-1060", "99.9 Burn page 5m/1h,30m/6h 643-740"},
		},
		{
			name: "an objective that may not page", change: func(o *slo.Objective) { o.MaxSeverity = slo.SeverityTicket },
			minutes: day, errs: during(600, 720, 1200, 0), total: always(60000), targets: []string{"99.9"},
			want: []string{"99.9 Burn ticket 6h/3d,2h/1d 631-1060"},
		},
		{
			name: "an objective without alerts", change: func(o *slo.Objective) { o.MaxSeverity = slo.SeverityOff },
			minutes: day, errs: during(600, 720, 1200, 0), total: always(60000), targets: []string{"99.9"},
		},
		{
			name: "what still fires at the end", minutes: 660, errs: during(600, 720, 6000, 0), total: always(60000), targets: []string{"99.9"},
			want: []string{"99.9 Burn ticket 6h/3d,2h/1d 606-659 and on", "99.9 Burn page 5m/1h,30m/6h 608-659 and on"},
		},
		{
			name: "an outage that is left out", change: func(o *slo.Objective) {
				o.Exclusions = []slo.Exclusion{{Kind: slo.ExclusionMaintenance, From: at(590), To: at(730)}}
			},
			minutes: day, errs: during(600, 720, 1200, 0), total: always(60000), targets: []string{"99.9"},
		},
		{
			name: "one failure of a quiet service", minutes: day, errs: during(600, 601, 1, 0), total: func(m int) float64 { return float64((m + 1) % 10 / 9) }, targets: []string{"99.9"},
		},
		{
			name: "a total outage of a quiet service", change: func(o *slo.Objective) { o.MaxSeverity = slo.SeverityPage },
			minutes: 660, errs: during(600, 660, 0.1, 0), total: always(0.1), targets: []string{"99.9"},
			want: []string{
				"99.9 Burn ticket 2h/1d,6h/3d 616-659 and on", "99.9 Burn page 5m/1h,30m/6h 617-659 and on", // by the second failure
				"99.9 Low ticket 625-644", "99.9 Exhausted ticket 645-659 and on",
			},
		},
		{
			name: "the same with more events wanted", change: func(o *slo.Objective) { o.MinEvents = 60 },
			minutes: 660, errs: during(600, 660, 0.1, 0), total: always(0.1), targets: []string{"99.9"},
			want: []string{"99.9 Burn ticket 2h/1d,6h/3d 616-659 and on", "99.9 Low ticket 625-644", "99.9 Exhausted ticket 645-659 and on"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := objective(t, "payments")
			if tt.change != nil {
				tt.change(&o)
			}
			r := slo.Backtest(&o, history(tt.minutes, tt.errs, tt.total), targets(t, tt.targets...), slo.BacktestOptions{})
			if d := cmp.Diff(tt.want, said(r)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBacktestTellsTheBudget(t *testing.T) {
	const day = 1440
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		window       slo.Window
		opts         slo.BacktestOptions
		days         int
		from, until  int // minutes of total failure
		spent, worst float64
		exhausted    time.Duration
	}{
		{name: "a part of it", window: slo.Window{Days: 7}, days: 7, from: day, until: day + 50, spent: 50 / 100.8, worst: 50 / 100.8},
		{name: "a window that is cut by the beginning has as much budget", window: slo.Window{Days: 7}, days: 2, from: day, until: day + 50, spent: 50 / 100.8, worst: 50 / 100.8},
		{name: "the window has moved on", window: slo.Window{Days: 7}, days: 14, from: day, until: day + 50, worst: 50 / 100.8},
		{name: "more than all of it, until the window has moved on", window: slo.Window{Days: 7}, days: 14, from: day, until: day + 202, worst: 202 / 100.8, exhausted: 7 * 24 * time.Hour},
		{name: "what was before the range is in the window, and is not counted", window: slo.Window{Days: 7}, opts: slo.BacktestOptions{From: at(2 * day)}, days: 3, from: day, until: day + 50, spent: 50 / 100.8, worst: 50 / 100.8},
		{name: "in the month before", window: slo.Window{Calendar: "month"}, days: 40, from: 29*day + 23*60, until: 30 * day, worst: 60 / 432.0},
		{name: "the same time in a zone where it is the next month", window: slo.Window{Calendar: "month"}, opts: slo.BacktestOptions{Zone: berlin}, days: 40, from: 29*day + 23*60, until: 30 * day, spent: 60 / 432.0, worst: 60 / 432.0},
		{name: "a calendar week", window: slo.Window{Calendar: "week"}, days: 8, from: day, until: day + 50, worst: 50 / 100.8},
		{name: "a quarter", window: slo.Window{Calendar: "quarter"}, days: 29, from: day, until: day + 50, spent: 50 / 1296.0, worst: 50 / 1296.0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := objective(t, "payments")
			o.Window = tt.window
			r := slo.Backtest(&o, history(tt.days*day, during(tt.from, tt.until, 100, 0), always(100)), targets(t, "99"), tt.opts)
			got := r.Outcomes[0]
			near := func(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }
			if !near(got.Spent, tt.spent, 0.005) || !near(got.Worst, tt.worst, 0.005) || !near(got.Exhausted.Hours(), tt.exhausted.Hours(), 2.5) {
				t.Errorf("spent %.4f at the end and %.4f at most (%s), exhausted for %s; want %.4f, %.4f and %s", got.Spent, got.Worst, got.WorstAt, got.Exhausted, tt.spent, tt.worst, tt.exhausted)
			}
			if last := got.Curve[len(got.Curve)-1]; !near(last, tt.spent, 0.005) || len(got.Curve) != r.Minutes/60 {
				t.Errorf("the curve has %d points and ends at %.4f", len(got.Curve), last)
			}
			want := 1.0
			if tt.opts.From.IsZero() {
				want -= float64(tt.until-tt.from) / float64(tt.days*day)
			}
			if !near(r.Attained, want, 0.0001) {
				t.Errorf("attained %.6f, want %.6f", r.Attained, want)
			}
		})
	}
}

func TestBacktestCountsAWindowFromTheFirstData(t *testing.T) {
	o := objective(t, "payments")
	o.Window = slo.Window{Days: 7}
	h := history(3*1440, during(600, 650, 100, 0), always(100))
	want := slo.Backtest(&o, h, targets(t, "99"), slo.BacktestOptions{}).Outcomes[0]
	before := slices.Repeat([]float64{missing}, 3*1440)
	late := slo.History{Start: h.Start.Add(-3 * 24 * time.Hour), Errors: slices.Concat(before, h.Errors), Total: slices.Concat(before, h.Total)}
	got := slo.Backtest(&o, late, targets(t, "99"), slo.BacktestOptions{From: h.Start}).Outcomes[0]
	if got.Spent != want.Spent || got.Worst != want.Worst || want.Spent < 0.45 {
		t.Errorf("spent %.4f, at the worst %.4f; want %.4f and %.4f", got.Spent, got.Worst, want.Spent, want.Worst)
	}
}

func TestBacktestOfWhatIsNotThere(t *testing.T) {
	o := objective(t, "payments")
	h := history(600, always(0), always(60))
	for m := 100; m < 200; m++ {
		h.Errors[m], h.Total[m] = missing, missing
	}
	if r := slo.Backtest(&o, h, targets(t, "99.9"), slo.BacktestOptions{}); r.Missing != 100 || r.Minutes != 600 || r.Attained != 1 || len(r.Outcomes[0].Alerts) != 0 {
		t.Errorf("got %+v", r)
	}
	for name, r := range map[string]slo.Replay{
		"no minute":         slo.Backtest(&o, slo.History{Start: start}, targets(t, "99.9"), slo.BacktestOptions{}),
		"no target":         slo.Backtest(&o, h, nil, slo.BacktestOptions{}),
		"nothing but gaps":  slo.Backtest(&o, slo.History{Start: start, Errors: h.Errors[100:200], Total: h.Total[100:200]}, targets(t, "99.9"), slo.BacktestOptions{}),
		"a range after all": slo.Backtest(&o, h, targets(t, "99.9"), slo.BacktestOptions{From: at(600)}),
	} {
		if r.Measured() && name != "no target" {
			t.Errorf("%s: got %+v", name, r)
		}
		for _, out := range r.Outcomes {
			if out.Worst != 0 || len(out.Alerts) > 0 || math.IsNaN(out.Spent) {
				t.Errorf("%s: got %+v", name, out)
			}
		}
	}
}

// events are random: a rate with ups and downs, incidents of random length and depth, and idle times.
func randomCounters(seed uint64, minutes int) (good, bad series) {
	random := rand.New(rand.NewPCG(seed, seed))
	goods, bads := make([]float64, minutes), make([]float64, minutes)
	g, b := 1e6*random.Float64(), 1e4*random.Float64()
	ratio, left, idle := 0.0, 0, 0
	for m := range minutes {
		switch {
		case left > 0:
			left--
		case random.IntN(200) == 0:
			ratio, left = math.Pow(10, -3*random.Float64()), 3+random.IntN(120)
		default:
			ratio = 0.0003 * random.Float64()
		}
		if idle > 0 {
			idle--
		} else if random.IntN(500) == 0 {
			idle = random.IntN(40)
		}
		events := 300 * (1.2 + math.Sin(float64(m)/229)) * (0.5 + random.Float64())
		if idle > 0 {
			events = 0
		}
		g, b = g+events*(1-ratio), b+events*ratio
		goods[m], bads[m] = g, b
	}
	return func(m int) float64 { return goods[m] }, func(m int) float64 { return bads[m] }
}

// minutesOf are those in which any alert of a severity fires.
func minutesOf(o slo.Outcome, severity slo.Severity) (out []int) {
	for _, f := range o.Alerts {
		if f.Alert == slo.AlertBurn && f.Severity == severity {
			for at := f.From; !at.After(f.To); at = at.Add(time.Minute) {
				out = append(out, int(at.Sub(start)/time.Minute))
			}
		}
	}
	slices.Sort(out)
	return out
}

// apart gives the minutes of a that are more than two from any of b.
func apart(a, b []int) (out []int) {
	for _, m := range a {
		if i, _ := slices.BinarySearch(b, m-2); i == len(b) || b[i] > m+2 {
			out = append(out, m)
		}
	}
	return out
}

func TestBacktestAgreesWithTheCompiledRulesInTheEngine(t *testing.T) {
	const minutes = 1000
	exclusions := []slo.Exclusion{excluded(slo.ExclusionCorrection, 300, 371), excluded(slo.ExclusionMaintenance, 600, 648)}
	for seed, percent := range map[uint64]string{1: "99.9", 2: "99.5", 3: "99.9"} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			good, bad := randomCounters(seed, minutes)
			e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return start }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			files, tried := map[string][]byte{}, targets(t, percent)
			o := objective(t, "payments")
			if seed == 3 {
				o.Exclusions = exclusions
			}
			for _, target := range tried {
				o := o
				o.Indicator, o.Target = "at_"+strings.ReplaceAll(target.Percent(), ".", "_"), target
				files[o.Indicator] = slo.AppendYAML(nil, slo.Groups(o, slo.RuleOptions{Anchored: true}))
			}
			if err := e.SetRules(files); err != nil {
				t.Fatal(err)
			}
			fired := map[string][]int{}
			r := &replay{good, bad, e, map[string][]int{}}
			for m := range minutes {
				r.run(t, m, m+1)
				seen := map[string]bool{}
				for _, a := range e.Alerts() {
					key := a.Labels["sloth_slo"] + " " + a.Labels["severity"]
					if a.Name == slo.AlertBurn && a.State == "firing" && !seen[key] {
						fired[key], seen[key] = append(fired[key], m), true
					}
				}
			}
			h := slo.History{Start: start, Errors: make([]float64, minutes), Total: make([]float64, minutes)}
			errs, total := o.BaseQueries(slo.RuleOptions{Anchored: true})
			for expr, values := range map[string][]float64{errs: h.Errors, total: h.Total} {
				got, err := e.QueryRange(t.Context(), expr, at(0), at(minutes-1), time.Minute)
				if err != nil || len(got) != 1 {
					t.Fatalf("%s: %d series, %v", expr, len(got), err)
				}
				for i := range values {
					values[i] = math.NaN()
				}
				for _, p := range got[0].Points {
					values[p.Time.Sub(start)/time.Minute] = p.Value
				}
			}
			replayed := slo.Backtest(&o, h, tried, slo.BacktestOptions{})
			some := 0
			for _, outcome := range replayed.Outcomes {
				indicator := "at_" + strings.ReplaceAll(outcome.Target.Percent(), ".", "_")
				for _, severity := range []slo.Severity{slo.SeverityPage, slo.SeverityTicket} {
					want, got := fired[indicator+" "+string(severity)], minutesOf(outcome, severity)
					some += len(want)
					if late, extra := apart(want, got), apart(got, want); len(late)+len(extra) > 0 {
						t.Errorf("%s %%, %s: only the rules fire at %v, only the replay at %v", outcome.Target.Percent(), severity, late, extra)
					}
				}
				recorded := r.value(t, slo.SeriesErrorRatio+`30d{sloth_slo="`+indicator+`"}`, minutes-1)
				// The replay gives the window the budget of its first 996 minutes, at whose end the period group was last evaluated.
				if ratio := outcome.Spent * outcome.Target.Budget() * (30 * 1440) / 996; math.Abs(ratio-recorded) > 0.002*recorded {
					t.Errorf("the error ratio is %.7f, and by the rules %.7f", ratio, recorded)
				}
			}
			if some == 0 {
				t.Error("no rule has fired")
			}
		})
	}
}
