package slo

import (
	"math"
	"time"
)

// A Status says where an objective stands over a window. All figures are shares or ratios without a unit.
type Status struct {
	SLI             float64 // share of good events: 1 − errors ÷ total
	BudgetRemaining float64 // share of the error budget that is left: 1 − (errors ÷ total) ÷ (1 − target); below 0 when overspent
	BurnRate        float64 // speed of spending: (errors ÷ total) ÷ (1 − target); 1 spends the whole budget in one window
}

// StatusOf makes a Status of the sums of bad and of all events over a window, in any common unit. It is false without
// events, of which no share can be told.
func StatusOf(errors, total float64, t Target) (Status, bool) {
	if t.IsZero() || !(total > 0) || math.IsNaN(errors) || math.IsInf(total, 0) {
		return Status{}, false
	}
	burn := BurnRate(errors/total, t)
	return Status{SLI: 1 - errors/total, BudgetRemaining: 1 - burn, BurnRate: burn}, true
}

// BurnRate is how many times as fast as allowed an error ratio spends the budget: error ratio ÷ (1 − target).
func BurnRate(errorRatio float64, t Target) float64 { return errorRatio / t.Budget() }

// SLIFromBudget gives the share of good events back from the share of the budget that is left:
// 1 − (1 − remaining) × (1 − target).
func SLIFromBudget(remaining float64, t Target) float64 { return 1 - (1-remaining)*t.Budget() }

// BudgetTime is the budget as time: window × (1 − target) of total failure at even traffic spend all of it.
func BudgetTime(window time.Duration, t Target) time.Duration {
	return time.Duration(float64(window) * t.Budget())
}

// TimeToExhaustion is how long what is left of the budget lasts at a steady burn rate: remaining × window ÷ burn rate.
// It is 0 when nothing is left, and false when it is never spent, or not within some centuries.
func TimeToExhaustion(remaining, burnRate float64, window time.Duration) (time.Duration, bool) {
	if math.IsNaN(remaining) || math.IsNaN(burnRate) || window <= 0 {
		return 0, false
	}
	if remaining <= 0 {
		return 0, true
	}
	d := remaining * float64(window) / burnRate
	if !(burnRate > 0) || d >= math.MaxInt64 {
		return 0, false
	}
	return time.Duration(d), true
}
