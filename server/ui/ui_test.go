package ui

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/server/api"
)

type fakeState struct {
	graph      *catalog.Graph
	objectives []api.Objective
	querier    engine.Querier
	logs       correlate.LogStore
}

func (f fakeState) Graph() *catalog.Graph                       { return f.graph }
func (f fakeState) Objectives() []api.Objective                 { return f.objectives }
func (f fakeState) Problems() []catalog.Problem                 { return nil }
func (f fakeState) Querier() engine.Querier                     { return f.querier }
func (f fakeState) Alerts(context.Context) ([]api.Alert, error) { return nil, nil }
func (f fakeState) Runs(catalog.Ref, int) []exporter.Run        { return nil }
func (f fakeState) Logs() correlate.LogStore                    { return f.logs }
func (f fakeState) Traces() correlate.TraceStore                { return nil }
func (f fakeState) Sources() []api.SourceStatus {
	return []api.SourceStatus{{Name: "gitlab", Host: "gitlab.example.com"}}
}
func (f fakeState) Notices() []string { return nil }
func (f fakeState) Simulated() bool   { return true }
func (f fakeState) Version() string   { return "test" }

type fakeStore struct{ value float64 }

func (s fakeStore) Query(_ context.Context, expr string, at time.Time) ([]engine.Sample, error) {
	v := s.value
	if strings.Contains(expr, "figure") {
		var out []engine.Sample
		for figure, value := range map[string]float64{"deployments": 1.5, "lead": 3 * 86400, "failed": 0.125, "rework": math.NaN()} {
			out = append(out, engine.Sample{Labels: map[string]string{"figure": figure}, Value: value, Time: at})
		}
		return out, nil
	}
	if strings.Contains(expr, "ratio_rate") {
		v = 0.002
	}
	return []engine.Sample{{Labels: map[string]string{"sloth_id": "id"}, Value: v, Time: at}}, nil
}

func (s fakeStore) QueryRange(_ context.Context, _ string, from, to time.Time, step time.Duration) ([]engine.Series, error) {
	one := engine.Series{Labels: map[string]string{"sloth_id": "id"}}
	for t := from; !t.After(to); t = t.Add(step) {
		one.Points = append(one.Points, engine.Point{Time: t, Value: 1 - (1-s.value)*float64(t.Sub(from))/float64(to.Sub(from))})
	}
	return []engine.Series{one}, nil
}

func platform(value float64) fakeState {
	team, shop := catalog.NewRef("group", "", "payments"), catalog.NewRef("component", "", "checkout")
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: team, Name: "payments", Title: `<script>alert(1)</script>`}, {Ref: shop, Name: "checkout", Owner: team}}, catalog.Ref{})
	return fakeState{graph: g, objectives: []api.Objective{{ID: "id", Entity: shop, Owner: team, Indicator: "availability", Target: "99.9", Window: "30d", Length: 720 * time.Hour}}, querier: fakeStore{value}}
}

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func reader(s api.State) *api.Reader { return api.NewReader(s, func() time.Time { return now }) }

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestEveryPageAnswersWithAndWithoutData(t *testing.T) {
	empty, _ := catalog.NewGraph(nil, catalog.Ref{})
	for name, c := range map[string]struct {
		state api.State
		want  map[string]int
	}{
		"a platform": {platform(0.4), map[string]int{
			"/": 200, "/owners/group/default/payments": 200, "/entities/component/default/checkout": 200, "/problems": 200, "/static/style.css": 200, "/nothing": 404,
			"/owners?ref=group:default/payments": 302, "/entities?ref=checkout": 302, "/entities?ref=": 400,
		}},
		"nothing": {fakeState{graph: empty}, map[string]int{"/": 200, "/owners/group/default/payments": 404, "/entities/component/default/checkout": 404, "/problems": 200, "/?page=-3&q=%00": 200}},
	} {
		h := New(reader(c.state), Options{})
		for path, want := range c.want {
			w := get(h, path)
			if w.Code != want || w.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("%s: %s: status %d, want %d: %s", name, path, w.Code, want, w.Body)
			}
			if strings.Contains(w.Body.String(), "<script") {
				t.Errorf("%s: %s: a hostile title is not escaped", name, path)
			}
			if dir := os.Getenv("SIGHTLINE_PREVIEW"); dir != "" { // for looking at pages
				os.WriteFile(filepath.Join(dir, name+strings.ReplaceAll(path, "/", "_")+".html"), w.Body.Bytes(), 0o644)
			}
		}
	}
}

