package slo_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

// A scenario is traffic, and what the rules of a 99.9 % objective over 30 days must make of it. The mutations below are
// each noticed by one.
type scenario struct {
	traffic func() traffic
	from    int // the first minute at which everything but the base series is evaluated
	wanted  func(slo.Rule) bool
	check   func(t testing.TB, o slo.Objective, tr *traffic, h *timeline) string // "" when all is well
}

// failing is constant traffic of a length, of which a share fails between two minutes.
func failing(length int, perMinute, p float64, from, until int) traffic {
	tr := traffic{bad: make([]float64, length), total: make([]float64, length), base: 1e6, every: time.Minute}
	for m := range length {
		tr.total[m] = perMinute
		if m > from && m <= until {
			tr.bad[m] = p * perMinute
		}
	}
	return tr
}

// burning checks that alerts of both severities fire when the counted windows burn: at most three minutes later from
// their beginning and from their end.
func burning(t testing.TB, o slo.Objective, tr *traffic, h *timeline) string {
	for _, severity := range []slo.Severity{slo.SeverityPage, slo.SeverityTicket} {
		const clean = 3*day + 10
		want, points := tr.burns(t, o, severity, clean-20), h.recorded("ALERTS", "alertname", slo.AlertBurn, "severity", string(severity))
		if len(want) == 0 || len(points) == 0 {
			if len(want) != len(points) {
				return fmt.Sprintf("the %s fires for %d minutes, counted %d", severity, len(points), len(want))
			}
			continue
		}
		minute := func(p floatSample) int { return int(time.UnixMilli(p.t).Sub(start).Minutes()) }
		first, last := minute(points[0])-want[0], minute(points[len(points)-1])-want[len(want)-1]
		if first < -1 || first > 3 || last < -1 || last > 3 {
			return fmt.Sprintf("the %s fires %d minutes later and ends %d minutes later than counted", severity, first, last)
		}
	}
	return ""
}

func outageScenario(p float64, length, after int) scenario {
	const clean = 3*day + 10
	return scenario{
		func() traffic { return failing(clean+length+after, 60000, p, clean, clean+length) }, clean - 20, onlyBurn, burning,
	}
}

