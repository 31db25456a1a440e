package slo

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// ParseTarget reads a percentage such as "99.9"; 0 < percent < 100.
func ParseTarget(percent string) (Target, error) {
	digits := strings.Replace(percent, ".", "", 1)
	if digits == "" || len(percent) > 20 || strings.Trim(digits, "0123456789") != "" || percent[0] == '.' || percent[len(percent)-1] == '.' {
		return Target{}, fmt.Errorf("target %q is not a percentage such as \"99.9\"", percent)
	}
	r, _ := new(big.Rat).SetString(percent)
	if r.Sign() <= 0 || r.Cmp(big.NewRat(100, 1)) >= 0 {
		return Target{}, fmt.Errorf("target %q is not between 0 and 100", percent)
	}
	return Target{percent}, nil
}

// Percent is the target as the user wrote it.
func (t Target) Percent() string { return t.percent }

// IsZero tells whether t was never set.
func (t Target) IsZero() bool { return t.percent == "" }

func (t Target) ratio() *big.Rat {
	r, ok := new(big.Rat).SetString(t.percent)
	if !ok {
		return new(big.Rat)
	}
	return r.Quo(r, big.NewRat(100, 1))
}

func (t Target) budget() *big.Rat { return new(big.Rat).Sub(big.NewRat(1, 1), t.ratio()) }

// Ratio is the target as exact decimal text, "0.999" for 99.9 %.
func (t Target) Ratio() string { return decimal(t.ratio()) }

// ErrorBudget is the allowed share of bad events as exact decimal text, "0.001" for 99.9 %.
func (t Target) ErrorBudget() string { return decimal(t.budget()) }

// decimal prints r with as many digits as it needs, at most 24.
func decimal(r *big.Rat) string {
	s := r.FloatString(24)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// String gives "30d", or "calendar-month" for a calendar window.
func (w Window) String() string {
	if w.Calendar != "" {
		return "calendar-" + w.Calendar
	}
	return strconv.Itoa(w.Days) + "d"
}

// A BurnPair is a long and a short window that must both burn faster than Factor before an alert fires.
type BurnPair struct {
	Severity    Severity
	Short, Long string
	Factor      string // exact decimal text; budget share × window / long window
}

// Threshold is the error ratio above which the pair burns, Factor × error budget, as exact decimal text.
func (p BurnPair) Threshold(t Target) string { return decimal(p.threshold(t)) }

func (p BurnPair) threshold(t Target) *big.Rat {
	f, ok := new(big.Rat).SetString(p.Factor)
	if !ok {
		return new(big.Rat)
	}
	return f.Mul(f, t.budget())
}

// CanFire tells whether the threshold lies below 1, the largest possible error ratio.
func (p BurnPair) CanFire(t Target) bool {
	return p.threshold(t).Cmp(big.NewRat(1, 1)) < 0
}

// BurnPairs gives the pairs of a rolling window, fastest first: 2 % of the budget in 1h, 5 % in 6h (page), 10 % in 1d,
// 10 % in 3d (ticket). A factor below 1 is raised to 1, since slower burning does not exhaust the budget. It is nil for
// a calendar window.
func (w Window) BurnPairs() []BurnPair {
	if w.Days == 0 {
		return nil
	}
	factor := func(percent, longHours int64) string {
		r := big.NewRat(percent*int64(w.Days)*24, 100*longHours)
		if one := big.NewRat(1, 1); r.Cmp(one) < 0 {
			r = one
		}
		return decimal(r)
	}
	return []BurnPair{
		{SeverityPage, "5m", "1h", factor(2, 1)},
		{SeverityPage, "30m", "6h", factor(5, 6)},
		{SeverityTicket, "2h", "1d", factor(10, 24)},
		{SeverityTicket, "6h", "3d", factor(10, 72)},
	}
}

// Budget is the allowed share of bad events, for arithmetic.
func (t Target) Budget() float64 {
	f, _ := t.budget().Float64()
	return f
}
