// Package slo turns catalog annotations into service level objectives and these into exact Prometheus rules. It is a
// compiler: values in, values out, no I/O, no clock. Equal inputs give byte-identical output.
package slo

import (
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A Target is the wanted share of good events, kept as the decimal text of the user so that it prints exactly.
type Target struct{ percent string } // e.g. "99.9"; 0 < percent < 100

// An Objective is a target for one indicator of one entity over a window.
type Objective struct {
	Entity    catalog.Ref
	Owner     catalog.Ref // effective owner
	System    catalog.Ref // zero when there is none
	Indicator string      // name in "_" form, e.g. "availability"; it is the label sloth_slo
	Title     string      // what the indicator means, in words
	Target    Target
	Threshold string // Prometheus-ready threshold (seconds for durations), "" where the indicator has none
	Window    Window

	ErrorQuery string // PromQL of the rate of bad events; "$window" stands for the range, as in rate(x[$window])
	TotalQuery string // PromQL of the rate of all events

	NoTraffic   NoTraffic
	MinEvents   int      // fewest events in the long window before an alert may fire; 0 means no such guard
	MaxSeverity Severity // highest severity that may fire: page, ticket or off
	Tier        string
	Runbook     string
	Defaulted   bool   // the silver path: nobody asked for this objective
	Source      string // "annotation", "profile" or the slo-ref document
}

// Service is the label sloth_service.
func (o *Objective) Service() string { return o.Entity.Dotted() }

// ID is the label sloth_id; it cannot collide because the indicator has no "." and the service no other form.
func (o *Objective) ID() string { return o.Service() + "-" + o.Indicator }

// A Window is the budget window.
type Window struct {
	Days     int    // of a rolling window; 0 for a calendar window
	Calendar string // "week", "month" or "quarter"; "" for a rolling window
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
	Labels, Annotations map[string]string
}
