package slo_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// whole tells whether the whole grids of the proof are wanted, as `make proof` does, and not only a sample of them.
func whole() bool { return os.Getenv("SIGHTLINE_PROOF") == "whole" }

// An outage is steady traffic, of which a share p fails from one minute until another.
type outage struct {
	p           float64
	from, until int
}

const perMinute = 60000

func (o outage) bad(at time.Time) float64 {
	return 1e5 + perMinute*o.p*min(max(at.Sub(start).Minutes()-float64(o.from), 0), float64(o.until-o.from))
}

func (o outage) good(at time.Time) float64 {
	return 1e8 + perMinute*at.Sub(start).Minutes() - (o.bad(at) - 1e5)
}

// A firing is when an alert began to fire, in minutes after the outage began, and ended, in minutes after it ended.
type firing struct {
	fires         bool
	detect, reset float64
	quick         bool    // the first pair of the severity is the one that fires first
	raised        bool    // the pair that fires first has a factor of 1, where its share of the budget asks for less
	early         float64 // how much sooner the extrapolation of a window that lacks one scrape may let it be
}

// theory is the closed form: a pair whose threshold is below p detects after threshold × long ÷ p and resets after
// short × (1 - threshold ÷ p), if it has fired.
func theory(t *testing.T, o slo.Objective, severity slo.Severity, p float64, length int) firing {
	t.Helper()
	var f firing
	for i, pair := range o.Window.BurnPairs() {
		threshold := thresholdOf(t, pair, o)
		long, short := inMinutes(t, pair.Long), inMinutes(t, pair.Short)
		detect := threshold * long / p
		if pair.Severity != severity || p <= threshold || detect > float64(length) {
			continue
		}
		if !f.fires || detect < f.detect {
			f.detect, f.quick, f.raised, f.early = detect, i%2 == 0, pair.Factor == "1", threshold/p
		}
		f.fires, f.reset = true, math.Max(f.reset, short*(1-threshold/p))
	}
	return f
}

