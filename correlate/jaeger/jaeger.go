// Package jaeger reads traces from Jaeger by its API v3.
package jaeger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/upstream"
)

const (
	maxServices = 20 // that one search asks for
	parallel    = 4
)

// A Store is a correlate.TraceStore. Jaeger searches one service at a time, and by the HTTP form of its API it does not look at
// attributes: Search asks for each service and picks the traces itself.
type Store struct{ client *upstream.Client }

// New makes a Store. The client's base URL is that of Jaeger's query service, to which /api/v3 is added.
func New(client *upstream.Client) *Store { return &Store{client} }

// Recognizes tells whether the server answers as Jaeger does.
func (s *Store) Recognizes(ctx context.Context) (bool, error) {
	_, err := s.services(ctx)
	var status *upstream.StatusError
	var content *upstream.ContentError
	switch {
	case errors.As(err, &content), errors.As(err, &status) && status.Code == http.StatusNotFound:
		return false, nil
	}
	return err == nil, err
}

func (s *Store) services(ctx context.Context) ([]string, error) {
	var answer struct{ Services []string }
	if _, err := s.client.GetJSON(ctx, "/api/v3/services", &answer); err != nil {
		return nil, fmt.Errorf("list Jaeger's services: %w", err)
	}
	slices.Sort(answer.Services)
	return answer.Services, nil
}

// Trace gives one trace.
func (s *Store) Trace(ctx context.Context, id trace.TraceID) (correlate.Trace, error) {
	spans, partial, err := s.read(ctx, "/api/v3/traces/"+id.String())
	if err != nil {
		return correlate.Trace{}, fmt.Errorf("read trace %s: %w", id, err)
	}
	spans = slices.DeleteFunc(spans, func(s correlate.Span) bool { return s.TraceID != id })
	if len(spans) == 0 {
		return correlate.Trace{}, fmt.Errorf("read trace %s: %w", id, correlate.ErrNoTrace)
	}
	return correlate.NewTrace(id, spans, partial), nil
}

// Search asks for the service that is named like the entity, or for all services (at most 20) where none is wanted.
func (s *Store) Search(ctx context.Context, q correlate.TraceQuery) (correlate.TraceList, error) {
	var out correlate.TraceList
	var services, missing []string
	if !q.Entity.IsZero() {
		services = []string{q.Entity.Name}
	} else {
		all, err := s.services(ctx)
		if err != nil {
			return out, err
		}
		services = slices.DeleteFunc(all, func(name string) bool { return strings.HasPrefix(name, "jaeger") }) // itself
		if n := len(services); n > maxServices {
			services = services[:maxServices]
			missing = append(missing, fmt.Sprintf("only %d of %d services are searched", maxServices, n))
		}
	}
	type found struct {
		spans   []correlate.Span
		partial string
		err     error
	}
	results := make([]found, len(services))
	group := errgroup.Group{}
	group.SetLimit(parallel)
	for i, service := range services {
		group.Go(func() error {
			r := &results[i]
			params := url.Values{
				"query.service_name": {service}, "query.start_time_min": {q.From.UTC().Format(time.RFC3339Nano)}, "query.start_time_max": {q.To.UTC().Format(time.RFC3339Nano)},
				// num_traces until Jaeger 1.x, search_depth since 2.0
				"query.num_traces": {strconv.Itoa(q.Size())}, "query.search_depth": {strconv.Itoa(q.Size())},
			}
			r.spans, r.partial, r.err = s.read(ctx, "/api/v3/traces?"+params.Encode())
			if errors.Is(r.err, correlate.ErrNoTrace) {
				r.err = nil
			}
			return nil
		})
	}
	_ = group.Wait() // each result has its own error
	byTrace := map[trace.TraceID][]correlate.Span{}
	failed := 0
	for i, r := range results {
		if r.err != nil {
			failed++
			missing = append(missing, fmt.Sprintf("service %s: %v", services[i], r.err))
			if failed == len(services) {
				return out, fmt.Errorf("search traces: %w", r.err)
			}
		}
		if r.partial != "" {
			missing = append(missing, fmt.Sprintf("service %s: %s", services[i], r.partial))
		}
		ids := map[trace.TraceID]bool{}
		for _, span := range r.spans {
			ids[span.TraceID] = true
			byTrace[span.TraceID] = append(byTrace[span.TraceID], span)
		}
		if len(ids) >= q.Size() {
			missing = append(missing, fmt.Sprintf("service %s has more traces than the %d that were looked at", services[i], q.Size()))
		}
	}
	for id, spans := range byTrace {
		if t := correlate.NewTrace(id, spans, ""); t.Matches(q) {
			out.Items = append(out.Items, t.Summary())
		}
	}
	out.Sort()
	if len(out.Items) > q.Size() {
		out.Items = out.Items[:q.Size()]
		missing = append(missing, fmt.Sprintf("there are more than %d traces", q.Size()))
	}
	out.Partial = strings.Join(missing, "; ")
	return out, nil
}

// read reads an answer: one or several JSON objects, each with a result or an error. When an error comes after results, it is
// what is missing.
func (s *Store) read(ctx context.Context, path string) (spans []correlate.Span, partial string, err error) {
	body, _, err := s.client.Get(ctx, path, http.Header{"Accept": {"application/json"}})
	var status *upstream.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return nil, "", correlate.ErrNoTrace
	}
	if err != nil {
		return nil, "", err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	for read := 0; ; read++ {
		var part struct {
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		err := dec.Decode(&part)
		if errors.Is(err, io.EOF) && read > 0 {
			return spans, partial, nil
		}
		var found []correlate.Span
		switch {
		case err != nil:
		case part.Error != nil:
			err = fmt.Errorf("the store says: %.200s", part.Error.Message)
		case len(part.Result) == 0:
			err = errors.New("it has neither a result nor an error")
		default:
			found, err = correlate.ReadSpans(part.Result)
		}
		if err != nil {
			err = fmt.Errorf("the answer of Jaeger is not as expected: %w", err)
			if len(spans) > 0 {
				return spans, err.Error(), nil
			}
			return nil, "", err
		}
		spans = append(spans, found...)
	}
}
