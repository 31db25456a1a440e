package gitlab

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/upstream"
)

var epoch = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// direct is an API that calls the simulated GitLab without a network. It fails from a given call on.
type direct struct {
	*fakegitlab.Server
	calls, failAt int                     // failAt 0: never
	breaks        func(path string) error // nil: nothing does
}

func (d *direct) GetJSON(ctx context.Context, path string, into any) (http.Header, error) {
	d.calls++
	if d.failAt > 0 && d.calls >= d.failAt {
		return nil, errors.New("connection reset")
	}
	if d.breaks != nil {
		if err := d.breaks(path); err != nil {
			return nil, err
		}
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
	if w.Code/100 == 3 {
		return d.GetJSON(ctx, w.Header().Get("Location"), into)
	}
	if w.Code != http.StatusOK {
		return nil, &upstream.StatusError{Code: w.Code, URL: path}
	}
	return w.Header(), json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(into)
}

// world is a simulated GitLab with one project, a catalog that names it, a clock and a journal.
type world struct {
	t         testing.TB
	fake      *fakegitlab.Server
	project   *fakegitlab.Project
	api       *direct
	graph     *catalog.Graph
	now       time.Time
	path      string
	journal   *journal.Journal
	source    *Source
	groups    []string
	incidents dora.Incidents
	graphql   bool // GitLab has GraphQL
	least     int  // projects that are worth a query
}

var checkout = catalog.NewRef("component", "", "checkout")

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: epoch, path: filepath.Join(t.TempDir(), "journal.db")}
	w.project = &fakegitlab.Project{ID: 42, Path: "acme/checkout", DefaultBranch: "main"}
	w.fake = &fakegitlab.Server{Projects: []*fakegitlab.Project{w.project}, Now: func() time.Time { return w.now }}
	w.api = &direct{Server: w.fake}
	w.graph = graphOf(t, component("checkout", map[string]string{"gitlab.com/project-slug": "acme/checkout"}))
	w.open()
	t.Cleanup(func() { w.journal.Close() })
	return w
}

func component(name string, annotations map[string]string) *catalog.Entity {
	return &catalog.Entity{
		Ref: catalog.NewRef("component", "", name), Name: name, Type: "service", Owner: catalog.NewRef("group", "", "pay"),
		System: catalog.NewRef("system", "", "shop"), Annotations: annotations,
	}
}

func graphOf(t testing.TB, entities ...*catalog.Entity) *catalog.Graph {
	t.Helper()
	entities = append(entities, &catalog.Entity{Ref: catalog.NewRef("group", "", "pay"), Name: "pay"}, &catalog.Entity{Ref: catalog.NewRef("system", "", "shop"), Name: "shop"})
	g, problems := catalog.NewGraph(entities, catalog.NewRef("group", "", "platform"))
	for _, p := range problems {
		if p.Rule != "project-shared" && p.Rule != "owner-missing" {
			t.Log(p)
		}
	}
	return g
}

