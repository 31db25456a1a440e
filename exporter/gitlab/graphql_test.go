package gitlab

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/upstream"
)

// A graphAPI is a direct API that GraphQL can be asked of, too.
type graphAPI struct{ *direct }

// Post asks the simulated GitLab.
func (d graphAPI) Post(ctx context.Context, path string, header http.Header, body []byte) ([]byte, error) {
	d.calls++
	if d.failAt > 0 && d.calls >= d.failAt {
		return nil, fmt.Errorf("connection reset")
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	r.Header = header
	d.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil, &upstream.StatusError{Code: w.Code, URL: path}
	}
	return w.Body.Bytes(), nil
}

// fleet is a world of so many projects with a pipeline each, read once, whose GitLab has GraphQL.
func fleet(t *testing.T, n int) *world {
	w := newWorld(t)
	w.fake.Projects = nil
	var entities []*catalog.Entity
	for i := range n {
		p := &fakegitlab.Project{ID: int64(i + 1), Path: fmt.Sprintf("acme/service-%d", i), DefaultBranch: "main"}
		w.fake.Projects = append(w.fake.Projects, p)
		w.project = p
		w.add("success")
		entities = append(entities, component(fmt.Sprintf("service-%d", i), map[string]string{"gitlab.com/project-slug": p.Path}))
	}
	w.graph = graphOf(t, entities...)
	w.graphql = true
	w.restart()
	w.pass(time.Hour)
	w.sync()
	w.pass(2 * time.Minute)
	w.fake.Requests()
	return w
}

func (w *world) wantRequests(want map[string]int) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.fake.Requests()); diff != "" {
		w.t.Errorf("requests (-want +got):\n%s", diff)
	}
}

const (
	graphqlRoute   = "/api/:id" // as fakegitlab counts it
	pipelinesRoute = "/projects/:id/pipelines"
)

func TestQuietProjectsCostAFractionOfACall(t *testing.T) {
	w := fleet(t, 60)
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 3})

	w.project = w.fake.Projects[7]
	w.add("failed")
	w.pass(2 * time.Minute)
	w.sync()
	if got := w.counts()["first failure"]; got != 1 {
		t.Errorf("%d failures were counted of a project that moved, want 1", got)
	}
	requests := w.fake.Requests()
	if requests[graphqlRoute] != 3 || requests[pipelinesRoute] != 1 {
		t.Errorf("requests %v, want 3 of GraphQL and the list of pipelines of the one that moved", requests)
	}

	w.pass(restAfter)
	w.sync()
	if requests := w.fake.Requests(); requests[pipelinesRoute] != 60+1 {
		t.Errorf("requests %v, want every list of pipelines once an hour, and of child pipelines the one of the project that moved", requests)
	}
}

func TestWithoutGraphQLEachProjectIsAskedByREST(t *testing.T) {
	w := fleet(t, 30)
	w.fake.NoGraphQL = true
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 2, pipelinesRoute: 30})
	w.pass(time.Minute)
	w.sync() // and it is not tried again at once
	w.wantRequests(map[string]int{pipelinesRoute: 30})
	w.fake.NoGraphQL = false
	w.pass(graphOffFor)
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 2, "/projects/:id/deployments": 30})
}

func TestAQueryThatCostsTooMuchIsHalved(t *testing.T) {
	w := fleet(t, 50)
	w.fake.Complexity = 90
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 2, pipelinesRoute: 50})
	w.pass(time.Minute)
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 5})
}

func TestOfAProjectThatGraphQLDoesNotFindNothingIsAssumed(t *testing.T) {
	w := fleet(t, 2)
	w.fake.Projects[0].Path, w.fake.Projects[0].OldPath = "acme/renamed", w.fake.Projects[0].Path
	w.sync()
	w.wantRequests(map[string]int{graphqlRoute: 1, pipelinesRoute: 1})
}

func TestAProjectWhoseWebhooksAreReadHoldsNoQuestionUp(t *testing.T) {
	w := newWorld(t)
	w.sync()
	f := w.source.follower(42)
	if _, ok := f.question("acme/checkout", w.now, w.journal); !ok {
		t.Fatal("there is no question about a project that was read")
	}
	f.busy.Lock()
	defer f.busy.Unlock()
	done := make(chan bool)
	go func() {
		_, ok := f.question("acme/checkout", w.now, w.journal)
		done <- ok
	}()
	if ok := <-done; ok {
		t.Error("there is a question about a project that is being read")
	}
}
