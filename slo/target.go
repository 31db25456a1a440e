package slo

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// ParseTarget reads a percentage such as "99.9"; 0 < percent < 100.
func ParseTarget(percent string) (Target, error) {
	digits := strings.Replace(percent, ".", "", 1)
	if digits == "" || len(percent) > 20 || strings.Trim(digits, "0123456789") != "" || percent[0] == '.' || percent[len(percent)-1] == '.' {
		return Target{}, fmt.Errorf("target %q is not a percentage such as \"99.9\"", percent)
	}
	whole, fraction, _ := strings.Cut(percent, ".")
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > 2 || strings.Trim(whole+fraction, "0") == "" {
		return Target{}, fmt.Errorf("target %q is not between 0 and 100", percent)
	}
	// A percentage is two places from the ratio; what the ratio lacks to 1 is 10 minus its last digit, 9 minus each other.
	ratio := []byte("0." + strings.TrimRight("00"[len(whole):]+whole+fraction, "0"))
	budget := bytes.Clone(ratio)
	for i := 2; i < len(budget); i++ {
		budget[i] = '0' + '9' - budget[i]
	}
	budget[len(budget)-1]++
	return Target{percent, string(ratio), string(budget)}, nil
}

// Percent is the target as the user wrote it.
func (t Target) Percent() string { return t.percent }

// IsZero tells whether t was never set.
func (t Target) IsZero() bool { return t.percent == "" }

// Ratio is the target as exact decimal text, "0.999" for 99.9 %.
func (t Target) Ratio() string { return cmp.Or(t.ratio, "0") }

// ErrorBudget is the allowed share of bad events as exact decimal text, "0.001" for 99.9 %.
func (t Target) ErrorBudget() string { return cmp.Or(t.budget, "1") }

func (t Target) exactBudget() *big.Rat {
	r, _ := new(big.Rat).SetString(t.ErrorBudget())
	return r
}

// Budget is the allowed share of bad events, for arithmetic.
func (t Target) Budget() float64 {
	f, err := strconv.ParseFloat(t.ErrorBudget(), 64)
	if err != nil {
		return 0
	}
	return f
}

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

// Length is how long the window is; a calendar month counts as 30 days and a quarter as 90.
func (w Window) Length() time.Duration {
	days := w.Days
	switch w.Calendar {
	case "week":
		days = 7
	case "month":
		days = 30
	case "quarter":
		days = 90
	}
	return time.Duration(days) * 24 * time.Hour
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
	return f.Mul(f, t.exactBudget())
}

// CanFire tells whether the threshold lies below 1, the largest possible error ratio.
func (p BurnPair) CanFire(t Target) bool {
	// Near 1 the exact numbers decide.
	factor, err := strconv.ParseFloat(p.Factor, 64)
	if about := factor * t.Budget(); err == nil && math.Abs(about-1) > 1e-6 {
		return about < 1
	}
	return p.threshold(t).Cmp(big.NewRat(1, 1)) < 0
}

// BurnPairs gives the pairs of a window, fastest first: 2 % of the budget in 1h, 5 % in 6h (page), 10 % in 1d,
// 10 % in 3d (ticket). A factor below 1 is raised to 1, since slower burning does not exhaust the budget. The factors of a
// calendar window are those of its Length.
func (w Window) BurnPairs() []BurnPair {
	hours := int(w.Length() / time.Hour)
	if hours == 0 {
		return nil
	}
	factor := func(percent, longHours int) string {
		above, below := percent*hours, 100*longHours
		switch thousandths := above * 1000 / below; {
		case above <= below:
			return "1"
		case above*1000%below == 0: // few digits, which a float holds
			return strconv.FormatFloat(float64(thousandths)/1000, 'f', -1, 64)
		}
		return decimal(big.NewRat(int64(above), int64(below)))
	}
	return []BurnPair{
		{SeverityPage, "5m", "1h", factor(2, 1)},
		{SeverityPage, "30m", "6h", factor(5, 6)},
		{SeverityTicket, "2h", "1d", factor(10, 24)},
		{SeverityTicket, "6h", "3d", factor(10, 72)},
	}
}
