package tempo_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/tempo"
	"github.com/sightline-dev/sightline/upstream"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	id   = trace.TraceID{0xdf, 0x4c, 0xdb, 0xd0, 0xbd, 0x96, 0x4a, 0xe7, 0x98, 0xc8, 0x49, 0x1a, 0x7c, 0xd0, 0x86, 0x24}
	span = trace.SpanID{0xc6, 0x30, 0x5c, 0xdf, 0xf5, 0x84, 0xbf, 0x06}
)

func store(t *testing.T, timeout time.Duration, h http.HandlerFunc) *tempo.Store {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1, Timeout: timeout, MaxBytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	return tempo.New(client)
}

func say(code int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

// binary is the trace as Tempo answers to Accept: application/protobuf.
func binary(t *testing.T, id trace.TraceID) string {
	t.Helper()
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: []*common.KeyValue{{Key: "owner", Value: text("group:default/payments")}, {Key: "service.name", Value: text("checkout")}}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{TraceId: id[:], SpanId: span[:], Name: "RUN deploy", Kind: tracepb.Span_SPAN_KIND_SERVER, StartTimeUnixNano: uint64(noon.UnixNano()), EndTimeUnixNano: uint64(noon.UnixNano()), Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}}}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// batches is the same in Tempo's JSON: other names than OTLP's, and ids in base64.
const batches = `{"batches":[{"resource":{"attributes":[{"key":"owner","value":{"stringValue":"group:default/payments"}},{"key":"service.name","value":{"stringValue":"checkout"}}]},` +
	`"scopeSpans":[{"scope":{},"spans":[{"traceId":"30zb0L2WSueYyEkafNCGJA==","spanId":"xjBc3/WEvwY=","name":"RUN deploy","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1772366400000000000","endTimeUnixNano":"1772366400000000000","status":{"code":"STATUS_CODE_ERROR"}}]}]}]}`

func TestWhatAnAnswerOfTempoMeans(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		timeout time.Duration
		none    bool
		err     string
	}{
		{"a trace in protobuf", say(200, "application/protobuf", binary(t, id)), 0, false, ""},
		{"a trace in JSON", say(200, "application/json", batches), 0, false, ""},
		{"no trace", say(404, "text/plain", ""), 0, true, "no such trace"},
		{"an empty trace", say(200, "application/json", `{"batches":[]}`), 0, true, "no such trace"},
		{"another trace", say(200, "application/protobuf", binary(t, trace.TraceID{1})), 0, false, "holds the trace 01000000"},
		{"garbage in protobuf", say(200, "application/protobuf", "\xff\xff\xff"), 0, false, "not as expected"},
		{"a login page", say(200, "text/html", "<html>"), 0, false, "not as expected"},
		{"an answer that is too large", say(200, "application/json", strings.Repeat(batches, 1000)), 0, false, "larger than"},
		{"a missing tenant", say(401, "text/plain", "no org id"), 0, false, "401 Unauthorized: no org id"},
		{"a Tempo that does not answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 30 * time.Millisecond, false, "no whole answer within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := store(t, c.timeout, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/traces/df4cdbd0bd964ae798c8491a7cd08624" || r.Header.Get("Accept") != "application/protobuf" {
					t.Errorf("asked for %s as %s", r.URL.Path, r.Header.Get("Accept"))
				}
				c.answer(w, r)
			}).Trace(t.Context(), id)
			if errors.Is(err, correlate.ErrNoTrace) != c.none || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil {
				return
			}
			s := got.Spans[0]
			if d := cmp.Diff("server RUN deploy true checkout group:default/payments", fmt.Sprint(s.Kind, " ", s.Name, " ", s.Failed, " ", s.Service(), " ", s.Owner())); d != "" || s.ID != span || !s.Start.Equal(noon) {
				t.Errorf("%s at %s (-want +got):\n%s", s.ID, s.Start, d)
			}
		})
	}
}

