package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	defaultRetention = 40 * 24 * time.Hour
	defaultInterval  = time.Minute
	maxBlock         = 31 * 24 * time.Hour
	maxSamples       = 50_000_000
	blockReload      = 2 * time.Second // how often the store looks for new blocks
	queryTimeout     = 2 * time.Minute
)

// Options say how an Engine works.
type Options struct {
	// Path is the folder of the store. It is created when it does not exist. Required.
	Path string

	// Retention is how long samples are kept; 40 days by default. It must be longer than the longest window that a
	// rule reads, or the budget of that window is computed from a part of it.
	Retention time.Duration

	// Logger receives what the parts log; nothing is logged by default.
	Logger *slog.Logger

	// Registerer receives the metrics of this engine, and loses them again with Close. One Registerer takes one engine.
	Registerer prometheus.Registerer

	// Gatherer is Sightline's own registry. Run appends it to the store at every multiple of ScrapeInterval.
	Gatherer prometheus.Gatherer

	// NativeHistograms also stores the native form of the Gatherer's histograms that have one.
	NativeHistograms bool

	ScrapeInterval     time.Duration // of the Gatherer, and of scrape jobs that name none; 1 minute by default
	EvaluationInterval time.Duration // of rule groups that name none; 1 minute by default

	// ExternalLabels are added to every alert that is sent.
	ExternalLabels map[string]string

	// ExternalURL is where a user finds this engine; alerts link to it.
	ExternalURL string

	// Scrape lists what else is scraped.
	Scrape []ScrapeJob

	// Alertmanagers are the base URLs of the Alertmanagers that receive the alerts.
	Alertmanagers []string

	// Now is the clock of the Gatherer's samples and of queries that name no time; time.Now by default. Timers are
	// not under its control: tests use Collect and Evaluate instead of Run.
	Now func() time.Time
}

// A ScrapeJob is a set of targets that are scraped alike.
type ScrapeJob struct {
	Job      string        // label job; unique
	Targets  []string      // "host:port", or a URL, whose path and query are used too
	Interval time.Duration // Options.ScrapeInterval by default
}

// An Engine is an embedded Prometheus: a store, PromQL, rules, scraping, a remote-write receiver and a notifier.
// It is safe for concurrent use. Several engines may live in one process, each with its own folder.
type Engine struct {
	opts      Options
	log       *slog.Logger
	now       func() time.Time
	reg       *prometheus.Registry
	metrics   *metrics
	db        *tsdb.DB
	promql    *promql.Engine
	notifier  *notifier.Manager
	scraper   *scrape.Manager
	collector *collector
	loader    *memoryLoader
	write     http.Handler
	query     http.Handler
	amTargets targetSets
	scTargets targetSets

	mu      sync.Mutex // guards the fields below
	rules   *rules.Manager
	groups  map[string]*rules.Group // before Run: evaluated by Evaluate only
	state   state
	cancel  context.CancelFunc
	stopped chan struct{} // closed when Run has returned

	setting sync.Mutex        // one SetRules at a time
	files   map[string][]byte // what was set last; guarded by setting

	gone atomic.Bool // Close was called; apart from mu, which is held while rules are swapped

	newest time.Time // of all samples at the opening

	filling    sync.Mutex // one Fill at a time
	evaluating sync.Mutex // one Evaluate at a time, and never while SetRules swaps groups
	closeOnce  sync.Once
	closeErr   error
}

type state int

const (
	stateOpen state = iota
	stateRunning
	stateStopped
	stateClosed
)

var errClosed = errors.New("engine is closed")

// An Error is an error with advice.
type Error struct {
	msg  string
	hint string
	err  error
}

