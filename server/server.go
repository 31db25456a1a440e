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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/server/changes"
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
	Compile       func(context.Context) (*Compiled, error)
	Waiting       func() []string  // keys of the configuration that changed and that only a restart takes over, as of the last Compile; nil: none
	Taken         func(*Compiled)  // called after a catalog was taken over; returns quickly; may be nil
	Retry         func(error) bool // whether Compile, having failed so at the start, may succeed later; nil: never, New fails
	Refresh       time.Duration    // default 1m
	Listen        string
	MetricsListen string // where metrics and probes are, without authentication; "": beside everything else
	WebConfig     string // exporter-toolkit's web configuration file (TLS, basic auth); "" for none
	Auth          auth.Options
	NeedAuth      bool // some kind of authentication is configured
	AllowOpen     bool
	Path          string         // folder of the store and the journal
	Remote        *remote.Client // the store; nil: an embedded one, which Retention, Scrape, Alerting, History and Warm are for
	Retention     time.Duration
	Scrape        []engine.ScrapeJob
	Alerting      []string // base URLs of Alertmanagers
	Sources       []Source
	Sinks         []exporter.Sender // where the spans and log lines of counted runs go
	Push          []push.Target     // where the metrics of /metrics are sent to, every PushEvery
	PushEvery     time.Duration
	Logs          correlate.LogStore                                                       // where log lines are read; nil: nowhere
	Traces        correlate.TraceStore                                                     // where traces are read; nil: nowhere
	Collect       []prometheus.Collector                                                   // beside Sightline's own
	History       func(ctx context.Context, path string, objectives []slo.Objective) error // fills the embedded store's folder before it is opened; nil: none
	Warm          func(context.Context, *engine.Engine) error                              // prepares the store before it runs, after the rules were set; nil: nothing
	Webhooks      func(to exporter.Sink, count *exporter.WebhookMetrics) http.Handler      // of GitLab, at /webhooks/gitlab; nil: none
	Events        func(context.Context, exporter.Sink, *exporter.WebhookMetrics)           // takes webhooks from elsewhere until the context ends; nil: none
	Simulated     bool
	Version       string
	Logger        *slog.Logger
	Now           func() time.Time
}

// A Source is followed at an interval of its own.
type Source struct {
	exporter.Source               // what is wrong in the catalog as it sees it comes from its method Problems() []catalog.Problem, where it has one
	Poll            time.Duration // pause between the starts of two synchronisations; the default of exporter.Follow when zero
	MaxBackoff      time.Duration // longest pause after failures; the default of exporter.Follow when zero
}

// A Server is one process. Its methods may be called by many goroutines.
type Server struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  *metrics
	sources  *exporter.SourceMetrics
	sinks    *exporter.SinkMetrics
	pushes   *push.Metrics
	webhooks *exporter.WebhookMetrics // nil where there are none
	info     exporter.EntityInfo
	journal  *journal.Journal
	engine   *engine.Engine // nil with a remote store
	history  *historian     // nil with a remote store, and where Options.History made the past
	changes  *changes.History
	store    *storeWatch
	web      *webConfig
	listener net.Listener

	metricsListener net.Listener // nil: there is none of their own
	metricsHTTP     *http.Server
	http            *http.Server
	catalog         catalogState
	current         atomic.Pointer[state]
	status          sourceStatus
	stop            []func() error // last first
}

// state is what a Reload swaps.
type state struct {
	compiled   *Compiled
	objectives []api.Objective
	loaded     bool // false: the empty state before the first load
}

