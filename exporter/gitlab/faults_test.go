package gitlab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/upstream"
)

// many is a world of several projects, each claimed by a component of the same name.
func many(t testing.TB, size fakegitlab.Size) *world {
	w := newWorld(t)
	w.fake.Projects = nil
	w.fake.Generate(size, w.now)
	var entities []*catalog.Entity
	for _, p := range w.fake.Projects {
		entities = append(entities, component(strings.ReplaceAll(p.Path, "/", "-"), map[string]string{"gitlab.com/project-slug": p.Path}))
	}
	w.graph = graphOf(t, entities...)
	return w
}

// total is the number of counted pipelines and jobs.
func (w *world) total() (pipelines, jobs uint64) {
	for name, n := range w.counts() {
		if strings.HasPrefix(name, "job ") {
			jobs += n
		} else {
			pipelines += n
		}
	}
	return pipelines, jobs
}

func TestAFirstReadingCostsAtMostThreeCallsAProjectAndAnIdleOneOne(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 20, Branches: 20, Pipelines: 20, Jobs: 10})
	w.sync()
	if w.api.calls > 3*20+1 {
		t.Errorf("the first reading took %d calls: %v", w.api.calls, w.fake.Requests())
	}
	if p, j := w.total(); p != 400 || j != 4000 {
		t.Errorf("counted %d pipelines and %d jobs, want 400 and 4000", p, j)
	}
	before := w.counts()
	for range 3 {
		w.pass(30 * time.Second)
		w.sync()
		if w.api.calls != 20 {
			t.Errorf("an idle reading took %d calls, want 20", w.api.calls)
		}
	}
	if diff := cmp.Diff(before, w.counts()); diff != "" {
		t.Errorf("counters moved without a run (-before +after):\n%s", diff)
	}
}

func TestEveryPipelineOfABusyGitLabIsCounted(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 20, Branches: 1, Pipelines: 5, Jobs: 10})
	w.sync()
	random := rand.New(rand.NewPCG(3, 3))
	calls := 0
	for range 12 { // two minutes, three pipelines a second
		for range 30 {
			p := w.fake.AddFinished(w.fake.Projects[random.IntN(20)], "main", w.now.Add(-3*time.Minute), 10, random)
			p.Updated = w.now
		}
		w.pass(10 * time.Second)
		w.sync()
		calls += w.api.calls
		if random.IntN(3) == 0 {
			w.open()
		}
	}
	if p, j := w.total(); p != 100+360 || j != 1000+3600 {
		t.Errorf("counted %d pipelines and %d jobs, want 460 and 4600", p, j)
	}
	if calls > 700 {
		t.Errorf("%d calls", calls)
	}
}

func TestAProjectThatFailsIsLeftAloneAndStopsNoOther(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 3, Branches: 1, Pipelines: 2, Jobs: 2})
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/v4/projects/2/") {
			return false
		}
		rw.WriteHeader(http.StatusBadGateway)
		return true
	}
	err := w.source.Sync(t.Context(), w.graph, w.journal)
	var partial *exporter.PartialError
	if !errors.As(err, &partial) || len(partial.Errs) != 1 || partial.Of != 3 || !strings.Contains(err.Error(), "acme/team-01/service-0001") {
		t.Fatalf("error %v", err)
	}
	if p, _ := w.total(); p != 4 {
		t.Errorf("counted %d pipelines of the projects that work, want 4", p)
	}
	w.api.calls = 0
	for range 8 { // twenty seconds of failures
		w.pass(2500 * time.Millisecond)
		if err := w.source.Sync(t.Context(), w.graph, w.journal); err == nil {
			t.Fatal("a failing project is not told of")
		}
	}
	if broken := w.fake.Requests()["/projects/:id/pipelines"]; broken > 3+8*2+2 {
		t.Errorf("%d lists of pipelines were asked for: the failing project is not left alone", broken)
	}
	w.fake.Break = nil
	w.pass(10 * time.Minute)
	w.sync()
	if p, _ := w.total(); p != 6 {
		t.Errorf("counted %d pipelines in the end, want 6", p)
	}
}

