// Package tempo reads traces from Tempo: a trace by its id, and searches in TraceQL.
package tempo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/upstream"
)

// A Store is a correlate.TraceStore.
type Store struct{ client *upstream.Client }

// New makes a Store. The client's base URL is that of Tempo's HTTP API, to which /api is added.
func New(client *upstream.Client) *Store { return &Store{client} }

// Recognizes tells whether the server answers as Tempo does.
func (s *Store) Recognizes(ctx context.Context) (bool, error) {
	body, _, err := s.client.Get(ctx, "/api/echo", nil)
	var status *upstream.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for Tempo: %w", err)
	}
	return strings.TrimSpace(string(body)) == "echo", nil
}

// Trace gives one trace. It asks for protobuf, and reads Tempo's JSON too, which a proxy may prefer.
func (s *Store) Trace(ctx context.Context, id trace.TraceID) (correlate.Trace, error) {
	spans, partial, err := s.trace(ctx, id)
	if err != nil {
		return correlate.Trace{}, fmt.Errorf("read trace %s: %w", id, err)
	}
	return correlate.NewTrace(id, spans, partial), nil
}

func (s *Store) trace(ctx context.Context, id trace.TraceID) (spans []correlate.Span, partial string, err error) {
	body, header, err := s.client.Get(ctx, "/api/traces/"+id.String(), http.Header{"Accept": {"application/protobuf"}})
	var status *upstream.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return nil, "", correlate.ErrNoTrace
	}
	if err != nil {
		return nil, "", err
	}
	if strings.Contains(header.Get("Content-Type"), "protobuf") {
		var data tracepb.TracesData // Tempo's message has the same field
		if err := proto.Unmarshal(body, &data); err != nil {
			return nil, "", fmt.Errorf("the answer of Tempo is not as expected: %w", err)
		}
		spans, err = correlate.DecodeSpans(data.GetResourceSpans())
	} else {
		spans, err = correlate.ReadSpans(body)
	}
	if err != nil {
		return nil, "", fmt.Errorf("the answer of Tempo is not as expected: %w", err)
	}
	if len(spans) == 0 {
		return nil, "", correlate.ErrNoTrace
	}
	for _, span := range spans {
		if span.TraceID != id {
			return nil, "", fmt.Errorf("the answer of Tempo holds the trace %s", span.TraceID)
		}
	}
	return spans, "", nil
}

// traceQL writes a query in Tempo's language. Values are quoted, never pasted.
func traceQL(q correlate.TraceQuery) string {
	var parts []string
	equal := func(field string, ref catalog.Ref) {
		if !ref.IsZero() {
			parts = append(parts, field+" = "+strconv.Quote(ref.String()))
		}
	}
	equal("resource.owner", q.Owner)
	equal("resource.entity", q.Entity)
	if q.Failed {
		parts = append(parts, "status = error")
	}
	return "{ " + strings.Join(parts, " && ") + " } | select(resource.owner, resource.entity, status)"
}

// Search asks by TraceQL.
func (s *Store) Search(ctx context.Context, q correlate.TraceQuery) (correlate.TraceList, error) {
	params := url.Values{"q": {traceQL(q)}, "limit": {strconv.Itoa(q.Size() + 1)}, "spss": {"1"}}
	params.Set("start", strconv.FormatInt(q.From.Unix(), 10))
	params.Set("end", strconv.FormatInt(q.To.Add(time.Second-1).Unix(), 10)) // whole seconds, rounded up
	var answer struct {
		Traces []struct {
			TraceID           string
			RootServiceName   string
			RootTraceName     string
			StartTimeUnixNano uint64 `json:",string"`
			DurationMs        int64
			SpanSets          []spanSet
			SpanSet           spanSet // before 2.2
		}
		Metrics struct{ CompletedJobs, TotalJobs int }
	}
	var out correlate.TraceList
	if _, err := s.client.GetJSON(ctx, "/api/search?"+params.Encode(), &answer); err != nil {
		return out, fmt.Errorf("search traces: %w", err)
	}
	var missing []string
	for _, t := range answer.Traces {
		// Tempo leaves out leading zeros.
		id, err := trace.TraceIDFromHex(strings.Repeat("0", max(0, 32-len(t.TraceID))) + t.TraceID)
		if err != nil {
			return correlate.TraceList{}, fmt.Errorf("search traces: the answer of Tempo holds %.60q as an id", t.TraceID)
		}
		one := correlate.TraceSummary{
			ID: id, Service: t.RootServiceName, Name: t.RootTraceName, Start: time.Unix(0, int64(t.StartTimeUnixNano)).UTC(),
			Duration: time.Duration(t.DurationMs) * time.Millisecond, Failed: q.Failed, Owner: q.Owner, Entity: q.Entity,
		}
		if one.Start.Before(q.From) || !q.To.IsZero() && !one.Start.Before(q.To) {
			continue
		}
		for _, set := range append(t.SpanSets, t.SpanSet) {
			set.fill(&one)
		}
		out.Items = append(out.Items, one)
	}
	out.Sort()
	if m := answer.Metrics; m.CompletedJobs < m.TotalJobs {
		missing = append(missing, fmt.Sprintf("Tempo searched %d of %d parts", m.CompletedJobs, m.TotalJobs))
	}
	if len(out.Items) > q.Size() {
		out.Items = out.Items[:q.Size()]
		missing = append(missing, fmt.Sprintf("there are more than %d traces", q.Size()))
	}
	out.Partial = strings.Join(missing, "; ")
	return out, nil
}

// A spanSet is the spans of a trace that match.
type spanSet struct {
	Spans []struct {
		Attributes []struct {
			Key   string
			Value struct{ StringValue string }
		}
	}
}

// fill adds what the matching spans say of the trace.
func (set spanSet) fill(t *correlate.TraceSummary) {
	for _, s := range set.Spans {
		for _, a := range s.Attributes {
			switch v := a.Value.StringValue; a.Key {
			case "owner", "resource.owner":
				if t.Owner.IsZero() {
					t.Owner, _ = catalog.ParseRef(v, "group")
				}
			case "entity", "resource.entity":
				if t.Entity.IsZero() {
					t.Entity, _ = catalog.ParseRef(v, "component")
				}
			case "status":
				t.Failed = t.Failed || v == "error"
			}
		}
	}
}
