package server

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter/dora"
)

const (
	// incidentSpan is how far back alerts are read, and incidentStep how exactly.
	incidentSpan = 24 * time.Hour
	incidentStep = time.Minute
	// incidentQuiet is how long an alert must have been away to be over: a store may be late.
	incidentQuiet = 5 * time.Minute
)

// burning is every alert of severity page that an error budget burns. The value is the time since when its condition holds.
const burning = `max by (entity, sloth_id) (ALERTS_FOR_STATE{alertname="SLOErrorBudgetBurn",severity="page",entity!=""}` +
	` and ignoring (alertstate) ALERTS{alertname="SLOErrorBudgetBurn",severity="page",alertstate="firing"})`

// incidents tells of the times in which entities burned their error budgets so fast that somebody was paged, by the series
// that the rules leave behind in the store. Safe for concurrent use.
type incidents struct {
	store engine.Querier
	now   func() time.Time

	mu   sync.Mutex
	at   time.Time // when the store was last asked
	list []dora.Incident
	err  error // of that
}

// of gives those of entities that had not ended at from. The store is asked once in a minute, for all entities, and for
// the last 24 hours at most; one that does not answer is asked no more often, since counting waits for it.
func (i *incidents) of(ctx context.Context, entities []catalog.Ref, from time.Time) ([]dora.Incident, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := i.now(); i.at.IsZero() || now.Sub(i.at) >= incidentStep || now.Before(i.at) {
		begin := now.Add(-incidentSpan)
		series, err := i.store.QueryRange(ctx, burning, begin, now, incidentStep)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i.at, i.err = i.now(), nil; err != nil {
			i.err = fmt.Errorf("read when alerts fired: %w", err)
		} else {
			i.list = nil
			for _, one := range series {
				i.list = append(i.list, incidentsOf(one, now)...)
			}
		}
	}
	if i.err != nil {
		return nil, i.err
	}
	var out []dora.Incident
	for _, in := range i.list {
		if slices.Contains(entities, in.Entity) && (in.Ended.IsZero() || !in.Ended.Before(from)) {
			out = append(out, in)
		}
	}
	return out, nil
}

// incidentsOf makes an incident of each time that an alert became active. It ended after its last point, to a step.
func incidentsOf(series engine.Series, now time.Time) []dora.Incident {
	entity, err := catalog.ParseRef(series.Labels["entity"], "component")
	if err != nil {
		return nil
	}
	var out []dora.Incident
	var since float64
	for n, p := range series.Points {
		if n == 0 || p.Value != since {
			since = p.Value
			whole, part := math.Modf(since)
			began := time.Unix(int64(whole), int64(part*1e9)).UTC()
			out = append(out, dora.Incident{ID: strings.Join([]string{series.Labels["sloth_id"], began.Format(time.RFC3339)}, " "), Entity: entity, Began: began})
		}
		out[len(out)-1].Ended = p.Time.Add(incidentStep).UTC()
	}
	if n := len(out); n > 0 && now.Sub(out[n-1].Ended) < incidentQuiet {
		out[n-1].Ended = time.Time{}
	}
	return out
}
