// Package joblog sends the logs of jobs and scaffolder tasks after them: lines to a log store, sections of the log to a trace store. A run
// waits for it in the outbox like for any sink, and its log is read only then: reading logs holds no counting up.
package joblog

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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
	ReadLog(ctx context.Context, r exporter.Run) ([]correlate.Line, []correlate.Span, error)
}

// Lines takes log lines; loki.Sink does.
type Lines interface {
	SendLines(ctx context.Context, lines []correlate.Line) error
}

// Spans takes spans; otlp.Sink does.
type Spans interface {
	SendSpans(ctx context.Context, spans []correlate.Span) (refused int, err error)
}

// Options are the settings of New.
type Options struct {
	Readers []Reader // the first that wants a run reads its log
	All     bool     // logs of all runs, not only of those that failed
	Lines   Lines    // required
	Spans   Spans    // may be nil
	Logger  *slog.Logger
}

// A Sink is an exporter.Sender of logs.
type Sink struct {
	o      Options
	read   map[exporter.RunID]runLog // what was read and not sent, so that GitLab is not asked again while Loki is away
	broken map[exporter.RunID]int    // how often the system failed at a log
	warned atomic.Bool
}

type runLog struct {
	lines []correlate.Line
	spans []correlate.Span
}

const (
	batch     = 10 // logs in memory
	maxBroken = 3
)

// New makes a Sink.
func New(o Options) *Sink {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sink{o: o, read: map[exporter.RunID]runLog{}, broken: map[exporter.RunID]int{}}
}

// Name is "job_logs".
func (*Sink) Name() string { return "job_logs" }

// Batch implements exporter.Batched.
func (*Sink) Batch() int { return batch }

// Wants implements exporter.Selective.
func (s *Sink) Wants(r *exporter.Run) bool {
	if r.State != exporter.StateFinished || r.Started.IsZero() {
		return false
	}
	switch r.Result {
	case exporter.ResultFailure, exporter.ResultError, exporter.ResultTimeout:
	default:
		if !s.o.All {
			return false
		}
	}
	return s.reader(r) != nil
}

func (s *Sink) reader(r *exporter.Run) Reader {
	for _, reader := range s.o.Readers {
		if reader.Wants(r) {
			return reader
		}
	}
	return nil
}

// Send reads the logs of the runs and sends them. A log that is gone, or that may not be read, is none.
func (s *Sink) Send(ctx context.Context, runs []exporter.Run) (refused int, err error) {
	if len(s.read)+len(s.broken) > 4*batch { // the outbox dropped runs of which logs were read
		of := func(id exporter.RunID) bool {
			return slices.ContainsFunc(runs, func(r exporter.Run) bool { return r.ID == id })
		}
		maps.DeleteFunc(s.read, func(id exporter.RunID, _ runLog) bool { return !of(id) })
		maps.DeleteFunc(s.broken, func(id exporter.RunID, _ int) bool { return !of(id) })
	}
	var all runLog
	for _, r := range runs {
		log, ok := s.read[r.ID]
		if !ok {
			if log, err = s.readLog(ctx, r); err != nil {
				return 0, err
			}
			s.read[r.ID] = log
		}
		all.lines, all.spans = append(all.lines, log.lines...), append(all.spans, log.spans...)
	}
	if s.o.Spans != nil {
		if _, err = s.o.Spans.SendSpans(ctx, all.spans); err != nil && !isRejected(err) {
			return 0, err
		}
	}
	// Spans that no store takes hold no lines back.
	if linesErr := s.o.Lines.SendLines(ctx, all.lines); linesErr != nil {
		err = linesErr
	}
	if err != nil && (!isRejected(err) || len(runs) > 1) {
		return 0, err
	}
	for _, r := range runs { // sent, or given up
		delete(s.read, r.ID)
	}
	return 0, err
}

func isRejected(err error) bool {
	var se *exporter.SendError
	return errors.As(err, &se) && se.Rejected
}

// readLog gives no error where asking again is useless.
func (s *Sink) readLog(ctx context.Context, r exporter.Run) (runLog, error) {
	reader := s.reader(&r)
	if reader == nil {
		return runLog{}, nil // the configuration changed
	}
	lines, spans, err := reader.ReadLog(ctx, r)
	var status *upstream.StatusError
	var elsewhere *upstream.RedirectError
	var content *upstream.ContentError
	switch {
	case err == nil:
		delete(s.broken, r.ID)
		return runLog{lines, spans}, nil
	case errors.As(err, &elsewhere):
	case errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusGone):
		s.o.Logger.Debug("a log is gone", "run", r.ID.String())
		return runLog{}, nil
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		if !s.warned.Swap(true) {
			s.o.Logger.Warn("a log may not be read with this token; logs like it are left out", "run", r.ID.String(), "error", err)
		}
		return runLog{}, nil
	case errors.As(err, &status) && status.Code/100 == 4 && status.Code != http.StatusUnauthorized && status.Code != http.StatusRequestTimeout && status.Code != http.StatusTooManyRequests:
	case errors.As(err, &status) && status.Code == http.StatusInternalServerError, errors.As(err, &content) && !content.HTML:
		if s.broken[r.ID]++; s.broken[r.ID] < maxBroken {
			return runLog{}, err
		}
	default:
		return runLog{}, err
	}
	delete(s.broken, r.ID)
	s.o.Logger.Warn("a log cannot be read and is given up", "run", r.ID.String(), "error", err)
	return runLog{}, nil
}