// scenarios are a small suite of what the other tests hold over grids.
func scenarios() map[string]scenario {
	const clean = 3*day + 10
	everything := func(slo.Rule) bool { return true }
	// counted holds the ratios of all windows, and what the budget comes to, against the events.
	counted := func(t testing.TB, o slo.Objective, tr *traffic, h *timeline) string {
		end := len(tr.total) - 4
		for window, length := range map[string]int{"5m": 5, "30m": 30, "1h": 60, "2h": 120, "6h": 360, "1d": day, "3d": 3 * day, "30d": 30 * day} {
			points := h.recorded(slo.SeriesErrorRatio + window)
			if len(points) == 0 {
				return "there is no ratio of " + window
			}
			last := points[len(points)-1]
			m := int(time.UnixMilli(last.t).Sub(start).Minutes())
			if length >= day {
				m = end
			}
			if want := tr.ratio(m, length); math.Abs(last.v-want) > 0.02*want {
				return fmt.Sprintf("%s error ratio %.6f, counted %.6f", window, last.v, want)
			}
		}
		last := func(name string) float64 {
			points := h.recorded(name)
			if len(points) == 0 {
				return math.NaN()
			}
			return points[len(points)-1].v
		}
		period := tr.ratio(end, 30*day)
		for name, want := range map[string]float64{
			slo.SeriesBudgetRemaining: 1 - period/0.001, slo.SeriesPeriodBurnRate: period / 0.001, slo.SeriesCurrentBurnRate: tr.ratio(len(tr.total)-1, 5) / 0.001,
		} {
			if got := last(name); !(math.Abs(got-want) <= 0.02*math.Abs(want)) {
				return fmt.Sprintf("%s is %g, counted %g", name, got, want)
			}
		}
		return ""
	}
	exact := func(t testing.TB, o slo.Objective, tr *traffic, h *timeline) string {
		for name, want := range map[string]float64{slo.SeriesObjective: 0.999, slo.SeriesErrorBudget: 0.001, slo.SeriesPeriodDays: 30, slo.SeriesInfo: 1} {
			if points := h.recorded(name); len(points) == 0 || points[len(points)-1].v != want {
				return fmt.Sprintf("%s is not %g", name, want)
			}
		}
		return counted(t, o, tr, h)
	}
	silent := func(_ testing.TB, _ slo.Objective, _ *traffic, h *timeline) string {
		for _, tr := range h.byName["ALERTS"] {
			if len(tr.points) > 0 && tr.labels.Get("alertname") != slo.AlertAbsent {
				return fmt.Sprintf("%s fires", tr.labels)
			}
		}
		return ""
	}
	alertsAt := func(name string, pairs []string, from, until int) func(testing.TB, slo.Objective, *traffic, *timeline) string {
		return func(_ testing.TB, _ slo.Objective, _ *traffic, h *timeline) string {
			points := h.recorded("ALERTS", append([]string{"alertname", name}, pairs...)...)
			if len(points) == 0 {
				return name + " does not fire"
			}
			if m := int(time.UnixMilli(points[0].t).Sub(start).Minutes()); m < from || m > until {
				return fmt.Sprintf("%s fires at minute %d, want one from %d to %d", name, m, from, until)
			}
			return ""
		}
	}
	quiet := func(from, until int) func() traffic { // a request in ten minutes
		return func() traffic {
			tr := failing(clean+700, 0, 0, 0, 0)
			for m := 10; m < len(tr.total); m += 10 {
				tr.total[m] = 1
				if m > from && m <= until {
					tr.bad[m] = 1
				}
			}
			return tr
		}
	}
	return map[string]scenario{
		"a tenth fails":                      outageScenario(0.1, 100, 400),
		"a twentieth fails for a short time": outageScenario(0.05, 20, 60),
		"just above the quick page":          outageScenario(0.0144*1.05, 70, 60),
		"just below the quick page":          outageScenario(0.0144*0.95, 170, 60),
		"just above the slow page":           outageScenario(0.006*1.05, 360, 60),
		"just below the slow page":           outageScenario(0.006*0.95, 380, 60),
		"just above the slow ticket":         outageScenario(0.001*1.05, 4150, 60),
		"just below the slow ticket":         outageScenario(0.001*0.95, 4350, 60),
		"traffic of a tenth since a day":     lessTraffic(0.003 * 1.05),
		"the same below the quick ticket":    lessTraffic(0.003 * 0.95),
		"one failure of a quiet service":     {quiet(clean, clean+10), clean - 20, everything, silent},
		"a total outage of a quiet service":  {quiet(clean, clean+300), clean - 20, onlyBurn, alertsAt(slo.AlertBurn, []string{"severity", "page"}, clean+11, clean+40)},
		"half of the budget goes":            {func() traffic { return failing(1000, 60000, 0.002, 300, 1000) }, 0, everything, alertsAt(slo.AlertLow, nil, 400, 410)},
		"the budget goes":                    {func() traffic { return failing(1000, 60000, 0.002, 300, 1000) }, 0, everything, alertsAt(slo.AlertExhausted, nil, 600, 610)},
		"the metric goes away":               {func() traffic { tr := failing(200, 600, 0, 0, 0); tr.pods = []pod{{share: 1, until: 60}}; return tr }, 0, everything, alertsAt(slo.AlertAbsent, nil, 75, 85)},
		"a burst, between evaluations":       {func() traffic { return bursts(15 * time.Second) }, 0, everything, exact},
		"there never is a series of errors": {func() traffic {
			tr := failing(400, 600, 0, 0, 0)
			tr.errorsFrom = 1000
			return tr
		}, 0, everything, counted},
		"errors come and go with their series": {func() traffic {
			tr := bursts(time.Minute)
			tr.errorsFrom, tr.errorsUntil = 0, 900
			tr.bad = make([]float64, len(tr.bad))
			for m := 850; m < 870; m++ {
				tr.bad[m] = 60
			}
			for m := 400; m < 460; m++ {
				tr.total[m] = 0
			}
			tr.errorsUntil = 880
			return tr
		}, 0, everything, func(t testing.TB, o slo.Objective, tr *traffic, h *timeline) string {
			for name := range h.byName {
				for _, p := range h.recorded(name) {
					if math.IsNaN(p.v) || math.IsInf(p.v, 0) {
						return fmt.Sprintf("%s is %g at minute %v", name, p.v, time.UnixMilli(p.t).Sub(start).Minutes())
					}
				}
			}
			if points := h.recorded(slo.SeriesErrorRatio + "5m"); int(time.UnixMilli(points[len(points)-1].t).Sub(start).Minutes()) != len(tr.total)-1 {
				return "there is no ratio without errors"
			}
			return counted(t, o, tr, h)
		}},
	}
}

// lessTraffic is an outage a day after the traffic has gone down to a tenth.
func lessTraffic(p float64) scenario {
	const clean = 3*day + 10
	return scenario{func() traffic {
		tr := failing(clean+day+60, 60000, p, clean, clean+day)
		for m := clean - day - 5; m < len(tr.total); m++ {
			tr.total[m], tr.bad[m] = tr.total[m]/10, tr.bad[m]/10
		}
		return tr
	}, clean - 20, onlyBurn, burning}
}