// open opens the journal and makes a new source, as a start of the program does.
func (w *world) open() {
	w.t.Helper()
	if w.journal != nil {
		if err := w.journal.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	if w.journal, err = journal.Open(w.path, journal.Options{Now: func() time.Time { return w.now }}); err != nil {
		w.t.Fatal(err)
	}
	w.restart()
}

func (w *world) restart() {
	w.t.Helper()
	var api API = w.api
	if w.graphql {
		api = graphAPI{w.api}
	}
	s, err := New(api, Options{URL: "https://gitlab.example.com:8443/git", Groups: w.groups, First: true, Now: func() time.Time { return w.now }, Workers: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.source = s
	s.UseIncidents(w.incidents)
	s.graph.least = w.least
}

// sync reads once; an error fails the test.
func (w *world) sync() {
	w.t.Helper()
	w.api.calls, w.api.failAt = 0, 0
	if err := w.source.Sync(w.t.Context(), w.graph, w.journal); err != nil {
		w.t.Fatal(err)
	}
}

// counts are the visible counters of finished runs: "first success" for pipelines, "build failure" for jobs.
func (w *world) counts() map[string]uint64 {
	out := map[string]uint64{}
	for _, t := range w.journal.Snapshot().Tallies {
		if t.Key.Measure != exporter.MeasureRuns || t.Count == 0 {
			continue
		}
		name := string(t.Key.Attempt)
		if t.Key.Level == exporter.LevelTask {
			name = "job " + t.Key.Task
		}
		out[name+" "+string(t.Key.Result)] += t.Count
	}
	return out
}

func (w *world) want(counts map[string]uint64) {
	w.t.Helper()
	if diff := cmp.Diff(counts, w.counts()); diff != "" {
		w.t.Errorf("counted runs (-want +got):\n%s", diff)
	}
}

// add makes a pipeline of one job that runs from a second after now for a minute.
func (w *world) add(status string) *fakegitlab.Pipeline {
	p := &fakegitlab.Pipeline{ID: w.fake.ID(), Ref: "main", Source: "push", Created: w.now}
	w.project.Pipelines = append(w.project.Pipelines, p)
	w.attempt(p, "build", w.now, status)
	return p
}

func (w *world) attempt(p *fakegitlab.Pipeline, name string, made time.Time, status string) *fakegitlab.Job {
	j := &fakegitlab.Job{
		ID: w.fake.ID(), Name: name, Stage: "build", Made: made, Reached: made, Queued: made, Started: made.Add(time.Second),
		Finished: made.Add(61 * time.Second), Final: status, Reason: "script_failure",
	}
	p.Jobs = append(p.Jobs, j)
	return j
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func TestWhatFinishedBeforeTheFirstReadingIsTheStartingValue(t *testing.T) {
	w := newWorld(t)
	for range 250 {
		w.add("success")
		w.pass(time.Minute)
		w.add("failed")
		w.pass(time.Minute)
	}
	w.pass(time.Hour)
	w.sync()
	want := map[string]uint64{"first success": 250, "first failure": 250, "job build success": 250, "job build failure": 250}
	w.want(want)
	for _, tally := range w.journal.Snapshot().Tallies {
		if !tally.Created.IsZero() {
			t.Fatalf("%v has a created timestamp: history would look like an increase", tally.Key)
		}
	}
	calls := w.api.calls
	if calls > 13 { // the project, 5 pages of pipelines, 5 of jobs, and what the ends of the pages cost
		t.Errorf("the first reading took %d calls", calls)
	}
	w.pass(time.Minute)
	w.sync()
	if w.api.calls != 1 {
		t.Errorf("an idle reading took %d calls, want 1: %v", w.api.calls, w.fake.Requests())
	}
	w.want(want)
}

func TestAPipelineIsCountedWhenItIsFinished(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.add("success")
	w.pass(30 * time.Second)
	w.sync()
	w.want(map[string]uint64{})
	if n := len(w.journal.Snapshot().Active); n != 1 {
		t.Errorf("%d active series, want 1", n)
	}
	w.pass(35 * time.Second) // ended 4 seconds ago: a retry may follow
	w.sync()
	w.want(map[string]uint64{"job build success": 1})
	w.pass(30 * time.Second)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
	if n := len(w.journal.Snapshot().Active); n != 0 {
		t.Errorf("%d active series, want none", n)
	}
	run := w.journal.Runs(journal.Filter{Entities: []catalog.Ref{checkout}})[0]
	if run.RefKind != "default" || run.Owner.Name != "pay" || run.System.Name != "shop" || *run.Duration != 60 || *run.Queued != 1 || run.ID.String() != "gitlab|gitlab.example.com|42/pipeline/1" {
		t.Errorf("the run is %+v", run)
	}
}

func TestARetryIsARerun(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("failed")
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
	w.attempt(p, "build", w.now, "success")
	w.pass(30 * time.Second)
	w.sync()
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build failure": 1, "first failure": 1, "job build success": 1, "rerun success": 1})
}

func TestARetryThatFollowsAtOnceBelongsToTheFirstFinish(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("failed")
	w.attempt(p, "build", w.now.Add(65*time.Second), "success")
	w.pass(63 * time.Second)
	w.sync()
	w.pass(10 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build failure": 1, "job build success": 1, "first success": 1})
}

func TestAPlayedManualJobContinuesThePipeline(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("success")
	manual := w.attempt(p, "deploy", w.now, "success")
	manual.Manual, manual.Queued, manual.Started, manual.Finished = true, time.Time{}, time.Time{}, time.Time{}
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
	w.pass(time.Hour)
	w.sync() // looks for child pipelines too, as something had moved
	w.pass(time.Hour)
	w.sync()
	if w.api.calls != 2 { // one of them asks whether there are deployments
		t.Errorf("waiting for a person costs %d calls in an hour, want 2", w.api.calls)
	}
	manual.Queued, manual.Started, manual.Finished = w.now, w.now.Add(time.Second), w.now.Add(time.Minute)
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1, "job deploy success": 1, "continued success": 1})
}

func TestAJobThatNeverRanIsAFailureWithoutADuration(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("failed")
	j := p.Jobs[0]
	j.Started, j.Reason = time.Time{}, "stuck_or_timeout_failure"
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build timeout": 1, "first timeout": 1})
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Key.Measure != exporter.MeasureRuns && tally.Key.Level != exporter.LevelObservation {
			t.Errorf("there is a histogram %v", tally.Key)
		}
	}
}

func TestAPipelineWaitsForItsBridge(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("success")
	bridge := w.attempt(p, "downstream", w.now, "failed")
	bridge.Bridge, bridge.Finished = true, w.now.Add(10*time.Minute)
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1})
	w.pass(10 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first failure": 1})
}

func TestAPipelineWithoutJobsCountsByItsStatus(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.project.Pipelines = append(w.project.Pipelines, &fakegitlab.Pipeline{ID: w.fake.ID(), Ref: "main", Source: "external", Created: w.now, Fixed: "failed"})
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"first failure": 1})
}

