package slo

import (
	"math"
	"slices"
	"time"
)

// A Count is how many events there were in a stretch that begins at a time and ends where the next one begins.
type Count struct {
	Time          time.Time
	Errors, Total float64
}

// A Spending says on which days of a period an error budget was spent. The budget is that of the period:
// (1 − target) × all its events. So a day's share is errors of the day ÷ budget of the period, and the shares of the days
// add up to what is spent.
type Spending struct {
	Errors, Total float64
	Spent         float64 // share of the budget: the sum of the days' shares; more than 1 when overspent
	Days          []DaySpending
}

// A DaySpending is one day of a Spending. A day without events has no SLI.
type DaySpending struct {
	Date          time.Time // midnight, in the zone
	Errors, Total float64
	Spent         float64 // share of the period's budget
}

// SpendingOf shares the counts in [from, to) out among the days of a time zone; a count belongs to the day in which it begins.
// Every day of the period is there, also one of 23 or 25 hours and one without events. Counts stand in any order; negative
// and infinite ones and those that are NaN count as nothing. It is false when the period has no events, of which no budget
// can be told: the days are there all the same.
func SpendingOf(counts []Count, t Target, from, to time.Time, zone *time.Location) (Spending, bool) {
	var s Spending
	index := map[[3]int]int{}
	for day := midnight(from, zone); day.Before(to); day = nextMidnight(day) {
		index[dateOf(day)] = len(s.Days)
		s.Days = append(s.Days, DaySpending{Date: day})
	}
	for _, c := range counts {
		if c.Time.Before(from) || !c.Time.Before(to) {
			continue
		}
		d := &s.Days[index[dateOf(c.Time.In(zone))]]
		d.Errors += sound(c.Errors)
		d.Total += sound(c.Total)
	}
	for _, d := range s.Days {
		s.Errors += d.Errors
		s.Total += d.Total
	}
	budget := t.Budget() * s.Total
	if t.IsZero() || !(budget > 0) || math.IsInf(budget, 0) {
		return s, false
	}
	for i := range s.Days {
		s.Days[i].Spent = s.Days[i].Errors / budget
		s.Spent += s.Days[i].Spent
	}
	return s, true
}

// Without leaves out the counts that can hold an event of some spans, as the rules of an objective leave out samples: those that
// end in a span, or less than late after it. Each count is of step.
func Without(counts []Count, spans []Span, step, late time.Duration) []Count {
	return slices.DeleteFunc(counts, func(c Count) bool {
		end := c.Time.Add(step)
		return slices.ContainsFunc(spans, func(s Span) bool { return end.After(s.From) && end.Before(s.To.Add(late)) })
	})
}

// SLI is the share of good events in the period.
func (s *Spending) SLI() float64 { return 1 - s.Errors/s.Total }

func sound(v float64) float64 {
	if v > 0 && !math.IsInf(v, 0) {
		return v
	}
	return 0
}

func dateOf(t time.Time) [3]int { return [3]int{t.Year(), int(t.Month()), t.Day()} }

// nextMidnight is where the next day begins that there is: Samoa left one out.
func nextMidnight(day time.Time) time.Time {
	for n := 1; ; n++ {
		if next := midnight(time.Date(day.Year(), day.Month(), day.Day()+n, 12, 0, 0, 0, day.Location()), day.Location()); next.After(day) {
			return next
		}
	}
}

// midnight is where the day of t begins; where the clock skips midnight, at the first time of the day that it shows.
func midnight(t time.Time, zone *time.Location) time.Time {
	t = t.In(zone)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
	if day.Day() != t.Day() { // package time gives the time before the gap
		_, day = day.ZoneBounds()
	}
	return day
}
