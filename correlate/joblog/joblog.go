// Package joblog sends the logs of jobs and scaffolder tasks after them: lines to a log store, sections of the log to a trace store. A run
// waits in the outbox of either sink like for any other, so that neither store holds the other back, and its log is read only then: reading
// logs holds no counting up.
package joblog

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// A Reader reads the log of a finished run from the system that ran it. An empty log is no error. Its lines and spans are the same each
// time. It is never called concurrently with itself.
type Reader interface {
	Wants(r *exporter.Run) bool // whether a run may have a log; depends on nothing but the run
	Sections() bool             // whether its logs come with spans
	ReadLog(ctx context.Context, r exporter.Run) ([]correlate.Line, []correlate.Span, error)
}

// Options are the settings of New.
type Options struct {
	Readers []Reader // the first that wants a run reads its log
	All     bool     // logs of all runs, not only of those that failed
	Logger  *slog.Logger
}

// Logs reads logs for the sinks that it makes. What it reads for one of them it keeps for a while for the other, so that a log is read
// once unless one of the two stores is away. Safe for concurrent use.
type Logs struct {
	o        Options
	sections bool          // there is a sink of sections
	turn     chan struct{} // holds a value while a log is read
	recent   []*reading    // the latest last; of who has the turn
	warned   atomic.Bool
}

// A reading is what is known of the log of one run.
type reading struct {
	id     exporter.RunID
	done   bool
	taken  int // by how many sinks
	broken int // how often the system failed at it
	lines  []correlate.Line
	spans  []correlate.Span
}

const (
	maxRecent = 4 // readings in memory
	maxBroken = 3
)

// New makes Logs.
func New(o Options) *Logs {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Logs{o: o, turn: make(chan struct{}, 1)}
}

// wants tells whether the log of a run is to be sent.
func (l *Logs) wants(r *exporter.Run) bool {
	if r.State != exporter.StateFinished || r.Started.IsZero() {
		return false
	}
	switch r.Result {
	case exporter.ResultFailure, exporter.ResultError, exporter.ResultTimeout:
	default:
		if !l.o.All {
			return false
		}
	}
	return l.reader(r) != nil
}

func (l *Logs) reader(r *exporter.Run) Reader {
	for _, reader := range l.o.Readers {
		if reader.Wants(r) {
			return reader
		}
	}
	return nil
}

// read gives the log of a run to a sink, once to each. A log that is gone, or that may not be read, is none.
func (l *Logs) read(ctx context.Context, r exporter.Run) ([]correlate.Line, []correlate.Span, error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	defer func() { <-l.turn }()
	i := slices.IndexFunc(l.recent, func(known *reading) bool { return known.id == r.ID })
	if i < 0 {
		if len(l.recent) == maxRecent {
			l.recent = slices.Delete(l.recent, 0, 1)
		}
		i = len(l.recent)
		l.recent = append(l.recent, &reading{id: r.ID})
	}
	now := l.recent[i]
	if !now.done {
		if err := l.ask(ctx, r, now); err != nil {
			return nil, nil, err
		}
		now.done = true
	}
	if now.taken++; now.taken == l.takers(&r) {
		l.recent = slices.Delete(l.recent, i, i+1)
	}
	return now.lines, now.spans, nil
}

// takers is how many sinks want the log of a run.
func (l *Logs) takers(r *exporter.Run) int {
	if reader := l.reader(r); l.sections && reader != nil && reader.Sections() {
		return 2
	}
	return 1
}

// ask gives no error where asking again is useless.
func (l *Logs) ask(ctx context.Context, r exporter.Run, into *reading) error {
	reader := l.reader(&r)
	if reader == nil {
		return nil // the configuration changed
	}
	lines, spans, err := reader.ReadLog(ctx, r)
	var status *upstream.StatusError
	var elsewhere *upstream.RedirectError
	var content *upstream.ContentError
	switch {
	case err == nil:
		into.lines, into.spans = lines, spans
		return nil
	case errors.As(err, &elsewhere):
	case errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusGone):
		l.o.Logger.Debug("a log is gone", "run", r.ID.String())
		return nil
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		if !l.warned.Swap(true) {
			l.o.Logger.Warn("a log may not be read with this token; logs like it are left out", "run", r.ID.String(), "error", err)
		}
		return nil
	case errors.As(err, &status) && status.Code/100 == 4 && status.Code != http.StatusUnauthorized && status.Code != http.StatusRequestTimeout && status.Code != http.StatusTooManyRequests:
	case errors.As(err, &status) && status.Code == http.StatusInternalServerError, errors.As(err, &content) && !content.HTML:
		if into.broken++; into.broken < maxBroken {
			return err
		}
	default:
		return err
	}
	l.o.Logger.Warn("a log cannot be read and is given up", "run", r.ID.String(), "error", err)
	return nil
}
