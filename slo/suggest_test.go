package slo_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/slo"
)

func TestSuggestProposesTheTightestTargetThatLeavesRoom(t *testing.T) {
	const week = 7 * 1440
	tests := []struct {
		name        string
		change      func(*slo.Objective)
		errs, total func(int) float64
		want        string // "" where nothing is proposed
		reasons     []string
	}{
		{
			name: "a tenth of a per cent fails, day and night", errs: always(1), total: always(1000), want: "99.5",
			reasons: []string{
				"99.9 % was attained",
				"99.5 % is the tightest usual target that would have kept a fifth of its budget: 20 % were spent at the worst time",
				"it would have paged never and opened no ticket",
				"at 99.9 % only 0 % of the budget would have been left at the worst time",
			},
		},
		{
			name: "one outage of half an hour", errs: during(5000, 5030, 1000, 0), total: always(1000), want: "99.5",
			reasons: []string{
				"99.702 % was attained",
				"99.5 % is the tightest usual target that would have kept a fifth of its budget: 60 % were spent at the worst time",
				"it would have paged once and opened 2 tickets",
				"at 99.9 % the budget would have been spent 3.0 times over",
			},
		},
		{
			name: "few events", errs: always(0), total: during(0, week, 0.1, 0), want: "99.5",
			reasons: []string{
				"100 % was attained",
				"99.5 % is the tightest usual target that would have kept a fifth of its budget: 0 % were spent at the worst time",
				"it would have paged never and opened no ticket",
				"at 99.9 % the budget would be 1.0 events of 1008, so that a single one decides",
			},
		},
		{
			name: "half of it fails", errs: always(500), total: always(1000),
			reasons: []string{"50 % was attained", "at 90 % the budget would have been spent 5.0 times over"},
		},
		{name: "nothing happened", errs: always(0), total: always(0), reasons: []string{"there were no events in the range"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := objective(t, "payments")
			o.Window = slo.Window{Days: 7}
			r := slo.Backtest(&o, history(week, tt.errs, tt.total), slo.Ladder(), slo.BacktestOptions{})
			s := slo.Suggest(&o, &r)
			got := ""
			if s.Outcome != nil {
				got = s.Outcome.Target.Percent()
			}
			if d := cmp.Diff(tt.reasons, s.Reasons); got != tt.want || d != "" {
				t.Errorf("proposed %q, want %q, reasons (-want +got):\n%s", got, tt.want, d)
			}
		})
	}
}

func TestPercentagesNeverRoundTo100(t *testing.T) {
	for share, want := range map[float64]string{1: "100", 0.9999999: "99.99999", 0.5: "50", 0.999512: "99.9512", 0.99: "99", 0: "0"} {
		if got := slo.Percentage(share); got != want {
			t.Errorf("%v is %s, want %s", share, got, want)
		}
	}
	if got := slo.Percentage(0.99999999999); !strings.HasPrefix(got, "99.9") {
		t.Errorf("got %s", got)
	}
}
