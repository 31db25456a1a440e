package correlate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/catalog"
)

// A TraceStore answers questions about traces. Safe for concurrent use; a call ends when its context does. What an answer
// lacks is said in its Partial, and an answer that cannot be given at all is an error.
type TraceStore interface {
	// Trace gives one trace; the error is ErrNoTrace when the store has none of that id.
	Trace(ctx context.Context, id trace.TraceID) (Trace, error)
	// Search gives traces, newest first.
	Search(ctx context.Context, q TraceQuery) (TraceList, error)
}

// ErrNoTrace means that a store has no trace of the id that was asked for.
var ErrNoTrace = errors.New("the store has no such trace")

// MaxSpans is how many spans of one trace are read; Partial says when there are more.
const MaxSpans = 10_000

// A Trace is all that a store has of one trace.
type Trace struct {
	ID      trace.TraceID
	Spans   []Span // by start, then id; a span that the store has twice stands once
	Partial string // what is missing, in words; "" when nothing is
}

// A TraceQuery says which traces are wanted. A trace matches when one of its spans does.
type TraceQuery struct {
	Owner, Entity catalog.Ref // zero: any
	From, To      time.Time   // when the trace started
	Failed        bool        // only with a span of status Error
	Limit         int         // most traces, 1 to MaxTraces; 0 means 20
}

// MaxTraces is the most traces of one answer.
const MaxTraces = 200

// Size gives the limit within its bounds.
func (q TraceQuery) Size() int { return min(max(cmp.Or(q.Limit, 20), 1), MaxTraces) }

// A TraceList is the answer to a TraceQuery.
type TraceList struct {
	Items   []TraceSummary // newest first, then by id
	Partial string         // what is missing, in words; "" when nothing is
}

// Sort puts the items into their order.
func (l *TraceList) Sort() {
	slices.SortFunc(l.Items, func(a, b TraceSummary) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.ID.String(), b.ID.String()))
	})
}

// A TraceSummary is a trace in one line.
type TraceSummary struct {
	ID            trace.TraceID
	Service, Name string // of the root span
	Owner, Entity catalog.Ref
	Start         time.Time
	Duration      time.Duration
	Failed        bool // a span has status Error; false also where the store does not say
}

// NewTrace puts spans into order and leaves out those that are there twice or beyond MaxSpans.
func NewTrace(id trace.TraceID, spans []Span, partial string) Trace {
	slices.SortStableFunc(spans, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID.String(), b.ID.String()), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	spans = slices.CompactFunc(spans, func(a, b Span) bool {
		return a.ID == b.ID && a.Start.Equal(b.Start) && a.Name == b.Name && a.Kind == b.Kind
	})
	if n := len(spans); n > MaxSpans {
		spans = spans[:MaxSpans]
		partial = join(partial, fmt.Sprintf("only the first %d of %d spans are read", MaxSpans, n))
	}
	return Trace{id, spans, partial}
}

// Summary gives the trace in one line. Its root is the first span without a parent in the trace.
func (t Trace) Summary() TraceSummary {
	known := map[trace.SpanID]bool{}
	for _, s := range t.Spans {
		known[s.ID] = true
	}
	out, end, found := TraceSummary{ID: t.ID}, time.Time{}, false
	for _, s := range t.Spans {
		if !known[s.Parent] && !found {
			found = true
			out.Service, out.Name = s.Service(), s.Name
			out.Owner, out.Entity = s.Owner(), s.Entity()
		}
		if out.Start.IsZero() || s.Start.Before(out.Start) {
			out.Start = s.Start
		}
		if s.End.After(end) {
			end = s.End
		}
		out.Failed = out.Failed || s.Failed
	}
	if end.After(out.Start) {
		out.Duration = end.Sub(out.Start)
	}
	return out
}

// Matches tells whether the trace answers the query.
func (t Trace) Matches(q TraceQuery) bool {
	failed, named := !q.Failed, false
	for _, s := range t.Spans {
		failed = failed || s.Failed
		named = named || (q.Owner.IsZero() || s.Owner() == q.Owner) && (q.Entity.IsZero() || s.Entity() == q.Entity)
	}
	start := t.Summary().Start
	return failed && named && !start.Before(q.From) && (q.To.IsZero() || start.Before(q.To))
}

// Service is the span's service.name; "" when it has none.
func (s Span) Service() string { return s.resource("service.name") }

// Owner is the owner on the span's resource; zero when there is none.
func (s Span) Owner() catalog.Ref {
	ref, _ := catalog.ParseRef(s.resource("owner"), "group")
	return ref
}

// Entity is the entity on the span's resource; zero when there is none.
func (s Span) Entity() catalog.Ref {
	ref, _ := catalog.ParseRef(s.resource("entity"), "component")
	return ref
}

func (s Span) resource(key attribute.Key) string {
	for _, a := range s.Resource {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// join makes one text of what is missing.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// A Candidate is a TraceStore that can tell whether a server is of its kind.
type Candidate interface {
	TraceStore
	// Recognizes asks the server. The error says why it could not be asked.
	Recognizes(ctx context.Context) (bool, error)
}

// FirstOf gives a TraceStore that is the first candidate which recognizes its server. It asks at the first use, and again at
// later ones until one does: a store may be started after Sightline.
func FirstOf(candidates ...Candidate) TraceStore { return &firstOf{candidates: candidates} }

type firstOf struct {
	candidates []Candidate

	mu    sync.Mutex
	found TraceStore
}

func (f *firstOf) store(ctx context.Context) (TraceStore, error) {
	f.mu.Lock()
	found := f.found
	f.mu.Unlock()
	if found != nil {
		return found, nil
	}
	var errs []error
	for _, c := range f.candidates { // without the lock: two callers may both ask, and find the same
		ok, err := c.Recognizes(ctx)
		if ok {
			f.mu.Lock()
			f.found = c
			f.mu.Unlock()
			return c, nil
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("find out which trace store answers: %w", err)
	}
	return nil, unrecognized{}
}

func (f *firstOf) Trace(ctx context.Context, id trace.TraceID) (Trace, error) {
	s, err := f.store(ctx)
	if err != nil {
		return Trace{}, err
	}
	return s.Trace(ctx, id)
}

func (f *firstOf) Search(ctx context.Context, q TraceQuery) (TraceList, error) {
	s, err := f.store(ctx)
	if err != nil {
		return TraceList{}, err
	}
	return s.Search(ctx, q)
}

type unrecognized struct{}

func (unrecognized) Error() string { return "the server at traces.query is neither Tempo nor Jaeger" }
func (unrecognized) Hint() string {
	return "write the address of the query API (Tempo's port 3200, Jaeger's 16686); behind a gateway that hides which it is, set traces.store to tempo or jaeger"
}
