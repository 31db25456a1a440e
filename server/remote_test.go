package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/remote"
)

// clock is a time that a test sets forward.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func (c *clock) forward(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func TestFiguresAndAlertsComeFromARemoteStoreAndStayWhenItIsDown(t *testing.T) {
	clock := newClock()
	e, err := engine.Open(engine.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const id = "component.default.checkout-availability"
	at := clock.now()
	if err := e.Append(t.Context(), []engine.Sample{
		{Labels: map[string]string{"__name__": "slo:period_error_budget_remaining:ratio", "sloth_id": id}, Value: 0.375, Time: at},
		{Labels: map[string]string{"__name__": "slo:sli_error:ratio_rate1h", "sloth_id": id}, Value: 0.002, Time: at},
	}); err != nil {
		t.Fatal(err)
	}
	if err := e.SetRules(map[string][]byte{"a": []byte(`groups: [{name: g, rules: [
		{alert: SLOErrorBudgetBurn, expr: vector(1), labels: {severity: page, sloth_id: ` + id + `, owner: "group:default/payments", entity: "component:default/checkout"}, annotations: {summary: "it burns"}},
		{alert: SomebodyElses, expr: vector(1)}]}]`)}); err != nil {
		t.Fatal(err)
	}
	if err := e.Evaluate(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		e.QueryHandler().ServeHTTP(w, r)
	}))
	defer store.Close()
	client, err := remote.New(remote.Options{URL: store.URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	down.Store(true)
	url, _, _ := run(t, Options{Path: dir, Remote: client, Now: clock.now, Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})

	expect := func(path string, code int, wants ...string) {
		t.Helper()
		got, body := get(t, url+path)
		if got != code {
			t.Errorf("%s: status %d, want %d: %.300s", path, got, code, body)
		}
		for _, want := range wants {
			if text, not := strings.CutPrefix(want, "!"); strings.Contains(body, text) == not {
				t.Errorf("%s: %q (a leading ! means: not) does not hold of %.3000s", path, want, body)
			}
		}
	}
	const slos, page = "/api/v1/entities/component/default/checkout/slos", "/entities/component/default/checkout"
	expect("/-/ready", 503, "not ready: the store does not answer", store.URL, "503", "check that the store runs")
	expect("/", 200, "Figures are missing", store.URL)
	expect(page, 200, "Figures are missing", "No charts")
	expect(slos, 200, `"budget_remaining": null`, `"store_error": "read alerts: ask the store at `+store.URL)
	expect("/metrics", 200, "sightline_store_up 0")

	down.Store(false)
	clock.forward(11 * time.Second)
	expect("/-/ready", 200, "ok")
	expect(slos, 200, `"budget_remaining": 0.375`, `"store_error": ""`, "it burns", `"status": "burning"`, "!SomebodyElses")
	expect("/", 200, "it burns", "37.5 %", "!SomebodyElses", "!Figures")
	expect("/metrics", 200, "sightline_store_up 1")

	last := clock.now().UTC().Format("15:04:05 UTC")
	down.Store(true)
	clock.forward(time.Hour)
	expect("/", 200, "Figures are of", last, "it burns", "37.5 %", store.URL)
	expect(page, 200, "37.5 %", "No charts")
	expect(slos, 200, `"budget_remaining": 0.375`, store.URL)
	expect("/-/ready", 200, "ok") // the last state is worth being shown

	expect("/api/v1/query?query=m", 404, "ask the store at "+store.URL)
	if _, err := os.Stat(filepath.Join(dir, "tsdb")); !os.IsNotExist(err) {
		t.Errorf("there is an embedded store: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "journal.db")); err != nil {
		t.Error(err)
	}
}
