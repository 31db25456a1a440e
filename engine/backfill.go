package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Backfill evaluates recording rules in the past, at the times in [from, to] at which their groups would have been
// evaluated, and stores what they give where the store holds nothing of it. Only rules with one of the given names whose
// own labels are wanted are evaluated; rules that read what others of them record are not seen to. Alerts are never
// evaluated in the past.
func (e *Engine) Backfill(ctx context.Context, records []string, wanted func(labels map[string]string) bool, from, to time.Time) error {
	e.filling.Lock()
	defer e.filling.Unlock()
	if e.closed() {
		return errClosed
	}
	type rule struct {
		*rules.RecordingRule
		group *rules.Group
	}
	var all []rule
	for _, g := range (ruleView{e}).RuleGroups() {
		for _, r := range g.Rules() {
			if r, ok := r.(*rules.RecordingRule); ok && slices.Contains(records, r.Name()) && wanted(r.Labels().Map()) {
				all = append(all, rule{r, g})
			}
		}
	}
	if oldest := e.now().Add(-e.opts.Retention); from.Before(oldest) {
		from = oldest
	}
	if len(all) == 0 || to.Before(from) {
		return nil
	}
	err := e.writePast(ctx, from.UnixMilli(), to.UnixMilli()+1, func(from, to int64, add adder) error {
		for _, r := range all {
			start := evaluatedFrom(r.group, time.UnixMilli(from))
			end := time.UnixMilli(to - 1)
			if end.Before(start) {
				continue
			}
			series, err := e.QueryRange(ctx, r.Query().String(), start, end, r.group.Interval())
			if err != nil {
				return fmt.Errorf("rule %s of group %s: %w", r.Name(), r.group.Name(), err)
			}
			for _, s := range series {
				if err := e.recordPast(ctx, r.RecordingRule, s, r.group.Interval(), add); err != nil {
					return fmt.Errorf("rule %s of group %s: %w", r.Name(), r.group.Name(), err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("evaluate rules in the past: %w", err)
	}
	return nil
}

// evaluatedFrom is the first time from a time on at which a group would have been evaluated: at its own point in the
// interval, or, once it was evaluated, whole intervals from there.
func evaluatedFrom(g *rules.Group, from time.Time) time.Time {
	at := g.EvalTimestamp(from.UnixNano())
	if last := g.GetLastEvalTimestamp(); !last.IsZero() {
		at = last.Add(-last.Sub(from).Truncate(g.Interval()))
	}
	if at.Before(from) {
		at = at.Add(g.Interval())
	}
	return at
}

// recordPast adds what a rule gives, but for the times around which the store has it.
func (e *Engine) recordPast(ctx context.Context, r *rules.RecordingRule, s Series, interval time.Duration, add adder) error {
	b := labels.NewBuilder(labels.FromMap(s.Labels))
	b.Set(model.MetricNameLabel, r.Name())
	r.Labels().Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	l := b.Labels()
	half := interval.Milliseconds() / 2
	first, last := s.Points[0].Time.UnixMilli()-half, s.Points[len(s.Points)-1].Time.UnixMilli()+half
	var have []int64
	err := e.each(ctx, first, last, l, func(of labels.Labels, it chunkenc.Iterator) error {
		for labels.Equal(of, l) && it.Next() == chunkenc.ValFloat {
			have = append(have, it.AtT())
		}
		return it.Err()
	})
	if err != nil {
		return err
	}
	write := add(l)
	for _, p := range s.Points {
		t := p.Time.UnixMilli()
		i, _ := slices.BinarySearch(have, t-half)
		if i < len(have) && have[i] < t+half {
			continue
		}
		if err := write(t, p.Value); err != nil {
			return err
		}
	}
	return nil
}
