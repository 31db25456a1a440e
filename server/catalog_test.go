package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/backstage"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// load gives a Compile that reads a Backstage at a URL.
func load(t *testing.T, url func() string) func(context.Context) (*Compiled, error) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (*Compiled, error) {
		c, err := upstream.New(upstream.Options{BaseURL: url(), TokenFile: token, Tries: 1})
		if err != nil {
			return nil, err
		}
		entities, problems, err := backstage.Load(ctx, c)
		if err != nil {
			return nil, err
		}
		g, more := catalog.NewGraph(entities, catalog.Ref{})
		lib, err := slo.LoadLibrary()
		if err != nil {
			return nil, err
		}
		p, objectives, err := plan.Compile(ctx, g, lib, append(problems, more...), plan.Options{Rules: slo.RuleOptions{Anchored: true}})
		return &Compiled{g, objectives, p}, err
	}
}

// components answers a catalog of n components without an owner.
func components(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		items := []any{}
		for i := range n {
			items = append(items, map[string]any{"kind": "Component", "metadata": map[string]any{"name": fmt.Sprintf("c%d", i)}})
		}
		json.NewEncoder(w).Encode(map[string]any{"items": items, "totalItems": n, "pageInfo": map[string]any{}})
	}
}

func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, body) }
}

var metric = regexp.MustCompile(`(?m)^(sightline_(?:config_last_reload_successful|catalog_last_success_timestamp_seconds|catalog_entities\{kind="component"\})) (\S+)$`)

// catalogMetrics gives reload success, last success and components, "-" where there is none.
func catalogMetrics(t *testing.T, url string) (reloaded, success, components string) {
	t.Helper()
	_, body := get(t, url+"/metrics")
	found := map[string]string{}
	for _, m := range metric.FindAllStringSubmatch(body, -1) {
		found[m[1]] = m[2]
	}
	if _, ok := found[`sightline_catalog_entities{kind="component"}`]; !ok {
		found[`sightline_catalog_entities{kind="component"}`] = "-"
	}
	return found["sightline_config_last_reload_successful"], found["sightline_catalog_last_success_timestamp_seconds"], found[`sightline_catalog_entities{kind="component"}`]
}

func TestAFaultyBackstageIsSaidAndNeverReplacesAGoodCatalog(t *testing.T) {
	unreachable := func() string { // an address that nothing listens on
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}()
	tests := []struct {
		name    string
		fault   http.HandlerFunc // nil: nothing listens
		message string
	}{
		{"a wrong token", answer(401, `{"error":{"message":"Illegal token"}}`), "answered 401 Unauthorized: Illegal token"},
		{"an unreachable Backstage", nil, "connection refused"},
		{"a garbage answer", answer(200, "{{{"), "is not the JSON that is expected"},
		{"an empty catalog", components(0), "the catalog of Backstage is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var faulty atomic.Bool
			faulty.Store(true)
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if faulty.Load() {
					tt.fault(w, r)
				} else {
					components(3)(w, r)
				}
			}))
			defer fake.Close()
			address := func() string {
				if faulty.Load() && tt.fault == nil {
					return unreachable
				}
				return fake.URL
			}
			log := logged{slog.NewTextHandler(t.Output(), nil), "the catalog was not loaded; not ready, trying again", make(chan slog.Record, 10)}
			url, s, _ := run(t, Options{Path: t.TempDir(), Compile: load(t, address), Retry: func(error) bool { return true }, Refresh: time.Hour, Logger: slog.New(log)})
			if len(log.records) == 0 {
				t.Error("the log does not say that the catalog was not loaded")
			}
			page := func(path string) string {
				t.Helper()
				code, body := get(t, url+path)
				if code != 200 {
					t.Errorf("%s: status %d", path, code)
				}
				return body
			}
			code, body := get(t, url+"/-/ready")
			if code != 503 || !strings.Contains(body, "not ready: The catalog has not been loaded: ") || !strings.Contains(body, tt.message) {
				t.Errorf("ready: %d %s", code, body)
			}
			if body := page("/"); !strings.Contains(body, "The catalog has not been loaded") {
				t.Errorf("the page does not say it: %s", body)
			}
			if reloaded, success, n := catalogMetrics(t, url); reloaded != "0" || success != "0" || n != "-" {
				t.Errorf("metrics before the first load: %s %s %s", reloaded, success, n)
			}

			faulty.Store(false)
			if err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if code, body := get(t, url+"/-/ready"); code != 200 {
				t.Errorf("ready after the load: %d %s", code, body)
			}
			reloaded, success, n := catalogMetrics(t, url)
			if reloaded != "1" || success == "0" || n != "3" {
				t.Errorf("metrics after the load: %s %s %s", reloaded, success, n)
			}

			faulty.Store(true)
			if err := s.Reload(t.Context()); err == nil || !strings.Contains(explain(err), tt.message) {
				t.Errorf("got %v, want %q", err, tt.message)
			}
			if body := page("/entities/component/default/c1"); !strings.Contains(body, "a newer one was not taken over") {
				t.Errorf("the page does not say it: %s", body)
			}
			if code, _ := get(t, url+"/-/ready"); code != 200 {
				t.Errorf("ready with the last good catalog: %d", code)
			}
			if again, last, n := catalogMetrics(t, url); again != "0" || last != success || n != "3" {
				t.Errorf("metrics after the fault: %s %s (was %s) %s", again, last, success, n)
			}
		})
	}
}

