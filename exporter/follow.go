package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
)

// SourceMetrics are the self-metrics of sources, the series of each told apart by the labels source and host.
type SourceMetrics struct {
	up, success, duration, poll, backfill *prometheus.GaugeVec
	runs, errors                          *prometheus.CounterVec
}

// NewSourceMetrics makes them and registers them. It panics when they are registered already.
func NewSourceMetrics(reg prometheus.Registerer) *SourceMetrics {
	gauge := func(f familyID) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: families[f].Name, Help: families[f].Help}, families[f].Labels)
		reg.MustRegister(v)
		return v
	}
	counter := func(f familyID) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: families[f].Name, Help: families[f].Help}, families[f].Labels)
		reg.MustRegister(v)
		return v
	}
	return &SourceMetrics{
		up: gauge(sourceUp), success: gauge(sourceSuccess), duration: gauge(sourceDuration), poll: gauge(sourcePoll), backfill: gauge(sourceBackfill),
		runs: counter(sourceRuns), errors: counter(sourceErrors),
	}
}

// FollowOptions are the settings of Follow.
type FollowOptions struct {
	Poll       time.Duration         // pause between the starts of two synchronisations, a floor; default 30s
	MaxBackoff time.Duration         // longest pause after failures; default 10m, never below Poll
	Graph      func() *catalog.Graph // required; a nil graph means that the catalog is not loaded yet
	Sink       Sink                  // required
	Logger     *slog.Logger          // default: discard
	Metrics    *SourceMetrics        // may be nil
	Synced     func(error)           // called after each synchronisation; may be nil
}

// A Settler is a Sink that holds history back until the source has been read completely once (journal.Journal).
type Settler interface {
	Settle(ctx context.Context, source, host string) error
}

// Follow calls a source's Sync again and again until ctx ends, and returns ctx's error. After a failure it waits longer
// and longer, with jitter; what was read before stays. A panic of the source is an error like any other.
func Follow(ctx context.Context, s Source, o FollowOptions) error {
	if o.Graph == nil || o.Sink == nil {
		return errors.New("follow needs a graph and a sink")
	}
	if o.Poll <= 0 {
		o.Poll = 30 * time.Second
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = 10 * time.Minute
	}
	o.MaxBackoff = max(o.MaxBackoff, o.Poll)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	log := o.Logger.With("source", s.Name(), "host", s.Host())
	if nudged, ok := s.(Nudged); ok {
		var wg sync.WaitGroup
		wg.Go(func() { followNudges(ctx, nudged, o, log) })
		defer wg.Wait()
	}
	progress := newProgress(s, o.Metrics, log)
	failures := 0
	for {
		wait := min(o.Poll, time.Second)
		if g := o.Graph(); g != nil {
			start := time.Now()
			sink := &countingSink{Sink: o.Sink, committed: progress.tell}
			err := syncOnce(ctx, s, g, sink)
			progress.tell()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if settler, ok := o.Sink.(Settler); ok && err == nil {
				err = settler.Settle(ctx, s.Name(), s.Host())
			}
			took := time.Since(start)
			if err == nil {
				if failures > 0 {
					log.Info("source works again", "after_failures", failures)
				}
				failures = 0
				wait = max(o.Poll-took, 0)
			} else {
				failures++
				wait = backoff(o.Poll, o.MaxBackoff, failures)
				if partial := (*PartialError)(nil); errors.As(err, &partial) && len(partial.Errs) < partial.Of {
					wait = max(o.Poll-took, 0)
				}
				log.Warn("source was not read completely; what was read before is kept", "error", err, "failures", failures, "next_in", wait.Round(time.Millisecond))
			}
			o.Metrics.record(s, err, took, wait, sink.runs.Load())
			if o.Synced != nil {
				o.Synced(err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// followNudges lets a source read what it is told of, until ctx ends.
func followNudges(ctx context.Context, s Nudged, o FollowOptions, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Nudge():
		}
		g := o.Graph()
		if g == nil {
			continue // the source keeps it for the next nudge
		}
		sink := &countingSink{Sink: o.Sink}
		err := guarded(s, func() error { return s.SyncNudged(ctx, g, sink) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Warn("what webhooks told of was not read completely; it is read again after the next synchronisation", "error", err)
		}
		o.Metrics.recordNudge(s, err, sink.runs.Load())
	}
}

// backoff is the poll interval, doubled per failure after the first, up to limit, less up to a fifth of it.
func backoff(poll, limit time.Duration, failures int) time.Duration {
	d := poll
	for i := 1; i < failures && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	return max(poll, d-time.Duration(rand.Int64N(int64(d)/5+1)))
}

func syncOnce(ctx context.Context, s Source, g *catalog.Graph, to Sink) error {
	return guarded(s, func() error { return s.Sync(ctx, g, to) })
}

func guarded(s Source, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("source %s panicked: %v\n%s", s.Name(), p, debug.Stack())
		}
	}()
	return do()
}

func (m *SourceMetrics) recordNudge(s Source, err error, runs uint64) {
	if m == nil {
		return
	}
	if err != nil {
		m.errors.WithLabelValues(s.Name(), s.Host()).Inc()
	}
	m.runs.WithLabelValues(s.Name(), s.Host()).Add(float64(runs))
}

func (m *SourceMetrics) record(s Source, err error, took, wait time.Duration, runs uint64) {
	if m == nil {
		return
	}
	l := []string{s.Name(), s.Host()}
	m.errors.WithLabelValues(l...)
	if err == nil {
		m.up.WithLabelValues(l...).Set(1)
		m.success.WithLabelValues(l...).Set(float64(time.Now().UnixMilli()) / 1000)
	} else {
		m.up.WithLabelValues(l...).Set(0)
		m.errors.WithLabelValues(l...).Inc()
	}
	m.duration.WithLabelValues(l...).Set(took.Seconds())
	m.poll.WithLabelValues(l...).Set(wait.Seconds())
	m.runs.WithLabelValues(l...).Add(float64(runs))
}

type countingSink struct {
	Sink
	runs      atomic.Uint64
	committed func() // may be nil
}

// Commit passes the batch on and counts its runs.
func (s *countingSink) Commit(ctx context.Context, b Batch) error {
	if err := s.Sink.Commit(ctx, b); err != nil {
		return err
	}
	s.runs.Add(uint64(len(b.Runs)))
	if s.committed != nil {
		s.committed()
	}
	return nil
}
