package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/slo"
)

// A sample of a counter of runs says that all runs that had finished by then are counted. So the embedded store takes a
// source's counters only while the source is read: not between a start and the first time that it was read, and not
// after it could not be read for lateAfter. What is counted meanwhile, and the history that a first start finds, is
// placed in the store at the times at which the runs finished; then the counters go on. docs/adr/006-history.md says why.
const (
	// lateAfter is how old what is found may be to be news: as long as the base window of objectives.
	lateAfter = 5 * time.Minute
	// settleTime is how long after the last sample of a counter rules may still read it: the base window and the
	// lookback before it.
	settleTime = 2 * lateAfter
	// newsDistance is what keeps history out of the base windows of what follows.
	newsDistance = lateAfter + time.Minute
)

// pastRecords are the series that are evaluated in the past too: what budgets are made of. Those that pages read are not.
var pastRecords = []string{slo.SeriesErrorsPeriod, slo.SeriesTotalPeriod}

// A historian places in the embedded store what was counted late.
type historian struct {
	journal *journal.Journal
	engine  *engine.Engine
	log     *slog.Logger
	now     func() time.Time

	gate    sync.RWMutex // held for reading while the store collects, so that a hold ends before or after it
	mu      sync.Mutex
	sources map[string]map[string]*reach // by name and host
}

// A reach is how far a source was read.
type reach struct {
	tried, read bool
	last        time.Time // when it was read, or held
}

// newHistorian holds every source until it has been read.
func newHistorian(j *journal.Journal, sources []Source, log *slog.Logger, now func() time.Time) *historian {
	h := &historian{journal: j, log: log, now: now, sources: map[string]map[string]*reach{}}
	for _, src := range sources {
		if h.sources[src.Name()] == nil {
			h.sources[src.Name()] = map[string]*reach{}
		}
		h.sources[src.Name()][src.Host()] = &reach{}
	}
	return h
}

// start begins the holds, once the store is open and before anything is collected or read.
func (h *historian) start(e *engine.Engine) {
	h.engine = e
	since := e.Newest()
	if since.IsZero() {
		since = h.now()
	}
	for name := range h.sources {
		h.journal.Hold(name, since)
	}
}

// gatherer leaves out the counters of sources that are held.
func (h *historian) gatherer(from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		h.gate.RLock()
		defer h.gate.RUnlock()
		return exporter.Withhold(from, func(source string) bool {
			_, held := h.journal.Held(source)
			return held
		}).Gather()
	})
}

// synced is called after each synchronisation of a source.
func (h *historian) synced(ctx context.Context, name, host string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.sources[name][host]
	now := h.now()
	r.tried = true
	if partial := (*exporter.PartialError)(nil); err == nil || errors.As(err, &partial) && len(partial.Errs) < partial.Of {
		r.read, r.last = true, now
	} else if now.Sub(r.last) > lateAfter {
		r.read = false
	}
	_, held := h.journal.Held(name)
	hold := h.unread(name)
	if hold && !held {
		h.journal.Hold(name, now)
	}
	if hold {
		return
	}
	if err := h.place(ctx, name, now); err != nil && ctx.Err() == nil {
		h.log.Error("what was counted late could not be placed in the past; it counts now", "source", name, "error", err)
	}
}

// unread tells whether the counters of a source are not to be taken. Of several hosts, whose counters can't be told apart,
// each must have been tried, and one be read.
func (h *historian) unread(name string) bool {
	read := false
	for _, r := range h.sources[name] {
		if !r.tried {
			return true
		}
		read = read || r.read
	}
	return !read
}

// place fills the store with what the past holds of a source, and ends its hold.
func (h *historian) place(ctx context.Context, name string, now time.Time) error {
	since, held := h.journal.Held(name)
	if !held && !h.journal.HasPast(name) {
		return nil
	}
	p, err := h.journal.Past(ctx, name)
	placed := map[exporter.TallyKey]bool{}
	if err == nil {
		err = h.fill(ctx, p, since, now, held, placed)
	}
	if ctx.Err() != nil {
		return ctx.Err() // it is found again
	}
	h.gate.Lock()
	defer h.gate.Unlock()
	return errors.Join(err, h.journal.Release(ctx, p, func(k exporter.TallyKey) bool { return placed[k] }))
}

// fill fills the store, evaluates the past of what grew in it, and notes which counters it placed.
func (h *historian) fill(ctx context.Context, p *journal.Past, since, now time.Time, held bool, placed map[exporter.TallyKey]bool) error {
	var pasts []engine.Past
	grown, from := map[string]bool{}, now
	for i := range p.Growths {
		g := &p.Growths[i]
		past, grows := pastOf(g, since, now, held)
		pasts, placed[g.Key] = append(pasts, past), true
		if grows {
			grown[g.Key.Entity] = true
			if first := past.Points[0].Time; first.Before(from) {
				from = first
			}
		}
	}
	start := time.Now()
	filled, err := h.engine.Fill(ctx, pasts)
	if err != nil {
		return err
	}
	if len(grown) > 0 {
		if err := h.engine.Backfill(ctx, pastRecords, func(l map[string]string) bool { return grown[l["entity"]] }, from, now); err != nil {
			return err
		}
		h.log.Info("what was counted late is placed at the times of its events", "source", p.Source, "counters", filled, "from", from, "took", time.Since(start).Round(time.Millisecond))
	}
	if !held {
		return nil
	}
	// What the last samples before the hold tell was not evaluated, if the process did not run; nor was it by a process that
	// ended before it had read the source.
	entities := map[string]bool{}
	for _, t := range h.journal.Snapshot().Tallies {
		if t.Key.Source == p.Source {
			entities[t.Key.Entity] = true
		}
	}
	return h.engine.Backfill(ctx, pastRecords, func(l map[string]string) bool { return entities[l["entity"]] }, since.Add(-time.Hour), now)
}

// pastOf places the growth of a counter at the times of its events. What began with history is placed from zero on, but not
// within newsDistance of now, or of when it became visible. What a counter gained that was seen before is placed after
// settleTime of the hold, and if it is late; the rest is news, before which the counter is said to have been what it was:
// its last sample may be too old for that. grows is false when there is nothing but news.
func pastOf(g *exporter.Growth, since, now time.Time, held bool) (p engine.Past, grows bool) {
	p.Labels = g.Key.SeriesLabels()
	p.Until = later(now.Add(-collectEvery), since.Add(time.Millisecond)) // a collection may be under way
	history := !g.Settled.IsZero()
	first, last := since.Add(settleTime), now.Add(-lateAfter)
	if history {
		if !held { // it is collected since
			p.Until = g.Settled
		}
		first, last = time.Time{}, p.Until.Add(-newsDistance)
	}
	var steps []exporter.Step
	for _, s := range g.Steps {
		switch s.At = s.At.Truncate(time.Millisecond); {
		case history && s.At.After(last):
			s.At = last
		case s.At.After(last) || last.Before(first):
			continue
		case s.At.Before(first):
			s.At = first
		}
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		p.Points = []engine.Point{{Time: p.Until, Value: g.Base}}
		return p, false
	}
	slices.SortStableFunc(steps, func(a, b exporter.Step) int { return a.At.Compare(b.At) })
	value := g.Base
	p.Points = append(p.Points, engine.Point{Time: steps[0].At.Add(-time.Second), Value: value})
	for _, s := range steps {
		value += s.By
		if n := len(p.Points); p.Points[n-1].Time.Equal(s.At) {
			p.Points[n-1].Value = value
			continue
		}
		p.Points = append(p.Points, engine.Point{Time: s.At, Value: value})
	}
	return p, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
