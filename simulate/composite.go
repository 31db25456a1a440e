package simulate

import (
	"math"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// A pastComposite is the history of a composite: the budget that was left at each time, of what its members had left.
// Composites of composites have none.
type pastComposite struct {
	remaining map[string]string
	worst     bool
	budget    float64
	members   []pastMember
}

type pastMember struct {
	*past
	weight float64
}

// newComposites makes the histories of the composites among objectives, of which past are the others' in the same order.
func newComposites(objectives []slo.Objective, all []*past) []*pastComposite {
	byID := map[string]*past{}
	for i := range objectives {
		if all[i].rates != nil {
			byID[objectives[i].ID()] = all[i]
		}
	}
	var out []*pastComposite
	for i := range objectives {
		o := &objectives[i]
		if o.Composite == nil {
			continue
		}
		c := &pastComposite{remaining: all[i].remaining, worst: o.Composite.WorstOf, budget: o.Target.Budget()}
		for _, m := range o.Composite.Members {
			if p := byID[m.ID]; p != nil {
				weight, err := strconv.ParseFloat(m.Weight, 64)
				if err == nil {
					c.members = append(c.members, pastMember{p, weight})
				}
			}
		}
		out = append(out, c)
	}
	return out
}

// next gives the budget left from a time until another, for which the members' next has been called.
func (c *pastComposite) next(from, until time.Time) engine.Series {
	out := engine.Series{Labels: c.remaining}
	i := 0
	for at := from; at.Before(until); at = at.Add(period) {
		burn, sum, weights := math.Inf(-1), 0.0, 0.0
		for _, m := range c.members {
			if ratio := m.ratios[i]; !math.IsNaN(ratio) {
				burn = max(burn, ratio/m.budget)
				sum, weights = sum+m.weight*ratio, weights+m.weight
			}
		}
		i++
		if weights == 0 {
			continue
		}
		if !c.worst {
			burn = sum / weights / c.budget
		}
		out.Points = append(out.Points, engine.Point{Time: at, Value: 1 - burn})
	}
	return out
}
