package slo

import (
	"strconv"
	"strings"
	"time"
)

// Calendar windows: the base that the period group records gets a label with the number of the period in which it was
// recorded. The sum over the longest that a period can be then has a series for each period, of which the current one is
// taken. A base sample holds the five minutes before it and belongs to the period of their middle: a period begins at most
// two and a half minutes late or early.

// The series of calendar windows.
const (
	SeriesErrorsCalendar = "sightline:slo_errors_calendar:rate5m"
	SeriesTotalCalendar  = "sightline:slo_total_calendar:rate5m"
	SeriesLocalTime      = "sightline:slo_local_time:seconds"
)

const labelPeriod = "period"

// localTime is PromQL of the seconds since 1970 that a clock in the zone shows, by its changes of the years 2024 to 2044,
// as the zone's rules are known.
func localTime(zone *time.Location) string {
	return localTimeBetween(zone, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{})
}

// localTimeBetween is localTime with the changes between two times only, or until 2044 where end is zero.
func localTimeBetween(zone *time.Location, begin, end time.Time) string {
	if zone == nil {
		zone = time.UTC
	}
	t := begin.In(zone)
	if end.IsZero() {
		end = time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	_, offset := t.Zone()
	var b strings.Builder
	b.WriteString("time()")
	add := func(seconds int) {
		if seconds < 0 {
			b.WriteString(" - " + strconv.Itoa(-seconds))
		} else {
			b.WriteString(" + " + strconv.Itoa(seconds))
		}
	}
	if offset != 0 {
		add(offset)
	}
	for {
		_, next := t.ZoneBounds()
		if !next.IsZero() && !next.After(t) { // package time ends a leap year a day early; no clock changes on that day
			next = t.Add(24 * time.Hour)
		}
		if next.IsZero() || next.After(end) {
			return b.String()
		}
		t = next
		if _, now := t.Zone(); now != offset {
			add(now - offset)
			b.WriteString(" * (time() >= bool " + strconv.FormatInt(t.Unix(), 10) + ")")
			offset = now
		}
	}
}

func zoneName(zone *time.Location) string {
	if zone == nil {
		return "UTC"
	}
	return zone.String()
}

// A calendar is what the rules of a calendar window need; all are PromQL.
type calendar struct {
	period  string // a vector whose label "period" is the number of the current one
	longest string // no period is longer
}

func (c *compiler) calendar(kind string) calendar {
	local := c.text.join(SeriesLocalTime, c.match)
	var number, longest string
	switch kind {
	case "week": // from Monday on: 1969-12-29 was one
		number, longest = c.text.join("floor((", local, " + 259200) / 604800)"), "8d"
	case "quarter":
		number, longest = c.text.join("year(", local, ") * 100 + ceil(month(", local, ") / 3)"), "93d"
	default:
		number, longest = c.text.join("year(", local, ") * 100 + month(", local, ")"), "32d"
	}
	return calendar{c.text.join(`count_values("`+labelPeriod+`", `, number, ")"), longest}
}

// mark is a base series with the number of the current period on it.
func (c *compiler) mark(series string, k calendar) string {
	return c.text.join(series, c.match, " * on () group_left ("+labelPeriod+") ", k.period)
}

// current folds a marked series over the current period.
func (c *compiler) current(f folding, series string, k calendar) string {
	return c.text.join("sum without ("+labelPeriod+") (", f.open, series, c.match, f.from, k.longest, f.to, " and on ("+labelPeriod+") ", k.period, ")")
}
