package simulate

import (
	"context"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/slo"
)

// WriteHistory fills an empty store with the past of the objectives, oldest first, until start: the base series of the
// budget window for 30 days at their five minutes, with the budget that was left at each time, and the base series of
// the fast windows for the last three days. A store that holds objectives already is left alone.
func WriteHistory(ctx context.Context, e *engine.Engine, g *catalog.Graph, objectives []slo.Objective, start time.Time) error {
	if old, err := e.Query(ctx, "count("+slo.SeriesTotalPeriod+" offset 1h) or count(last_over_time("+slo.SeriesTotalPeriod+"[1d]))", start); err != nil || len(old) > 0 {
		return err
	}
	const period = 5 * time.Minute
	from := start.Add(-30 * 24 * time.Hour).Truncate(period)
	events := runEvents(Runs(g, from.Add(-period), start))
	past := make([]*past, 0, len(objectives))
	for i := range objectives {
		past = append(past, newPast(g, &objectives[i], start, events))
	}
	for at := from; at.Before(start.Add(-period)); {
		var samples []engine.Sample
		for end := at.Add(6 * time.Hour); at.Before(end) && at.Before(start.Add(-period)); at = at.Add(period) {
			for _, p := range past {
				if p.rates == nil {
					continue
				}
				total, failed := p.rates(at)
				p.total += total
				p.failed += failed
				add := func(labels map[string]string, v float64) {
					samples = append(samples, engine.Sample{Labels: labels, Value: v, Time: at})
				}
				add(p.periodErrors, failed)
				add(p.periodTotal, total)
				if p.total > 0 {
					add(p.remaining, 1-p.failed/p.total/p.budget)
				}
				if at.After(start.Add(-3 * 24 * time.Hour)) {
					for m := range 5 {
						t := at.Add(time.Duration(m) * time.Minute)
						total, failed := p.rates(t)
						samples = append(samples, engine.Sample{Labels: p.fastErrors, Value: failed, Time: t}, engine.Sample{Labels: p.fastTotal, Value: total, Time: t})
					}
				}
			}
		}
		if err := e.Append(ctx, samples); err != nil {
			return err
		}
	}
	return nil
}

// A past is the history of one objective.
type past struct {
	rates                                                       func(time.Time) (total, failed float64) // nil: nothing is simulated for it
	periodErrors, periodTotal, fastErrors, fastTotal, remaining map[string]string
	budget, total, failed                                       float64
}

func newPast(g *catalog.Graph, o *slo.Objective, start time.Time, events map[string][]event) *past {
	p := &past{}
	for _, group := range slo.Groups(*o, slo.RuleOptions{Anchored: true}) {
		for _, r := range group.Rules {
			labels := map[string]string{"__name__": r.Record}
			for k, v := range r.Labels {
				labels[k] = v
			}
			switch r.Record {
			case slo.SeriesErrors:
				p.fastErrors = labels
			case slo.SeriesTotal:
				p.fastTotal = labels
			case slo.SeriesErrorsPeriod:
				p.periodErrors = labels
			case slo.SeriesTotalPeriod:
				p.periodTotal = labels
			case slo.SeriesBudgetRemaining:
				p.remaining = labels
			}
		}
	}
	p.budget = o.Target.Budget()
	switch o.Indicator {
	case "availability", "latency":
		s := newService(g.Entity(o.Entity), start)
		if s.peak == 0 {
			return p
		}
		p.rates = func(t time.Time) (float64, float64) {
			total, failed, slow := s.rates(t)
			if o.Indicator == "latency" {
				return total, slow
			}
			return total, failed
		}
	case "pipeline_success", "task_success":
		mine := events[o.Entity.String()]
		p.rates = func(t time.Time) (total, failed float64) {
			for _, e := range mine {
				if e.at.After(t.Add(-5*time.Minute)) && !e.at.After(t) {
					total += 1.0 / 300
					if e.failed {
						failed += 1.0 / 300
					}
				}
			}
			return total, failed
		}
	}
	return p
}

type event struct {
	at     time.Time
	failed bool
}

// runEvents are the runs that objectives count, by entity.
func runEvents(runs []exporter.Run) map[string][]event {
	out := map[string][]event{}
	for _, r := range runs {
		if r.Level != exporter.LevelPipeline || r.Result == exporter.ResultCancellation || r.RefKind == "merge_request" {
			continue
		}
		out[r.Entity.String()] = append(out[r.Entity.String()], event{r.Finished, r.Result != exporter.ResultSuccess})
	}
	return out
}
