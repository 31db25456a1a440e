// Package loki sends the log lines of runs to Loki and reads lines from it, with Loki's own push types (docs/adr/001).
package loki

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/golang/snappy"
	"github.com/grafana/loki/pkg/push"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// A Sink is an exporter.Sender of log lines. A line that is sent twice has the same time, text and metadata, which Loki
// keeps as one.
//
// Loki takes the good lines of a request and answers 400 for the bad ones, those that are too old or too far behind their
// stream. Such a request is rejected: Deliver sends parts of it again, which is harmless for the lines that were taken,
// until it knows which are refused.
type Sink struct {
	client *upstream.Client
	header http.Header
}

// New makes a Sink. The client's base URL is Loki's; tenant is the value of X-Scope-OrgID, "" for none.
func New(client *upstream.Client, tenant string) *Sink {
	h := http.Header{"Content-Type": {"application/x-protobuf"}}
	if tenant != "" {
		h.Set("X-Scope-OrgID", tenant)
	}
	return &Sink{client, h}
}

// Name is "loki".
func (*Sink) Name() string { return "loki" }

// Send sends the lines of the runs.
func (s *Sink) Send(ctx context.Context, runs []exporter.Run) (refused int, err error) {
	lines := make([]correlate.Line, 0, len(runs))
	for _, r := range runs {
		if l, ok := correlate.LineOf(r); ok {
			lines = append(lines, l)
		}
	}
	_, err = s.SendLines(ctx, lines)
	return 0, err
}

// requestBytes is about the most text and metadata of one request. Loki counts both, takes 4 MB a second of a tenant with bursts of 6, and
// answers 429 for ever to a request that is longer than a burst.
const requestBytes = 512 << 10

// fitting is how many of the lines, from the first and at least one, go into one request.
func fitting(lines []correlate.Line) int {
	room := requestBytes
	for i, l := range lines {
		room -= len(l.Text)
		for _, m := range l.Metadata {
			room -= len(m.Name) + len(m.Value)
		}
		if room < 0 && i > 0 {
			return i
		}
	}
	return len(lines)
}

// SendLines sends lines, in as many requests as their length needs, and gives the number of lines, from the first, that Loki has answered
// for. Its errors are those of Send; a request that is rejected does not hold back those after it.
func (s *Sink) SendLines(ctx context.Context, lines []correlate.Line) (sent int, err error) {
	var rejected error
	for len(lines) > 0 {
		n := fitting(lines)
		if err := s.post(ctx, lines[:n]); err != nil {
			var se *exporter.SendError
			if !errors.As(err, &se) || !se.Rejected {
				return sent, err
			}
			rejected = err
		}
		sent += n
		lines = lines[n:]
	}
	return sent, rejected
}

func (s *Sink) post(ctx context.Context, lines []correlate.Line) error {
	body, err := request(lines).Marshal()
	if err != nil {
		return &exporter.SendError{Err: fmt.Errorf("encode log lines: %w", err), Rejected: true}
	}
	if _, err := s.client.Post(ctx, "/loki/api/v1/push", s.header, snappy.Encode(nil, body)); err != nil {
		err = fmt.Errorf("send log lines: %w", err)
		var status *upstream.StatusError
		if errors.As(err, &status) {
			return exporter.HTTPSendError(err, status.Code)
		}
		return err
	}
	return nil
}

// request groups the lines by stream; streams and the lines in them are sorted.
func request(lines []correlate.Line) *push.PushRequest {
	streams := map[string][]push.Entry{}
	for _, l := range lines {
		key := selector(l.Labels)
		streams[key] = append(streams[key], push.Entry{Timestamp: l.Time, Line: l.Text, StructuredMetadata: metadata(l.Metadata)})
	}
	req := &push.PushRequest{}
	for labels, entries := range streams {
		slices.SortStableFunc(entries, func(a, b push.Entry) int { return a.Timestamp.Compare(b.Timestamp) })
		req.Streams = append(req.Streams, push.Stream{Labels: labels, Entries: entries})
	}
	slices.SortFunc(req.Streams, func(a, b push.Stream) int { return cmp.Compare(a.Labels, b.Labels) })
	return req
}

// selector writes labels as Loki reads them: {a="b", c="d"}.
func selector(labels []correlate.Label) string {
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.Name + "=" + strconv.Quote(l.Value)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func metadata(labels []correlate.Label) push.LabelsAdapter {
	out := make(push.LabelsAdapter, len(labels))
	for i, l := range labels {
		out[i] = push.LabelAdapter{Name: l.Name, Value: l.Value}
	}
	return out
}
