package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/simulate"
	"github.com/sightline-dev/sightline/slo"
)

// noted is a source that says when it has been read.
type noted struct {
	exporter.Source
	synced chan struct{}
}

func (n noted) Sync(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	err := n.Source.Sync(ctx, g, to)
	select {
	case n.synced <- struct{}{}:
	default:
	}
	return err
}

// compileSimulated compiles the simulated platform.
func compileSimulated(dir string) func(context.Context) (*Compiled, error) {
	return func(ctx context.Context) (*Compiled, error) {
		found, err := files.Load(ctx, []string{dir})
		if err != nil {
			return nil, err
		}
		g, problems := catalog.NewGraph(found.Entities, catalog.NewRef("group", "", "platform"))
		lib, err := slo.LoadLibrary()
		if err != nil {
			return nil, err
		}
		p, objectives, err := plan.Compile(ctx, g, lib, problems, plan.Options{Rules: slo.RuleOptions{Anchored: true}})
		return &Compiled{g, objectives, p}, err
	}
}

func TestTheAPIKeepsToItsOpenAPIDocument(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	if err := simulate.WriteCatalog(dir); err != nil {
		t.Fatal(err)
	}
	source := noted{simulate.NewSource(time.Now(), 7*24*time.Hour, time.Now), make(chan struct{}, 1)}
	base, _, _ := run(t, Options{Path: t.TempDir(), Compile: compileSimulated(dir), Sources: []Source{{Source: source, Poll: time.Hour}}})
	<-source.synced

	_, text := get(t, base+"/api/v1/openapi.json")
	doc, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, problems := check.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("the document: %s: %s", p.Message, p.Reason)
		}
	}
	var paths struct{ Paths map[string]any }
	if err := json.Unmarshal([]byte(text), &paths); err != nil {
		t.Fatal(err)
	}
	type request struct {
		method, path string
		status       int
	}
	requests := []request{
		{"GET", "/api/v1/owners?q=pay&limit=1", 200},
		{"GET", "/api/v1/owners?limit=0", 400},
		{"GET", "/api/v1/problems?severity=warning", 200},
		{"GET", "/api/v1/problems?severity=bad", 400},
		{"GET", "/api/v1/owners/group/default/nobody", 404},
		{"GET", "/api/v1/owners/group/default/nobody/slos", 404},
		{"GET", "/api/v1/entities/component/default/nothing", 404},
		{"GET", "/api/v1/entities/component/default/ledger/slos?points=2", 200},
		{"GET", "/api/v1/entities/component/default/ledger/slos?from=yesterday", 400},
		{"GET", "/api/v1/entities/template/default/go-service", 200},
		{"GET", "/api/v1/entities/component/default/nothing/timeline", 404},
		{"GET", "/api/v1/owners/group/default/nobody/timeline", 404},
		{"GET", "/api/v1/entities/component/default/ledger/timeline?from=2026-01-01T00:00:00Z&to=2026-01-20T00:00:00Z&limit=1", 200},
		{"GET", "/api/v1/entities/component/default/ledger/timeline?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", 400},
		{"GET", "/api/v1/entities/component/default/ledger/timeline?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400},
		{"GET", "/api/v1/owners/group/default/payments/timeline?to=now", 400},
		{"GET", "/api/v1/owners/group/default/payments/timeline?limit=1001", 400},
	}
	fill := strings.NewReplacer("{kind}/{namespace}/{name}", "component/default/ledger")
	for p := range paths.Paths {
		if strings.Contains(p, "/owners/") {
			p = strings.Replace(p, "{kind}/{namespace}/{name}", "group/default/payments", 1)
		}
		requests = append(requests, request{"GET", fill.Replace(p), 200})
	}
	resp, body := do(t, "GET", base+"/api/v1/owners")
	resp.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte(`"total": `), []byte(`"total": "many", "was": `), 1)))
	if ok, _ := check.ValidateHttpResponse(resp.Request, resp); ok {
		t.Error("an answer with a text for a number passes: the check checks nothing")
	}
	if len(paths.Paths) < 7 {
		t.Errorf("the document has only %d paths", len(paths.Paths))
	}
	for _, r := range requests {
		resp, body := do(t, r.method, base+r.path)
		if resp.StatusCode != r.status {
			t.Errorf("%s %s: status %d, want %d: %.300s", r.method, r.path, resp.StatusCode, r.status, body)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if ok, problems := check.ValidateHttpResponse(resp.Request, resp); !ok {
			for _, p := range problems {
				t.Errorf("%s %s: %s: %s %v", r.method, r.path, p.Message, p.Reason, p.SchemaValidationErrors)
			}
		}
	}
}

func TestEveryErrorOfTheAPIIsAProblemDocument(t *testing.T) {
	options := Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }}
	open, _, _ := run(t, options)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a-token-of-a-test-0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options.Path, options.NeedAuth, options.Auth = t.TempDir(), true, auth.Options{TokenFiles: []string{token}}
	closed, _, _ := run(t, options)
	for _, r := range []struct {
		name, method, url string
		status            int
	}{
		{"an unknown resource", "GET", open + "/api/v1/nothing", 404},
		{"an unknown entity", "GET", open + "/api/v1/entities/component/default/nothing", 404},
		{"a bad parameter", "GET", open + "/api/v1/owners?limit=many", 400},
		{"a method that is not there", "POST", open + "/api/v1/owners", 405},
		{"a method on a path with a reference", "DELETE", open + "/api/v1/entities/component/default/checkout", 405},
		{"no token", "GET", closed + "/api/v1/owners", 401},
		{"no token, and nothing there", "GET", closed + "/api/v1/nothing", 401},
	} {
		resp, body := do(t, r.method, r.url)
		var problem struct {
			Title, Detail, Hint string
			Status              int
		}
		if err := json.Unmarshal(body, &problem); err != nil {
			t.Errorf("%s: %v: %s", r.name, err, body)
		}
		if resp.StatusCode != r.status || problem.Status != r.status || problem.Title == "" || problem.Detail == "" || problem.Hint == "" ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d, want %d; %s: %s", r.name, resp.StatusCode, r.status, resp.Header.Get("Content-Type"), body)
		}
		if r.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow is %q", r.name, resp.Header.Get("Allow"))
		}
	}
}

// do sends a request as a program would, and gives the answer and its body.
func do(t *testing.T, method, url string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}
