package simulate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/slo"
)

// A History is the past of the objectives until the start: the base series of the budget window for 30 days at their
// five minutes, with the budget that was left at each time, and the base series of the fast windows for the last three
// days, every minute. Blocks also hold what was measured beside runs, every hour.
type History struct {
	past       []*past
	composites []*pastComposite
	measures   *measures
	from, at   time.Time // of the first sample, and of the next one
	start      time.Time
}

const (
	period        = 5 * time.Minute
	historyLength = 30 * 24 * time.Hour
	// recent is how much of the past is appended to the open store: blocks end before it, and raw samples, which the
	// short windows read, must be newer than the blocks.
	recent = 15 * time.Minute
)

// NewHistory makes the history of a catalog's objectives.
func NewHistory(g *catalog.Graph, objectives []slo.Objective, start time.Time) *History {
	h := &History{from: start.Add(-historyLength).Truncate(period), start: start}
	h.at = h.from
	h.measures = newMeasures(g, start)
	events := runEvents(Runs(g, h.from.Add(-period), start))
	for i := range objectives {
		h.past = append(h.past, newPast(g, &objectives[i], start, events))
	}
	h.composites = newComposites(objectives, h.past)
	return h
}

// next gives what happened until a time, which is a whole period; one call continues where the last one ended.
func (h *History) next(until time.Time) []engine.Series {
	var out []engine.Series
	for _, p := range h.past {
		if p.rates == nil {
			continue
		}
		p.ratios = p.ratios[:0]
		var failures, totals, remaining, fastErrors, fastTotals []engine.Point
		for at := h.at; at.Before(until); at = at.Add(period) {
			total, failed := p.rates(at)
			p.total += total
			p.failed += failed
			p.ratios = append(p.ratios, p.failed/p.total) // NaN before the first event
			failures, totals = append(failures, engine.Point{Time: at, Value: failed}), append(totals, engine.Point{Time: at, Value: total})
			if p.total > 0 {
				remaining = append(remaining, engine.Point{Time: at, Value: 1 - p.failed/p.total/p.budget})
			}
			if !at.After(h.start.Add(-3 * 24 * time.Hour)) {
				continue
			}
			for t := at; t.Before(at.Add(period)); t = t.Add(time.Minute) {
				total, failed := p.rates(t)
				fastErrors, fastTotals = append(fastErrors, engine.Point{Time: t, Value: failed}), append(fastTotals, engine.Point{Time: t, Value: total})
			}
		}
		out = append(out, engine.Series{Labels: p.periodErrors, Points: failures}, engine.Series{Labels: p.periodTotal, Points: totals},
			engine.Series{Labels: p.remaining, Points: remaining}, engine.Series{Labels: p.fastErrors, Points: fastErrors}, engine.Series{Labels: p.fastTotal, Points: fastTotals})
	}
	for _, c := range h.composites {
		out = append(out, c.next(h.at, until))
	}
	h.at = until
	return out
}

// WriteBlocks writes all but the last minutes into the folder of a store that is not open yet, a block for each day. A
// folder that holds anything is left alone, and written is false.
func (h *History) WriteBlocks(ctx context.Context, path string) (written bool, err error) {
	if old, err := os.ReadDir(path); err == nil && len(old) > 0 {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look into the store's folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o750); err != nil {
		return false, fmt.Errorf("make the store's folder: %w", err)
	}
	end := h.start.Add(-recent).Truncate(period)
	for h.at.Before(end) {
		until := h.at.Add(24 * time.Hour)
		if until.After(end) {
			until = end
		}
		series := append(h.measures.next(h.at, until), h.next(until)...)
		if err := engine.WriteBlock(ctx, path, series); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Append appends what is not written yet to an open store.
func (h *History) Append(ctx context.Context, e *engine.Engine) error {
	end := h.start.Add(-period)
	for h.at.Before(end) {
		until := h.at.Add(24 * time.Hour)
		if until.After(end) {
			until = end.Truncate(period).Add(period)
		}
		var samples []engine.Sample
		for _, s := range h.next(until) {
			for _, p := range s.Points {
				samples = append(samples, engine.Sample{Labels: s.Labels, Value: p.Value, Time: p.Time})
			}
		}
		if err := e.Append(ctx, samples); err != nil {
			return err
		}
	}
	return nil
}

// Finish appends the last minutes to an open store whose rules are set, with the raw samples that short windows read,
// and evaluates every rule, so that all windows have a value before the server runs: twice, since the windows of a day and
// more read what the period group has recorded, which comes after the fast one.
func (h *History) Finish(ctx context.Context, e *engine.Engine, t *Traffic) error {
	if err := h.Append(ctx, e); err != nil {
		return err
	}
	defer t.Hold(time.Time{})
	for at := h.start.Add(-recent + period); !at.After(h.start); at = at.Add(30 * time.Second) {
		t.Hold(at)
		if err := e.Collect(ctx, at); err != nil {
			return err
		}
	}
	if err := e.Evaluate(ctx, h.start.Add(-time.Minute)); err != nil {
		return err
	}
	return e.Evaluate(ctx, h.start)
}

// WriteHistory fills an open store with the whole past. It is for tests: WriteBlocks is several times faster.
func WriteHistory(ctx context.Context, e *engine.Engine, g *catalog.Graph, objectives []slo.Objective, start time.Time) error {
	return NewHistory(g, objectives, start).Append(ctx, e)
}

// A past is the history of one objective.
type past struct {
	rates                                                       func(time.Time) (total, failed float64) // nil: nothing is simulated for it
	periodErrors, periodTotal, fastErrors, fastTotal, remaining map[string]string
	budget, total, failed                                       float64
	ratios                                                      []float64 // of errors since the beginning, at each period of the last next
}

func newPast(g *catalog.Graph, o *slo.Objective, start time.Time, events map[string][]event) *past {
	p := &past{}
	for _, group := range slo.Groups(*o, slo.RuleOptions{Anchored: true}) {
		for _, r := range group.Rules {
			labels := map[string]string{"__name__": r.Record}
			for _, l := range r.Labels {
				labels[l.Name] = l.Value
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
	if o.Composite != nil {
		return p
	}
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