func TestAReferenceLeadsToItsPage(t *testing.T) {
	h := New(reader(platform(1)), Options{})
	for from, want := range map[string]string{
		"/owners?ref=group:default/payments":       "/owners/group/default/payments",
		"/owners?ref=payments":                     "/owners/group/default/payments",
		"/entities?ref=component:default/checkout": "/entities/component/default/checkout",
		"/entities?ref=api:shop/a%3Fb":             "/entities/api/shop/a%3Fb",
	} {
		if got := get(h, from).Header().Get("Location"); got != want {
			t.Errorf("%s leads to %q, want %q", from, got, want)
		}
	}
}

func TestLoginSetsTheCookieOnlyForAGoodTokenAndStaysOnThisServer(t *testing.T) {
	h := New(reader(platform(1)), Options{Cookie: "c", Check: func(_ context.Context, token string) error {
		if token != "good" {
			return errors.New("refused")
		}
		return nil
	}})
	for token, want := range map[string]int{"good": 303, "bad": 401} {
		r := httptest.NewRequest("POST", "/login", strings.NewReader("token="+token+"&to=//evil.example"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || (w.Header().Get("Set-Cookie") != "") != (want == 303) || want == 303 && w.Header().Get("Location") != "/" {
			t.Errorf("token %s: %d %v", token, w.Code, w.Header())
		}
	}
}

func TestTheAPIGivesFiguresAndNullForWhatDoesNotExist(t *testing.T) {
	for value, want := range map[float64]string{0.4: `"budget_remaining": 0.4`, -1.5: `"status": "breaching"`, math.NaN(): `"budget_remaining": null`} {
		h := api.New(reader(platform(value)))
		for _, path := range []string{"/api/v1/owners", "/api/v1/owners/group/default/payments", "/api/v1/entities/component/default/checkout", "/api/v1/problems", "/api/v1/openapi.json", "/api/v1/entities/component/default/checkout/slos"} {
			w := get(h, path)
			if w.Code != 200 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
			if strings.HasSuffix(path, "/slos") && !strings.Contains(w.Body.String(), want) {
				t.Errorf("%v: no %s in %s", value, want, w.Body)
			}
		}
	}
	w := get(api.New(reader(platform(1))), "/api/v1/entities/component/default/chekout")
	if w.Code != 404 || !strings.Contains(w.Body.String(), "component:default/checkout?") {
		t.Errorf("no hint: %d %s", w.Code, w.Body)
	}
}

func TestPagesShowHowChangesGetToProduction(t *testing.T) {
	h := New(reader(platform(0.5)), Options{})
	for _, path := range []string{"/owners/group/default/payments", "/entities/component/default/checkout"} {
		body := get(h, path).Body.String()
		for _, want := range []string{
			"Delivery, 30 days", "Deployments per day</dt><dd>1.50</dd>", "Lead time, median</dt><dd>3.0 d</dd>", "Change fail rate</dt><dd>12.5 %</dd>",
			"Recovery, median</dt><dd>–</dd>", "Rework rate</dt><dd>–</dd>",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not hold %q", path, want)
			}
		}
	}
}

// hostile is a log store whose one line is a script; the rest of what it has is missing.
type hostile struct{}

func (hostile) Lines(context.Context, correlate.LineQuery) (correlate.LineList, error) {
	return correlate.LineList{Items: []correlate.Line{{Time: now.Add(-time.Minute), Text: `<img src=x onerror=alert(1)>`, Labels: []correlate.Label{{Name: "level", Value: "error"}, {Name: "trace_id", Value: `"><script>`}}}}, Partial: "<b>only one</b>"}, nil
}

func TestWhatHappenedIsShownAndNothingOfItIsMarkup(t *testing.T) {
	s := platform(0.5)
	s.logs = hostile{}
	body := get(New(reader(s), Options{}), "/entities/component/default/checkout").Body.String()
	for _, want := range []string{"What happened", "2026-01-31 11:59:00", "&lt;img src=x onerror=alert(1)&gt;", "Incomplete: logs: &lt;b&gt;only one"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	if strings.Contains(body, "<img src=x") || strings.Contains(body, "<b>only") || strings.Contains(body, `"><script>`) {
		t.Error("text of a log line is markup")
	}
}
