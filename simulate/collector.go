package simulate

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
)

// buckets are the edges of OpenTelemetry's HTTP server duration histogram, in seconds.
var buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// shares is what part of the ordinary, not slow, requests is at most as long as the bucket's edge.
var shares = []float64{0.02, 0.12, 0.45, 0.74, 0.85, 0.91, 0.99, 1, 1, 1, 1, 1, 1, 1, 1}

// slowShares is the same for the slow requests, which take between 0.5 and 5 seconds.
var slowShares = []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0.35, 0.6, 0.9, 1, 1, 1}

// Traffic counts the simulated requests of every service, as the services' own metrics would. It is a
// prometheus.Collector; safe for concurrent use.
type Traffic struct {
	mu       sync.Mutex
	at, held time.Time
	services []service
	counted  []counts
	now      func() time.Time
	desc     *prometheus.Desc
}

// counts are the requests of one service so far.
type counts struct{ total, failed, slow float64 }

// NewTraffic makes the traffic of a catalog's services, counted from a time before now so that rates exist at once.
func NewTraffic(g *catalog.Graph, start, from time.Time, now func() time.Time) *Traffic {
	t := &Traffic{at: from, now: now, desc: prometheus.NewDesc("http_server_request_duration_seconds",
		"Duration of HTTP requests of the simulated services.",
		[]string{"job", "service_name", "http_request_method", "http_response_status_code"}, nil)}
	for _, e := range components(g) {
		t.services = append(t.services, newService(e, start))
	}
	t.counted = make([]counts, len(t.services))
	return t
}

func components(g *catalog.Graph) []*catalog.Entity {
	var out []*catalog.Entity
	for e := range g.Entities() {
		if e.Ref.Kind == "component" {
			out = append(out, e)
		}
	}
	return out
}

// advance counts what was requested until a time, in steps of ten seconds.
func (t *Traffic) advance(until time.Time) {
	const tick = 10 * time.Second
	for t.at.Add(tick).Before(until) || t.at.Add(tick).Equal(until) {
		t.at = t.at.Add(tick)
		for i := range t.services {
			total, failed, slow := t.services[i].rates(t.at)
			c := &t.counted[i]
			c.total += total * tick.Seconds()
			c.failed += failed * tick.Seconds()
			c.slow += slow * tick.Seconds()
		}
	}
}

// Hold stops the clock of the traffic at a time, so that the past can be collected; the zero time lets it go on.
func (t *Traffic) Hold(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = at
}

// Describe implements prometheus.Collector.
func (t *Traffic) Describe(ch chan<- *prometheus.Desc) { ch <- t.desc }

// Collect implements prometheus.Collector.
func (t *Traffic) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if !t.held.IsZero() {
		now = t.held
	}
	t.advance(now)
	for i := range t.services {
		name := t.services[i].entity.Ref.Name
		for _, h := range t.counted[i].histograms() {
			ch <- prometheus.MustNewConstHistogram(t.desc, h.count, h.sum, h.buckets, name, name, "GET", strconv.Itoa(h.code))
		}
	}
}

type histogram struct {
	code    int
	count   uint64
	sum     float64
	buckets map[float64]uint64
}

// histograms splits the counts by status code; failed requests are as fast as the others.
func (c counts) histograms() []histogram {
	if c.total == 0 {
		return nil
	}
	out := make([]histogram, 0, 2)
	failed, slow := float64(uint64(c.failed)), float64(uint64(c.slow))
	for _, part := range []struct {
		code        int
		count, slow float64
	}{{200, float64(uint64(c.total)) - failed, slow}, {503, failed, 0}} {
		h := histogram{code: part.code, count: uint64(part.count), buckets: make(map[float64]uint64, len(buckets))}
		quick := part.count - part.slow
		h.sum = quick*0.035 + part.slow*1.2
		for i, edge := range buckets {
			h.buckets[edge] = uint64(quick*shares[i] + part.slow*slowShares[i])
		}
		out = append(out, h)
	}
	return out
}
