package gitlab

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// push makes commits on the default branch, an hour before now.
func (w *world) push(shas ...string) {
	for _, sha := range shas {
		w.project.Commits = append(w.project.Commits, fakegitlab.Commit{SHA: sha, Message: "Change " + sha, At: w.now.Add(-time.Hour)})
	}
}

func (w *world) wantLeadTimes(want map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.observed(exporter.LeadTime)); diff != "" {
		w.t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommitsThatWerePushedWithoutAMergeRequestHaveALeadTime(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.push("a", "b")
	w.deploy("production", "b") // the first
	w.poll(20 * time.Minute)
	w.push("c", "d")
	w.project.Commits = append(w.project.Commits, fakegitlab.Commit{SHA: "e", Message: "Bump", Author: "renovate[bot]", At: w.now}, fakegitlab.Commit{SHA: "f", Message: "Merge branch 'x'", At: w.now})
	w.deploy("staging", "f")
	w.deploy("production", "f")
	w.fake.Requests()
	w.poll(20 * time.Minute)
	if n := w.fake.Requests()["/projects/:id/repository/:id"]; n != 1 {
		t.Errorf("%d calls for commits, want 1", n)
	}
	w.wantLeadTimes(map[string]string{"lead_time production total": "2: 7200"})

	w.deploy("production", "b") // back: nothing is new
	w.poll(20 * time.Minute)
	w.deploy("production", "f") // and forth: all is known
	w.poll(20 * time.Minute)
	w.wantLeadTimes(map[string]string{"lead_time production total": "2: 7200"})

	w.push("g")
	w.merge(7, "tax")
	w.deploy("production", "g", 7) // its merge request tells
	w.poll(20 * time.Minute)
	w.wantLeadTimes(map[string]string{
		"lead_time production total": "3: 10800", "lead_time production coding": "1: 1800", "lead_time production review": "1: 1800", "lead_time production deploy": "1: 0",
	})
	w.project.Commits = w.project.Commits[:1] // a force push
	w.push("h")
	w.deploy("production", "h")
	w.open()
	w.poll(20 * time.Minute)
	if got := w.observed(exporter.Deployments)["deployments production success"]; got != "6: 6" {
		t.Errorf("deployments %q: one of a history that is gone does not count", got)
	}
}

func TestARevertThatWasPushedIsAFix(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.push("a")
	w.deploy("production", "a")
	w.poll(20 * time.Minute)
	w.push("bbbbbbbb")
	w.deploy("production", "bbbbbbbb")
	w.poll(20 * time.Minute)
	w.project.Commits = append(w.project.Commits, fakegitlab.Commit{SHA: "c", Message: "Undo\n\nThis reverts commit bbbbbbbb.", At: w.now})
	w.deploy("production", "c")
	w.poll(20 * time.Minute)
	if got := w.observed(exporter.DeploymentsFailed)["deployments_failed production fix"]; got != "1: 1" {
		t.Errorf("failed deployments %q, want one", got)
	}
}

func TestALargeDeploymentCostsABoundedNumberOfCalls(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.deploy("production", "r0")
	w.poll(20 * time.Minute)
	var merged []int64
	for i := range int64(120) {
		w.merge(i+1, "tax")
		merged = append(merged, i+1)
	}
	w.deploy("production", "r1", merged...)
	w.push("long ago")
	for i := range 1200 {
		w.push(fmt.Sprint("p", i))
	}
	w.fake.Requests()
	w.poll(20 * time.Minute)
	calls := w.fake.Requests()
	if calls["/projects/:id/merge_requests/:id/commits"] != maxMerged || calls["/projects/:id/deployments/:id/merge_requests"] != 2 {
		t.Errorf("calls %v", calls)
	}
	want := map[string]string{
		"lead_time production total": fmt.Sprintf("%d: %d", maxMerged, maxMerged*3600), "lead_time production coding": fmt.Sprintf("%d: %d", maxMerged, maxMerged*1800),
		"lead_time production review": fmt.Sprint("120: ", 120*1800), "lead_time production deploy": "120: 0",
	}
	w.wantLeadTimes(want)
	w.project.Commits[0].SHA = "r1"
	w.deploy("production", "p1199")
	w.fake.Requests()
	w.poll(20 * time.Minute)
	if n := w.fake.Requests()["/projects/:id/repository/:id"]; n != maxCommits/pageSize {
		t.Errorf("%d calls for 1200 commits, want %d", n, maxCommits/pageSize)
	}
	if got := w.observed(exporter.LeadTime)["lead_time production total"]; got[:4] != fmt.Sprint(maxMerged+maxCommits, ":") {
		t.Errorf("lead times %q, want %d", got, maxMerged+maxCommits)
	}
}

// TestMergeRequestsThatGitLabLinksLaterAreNotMissed is of GitLab's way to find, some time after a deployment's end, what it
// was the first to deploy. A webhook must not make Sightline ask before.
func TestMergeRequestsThatGitLabLinksLaterAreNotMissed(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.deploy("production", "r0")
	w.poll(20 * time.Minute)
	w.merge(1, "tax")
	d := w.deploy("production", "r1", 1)
	d.Linked = w.now.Add(time.Minute)
	w.send(w.fake.DeploymentHook(w.project, d, w.now))
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	w.poll(5 * time.Minute)
	if got := w.observed(exporter.LeadTime)["lead_time production total"]; got != "1: 3600" {
		t.Errorf("lead times %q, want one of an hour", got)
	}
}
