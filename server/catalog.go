package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
)

// startWait is how long New waits for the first Compile before the server starts without a catalog.
const startWait = 5 * time.Second

// catalogState is how following the catalog stands.
type catalogState struct {
	loading sync.Mutex // one Compile at a time

	mu    sync.Mutex
	first chan compilation // of a first Compile that New did not wait for; nil otherwise
	since time.Time        // of the last success
	err   error            // of the last attempt; nil when it succeeded
}

type compilation struct {
	compiled *Compiled
	err      error
}

// A ShrunkError says that a catalog lost so much at once that an upstream fault is more likely than a change.
type ShrunkError struct{ Was, Is int }

func (e *ShrunkError) Error() string {
	return fmt.Sprintf("the catalog shrank from %d entities to %d at once", e.Was, e.Is)
}

// Hint says how to take it over all the same.
func (e *ShrunkError) Hint() string {
	return "if this is meant, take it over with POST /-/reload?force=true"
}

// shrunk refuses a catalog that is empty or less than half of what it was; small ones only when they are empty.
func shrunk(old, next *catalog.Graph) error {
	const small = 10
	was, is := old.Len(), next.Len()
	if was > 0 && is == 0 || was >= small && 2*is < was {
		return &ShrunkError{was, is}
	}
	return nil
}

// firstCompile gives nil, nil where the server is to start without a catalog. History needs one, so it is waited for.
func (s *Server) firstCompile(ctx context.Context) (*Compiled, error) {
	compileCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.onStop(func() error { cancel(); return nil })
	done := make(chan compilation, 1)
	go func() {
		c, err := s.opts.Compile(compileCtx)
		done <- compilation{c, err}
	}()
	var patience <-chan time.Time
	if s.opts.History == nil {
		patience = time.After(startWait)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-patience:
		s.log.Info("the catalog takes long to load; starting without it, not ready until it is there")
		s.catalog.first = done
		return nil, nil
	case c := <-done:
		if c.err == nil {
			return c.compiled, nil
		}
		if s.opts.Retry == nil || !s.opts.Retry(c.err) {
			return nil, c.err
		}
		s.take(nil, c.err, false)
		s.logCatalog(c.err)
		return nil, nil
	}
}

// followCatalog compiles every Refresh, and after failures at the start sooner, later and later.
func (s *Server) followCatalog(ctx context.Context) {
	if s.catalog.first != nil {
		select {
		case <-ctx.Done():
			return
		case c := <-s.catalog.first:
			s.logCatalog(s.take(c.compiled, c.err, false))
		}
	}
	soon := backoff.NewExponentialBackOff()
	soon.InitialInterval, soon.MaxInterval = min(2*time.Second, s.opts.Refresh), s.opts.Refresh
	for {
		wait := s.opts.Refresh
		if !s.current.Load().loaded {
			wait = soon.NextBackOff()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := s.Reload(ctx); ctx.Err() == nil {
			s.logCatalog(err)
		}
	}
}

func (s *Server) logCatalog(err error) {
	switch {
	case err == nil:
	case s.current.Load().loaded:
		s.log.Error("the catalog was not taken over; the last good one stays", "error", err, "hint", hintOf(err))
	default:
		s.log.Error("the catalog was not loaded; not ready, trying again", "error", err, "hint", hintOf(err))
	}
}

// Reload compiles anew and takes the result over; on an error, and when the catalog shrank suspiciously, the old one
// keeps running.
func (s *Server) Reload(ctx context.Context) error { return s.reload(ctx, false) }

// reload is Reload; force takes over a catalog that shrank.
func (s *Server) reload(ctx context.Context, force bool) error {
	s.catalog.loading.Lock()
	defer s.catalog.loading.Unlock()
	c, err := s.opts.Compile(ctx)
	if err != nil && ctx.Err() != nil {
		return err // the caller went away; that says nothing of the catalog
	}
	return s.take(c, err, force)
}

// take takes over what Compile gave, unless it is an error or a suspicious catalog, and notes which.
func (s *Server) take(c *Compiled, err error, force bool) error {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	if old := s.current.Load(); err == nil && old.loaded && !force {
		err = shrunk(old.compiled.Graph, c.Graph)
	}
	if err == nil {
		err = s.apply(c)
	}
	if s.catalog.err = err; err != nil {
		s.metrics.reloaded.Set(0)
		return err
	}
	s.catalog.since = s.opts.Now()
	s.metrics.took(c, s.catalog.since)
	return nil
}

// notices says what is wrong with the catalog as a whole, for people.
func (s *Server) notices() []string {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	switch {
	case s.catalog.since.IsZero() && s.catalog.err == nil:
		return []string{"The catalog is being loaded."}
	case s.catalog.since.IsZero():
		return []string{"The catalog has not been loaded: " + explain(s.catalog.err)}
	case s.catalog.err != nil:
		return []string{"The catalog is of " + s.catalog.since.UTC().Format("2006-01-02 15:04 UTC") + "; a newer one was not taken over: " + explain(s.catalog.err)}
	}
	return nil
}

// hintOf finds the hint in a chain of errors.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// explain gives an error with its hint in one line.
func explain(err error) string {
	if hint := hintOf(err); hint != "" {
		return err.Error() + " (" + hint + ")"
	}
	return err.Error()
}

// metrics are the server's own.
type metrics struct {
	reloaded, success, storeUp prometheus.Gauge
	entities, problems         *prometheus.GaugeVec

	changed *prometheus.GaugeVec
	changes int // that changed shows
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sightline_config_last_reload_successful", Help: "Whether the last reload of catalog and configuration was taken over."}),
		success:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sightline_catalog_last_success_timestamp_seconds", Help: "When catalog and configuration were last taken over; 0 before the first time."}),
		entities: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sightline_catalog_entities", Help: "Entities of the catalog that is in use."}, []string{"kind"}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sightline_catalog_problems", Help: "Problems of the catalog that is in use."}, []string{"severity"}),
		storeUp:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sightline_store_up", Help: "Whether the store, embedded or remote, answered the last check."}),
	}
	m.changed = newChanged()
	reg.MustRegister(m.reloaded, m.success, m.entities, m.problems, m.storeUp, m.changed)
	return m
}

// took shows a catalog that was taken over.
func (m *metrics) took(c *Compiled, at time.Time) {
	m.reloaded.Set(1)
	m.success.Set(float64(at.UnixMilli()) / 1000)
	m.entities.Reset()
	for e := range c.Graph.Entities() {
		m.entities.WithLabelValues(e.Ref.Kind).Inc()
	}
	severities := map[catalog.Severity]float64{catalog.SeverityError: 0, catalog.SeverityWarning: 0, catalog.SeverityInfo: 0}
	for _, p := range c.Plan.Problems {
		severities[p.Severity]++
	}
	for severity, n := range severities {
		m.problems.WithLabelValues(string(severity)).Set(n)
	}
}
