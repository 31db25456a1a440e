package slo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// active runs an objective's rules over scrapes and gives the minutes at which each alert but the burning budget was
// pending or firing, by its name and its budget_spent.
func active(t *testing.T, o slo.Objective, minutes int, scrape func(m int) []engine.Sample) map[string][]int {
	t.Helper()
	e := newEngine(t, o, engine.Options{})
	out := map[string][]int{}
	for m := range minutes {
		if err := e.Append(t.Context(), scrape(m)); err != nil {
			t.Fatal(err)
		}
		if err := e.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatalf("minute %d: %v", m, err)
		}
		for _, a := range e.Alerts() {
			if a.Labels["severity"] != "ticket" && a.Name != slo.AlertBurn {
				t.Errorf("%s is no ticket: %v", a.Name, a.Labels)
			}
			if a.Name != slo.AlertBurn {
				name := a.Name + a.Labels[slo.LabelSpent]
				out[name] = append(out[name], m)
			}
		}
	}
	return out
}

func TestTheBudgetIsSaidToBeLowStepByStep(t *testing.T) {
	// From minute 60 on 2 % fail, of which 1 % may: the ratio since minute 0 is 0.02 × (m - 60) / m.
	o := everyKind(t, "alerting", "ticket", "objective.availability", "99")["availability"]
	got := active(t, o, 140, func(m int) []engine.Sample {
		bad := ramp(0, 12, 60, m)
		return []engine.Sample{sample("requests_total", at(m), 1e6+600*float64(m)-bad, "code", "200"), sample("requests_total", at(m), 1e4+bad, "code", "500")}
	})
	steps := []struct {
		alert string
		from  int // by the arithmetic
	}{{slo.AlertLow + "50", 80}, {slo.AlertLow + "75", 96}, {slo.AlertLow + "90", 110}, {slo.AlertExhausted, 120}}
	for i, s := range steps {
		minutes := got[s.alert]
		if len(minutes) == 0 || minutes[0] < s.from || minutes[0] > s.from+9 {
			t.Errorf("%s was active at minutes %v, want from %d on", s.alert, minutes, s.from)
			continue
		}
		if i+1 < len(steps) && len(got[steps[i+1].alert]) > 0 && minutes[len(minutes)-1] != got[steps[i+1].alert][0]-1 {
			t.Errorf("%s was active until minute %d, and %s from %d on", s.alert, minutes[len(minutes)-1], steps[i+1].alert, got[steps[i+1].alert][0])
		}
	}
	delete(got, slo.AlertAbsent) // pending at minute 0: a rate needs two samples
	if len(got) != len(steps) {
		t.Errorf("alerts are %v", got)
	}
}

func TestADefaultIsMissedOnlyOnceItHadData(t *testing.T) {
	o := everyKind(t)["availability"]
	if !o.Defaulted {
		t.Fatal("the objective is no default")
	}
	got := active(t, o, 60, func(m int) []engine.Sample {
		if m < 20 || m > 30 {
			return nil
		}
		return []engine.Sample{sample("requests_total", at(m), float64(m), "code", "200")}
	})
	// The base window sees the last sample of minute 30 for six minutes, but a rate needs two.
	want := map[string][]int{slo.AlertAbsent: {35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("alerts by minute (-want +got):\n%s", d)
	}
}

func TestAnAbsentMetricIsAnAlertAfterATenthOfTheBudget(t *testing.T) {
	tests := []struct {
		name, target string
		window       slo.Window
		want         time.Duration
	}{
		{"a tenth of 7 hours and 12 minutes", "99", slo.Window{Days: 30}, 43 * time.Minute},
		{"a tenth of a day and a half", "95", slo.Window{Days: 30}, 3*time.Hour + 36*time.Minute},
		{"no sooner than fifteen minutes", "99.9", slo.Window{Days: 30}, 15 * time.Minute},
		{"no later than six hours", "80", slo.Window{Days: 30}, 6 * time.Hour},
		{"a calendar month counts as thirty days", "99", slo.Window{Calendar: "month"}, 43 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := objective(t, "payments")
			var err error
			if o.Target, err = slo.ParseTarget(tt.target); err != nil {
				t.Fatal(err)
			}
			o.Window = tt.window
			var got []time.Duration
			for _, g := range slo.Groups(o, slo.RuleOptions{}) {
				for _, r := range g.Rules {
					if r.Alert == slo.AlertAbsent {
						got = append(got, r.For)
					}
				}
			}
			if !slices.Equal(got, []time.Duration{tt.want}) {
				t.Errorf("pending for %v, want %v", got, tt.want)
			}
		})
	}
}
