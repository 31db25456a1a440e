package correlate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	otel "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
)

// A candidate is a trace store that recognizes its server or not, after it has been asked some times.
type candidate struct {
	correlate.TraceStore
	name  string
	after int
	err   error
	asked int
}

func (c *candidate) Recognizes(context.Context) (bool, error) {
	c.asked++
	if c.asked <= c.after {
		return false, c.err
	}
	return true, nil
}

func (c *candidate) Trace(_ context.Context, id trace.TraceID) (correlate.Trace, error) {
	return correlate.Trace{ID: id, Partial: c.name}, nil
}

func TestTheStoreIsTheFirstThatRecognizesItsServer(t *testing.T) {
	jaeger, tempo := &candidate{name: "jaeger", after: 99}, &candidate{name: "tempo", after: 2, err: errors.New("connection refused")}
	s := correlate.FirstOf(jaeger, tempo)
	for range 2 {
		if _, err := s.Trace(t.Context(), trace.TraceID{1}); !errors.Is(err, tempo.err) {
			t.Errorf("error %v, want that of the candidate", err)
		}
	}
	for range 2 {
		if got, err := s.Trace(t.Context(), trace.TraceID{1}); err != nil || got.Partial != "tempo" {
			t.Errorf("%v, %v; want tempo", got, err)
		}
	}
	if jaeger.asked != 3 || tempo.asked != 3 {
		t.Errorf("asked %d and %d times, want 3 and 3: a store that was found is not asked again", jaeger.asked, tempo.asked)
	}
	_, err := correlate.FirstOf(jaeger).Search(t.Context(), correlate.TraceQuery{})
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "traces.store") {
		t.Errorf("error %v without a hint", err)
	}
}

// span is one of a trace, so many seconds after noon.
func span(id, parent byte, start, end int, change func(*correlate.Span)) correlate.Span {
	s := correlate.Span{
		TraceID: trace.TraceID{1}, ID: trace.SpanID{id}, Name: fmt.Sprint("span ", id), Start: noon.Add(time.Duration(start) * time.Second), End: noon.Add(time.Duration(end) * time.Second),
		Resource: []otel.KeyValue{otel.String("owner", "group:default/payments"), otel.String("service.name", "checkout")},
	}
	if parent != 0 {
		s.Parent = trace.SpanID{parent}
	}
	if change != nil {
		change(&s)
	}
	return s
}

func TestATraceIsItsSpansInOrderEachOnce(t *testing.T) {
	got := correlate.NewTrace(trace.TraceID{1}, []correlate.Span{span(3, 1, 5, 9, nil), span(2, 1, 1, 4, nil), span(1, 0, 0, 7, nil), span(2, 1, 1, 4, nil)}, "")
	names := ""
	for _, s := range got.Spans {
		names += s.Name + ", "
	}
	if d := cmp.Diff("span 1, span 2, span 3, ", names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	want := correlate.TraceSummary{ID: trace.TraceID{1}, Service: "checkout", Name: "span 1", Owner: catalog.NewRef("group", "", "payments"), Start: noon, Duration: 9 * time.Second}
	if d := cmp.Diff(want, got.Summary()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	many := make([]correlate.Span, correlate.MaxSpans+1)
	for i := range many {
		many[i] = span(1, 0, i, i, nil)
	}
	if got := correlate.NewTrace(trace.TraceID{1}, many, "a"); len(got.Spans) != correlate.MaxSpans || !strings.Contains(got.Partial, "a; only the first 10000 of 10001") {
		t.Errorf("%d spans, partial %q", len(got.Spans), got.Partial)
	}
}

func TestWhatIsNoSpanIsAnErrorAndNeverAPanic(t *testing.T) {
	for _, c := range []struct{ name, json, want string }{
		{"no JSON", "<html>", "read spans"},
		{"no spans", `{}`, ""},
		{"a span without ids", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}`, "no valid ids"},
		{"ids of zeros", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000000","spanId":"0000000000000000"}]}]}]}`, "no valid ids"},
		{"a text for a time", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"noon"}]}]}]}`, "read spans"},
		{"attributes of every kind, and a time beyond all", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"df4cdbd0bd964ae798c8491a7cd08624","spanId":"c6305cdff584bf06","startTimeUnixNano":"18446744073709551615","endTimeUnixNano":"1",
			"attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"}]}}},{"key":"b","value":{"boolValue":true}},{"key":"c"},{"key":"d","value":{"doubleValue":0.5}}],"links":[{"traceId":"df4c"}],"later":1}]}]}]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := correlate.ReadSpans([]byte(c.json))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzReadSpans(f *testing.F) {
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"df4cdbd0bd964ae798c8491a7cd08624","spanId":"c6305cdff584bf06","name":"x","kind":2}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		spans, err := correlate.ReadSpans(b)
		for _, s := range spans {
			if err != nil || !s.TraceID.IsValid() || !s.ID.IsValid() || s.End.Before(s.Start) {
				t.Errorf("%+v beside the error %v", s, err)
			}
		}
	})
}
