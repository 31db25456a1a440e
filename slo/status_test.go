package slo

import (
	"math"
	"testing"
	"time"
)

func TestStatusIsTheArithmeticOfTheBudget(t *testing.T) {
	tests := []struct {
		name          string
		errors, total float64
		target        string
		want          Status
	}{
		{"no errors", 0, 1000, "99.9", Status{1, 1, 0}},
		{"half of the budget", 0.5, 1000, "99.9", Status{0.9995, 0.5, 0.5}},
		{"exactly the budget", 1, 1000, "99.9", Status{0.999, 0, 1}},
		{"three times the budget", 30, 1000, "99", Status{0.97, -2, 3}},
		{"a total outage", 1000, 1000, "99.9", Status{0, -999, 1000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, err := ParseTarget(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := StatusOf(tt.errors, tt.total, target)
			near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9*math.Max(1, math.Abs(b)) }
			if !ok || !near(got.SLI, tt.want.SLI) || !near(got.BudgetRemaining, tt.want.BudgetRemaining) || !near(got.BurnRate, tt.want.BurnRate) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if back := SLIFromBudget(got.BudgetRemaining, target); !near(back, tt.want.SLI) {
				t.Errorf("the SLI from the budget is %v, want %v", back, tt.want.SLI)
			}
		})
	}
	target, _ := ParseTarget("99.9")
	for _, v := range [][2]float64{{0, 0}, {1, 0}, {math.NaN(), 5}, {1, math.NaN()}, {1, math.Inf(1)}} {
		if got, ok := StatusOf(v[0], v[1], target); ok {
			t.Errorf("%v errors of %v: got %+v, want none", v[0], v[1], got)
		}
	}
}

func TestBudgetLastsRemainingTimesWindowByBurnRate(t *testing.T) {
	const month = 30 * 24 * time.Hour
	tests := []struct {
		name            string
		remaining, burn float64
		want            time.Duration
		ends            bool
	}{
		{"a whole budget at the allowed speed lasts the window", 1, 1, month, true},
		{"a whole budget at 14.4 lasts 50 hours", 1, 14.4, 50 * time.Hour, true},
		{"half of it at 2 lasts a quarter of the window", 0.5, 2, month / 4, true},
		{"nothing is left", 0, 2, 0, true},
		{"overspent", -3, 0, 0, true},
		{"nothing is spent", 0.5, 0, 0, false},
		{"hardly anything is spent", 1, 1e-9, 0, false},
		{"the burn rate is not known", 1, math.NaN(), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ends := TimeToExhaustion(tt.remaining, tt.burn, month)
			if ends != tt.ends || (got-tt.want).Abs() > time.Second {
				t.Errorf("got %v, %v, want %v, %v", got, ends, tt.want, tt.ends)
			}
		})
	}
	target, _ := ParseTarget("99.9")
	if got := BudgetTime(month, target); (got - 43*time.Minute - 12*time.Second).Abs() > time.Millisecond {
		t.Errorf("99.9 %% of 30 days allow %v, want 43m12s", got)
	}
}