func (e *Error) Error() string { return e.msg + ": " + e.err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Hint says what the user can do.
func (e *Error) Hint() string { return e.hint }

// NewError wraps err with what was being done and with advice for the user.
func NewError(doing, hint string, err error) *Error { return &Error{doing, hint, err} }

// enableAnchored makes the parser accept the modifier "anchored". The switch is global to the process.
var enableAnchored = sync.OnceFunc(func() { parser.EnableExtendedRangeSelectors = true })

// Open opens the store, or makes it. Nothing runs before Run, but everything may be queried and appended.
// The caller closes the engine. An error about the store carries a hint (see Error).
func Open(opts Options) (_ *Engine, err error) {
	enableAnchored()
	if opts.Path == "" {
		return nil, errors.New("open engine: no path")
	}
	if opts.Retention == 0 {
		opts.Retention = defaultRetention
	}
	if opts.ScrapeInterval == 0 {
		opts.ScrapeInterval = defaultInterval
	}
	if opts.EvaluationInterval == 0 {
		opts.EvaluationInterval = defaultInterval
	}
	switch {
	case opts.Retention < 2*time.Hour:
		return nil, fmt.Errorf("open engine: a retention of %s is shorter than 2h", opts.Retention)
	case opts.ScrapeInterval < time.Millisecond:
		return nil, fmt.Errorf("open engine: a scrape interval of %s is shorter than 1ms", opts.ScrapeInterval)
	case opts.EvaluationInterval < time.Millisecond:
		return nil, fmt.Errorf("open engine: an evaluation interval of %s is shorter than 1ms", opts.EvaluationInterval)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	externalURL := &url.URL{Scheme: "http", Host: "localhost"}
	if opts.ExternalURL != "" {
		if externalURL, err = url.Parse(opts.ExternalURL); err != nil {
			return nil, fmt.Errorf("open engine: external URL: %w", err)
		}
	}
	e := &Engine{
		opts: opts, log: opts.Logger, now: opts.Now, reg: prometheus.NewRegistry(),
		loader: &memoryLoader{}, groups: map[string]*rules.Group{}, stopped: make(chan struct{}),
	}
	cfg, am, sc, err := parts(opts)
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	e.amTargets, e.scTargets = am, sc

	tsdbOpts := tsdb.DefaultOptions()
	tsdbOpts.RetentionDuration = opts.Retention.Milliseconds()
	tsdbOpts.MaxBlockDuration = max(tsdbOpts.MinBlockDuration, min(maxBlock, opts.Retention/10).Milliseconds())
	tsdbOpts.WALCompression = compression.Snappy
	tsdbOpts.OutOfOrderTimeWindow = opts.Retention.Milliseconds()
	tsdbOpts.BlockReloadInterval = blockReload
	e.db, err = tsdb.Open(opts.Path, e.log.With("component", "tsdb"), e.reg, tsdbOpts, nil)
	if err != nil {
		return nil, storeError(opts.Path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.db.Close())
		}
	}()
	if _, err := moveFill(opts.Path); err != nil { // now that the folder is ours
		return nil, storeError(opts.Path, err)
	}
	e.newest = time.UnixMilli(max(e.border(), e.db.Head().MaxTime()))
	if len(e.db.Blocks()) == 0 && e.db.Head().NumSeries() == 0 {
		e.newest = time.Time{}
	}

	e.metrics = newMetrics(e.reg)
	e.promql = promql.NewEngine(promql.EngineOpts{
		Logger:               e.log.With("component", "promql"),
		Reg:                  e.reg,
		MaxSamples:           maxSamples,
		Timeout:              queryTimeout,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 {
			return opts.EvaluationInterval.Milliseconds()
		},
	})
	e.notifier = notifier.NewManager(&notifier.Options{
		QueueCapacity: 10_000,
		Registerer:    e.reg,
	}, validation, e.log.With("component", "notifier"))
	if err := e.notifier.ApplyConfig(cfg); err != nil {
		return nil, fmt.Errorf("open engine: alertmanagers: %w", err)
	}
	e.scraper, err = scrape.NewManager(&scrape.Options{DiscoveryReloadInterval: scrapeReload}, e.log.With("component", "scrape"),
		nil, e.db, nil, e.reg)
	if err != nil {
		return nil, fmt.Errorf("open engine: scraping: %w", err)
	}
	if err := e.scraper.ApplyConfig(cfg); err != nil {
		return nil, fmt.Errorf("open engine: scraping: %w", err)
	}
	e.rules = rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: validation,
		ExternalURL:          externalURL,
		QueryFunc:            rules.EngineQueryFunc(e.promql, e.db),
		NotifyFunc:           rules.SendAlerts(e.notifier, externalURL.String()),
		Context:              context.Background(),
		Appendable:           e.db,
		Queryable:            e.db,
		Logger:               e.log.With("component", "rules"),
		Registerer:           e.reg,
		OutageTolerance:      time.Hour,
		ForGracePeriod:       10 * time.Minute,
		ResendDelay:          time.Minute,
		RestoreNewRuleGroups: false,
		GroupLoader:          e.loader,
		Metrics:              rules.NewGroupMetrics(e.reg),
	})
	if opts.Gatherer != nil {
		e.collector = newCollector(opts.Gatherer, e.db, opts.NativeHistograms, e.now())
	}
	e.write = remote.NewWriteHandler(e.log.With("component", "remote-write"), e.reg, e.db,
		remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}, false, false, false)
	e.query = e.newQueryHandler(cfg, externalURL)
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(e.reg); err != nil {
			return nil, NewError("open engine", "give each engine a registry of its own", err)
		}
	}
	return e, nil
}

