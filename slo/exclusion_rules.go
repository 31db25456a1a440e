package slo

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Exclusions stand in the rules as a factor that is 0 in the minutes that are left out, and else 1. The base series stay as
// they are: a window is summed in a subquery, in steps of the base's own interval, so that each step takes one recorded
// sample, times the factor at the step. What was recorded before an exclusion was written is left out as well.
//
// A sample holds the events of its base window, which a scrape saw up to one interval late, and a step sees it up to one step
// later. A step is left out when its sample can hold an event of the minutes that are left out. So these never count; of the
// minutes before and after them, as many as the base window, a scrape and a step are long, some count in part.

// A folding is how a recorded series is summed over a window: open, series and matchers, from, window, to.
type folding struct{ open, from, to, factor string }

var (
	plainSum   = folding{"sum_over_time(", "[", "])", ""}
	plainCount = folding{"count_over_time(", "[", "])", ""}
)

// foldings are those of the series that are recorded every minute and of those that are every five.
func (c *compiler) foldings(scrape time.Duration) (fast, period folding) {
	if len(c.o.Exclusions) == 0 {
		return plainSum, plainSum
	}
	made := func(step time.Duration, text string) folding {
		factor := " * " + excludedFactor(c.o.Exclusions, 5*time.Minute+scrape+step)
		return folding{"sum_over_time((", factor + ")[", ":" + text + "])", factor}
	}
	return made(time.Minute, "1m"), made(5*time.Minute, "5m")
}

// excludedFactor is PromQL of 1, or of 0 within an exclusion and for a while after it.
func excludedFactor(exclusions []Exclusion, after time.Duration) string {
	var once []Span
	var b []byte
	seconds := func(t time.Time) { b = strconv.AppendInt(b, t.Unix(), 10) }
	begin := func() {
		if len(b) == 0 {
			b = append(b, '(')
		} else {
			b = append(b, " * "...)
		}
	}
	for i := range exclusions {
		if x := &exclusions[i]; !x.Weekly {
			once = append(once, Span{x.From, x.To.Add(after)})
		}
	}
	for _, s := range mergeSpans(once) {
		begin()
		b = append(b, "(1 - (time() > bool "...)
		seconds(s.From)
		b = append(b, ") * (time() < bool "...)
		seconds(s.To)
		b = append(b, "))"...)
	}
	weekly := slices.DeleteFunc(slices.Clone(exclusions), func(x Exclusion) bool { return !x.Weekly })
	slices.SortStableFunc(weekly, func(x, y Exclusion) int {
		return cmp.Or(x.From.Compare(y.From), x.To.Compare(y.To), x.Until.Compare(y.Until))
	})
	for i := range weekly {
		x := &weekly[i]
		// By the clock of the zone: it shows the same at each beginning.
		_, beginOffset := x.From.In(x.zone()).Zone()
		_, endOffset := x.To.In(x.zone()).Zone()
		shown := x.From.Unix() + int64(beginOffset)
		length := x.To.Unix() + int64(endOffset) - shown + int64(after/time.Second)
		begin()
		b = append(b, "(1 - (time() > bool "...)
		seconds(x.From)
		if !x.Until.IsZero() {
			b = append(b, ") * (time() < bool "...)
			end, _ := x.end()
			seconds(end.Add(after))
		}
		b = append(b, ") * (("...)
		b = append(b, localTimeBetween(x.zone(), x.From, x.Until)...)
		b = append(b, " - "...)
		b = strconv.AppendInt(b, shown, 10)
		b = append(b, ") % 604800 < bool "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "))"...)
	}
	return string(append(b, ')'))
}
