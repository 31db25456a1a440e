// Package backstage reads the metrics that Backstage's backends expose about their plugins, from every replica, and
// exposes them again under one set of names whatever made them: the four generations of OpenTelemetry's Prometheus
// exporter that are in use, or the deprecated prom-client registry. Times are in seconds, and every series has the
// plugin and its owner on it.
//
// A Source holds the last good state of each replica. Sync reads them; Collect gives what there is and never calls an
// upstream. Replicas are not summed: each has its own value of the label replica, so that a restart is a counter reset
// like any other, and sum() does the rest.
//
// The entity of a plugin "catalog" is the component of type backstage-plugin whose name is catalog, catalog-backend,
// plugin-catalog, plugin-catalog-backend, backstage-plugin-catalog or backstage-plugin-catalog-backend, the first of
// these that exists. Where there is none, entity and system are empty and the platform owner owns the series.
package backstage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// Options are set by code from the configuration.
type Options struct {
	URLs       []string                                                 // metrics endpoints; "dns+http://name:port/path" stands for every address of name
	Poll       time.Duration                                            // default 30s
	Keep       time.Duration                                            // how long the series of a replica that does not answer stay; default 5m
	Timeout    time.Duration                                            // of one attempt; default 10s
	MaxBytes   int64                                                    // of one answer; default 16 MiB
	Scaffolder bool                                                     // expose Backstage's own durations of scaffolder tasks; false where tasks are read from its API
	Lookup     func(ctx context.Context, host string) ([]string, error) // default net.DefaultResolver.LookupHost
	Now        func() time.Time
}

// A Source reads the replicas of one Backstage. It implements exporter.Source, although what it finds are no runs, and
// prometheus.Collector. Collect and Problems may be called at any time; Sync not concurrently with itself.
type Source struct {
	opts      Options
	endpoints []endpoint
	host      string
	addresses map[string][]string // last good answer of the resolver, by name
	replicas  map[string]*replica // by label
	current   atomic.Pointer[state]
}

type endpoint struct {
	url *url.URL
	dns bool
}

// A replica is one metrics endpoint.
type replica struct {
	label  string
	path   string
	client *upstream.Client
	names  names
	last   *reading // the last good one; nil: none, or too old
	read   time.Time
	err    error // of the last attempt
}

// state is what Collect and Problems give.
type state struct {
	up       []prometheus.Metric
	replicas []exposed
	problems []catalog.Problem
}

type exposed struct {
	metrics []prometheus.Metric
	until   time.Time
}

// New makes a Source. Nothing is read yet.
func New(o Options) (*Source, error) {
	o.Keep, o.Timeout, o.MaxBytes = cmp.Or(o.Keep, 5*time.Minute), cmp.Or(o.Timeout, 10*time.Second), cmp.Or(o.MaxBytes, 16<<20)
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{opts: o, addresses: map[string][]string{}, replicas: map[string]*replica{}}
	for _, raw := range o.URLs {
		rest, dns := strings.CutPrefix(raw, "dns+")
		u, err := url.Parse(rest)
		switch {
		case err != nil:
			return nil, fmt.Errorf("metrics URL: %w", err)
		case u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
			return nil, fmt.Errorf("metrics URL %q is not an http or https URL", raw)
		case dns && u.Scheme == "https":
			return nil, fmt.Errorf("metrics URL %q: the addresses of a name cannot be asked over https, because certificates are made out to names", raw)
		}
		s.endpoints = append(s.endpoints, endpoint{u, dns})
	}
	if len(s.endpoints) == 0 {
		return nil, errors.New("there is no metrics URL")
	}
	s.host = s.endpoints[0].url.Hostname()
	return s, nil
}

// Name is "backstage".
func (s *Source) Name() string { return "backstage" }

// Host is the host of the first metrics URL, without port.
func (s *Source) Host() string { return s.host }

// Sync reads every replica, some at a time, and publishes what is known then. The error joins those of single replicas and
// names them; a replica that did not answer, or answered something else than metrics, keeps its last good state for Keep.
func (s *Source) Sync(ctx context.Context, g *catalog.Graph, _ exporter.Sink) error {
	errs := s.discover(ctx)
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, r := range s.replicas {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			s.read(ctx, r)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, r := range s.sorted() {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("read metrics of replica %s: %w", r.label, r.err))
		}
	}
	s.publish(g)
	return errors.Join(errs...)
}

// discover makes the set of replicas be what the endpoints stand for now.
func (s *Source) discover(ctx context.Context) (errs []error) {
	wanted := map[string]bool{}
	add := func(u *url.URL, host string) {
		at := *u
		at.Host = host
		label := host
		if u.Path != "/metrics" {
			label += u.Path
		}
		if wanted[label] {
			return
		}
		wanted[label] = true
		if s.replicas[label] != nil {
			return
		}
		c, err := upstream.New(upstream.Options{BaseURL: at.Scheme + "://" + at.Host, Timeout: s.opts.Timeout, MaxBytes: s.opts.MaxBytes, Tries: 1})
		if err != nil {
			errs = append(errs, fmt.Errorf("replica %s: %w", label, err))
			return
		}
		s.replicas[label] = &replica{label: label, path: at.RequestURI(), client: c, names: names{}}
	}
	for _, e := range s.endpoints {
		port := cmp.Or(e.url.Port(), map[string]string{"http": "80", "https": "443"}[e.url.Scheme])
		if !e.dns {
			add(e.url, net.JoinHostPort(e.url.Hostname(), port))
			continue
		}
		name := e.url.Hostname()
		found, err := s.opts.Lookup(ctx, name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("find the replicas of %s: %w", name, err))
		case len(found) == 0:
			errs = append(errs, fmt.Errorf("find the replicas of %s: the name has no address", name))
		default:
			s.addresses[name] = found
		}
		for _, address := range s.addresses[name] {
			add(e.url, net.JoinHostPort(address, port))
		}
	}
	for label := range s.replicas {
		if !wanted[label] {
			delete(s.replicas, label)
		}
	}
	return errs
}

