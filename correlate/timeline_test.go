package correlate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
)

func events(list []correlate.Event) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%s %s %s %s bad=%v\n", e.Time.Format("15:04:05"), e.Kind, e.Title, e.Outcome, e.Bad)
	}
	return b.String()
}

func logged(at time.Time, text string, labels ...string) correlate.Line {
	l := correlate.Line{Time: at, Text: text, Labels: []correlate.Label{{Name: "level", Value: "error"}}}
	for i := 0; i < len(labels); i += 2 {
		l.Labels = append(l.Labels, correlate.Label{Name: labels[i], Value: labels[i+1]})
	}
	return l
}

func TestATimelineSaysWhatHappenedNewestFirst(t *testing.T) {
	minute := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	root := mustSpan(t, pipeline(nil))
	burn := correlate.AlertSpan{Name: "SLOErrorBudgetBurn", Indicator: "availability", Severity: "page", Start: minute(10), End: minute(20)}
	for _, c := range []struct {
		name     string
		material correlate.Material
		want     string
	}{
		{"nothing", correlate.Material{}, ""},
		{"a pipeline by its finish", correlate.Material{Runs: []exporter.Run{pipeline(nil)}}, "12:01:04 run deploy failure bad=true\n"},
		{"one that is under way by its start", correlate.Material{Runs: []exporter.Run{pipeline(func(r *exporter.Run) {
			r.State, r.Result, r.Finished = exporter.StateExecuting, "", time.Time{}
		})}}, "12:00:03 run deploy executing bad=false\n"},
		{"an alert that began and ended", correlate.Material{Alerts: []correlate.AlertSpan{burn}}, "12:20:00 alert_ended SLOErrorBudgetBurn (availability) page bad=false\n12:10:00 alert_started SLOErrorBudgetBurn (availability) page bad=true\n"},
		{"an alert that still fires", correlate.Material{Alerts: []correlate.AlertSpan{{Name: "Slow", Severity: "ticket", Start: minute(5)}}}, "12:05:00 alert_started Slow ticket bad=true\n"},
		{"an alert that began before the range", correlate.Material{Alerts: []correlate.AlertSpan{{Name: "Slow", Severity: "ticket", End: minute(5)}}}, "12:05:00 alert_ended Slow ticket bad=false\n"},
		{"the line and the trace of a run only as the run", correlate.Material{
			Runs: []exporter.Run{pipeline(nil)}, Lines: []correlate.Line{logged(minute(1), "pipeline finished", "run_id", pipeline(nil).ID.Key)}, Traces: []correlate.TraceSummary{{ID: root.TraceID, Start: noon}},
		}, "12:01:04 run deploy failure bad=true\n"},
		{"the line of a run that the journal has forgotten", correlate.Material{Lines: []correlate.Line{logged(minute(1), "pipeline finished", "run_id", "1/pipeline/1")}}, "12:01:00 log pipeline finished error bad=true\n"},
		{"lines and traces of the application", correlate.Material{Lines: []correlate.Line{logged(minute(2), "boom")}, Traces: []correlate.TraceSummary{{ID: trace.TraceID{9}, Service: "checkout", Name: "POST /pay", Start: minute(1), Failed: true}}}, "12:02:00 log boom error bad=true\n12:01:00 trace checkout POST /pay error bad=true\n"},
		{"nothing of before the range or from its end on", correlate.Material{Lines: []correlate.Line{logged(noon.Add(-1), "early"), logged(minute(60), "late"), logged(noon, "first")}}, "12:00:00 log first error bad=true\n"},
		{"the same thing once", correlate.Material{Lines: []correlate.Line{logged(noon, "boom"), logged(noon, "boom")}}, "12:00:00 log boom error bad=true\n"},
		{"things of one time by their kind", correlate.Material{Lines: []correlate.Line{logged(minute(10), "b"), logged(minute(10), "a")}, Alerts: []correlate.AlertSpan{burn}}, "12:20:00 alert_ended SLOErrorBudgetBurn (availability) page bad=false\n12:10:00 alert_started SLOErrorBudgetBurn (availability) page bad=true\n12:10:00 log a error bad=true\n12:10:00 log b error bad=true\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, events(correlate.Timeline(noon, minute(60), c.material))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAnEventCarriesWhatLeadsOn(t *testing.T) {
	root := mustSpan(t, pipeline(nil))
	got := correlate.Timeline(noon, noon.Add(time.Hour), correlate.Material{Runs: []exporter.Run{pipeline(nil)}})
	want := []correlate.Event{{
		Time: noon.Add(64 * time.Second), Kind: correlate.KindRun, Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"),
		Title: "deploy", Outcome: "failure", Bad: true, Detail: "script_failure", TraceID: root.TraceID.String(), URL: "https://gitlab.example.com/shop/checkout/-/jobs/5001", Duration: 61 * time.Second,
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTheOrderOfTheMaterialDoesNotMatter(t *testing.T) {
	var m correlate.Material
	for i := range 40 {
		at := noon.Add(time.Duration(i/4) * time.Minute)
		m.Lines = append(m.Lines, logged(at, fmt.Sprint("line ", i%3)))
		m.Alerts = append(m.Alerts, correlate.AlertSpan{Name: fmt.Sprint("alert ", i%2), Start: at, End: at.Add(time.Minute)})
		m.Traces = append(m.Traces, correlate.TraceSummary{ID: trace.TraceID{byte(i + 1)}, Start: at})
		m.Runs = append(m.Runs, pipeline(func(r *exporter.Run) { r.ID.Key, r.Finished = fmt.Sprintf("42/pipeline/%d", i), at }))
	}
	want := correlate.Timeline(noon, noon.Add(time.Hour), m)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		o := correlate.Material{Runs: slices.Clone(m.Runs), Alerts: slices.Clone(m.Alerts), Lines: slices.Clone(m.Lines), Traces: slices.Clone(m.Traces)}
		r.Shuffle(len(o.Runs), func(i, j int) { o.Runs[i], o.Runs[j] = o.Runs[j], o.Runs[i] })
		r.Shuffle(len(o.Alerts), func(i, j int) { o.Alerts[i], o.Alerts[j] = o.Alerts[j], o.Alerts[i] })
		r.Shuffle(len(o.Lines), func(i, j int) { o.Lines[i], o.Lines[j] = o.Lines[j], o.Lines[i] })
		r.Shuffle(len(o.Traces), func(i, j int) { o.Traces[i], o.Traces[j] = o.Traces[j], o.Traces[i] })
		if d := cmp.Diff(want, correlate.Timeline(noon, noon.Add(time.Hour), o)); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	}
}
