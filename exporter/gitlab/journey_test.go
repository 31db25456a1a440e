package gitlab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// paths is an API by path; what is not there is not found.
type paths map[string]string

func (a paths) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	body, ok := a[path]
	if !ok {
		return nil, &upstream.StatusError{Code: http.StatusNotFound, URL: "https://gitlab.example.com" + path}
	}
	return nil, json.Unmarshal([]byte(body), into)
}

// journeySeconds are the visible sums by owner, template and milestone, with the number of samples.
func (w *world) journeySeconds() map[string]string {
	out := map[string]string{}
	for _, t := range w.journal.Snapshot().Tallies {
		if t.Key.Measure == exporter.Measure(exporter.Journey) {
			out[t.Key.Owner+" "+strings.ReplaceAll(t.Key.Values, "\x1f", " ")] = fmt.Sprint(t.Count, " ", t.Sum)
		}
	}
	return out
}

// scaffolded leaves in the journal that a task made a project, at a time after epoch and within a minute.
func (w *world) scaffolded(task, path string, at time.Duration) {
	w.t.Helper()
	m := exporter.Made{
		Task: task, Template: "go-service", Entity: catalog.NewRef("template", "", "go-service"), Owner: catalog.NewRef("group", "", "portal"), Path: path,
		Created: epoch.Add(at), Ended: epoch.Add(at + time.Minute),
	}
	b, err := m.Leave("gitlab.example.com")
	if err == nil {
		err = w.journal.Commit(w.t.Context(), b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// ready tells that tasks from then on are news.
func (w *world) ready(at time.Duration) {
	w.t.Helper()
	if err := w.journal.Commit(w.t.Context(), exporter.Batch{Cursor: exporter.MadeReady, Position: epoch.Add(at).Format(time.RFC3339Nano)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) journeys(api paths) {
	w.t.Helper()
	w.source.api = api
	if err := w.source.followJourneys(w.t.Context(), w.graph, w.journal); err != nil {
		w.t.Fatal(err)
	}
}

func after(d time.Duration) string { return epoch.Add(d).Format(time.RFC3339) }

// project gives the answers about a project that was made at a time; what is zero has not happened.
func (a paths) project(path string, id int, made, pipeline, green, deployed time.Duration) {
	at := fmt.Sprintf("/api/v4/projects/%d", id)
	const oldest = "order_by=id&sort=asc&per_page=1"
	rows := func(d time.Duration, row string, args ...any) string {
		if d == 0 {
			return "[]"
		}
		return "[" + fmt.Sprintf(row, args...) + "]"
	}
	a["/api/v4/projects/"+strings.ReplaceAll(path, "/", "%2F")] = fmt.Sprintf(`{"id":%d,"path_with_namespace":%q,"created_at":%q}`, id, path, after(made))
	a[at+"/pipelines?"+oldest] = rows(pipeline, `{"id":7,"created_at":%q}`, after(pipeline))
	a[at+"/pipelines?status=success&"+oldest] = rows(green, `{"id":8}`)
	a[at+"/pipelines/8"] = fmt.Sprintf(`{"finished_at":%q}`, after(green))
	a[at+"/deployments?status=success&"+oldest] = rows(deployed, `{"id":9,"updated_at":%q,"deployable":null}`, after(deployed))
}

func TestAJourneyIsMeasuredMilestoneByMilestoneAndOnce(t *testing.T) {
	const minute, hour = time.Minute, time.Hour
	w, api := newWorld(t), paths{}
	w.graph = graphOf(t, component("checkout", map[string]string{"gitlab.com/project-slug": "acme/checkout"}))
	w.scaffolded("t1", "acme/checkout", hour)
	w.now = epoch.Add(hour + 2*minute)
	api.project("acme/checkout", 42, hour+30*time.Second, 0, 0, 0)
	w.journeys(api)
	if got := w.journeySeconds(); len(got) != 0 {
		t.Errorf("before the history of tasks is read: %v", got)
	}
	w.ready(0)
	w.journeys(api)
	want := map[string]string{"group:default/pay go-service project": "1 30"} // checkout's owner, not the template's
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, w.journeySeconds()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", when, diff)
		}
	}
	check("the project is there")
	api.project("acme/checkout", 42, hour+30*time.Second, hour+40*time.Second, 0, 0)
	w.journeys(api)
	check("asked too soon")
	w.pass(2 * minute)
	w.journeys(api)
	want["group:default/pay go-service first_pipeline"] = "1 40"
	check("the first pipeline is there")

	w.open() // a restart, and all of it again: the task was read anew
	w.scaffolded("t1", "acme/checkout", hour)
	api.project("acme/checkout", 42, hour+30*time.Second, hour+40*time.Second, hour+5*minute, 0)
	w.pass(10 * minute)
	w.journeys(api)
	want["group:default/pay go-service first_green"] = "1 300"
	check("the first green pipeline is there, after a restart")

	api.project("acme/checkout", 42, hour+30*time.Second, hour+40*time.Second, hour+5*minute, 3*hour)
	w.pass(4 * hour)
	w.journeys(api)
	want["group:default/pay go-service first_deployment"] = "1 7200"
	check("the first deployment is there")
	if left := w.journal.Positions(exporter.MadePrefix("gitlab.example.com")); len(left) != 0 {
		t.Errorf("the journey is over, and the journal holds %v", left)
	}
	w.scaffolded("t1", "acme/checkout", hour) // once more
	w.journeys(api)
	check("the same task again")
}

func TestAJourneyIsOfAProjectThatTheTaskMade(t *testing.T) {
	w, api := newWorld(t), paths{}
	w.ready(0)
	w.scaffolded("old", "acme/monolith", time.Hour) // a task that adds to it
	w.scaffolded("missing", "acme/secret", time.Hour)
	w.now = epoch.Add(2 * time.Hour)
	api.project("acme/monolith", 1, -time.Hour, time.Minute, time.Minute, time.Minute)
	w.journeys(api)
	if got := w.journeySeconds(); len(got) != 0 {
		t.Errorf("measured %v", got)
	}
	want := map[string]bool{"missing": true} // it may appear
	check := func() {
		t.Helper()
		got := map[string]bool{}
		for cursor := range w.journal.Positions(exporter.MadePrefix("gitlab.example.com")) {
			got[strings.TrimPrefix(cursor, exporter.MadePrefix("gitlab.example.com"))] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("journeys under way (-want +got)\n%s", diff)
		}
	}
	check()
	w.pass(40 * 24 * time.Hour)
	w.journeys(api)
	want = map[string]bool{}
	check()
}

func TestJourneysBeforeTheFirstReadingAreTheStartingValue(t *testing.T) {
	w, api := newWorld(t), paths{}
	w.ready(24 * time.Hour)
	for i := range 2*journeysAtOnce + 3 {
		path := fmt.Sprint("acme/p", i)
		w.scaffolded(fmt.Sprint("t", i), path, time.Hour)
		api.project(path, 100+i, time.Hour, time.Hour+time.Minute, time.Hour+2*time.Minute, 25*time.Hour)
	}
	w.now = epoch.Add(26 * time.Hour)
	for range 2 {
		w.journeys(api)
		if err := w.journal.Settle(t.Context(), "gitlab", "gitlab.example.com"); err != nil { // as after each Sync
			t.Fatal(err)
		}
		if got := w.journeySeconds(); len(got) != 0 {
			t.Fatalf("shown before all history is read: %v", got)
		}
	}
	w.journeys(api)
	want := map[string]string{
		"group:default/portal go-service project":          "43 0",
		"group:default/portal go-service first_pipeline":   "43 2580",
		"group:default/portal go-service first_green":      "43 5160",
		"group:default/portal go-service first_deployment": "43 3.7152e+06",
	}
	if diff := cmp.Diff(want, w.journeySeconds()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, tally := range w.journal.Snapshot().Tallies {
		if history := !strings.Contains(tally.Key.Values, milestoneDeployment); history != tally.Created.IsZero() {
			t.Errorf("%s: created at %v; what was there before begins at its value, what came since at zero", tally.Key.Values, tally.Created)
		}
	}
}

func TestJourneysThatCannotBeFollowedStopNoPipeline(t *testing.T) {
	w := newWorld(t)
	w.ready(0)
	w.scaffolded("t1", "acme/checkout", 0)
	if err := w.journal.Commit(t.Context(), exporter.Batch{Cursor: "gitlab/gitlab.example.com/journeys", Position: "{"}); err != nil {
		t.Fatal(err)
	}
	w.sync() // without an error, which would make the whole source wait
	w.add("success")
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}

// forbidding is an API that forbids everything.
type forbidding struct{}

func (forbidding) GetJSON(_ context.Context, path string, _ any) (http.Header, error) {
	return nil, &upstream.StatusError{Code: http.StatusForbidden, URL: "https://gitlab.example.com" + path}
}

func TestAJourneyThatMayNotBeSeenIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.ready(0)
	w.scaffolded("t1", "acme/secret", 0)
	w.source.api = forbidding{}
	for _, left := range []int{1, 0} { // before and after 30 days
		if err := w.source.followJourneys(t.Context(), w.graph, w.journal); err != nil {
			t.Fatal(err)
		}
		if n := len(w.journal.Positions(exporter.MadePrefix("gitlab.example.com"))); n != left {
			t.Errorf("%d journeys are followed at %s, want %d", n, w.now, left)
		}
		w.pass(31 * 24 * time.Hour)
	}
}

func TestOfManyJourneysNoneIsPassedOver(t *testing.T) {
	w, api := newWorld(t), paths{}
	w.ready(0)
	const many = 3 * journeysAtOnce
	for n := range many {
		path := fmt.Sprintf("acme/p%02d", n)
		w.scaffolded(path[5:], path, 0)
		api.project(path, 100+n, time.Second, 0, 0, 0)
	}
	for range 5 {
		w.pass(2 * time.Minute) // all are due again
		w.journeys(api)
	}
	if got := w.journeySeconds()["group:default/portal go-service project"]; got != fmt.Sprint(many, " ", many) {
		t.Errorf("projects that were reached: %q, want all %d", got, many)
	}
}
