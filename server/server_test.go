package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

// compile makes what a catalog of one component with the given owner comes to.
func compile(ctx context.Context, owner string) (*Compiled, error) {
	group := func(name string) *catalog.Entity {
		return &catalog.Entity{Ref: catalog.NewRef("group", "", name), Name: name, Annotations: map[string]string{catalog.Prefix + "receiver.slack": "#" + name}}
	}
	g, _ := catalog.NewGraph([]*catalog.Entity{group("payments"), group("ledger"), {
		Ref: catalog.NewRef("component", "", "checkout"), Name: "checkout", Type: "service", Lifecycle: "production",
		Owner: catalog.NewRef("group", "", owner), Annotations: map[string]string{catalog.Prefix + "objective.availability": "99.9"},
	}}, catalog.Ref{})
	lib, err := slo.LoadLibrary()
	if err != nil {
		return nil, err
	}
	p, objectives, err := plan.Compile(ctx, g, lib, nil, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
	return &Compiled{g, objectives, p}, err
}

// run starts a server and gives its base URL and a function that stops it.
func run(t *testing.T, o Options) (url string, s *Server, stop func()) {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return s.URL(), s, stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAServerAnswersOnEveryDoor(t *testing.T) {
	url, _, _ := run(t, Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	for path, want := range map[string]string{
		"/-/healthy":     "ok",
		"/-/ready":       "ok",
		"/metrics":       `sightline_entity_info{domain="",entity="component:default/checkout"`,
		"/api/v1/owners": "group:default/payments",
		"/api/v1/entities/component/default/checkout/slos": "component.default.checkout-availability",
		"/api/v1/problems":                     "items",
		"/api/v1/rules":                        "sightline-slo-fast-component.default.checkout-availability",
		"/api/v1/query?query=vector(1)":        `"status":"success"`,
		"/":                                    "Payments",
		"/entities/component/default/checkout": "availability",
	} {
		code, body := get(t, url+path)
		if code != http.StatusOK || !strings.Contains(strings.ToLower(body), strings.ToLower(want)) {
			t.Errorf("%s: status %d, %q is not in %.400s", path, code, want, body)
		}
	}
	if code, _ := get(t, url+"/api/v1/entities/component/default/nothing"); code != http.StatusNotFound {
		t.Errorf("an unknown entity: status %d, want 404", code)
	}
}

func TestAReloadNamesWhatWaitsForARestart(t *testing.T) {
	url, _, _ := run(t, Options{
		Path: t.TempDir(), Waiting: func() []string { return []string{"store", "server"} },
		Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
	})
	res, err := http.Post(url+"/-/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ok\nchanged, and taken over by a restart only: store, server\n"; string(body) != want {
		t.Errorf("got the answer %q, want %q", body, want)
	}
}

func TestAListenerInUseIsNamedWithAHint(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = New(t.Context(), Options{
		Path: t.TempDir(), Listen: taken.Addr().String(),
		Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
	})
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(hintOf(err), "another process has this port") {
		t.Errorf("got %v with the hint %q, want the address and what to do", err, hintOf(err))
	}
}

func TestABadReloadLeavesTheOldConfigurationRunning(t *testing.T) {
	var owner atomic.Value
	owner.Store("payments")
	url, s, _ := run(t, Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) {
		if owner.Load() == "" {
			return nil, errors.New("the catalog is empty")
		}
		return compile(ctx, owner.Load().(string))
	}})
	owner.Store("")
	if err := s.Reload(t.Context()); err == nil {
		t.Error("a bad reload was taken over")
	}
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, "sightline_config_last_reload_successful 0") || !strings.Contains(body, `owner="group:default/payments"`) {
		t.Error("after a bad reload the metrics do not show the old catalog and the failure")
	}
	owner.Store("ledger")
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, "sightline_config_last_reload_successful 1") || !strings.Contains(body, `owner="group:default/ledger"`) {
		t.Error("after a good reload the metrics do not show the new catalog")
	}
}

// runs is a source of one pipeline, which it finds anew at each Sync, as after a crash before its cursor was stored.
type runs struct{ synced chan struct{} }

func (runs) Name() string { return "gitlab" }
func (runs) Host() string { return "gitlab.test" }

func (r runs) Sync(ctx context.Context, _ *catalog.Graph, to exporter.Sink) error {
	finished := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	err := to.Commit(ctx, exporter.Batch{Cursor: "c", Position: "1", Runs: []exporter.Run{{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.test", Key: "1/pipeline/1"}, Level: exporter.LevelPipeline, Entity: catalog.NewRef("component", "", "checkout"),
		Pipeline: "checkout", Name: "checkout", RefKind: "default", Created: finished, Finished: finished, State: exporter.StateFinished,
		Result: exporter.ResultSuccess, Attempt: exporter.AttemptFirst,
	}}})
	select {
	case r.synced <- struct{}{}:
	default:
	}
	return err
}

func TestARunIsCountedOnceAcrossRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when", "missing")
	for range 3 {
		source := runs{make(chan struct{}, 1)}
		url, _, stop := run(t, Options{Path: dir, Sources: []Source{{Source: source, Poll: time.Hour}}, Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
		<-source.synced
		_, body := get(t, url+"/metrics")
		found := ""
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "cicd_pipeline_runs_total{") && strings.Contains(line, `attempt="first"`) && strings.Contains(line, `result="success"`) {
				found = strings.TrimSpace(line)
			}
		}
		if !strings.HasSuffix(found, " 1") {
			t.Errorf("got %q, want a count of 1", found)
		}
		stop()
	}
}

func TestAnOpenListenerBeyondLoopbackIsRefused(t *testing.T) {
	_, err := New(t.Context(), Options{Listen: "0.0.0.0:0", Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	if err == nil {
		t.Fatal("an open listener started without authentication")
	}
}
