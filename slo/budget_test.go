package slo_test

import (
	"math"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// A series is a counter by minute; NaN where it does not exist.
type series func(minute int) float64

var missing = math.NaN()

func objective(t testing.TB, owner string) slo.Objective {
	t.Helper()
	target, err := slo.ParseTarget("99.9")
	if err != nil {
		t.Fatal(err)
	}
	return slo.Objective{
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", owner), Indicator: "availability",
		Target: target, Window: slo.Window{Days: 30}, NoTraffic: slo.NoTrafficIgnore, MaxSeverity: slo.SeverityPage,
		ErrorQuery: `sum(rate(req_total{job="a",code=~"5.."}[$window]))`,
		TotalQuery: `sum(rate(req_total{job="a"}[$window]))`,
	}
}

func rules(t *testing.T, e *engine.Engine, o slo.Objective) {
	t.Helper()
	body := slo.AppendYAML(nil, slo.Groups(o, slo.RuleOptions{Anchored: true}))
	if err := e.SetRules(map[string][]byte{"a.yaml": body}); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
}

var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

// A replay runs an objective's rules over counters, minute by minute, in a real PromQL engine.
type replay struct {
	good, bad series
	engine    *engine.Engine
	fired     map[string][]int // minutes at which an alert of this severity fired
}

func newReplay(t *testing.T, good, bad series) *replay {
	t.Helper()
	e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	rules(t, e, objective(t, "payments"))
	return &replay{good, bad, e, map[string][]int{}}
}

func (r *replay) run(t *testing.T, from, until int) {
	t.Helper()
	for m := from; m < until; m++ {
		var samples []engine.Sample
		for code, s := range map[string]series{"200": r.good, "500": r.bad} {
			if v := s(m); !math.IsNaN(v) {
				samples = append(samples, engine.Sample{Labels: map[string]string{"__name__": "req_total", "job": "a", "code": code}, Value: v, Time: at(m)})
			}
		}
		if err := r.engine.Append(t.Context(), samples); err != nil {
			t.Fatal(err)
		}
		if err := r.engine.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatalf("minute %d: %v", m, err)
		}
		for _, a := range r.engine.Alerts() {
			if a.Name == slo.AlertBurn && a.State == "firing" {
				r.fired[a.Labels["severity"]] = append(r.fired[a.Labels["severity"]], m)
			}
		}
	}
}

func (r *replay) value(t *testing.T, expr string, minute int) float64 {
	t.Helper()
	got, err := r.engine.Query(t.Context(), expr, at(minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Fatalf("%s at minute %d has %d series, want 1", expr, minute, len(got))
	}
	return got[0].Value
}

// ramp is a counter that grows by perMinute from a minute on.
func ramp(base, perMinute float64, from, m int) float64 {
	return base + perMinute*float64(max(0, m-from))
}

func TestTheBudgetIsTheCountOfEvents(t *testing.T) {
	tests := []struct {
		name      string
		good, bad series
		want      float64 // bad events of all events
	}{
		{
			"the error series exists only during an incident and then goes away",
			func(m int) float64 {
				return ramp(0, 6000, 0, min(m, 720)) + ramp(0, 3000, 720, min(m, 730)) + ramp(0, 6000, 730, m)
			},
			func(m int) float64 {
				if m < 721 || m > 730 {
					return missing
				}
				return ramp(0, 3000, 721, m)
			},
			// Of the ten bad minutes nine lie between two samples of the series; the first sample is its 0.
			27000.0 / (6000*1425 + 3000*10 + 27000),
		},
		{
			"a busy day at a low and a quiet night at a high error ratio",
			func(m int) float64 { return ramp(0, 59994, 0, min(m, 720)) + ramp(0, 57, 720, m) },
			func(m int) float64 { return ramp(0, 6, 0, min(m, 720)) + ramp(0, 3, 720, m) },
			(6*720 + 3*715) / (60000.0*720 + 60*715),
		},
		{
			"twenty idle minutes and no error ever",
			func(m int) float64 { return ramp(0, 6000, 0, min(m, 300)) + ramp(0, 6000, 320, m) },
			func(int) float64 { return 0 },
			0,
		},
		{
			"there has never been an error series",
			func(m int) float64 { return ramp(0, 6000, 0, m) },
			func(int) float64 { return missing },
			0,
		},
		{
			"an error series that lives throughout",
			func(m int) float64 { return ramp(1e6, 6000, 0, m) - ramp(0, 3000, 720, min(m, 730)) },
			func(m int) float64 { return 5000 + ramp(0, 3000, 720, min(m, 730)) },
			30000.0 / (6000 * 1435),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newReplay(t, tt.good, tt.bad)
			r.run(t, 0, 1440)
			for _, window := range []string{"1d", "3d", "30d"} { // all longer than the replay
				got := r.value(t, slo.SeriesErrorRatio+window, 1435)
				if math.Abs(got-tt.want) > 0.005*tt.want || math.IsNaN(got) {
					t.Errorf("%s error ratio %.8f, counted %.8f (%+.2f %%)", window, got, tt.want, 100*(got/tt.want-1))
				}
			}
			remaining := r.value(t, slo.SeriesBudgetRemaining, 1435)
			if want := 1 - tt.want/0.001; math.Abs(remaining-want) > 0.005*math.Max(1, math.Abs(want)) {
				t.Errorf("budget remaining %.5f, want %.5f", remaining, want)
			}
			for minute := 0; minute < 1440; minute += 5 {
				all, err := r.engine.Query(t.Context(), `{sloth_id!=""}`, at(minute))
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range all {
					if math.IsNaN(s.Value) {
						t.Fatalf("minute %d: %s is NaN", minute, s.Labels["__name__"])
					}
				}
			}
		})
	}
}

