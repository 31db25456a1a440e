package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Sender sends what finished runs come to, spans or log lines, to one store. Send is never called concurrently with
// itself. It gives the number of runs that the store refused while it took the others; when it fails, nothing is known of
// any of them. Sending a run again must change nothing in the store.
type Sender interface {
	Name() string // "otlp", "loki", "job_logs", "job_log_sections"
	Send(ctx context.Context, runs []Run) (refused int, err error)
}

// A Selective is a Sender that some runs are nothing for: they never wait for it. Wants depends on the run alone and returns quickly.
type Selective interface{ Wants(r *Run) bool }

// A Batched is a Sender that wants fewer runs in one request than others.
type Batched interface{ Batch() int }

// A SendError says what to do about runs that were not sent. After any other error they are sent again, later and later.
type SendError struct {
	Err      error
	Rejected bool // because of what they are: sending the same again is useless
}

// Error is the text of the cause.
func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *SendError) Unwrap() error { return e.Err }

// HTTPSendError makes a SendError of an answer: 400, 413 and 422 reject the content; everything else, also a wrong token
// or address, is worth another attempt.
func HTTPSendError(err error, status int) *SendError {
	return &SendError{err, status == 400 || status == 413 || status == 422}
}

// An Unsent is a run that waits for a sink.
type Unsent struct {
	Key string
	Run Run // zero when it cannot be read any more
}

// An Outbox keeps counted runs for each sink until they are sent; journal.Journal is one. Safe for concurrent use.
type Outbox interface {
	Waiting(sink string, limit int) ([]Unsent, error)
	Sent(ctx context.Context, sink string, keys []string) error
	Arrived(sink string) <-chan struct{}
}

// OutboxStatus is how an outbox stands.
type OutboxStatus struct {
	Waiting int
	Dropped uint64
}

// SinkMetrics are the self-metrics of sinks, told apart by the label sink.
type SinkMetrics struct {
	sent, refused, errors *prometheus.CounterVec
	success               *prometheus.GaugeVec
}

// NewSinkMetrics makes them and registers them. It panics when they are registered already.
func NewSinkMetrics(reg prometheus.Registerer) *SinkMetrics {
	counter := func(f familyID) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: families[f].Name, Help: families[f].Help}, families[f].Labels)
		reg.MustRegister(v)
		return v
	}
	m := &SinkMetrics{sent: counter(sinkSent), refused: counter(sinkRefused), errors: counter(sinkErrors)}
	m.success = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: families[sinkSuccess].Name, Help: families[sinkSuccess].Help}, families[sinkSuccess].Labels)
	reg.MustRegister(m.success)
	return m
}

// DeliverOptions are the settings of Deliver.
type DeliverOptions struct {
	Outbox     Outbox        // required
	Batch      int           // most runs in one request; default 200, or what a Batched wants
	MinBackoff time.Duration // first pause after a failure; default 1s
	MaxBackoff time.Duration // longest pause; default 5m
	Logger     *slog.Logger  // default: discard
	Metrics    *SinkMetrics  // required
}

// Deliver sends what waits in the outbox, the earliest finish first, until ctx ends, and gives ctx's error. A run leaves the
// outbox after the store has taken or refused it. A crash between the two sends it again, with the same ids, times and
// text, so the store has it once. While the store is away, runs wait.
//
// A batch that is rejected for its content is halved until the runs that are at fault stand alone; those are refused.
func Deliver(ctx context.Context, to Sender, o DeliverOptions) error {
	if o.Outbox == nil || o.Metrics == nil {
		return errors.New("deliver needs an outbox and metrics")
	}
	if o.Batch <= 0 {
		o.Batch = 200
		if b, ok := to.(Batched); ok {
			o.Batch = b.Batch()
		}
	}
	if o.MinBackoff <= 0 {
		o.MinBackoff = time.Second
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = 5 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &delivery{DeliverOptions: o, to: to, log: o.Logger.With("sink", to.Name())}
	for _, c := range []*prometheus.CounterVec{o.Metrics.sent, o.Metrics.refused, o.Metrics.errors} {
		c.WithLabelValues(to.Name())
	}
	failures := 0
	for {
		more, err := d.round(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var wait <-chan time.Time
		arrived := o.Outbox.Arrived(to.Name())
		switch {
		case err != nil:
			failures++
			pause := backoff(o.MinBackoff, o.MaxBackoff, failures)
			o.Metrics.errors.WithLabelValues(to.Name()).Inc()
			d.log.Warn("runs were not sent and wait", "error", err, "failures", failures, "next_in", pause.Round(time.Millisecond))
			wait, arrived = time.After(pause), nil
		case failures > 0:
			d.log.Info("sink works again", "after_failures", failures)
			failures = 0
		}
		if err == nil && more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait:
		case <-arrived:
		}
	}
}

// A delivery is one call of Deliver.
type delivery struct {
	DeliverOptions
	to  Sender
	log *slog.Logger
}

// round sends one batch and tells whether more may wait.
func (d *delivery) round(ctx context.Context) (more bool, err error) {
	batch, err := d.Outbox.Waiting(d.to.Name(), d.Batch)
	if err != nil || len(batch) == 0 {
		return false, err
	}
	return true, d.deliver(ctx, batch)
}

func (d *delivery) deliver(ctx context.Context, batch []Unsent) error {
	runs := make([]Run, 0, len(batch))
	keys := make([]string, 0, len(batch))
	for _, u := range batch {
		keys = append(keys, u.Key)
		if u.Run.ID != (RunID{}) {
			runs = append(runs, u.Run)
		}
	}
	refused := len(batch) - len(runs)
	if len(runs) > 0 {
		n, err := d.send(ctx, runs)
		var se *SendError
		switch {
		case err == nil:
			refused += n
		case !errors.As(err, &se) || !se.Rejected:
			return err
		case len(batch) > 1:
			if err := d.deliver(ctx, batch[:len(batch)/2]); err != nil {
				return err
			}
			return d.deliver(ctx, batch[len(batch)/2:])
		default:
			d.log.Warn("a run is refused and given up", "run", runs[0].ID.String(), "error", err)
			refused++
		}
	}
	if err := d.Outbox.Sent(ctx, d.to.Name(), keys); err != nil {
		return err
	}
	d.Metrics.refused.WithLabelValues(d.to.Name()).Add(float64(refused))
	if taken := len(batch) - refused; taken > 0 {
		d.Metrics.sent.WithLabelValues(d.to.Name()).Add(float64(taken))
		d.Metrics.success.WithLabelValues(d.to.Name()).Set(float64(time.Now().UnixMilli()) / 1000)
	}
	return nil
}

// send makes a rejection of a panic, so that the run at fault is found and given up: it must not end the process.
func (d *delivery) send(ctx context.Context, runs []Run) (refused int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &SendError{Err: fmt.Errorf("sink %s panicked: %v\n%s", d.to.Name(), p, debug.Stack()), Rejected: true}
		}
	}()
	return d.to.Send(ctx, runs)
}