func TestRunTriesAgainUntilTheCatalogIsThere(t *testing.T) {
	var calls atomic.Int32
	url, _, _ := run(t, Options{
		Path: t.TempDir(), Refresh: time.Millisecond, Retry: func(error) bool { return true },
		Compile: func(ctx context.Context) (*Compiled, error) {
			if calls.Add(1) < 3 {
				return nil, errors.New("not yet")
			}
			return compile(ctx, "payments")
		},
	})
	for range 1000 {
		if code, _ := get(t, url+"/-/ready"); code == 200 {
			return
		}
	}
	t.Error("never ready")
}

func TestABrokenConfigurationRefusesToStart(t *testing.T) {
	broken := errors.New("broken")
	_, err := New(t.Context(), Options{
		Listen: "127.0.0.1:0", Path: t.TempDir(), Compile: func(context.Context) (*Compiled, error) { return nil, broken },
		Retry: func(err error) bool { return !errors.Is(err, broken) },
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestACatalogThatShrinksSuspiciouslyIsTakenOverOnlyByForce(t *testing.T) {
	var n atomic.Int32
	n.Store(20)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { components(int(n.Load()))(w, r) }))
	defer fake.Close()
	url, s, _ := run(t, Options{Path: t.TempDir(), Refresh: time.Hour, Compile: load(t, func() string { return fake.URL })})
	n.Store(10)
	if err := s.Reload(t.Context()); err != nil {
		t.Errorf("half is not suspicious: %v", err)
	}
	n.Store(4)
	var shrunk *ShrunkError
	if err := s.Reload(t.Context()); !errors.As(err, &shrunk) || *shrunk != (ShrunkError{10, 4}) {
		t.Errorf("got %v", err)
	}
	if reloaded, _, n := catalogMetrics(t, url); reloaded != "0" || n != "10" {
		t.Errorf("metrics: %s %s", reloaded, n)
	}
	resp, err := http.Post(url+"/-/reload?force=true", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if reloaded, _, n := catalogMetrics(t, url); resp.StatusCode != 200 || reloaded != "1" || n != "4" {
		t.Errorf("by force: %s, metrics: %s %s", resp.Status, reloaded, n)
	}
	n.Store(1)
	if err := s.Reload(t.Context()); err != nil {
		t.Errorf("a small catalog may shrink: %v", err)
	}
}

func TestReadinessIsAskedForWhileTheCatalogIsTakenOver(t *testing.T) {
	_, s, stop := run(t, Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	defer stop()
	s.store.readied.Store(false)
	s.current.Store(&state{compiled: s.current.Load().compiled}) // what the probe saw a moment before
	if err := s.ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
}