func (s *Source) read(ctx context.Context, r *replica) {
	attempt, cancel := context.WithTimeout(ctx, s.opts.Timeout) // also of the waits that a replica asks for
	defer cancel()
	body, err := r.client.GetText(attempt, r.path)
	var next *reading
	if err == nil {
		next, err = decode(body, r.names)
	}
	now := s.opts.Now()
	if r.err = err; err != nil {
		if now.Sub(r.read) >= s.opts.Keep {
			r.last = nil
		}
		return
	}
	if r.last != nil {
		for k, v := range next.series {
			if old := r.last.series[k]; old != nil {
				v.created = old.created
			} else {
				v.created = now
			}
		}
	}
	r.last, r.read = next, now
}

func (s *Source) sorted() []*replica {
	out := make([]*replica, 0, len(s.replicas))
	for _, r := range s.replicas {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *replica) int { return strings.Compare(a.label, b.label) })
	return out
}

// publish makes the metrics and problems of what has been read.
func (s *Source) publish(g *catalog.Graph) {
	replicas := s.sorted()
	plugins := entities(g)
	both := bothRegistries(replicas)
	st := &state{problems: problems(replicas, g.PlatformOwner(), both)}
	for _, r := range replicas {
		up := 0.0
		if r.err == nil {
			up = 1
		}
		st.up = append(st.up, prometheus.MustNewConstMetric(replicaUp.desc(), prometheus.GaugeValue, up, r.label))
		if r.last == nil || both && r.last.promClient && !r.last.otel {
			continue
		}
		e := exposed{until: r.read.Add(s.opts.Keep)}
		for k, v := range r.last.series {
			if k.family == scaffolderDuration && !s.opts.Scaffolder {
				continue
			}
			e.metrics = append(e.metrics, newMetric(k, v, r.label, owned(k, g, plugins)))
		}
		st.replicas = append(st.replicas, e)
	}
	s.current.Store(st)
}

// A belonging says whose a series is.
type belonging struct{ owner, entity, system string }

// owned finds whose a series is: the template's, where it has one, else the plugin's.
func owned(k key, g *catalog.Graph, plugins map[string]*catalog.Entity) belonging {
	e := plugins[strings.ToLower(k.plugin)]
	if k.family == scaffolderDuration {
		if ref, err := catalog.ParseRef(k.dims[0], "template"); err == nil && g.Entity(ref) != nil {
			e = g.Entity(ref)
		}
	}
	if e == nil {
		return belonging{owner: g.PlatformOwner().String()}
	}
	return belonging{g.Owner(e.Ref).String(), e.Ref.String(), g.System(e.Ref).String()}
}

// entities finds the entity of each plugin, by the plugin's id in lower case.
func entities(g *catalog.Graph) map[string]*catalog.Entity {
	out, ranks := map[string]*catalog.Entity{}, map[string]int{}
	for e := range g.Entities() {
		if e.Ref.Kind != "component" || e.Type != "backstage-plugin" {
			continue
		}
		for rank, affix := range [][2]string{{"", ""}, {"", "-backend"}, {"plugin-", ""}, {"plugin-", "-backend"}, {"backstage-plugin-", ""}, {"backstage-plugin-", "-backend"}} {
			id, ok := strings.CutPrefix(e.Ref.Name, affix[0])
			id, also := strings.CutSuffix(id, affix[1])
			if !ok || !also || id == "" {
				continue
			}
			if old, taken := ranks[id]; !taken || rank < old {
				out[id], ranks[id] = e, rank
			}
		}
	}
	return out
}

// Problems tells what is wrong with the metrics as Backstage exposes them, sorted. They belong to the platform owner.
func (s *Source) Problems() []catalog.Problem {
	if st := s.current.Load(); st != nil {
		return st.problems
	}
	return nil
}

// Describe implements prometheus.Collector.
func (s *Source) Describe(ch chan<- *prometheus.Desc) {
	for f := range families {
		ch <- family(f).desc()
	}
}

// Collect implements prometheus.Collector. It does no I/O.
func (s *Source) Collect(ch chan<- prometheus.Metric) {
	st := s.current.Load()
	if st == nil {
		return
	}
	for _, m := range st.up {
		ch <- m
	}
	now := s.opts.Now()
	for _, e := range st.replicas {
		if !now.Before(e.until) {
			continue
		}
		for _, m := range e.metrics {
			ch <- m
		}
	}
}
