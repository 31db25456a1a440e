package slo

import (
	"cmp"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// The kinds of exclusions.
const (
	ExclusionMaintenance = "maintenance" // planned, and known before
	ExclusionCorrection  = "correction"  // decided on afterwards
)

// An Exclusion takes minutes out of objectives: what happens in them counts neither as good nor as bad.
type Exclusion struct {
	Kind     string    // ExclusionMaintenance or ExclusionCorrection
	From, To time.Time // whole minutes; From is the first that is left out, To the first that counts again
	// Weekly repeats it every week at the same hours of the clock in Zone, until the occurrences that begin before Until;
	// without end where Until is zero.
	Weekly           bool
	Until            time.Time
	Zone             *time.Location
	By               string // who decided
	Reason           string
	Link             string // "" for none
	catalog.Position        // where it is written
}

// A Span is a stretch of time; To does not belong to it.
type Span struct{ From, To time.Time }

// Covers tells whether the minute of t is left out.
func (x *Exclusion) Covers(t time.Time) bool { return len(x.Spans(t, t.Add(1))) > 0 }

// Spans gives the occurrences that overlap [from, to), whole, in order.
func (x *Exclusion) Spans(from, to time.Time) []Span {
	var out []Span
	add := func(s Span) bool {
		if s.From.Before(to) && s.To.After(from) {
			out = append(out, s)
		}
		return s.From.Before(to)
	}
	if !x.Weekly {
		add(Span{x.From, x.To})
		return out
	}
	begin, end := x.From.In(x.zone()), x.To.In(x.zone())
	week := max(0, int(from.Sub(begin)/(7*24*time.Hour))-1)
	for ; ; week++ {
		s := Span{begin.AddDate(0, 0, 7*week), end.AddDate(0, 0, 7*week)}
		if !x.Until.IsZero() && !s.From.Before(x.Until) || !add(s) {
			return out
		}
	}
}

// Query is PromQL that is 1 while the exclusion lasts, and else 0.
func (x *Exclusion) Query() string { return "vector(1 - " + excludedFactor([]Exclusion{*x}, 0) + ")" }

func (x *Exclusion) zone() *time.Location {
	if x.Zone == nil {
		return time.UTC
	}
	return x.Zone
}

// end is when the last occurrence is over; false when it repeats without end.
func (x *Exclusion) end() (time.Time, bool) {
	switch {
	case !x.Weekly:
		return x.To, true
	case x.Until.IsZero():
		return time.Time{}, false
	}
	spans := x.Spans(x.Until.AddDate(0, 0, -15), x.Until)
	if len(spans) == 0 {
		return x.To, true
	}
	return spans[len(spans)-1].To, true
}

func (x *Exclusion) compare(y *Exclusion) int {
	return cmp.Or(x.From.Compare(y.From), x.To.Compare(y.To), cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line))
}

// Excluded gives an exclusion of the objective that covers the minute of t; false when the minute counts.
func (o *Objective) Excluded(t time.Time) (Exclusion, bool) {
	for i := range o.Exclusions {
		if o.Exclusions[i].Covers(t) {
			return o.Exclusions[i], true
		}
	}
	return Exclusion{}, false
}

// ExcludedSpans gives what is left out of the objective in [from, to), in order; what overlaps or touches is one.
func (o *Objective) ExcludedSpans(from, to time.Time) []Span {
	var all []Span
	for i := range o.Exclusions {
		all = append(all, o.Exclusions[i].Spans(from, to)...)
	}
	for i := range all {
		if all[i].From.Before(from) {
			all[i].From = from
		}
		if all[i].To.After(to) {
			all[i].To = to
		}
	}
	return mergeSpans(all)
}

func mergeSpans(all []Span) []Span {
	slices.SortFunc(all, func(a, b Span) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	var out []Span
	for _, s := range all {
		if n := len(out); n > 0 && !s.From.After(out[n-1].To) {
			if s.To.After(out[n-1].To) {
				out[n-1].To = s.To
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// longest is how long the window can be.
func (w Window) longest() time.Duration {
	const day = 24 * time.Hour
	switch w.Calendar {
	case "month":
		return 31 * day
	case "quarter":
		return 92 * day
	}
	return w.Length()
}

// ExclusionsOfSloth tells that the rules of sloth leave nothing out.
func ExclusionsOfSloth(objectives []Objective) []catalog.Problem {
	var out []catalog.Problem
	for i := range objectives {
		for _, x := range objectives[i].Exclusions {
			out = append(out, catalog.Problem{
				Severity: catalog.SeverityWarning, Rule: "exclusion-sloth", File: x.File, Line: x.Line, Column: x.Column, Entity: objectives[i].Entity, Owner: objectives[i].Owner,
				Message: "the exclusion has no effect on " + objectives[i].Indicator + ": rules that sloth generates leave nothing out", Hint: "generate without --rules=sloth",
			})
		}
	}
	return out
}

// ExpiredExclusions tells of exclusions that lie before the windows of all objectives that they apply to, at a time: they
// have no effect any more, but stand in every rule.
func ExpiredExclusions(objectives []Objective, now time.Time) []catalog.Problem {
	type use struct {
		exclusion *Exclusion
		objective *Objective
		needed    bool
	}
	uses := map[catalog.Position]*use{}
	for i := range objectives {
		o := &objectives[i]
		for j := range o.Exclusions {
			x := &o.Exclusions[j]
			u := uses[x.Position]
			if u == nil {
				u = &use{exclusion: x, objective: o}
				uses[x.Position] = u
			}
			end, ends := x.end()
			// The windows of alerts reach three days back, all windows the base window further.
			u.needed = u.needed || !ends || now.Sub(end) < max(o.Window.longest(), 3*24*time.Hour)+time.Hour
		}
	}
	var out []catalog.Problem
	for at, u := range uses {
		if u.needed {
			continue
		}
		end, _ := u.exclusion.end()
		out = append(out, catalog.Problem{
			Severity: catalog.SeverityInfo, Rule: "exclusion-expired", File: at.File, Line: at.Line, Column: at.Column, Entity: u.objective.Entity, Owner: u.objective.Owner,
			Message: "the exclusion ended on " + end.UTC().Format("2006-01-02 15:04 UTC") + " and lies before every window that it applies to",
			Hint:    "delete it: the rules carry it as long as it is listed",
		})
	}
	slices.SortFunc(out, catalog.Problem.Compare)
	return out
}