func storeError(path string, err error) error {
	doing := "open store " + path
	switch text := err.Error(); {
	case errors.Is(err, syscall.EAGAIN) || strings.Contains(text, "lock DB directory"):
		return NewError(doing, "another process holds "+path+"/lock: stop it, or set another store.path", err)
	case errors.Is(err, fs.ErrPermission):
		return NewError(doing, "the folder must belong to the user that Sightline runs as", err)
	case errors.Is(err, syscall.ENOSPC):
		return NewError(doing, "the disk is full: free space, or lower store.retention", err)
	case errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST):
		return NewError(doing, "store.path must be a folder", err)
	}
	return NewError(doing, "the store may be damaged: move the block or segment named above out of "+path+
		" and start again; what it held is then missing from the budgets", err)
}

// Run scrapes, collects, evaluates rules and sends alerts until the context ends or Close is called; then it returns
// nil. It may be called once. A pending alert goes on from where it stood when an earlier process stopped (at most an hour ago).
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.evaluating.Lock() // an Evaluate that is under way ends first; and mu comes second everywhere
	e.mu.Lock()
	switch e.state {
	case stateRunning, stateStopped:
		e.mu.Unlock()
		e.evaluating.Unlock()
		return errors.New("engine was run before")
	case stateClosed:
		e.mu.Unlock()
		e.evaluating.Unlock()
		return errClosed
	}
	e.state, e.cancel, e.groups = stateRunning, cancel, nil
	e.evaluating.Unlock()
	var wg sync.WaitGroup
	wg.Go(e.rules.Run)
	err := e.updateManager()
	e.mu.Unlock()
	defer close(e.stopped)

	if err == nil {
		amTargets, scTargets := make(chan targetSets, 1), make(chan targetSets, 1)
		amTargets <- e.amTargets
		scTargets <- e.scTargets
		wg.Go(func() { e.notifier.Run(amTargets) })
		wg.Go(func() {
			if err := e.scraper.Run(scTargets); err != nil {
				e.log.Error("scraping ended", "err", err)
			}
		})
		if e.collector != nil {
			wg.Go(func() { e.collectLoop(ctx) })
		}
		<-ctx.Done()
		e.scraper.Stop()
	}
	e.mu.Lock()
	e.state = stateStopped
	e.mu.Unlock()
	e.rules.Stop()
	e.notifier.Stop()
	wg.Wait()
	return err
}

// Close stops Run and closes the store. Later calls give the same result; other methods fail after it.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.gone.Store(true)
		e.mu.Lock()
		running, cancel := e.state == stateRunning, e.cancel
		stopped := e.state == stateStopped
		e.state = stateClosed
		e.mu.Unlock()
		if running {
			cancel()
		}
		if running || stopped {
			<-e.stopped
		}
		e.evaluating.Lock()
		defer e.evaluating.Unlock()
		e.filling.Lock() // it gives up soon
		defer e.filling.Unlock()
		e.mu.Lock()
		e.state = stateClosed
		e.mu.Unlock()
		if e.opts.Registerer != nil {
			e.opts.Registerer.Unregister(e.reg)
		}
		if err := errors.Join(e.promql.Close(), e.db.Close()); err != nil {
			e.closeErr = fmt.Errorf("close store %s: %w", e.opts.Path, err)
		}
	})
	return e.closeErr
}

// Newest is the time of the newest sample that the store held when it was opened; the zero time where it held none.
func (e *Engine) Newest() time.Time { return e.newest }

func (e *Engine) closed() bool { return e.gone.Load() }