func thresholdOf(t testing.TB, p slo.BurnPair, o slo.Objective) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(p.Threshold(o.Target), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func inMinutes(t testing.TB, window string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(window[:len(window)-1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * map[byte]float64{'m': 1, 'h': 60, 'd': 1440}[window[len(window)-1]]
}

// firingOf reads from a timeline what theory says.
func firingOf(h *timeline, severity slo.Severity, out outage) firing {
	points := h.recorded("ALERTS", "alertname", slo.AlertBurn, "severity", string(severity))
	if len(points) == 0 {
		return firing{}
	}
	since := func(minute int, p floatSample) float64 { return float64(p.t-at(minute).UnixMilli()) / 60000 }
	return firing{fires: true, detect: since(out.from, points[0]), reset: since(out.until, points[len(points)-1]) + 1}
}

func onlyBurn(r slo.Rule) bool { return r.Alert == slo.AlertBurn }

// An oracleCase is a point of the grid. The scrape's and the period group's phase are how long after a whole minute of
// the fast group they are.
type oracleCase struct {
	days          int
	target        string
	p             float64
	short         bool // the outage ends soon after the first page
	scrape, group time.Duration
}

func (c oracleCase) String() string {
	s := fmt.Sprintf("%d days at %s %% with %g failing", c.days, c.target, c.p)
	if c.short {
		s += " for a short time"
	}
	return s
}

func oracleGrid() []oracleCase {
	windows, targets, steps := []int{7, 28, 30}, []string{"95", "99", "99.9"}, 6
	if whole() {
		windows, targets, steps = []int{7, 14, 28, 30, 90}, []string{"80", "90", "95", "99", "99.5", "99.9", "99.95", "99.99"}, 24
	}
	var out []oracleCase
	for i, days := range windows {
		for j, target := range targets {
			for k := range steps { // from 1 down to a thousandth, evenly on a logarithmic scale
				if n := i + j + k; whole() || n%2 == 0 {
					c := oracleCase{days: days, target: target, p: math.Pow(1000, -float64(k)/float64(steps))}
					c.scrape = []time.Duration{0, -20 * time.Second, -45 * time.Second}[n%3]
					c.group = []time.Duration{time.Second, 150 * time.Second, 299 * time.Second, 61 * time.Second, 210 * time.Second}[(n/2)%5]
					out = append(out, c)
				}
			}
		}
	}
	short := out[0]
	short.days, short.target, short.p, short.short = 30, "99.9", 0.05, true
	return append(out, short)
}

// Every alert of a grid of outages fires and ends as the closed form says, at most two evaluations and a scrape later, and
// none fires below its threshold. In the same run the rules of sloth for the same objective see the same samples.
func TestAlertsFireAndEndAtTheMinuteOfTheClosedForm(t *testing.T) {
	for _, c := range oracleGrid() {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			o := objective(t, "payments")
			var err error
			if o.Target, err = slo.ParseTarget(c.target); err != nil {
				t.Fatal(err)
			}
			o.Window = slo.Window{Days: c.days}
			const clean = 3*1440 + 10 // the longest window
			length := 3*1440 + 10
			for _, severity := range []slo.Severity{slo.SeverityPage, slo.SeverityTicket} { // until all pairs that can have fired
				if f := theory(t, o, severity, c.p, clean); f.fires {
					length = min(length, int(f.detect)+400)
				}
			}
			if c.short {
				length = int(theory(t, o, slo.SeverityPage, c.p, clean).detect) + 4
			}
			if f := theory(t, o, slo.SeverityTicket, c.p, clean); f.fires && !c.short { // no pair is just about to fire when it ends
				for _, s := range []slo.Severity{slo.SeverityPage, slo.SeverityTicket} {
					for theory(t, o, s, c.p, length+10).reset != theory(t, o, s, c.p, length-10).reset {
						length += 20
					}
				}
			}
			out := outage{c.p, clean, clean + length}
			end := at(out.until + 6*60 + 10)
			h := newTimeline(t)
			h.scrape(`req_total{job="a",code="500"}`, start.Add(c.scrape), end, time.Minute, out.bad)
			h.scrape(`req_total{job="a",code="200"}`, start.Add(c.scrape), end, time.Minute, out.good)
			sloths := newTimeline(t)
			sloths.byName["req_total"] = h.byName["req_total"]
			when := timetable{from: start, until: end, derived: at(out.from - 20), period: c.group, wanted: onlyBurn}
			h.evaluate(t, slo.Groups(o, slo.RuleOptions{}), when)
			if c.days == 28 || c.days == 30 { // the windows that sloth knows
				groups, err := slo.SlothGroups(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				sloths.evaluate(t, groups, when)
			}
			for _, severity := range []slo.Severity{slo.SeverityPage, slo.SeverityTicket} {
				want, got, other := theory(t, o, severity, c.p, length), firingOf(h, severity, out), firingOf(sloths, severity, out)
				checkFiring(t, severity, want, got)
				if !other.fires || want.raised || !got.fires {
					continue
				}
				later := 3.0
				if want.quick && severity == slo.SeverityPage {
					later = 1
				}
				if got.detect > other.detect+later || got.reset > other.reset+5 {
					t.Errorf("the %s fires after %g and ends after %g minutes, sloth's after %g and %g", severity, got.detect, got.reset, other.detect, other.reset)
				}
			}
		})
	}
}

// checkFiring holds a severity against the theory: at most two evaluations and one scrape, of a minute each, later.
func checkFiring(t *testing.T, severity slo.Severity, want, got firing) {
	t.Helper()
	switch {
	case want.fires != got.fires:
		t.Errorf("the %s fires: %v, by the closed form %v", severity, got, want)
	case !got.fires:
	case got.detect < want.detect-want.early || got.detect > math.Ceil(want.detect)+3:
		t.Errorf("the %s fires after %g minutes, by the closed form %.2f", severity, got.detect, want.detect)
	case got.reset < want.reset || got.reset > math.Ceil(want.reset)+3:
		t.Errorf("the %s ends after %g minutes, by the closed form %.2f", severity, got.reset, want.reset)
	}
}

// A rule manager over a TSDB and a timeline record the same, with gaps, an idle time, an incident and its end.
func TestATimelineIsWhatTheRuleManagerRecords(t *testing.T) {
	const end = 260
	good := func(m int) float64 {
		if m > 200 && m < 215 {
			return missing
		}
		return 1e6 + ramp(0, 600, 0, min(m, 120)) + ramp(0, 300, 150, m)
	}
	bad := func(m int) float64 {
		if m < 30 {
			return missing
		}
		return ramp(0, 60, 40, min(m, 70)) + ramp(0, 5, 180, m)
	}
	groups := slo.Groups(objective(t, "payments"), slo.RuleOptions{})
	h := newTimeline(t)
	e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.SetRules(map[string][]byte{"a.yaml": slo.AppendYAML(nil, groups)}); err != nil {
		t.Fatal(err)
	}
	evaluate := func(at time.Time) {
		t.Helper()
		if err := e.Evaluate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	firing := map[string][]int{}
	evaluate(start.Add(-150 * time.Second)) // from here on the period group comes every five minutes
	for m := range end {
		var samples []engine.Sample
		for code, s := range map[string]series{"200": good, "500": bad} {
			if v := s(m); !math.IsNaN(v) {
				samples = append(samples, engine.Sample{Labels: map[string]string{"__name__": "req_total", "job": "a", "code": code}, Value: v, Time: at(m)})
			}
		}
		if err := e.Append(t.Context(), samples); err != nil {
			t.Fatal(err)
		}
		evaluate(at(m))
		for _, a := range e.Alerts() {
			if a.Name == slo.AlertBurn && a.State == "firing" {
				firing[a.Labels["severity"]] = append(firing[a.Labels["severity"]], m)
			}
		}
		if m%5 == 2 {
			evaluate(at(m).Add(30 * time.Second))
		}
	}
	for code, s := range map[string]series{"200": good, "500": bad} {
		h.scrape(`req_total{job="a",code="`+code+`"}`, start, at(end), time.Minute, func(at time.Time) float64 { return s(int(at.Sub(start).Minutes())) })
	}
	h.evaluate(t, groups, timetable{from: start, until: at(end), period: 150 * time.Second})
	for severity, want := range firing {
		var got []int
		for _, p := range h.recorded("ALERTS", "alertname", slo.AlertBurn, "severity", severity) {
			got = append(got, int(time.UnixMilli(p.t).Sub(start).Minutes()))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("minutes at which the %s fires (-rule manager +timeline):\n%s", severity, d)
		}
	}
	if len(firing) != 2 {
		t.Errorf("%d severities fire, want 2", len(firing))
	}
	names := map[string]bool{}
	for _, g := range groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				names[r.Record] = true
			}
		}
	}
	for name := range names {
		got, err := e.QueryRange(t.Context(), name, at(3), at(end-1), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		q, err := h.engine.NewRangeQuery(t.Context(), h, nil, name, at(3), at(end-1), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		m, err := q.Exec(t.Context()).Matrix()
		if err != nil {
			t.Fatal(err)
		}
		flat := map[string]float64{}
		for _, s := range m {
			for _, p := range s.Floats {
				flat[s.Metric.String()+strconv.FormatInt(p.T, 10)] = p.F
			}
		}
		recorded := map[string]float64{}
		for _, s := range got {
			for _, p := range s.Points {
				recorded[labels.FromMap(s.Labels).String()+strconv.FormatInt(p.Time.UnixMilli(), 10)] = p.Value
			}
		}
		if len(recorded) == 0 {
			t.Errorf("%s was not recorded", name)
		}
		if d := cmp.Diff(recorded, flat, cmpopts.EquateApprox(1e-9, 1e-12)); d != "" {
			t.Errorf("%s (-rule manager +timeline):\n%.2000s", name, d)
		}
		q.Close()
	}
}