// New opens everything; when it fails, what it had opened is closed again. Where the first Compile fails in a way that
// Retry hopes for, or takes long, the server starts without a catalog: it is not ready, says why, and Run tries again.
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
	s := &Server{opts: o, log: o.Logger, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.web, err = readWebConfig(o.WebConfig); err != nil {
		return nil, err
	}
	if err := s.web.check(o.NeedAuth); err != nil {
		return nil, err
	}
	if err := auth.CheckListener(o.Listen, o.NeedAuth || s.web.authenticates(), o.AllowOpen); err != nil {
		return nil, err
	}
	empty, _ := catalog.NewGraph(nil, catalog.Ref{})
	s.current.Store(&state{compiled: &Compiled{Graph: empty, Plan: &plan.Plan{}}})
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &s.info)
	s.metrics = newMetrics(s.registry)
	s.sources, s.sinks = exporter.NewSourceMetrics(s.registry), exporter.NewSinkMetrics(s.registry)
	s.pushes = push.NewMetrics(s.registry)

	if o.Webhooks != nil || o.Events != nil {
		s.webhooks = exporter.NewWebhookMetrics(s.registry)
	}

	first, err := s.firstCompile(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Path, 0o750); err != nil {
		return nil, engine.NewError("make the store's folder", "set store.path to a folder that this process may write to", err)
	}
	var outboxes []string
	selective := map[string]exporter.Selective{}
	for _, sink := range o.Sinks {
		outboxes = append(outboxes, sink.Name())
		if s, ok := sink.(exporter.Selective); ok {
			selective[sink.Name()] = s
		}
	}
	past := o.Remote == nil && o.History == nil
	wanted := func(sink string, r *exporter.Run) bool {
		s, ok := selective[sink]
		return !ok || s.Wants(r)
	}
	if s.journal, err = journal.Open(filepath.Join(o.Path, "journal.db"), journal.Options{Logger: s.log, Now: o.Now, Outboxes: outboxes, Wanted: wanted, Trace: correlate.TraceOfRun, Past: past}); err != nil {
		return nil, err
	}
	s.onStop(s.journal.Close)
	if err := s.openChanges(); err != nil {
		return nil, err
	}
	s.registry.MustRegister(exporter.NewCollector(s.journal))
	for _, c := range o.Collect {
		s.registry.MustRegister(c)
	}
	if o.Remote != nil {
		s.store = newStoreWatch(o.Remote, s.metrics, o.Now)
	} else {
		path := filepath.Join(o.Path, "tsdb")
		if o.History != nil && first != nil {
			if err := o.History(ctx, path, first.Objectives); err != nil {
				return nil, err
			}
		}
		gatherer := prometheus.Gatherer(s.registry)
		if past {
			s.history = newHistorian(s.journal, o.Sources, s.log, o.Now)
			gatherer = s.history.gatherer(gatherer)
		}
		s.engine, err = engine.Open(engine.Options{
			Path: path, Retention: o.Retention, Logger: s.log, Registerer: s.registry, Gatherer: gatherer,
			ScrapeInterval: collectEvery, Scrape: o.Scrape, Alertmanagers: o.Alerting, Now: o.Now,
		})
		if err != nil {
			return nil, err
		}
		s.onStop(s.engine.Close)
		if past {
			s.history.start(s.engine)
		}
		s.store = newStoreWatch(s.engine, s.metrics, o.Now)
	}
	alerts := &incidents{store: s.store.querier, now: o.Now}
	for _, src := range o.Sources {
		if user, ok := src.Source.(interface{ UseIncidents(f dora.Incidents) }); ok {
			user.UseIncidents(alerts.of)
		}
	}
	if first != nil {
		if err := s.take(first, nil, true); err != nil {
			return nil, err
		}
		if o.Warm != nil {
			if err := o.Warm(ctx, s.engine); err != nil {
				return nil, err
			}
		}
	}
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", o.Listen); err != nil {
		hint := "listen on an address of this machine and a port above 1023"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another process has this port: stop it, or listen on another one (server.listen, or --listen of the demo)"
		}
		return nil, engine.NewError("open the listener", hint, err)
	}
	s.onStop(s.closeListener) // for a server that never ran
	s.http = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: bodyTime, IdleTimeout: 2 * time.Minute}
	s.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return s.http.Shutdown(ctx)
	})
	if err := s.listenMetrics(); err != nil {
		return nil, err
	}
	return s, nil
}

// collectEvery is how often the embedded store takes in Sightline's own metrics.
const collectEvery = 30 * time.Second

// maxWrite is the longest body of a remote write, compressed; senders stay far below it, at 2,000 samples by default.
const maxWrite = 8 << 20

// bodyTime is how long a request may take to come in. It is longer than the longest query, which it would cut off.
const bodyTime = 5 * time.Minute

