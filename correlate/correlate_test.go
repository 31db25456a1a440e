package correlate_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// job is a run of GitLab with one thing changed.
func job(change func(*exporter.Run)) exporter.Run {
	queued, took := 2.5, 61.0
	r := exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/job/5001"}, Level: exporter.LevelTask,
		Parent: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/1001"},
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"), System: catalog.NewRef("system", "", "shop"),
		Pipeline: "deploy", Name: "test 1/3", RefKind: "default", Created: noon, Started: noon.Add(3 * time.Second), Finished: noon.Add(64 * time.Second),
		Queued: &queued, Duration: &took, State: exporter.StateFinished, Result: exporter.ResultFailure, Reason: "script_failure", URL: "https://gitlab.example.com/shop/checkout/-/jobs/5001",
	}
	if change != nil {
		change(&r)
	}
	return r
}

func pipeline(change func(*exporter.Run)) exporter.Run {
	return job(func(r *exporter.Run) {
		r.ID, r.Parent, r.Level, r.Name, r.Attempt = r.Parent, exporter.RunID{}, exporter.LevelPipeline, r.Pipeline, exporter.AttemptFirst
		if change != nil {
			change(r)
		}
	})
}

func mustSpan(t *testing.T, r exporter.Run) correlate.Span {
	t.Helper()
	s, ok := correlate.SpanOf(r)
	if !ok {
		t.Fatalf("%s has no span", r.ID)
	}
	return s
}

func TestAJobComputesTheIDsOfItsSpanItself(t *testing.T) {
	s := mustSpan(t, job(nil))
	if got, want := fmt.Sprintf("00-%s-%s-01", s.TraceID, s.ID), "00-df4cdbd0bd964ae798c8491a7cd08624-c6305cdff584bf06-01"; got != want {
		t.Errorf("traceparent %s, want %s", got, want)
	}
	root := mustSpan(t, pipeline(nil))
	if root.TraceID != s.TraceID || root.ID != s.Parent || root.Parent.IsValid() {
		t.Errorf("the pipeline is %s/%s below %s, the job %s below %s", root.TraceID, root.ID, root.Parent, s.TraceID, s.Parent)
	}
}

func TestTheScriptInTheDocumentGivesTheIDsOfTheJob(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("needs sha256sum")
	}
	doc, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(doc), "  before_script:\n    - |\n")
	script, _, closed := strings.Cut(script, "```")
	if !found || !closed {
		t.Fatal("the document has no before_script")
	}
	cmd := exec.Command("sh", "-c", script+"\nprintf %s \"$TRACEPARENT\"")
	cmd.Env = append(os.Environ(), "CI_SERVER_HOST=gitlab.example.com", "CI_PROJECT_ID=42", "CI_PIPELINE_ID=1001", "CI_JOB_ID=5001")
	got, err := cmd.CombinedOutput()
	s := mustSpan(t, job(nil))
	if want := fmt.Sprintf("00-%s-%s-01", s.TraceID, s.ID); err != nil || string(got) != want {
		t.Errorf("the script gives %q, %v; want %q", got, err, want)
	}
}

