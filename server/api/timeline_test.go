package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
)

var (
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	payments = catalog.NewRef("group", "", "payments")
	checkout = catalog.NewRef("component", "", "checkout")
)

// happening is a State in which something happened at checkout within the last hour.
type happening struct {
	State
	graph                       *catalog.Graph
	queries                     []string
	lineQueries                 []correlate.LineQuery
	traceQueries                []correlate.TraceQuery
	storeErr, logsErr, traceErr error
	silent                      bool // the log store never answers
}

func newHappening() *happening {
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: payments, Name: "payments"}, {Ref: checkout, Name: "checkout", Owner: payments, Annotations: map[string]string{"backstage.io/kubernetes-id": "shop.checkout"}}}, catalog.Ref{})
	return &happening{graph: g}
}

func (h *happening) Graph() *catalog.Graph                   { return h.graph }
func (h *happening) Objectives() []Objective                 { return nil }
func (h *happening) Problems() []catalog.Problem             { return nil }
func (h *happening) Alerts(context.Context) ([]Alert, error) { return nil, nil }
func (h *happening) Querier() engine.Querier                 { return h }
func (h *happening) Logs() correlate.LogStore                { return h }
func (h *happening) Traces() correlate.TraceStore            { return h }
func (h *happening) Trace(context.Context, trace.TraceID) (correlate.Trace, error) {
	return correlate.Trace{}, correlate.ErrNoTrace
}