// found is an answer of /api/search.
const found = `{"traces":[
{"traceID":"2f3e0cee77ae5dc9c17ade3689eb2e54","rootServiceName":"checkout","rootTraceName":"RUN deploy","startTimeUnixNano":"1772366400000000000","durationMs":557,
 "spanSets":[{"spans":[{"spanID":"563d623c76514f8e","startTimeUnixNano":"1772366400000000000","durationNanos":"446979497","attributes":[{"key":"status","value":{"stringValue":"error"}},{"key":"owner","value":{"stringValue":"group:default/payments"}},{"key":"entity","value":{"stringValue":"component:default/checkout"}}]}],"matched":1}]},
{"traceID":"9abc","rootServiceName":"ledger","startTimeUnixNano":"1772366460000000000"}],
"metrics":{"inspectedTraces":12,"inspectedBytes":"4711","totalBlocks":3,"completedJobs":%d,"totalJobs":4}}`

func TestASearchIsTraceQL(t *testing.T) {
	payments, checkout := catalog.NewRef("group", "", "payments"), catalog.NewRef("component", "", `check"out} || {true`)
	for _, c := range []struct {
		name string
		q    correlate.TraceQuery
		want string
	}{
		{"anything", correlate.TraceQuery{}, `{  } | select(resource.owner, resource.entity, status)`},
		{"an owner's failures", correlate.TraceQuery{Owner: payments, Failed: true}, `{ resource.owner = "group:default/payments" && status = error } | select(resource.owner, resource.entity, status)`},
		{"a name that would be a query", correlate.TraceQuery{Entity: checkout}, `{ resource.entity = "component:default/check\"out} || {true" } | select(resource.owner, resource.entity, status)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.From, c.q.To = noon.Add(-time.Hour), noon.Add(time.Hour+time.Millisecond)
			_, err := store(t, 0, func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				if d := cmp.Diff(c.want, q.Get("q")); d != "" || q.Get("start") != "1772362800" || q.Get("end") != "1772370001" || q.Get("limit") != "21" {
					t.Errorf("%v (-want +got):\n%s", q, d)
				}
				say(200, "application/json", `{"traces":[],"metrics":{}}`)(w, r)
			}).Search(t.Context(), c.q)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatASearchGives(t *testing.T) {
	for _, c := range []struct {
		name, answer  string
		limit         int
		want, partial string
		err           string
	}{
		{"traces, newest first, with the zeros that Tempo leaves out", fmt.Sprintf(found, 4), 0, "00000000000000000000000000009abc ledger 0s false, 2f3e0cee77ae5dc9c17ade3689eb2e54 checkout 557ms true group:default/payments component:default/checkout", "", ""},
		{"a part when not all was searched", fmt.Sprintf(found, 3), 0, "00000000000000000000000000009abc ledger 0s false, 2f3e0cee77ae5dc9c17ade3689eb2e54 checkout 557ms true group:default/payments component:default/checkout", "3 of 4", ""},
		{"as many as may be", fmt.Sprintf(found, 4), 1, "00000000000000000000000000009abc ledger 0s false", "more than 1", ""},
		{"an error for an id that is none", strings.Replace(fmt.Sprintf(found, 4), "9abc", "zzz", 1), 0, "", "", `"zzz"`},
		{"an error for garbage", "<html>", 0, "", "", "not the JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := store(t, 0, say(200, "application/json", c.answer)).Search(t.Context(), correlate.TraceQuery{From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Limit: c.limit})
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			var items []string
			for _, i := range got.Items {
				items = append(items, strings.TrimSpace(fmt.Sprint(i.ID, " ", i.Service, " ", i.Duration, " ", i.Failed, " ", i.Owner, " ", i.Entity)))
			}
			if d := cmp.Diff(c.want, strings.Join(items, ", ")); d != "" || !strings.Contains(got.Partial, c.partial) || (got.Partial == "") != (c.partial == "") {
				t.Errorf("partial %q (-want +got):\n%s", got.Partial, d)
			}
		})
	}
}

func TestTempoIsRecognized(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   bool
		err    bool
	}{
		{"by its echo", say(200, "text/plain", "echo"), true, false},
		{"not by a page", say(200, "text/html", "<html>"), false, false},
		{"not where there is no such path", say(404, "text/plain", ""), false, false},
		{"never when it cannot be asked", say(403, "text/plain", ""), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := store(t, 0, c.answer).Recognizes(t.Context()); got != c.want || (err != nil) != c.err {
				t.Errorf("%v, %v; want %v, error %v", got, err, c.want, c.err)
			}
		})
	}
}
