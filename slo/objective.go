// Package slo turns catalog annotations and slo-ref documents into service level objectives, and these into exact
// Prometheus rules. It is a compiler: values in, values out, no I/O, no clock. Equal inputs give byte-identical output.
//
// # Arithmetic
//
// An objective has two base series, the rates of bad and of all events over a short base window, each recorded once per
// evaluation. The error ratio of a window W is
//
//	sum_over_time(errors[W]) / sum_over_time(total[W])
//
// so every event weighs the same, whenever it happened. A mean of ratios would weigh a quiet minute like a busy one. The
// errors are recorded "or 0 * total": an error series that exists only during an incident is 0 before and after it. A
// window without events has no ratio (never NaN), or counts as good where no-traffic says so. Base series carry no owner,
// so that a change of owner keeps the budget.
//
// # Base window and tolerance
//
// The base window is five minutes "anchored" where the evaluating engine knows that modifier, and else five minutes plus
// one scrape interval, so that each increment of a counter is seen by five evaluations a minute apart. Anchored, the
// budget equals the count of events within 0.5 %; the first sample of a series that is born with a count is not seen.
// Without it, extrapolation costs a counter that begins at 0 up to a fifth of its first burst.
//
// # Alerts
//
// A burn pair fires when the error ratios of its short and of its long window both exceed factor × (1 − target), where
// factor = share of the budget × window ÷ long window: over 30 days 14.4 (2 % in 1h) and 6 (5 % in 6h) page, 3 (10 % in
// 1d) and 1 (10 % in 3d) open a ticket. At least two bad events in the long window are needed as well. A pair whose
// threshold is not below 1 can never fire: see Build.
package slo

import (
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A Target is the wanted share of good events, kept as decimal text so that it prints exactly; 0 < percent < 100.
type Target struct{ percent, ratio, budget string } // e.g. "99.9", "0.999" and "0.001"

// An Objective is a target for one indicator of one entity over a window.
type Objective struct {
	Entity    catalog.Ref
	Owner     catalog.Ref // effective owner
	System    catalog.Ref // zero when there is none
	Indicator string      // name in "_" form, e.g. "availability"; it is the label sloth_slo
	Kind      Kind        // what an event is; KindEvents where it is ""
	Title     string      // what the indicator means, in words
	Target    Target
	Threshold string // Prometheus-ready threshold (seconds for durations), "" where the indicator has none
	Window    Window

	ErrorQuery string // PromQL of the rate of bad events; "$window" stands for the range, as in rate(x[$window])
	TotalQuery string // PromQL of the rate of all events

	Composite *Composite // what it is made of, instead of queries; nil for others

	NoTraffic   NoTraffic
	MinEvents   int      // fewest events in the long window before an alert may fire; 0 means no such guard
	MaxSeverity Severity // highest severity that may fire: page, ticket or off
	Tier        string
	Runbook     string
	Defaulted   bool   // the silver path: nobody asked for this objective
	Source      string // "annotation", "profile" or the slo-ref document

	Exclusions []Exclusion // minutes that do not count, sorted
}

// Service is the label sloth_service.
func (o *Objective) Service() string { return o.Entity.Dotted() }

// ID is the label sloth_id; it cannot collide because the indicator has no "." and the service no other form.
func (o *Objective) ID() string { return o.Service() + "-" + o.Indicator }

// A Window is the budget window.
type Window struct {
	Days     int    // of a rolling window; 0 for a calendar window
	Calendar string // "week" (from Monday on), "month" or "quarter"; "" for a rolling window
	// LocalTime is PromQL of what a clock in the time zone of the calendar shows, in seconds since 1970; UTC where it is "".
	LocalTime string
	Zone      string // name of that time zone; UTC where it is ""
}

// Severity is the highest severity that the alerts of an objective may have.
type Severity string

// The severities of alerts.
const (
	SeverityPage   Severity = "page"
	SeverityTicket Severity = "ticket"
	SeverityOff    Severity = "off"
)

// NoTraffic says what a window without events means.
type NoTraffic string

// The policies for no traffic.
const (
	NoTrafficIgnore NoTraffic = "ignore"
	NoTrafficGood   NoTraffic = "good"
	NoTrafficBad    NoTraffic = "bad"
)

// A RuleGroup is a Prometheus rule group, its rules in dependency order.
type RuleGroup struct {
	Name     string
	Interval time.Duration
	Rules    []Rule
}

// A Rule records a series or alerts; exactly one of Record and Alert is set.
type Rule struct {
	Record, Alert       string
	Expr                string
	For                 time.Duration
	Labels, Annotations Labels
}