// bursts is a day of uneven traffic with two bursts of errors, the later one near the end.
func bursts(every time.Duration) traffic {
	tr := daily(func(m int) float64 {
		switch {
		case m == 723 || m > 1200 && m <= 1210:
			return 0.5
		case m > 1300:
			return 0.01
		}
		return 0
	})
	tr.every = every
	return tr
}

// A mutation changes the expression of a rule; the scenario that it names must notice.
type mutation struct {
	rule      string // its series, or its alert and severity
	old, with string // old must be in the expression; it is the whole of it where it is ""
	noticed   string
}

func mutations() []mutation {
	ratio := func(window string) string { return slo.SeriesErrorRatio + window }
	page, ticket := slo.AlertBurn+" page", slo.AlertBurn+" ticket"
	return []mutation{
		// factors
		{page, "(14.4 *", "(15.84 *", "just above the quick page"},
		{page, "(14.4 *", "(12.96 *", "just below the quick page"},
		{page, "(6 *", "(6.6 *", "just above the slow page"},
		{page, "(6 *", "(5.4 *", "just below the slow page"},
		{ticket, "(3 *", "(3.3 *", "traffic of a tenth since a day"},
		{ticket, "(3 *", "(2.7 *", "the same below the quick ticket"},
		{ticket, "(1 *", "(1.1 *", "just above the slow ticket"},
		{ticket, "(1 *", "(0.9 *", "just below the slow ticket"},
		// windows
		{page, ratio("1h"), ratio("6h"), "a tenth fails"},
		{page, ratio("6h"), ratio("1h"), "just above the slow page"},
		{page, ratio("5m"), ratio("30m"), "a twentieth fails for a short time"},
		{page, ratio("30m"), ratio("5m"), "a tenth fails"},
		{ticket, ratio("1d"), ratio("3d"), "traffic of a tenth since a day"},
		{ticket, ratio("3d"), ratio("1d"), "just above the slow ticket"},
		{ticket, ratio("2h"), ratio("6h"), "traffic of a tenth since a day"},
		{ticket, ratio("6h"), ratio("2h"), "a tenth fails"},
		{ratio("30m"), "[28m]", "[58m]", "a tenth fails"},
		{ratio("1h"), "[1h]", "[2h]", "just above the quick page"},
		{ratio("2h"), "[118m]", "[58m]", "a burst, between evaluations"},
		{ratio("6h"), "[358m]", "[118m]", "just above the slow page"},
		{slo.SeriesErrorsSum + "1d", "[1d]", "[12h]", "traffic of a tenth since a day"},
		{slo.SeriesTotalSum + "3d", "[3d]", "[1d]", "just above the slow ticket"},
		{slo.SeriesErrorsSum + "30d", "[30d]", "[6h]", "a burst, between evaluations"},
		// the base
		{slo.SeriesErrors, "[315s]", "[120s]", "a burst, between evaluations"},
		{slo.SeriesErrorsPeriod, "[315s]", "[120s]", "a burst, between evaluations"},
		{slo.SeriesTotalPeriod, "rate(", "increase(", "a burst, between evaluations"},
		{slo.SeriesErrors, `code=~"5.."`, `code=~"4.."`, "a tenth fails"},
		{slo.SeriesErrors, " or 0 * ", " and 0 * ", "there never is a series of errors"},
		{slo.SeriesErrors, " or 0 * ", " or 1 * ", "errors come and go with their series"},
		{slo.SeriesErrors, " or 0 * (sum(rate(req_total{job=\"a\"}[315s])))", "", "there never is a series of errors"},
		{slo.SeriesErrorsPeriod, " or 0 * (sum(rate(req_total{job=\"a\"}[315s])))", "", "there never is a series of errors"},
		{ratio("1h"), " or 0 * (sum(rate(req_total{job=\"a\"}[1h])))", "", "there never is a series of errors"},
		// what is divided
		{ratio("5m"), " > 0)", ")", "errors come and go with their series"},
		{ratio("5m"), slo.SeriesErrors, slo.SeriesTotal, "a burst, between evaluations"},
		{ratio("30m"), slo.SeriesErrors, slo.SeriesTotal, "a burst, between evaluations"},
		{ratio("1d"), slo.SeriesErrorsSum, slo.SeriesTotalSum, "a burst, between evaluations"},
		{ratio("30d"), "", "avg_over_time(" + ratio("5m") + "[30d])", "a burst, between evaluations"},
		{ratio("30d"), "sum_over_time(" + slo.SeriesTotalPeriod, "avg_over_time(" + slo.SeriesTotalPeriod, "a burst, between evaluations"},
		{slo.SeriesErrorsSum + "30d", slo.SeriesErrorsPeriod, slo.SeriesTotalPeriod, "a burst, between evaluations"},
		{ratio("6h"), "2 * scalar(" + slo.SeriesErrors, "20 * scalar(" + slo.SeriesErrors, "just above the slow page"},
		{slo.SeriesErrorsRecent, "/ 300", "/ 60", "a tenth fails"},
		{slo.SeriesErrorsRecent, "time()", "0 * time()", "a tenth fails"},
		// low traffic
		{page, " * 60 > 1.5", " * 60 > 0", "one failure of a quiet service"},
		{page, " * 60 > 1.5", " * 60 > 15", "a total outage of a quiet service"},
		{ticket, " * 300 > 1.5", " * 300 > 0", "one failure of a quiet service"},
		// the budget
		{slo.SeriesBudgetRemaining, "1 - ", "1 + ", "a burst, between evaluations"},
		{slo.SeriesPeriodBurnRate, "/ 0.001", "/ 0.999", "a burst, between evaluations"},
		{slo.SeriesPeriodBurnRate, ratio("30d"), ratio("5m"), "a burst, between evaluations"},
		{slo.SeriesCurrentBurnRate, ratio("5m"), ratio("1h"), "a burst, between evaluations"},
		{slo.SeriesObjective, "0.999", "0.99", "a burst, between evaluations"},
		{slo.SeriesErrorBudget, "0.001", "0.01", "a burst, between evaluations"},
		{slo.SeriesPeriodDays, "30", "28", "a burst, between evaluations"},
		{slo.AlertLow + " ticket", ">= 0.5", ">= 0.55", "half of the budget goes"},
		{slo.AlertExhausted + " ticket", " * 300 > 1.5", " * 300 > 0", "one failure of a quiet service"},
		{slo.AlertExhausted + " ticket", ">= 1 ", ">= 1.1 ", "the budget goes"},
		{slo.AlertExhausted + " ticket", ">= 1 ", ">= 0.9 ", "the budget goes"},
		{slo.AlertAbsent + " ticket", "absent(" + slo.SeriesTotal, "absent(" + slo.SeriesObjective, "the metric goes away"},
	}
}

