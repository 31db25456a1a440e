package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server"
)

const (
	driftInterval = 10 * time.Minute // how often targets are compared although the catalog has not changed
	retryInterval = time.Minute      // after a failure
)

// A reconciler makes the targets of a configuration hold what the catalog says: after each change of the catalog, from
// time to time because somebody may have changed a target, and again after a failure.
type reconciler struct {
	conf    *config.Config
	log     *slog.Logger
	graphs  chan *catalog.Graph // the latest that has not been looked at
	success *prometheus.GaugeVec
	changes *prometheus.CounterVec
	errors  *prometheus.CounterVec
	drift   time.Duration
	retry   time.Duration
}

func newReconciler(c *config.Config, log *slog.Logger) *reconciler {
	return &reconciler{
		conf: c, log: log, graphs: make(chan *catalog.Graph, 1), drift: driftInterval, retry: retryInterval,
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sightline_apply_last_success_timestamp_seconds", Help: "When the target was last made to hold what the catalog says."}, []string{"target"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sightline_apply_changes_total", Help: "Artifacts that were added, changed or removed at the target."}, []string{"target", "change"}),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sightline_apply_errors_total", Help: "Artifacts that the target refused, and attempts that failed as a whole."}, []string{"target"}),
	}
}

// collectors are the reconciler's own metrics.
func (r *reconciler) collectors() []prometheus.Collector {
	return []prometheus.Collector{r.success, r.changes, r.errors}
}

// take tells of a catalog that was taken over. It returns at once.
func (r *reconciler) take(c *server.Compiled) {
	for {
		select {
		case r.graphs <- c.Graph:
			return
		default:
		}
		select { // an older one that nobody has looked at
		case <-r.graphs:
		default:
		}
	}
}

// run reconciles until ctx ends.
func (r *reconciler) run(ctx context.Context) {
	var latest *catalog.Graph
	var done [sha256.Size]byte
	timer := time.NewTimer(r.drift)
	defer timer.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case latest = <-r.graphs:
		case <-timer.C:
			due = true
		}
		if latest == nil {
			timer.Reset(r.drift)
			continue
		}
		p, err := r.portable(ctx, latest)
		if err != nil {
			r.log.Error("the catalog was not applied", "error", err)
			timer.Reset(r.retry)
			continue
		}
		if digest := digestOf(p); due || digest != done {
			if r.apply(ctx, p) {
				done = digest
				timer.Reset(r.drift)
			} else {
				done = [sha256.Size]byte{}
				timer.Reset(r.retry)
			}
		}
	}
}

// portable compiles the rules for any Prometheus: those of the embedded one use what others may not have.
func (r *reconciler) portable(ctx context.Context, g *catalog.Graph) (*plan.Plan, error) {
	lib, err := library(r.conf)
	if err != nil {
		return nil, err
	}
	opts, err := compileOptions(r.conf, false)
	if err != nil {
		return nil, err
	}
	p, _, err := plan.Compile(ctx, g, lib, nil, opts)
	return p, err
}

func digestOf(p *plan.Plan) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, a := range p.Artifacts {
		fmt.Fprintf(h, "%s\x00%d\x00%s", a.Path, len(a.Body), a.Body)
	}
	h.Sum(sum[:0])
	return sum
}

// apply makes every target hold the plan, and tells whether all of them do.
func (r *reconciler) apply(ctx context.Context, p *plan.Plan) bool {
	targets, err := targetsOf(r.conf, p, nil)
	if err != nil {
		r.log.Error("the catalog was not applied", "error", err, "hint", hintOf(err))
		return false
	}
	whole := true
	for _, t := range targets {
		if ctx.Err() != nil {
			return false
		}
		done, err := plan.Apply(ctx, t.Target, t.plan, plan.ApplyOptions{})
		if f, ok := t.Target.(finisher); ok && err == nil {
			err = f.Finish(ctx)
		}
		for _, f := range done.Failed {
			r.log.Error("an artifact was not applied", "target", t.name, "artifact", f.Artifact.Path, "owner", f.Artifact.Owner.String(), "error", f.Err)
		}
		r.errors.WithLabelValues(t.name).Add(float64(len(done.Failed)))
		if err != nil {
			r.errors.WithLabelValues(t.name).Inc()
			r.log.Error("the catalog was not applied", "target", t.name, "error", err, "hint", hintOf(err))
		}
		if err != nil || len(done.Failed) > 0 {
			whole = false
			continue
		}
		d := done.Diff
		r.changes.WithLabelValues(t.name, "added").Add(float64(len(d.Added)))
		r.changes.WithLabelValues(t.name, "changed").Add(float64(len(d.Changed)))
		r.changes.WithLabelValues(t.name, "removed").Add(float64(len(d.Removed)))
		r.success.WithLabelValues(t.name).SetToCurrentTime()
		if !d.Empty() {
			r.log.Info("applied", "target", t.name, "added", len(d.Added), "changed", len(d.Changed), "removed", len(d.Removed), "unchanged", len(d.Unchanged))
		}
	}
	return whole
}
