package joblog

import (
	"context"
	"errors"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
)

// A LineStore takes log lines; loki.Sink does.
type LineStore interface {
	// SendLines sends lines in their order. After an error of its own making, sent lines from the first on need not be sent again; a
	// rejection (exporter.SendError) holds none of the others back.
	SendLines(ctx context.Context, lines []correlate.Line) (sent int, err error)
}

// A SpanStore takes spans; otlp.Sink does.
type SpanStore interface {
	SendSpans(ctx context.Context, spans []correlate.Span) (refused int, err error)
}

// A LineSink is an exporter.Sender of the lines of logs, one log at a time.
type LineSink struct {
	logs *Logs
	to   LineStore
	id   exporter.RunID   // whose log is being sent
	rest []correlate.Line // of it
}

// LinesTo makes the sink of lines.
func (l *Logs) LinesTo(to LineStore) *LineSink { return &LineSink{logs: l, to: to} }

// Name is "job_logs".
func (*LineSink) Name() string { return "job_logs" }

// Batch implements exporter.Batched: a log may be as long as a store takes in one go.
func (*LineSink) Batch() int { return 1 }

// Wants implements exporter.Selective.
func (s *LineSink) Wants(r *exporter.Run) bool { return s.logs.wants(r) }

// Send reads the logs of the runs and sends their lines. What a store that is busy took of a long log is not sent to it again, else a
// log that is longer than the store takes at once would never arrive.
func (s *LineSink) Send(ctx context.Context, runs []exporter.Run) (refused int, err error) {
	for _, r := range runs {
		if s.id != r.ID {
			lines, _, err := s.logs.read(ctx, r)
			if err != nil {
				return refused, err
			}
			s.id, s.rest = r.ID, lines
		}
		sent, err := s.to.SendLines(ctx, s.rest)
		if err != nil && !isRejected(err) {
			s.rest = s.rest[sent:]
			return refused, err
		}
		s.id, s.rest = exporter.RunID{}, nil
		if err != nil {
			return refused, err
		}
	}
	return refused, nil
}

// A SectionSink is an exporter.Sender of the sections of logs, as spans.
type SectionSink struct {
	logs  *Logs
	to    SpanStore
	id    exporter.RunID // whose sections are being sent
	spans []correlate.Span
}

// SectionsTo makes the sink of sections. It is called before any log is sent.
func (l *Logs) SectionsTo(to SpanStore) *SectionSink {
	l.sections = true
	return &SectionSink{logs: l, to: to}
}

// Name is "job_log_sections".
func (*SectionSink) Name() string { return "job_log_sections" }

// Batch implements exporter.Batched.
func (*SectionSink) Batch() int { return 1 }

// Wants implements exporter.Selective.
func (s *SectionSink) Wants(r *exporter.Run) bool {
	return s.logs.wants(r) && s.logs.reader(r).Sections()
}

// Send reads the logs of the runs and sends their sections.
func (s *SectionSink) Send(ctx context.Context, runs []exporter.Run) (refused int, err error) {
	for _, r := range runs {
		if s.id != r.ID {
			_, spans, err := s.logs.read(ctx, r)
			if err != nil {
				return refused, err
			}
			s.id, s.spans = r.ID, spans
		}
		n, err := s.to.SendSpans(ctx, s.spans)
		if err != nil && !isRejected(err) {
			return refused, err
		}
		s.id, s.spans = exporter.RunID{}, nil
		if err != nil {
			return refused, err
		}
		refused += min(n, 1)
	}
	return refused, nil
}

func isRejected(err error) bool {
	var se *exporter.SendError
	return errors.As(err, &se) && se.Rejected
}
