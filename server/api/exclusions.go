package api

import (
	"slices"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

// An Exclusion says why minutes do not count, and who decided it.
type Exclusion struct {
	Kind   string     `json:"kind" doc:"maintenance or correction."`
	From   time.Time  `json:"from" doc:"First minute that does not count."`
	To     time.Time  `json:"to" doc:"First minute that counts again."`
	Repeat string     `json:"repeat" doc:"weekly, or empty; then from and to are those of the first time."`
	Until  *time.Time `json:"until" doc:"From when on it is not repeated; null without an end."`
	Zone   string     `json:"timezone" doc:"By whose clock it repeats; empty when it does not."`
	Active bool       `json:"active" doc:"It covers the time of the answer."`
	By     string     `json:"by"`
	Reason string     `json:"reason"`
	Link   string     `json:"link"`
}

// A Span is a stretch of time; to does not belong to it.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// A Change is one of what an objective asks for.
type Change struct {
	Time  time.Time `json:"time" doc:"When it was taken over."`
	Field string    `json:"field" doc:"target, threshold, window, error_query, total_query, members (of a composite), owner, or objective, where it began or ended."`
	From  string    `json:"from"`
	To    string    `json:"to"`
}

// notes fills in what is noted about an objective: its exclusions and changes.
func (out *SLO) notes(o *Objective, now time.Time) {
	out.Exclusions, out.Excluded, out.Changes = []Exclusion{}, []Span{}, []Change{}
	for _, c := range slices.Backward(o.Changes) {
		out.Changes = append(out.Changes, Change{c.Time.UTC(), c.Field, c.From, c.To})
	}
	if o.SLO == nil {
		return
	}
	for i := range o.SLO.Exclusions {
		x := &o.SLO.Exclusions[i]
		e := Exclusion{Kind: x.Kind, From: x.From.UTC(), To: x.To.UTC(), Active: x.Covers(now), By: x.By, Reason: x.Reason, Link: x.Link}
		if x.Weekly {
			e.Repeat, e.Until, e.Zone = "weekly", moment(x.Until), time.UTC.String()
			if x.Zone != nil {
				e.Zone = x.Zone.String()
			}
		}
		out.Exclusions = append(out.Exclusions, e)
	}
	out.exclude(o.SLO, now.Add(-o.Length), now)
}

// exclude fills in what is left out between two times.
func (out *SLO) exclude(o *slo.Objective, from, to time.Time) {
	spans := o.ExcludedSpans(from, to)
	out.Excluded = []Span{}
	for _, s := range spans[max(0, len(spans)-MaxPoints):] {
		out.Excluded = append(out.Excluded, Span{s.From.UTC(), s.To.UTC()})
	}
}
