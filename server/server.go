// Package server is the process as a value: New opens the stores and binds the listener, Run works until its context
// ends, Reload takes over a changed catalog and configuration or leaves the old ones running. It is the only wiring.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/server/ui"
	"github.com/sightline-dev/sightline/slo"
)

// Compiled is what a catalog and its configuration come to.
type Compiled struct {
	Graph      *catalog.Graph
	Objectives []slo.Objective
	Plan       *plan.Plan
}

// Options are set by code; Compile is called at the start, on Reload and every Refresh.
type Options struct {
	Compile   func(context.Context) (*Compiled, error)
	Refresh   time.Duration // default 1m
	Listen    string
	Auth      auth.Options
	NeedAuth  bool // some kind of authentication is configured
	AllowOpen bool
	Path      string // folder of the store and the journal
	Retention time.Duration
	Scrape    []engine.ScrapeJob
	Alerting  []string // base URLs of Alertmanagers
	Sources   []Source
	Collect   []prometheus.Collector                                       // beside Sightline's own
	History   func(context.Context, *engine.Engine, []slo.Objective) error // fills an empty store; nil: none
	Simulated bool
	Version   string
	Logger    *slog.Logger
	Now       func() time.Time
}

// A Source is followed at an interval of its own.
type Source struct {
	exporter.Source
	Poll time.Duration // pause between the starts of two synchronisations; the default of exporter.Follow when zero
}

// A Server is one process. Its methods may be called by many goroutines.
type Server struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  *exporter.SourceMetrics
	info     exporter.EntityInfo
	reloaded prometheus.Gauge
	journal  *journal.Journal
	engine   *engine.Engine
	listener net.Listener
	http     *http.Server
	current  atomic.Pointer[state]
	mu       sync.Mutex // one Reload at a time
	statusMu sync.Mutex
	status   map[string]api.SourceStatus
	stop     []func() error // last first
}

// state is what a Reload swaps.
type state struct {
	compiled   *Compiled
	objectives []api.Objective
}

// New opens everything; when it fails, what it had opened is closed again.
func New(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Refresh == 0 {
		o.Refresh = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := auth.CheckListener(o.Listen, o.NeedAuth, o.AllowOpen); err != nil {
		return nil, err
	}
	s := &Server{opts: o, log: o.Logger, registry: prometheus.NewRegistry(), status: map[string]api.SourceStatus{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sightline_config_last_reload_successful", Help: "Whether the last reload of catalog and configuration was taken over."})
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &s.info, s.reloaded)
	s.metrics = exporter.NewSourceMetrics(s.registry)

	compiled, err := o.Compile(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Path, 0o750); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	if s.journal, err = journal.Open(filepath.Join(o.Path, "journal.db"), journal.Options{Logger: s.log, Now: o.Now}); err != nil {
		return nil, err
	}
	s.onStop(s.journal.Close)
	s.registry.MustRegister(exporter.NewCollector(s.journal))
	for _, c := range o.Collect {
		s.registry.MustRegister(c)
	}
	s.engine, err = engine.Open(engine.Options{
		Path: filepath.Join(o.Path, "tsdb"), Retention: o.Retention, Logger: s.log, Registerer: s.registry, Gatherer: s.registry,
		ScrapeInterval: 30 * time.Second, Scrape: o.Scrape, Alertmanagers: o.Alerting, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	s.onStop(s.engine.Close)
	if err := s.apply(compiled); err != nil {
		return nil, err
	}
	if o.History != nil {
		if err := o.History(ctx, s.engine, compiled.Objectives); err != nil {
			return nil, err
		}
	}
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.http = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	s.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return s.http.Shutdown(ctx)
	})
	return s, nil
}

func (s *Server) onStop(f func() error) { s.stop = append(s.stop, f) }

// Close stops what New started, last first. It may be called twice.
func (s *Server) Close() error {
	var errs []error
	for _, f := range slices.Backward(s.stop) {
		errs = append(errs, f())
	}
	s.stop = nil
	return errors.Join(errs...)
}

// Addr is the address that is listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves, evaluates and follows the sources until ctx ends; then it closes everything.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.engine.Run(ctx); err != nil {
			cancel(fmt.Errorf("engine: %w", err))
		}
	})
	for _, src := range s.opts.Sources {
		wg.Go(func() { s.follow(ctx, src) })
	}
	wg.Go(func() {
		tick := time.NewTicker(s.opts.Refresh)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := s.Reload(ctx); err != nil {
					s.log.Error("the catalog was not taken over; the last good one stays", "error", err)
				}
			}
		}
	})
	wg.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve: %w", err))
		}
	})
	<-ctx.Done()
	err := s.Close()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