func TestGarbageIsAnErrorAndLosesNothing(t *testing.T) {
	for name, body := range map[string]string{
		"a login page": "<html>sign in</html>", "cut off": `[{"id":1,"na`, "an object": `{"message":"hello"}`, "another type": `[{"id":"seven"}]`, "a strange time": `[{"id":1,"updated_at":"yesterday"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sync()
			w.add("success")
			w.pass(5 * time.Minute)
			w.fake.Break = func(_ *http.Request, rw http.ResponseWriter) bool {
				_, _ = rw.Write([]byte(body))
				return true
			}
			if err := w.source.Sync(t.Context(), w.graph, w.journal); err == nil {
				t.Error("no error")
			}
			w.fake.Break = nil
			w.pass(time.Hour)
			w.sync()
			w.want(map[string]uint64{"job build success": 1, "first success": 1})
		})
	}
}

func TestAListWithoutEndEnds(t *testing.T) {
	w := newWorld(t)
	w.add("success")
	w.pass(5 * time.Minute)
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		if strings.HasSuffix(r.URL.Path, "/pipelines") {
			rw.Header().Set("Link", fmt.Sprintf(`<http://x%s?%s>; rel="next"`, r.URL.Path, r.URL.RawQuery))
			rw.Header().Set("Date", w.now.Format(http.TimeFormat))
			_, _ = fmt.Fprintf(rw, `[{"id":1,"status":"success","ref":"main","created_at":%q,"updated_at":%q}]`, epoch.Format(time.RFC3339), epoch.Format(time.RFC3339))
			return true
		}
		return false
	}
	if err := w.source.Sync(t.Context(), w.graph, w.journal); err == nil || !strings.Contains(err.Error(), "its own successor") {
		t.Errorf("error %v", err)
	}
}

// TestOverTheNetwork reads through the real client: a token, a budget that the server announces, a moved project.
func TestOverTheNetwork(t *testing.T) {
	w := newWorld(t)
	w.fake.Token = "glpat-secret"
	w.project.OldPath = "acme/old"
	w.graph = graphOf(t, component("checkout", map[string]string{"gitlab.com/project-slug": "acme/old"}))
	w.fake.Now = time.Now
	w.now = time.Now().Add(-time.Hour)
	w.add("success")
	srv := httptest.NewServer(w.fake)
	defer srv.Close()
	read := func(token string) error {
		client, err := upstream.New(upstream.Options{BaseURL: srv.URL, TokenFile: tokenFile(t, token), CallsPerHour: 100, Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(client, Options{URL: srv.URL, First: true})
		if err != nil {
			t.Fatal(err)
		}
		return s.Sync(t.Context(), w.graph, w.journal)
	}
	if err := read("wrong"); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("error %v", err)
	}
	if err := read("glpat-secret"); err != nil {
		t.Fatal(err)
	}
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}

// TestABadMonthBehindIsNotNews is the first start beside a GitLab where everything has failed: the counters begin there.
func TestABadMonthBehindIsNotNews(t *testing.T) {
	w := newWorld(t)
	for range 200 {
		w.add("failed")
		w.pass(3 * time.Hour)
	}
	sink := &recorder{Journal: w.journal}
	if err := w.source.Sync(t.Context(), w.graph, sink); err != nil {
		t.Fatal(err)
	}
	if sink.news != 0 || sink.history == 0 {
		t.Errorf("%d runs were news, %d history", sink.news, sink.history)
	}
}

type recorder struct {
	*journal.Journal
	news, history int
}

func (r *recorder) Commit(ctx context.Context, b exporter.Batch) error {
	if b.History {
		r.history += len(b.Runs)
	} else {
		r.news += len(b.Runs)
	}
	return r.Journal.Commit(ctx, b)
}

func TestOnePipelineThatCannotBeReadHoldsNoOtherUp(t *testing.T) {
	for _, bad := range []struct {
		name string
		err  error
	}{
		{"GitLab fails at it", &upstream.StatusError{Code: 500}},
		{"it may not be read", &upstream.StatusError{Code: 403}},
		{"a job has a time that nobody can read", &upstream.ContentError{}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			w := newWorld(t)
			w.sync()
			var poison []*fakegitlab.Pipeline
			for i := range 6 {
				p := w.add("success")
				if i < 2 {
					poison = append(poison, p)
				}
				w.pass(time.Second)
			}
			w.pass(5 * time.Minute)
			w.api.breaks = func(path string) error {
				path, _, _ = strings.Cut(path, "?")
				if path == "/api/v4/projects/42/jobs" || slices.ContainsFunc(poison, func(p *fakegitlab.Pipeline) bool {
					return path == fmt.Sprintf("/api/v4/projects/42/pipelines/%d/jobs", p.ID)
				}) {
					return bad.err
				}
				return nil
			}
			w.sync()
			w.want(map[string]uint64{"job build success": 4, "first success": 4})
			w.api.breaks = nil
			w.pass(11 * time.Minute)
			w.sync()
			w.want(map[string]uint64{"job build success": 6, "first success": 6})
		})
	}
}

func TestAPanicIsAnErrorOfItsProjectAlone(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.add("success")
	w.pass(5 * time.Minute)
	w.api.breaks = func(path string) error {
		if strings.Contains(path, "/deployments?") {
			panic("an answer that nobody thought of")
		}
		return nil
	}
	if err := w.source.Sync(t.Context(), w.graph, w.journal); err == nil || !strings.Contains(err.Error(), "nobody thought of") {
		t.Errorf("the error is %v", err)
	}
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}