func TestADeletedPipelineIsNoLongerActive(t *testing.T) {
	w := newWorld(t)
	w.sync()
	p := w.add("success")
	w.pass(10 * time.Second)
	w.sync()
	p.Deleted = w.now.Add(time.Second)
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{})
	if n := len(w.journal.Snapshot().Active); n != 0 {
		t.Errorf("%d active series, want none", n)
	}
	w.pass(5 * time.Minute)
	w.sync()
	w.pass(5 * time.Minute)
	w.sync()
	if w.api.calls != 1 {
		t.Errorf("a deleted pipeline costs %d calls a reading", w.api.calls)
	}
}

func TestAMovedProjectIsFollowedByItsID(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.project.OldPath, w.project.Path = "acme/checkout", "acme/shop/checkout"
	w.restart()
	w.add("success")
	w.pass(5 * time.Minute)
	w.sync()
	w.pass(48 * time.Hour) // asked for its name again
	w.add("success")
	w.pass(5 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 2, "first success": 2})
}

func TestAProjectThatDoesNotExistIsAProblemAndStopsNothing(t *testing.T) {
	w := newWorld(t)
	w.graph = graphOf(t, component("checkout", map[string]string{"gitlab.com/project-slug": "acme/checkout"}), component("ghost", map[string]string{"gitlab.com/project-slug": "acme/ghost"}),
		component("numbered", map[string]string{"gitlab.com/project-id": "42"}), component("elsewhere", map[string]string{"gitlab.com/project-slug": "acme/ghost2", "gitlab.com/instance": "gitlab.other.example"}))
	w.sync()
	var got []string
	for _, p := range w.source.Problems() {
		got = append(got, p.Rule+" "+p.Entity.Name+" "+p.Annotation)
	}
	if diff := cmp.Diff([]string{"gitlab-project-missing ghost gitlab.com/project-slug"}, got); diff != "" {
		t.Error(diff)
	}
	w.add("success")
	w.pass(5 * time.Minute)
	w.sync()
	if w.api.calls != 3 { // pipelines, jobs and deployments
		t.Errorf("%d calls: a missing project is asked for again too soon", w.api.calls)
	}
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Key.Entity != "system:default/shop" {
			t.Errorf("a run of a project that two components name belongs to %s, want their system", tally.Key.Entity)
		}
	}
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}

