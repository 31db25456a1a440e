package exporter

import (
	"log/slog"
	"sync"
	"time"
)

// A Backfiller is a Source that tells of how many projects, or other parts, the history has been read. Safe for concurrent
// use.
type Backfiller interface {
	Backfilled() (done, of int)
}

// progressEvery is how often a first reading says in the log how far it has come.
const progressEvery = time.Minute

// A progress tells how far the first reading of a source has come, in a metric and in the log. Safe for concurrent use.
type progress struct {
	source  Source
	metrics *SourceMetrics
	log     *slog.Logger

	mu      sync.Mutex
	next    time.Time // for the log
	reading bool      // and said so
}

func newProgress(s Source, m *SourceMetrics, log *slog.Logger) *progress {
	return &progress{source: s, metrics: m, log: log}
}

// tell is called whenever something may have changed.
func (p *progress) tell() {
	b, ok := p.source.(Backfiller)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	done, of := b.Backfilled()
	if of == 0 {
		return
	}
	if p.metrics != nil {
		p.metrics.backfill.WithLabelValues(p.source.Name(), p.source.Host()).Set(float64(done) / float64(of))
	}
	switch now := time.Now(); {
	case done < of && !now.Before(p.next):
		p.log.Info("history is being read; what has been read is shown already", "done", done, "of", of)
		p.reading, p.next = true, now.Add(progressEvery)
	case done == of && p.reading:
		p.log.Info("history has been read", "of", of)
		p.reading = false
	}
}
