package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

// lengthOf is how long samples have to be kept for a window; of one that the calendar sets, its longest period.
func lengthOf(w slo.Window) time.Duration {
	const day = 24 * time.Hour
	switch w.Calendar {
	case "week":
		return 7 * day
	case "month":
		return 31 * day
	case "quarter":
		return 92 * day
	}
	return time.Duration(w.Days) * day
}

// longestWindow gives the longest budget window of any objective, and which has it; nil: there is none.
func longestWindow(objectives []slo.Objective) (length time.Duration, of *slo.Objective) {
	for i := range objectives {
		if l := lengthOf(objectives[i].Window); l > length {
			length, of = l, &objectives[i]
		}
	}
	return length, of
}

// retentionProblems names the objectives whose window is longer than the embedded Prometheus keeps samples.
func retentionProblems(c *config.Config, objectives []slo.Objective) []catalog.Problem {
	keep := time.Duration(c.Store.Retention)
	if c.Store.URL != "" || keep == 0 {
		return nil
	}
	var out []catalog.Problem
	for i := range objectives {
		o := &objectives[i]
		if lengthOf(o.Window) <= keep {
			continue
		}
		out = append(out, catalog.Problem{
			Severity: catalog.SeverityError, Rule: "store-retention", Entity: o.Entity, Owner: o.Owner,
			Message: fmt.Sprintf("the window of %s is %s, but store.retention is %s: its budget would be wrong", o.Indicator, o.Window, c.Store.Retention),
			Hint:    "set store.retention to more than the longest window, or store.url to a Prometheus that keeps samples for longer",
		})
	}
	return out
}

// addRetention adds the problems of retentionProblems to those of a plan, which stay sorted. They are this process's own, so
// the plan's artifact of problems does not have them.
func addRetention(c *config.Config, p *plan.Plan, objectives []slo.Objective) {
	if found := retentionProblems(c, objectives); len(found) > 0 {
		p.Problems = append(p.Problems, found...)
		slices.SortFunc(p.Problems, catalog.Problem.Compare)
	}
}