func TestProjectsOfAGroupThatNobodyNamesCountForThePlatformOwner(t *testing.T) {
	w := newWorld(t)
	for i := range 120 {
		w.fake.Projects = append(w.fake.Projects, &fakegitlab.Project{ID: int64(100 + i), Path: fmt.Sprintf("acme/sub/p%d", i), DefaultBranch: "main"})
	}
	w.groups = []string{"acme"}
	w.restart()
	w.sync()
	if got := w.source.Problems(); len(got) != 120 || got[0].Rule != "gitlab-project-unclaimed" || got[0].Severity != catalog.SeverityInfo {
		t.Errorf("%d problems, the first %+v", len(got), got[:1])
	}
	w.project = w.fake.Projects[7]
	w.add("failed")
	w.pass(5 * time.Minute)
	w.post(fmt.Appendf(nil, `{"object_kind":"pipeline","project":{"id":%d},"object_attributes":{"id":7,"status":"running"}}`, w.project.ID), http.Header{"X-Gitlab-Token": {secret}})
	if len(w.journal.Positions(w.source.markPrefix())) != 1 {
		t.Error("its webhook was not stored")
	}
	w.fake.Requests()
	w.sync()
	if n := w.fake.Requests()["/groups/:id/projects"]; n != 0 {
		t.Errorf("the group was listed again after five minutes: %d calls", n)
	}
	w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Key.Entity != "" || tally.Key.Owner != "group:default/platform" {
			t.Errorf("the run counts for %q of %q", tally.Key.Entity, tally.Key.Owner)
		}
	}
	w.groups = []string{"acme", "nothing"}
	w.restart()
	w.sync() // a group that is not there stops nothing
	if len(w.source.Problems()) < 120 {
		t.Error("the projects of the other group are forgotten")
	}
}

func TestPipelinesOfASharedProjectBelongToTheEntityWhosePatternMatches(t *testing.T) {
	of := func(name, pattern string) *catalog.Entity {
		a := map[string]string{"gitlab.com/project-slug": "acme/mono"}
		if pattern != "" {
			a[catalog.Prefix+"pipelines"] = pattern
		}
		return component(name, a)
	}
	lone := of("lone", "")
	lone.System = catalog.Ref{}
	api := of("docs", "")
	api.Ref.Kind = "api"
	for _, c := range []struct {
		name     string
		entities []*catalog.Entity
		pipeline string
		want     string
	}{
		{"one entity has all", []*catalog.Entity{of("a", "")}, "x", "component:default/a"},
		{"a pattern decides", []*catalog.Entity{of("a", "a-*"), of("b", "b-*")}, "b-deploy", "component:default/b"},
		{"no pattern matches: the common system", []*catalog.Entity{of("a", "a-*"), of("b", "b-*")}, "other", "system:default/shop"},
		{"the rest goes to the one without a pattern", []*catalog.Entity{of("a", "a-*"), of("b", "")}, "other", "component:default/b"},
		{"all wins over nothing said", []*catalog.Entity{of("a", "all"), of("b", "")}, "other", "component:default/a"},
		{"two without a pattern: the common system", []*catalog.Entity{of("a", ""), of("b", "")}, "", "system:default/shop"},
		{"a component goes before its API", []*catalog.Entity{of("a", ""), api}, "x", "component:default/a"},
		{"no common system: nobody", []*catalog.Entity{of("a", ""), lone}, "x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graphOf(t, c.entities...)
			if got := entityOf(g, claimsOf(g, "gitlab.example.com", true)["acme/mono"], c.pipeline); got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestEveryRunIsCountedOnce lets random pipelines go through retries, manual jobs, skipped stages and bridges, reads them at
// random times, cuts readings off at random calls, restarts source and journal, and compares with what happened.
func TestEveryRunIsCountedOnce(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 7))
			w := newWorld(t)
			w.graphql, w.least = seed%2 == 1, 1
			w.restart()
			w.fake.NoChildren = random.IntN(3) == 0
			for range 3 + random.IntN(30) {
				w.story(random)
				w.pass(time.Duration(random.IntN(400)) * time.Second)
			}
			w.inOrder()
			end := w.now.Add(3 * time.Hour)
			w.now = epoch.Add(time.Duration(random.IntN(2000)) * time.Second)
			for w.now.Before(end) {
				w.api.calls, w.api.failAt = 0, 0
				if random.IntN(3) == 0 {
					w.api.failAt = 1 + random.IntN(8)
				}
				if err := w.source.Sync(t.Context(), w.graph, w.journal); err != nil && w.api.failAt == 0 && w.source.failed() == 0 {
					t.Fatal(err)
				}
				switch random.IntN(6) {
				case 0:
					w.restart()
				case 1:
					w.open()
				}
				w.pass(time.Duration(1+random.IntN(120)) * time.Second)
				if random.IntN(20) == 0 {
					w.pass(time.Duration(random.IntN(3000)) * time.Second)
				}
			}
			w.pass(time.Hour)
			w.restart()
			w.sync()
			w.pass(time.Minute)
			w.sync()
			w.wantTruth()
		})
	}
}

