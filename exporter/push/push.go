// Package push sends the metrics of a registry to other systems at an interval: by OTLP and by Prometheus remote write 2.0. What is sent
// are running totals, so a push that fails costs no count: the next one says it all.
package push

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightline-dev/sightline/exporter"
)

// A Target takes the metrics of a Gatherer. Push is never called concurrently with itself, and returns soon after ctx has ended.
type Target interface {
	Name() string // "otlp", "remote_write"
	Push(ctx context.Context, from prometheus.Gatherer) error
}

var families = []exporter.Family{
	{Name: "sightline_push_total", Help: "Pushes of Sightline's metrics that the target took.", Type: "counter", Labels: []string{"target"}},
	{Name: "sightline_push_errors_total", Help: "Pushes of Sightline's metrics that failed, retries included; the next push makes up for them.", Type: "counter", Labels: []string{"target"}},
	{Name: "sightline_push_last_success_timestamp_seconds", Help: "When the target last took Sightline's metrics.", Type: "gauge", Labels: []string{"target"}},
}

// Families lists the metric families of this package, for documentation and tests.
func Families() []exporter.Family { return families }

// Metrics are the self-metrics of pushing, told apart by the label target.
type Metrics struct {
	pushes, errors *prometheus.CounterVec
	success        *prometheus.GaugeVec
}

// NewMetrics makes them and registers them. It panics when they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(f exporter.Family) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
	}
	m := &Metrics{
		pushes: counter(families[0]), errors: counter(families[1]),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: families[2].Name, Help: families[2].Help}, families[2].Labels),
	}
	reg.MustRegister(m.pushes, m.errors, m.success)
	return m
}

// Options are the settings of Run.
type Options struct {
	From     prometheus.Gatherer // required
	Interval time.Duration       // between the starts of two pushes, and the longest that one may take; default 30s
	Logger   *slog.Logger        // default: discard
	Metrics  *Metrics            // required
}

// Run pushes to a target at once and at every interval, until ctx ends. That pushing begins to fail is logged once, and
// that it works again.
func Run(ctx context.Context, to Target, o Options) {
	if o.Interval <= 0 {
		o.Interval = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	log := o.Logger.With("target", to.Name())
	pushes, errors := o.Metrics.pushes.WithLabelValues(to.Name()), o.Metrics.errors.WithLabelValues(to.Name())
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	failures := 0
	for {
		err := once(ctx, to, o)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			errors.Inc()
			if failures++; failures == 1 {
				log.Warn("metrics are not pushed; trying again at every interval", "error", err, "interval", o.Interval)
			}
		default:
			pushes.Inc()
			o.Metrics.success.WithLabelValues(to.Name()).Set(float64(time.Now().UnixMilli()) / 1000)
			if failures > 0 {
				log.Info("metrics are pushed again", "after_failures", failures)
			}
			failures = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func once(ctx context.Context, to Target, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, o.Interval)
	defer cancel()
	return to.Push(ctx, whole{o.From})
}

// whole gathers what there is: one collector that fails must not keep the others' metrics back. /metrics shows its error.
type whole struct{ prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (w whole) Gather() ([]*dto.MetricFamily, error) {
	families, err := w.Gatherer.Gather()
	if len(families) > 0 {
		return families, nil
	}
	return families, err
}
