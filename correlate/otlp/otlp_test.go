package otlp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func run(key string, change func(*exporter.Run)) exporter.Run {
	r := exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: key}, Level: exporter.LevelPipeline,
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"), Pipeline: "deploy", Name: "deploy",
		Started: noon, Finished: noon.Add(time.Minute), State: exporter.StateFinished, Result: exporter.ResultSuccess, Attempt: exporter.AttemptFirst,
	}
	if change != nil {
		change(&r)
	}
	return r
}

func job(key string, change func(*exporter.Run)) exporter.Run {
	return run(key, func(r *exporter.Run) {
		r.Level, r.Name, r.Attempt = exporter.LevelTask, "test", ""
		r.Parent = exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/1001"}
		if change != nil {
			change(r)
		}
	})
}

// A store is a trace store that answers one request after the other as it is told, and keeps what it was sent.
type store struct {
	t       *testing.T
	answers []http.HandlerFunc
	got     []*collector.ExportTraceServiceRequest
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	req := &collector.ExportTraceServiceRequest{}
	if err := errors.Join(err, proto.Unmarshal(b, req)); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		s.t.Errorf("%s %s %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
	}
	s.got = append(s.got, req)
	s.answers[len(s.got)-1](w, r)
}

func answer(code int, m proto.Message) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, _ := proto.Marshal(m)
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(code)
		w.Write(b)
	}
}

var fine = answer(200, &collector.ExportTraceServiceResponse{})