func (s *Server) follow(ctx context.Context, src Source) {
	key := src.Name() + "|" + src.Host()
	err := exporter.Follow(ctx, src.Source, exporter.FollowOptions{
		Poll: src.Poll, Graph: func() *catalog.Graph { return s.current.Load().compiled.Graph }, Sink: s.journal, Logger: s.log, Metrics: s.metrics,
		Synced: func(err error) {
			s.statusMu.Lock()
			defer s.statusMu.Unlock()
			st := s.status[key]
			st.Name, st.Host, st.Up, st.LastError = src.Name(), src.Host(), err == nil, ""
			if err != nil {
				st.LastError = err.Error()
			} else {
				st.LastSuccess = s.opts.Now()
			}
			s.status[key] = st
		},
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("a source stopped", "source", key, "error", err)
	}
}

// Reload compiles anew and takes the result over; on an error the old one keeps running.
func (s *Server) Reload(ctx context.Context) error {
	compiled, err := s.opts.Compile(ctx)
	if err == nil {
		err = s.apply(compiled)
	}
	if err != nil {
		s.reloaded.Set(0)
	}
	return err
}

func (s *Server) apply(c *Compiled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := map[string][]byte{}
	for _, a := range c.Plan.Artifacts {
		if a.Kind == plan.KindRules {
			rules[a.Path] = a.Body
		}
	}
	if err := s.engine.SetRules(rules); err != nil {
		return err
	}
	next := &state{compiled: c}
	for i := range c.Objectives {
		o := &c.Objectives[i]
		next.objectives = append(next.objectives, api.Objective{
			ID: o.ID(), Entity: o.Entity, Owner: o.Owner, System: o.System, Indicator: o.Indicator, Title: o.Title, Target: o.Target.Percent(),
			Threshold: o.Threshold, Window: o.Window.String(), Length: time.Duration(o.Window.Days) * 24 * time.Hour, Tier: o.Tier, Runbook: o.Runbook,
			Defaulted: o.Defaulted, Source: o.Source,
		})
	}
	s.current.Store(next)
	s.info.Set(c.Graph)
	s.reloaded.Set(1)
	return nil
}

func (s *Server) handler() (http.Handler, error) {
	guard, check := func(h http.Handler) http.Handler { return h }, (func(context.Context, string) error)(nil)
	if s.opts.NeedAuth {
		a, err := auth.New(s.opts.Auth)
		if err != nil {
			return nil, err
		}
		guard = a.Middleware
		check = func(ctx context.Context, token string) error { _, err := a.Check(ctx, token); return err }
	}
	reader := api.NewReader(view{s}, s.opts.Now)
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	mux.HandleFunc("GET /-/healthy", ok)
	mux.HandleFunc("GET /-/ready", ok)
	mux.Handle("POST /-/reload", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Reload(r.Context()); err != nil {
			http.Error(w, "not taken over, the old configuration keeps running: "+err.Error(), http.StatusUnprocessableEntity)
			return
		}
		ok(w, r)
	})))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	query := guard(s.engine.QueryHandler())
	for _, p := range []string{"query", "query_range", "series", "labels", "label/{name}/values", "metadata", "rules", "alerts", "status/buildinfo", "features"} {
		mux.Handle("/api/v1/"+p, query)
	}
	mux.Handle("POST /api/v1/write", guard(s.engine.RemoteWriteHandler()))
	mux.Handle("/api/v1/", guard(api.New(reader)))
	mux.Handle("/", guard(ui.New(reader, ui.Options{Check: check, Cookie: auth.CookieName})))
	return mux, nil
}

// view is the api.State of a Server.
type view struct{ s *Server }

func (v view) Graph() *catalog.Graph       { return v.s.current.Load().compiled.Graph }
func (v view) Objectives() []api.Objective { return v.s.current.Load().objectives }
func (v view) Problems() []catalog.Problem { return v.s.current.Load().compiled.Plan.Problems }
func (v view) Querier() engine.Querier     { return v.s.engine }
func (v view) Simulated() bool             { return v.s.opts.Simulated }
func (v view) Version() string             { return v.s.opts.Version }

func (v view) Alerts(context.Context) ([]api.Alert, error) {
	var out []api.Alert
	for _, a := range v.s.engine.Alerts() {
		out = append(out, api.Alert{Name: a.Name, Labels: a.Labels, Annotations: a.Annotations, State: string(a.State), ActiveAt: a.ActiveAt, Value: a.Value})
	}
	return out, nil
}

func (v view) Runs(entity catalog.Ref, limit int) []exporter.Run {
	return v.s.journal.Runs(journal.Filter{Entities: []catalog.Ref{entity}, Limit: limit})
}

func (v view) Sources() []api.SourceStatus {
	v.s.statusMu.Lock()
	defer v.s.statusMu.Unlock()
	var out []api.SourceStatus
	for _, key := range slices.Sorted(keys(v.s.status)) {
		out = append(out, v.s.status[key])
	}
	return out
}

func keys(m map[string]api.SourceStatus) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
