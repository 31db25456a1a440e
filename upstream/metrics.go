package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Family describes one metric family.
type Family struct {
	Name, Help string
	Type       string // counter, gauge, histogram
	Labels     []string
}

var (
	requests  = Family{"sightline_upstream_requests_total", "Requests sent to an upstream, repeated and redirected ones included; the code is error where there was no answer.", "counter", []string{"upstream", "host", "code"}}
	duration  = Family{"sightline_upstream_request_duration_seconds", "Time from sending a request to the end of its answer.", "histogram", []string{"upstream", "host"}}
	throttled = Family{"sightline_upstream_throttled_seconds_total", "Time that calls were held back: by the budget of calls, because the upstream asked for it, or as back-off before another attempt.", "counter", []string{"upstream", "host", "reason"}}
	waiting   = Family{"sightline_upstream_waiting_calls", "Calls that are held back now by the budget of calls or because the upstream asked for it.", "gauge", []string{"upstream", "host", "reason"}}
	remaining = Family{"sightline_upstream_budget_remaining", "Calls that may be made now without waiting for the budget; absent where there is none.", "gauge", []string{"upstream", "host"}}
)

// Families lists every metric family of this package, for documentation and tests.
func Families() []Family {
	out := []Family{requests, duration, throttled, waiting, remaining}
	for i := range out {
		out[i].Labels = slices.Clone(out[i].Labels)
	}
	return out
}

// Metrics are the self-metrics of any number of clients. Register it as a prometheus.Collector; gathering does no I/O.
type Metrics struct {
	requests, throttled *prometheus.CounterVec
	duration            *prometheus.HistogramVec
	waiting             *prometheus.GaugeVec
	remaining           *prometheus.Desc

	mu      sync.Mutex
	budgets map[[2]string]*gate // by upstream and host
}

// NewMetrics makes them.
func NewMetrics() *Metrics {
	return &Metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: requests.Name, Help: requests.Help}, requests.Labels),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: throttled.Name, Help: throttled.Help}, throttled.Labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: duration.Name, Help: duration.Help, Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30},
		}, duration.Labels),
		waiting:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: waiting.Name, Help: waiting.Help}, waiting.Labels),
		remaining: prometheus.NewDesc(remaining.Name, remaining.Help, remaining.Labels, nil),
		budgets:   map[[2]string]*gate{},
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.requests.Describe(ch)
	m.throttled.Describe(ch)
	m.duration.Describe(ch)
	m.waiting.Describe(ch)
	ch <- m.remaining
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.requests.Collect(ch)
	m.throttled.Collect(ch)
	m.duration.Collect(ch)
	m.waiting.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	for labels, g := range m.budgets {
		ch <- prometheus.MustNewConstMetric(m.remaining, prometheus.GaugeValue, g.remaining(), labels[:]...)
	}
}

// meter gives the metrics of one client; of two clients with the same name and host the later one's budget is shown.
func (m *Metrics) meter(name, host string, g *gate) meter {
	if m != nil && g.budget != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.budgets[[2]string{name, host}] = g
	}
	return meter{m, name, host}
}

// A meter measures one client; with nil metrics it does nothing.
type meter struct {
	*Metrics
	name, host string
}

func (m meter) answered(code string, took time.Duration) {
	if m.Metrics != nil {
		m.Metrics.requests.WithLabelValues(m.name, m.host, code).Inc()
		m.Metrics.duration.WithLabelValues(m.name, m.host).Observe(took.Seconds())
	}
}

func (m meter) throttled(reason string, d time.Duration) {
	if m.Metrics != nil {
		m.Metrics.throttled.WithLabelValues(m.name, m.host, reason).Add(d.Seconds())
	}
}

// wait counts a call that is held back from now until the returned function is called.
func (m meter) wait(reason string) (done func()) {
	if m.Metrics == nil {
		return func() {}
	}
	start, gauge := time.Now(), m.waiting.WithLabelValues(m.name, m.host, reason)
	gauge.Inc()
	return func() {
		gauge.Dec()
		m.throttled(reason, time.Since(start))
	}
}
