package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// fakeTargets starts servers for a script: RULER_URL keeps rule groups and refuses those that speak of "refused",
// ALERTMANAGER_URL and PROMETHEUS_URL are told to reload, unless the file "down" is there.
func fakeTargets(env *testscript.Env) error {
	serve := func(name, path string, h http.Handler) {
		srv := httptest.NewServer(h)
		env.Defer(srv.Close)
		env.Setenv(name, srv.URL+path)
	}
	serve("RULER_URL", "/api/v1/rules", &fakeRuler{groups: map[string]map[string]any{}})
	reload := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(env.WorkDir + "/down"); err == nil || r.Method != http.MethodPost || r.URL.Path != "/-/reload" {
			http.Error(w, "failed to reload config", http.StatusInternalServerError)
		}
	})
	serve("ALERTMANAGER_URL", "", reload)
	serve("PROMETHEUS_URL", "", reload)
	return nil
}

type fakeRuler struct {
	mu     sync.Mutex
	groups map[string]map[string]any // by namespace and name
}

func (f *fakeRuler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1/rules"), "/"), "/")
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	switch r.Method {
	case http.MethodGet:
		out := map[string][]any{}
		for namespace, groups := range f.groups {
			for _, g := range groups {
				if parts[0] == "" || parts[0] == namespace {
					out[namespace] = append(out[namespace], g)
				}
			}
		}
		if len(out) == 0 {
			http.Error(w, "no rule groups found", http.StatusNotFound)
			return
		}
		yaml.NewEncoder(w).Encode(out)
	case http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		var g map[string]any
		if err := yaml.Unmarshal(body, &g); err != nil || strings.Contains(string(body), "refused") {
			http.Error(w, "parse error", http.StatusBadRequest)
			return
		}
		if f.groups[parts[0]] == nil {
			f.groups[parts[0]] = map[string]any{}
		}
		f.groups[parts[0]][g["name"].(string)] = g
		w.WriteHeader(http.StatusAccepted)
	case http.MethodDelete:
		delete(f.groups[parts[0]], parts[1])
		w.WriteHeader(http.StatusAccepted)
	}
}

// expand writes a file with the variables of the script filled in: expand FROM TO.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expand FROM TO")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o644))
}
