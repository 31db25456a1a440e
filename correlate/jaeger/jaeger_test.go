package jaeger_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/jaeger"
	"github.com/sightline-dev/sightline/upstream"
)

const id = "df4cdbd0bd964ae798c8491a7cd08624"

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// result is a trace of one span in the form of Jaeger 1.65.
func result(id, service, owner string, status int) string {
	return fmt.Sprintf(`{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"owner","value":{"stringValue":%q}},{"key":"service.name","value":{"stringValue":%q}}]},`+
		`"scopeSpans":[{"scope":{},"spans":[{"traceId":%q,"spanId":"c6305cdff584bf06","parentSpanId":"","name":"RUN deploy","kind":2,"startTimeUnixNano":"%d","endTimeUnixNano":"%d",`+
		`"attributes":[{"key":"cicd.pipeline.result","value":{"stringValue":"failure"}},{"key":"internal.span.format","value":{"stringValue":"otlp"}}],"status":{"message":"script_failure","code":%d}}]}]}]}}`,
		owner, service, id, noon.UnixNano(), noon.Add(90*time.Second).UnixNano(), status)
}

const none = `{"error":{"httpCode":404,"message":"No traces found"}}`

func store(t *testing.T, timeout time.Duration, h http.HandlerFunc) *jaeger.Store {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1, Timeout: timeout, MaxBytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	return jaeger.New(client)
}

