package joblog_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/joblog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
)

const taskID = "24dbe545-33ae-4a37-82d9-fb01b88474de"

// A backstage answers for the events of one task.
type backstage struct{ events []map[string]any }

func (b *backstage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/scaffolder/v2/tasks/"+taskID+"/events" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"message":"no task"}}`)
		return
	}
	_ = json.NewEncoder(w).Encode(b.events)
}

func (b *backstage) say(at, step, status, message string) {
	b.events = append(b.events, map[string]any{"id": 1000 + len(b.events), "type": "log", "createdAt": at, "body": map[string]any{"message": message, "stepId": step, "status": status}})
}

func recorded(t *testing.T) *backstage {
	t.Helper()
	raw, err := os.ReadFile("testdata/task-failed-events.json")
	if err != nil {
		t.Fatal(err)
	}
	b := &backstage{}
	if err := json.Unmarshal(raw, &b.events); err != nil {
		t.Fatal(err)
	}
	return b
}

func scaffolderSink(t *testing.T, b *backstage, limit int, s *store) *joblog.LineSink {
	t.Helper()
	return scaffolderLogs(t, b, limit).LinesTo(s)
}

func scaffolderLogs(t *testing.T, b *backstage, limit int) *joblog.Logs {
	t.Helper()
	tasks, err := scaffolder.New(client(t, b), "http://127.0.0.1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	m, err := correlate.NewMask(nil)
	if err != nil {
		t.Fatal(err)
	}
	return joblog.New(joblog.Options{Readers: []joblog.Reader{joblog.NewScaffolder(tasks, limit, m)}})
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func failedTask(change func(*exporter.Run)) exporter.Run {
	r := exporter.Run{
		ID: exporter.RunID{Source: "scaffolder", Host: "127.0.0.1", Key: taskID}, Level: exporter.LevelPipeline, State: exporter.StateFinished, Result: exporter.ResultFailure,
		Attempt: exporter.AttemptFirst, Entity: catalog.NewRef("template", "", "service"), Owner: catalog.NewRef("group", "", "platform"), Pipeline: "service", Name: "service",
		Started: at("2026-11-22T19:21:10.668Z"), Finished: at("2026-11-22T19:21:10.739Z"),
	}
	if change != nil {
		change(&r)
	}
	return r
}

func stepSpan(key string) string {
	task := failedTask(nil)
	s, _ := correlate.SpanOf(exporter.Run{ID: exporter.RunID{Source: "scaffolder", Host: "127.0.0.1", Key: key}, Parent: task.ID, Level: exporter.LevelTask, State: exporter.StateFinished, Started: task.Started})
	return s.ID.String()
}

func metadata(l correlate.Line, name string) string {
	for _, m := range l.Metadata {
		if m.Name == name {
			return m.Value
		}
	}
	return ""
}

func TestTheLogOfAFailedTaskHasItsStepsAsSections(t *testing.T) {
	b := recorded(t)
	b.events[2]["body"].(map[string]any)["message"] = "\x1b[32minfo\x1b[39m: pushing with token=glpat-AbCdEfGhIjKlMnOpQrSt"
	var s store
	sink := scaffolderSink(t, b, 1<<20, &s)
	task := failedTask(nil)
	if !sink.Wants(&task) {
		t.Fatal("a failed task has no log")
	}
	ok := failedTask(func(r *exporter.Run) { r.Result = exporter.ResultSuccess })
	step := failedTask(func(r *exporter.Run) { r.Parent, r.ID.Key, r.Level = r.ID, taskID+"/step/rename", exporter.LevelTask })
	other := failedTask(func(r *exporter.Run) { r.ID.Host = "other.example.com" })
	if sink.Wants(&ok) || sink.Wants(&step) || sink.Wants(&other) {
		t.Error("logs are wanted of a task that succeeded, of a step, or of another Backstage")
	}
	if _, err := sink.Send(t.Context(), []exporter.Run{task, failedTask(func(r *exporter.Run) { r.ID.Key = "gone" })}); err != nil {
		t.Fatal(err)
	}
	span, _ := correlate.SpanOf(task)
	hello, rename := stepSpan(taskID+"/step/hello"), stepSpan(taskID+"/step/rename")
	var got, want []string
	for _, l := range s.lines {
		text, _, _ := strings.Cut(l.Text, " /srv")
		got = append(got, strings.Join([]string{l.Time.Format("05.000"), metadata(l, "section"), metadata(l, "span_id"), text}, "|"))
		if metadata(l, "trace_id") != span.TraceID.String() || metadata(l, "run_id") != taskID || metadata(l, "task") != "" || !slices.Contains(l.Labels, correlate.Label{Name: "kind", Value: correlate.JobLogKind}) {
			t.Errorf("a line is %+v", l)
		}
	}
	for _, w := range [][3]string{
		{"10.668||", span.ID.String(), "Starting up task with 3 steps"},
		{"10.673|hello|", hello, "Beginning step Say hello"},
		{"10.678|hello|", hello, "info: pushing with token=[MASKED]"},
		{"10.680|hello|", hello, "info: {"},
		{"10.680|hello|", hello, `  "message": "about to fail for x"`},
		{"10.680|hello|", hello, "}"},
		{"10.685|hello|", hello, "Finished step Say hello"},
		{"10.704|rename|", rename, "Beginning step Rename missing file"},
		{"10.723|rename|", rename, "error: Failed to rename file"},
		{"10.724|rename|", rename, "Error: ENOENT: no such file or directory, lstat '/srv/tmp/" + taskID + "/nope.txt'"},
		{"10.726||", span.ID.String(), "Skipping step never because a previous step failed"},
	} {
		want = append(want, w[0]+w[1]+"|"+w[2])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
	if scaffolderLogs(t, b, 0).SectionsTo(&s).Wants(&task) {
		t.Error("sections are wanted: the spans of steps would stand there twice")
	}
}

func TestARetrySendsTheLinesOfItsOwnAttempt(t *testing.T) {
	b := recorded(t)
	b.say("2026-11-22T20:00:00Z", "", "", "Starting up task with 1 steps")
	b.say("2026-11-22T20:00:01Z", "rename", "processing", "Beginning step Rename missing file")
	b.say("2026-11-22T20:00:02Z", "rename", "failed", "Error: again")
	var s store
	again := failedTask(func(r *exporter.Run) {
		r.Attempt, r.Started, r.Finished = exporter.AttemptRerun, at("2026-11-22T20:00:00Z"), at("2026-11-22T20:00:02Z")
	})
	if _, err := scaffolderSink(t, b, 1<<20, &s).Send(t.Context(), []exporter.Run{again}); err != nil {
		t.Fatal(err)
	}
	span, _ := correlate.SpanOf(again)
	rename := stepSpan(taskID + "/step/rename/retry/1010")
	want := []string{span.ID.String() + " Starting up task with 1 steps", rename + " Beginning step Rename missing file", rename + " Error: again"}
	var got []string
	for _, l := range s.lines {
		got = append(got, metadata(l, "span_id")+" "+l.Text)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestOfALongTaskLogTheBeginningAndTheEndAreKept(t *testing.T) {
	b := &backstage{}
	b.say("2026-11-22T19:21:10.668Z", "", "", "Starting up task with 1 steps")
	b.say("2026-11-22T19:21:10.700Z", "fetch", "processing", "Beginning step Fetch")
	for i := range 1000 {
		b.say("2026-11-22T19:21:10.710Z", "fetch", "", fmt.Sprint("line ", i))
	}
	var s store
	if _, err := scaffolderSink(t, b, 1000, &s).Send(t.Context(), []exporter.Run{failedTask(nil)}); err != nil {
		t.Fatal(err)
	}
	size, omitted := 0, 0
	for i, l := range s.lines {
		size += len(l.Text) + 1
		if strings.HasSuffix(l.Text, "bytes of this log are left out]") {
			omitted++
		}
		if i > 0 && !l.Time.After(s.lines[i-1].Time) {
			t.Fatalf("line %d is not after the one before it", i)
		}
	}
	if size < 900 || size > 1100 || omitted != 1 || s.lines[0].Text != "Starting up task with 1 steps" || s.lines[len(s.lines)-1].Text != "line 999" {
		t.Errorf("%d bytes from %q to %q, %d notes", size, s.lines[0].Text, s.lines[len(s.lines)-1].Text, omitted)
	}
}