// evaluateScenario runs the rules of the objective, after change, over a scenario, and gives what is wrong.
func (s *scenario) evaluate(t testing.TB, change func([]slo.RuleGroup)) string {
	t.Helper()
	o, tr := objective(t, "payments"), s.traffic()
	groups := slo.Groups(o, slo.RuleOptions{ScrapeInterval: 15 * time.Second})
	if tr.every == time.Minute {
		groups = slo.Groups(o, slo.RuleOptions{})
		for i := range groups { // so that mutations find one text
			for j := range groups[i].Rules {
				groups[i].Rules[j].Expr = strings.ReplaceAll(groups[i].Rules[j].Expr, "[360s]", "[315s]")
			}
		}
	}
	change(groups)
	if tr.every == time.Minute {
		for i := range groups {
			for j := range groups[i].Rules {
				groups[i].Rules[j].Expr = strings.ReplaceAll(groups[i].Rules[j].Expr, "[315s]", "[360s]")
			}
		}
	}
	h := newTimeline(t)
	tr.scrape(h)
	h.evaluate(t, groups, timetable{from: start, until: at(len(tr.total)), derived: at(s.from), period: time.Second, wanted: s.wanted})
	return s.check(t, o, &tr, h)
}

func TestEachMutationOfTheRulesIsNoticed(t *testing.T) {
	all := scenarios()
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if wrong := s.evaluate(t, func([]slo.RuleGroup) {}); wrong != "" {
				t.Errorf("the rules as they are: %s", wrong)
			}
		})
	}
	for _, m := range mutations() {
		t.Run(fmt.Sprintf("%s with %q for %q", m.rule, m.with, m.old), func(t *testing.T) {
			t.Parallel()
			s, ok := all[m.noticed]
			if !ok {
				t.Fatalf("there is no scenario %q", m.noticed)
			}
			applied := false
			wrong := s.evaluate(t, func(groups []slo.RuleGroup) {
				for i := range groups {
					for j := range groups[i].Rules {
						r := &groups[i].Rules[j]
						name := r.Record
						if r.Alert != "" {
							name = r.Alert
							for _, l := range r.Labels {
								if l.Name == "severity" {
									name += " " + l.Value
								}
							}
						}
						switch {
						case name != m.rule:
						case m.old == "":
							r.Expr, applied = m.with, true
						case strings.Contains(r.Expr, m.old):
							r.Expr, applied = strings.ReplaceAll(r.Expr, m.old, m.with), true
						}
					}
				}
			})
			switch {
			case !applied:
				t.Errorf("it does not apply")
			case wrong == "":
				t.Errorf("it survives %q", m.noticed)
			}
		})
	}
}