// quiet is a service with one request in ten minutes, of which those from a minute on until another fail.
func quiet(from, until int) (good, bad series) {
	failed := func(m int) float64 { return float64(max(0, min(m, until)/10-from/10)) }
	return func(m int) float64 { return float64(m/10) - failed(m) }, failed
}

func TestOneFailureOfAQuietServicePagesNobody(t *testing.T) {
	good, bad := quiet(600, 610)
	r := newReplay(t, good, bad)
	r.run(t, 0, 700)
	if len(r.fired) > 0 {
		t.Errorf("alerts fired at minutes %v", r.fired)
	}
	if got := r.value(t, "sum(increase(req_total{code='500'}[3h]))", 690); got < 0.5 {
		t.Fatalf("the failure is not in the data: %v", got)
	}
}

func TestATotalOutageOfTheSameQuietServicePages(t *testing.T) {
	good, bad := quiet(600, 1000)
	r := newReplay(t, good, bad)
	r.run(t, 0, 700)
	if pages := r.fired["page"]; len(pages) == 0 || pages[0] < 610 || pages[0] > 660 {
		t.Errorf("pages fired at minutes %v, want the first within an hour of the outage at minute 600", pages)
	}
}

func TestASlowBurnOpensATicketAndPagesNobody(t *testing.T) {
	// From minute 120 on 0.5 % fail, below the 0.6 % that page. The ratio since minute 0 passes 0.1 % at minute 150; the
	// five minutes of the base window and the five between two of its samples come on top.
	r := newReplay(t, func(m int) float64 { return 1e6 + ramp(0, 6000, 0, min(m, 120)) + ramp(0, 5970, 120, m) }, func(m int) float64 { return 1e4 + ramp(0, 30, 120, m) })
	r.run(t, 0, 240)
	if len(r.fired["page"]) > 0 {
		t.Errorf("pages fired at minutes %v", r.fired["page"])
	}
	if tickets := r.fired["ticket"]; len(tickets) == 0 || tickets[0] < 150 || tickets[0] > 160 || tickets[len(tickets)-1]-tickets[0] != len(tickets)-1 {
		t.Errorf("tickets fired at minutes %v, want every minute from one of 150 to 160 on", tickets)
	}
}

func TestAChangeOfOwnerKeepsTheBudget(t *testing.T) {
	r := newReplay(t, func(m int) float64 { return ramp(1e6, 5990, 0, m) }, func(m int) float64 { return ramp(1e4, 10, 0, m) })
	r.run(t, 0, 300)
	before := r.value(t, slo.SeriesErrorRatio+`30d{owner="group:default/payments"}`, 299)
	rules(t, r.engine, objective(t, "ledger"))
	r.run(t, 300, 320)
	after := r.value(t, slo.SeriesErrorRatio+`30d{owner="group:default/ledger"}`, 319)
	if math.Abs(after-before) > 0.005*before || before == 0 {
		t.Errorf("30d error ratio %.6f before and %.6f after", before, after)
	}
}