func sink(t *testing.T, timeout time.Duration, answers ...http.HandlerFunc) (*otlp.Sink, *store) {
	t.Helper()
	s := &store{t: t, answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return otlp.New(client, "1.2.3"), s
}

func TestSpansArriveGroupedByTheEntityThatTheyAreOf(t *testing.T) {
	to, s := sink(t, 0, fine)
	other := run("7/pipeline/9", func(r *exporter.Run) { r.Entity.Name = "ledger" })
	refused, err := to.Send(t.Context(), []exporter.Run{
		run("42/pipeline/1001", nil),
		other,
		job("42/job/5001", func(r *exporter.Run) { r.Result, r.Reason = exporter.ResultFailure, "script_failure" }),
		job("42/job/5002", func(r *exporter.Run) { r.Started = time.Time{} }), // never ran
		run("42/pipeline/1001", func(r *exporter.Run) { r.Attempt, r.Finished = exporter.AttemptRerun, noon.Add(time.Hour) }),
	})
	if refused != 0 || err != nil {
		t.Fatalf("refused %d, error %v", refused, err)
	}
	got := show(s.got[0])
	want := `entity=component:default/checkout owner=group:default/payments service.name=checkout source=gitlab
  df4cdbd0bd964ae798c8491a7cd08624 ROOT < , SPAN_KIND_SERVER RUN deploy 0s-1m0s STATUS_CODE_UNSET ""
    cicd.pipeline.name=deploy cicd.pipeline.run.id=1001 cicd.pipeline.action.name=RUN cicd.pipeline.result=success vcs.provider.name=gitlab
  df4cdbd0bd964ae798c8491a7cd08624 c6305cdff584bf06 < ROOT, SPAN_KIND_INTERNAL test 0s-1m0s STATUS_CODE_ERROR "script_failure"
    cicd.pipeline.name=deploy cicd.pipeline.run.id=1001 cicd.pipeline.task.name=test cicd.pipeline.task.run.id=5001 cicd.pipeline.task.run.result=failure vcs.provider.name=gitlab error.type=script_failure
  df4cdbd0bd964ae798c8491a7cd08624 RERUN < ROOT, SPAN_KIND_INTERNAL pipeline re-run deploy 0s-1h0m0s STATUS_CODE_UNSET ""
    cicd.pipeline.name=deploy cicd.pipeline.run.id=1001 cicd.pipeline.action.name=RUN cicd.pipeline.result=success attempt=rerun vcs.provider.name=gitlab
    link df4cdbd0bd964ae798c8491a7cd08624 ROOT
entity=component:default/ledger owner=group:default/payments service.name=ledger source=gitlab
  OTHERTRACE OTHER < , SPAN_KIND_SERVER RUN deploy 0s-1m0s STATUS_CODE_UNSET ""
    cicd.pipeline.name=deploy cicd.pipeline.run.id=9 cicd.pipeline.action.name=RUN cicd.pipeline.result=success vcs.provider.name=gitlab
`
	spans := s.got[0].ResourceSpans[0].ScopeSpans[0].Spans
	theirs := s.got[0].ResourceSpans[1].ScopeSpans[0].Spans
	hex := func(b []byte) string { return fmt.Sprintf("%x", b) }
	want = strings.NewReplacer("OTHERTRACE", hex(theirs[0].TraceId), "OTHER", hex(theirs[0].SpanId), "RERUN", hex(spans[2].SpanId), "ROOT", hex(spans[0].SpanId)).Replace(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// show writes a request as text.
func show(req *collector.ExportTraceServiceRequest) string {
	attributes := func(kv []*common.KeyValue) string {
		var out []string
		for _, a := range kv {
			out = append(out, a.Key+"="+a.Value.GetStringValue())
		}
		return strings.Join(out, " ")
	}
	var b strings.Builder
	for _, rs := range req.ResourceSpans {
		fmt.Fprintf(&b, "%s\n", attributes(rs.Resource.Attributes))
		for _, s := range rs.ScopeSpans[0].Spans {
			at := func(nano uint64) time.Duration { return time.Unix(0, int64(nano)).Sub(noon) }
			fmt.Fprintf(&b, "  %x %x < %x, %s %s %s-%s %s %q\n    %s\n", s.TraceId, s.SpanId, s.ParentSpanId, s.Kind, s.Name, at(s.StartTimeUnixNano), at(s.EndTimeUnixNano), s.GetStatus().GetCode(), s.GetStatus().GetMessage(), attributes(s.Attributes))
			for _, l := range s.Links {
				fmt.Fprintf(&b, "    link %x %x\n", l.TraceId, l.SpanId)
			}
		}
	}
	return b.String()
}

func TestWhatAnAnswerMeans(t *testing.T) {
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	partial := &collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "too large"}}
	for _, c := range []struct {
		name                     string
		answer                   http.HandlerFunc
		refused                  int
		failed, rejected, repeat bool
	}{
		{"all is taken", fine, 0, false, false, false},
		{"what is refused in part is not sent again", answer(200, partial), 1, false, false, false},
		{"an answer in other words is a success", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "thanks") }, 0, false, false, false},
		{"a bad request is rejected", answer(400, nil), 0, true, true, false},
		{"a wrong token is worth another attempt", answer(401, nil), 0, true, false, true},
		{"a busy store is worth another attempt", answer(503, nil), 0, true, false, true},
		{"a store that does not answer is worth another attempt", slow, 0, true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := time.Duration(0)
			if c.name == "a store that does not answer is worth another attempt" {
				timeout = 20 * time.Millisecond
			}
			to, s := sink(t, timeout, c.answer, fine)
			runs := []exporter.Run{run("42/pipeline/1001", nil), job("42/job/5001", nil)}
			refused, err := to.Send(t.Context(), runs)
			var se *exporter.SendError
			if rejected := errors.As(err, &se) && se.Rejected; refused != c.refused || (err != nil) != c.failed || rejected != c.rejected {
				t.Errorf("refused %d, error %v, rejected %v", refused, err, rejected)
			}
			if c.repeat {
				if _, err := to.Send(t.Context(), runs); err != nil || !proto.Equal(s.got[0], s.got[1]) {
					t.Errorf("the second attempt sends something else, or fails: %v", err)
				}
			}
		})
	}
}

func TestNothingIsAskedForRunsWithoutSpans(t *testing.T) {
	to, s := sink(t, 0)
	refused, err := to.Send(t.Context(), []exporter.Run{job("42/job/5002", func(r *exporter.Run) { r.Started = time.Time{} })})
	if refused != 0 || err != nil || len(s.got) != 0 {
		t.Errorf("refused %d, error %v, %d requests", refused, err, len(s.got))
	}
}

func TestASpanThatCannotBeEncodedIsRejected(t *testing.T) {
	to, _ := sink(t, 0)
	_, err := to.Send(t.Context(), []exporter.Run{run("42/pipeline/1001", func(r *exporter.Run) { r.URL = "\xff" })})
	var se *exporter.SendError
	if !errors.As(err, &se) || !se.Rejected {
		t.Errorf("error %v", err)
	}
}