func say(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8") // as Jaeger does
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func traceID(t *testing.T) trace.TraceID {
	t.Helper()
	out, err := trace.TraceIDFromHex(id)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestATraceIsReadWithItsIDsAndTimes(t *testing.T) {
	s := store(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v3/traces/"+id {
			t.Errorf("asked for %s", r.URL.Path)
		}
		say(200, result(id, "checkout", "group:default/payments", 2))(w, r)
	})
	got, err := s.Trace(t.Context(), traceID(t))
	if err != nil || len(got.Spans) != 1 {
		t.Fatal(got, err)
	}
	span := got.Spans[0]
	want := "df4cdbd0bd964ae798c8491a7cd08624 c6305cdff584bf06 server RUN deploy 1m30s true script_failure checkout group:default/payments"
	if d := cmp.Diff(want, fmt.Sprint(span.TraceID, " ", span.ID, " ", span.Kind, " ", span.Name, " ", span.End.Sub(span.Start), " ", span.Failed, " ", span.Reason, " ", span.Service(), " ", span.Owner())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !span.Start.Equal(noon) || span.Parent.IsValid() || got.Partial != "" {
		t.Errorf("start %s, parent %s, partial %q", span.Start, span.Parent, got.Partial)
	}
}

func TestWhatAnAnswerOfJaegerMeans(t *testing.T) {
	good := result(id, "checkout", "group:default/payments", 2)
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		timeout time.Duration
		none    bool
		err     string // "" for none
		partial string
	}{
		{"a trace", say(200, good), 0, false, "", ""},
		{"no trace", say(404, none), 0, true, "no such trace", ""},
		{"only another trace", say(200, result("00000000000000000000000000000001", "a", "b", 0)), 0, true, "no such trace", ""},
		{"a login page", say(200, "<!DOCTYPE html><title>Sign in</title>"), 0, false, "not as expected", ""},
		{"nothing", say(200, ""), 0, false, "not as expected", ""},
		{"an object of something else", say(200, `{"hello":"world"}`), 0, false, "neither a result nor an error", ""},
		{"ids that are none", say(200, strings.ReplaceAll(good, id, "nonsense")), 0, false, "read spans", ""},
		{"an error instead of a result", say(200, `{"error":{"message":"storage is away"}}`), 0, false, "storage is away", ""},
		{"an error after a result", say(200, good+"\n"+`{"error":{"message":"storage is away"}}`), 0, false, "", "storage is away"},
		{"a result that is cut off", say(200, good+"\n"+`{"result":{"resou`), 0, false, "", "unexpected EOF"},
		{"an answer that is too large", say(200, strings.Repeat(good, 1000)), 0, false, "larger than", ""},
		{"a broken Jaeger", say(500, "boom"), 0, false, "500", ""},
		{"a Jaeger that does not answer", silent, 30 * time.Millisecond, false, "no whole answer within 30ms", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := store(t, c.timeout, c.answer).Trace(t.Context(), traceID(t))
			if errors.Is(err, correlate.ErrNoTrace) != c.none || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if err == nil && (len(got.Spans) != 1 || !strings.Contains(got.Partial, c.partial) || (got.Partial == "") != (c.partial == "")) {
				t.Errorf("%d spans, partial %q; want 1, %q", len(got.Spans), got.Partial, c.partial)
			}
		})
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := store(t, 0, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if _, err := s.Trace(ctx, traceID(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestASearchPicksTheTracesOfAnOwner(t *testing.T) {
	payments := catalog.NewRef("group", "", "payments")
	query := correlate.TraceQuery{Owner: payments, From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Failed: true}
	traces := map[string]string{
		"checkout": result("00000000000000000000000000000001", "checkout", "group:default/payments", 2) + result("00000000000000000000000000000002", "checkout", "group:default/payments", 0),
		"ledger":   result("00000000000000000000000000000003", "ledger", "group:default/books", 2),
		"jaeger":   result("00000000000000000000000000000004", "jaeger", "group:default/payments", 2),
	}
	for _, c := range []struct {
		name          string
		change        func(q *correlate.TraceQuery)
		broken        string
		want, partial string
	}{
		{"the failed traces of an owner", func(*correlate.TraceQuery) {}, "", "1", ""},
		{"all traces of an owner", func(q *correlate.TraceQuery) { q.Failed = false }, "", "1 2", ""},
		{"failed traces of anybody", func(q *correlate.TraceQuery) { q.Owner = catalog.Ref{} }, "", "1 3", ""},
		{"as many as may be", func(q *correlate.TraceQuery) { q.Limit, q.Failed = 1, false }, "", "1", "more than 1 traces"},
		{"none at another time", func(q *correlate.TraceQuery) { q.From = noon.Add(time.Second) }, "", "", ""},
		{"what the other services have when one cannot be asked", func(*correlate.TraceQuery) {}, "ledger", "1", "service ledger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := store(t, 0, func(w http.ResponseWriter, r *http.Request) {
				service := r.URL.Query().Get("query.service_name")
				body, found := traces[service]
				switch {
				case r.URL.Path == "/api/v3/services":
					say(200, `{"services":["ledger","jaeger","checkout","empty"]}`)(w, r)
				case service == c.broken && service != "":
					say(400, "malformed")(w, r)
				case found:
					say(200, body)(w, r)
				default:
					say(404, none)(w, r)
				}
			})
			q := query
			c.change(&q)
			got, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, i := range got.Items {
				ids = append(ids, strings.TrimLeft(i.ID.String(), "0"))
			}
			if d := cmp.Diff(c.want, strings.Join(ids, " ")); d != "" || !strings.Contains(got.Partial, c.partial) || (got.Partial == "") != (c.partial == "") {
				t.Errorf("partial %q, want %q; traces (-want +got):\n%s", got.Partial, c.partial, d)
			}
		})
	}
}

func TestAnEntityIsSearchedAsTheServiceOfItsName(t *testing.T) {
	var asked []string
	s := store(t, 0, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+" "+r.URL.Query().Get("query.service_name"))
		say(404, none)(w, r)
	})
	got, err := s.Search(t.Context(), correlate.TraceQuery{Entity: catalog.NewRef("component", "", "check&out"), To: noon})
	if err != nil || len(got.Items) != 0 || cmp.Diff([]string{"/api/v3/traces check&out"}, asked) != "" {
		t.Errorf("%v, %v; asked %q", got, err, asked)
	}
}

func TestJaegerIsRecognized(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   bool
		err    bool
	}{
		{"by its services", say(200, `{"services":["checkout"]}`), true, false},
		{"by having none yet", say(200, `{"services":[]}`), true, false},
		{"not by a page", say(200, "<html>"), false, false},
		{"not where there is no such path", say(404, "404 page not found"), false, false},
		{"never when it cannot be asked", say(401, ""), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := store(t, 0, c.answer).Recognizes(t.Context()); got != c.want || (err != nil) != c.err {
				t.Errorf("%v, %v; want %v, error %v", got, err, c.want, c.err)
			}
		})
	}
}