func (s *Server) closeListener() error {
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
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

// URL is where the server listens.
func (s *Server) URL() string { return s.web.scheme() + "://" + s.listener.Addr().String() }

// Run serves, evaluates and follows the sources until ctx ends; then it closes everything.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	if s.engine != nil {
		wg.Go(func() {
			if err := s.engine.Run(ctx); err != nil {
				cancel(fmt.Errorf("engine: %w", err))
			}
		})
	}
	for _, src := range s.opts.Sources {
		wg.Go(func() { s.follow(ctx, src) })
	}
	if s.opts.Events != nil {
		wg.Go(func() { s.opts.Events(ctx, s.journal, s.webhooks) })
	}
	wg.Go(func() { s.followCatalog(ctx) })
	wg.Go(func() { s.store.run(ctx) })
	wg.Go(func() { s.compactJournal(ctx) })
	for _, sink := range s.opts.Sinks {
		wg.Go(func() {
			if err := exporter.Deliver(ctx, sink, exporter.DeliverOptions{Outbox: s.journal, Logger: s.log, Metrics: s.sinks}); err != nil && ctx.Err() == nil {
				s.log.Error("a sink stopped", "sink", sink.Name(), "error", err)
			}
		})
	}
	for _, to := range s.opts.Push {
		wg.Go(func() {
			push.Run(ctx, to, push.Options{From: s.registry, Interval: s.opts.PushEvery, Logger: s.log, Metrics: s.pushes})
		})
	}
	wg.Go(func() {
		if err := s.web.serve(s.listener, s.http, s.log); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve: %w", err))
		}
	})
	if s.metricsListener != nil {
		wg.Go(func() {
			if err := s.web.serve(s.metricsListener, s.metricsHTTP, s.log); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serve metrics: %w", err))
			}
		})
	}
	<-ctx.Done()
	err := s.Close()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

const (
	// recordsKept is how long the journal remembers each job, step and observation that was counted: longer than sources look
	// back by default.
	recordsKept  = 90 * 24 * time.Hour
	compactEvery = 24 * time.Hour
)