func TestSpansOfRuns(t *testing.T) {
	root := mustSpan(t, pipeline(nil))
	for _, c := range []struct {
		name  string
		run   exporter.Run
		check func(correlate.Span) string
	}{
		{"a pipeline is a server span named by its action", pipeline(nil), func(s correlate.Span) string {
			return cmp.Diff([]string{"RUN deploy", "server"}, []string{s.Name, s.Kind.String()})
		}},
		{"a job is an internal span named by the set that it is one of", job(nil), func(s correlate.Span) string {
			return cmp.Diff([]string{"test", "internal"}, []string{s.Name, s.Kind.String()})
		}},
		{"a retried job is another span of the same trace", job(func(r *exporter.Run) { r.ID.Key = "42/job/5002" }), func(s correlate.Span) string {
			first := mustSpan(t, job(nil))
			if s.TraceID != first.TraceID || s.ID == first.ID || s.Parent != first.Parent {
				return fmt.Sprintf("%s and %s", s.ID, first.ID)
			}
			return ""
		}},
		{"a pipeline that finishes again is a span of its own, linked to the root", pipeline(func(r *exporter.Run) {
			r.Attempt, r.Finished = exporter.AttemptRerun, r.Finished.Add(time.Hour)
		}), func(s correlate.Span) string {
			if s.ID == root.ID || s.TraceID != root.TraceID || s.Parent != root.ID {
				return fmt.Sprintf("%s below %s", s.ID, s.Parent)
			}
			return cmp.Diff([]any{"pipeline re-run deploy", []correlate.Link{{TraceID: root.TraceID, SpanID: root.ID}}}, []any{s.Name, s.Links})
		}},
		{"each later finish is a span of its own", pipeline(func(r *exporter.Run) {
			r.Attempt, r.Finished = exporter.AttemptContinued, r.Finished.Add(2*time.Hour)
		}), func(s correlate.Span) string {
			other := mustSpan(t, pipeline(func(r *exporter.Run) { r.Attempt, r.Finished = exporter.AttemptRerun, r.Finished.Add(time.Hour) }))
			if s.ID == other.ID {
				return "both have " + s.ID.String()
			}
			return ""
		}},
		{"the pipeline of a scaffolder task is linked to it", pipeline(func(r *exporter.Run) {
			r.Parent = exporter.RunID{Source: "scaffolder", Host: "portal.example.com", Key: "4d3c"}
		}), func(s correlate.Span) string {
			task := mustSpan(t, pipeline(func(r *exporter.Run) {
				r.ID = exporter.RunID{Source: "scaffolder", Host: "portal.example.com", Key: "4d3c"}
			}))
			return cmp.Diff([]correlate.Link{{TraceID: task.TraceID, SpanID: task.ID}}, s.Links)
		}},
		{"a child pipeline has a trace of its own, linked to the job that started it", pipeline(func(r *exporter.Run) {
			r.Parent = exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/1000/job/4999"}
		}), func(s correlate.Span) string {
			bridge := mustSpan(t, job(func(r *exporter.Run) { r.ID.Key, r.Parent.Key = "42/job/4999", "42/pipeline/1000" }))
			if s.TraceID == bridge.TraceID || s.Parent.IsValid() {
				return "it is in the trace of the other"
			}
			return cmp.Diff([]correlate.Link{{TraceID: bridge.TraceID, SpanID: bridge.ID}}, s.Links)
		}},
		{"a run that ends before it starts has no negative length", job(func(r *exporter.Run) { r.Finished = r.Started.Add(-time.Second) }), func(s correlate.Span) string {
			return cmp.Diff(s.Start, s.End)
		}},
		{"a success has no error type", job(func(r *exporter.Run) { r.Result, r.Reason = exporter.ResultSuccess, "" }), func(s correlate.Span) string {
			return cmp.Diff("", attribute(s, "error.type"))
		}},
		{"a cancellation is no error", job(func(r *exporter.Run) { r.Result, r.Reason = exporter.ResultCancellation, "" }), func(s correlate.Span) string {
			return cmp.Diff([]any{false, ""}, []any{s.Failed, attribute(s, "error.type")})
		}},
		{"a failure without a reason is named by its result", job(func(r *exporter.Run) { r.Result, r.Reason = exporter.ResultTimeout, "" }), func(s correlate.Span) string {
			return cmp.Diff([]any{true, "timeout"}, []any{s.Failed, attribute(s, "error.type")})
		}},
		{"what nobody claims is a service named by its source", job(func(r *exporter.Run) { r.Entity, r.Owner, r.System = catalog.Ref{}, catalog.Ref{}, catalog.Ref{} }), func(s correlate.Span) string {
			return cmp.Diff("service.name=gitlab source=gitlab", attributes(s.Resource))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := c.check(mustSpan(t, c.run)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestABridgeIsASpanBetweenItsPipelineAndTheOneThatItStarted(t *testing.T) {
	started := exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "43/pipeline/2001"}
	bridge := job(func(r *exporter.Run) {
		r.Level, r.Starts, r.Queued, r.Duration = exporter.LevelBridge, started, nil, nil
	})
	s := mustSpan(t, bridge)
	downstream := mustSpan(t, pipeline(func(r *exporter.Run) {
		r.ID = started
		r.Parent = exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/1001/job/5001"}
	}))
	root := mustSpan(t, pipeline(nil))
	if s.TraceID != root.TraceID || s.Parent != root.ID {
		t.Errorf("the bridge stands in %s below %s, want %s below %s", s.TraceID, s.Parent, root.TraceID, root.ID)
	}
	if diff := cmp.Diff([]correlate.Link{{TraceID: downstream.TraceID, SpanID: downstream.ID}}, s.Links); diff != "" {
		t.Errorf("links of the bridge (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]correlate.Link{{TraceID: s.TraceID, SpanID: s.ID}}, downstream.Links); diff != "" {
		t.Errorf("links of what it started (-want +got):\n%s", diff)
	}
	line, ok := correlate.LineOf(bridge)
	if !ok || !strings.Contains(line.Text, "bridge finished") || line.Label("span_id") != s.ID.String() {
		t.Errorf("the line is %+v", line)
	}
}

func TestWhatHasNoSpanOrNoLine(t *testing.T) {
	for _, c := range []struct {
		name       string
		run        exporter.Run
		span, line bool
	}{
		{"a finished job has both", job(nil), true, true},
		{"a job that never ran has a line", job(func(r *exporter.Run) { r.Started = time.Time{} }), false, true},
		{"a job of an unknown pipeline has a line", job(func(r *exporter.Run) { r.Parent = exporter.RunID{} }), false, true},
		{"a run that is not finished has neither", pipeline(func(r *exporter.Run) { r.State = exporter.StateExecuting }), false, false},
		{"a run without any time has neither", job(func(r *exporter.Run) { r.Created, r.Started, r.Finished = time.Time{}, time.Time{}, time.Time{} }), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, span := correlate.SpanOf(c.run)
			_, line := correlate.LineOf(c.run)
			if span != c.span || line != c.line {
				t.Errorf("span %v, line %v; want %v, %v", span, line, c.span, c.line)
			}
		})
	}
}

func TestTheLineOfAJobThatNeverRanPointsToItsPipeline(t *testing.T) {
	l, _ := correlate.LineOf(job(func(r *exporter.Run) { r.Started, r.Duration, r.Name = time.Time{}, nil, "deploy\nprod" }))
	root := mustSpan(t, pipeline(nil))
	want := correlate.Line{
		Time: noon.Add(64 * time.Second), Labels: []correlate.Label{{"level", "error"}, {"owner", "group:default/payments"}, {"service_name", "checkout"}, {"source", "gitlab"}},
		Metadata: []correlate.Label{{"entity", "component:default/checkout"}, {"run_id", "42/job/5001"}, {"span_id", root.ID.String()}, {"system", "system:default/shop"}, {"trace_id", root.TraceID.String()}},
		Text:     `msg="job never ran" result=failure reason=script_failure pipeline=deploy task="deploy\nprod" ref_kind=default queued=2.5s url=https://gitlab.example.com/shop/checkout/-/jobs/5001`,
	}
	if d := cmp.Diff(want, l); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTheSameRunAlwaysGivesTheSameIDsAndOthersGiveOthers(t *testing.T) {
	seen := map[string]string{}
	property := func(project, pipeline, job uint16, host string) bool {
		r := job0(project, pipeline, job, host)
		a, _ := correlate.SpanOf(r)
		r.Owner, r.Name, r.Result = catalog.Ref{}, "renamed", exporter.ResultSuccess // nothing that can change is part of an id
		b, ok := correlate.SpanOf(r)
		id := a.TraceID.String() + a.ID.String()
		other, known := seen[id]
		seen[id] = r.ID.String() + r.Parent.String()
		return ok && a.TraceID == b.TraceID && a.ID == b.ID && a.Parent == b.Parent && (!known || other == seen[id])
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

func job0(project, pipeline, id uint16, host string) exporter.Run {
	return job(func(r *exporter.Run) {
		r.ID.Host, r.Parent.Host = host, host
		r.ID.Key, r.Parent.Key = fmt.Sprintf("%d/job/%d", project, id), fmt.Sprintf("%d/pipeline/%d", project, pipeline)
	})
}

// recorded answers with a recorded task of a real Backstage.
type recorded struct{ name string }

func (r recorded) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	name, list := r.name+".json", strings.Contains(path, "?")
	if strings.HasSuffix(path, "/events") {
		name = r.name + "-events.json"
	}
	b, err := os.ReadFile(filepath.Join("..", "exporter", "scaffolder", "testdata", name))
	if err != nil {
		return nil, err
	}
	if list {
		b = []byte(`{"tasks":[` + string(b) + `]}`)
	}
	return nil, json.Unmarshal(b, into)
}

type collected struct{ runs []exporter.Run }

func (c *collected) Commit(_ context.Context, b exporter.Batch) error {
	c.runs = append(c.runs, b.Runs...)
	return nil
}
func (c *collected) Position(string) (string, bool) { return "", false }

func (c *collected) Positions(string) map[string]string { return nil }

func TestARecordedScaffolderTaskBecomesATraceAndALog(t *testing.T) {
	for _, name := range []string{"task-ok", "task-failed", "task-cancelled"} {
		t.Run(name, func(t *testing.T) {
			source, err := scaffolder.New(recorded{name}, "http://portal.example.com:7007", func() time.Time { return noon })
			if err != nil {
				t.Fatal(err)
			}
			template := func(name string) *catalog.Entity {
				return &catalog.Entity{Ref: catalog.NewRef("template", "", name), Name: name, Owner: catalog.NewRef("group", "", "platform")}
			}
			g, _ := catalog.NewGraph([]*catalog.Entity{template("broken-template"), {Ref: catalog.NewRef("group", "", "platform"), Name: "platform"}}, catalog.Ref{})
			var got collected
			if err := source.Sync(t.Context(), g, &got); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, r := range got.runs {
				if s, ok := correlate.SpanOf(r); ok {
					fmt.Fprintf(&b, "span %s %s < %s  %s  %s +%s  %s\n  %s\n  %s\n", s.TraceID, s.ID, s.Parent, s.Name, s.Start.Format("15:04:05.000"), s.End.Sub(s.Start), s.Kind, attributes(s.Resource), attributes(s.Attributes))
				}
				if l, ok := correlate.LineOf(r); ok {
					fmt.Fprintf(&b, "line %s %v\n  %v\n  %s\n", l.Time.Format("15:04:05.000"), l.Labels, l.Metadata, l.Text)
				}
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("-update writes it anew (-want +got):\n%s", d)
			}
		})
	}
}