// failed is the number of projects that are left alone after failures.
func (s *Source) failed() int {
	n := 0
	for _, f := range s.followed {
		if f.failures > 0 {
			n++
		}
	}
	return n
}

// story adds a pipeline of one to three stages with everything that will happen to it.
func (w *world) story(random *rand.Rand) {
	seconds := func(n int) time.Duration { return time.Duration(random.IntN(n)) * time.Second }
	p := &fakegitlab.Pipeline{ID: w.fake.ID(), Ref: "main", Source: "push", SHA: fmt.Sprintf("%040x", random.IntN(20)), Created: w.now}
	w.project.Pipelines = append(w.project.Pipelines, p)
	job := func(name string, made, at time.Time) *fakegitlab.Job {
		j := &fakegitlab.Job{ID: w.fake.ID(), Name: name, Made: made, Reached: at}
		p.Jobs = append(p.Jobs, j)
		return j
	}
	run := func(j *fakegitlab.Job, at time.Time) time.Time {
		j.Queued = at
		j.Started = at.Add(seconds(60))
		j.Finished = j.Started.Add(time.Second + seconds(200))
		j.Final = []string{"success", "success", "success", "success", "failed", "failed", "canceled"}[random.IntN(7)]
		j.Reason = []string{"script_failure", "unmet_prerequisites", ""}[random.IntN(3)]
		if random.IntN(3) == 0 {
			coverage := float64(random.IntN(1001)) / 10
			j.Coverage = &coverage
		}
		if random.IntN(3) == 0 {
			j.Artifacts = map[string]int{"archive": 1000 + random.IntN(1000), "metadata": 10, "trace": 7}
		}
		j.Tags = [][]string{nil, {"linux", "big"}, {"big", "linux"}}[random.IntN(3)]
		return j.Finished
	}
	at := w.now.Add(time.Second)
	blocked := false
	var skipped []*fakegitlab.Job
	for stage := range 1 + random.IntN(3) {
		end := at
		for n := range 1 + random.IntN(3) {
			j := job(fmt.Sprint("s", stage, "-", n), w.now, at)
			j.AllowFailure = random.IntN(6) == 0
			j.Bridge = random.IntN(12) == 0
			switch {
			case random.IntN(6) == 0 && !j.Bridge:
				j.Manual = true
			case blocked:
				j.Skipped = true
				skipped = append(skipped, j)
			default:
				e := run(j, at.Add(seconds(4)))
				if random.IntN(15) == 0 && !j.Bridge && j.Final == "failed" && len(p.Jobs) > 1 { // no runner took it
					j.Started = time.Time{}
				}
				if j.Final == "failed" && random.IntN(3) == 0 && !j.Bridge { // retried by itself
					again := job(j.Name, e.Add(seconds(6)), e)
					again.AllowFailure = j.AllowFailure
					e = run(again, again.Made)
					j = again
				}
				if e.After(end) {
					end = e
				}
			}
		}
		at = end
		blocked = false
		newest := map[string]*fakegitlab.Job{}
		for _, j := range p.Jobs {
			newest[j.Name] = j
		}
		for _, j := range newest {
			blocked = blocked || !j.Finished.IsZero() && j.Final != "success" && !j.AllowFailure
		}
	}
	for _, j := range p.Jobs {
		if j.Bridge && !j.Started.IsZero() && random.IntN(4) > 0 {
			w.childStory(random, p, j)
		}
	}
	for range random.IntN(3) { // what people do later
		at = at.Add(15*time.Second + seconds(600))
		newest := map[string]*fakegitlab.Job{}
		for _, j := range p.Jobs {
			newest[j.Name] = j
		}
		var manual, failed []*fakegitlab.Job
		for _, j := range p.Jobs {
			switch {
			case j.Manual && j.Queued.IsZero():
				manual = append(manual, j)
			case newest[j.Name] == j && !j.Bridge && (j.Final == "failed" || j.Final == "canceled"):
				failed = append(failed, j)
			}
		}
		switch {
		case len(failed) > 0 && random.IntN(2) == 0:
			old := failed[random.IntN(len(failed))]
			again := job(old.Name, at, at)
			again.AllowFailure = old.AllowFailure
			at = run(again, at)
			if again.Final == "success" && len(failed) == 1 { // what was skipped goes on
				end := at
				for _, j := range skipped {
					if e := run(j, at.Add(seconds(4))); e.After(end) {
						end = e
					}
				}
				at, skipped = end, nil
			}
		case len(manual) > 0:
			at = run(manual[random.IntN(len(manual))], at)
		}
	}
}

