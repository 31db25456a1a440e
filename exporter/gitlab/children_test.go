package gitlab

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
)

// family adds a pipeline whose bridge starts another one in a project after ten seconds, without waiting for it. Both run a job of a minute.
func (w *world) family(in *fakegitlab.Project, source string) (parent, child *fakegitlab.Pipeline) {
	parent = w.add("success")
	parent.SHA = "abc"
	bridge := w.attempt(parent, "trigger", w.now, "success")
	bridge.Bridge, bridge.Started, bridge.Finished = true, w.now.Add(10*time.Second), w.now.Add(11*time.Second)
	child = &fakegitlab.Pipeline{ID: w.fake.ID(), Ref: "main", SHA: "abc", Source: source, Created: bridge.Started, Parent: parent}
	bridge.Starts = child
	in.Pipelines = append(in.Pipelines, child)
	w.attempt(child, "child", child.Created, "failed")
	return parent, child
}

// parents gives by URL of each finished pipeline what started it.
func (w *world) parents() map[string]string {
	out := map[string]string{}
	for _, r := range w.journal.Runs(journal.Filter{}) {
		if r.Parent.Key != "" {
			out[r.ID.Key] = r.Parent.Key
		}
	}
	return out
}

func TestAChildPipelineIsCountedAndKnowsTheBridgeThatStartedIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		old   bool
		first func(w *world) // before the family
	}{
		{"in a project that has had some", false, func(w *world) {
			w.family(w.project, "parent_pipeline")
			w.pass(20 * time.Minute)
		}},
		{"the first of its project", false, func(*world) {}},
		{"where GitLab has no list of them", true, func(w *world) {
			w.family(w.project, "parent_pipeline")
			w.pass(20 * time.Minute)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.fake.NoChildren = c.old
			w.sync()
			c.first(w)
			w.sync()
			w.family(w.project, "parent_pipeline")
			for range 30 {
				w.pass(30 * time.Second)
				w.sync()
			}
			n := uint64(len(w.project.Pipelines) / 2)
			w.want(map[string]uint64{"job build success": n, "job child failure": n, "first success": n, "first failure": n})
			want := map[string]string{"42/pipeline/4": "42/pipeline/1/job/3"}
			if n > 1 {
				want["42/pipeline/9"] = "42/pipeline/6/job/8"
			}
			if diff := cmp.Diff(want, w.parents()); diff != "" {
				t.Errorf("what started pipelines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChildPipelinesCostNothingWhileNothingHappens(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.family(w.project, "parent_pipeline")
	for range 60 {
		w.pass(30 * time.Second)
		w.sync()
	}
	calls := 0
	for range 60 { // half an hour
		w.pass(30 * time.Second)
		w.sync()
		calls += w.api.calls
	}
	if calls != 60+3 {
		t.Errorf("half an hour in which nothing happened took %d calls, want one each 30 s and one each 10 minutes: %v", calls, w.fake.Requests())
	}
}

func TestTheFirstReadingFindsChildPipelinesAmongTheJobs(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.family(w.project, "parent_pipeline")
		w.pass(time.Minute)
	}
	w.inOrder()
	w.pass(time.Hour)
	w.sync()
	w.want(map[string]uint64{"job build success": 5, "job child failure": 5, "first success": 5, "first failure": 5})
	for _, tally := range w.journal.Snapshot().Tallies {
		if !tally.Created.IsZero() {
			t.Errorf("%v has a created timestamp: history would look like an increase", tally.Key)
		}
	}
}

func TestAWebhookOfAChildPipelineTellsWhatStartedIt(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	_, child := w.family(w.project, "parent_pipeline")
	w.pass(5 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.later()
	w.want(map[string]uint64{"job build success": 1, "job child failure": 1, "first success": 1, "first failure": 1})
	if diff := cmp.Diff(map[string]string{"42/pipeline/4": "42/pipeline/1/job/3"}, w.parents()); diff != "" || child.ID != 4 {
		t.Errorf("what started pipelines (-want +got):\n%s", diff)
	}
}

func TestADownstreamPipelineCountsForItsOwnProjectOnly(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t)
		other := &fakegitlab.Project{ID: 7, Path: "acme/deploy", DefaultBranch: "main"}
		w.fake.Projects = append(w.fake.Projects, other)
		w.graph = graphOf(t, component("checkout", map[string]string{"gitlab.com/project-slug": "acme/checkout"}), component("deploy", map[string]string{"gitlab.com/project-slug": "acme/deploy"}))
		w.sync()
		w.family(w.project, "parent_pipeline") // so that bridges are known
		for range 25 {
			w.pass(30 * time.Second)
			w.sync()
		}
		w.family(other, "pipeline")
		w.pass(40 * time.Second)
		w.sync()
		if restart {
			w.open()
		}
		for range 4 {
			w.pass(30 * time.Second)
			w.sync()
		}
		w.want(map[string]uint64{"job build success": 2, "job child failure": 2, "first success": 2, "first failure": 2})
		runs := w.journal.Runs(journal.Filter{Entities: []catalog.Ref{catalog.NewRef("component", "", "deploy")}})
		if len(runs) != 1 || runs[0].Parent.Key != "42/pipeline/6/job/8" {
			t.Errorf("restart %v: pipelines of the other project: %+v", restart, runs)
		}
	}
}

func TestChildPipelinesOfAnOldGitLabAreForgotten(t *testing.T) {
	w := newWorld(t)
	r := &reading{follower: w.source.follower(42)} // whose list of children was never read
	r.Children.Seen = map[int64]time.Time{1: w.now.Add(-startedFor - time.Second), 2: w.now.Add(-startedFor + time.Second)}
	r.forgetStarted()
	if diff := cmp.Diff(map[int64]time.Time{2: w.now.Add(-startedFor + time.Second)}, r.Children.Seen); diff != "" {
		t.Errorf("remembered children (-want +got):\n%s", diff)
	}
}

// TestABridgeIsSentOnceAndCountsNothing is of one that waits for what it starts and one that does not, of which GitLab tells
// no start.
func TestABridgeIsSentOnceAndCountsNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.journal, err = journal.Open(w.path, journal.Options{Now: func() time.Time { return w.now }, Outboxes: []string{"traces"}}); err != nil {
		t.Fatal(err)
	}
	w.sync()
	parent, child := w.family(w.project, "parent_pipeline")
	waits, moment := parent.Jobs[1], w.attempt(parent, "fire", w.now, "success")
	moment.Bridge, moment.Started = true, time.Time{}
	for range 3 {
		w.pass(5 * time.Minute)
		w.sync()
	}
	list, err := w.journal.Waiting("traces", 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, u := range list {
		if r := u.Run; r.Level == exporter.LevelBridge {
			got[r.Name] += fmt.Sprintf("%s %s %s starts %q", r.ID.Key, r.Parent.Key, r.Finished.Sub(r.Started), r.Starts.Key)
		}
	}
	want := map[string]string{
		"trigger": fmt.Sprintf(`42/job/%d 42/pipeline/%d 1s starts "42/pipeline/%d"`, waits.ID, parent.ID, child.ID),
		"fire":    fmt.Sprintf(`42/job/%d 42/pipeline/%d 0s starts ""`, moment.ID, parent.ID),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bridges (-want +got):\n%s", diff)
	}
	w.want(map[string]uint64{"first success": 1, "job build success": 1, "first failure": 1, "job child failure": 1})
}