// Append stores samples in one transaction: all or, on an error, none. The samples of one series must stand in the
// order of time and be newer than what the store holds of it.
func (e *Engine) Append(ctx context.Context, samples []Sample) error {
	if e.closed() {
		return errClosed
	}
	app := e.db.Appender(ctx)
	for _, s := range samples {
		l := labels.FromMap(s.Labels)
		if _, err := app.Append(0, l, s.Time.UnixMilli(), s.Value); err != nil {
			err = fmt.Errorf("append %s at %s: %w", l, s.Time.UTC().Format(time.RFC3339Nano), err)
			return errors.Join(err, app.Rollback())
		}
	}
	if err := app.Commit(); err != nil {
		return fmt.Errorf("append %d samples: %w", len(samples), err)
	}
	if len(samples) >= manySamples {
		e.db.ForceHeadMMap()
	}
	return nil
}

// manySamples is from how many samples on Append maps the full chunks of the store at once. The store does it once a
// minute, which is too seldom for a history that is written in seconds: reading a series gets slower with the square of
// its chunks that are not mapped.
const manySamples = 10_000

// Query answers an instant query; the zero time means now. A scalar is one sample without labels. NaN and infinities
// are answers like others. Results that are strings, range vectors or native histograms are errors.
func (e *Engine) Query(ctx context.Context, expr string, at time.Time) ([]Sample, error) {
	if e.closed() {
		return nil, errClosed
	}
	if at.IsZero() {
		at = e.now()
	}
	q, err := e.promql.NewInstantQuery(ctx, e.db, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, res.Err)
	}
	warn(ctx, expr, res)
	switch v := res.Value.(type) {
	case promql.Scalar:
		return []Sample{{Labels: map[string]string{}, Value: v.V, Time: time.UnixMilli(v.T).UTC()}}, nil
	case promql.Vector:
		slices.SortFunc(v, func(a, b promql.Sample) int { return labels.Compare(a.Metric, b.Metric) })
		out := make([]Sample, len(v))
		for i, s := range v {
			if s.H != nil {
				return nil, fmt.Errorf("query %q: %w", expr, ErrHistogram)
			}
			out[i] = Sample{Labels: s.Metric.Map(), Value: s.F, Time: time.UnixMilli(s.T).UTC()}
		}
		return out, nil
	}
	return nil, fmt.Errorf("query %q: the result is a %s, not a vector", expr, res.Value.Type())
}

// ErrHistogram says that a query gave native histograms, which a Querier cannot hold.
var ErrHistogram = errors.New("the result is a native histogram; take histogram_quantile, histogram_count or histogram_sum of it")

// QueryRange answers a range query at from, from+step, … up to and including to.
func (e *Engine) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	if e.closed() {
		return nil, errClosed
	}
	if err := CheckRange(from, to, step); err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	q, err := e.promql.NewRangeQuery(ctx, e.db, nil, expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer q.Close()
	res := q.Exec(ctx)
	m, err := res.Matrix()
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	warn(ctx, expr, res)
	slices.SortFunc(m, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	out := make([]Series, len(m))
	for i, s := range m {
		if len(s.Histograms) > 0 {
			return nil, fmt.Errorf("query %q: %w", expr, ErrHistogram)
		}
		out[i] = Series{Labels: s.Metric.Map(), Points: make([]Point, len(s.Floats))}
		for j, p := range s.Floats {
			out[i].Points[j] = Point{Time: time.UnixMilli(p.T).UTC(), Value: p.F}
		}
	}
	return out, nil
}

// warn passes on what PromQL warns of; its infos are left out.
func warn(ctx context.Context, expr string, res *promql.Result) {
	warnings, _ := res.Warnings.AsStrings(expr, maxWarnings, 0)
	Warn(ctx, warnings...)
}

// CheckRange says what is wrong with the times of a range query, so that every Querier refuses the same ones.
func CheckRange(from, to time.Time, step time.Duration) error {
	switch {
	case step < time.Millisecond:
		return fmt.Errorf("a step of %s is shorter than 1ms", step)
	case to.Before(from):
		return fmt.Errorf("the range ends (%s) before it begins (%s)", to.UTC().Format(time.RFC3339), from.UTC().Format(time.RFC3339))
	case from.UnixMilli() < math.MinInt64/4 || to.UnixMilli() > math.MaxInt64/4:
		return errors.New("the range is out of bounds")
	}
	return nil
}

// RemoteWriteHandler receives Prometheus remote write, versions 1 and 2. Samples may come late and out of order, as long
// as they are younger than Options.Retention.
func (e *Engine) RemoteWriteHandler() http.Handler { return e.guard(e.write) }

// guard answers 503 after Close.
func (e *Engine) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.closed() {
			http.Error(w, errClosed.Error(), http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}