// childStory adds the pipeline that a bridge starts, in the same project, of jobs that may be retried.
func (w *world) childStory(random *rand.Rand, parent *fakegitlab.Pipeline, by *fakegitlab.Job) {
	c := &fakegitlab.Pipeline{ID: w.fake.ID(), Ref: parent.Ref, Source: "parent_pipeline", SHA: parent.SHA, Created: by.Started, Parent: parent}
	w.project.Pipelines = append(w.project.Pipelines, c)
	by.Starts = c
	end := c.Created
	run := func(name string, at time.Time, final string) *fakegitlab.Job {
		j := &fakegitlab.Job{ID: w.fake.ID(), Name: name, Made: at, Reached: at, Queued: at, Final: final, Reason: "script_failure"}
		j.Started = at.Add(time.Duration(random.IntN(30)) * time.Second)
		j.Finished = j.Started.Add(time.Duration(1+random.IntN(200)) * time.Second)
		if j.Finished.After(end) {
			end = j.Finished
		}
		c.Jobs = append(c.Jobs, j)
		return j
	}
	for n := range 1 + random.IntN(3) {
		run(fmt.Sprint("child-", n), c.Created, []string{"success", "failed"}[random.IntN(2)])
	}
	if random.IntN(3) == 0 && !w.fake.NoChildren { // else nothing tells of it
		run("child-0", end.Add(15*time.Second+time.Duration(random.IntN(900))*time.Second), "success")
	}
	if random.IntN(2) == 0 { // strategy: depend
		by.Finished = latest(by.Finished, end)
	}
}

// inOrder gives pipelines and jobs ids in the order in which they are made, as GitLab does.
func (w *world) inOrder() {
	type made struct {
		at time.Time
		id *int64
	}
	var all []made
	for _, p := range w.project.Pipelines {
		all = append(all, made{p.Created, &p.ID})
		for _, j := range p.Jobs {
			all = append(all, made{j.Made, &j.ID})
		}
	}
	slices.SortFunc(all, func(a, b made) int { return stdcmp.Or(a.at.Compare(b.at), stdcmp.Compare(*a.id, *b.id)) })
	for _, m := range all {
		*m.id = w.fake.ID()
	}
}

// wantTruth compares what is counted and measured with what happened.
func (w *world) wantTruth() {
	w.t.Helper()
	want := map[string]uint64{}
	for _, p := range w.project.Pipelines {
		truth(p, want)
	}
	w.want(want)
	w.wantMeasured()
}

