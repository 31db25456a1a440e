package gitlab

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// forbid lets nobody read the pipelines of projects.
func (w *world) forbid(projects ...int64) {
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		for _, id := range projects {
			if strings.HasPrefix(r.URL.Path, fmt.Sprintf("/api/v4/projects/%d/", id)) {
				rw.WriteHeader(http.StatusForbidden)
				return true
			}
		}
		return false
	}
}

func TestPipelinesThatMayNotBeReadAreAProblemOfTheirProjectAlone(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 3, Branches: 1, Pipelines: 2, Jobs: 2})
	w.forbid(2)
	w.sync() // no error: the source is up
	if p, _ := w.total(); p != 4 {
		t.Errorf("counted %d pipelines of the other projects, want 4", p)
	}
	var got []string
	for _, p := range w.source.Problems() {
		got = append(got, p.Rule+" "+p.Entity.Name+" "+p.Owner.Name+": "+p.Message)
		if !strings.Contains(p.Hint, "Reporter") {
			t.Errorf("the hint is %q", p.Hint)
		}
	}
	want := []string{"gitlab-pipelines-forbidden acme-team-01-service-0001 pay: GitLab gitlab.example.com does not let the token read the pipelines of acme/team-01/service-0001 (403)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if done, of := w.source.Backfilled(); done != of {
		t.Errorf("the history of %d of %d projects was read: the last one would be waited for for ever", done, of)
	}
	for range 10 {
		w.pass(time.Minute)
		w.sync()
		if w.api.calls != 2 || len(w.source.Problems()) != 1 {
			t.Fatalf("%d calls and problems %v, want a call for each of the two others, and the problem", w.api.calls, w.source.Problems())
		}
	}
	w.fake.Break = nil // somebody gave the token a role
	w.pass(retryForbidden)
	w.sync()
	if p, _ := w.total(); p != 6 || len(w.source.Problems()) != 0 {
		t.Errorf("counted %d pipelines in the end, want 6, with problems %v", p, w.source.Problems())
	}
}

func TestATokenThatMayReadNoPipelinesIsAnError(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 2, Branches: 1, Pipelines: 2, Jobs: 2})
	w.forbid(1, 2)
	err := w.source.Sync(t.Context(), w.graph, w.journal)
	if partial := (*exporter.PartialError)(nil); !errors.As(err, &partial) || len(partial.Errs) != 2 || len(w.source.Problems()) != 2 {
		t.Errorf("error %v and problems %v", err, w.source.Problems())
	}
}

func TestAPipelineThatIsStuckIsAskedForLessAndLessOften(t *testing.T) {
	for _, status := range []string{"created", "scheduled"} {
		w := newWorld(t)
		w.sync()
		p := w.add("success")
		if status == "scheduled" {
			p.Fixed = status
		}
		p.Jobs[0].Queued, p.Jobs[0].Started, p.Jobs[0].Finished = time.Time{}, time.Time{}, time.Time{}
		day := func(days int) (jobs int) {
			for range days * 24 * 6 {
				w.pass(10 * time.Minute)
				w.fake.Requests()
				w.sync()
				jobs += w.fake.Requests()["/projects/:id/pipelines/:id/jobs"]
			}
			return jobs / days
		}
		first, later := day(1), day(9)
		last := day(2)
		if first > 110 || later > 25 || last > 4 {
			t.Errorf("%s: its jobs were asked for %d times on the first day, %d times a day on the next ones, and then %d times a day", status, first, later, last)
		}
		if n := len(w.journal.Snapshot().Active); n != 1 {
			t.Errorf("%s: %d active series, want 1", status, n)
		}
		p.Deleted = w.now
		day(1)
		if n := len(w.journal.Snapshot().Active); n != 0 {
			t.Errorf("%s: %d active series after it was deleted, want none", status, n)
		}
		if calls := day(1); calls != 0 {
			t.Errorf("%s: its jobs were asked for %d times after it was deleted", status, calls)
		}
	}
}