func (h *happening) Runs(ref catalog.Ref, _ int) []exporter.Run {
	if ref != checkout {
		return nil
	}
	return []exporter.Run{{ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/1"}, Level: exporter.LevelPipeline, Entity: checkout, Owner: payments, Name: "deploy", State: exporter.StateFinished, Result: exporter.ResultFailure, Finished: noon.Add(-50 * time.Minute)}}
}

func (h *happening) Query(context.Context, string, time.Time) ([]engine.Sample, error) {
	return nil, nil
}

func (h *happening) QueryRange(_ context.Context, expr string, from, to time.Time, step time.Duration) ([]engine.Series, error) {
	h.queries = append(h.queries, expr)
	s := engine.Series{Labels: map[string]string{"alertname": "SLOErrorBudgetBurn", "severity": "page", "sloth_slo": "availability", "entity": checkout.String(), "owner": payments.String()}}
	for t := from; !t.After(to); t = t.Add(step) { // it fires from 12:00-40m to -30m, and again from -5m on
		if d := t.Sub(noon); d >= -40*time.Minute && d < -30*time.Minute || d >= -5*time.Minute {
			s.Points = append(s.Points, engine.Point{Time: t, Value: 1})
		}
	}
	return []engine.Series{s}, h.storeErr
}

func (h *happening) Lines(ctx context.Context, q correlate.LineQuery) (correlate.LineList, error) {
	if h.silent {
		<-ctx.Done()
		return correlate.LineList{}, fmt.Errorf("read log lines: %w", ctx.Err())
	}
	h.lineQueries = append(h.lineQueries, q)
	return correlate.LineList{Items: []correlate.Line{{Time: noon.Add(-3 * time.Minute), Text: "<script>boom</script>", Labels: []correlate.Label{{Name: "detected_level", Value: "error"}}}}, Partial: "only the newest 1 lines are read"}, h.logsErr
}

func (h *happening) Search(_ context.Context, q correlate.TraceQuery) (correlate.TraceList, error) {
	h.traceQueries = append(h.traceQueries, q)
	return correlate.TraceList{Items: []correlate.TraceSummary{{ID: trace.TraceID{1}, Service: "checkout", Name: "POST /pay", Start: noon.Add(-4 * time.Minute), Failed: true}}}, h.traceErr
}

func timeline(t *testing.T, h *happening, path string) (events, missing string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(NewReader(h, func() time.Time { return noon })).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/"+path, nil).WithContext(t.Context()))
	var got Timeline
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
	}
	var b strings.Builder
	for _, e := range got.Items {
		fmt.Fprintf(&b, "%s %s %s %s\n", e.Time.Format("15:04"), e.Kind, e.Title, e.Outcome)
	}
	for _, m := range got.Missing {
		missing += m.Source + ": " + m.Reason + "\n"
	}
	return b.String(), missing
}

const (
	alertEvents = "11:55 alert_started SLOErrorBudgetBurn (availability) page\n11:30 alert_ended SLOErrorBudgetBurn (availability) page\n11:20 alert_started SLOErrorBudgetBurn (availability) page\n"
	lineEvent   = "11:57 log <script>boom</script> error\n"
	traceEvent  = "11:56 trace checkout POST /pay error\n"
	runEvent    = "11:10 run deploy failure\n"
	hour        = "/timeline?from=2026-03-01T11:00:00Z"
)

func TestATimelineJoinsWhatAllStoresHave(t *testing.T) {
	for _, path := range []string{"entities/component/default/checkout", "owners/group/default/payments"} {
		t.Run(path, func(t *testing.T) {
			events, missing := timeline(t, newHappening(), path+hour)
			if d := cmp.Diff(lineEvent+traceEvent+alertEvents+runEvent, events); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if missing != "logs: only the newest 1 lines are read\n" {
				t.Errorf("missing %q", missing)
			}
			if events, _ := timeline(t, newHappening(), path+hour+"&limit=1"); events != lineEvent {
				t.Errorf("the newest is %q", events)
			}
		})
	}
}

func TestAnAlertThatHasJustBegunIsSeenInALongRange(t *testing.T) {
	events, _ := timeline(t, newHappening(), "entities/component/default/checkout/timeline?from=2026-02-20T12:00:07Z")
	if want := "11:59 alert_started SLOErrorBudgetBurn (availability) page\n"; !strings.HasPrefix(events, want) {
		t.Errorf("%s\nwant %s", events, want)
	}
}

func TestAStoreThatFailsLeavesTheOthersAndIsNamed(t *testing.T) {
	away := errors.New("connection refused")
	for _, c := range []struct {
		name            string
		change          func(*happening)
		events, missing string
	}{
		{"Prometheus", func(h *happening) { h.storeErr = away }, lineEvent + traceEvent + runEvent, "alerts: read when alerts fired: connection refused\nlogs: only the newest 1 lines are read\n"},
		{"Loki", func(h *happening) { h.logsErr = away }, lineEvent + traceEvent + alertEvents + runEvent, "logs: connection refused\n"},
		{"the trace store", func(h *happening) { h.traceErr = away }, lineEvent + traceEvent + alertEvents + runEvent, "logs: only the newest 1 lines are read\ntraces: connection refused\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHappening()
			c.change(h)
			events, missing := timeline(t, h, "entities/component/default/checkout"+hour)
			if d := cmp.Diff(c.events+c.missing, events+missing); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestALogStoreThatNeverAnswersDoesNotHoldTheTimelineBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHappening()
		h.silent = true
		began := time.Now()
		events, missing := timeline(t, h, "entities/component/default/checkout"+hour)
		if d := cmp.Diff(traceEvent+alertEvents+runEvent+"logs: no answer within 8s\n", events+missing); d != "" || time.Since(began) > timelineLimit {
			t.Errorf("after %s (-want +got):\n%s", time.Since(began), d)
		}
	})
}

func TestWhatTheStoresAreAsked(t *testing.T) {
	h := newHappening()
	timeline(t, h, "entities/component/default/checkout"+hour)
	timeline(t, h, "owners/group/default/payments"+hour)
	from := noon.Add(-time.Hour)
	level := correlate.OneOf("detected_level", "error", "critical", "fatal")
	if d := cmp.Diff([]correlate.LineQuery{
		{Index: []correlate.Matcher{correlate.OneOf("service_name", "checkout", "shop.checkout")}, Filter: []correlate.Matcher{level, correlate.OneOf("entity", "component:default/checkout", "")}, From: from, To: noon, Limit: 200},
		{Index: []correlate.Matcher{correlate.Equal("owner", "group:default/payments")}, Filter: []correlate.Matcher{level}, From: from, To: noon, Limit: 200},
	}, h.lineQueries); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]correlate.TraceQuery{
		{Entity: checkout, From: from, To: noon, Failed: true, Limit: 50}, {Owner: payments, From: from, To: noon, Failed: true, Limit: 50},
	}, h.traceQueries); d != "" {
		t.Errorf("traces (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{
		`max by (alertname, severity, sloth_slo, entity, owner) (ALERTS{alertstate="firing",entity="component:default/checkout"})`,
		`max by (alertname, severity, sloth_slo, entity, owner) (ALERTS{alertstate="firing",owner="group:default/payments"})`,
	}, h.queries); d != "" {
		t.Errorf("alerts (-want +got):\n%s", d)
	}
}