// truth counts by the definition: a finish is a time when every attempt made by then is terminal, a manual job counting as
// such until it was queued, and no retry follows within ten seconds.
func truth(p *fakegitlab.Pipeline, into map[string]uint64) (finishes []time.Time) {
	over := func(status string) bool {
		return slices.Contains([]string{"", "success", "failed", "canceled", "skipped", "manual"}, status)
	}
	var times []time.Time
	retry := map[*fakegitlab.Job]bool{}
	for i, j := range p.Jobs {
		retry[j] = slices.ContainsFunc(p.Jobs[:i], func(o *fakegitlab.Job) bool { return o.Name == j.Name })
		if j.Finished.IsZero() {
			continue
		}
		times = append(times, j.Finished)
		if !j.Bridge {
			into["job "+j.Name+" "+string(resultOf(j.Final, j.Reason))]++
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	var last time.Time
	for _, at := range slices.CompactFunc(times, time.Time.Equal) {
		done := !slices.ContainsFunc(p.Jobs, func(j *fakegitlab.Job) bool {
			return !over(j.Status(at)) || retry[j] && j.Made.After(at) && j.Made.Sub(at) <= quiet || j.Skipped && j.Queued.After(at) && j.Queued.Sub(at) <= quiet
		})
		if !done {
			continue
		}
		kind := "first"
		if !last.IsZero() {
			kind = "continued"
			var begin time.Time
			for _, j := range p.Jobs {
				if j.Queued.After(last) && (begin.IsZero() || j.Queued.Before(begin)) {
					begin = j.Queued
					kind = map[bool]string{true: "rerun", false: "continued"}[retry[j]]
				}
			}
		}
		newest := map[string]*fakegitlab.Job{}
		for _, j := range p.Jobs {
			if s := j.Status(at); s != "" && s != "manual" && s != "skipped" {
				newest[j.Name] = j
			}
		}
		result := "success"
		for _, j := range newest {
			switch j.Status(at) {
			case "failed":
				if !j.AllowFailure {
					result = "failure"
				}
			case "canceled":
				if result == "success" {
					result = "cancellation"
				}
			}
		}
		into[kind+" "+result]++
		last = at
		finishes = append(finishes, at)
	}
	return finishes
}

func tokenFile(t testing.TB, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestJobsThatNobodyAsksForAreNotKeptWithoutEnd(t *testing.T) {
	w := newWorld(t)
	var rows []pipeline
	for i := range 500 {
		p := w.add("success")
		if i < 20 {
			rows = append(rows, pipeline{ID: p.ID, Created: stamp{p.Created}})
		}
		w.pass(time.Minute)
	}
	w.pass(time.Hour)
	r := &reading{follower: &follower{Source: w.source, project: project{ID: 42}}}
	feed := newJobFeed(42)
	feed.limit = 250
	jobs, err := r.jobs(t.Context(), rows, feed)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rows {
		if len(jobs[p.ID]) != 1 {
			t.Errorf("pipeline %d has jobs %v", p.ID, jobs[p.ID])
		}
	}
	if w.api.calls != 3+20 || len(feed.jobs) != 0 {
		t.Errorf("%d calls, want 3 of the list and one for each pipeline; %d pipelines are still kept", w.api.calls, len(feed.jobs))
	}
}

func TestAReadingThatTakesLongDoesNotHoldWebhooksOfOtherProjectsUp(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	w.add("success")
	w.pass(5 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.pass(settleDelay)
	reading := w.source.follower(1) // of another project
	reading.busy.Lock()
	defer reading.busy.Unlock()
	if err := w.source.SyncNudged(t.Context(), w.graph, w.journal); err != nil {
		t.Fatal(err)
	}
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}

func TestWhatRunsInAProjectThatNobodyNamesAnyMoreIsNotShown(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.add("success")
	w.pass(30 * time.Second)
	w.sync()
	named := w.graph
	w.graph = graphOf(t)
	w.open() // it was taken out of the catalog while the process was down
	w.sync()
	if n := len(w.journal.Snapshot().Active); n != 0 {
		t.Errorf("%d active series, want none", n)
	}
	w.graph = named
	w.pass(time.Hour)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "first success": 1})
}