// compactJournal keeps the journal from growing without end, at the start and once a day.
func (s *Server) compactJournal(ctx context.Context) {
	tick := time.NewTicker(compactEvery)
	defer tick.Stop()
	for {
		start := time.Now()
		n, err := s.journal.Compact(ctx, s.opts.Now().Add(-recordsKept))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Error("the journal was not compacted; trying again in a day", "error", err)
		case n > 0:
			s.log.Info("the journal was compacted", "records", n, "took", time.Since(start).Round(time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) follow(ctx context.Context, src Source) {
	graph := func() *catalog.Graph {
		if st := s.current.Load(); st.loaded {
			return st.compiled.Graph
		}
		return nil
	}
	err := exporter.Follow(ctx, src.Source, exporter.FollowOptions{
		Poll: src.Poll, MaxBackoff: src.MaxBackoff, Graph: graph, Sink: s.journal, Logger: s.log, Metrics: s.sources,
		Synced: func(err error) {
			s.status.note(src.Name(), src.Host(), err, s.opts.Now())
			if s.history != nil {
				s.history.synced(ctx, src.Name(), src.Host(), err)
			}
		},
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("a source stopped", "source", src.Name(), "host", src.Host(), "error", err)
	}
}

// apply swaps the state; the caller holds catalog.mu.
func (s *Server) apply(c *Compiled) error {
	if s.engine != nil {
		rules := map[string][]byte{}
		for _, a := range c.Plan.Artifacts {
			if a.Kind == plan.KindRules {
				rules[a.Path] = a.Body
			}
		}
		if err := s.engine.SetRules(rules); err != nil {
			return err
		}
	}
	s.noteChanges(c)
	next := &state{compiled: c, loaded: true}
	for i := range c.Objectives {
		o := &c.Objectives[i]
		next.objectives = append(next.objectives, api.Objective{
			ID: o.ID(), Entity: o.Entity, Owner: o.Owner, System: o.System, Indicator: o.Indicator, Title: o.Title, Target: o.Target.Percent(),
			Threshold: o.Threshold, Window: o.Window.String(), Length: o.Window.Length(), Tier: o.Tier, Runbook: o.Runbook,
			Defaulted: o.Defaulted, Source: o.Source, SLO: o, Changes: s.changes.Of(o.ID()),
		})
	}
	s.current.Store(next)
	s.info.Set(c.Graph)
	if s.opts.Taken != nil {
		s.opts.Taken(c)
	}
	return nil
}

func (s *Server) handler() (http.Handler, error) {
	open := func(h http.Handler) http.Handler { return h }
	guard, change, check := open, open, (func(context.Context, string) error)(nil)
	known := func(*http.Request) bool { return true } // who asks
	if s.opts.NeedAuth {
		a, err := auth.New(s.opts.Auth)
		if err != nil {
			return nil, err
		}
		guard = a.Middleware
		change = func(h http.Handler) http.Handler { return guard(auth.StaticOnly(h)) }
		check = func(ctx context.Context, token string) error { _, err := a.Check(ctx, token); return err }
		known = func(r *http.Request) bool { return check(r.Context(), auth.Token(r)) == nil }
	}
	reader := api.NewReader(view{s}, s.opts.Now)
	mux := http.NewServeMux()
	s.probes(mux, known)
	mux.Handle("POST /-/reload", change(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.reload(r.Context(), r.URL.Query().Get("force") == "true"); err != nil {
			http.Error(w, "not taken over, the old configuration keeps running: "+explain(err), http.StatusUnprocessableEntity)
			return
		}
		ok(w, r)
		if s.opts.Waiting != nil {
			if keys := s.opts.Waiting(); len(keys) > 0 {
				fmt.Fprintln(w, "changed, and taken over by a restart only: "+strings.Join(keys, ", "))
			}
		}
	})))
	if s.opts.MetricsListen == "" {
		s.exposition(mux)
	}
	query, write := s.elsewhere(), s.elsewhere()
	if s.engine != nil {
		query, write = s.engine.QueryHandler(), s.engine.RemoteWriteHandler()
	}
	for _, p := range []string{"query", "query_range", "series", "labels", "label/{name}/values", "metadata", "rules", "alerts", "status/buildinfo", "features"} {
		mux.Handle("/api/v1/"+p, guard(query))
	}
	mux.Handle("POST /api/v1/write", change(http.MaxBytesHandler(write, maxWrite)))
	mux.Handle("/api/v1/", guard(api.New(reader)))
	if s.opts.Webhooks != nil { // they carry secrets of their own
		mux.Handle("/webhooks/gitlab", s.opts.Webhooks(s.journal, s.webhooks))
	}
	mux.Handle("/", guard(ui.New(reader, ui.Options{Check: check, Cookie: auth.CookieName})))
	// A page of another site must not make a browser change anything here, by a cookie or because it stands on the same machine.
	return http.NewCrossOriginProtection().Handler(mux), nil
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// probes adds what anybody may ask. What upstreams say is for those who are known, because they may read.
func (s *Server) probes(mux *http.ServeMux, known func(*http.Request) bool) {
	mux.HandleFunc("GET /-/healthy", ok)
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, r *http.Request) {
		err := s.ready(r.Context())
		switch {
		case err == nil:
			ok(w, r)
		case known(r):
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		default:
			http.Error(w, "not ready: "+err.state, http.StatusServiceUnavailable)
		}
	})
}

func (s *Server) exposition(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
}

// listenMetrics opens the listener of metrics and probes, if there is to be one.
func (s *Server) listenMetrics() (err error) {
	if s.opts.MetricsListen == "" {
		return nil
	}
	if s.metricsListener, err = net.Listen("tcp", s.opts.MetricsListen); err != nil {
		return engine.NewError("open the listener of metrics", "let server.metrics_listen be a free address of this machine", err)
	}
	mux := http.NewServeMux()
	s.probes(mux, func(*http.Request) bool { return !s.opts.NeedAuth })
	s.exposition(mux)
	s.metricsHTTP = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	s.onStop(func() error {
		if err := s.metricsListener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	s.onStop(s.metricsHTTP.Close)
	return nil
}

// MetricsURL is where metrics and probes are.
func (s *Server) MetricsURL() string {
	if s.metricsListener == nil {
		return s.URL()
	}
	return s.web.scheme() + "://" + s.metricsListener.Addr().String()
}
