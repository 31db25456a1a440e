package gitlab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/upstream"
)

// observed are the sums of what was observed beside runs, by kind and labels; of histograms, the sum after the count.
func (w *world) observed(kinds ...exporter.ObservationKind) map[string]string {
	out := map[string]string{}
	for _, kind := range kinds {
		for _, t := range w.journal.Snapshot().Tallies {
			if t.Key.Measure == exporter.Measure(kind) {
				out[string(kind)+" "+strings.ReplaceAll(t.Key.Values, "\x1f", " ")] = fmt.Sprintf("%d: %g", t.Count, t.Sum)
			}
		}
	}
	return out
}

// pushed makes a pipeline of a branch or merge request that runs from a second after now for a minute.
func (w *world) pushed(ref, sha, source, status string) *fakegitlab.Pipeline {
	p := w.add(status)
	p.Ref, p.SHA, p.Source = ref, sha, source
	return p
}

func TestFirstFeedbackOfCommitsAndMergeRequests(t *testing.T) {
	w := newWorld(t)
	w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{IID: 1, Branch: "old", SHA: "0a", Opened: w.now.Add(-time.Hour)})
	w.pushed("old", "0a", "push", "success") // 61 s
	w.pass(30 * time.Second)
	w.sync()

	w.project.MergeRequests = append(w.project.MergeRequests,
		&fakegitlab.MergeRequest{IID: 2, Branch: "tax", SHA: "2a", Opened: w.now},
		&fakegitlab.MergeRequest{IID: 3, Branch: "fee", SHA: "3a", Opened: w.now},
		&fakegitlab.MergeRequest{IID: 4, Branch: "idle", SHA: "4a", Opened: w.now})
	w.pass(9 * time.Second)
	w.pushed("refs/merge-requests/2/head", "2a", "merge_request_event", "failed") // 61 s after 9 s
	w.pushed("fee", "3a", "push", "canceled")
	w.pass(10 * time.Second)
	w.pushed("fee", "3a", "push", "success")                // the same commit: 61 s after 19 s
	w.pushed("main", "5a", "push", "success")               // no merge request's
	w.pushed("main", "6a", "schedule", "success")           // nobody waits for it
	w.pushed("stranger", "4a", "parent_pipeline", "failed") // a part of another one
	for range 12 {
		w.pass(10 * time.Second)
		w.sync()
	}
	w.pushed("refs/merge-requests/2/head", "2b", "merge_request_event", "success") // no longer the first
	w.pass(2 * time.Minute)
	w.sync()
	w.restart()
	w.pass(2 * time.Minute)
	w.sync()
	want := map[string]string{
		"first_feedback commit":        "5: 305", // 0a, 2a, 3a, 5a, 2b, of a minute and a second each
		"first_feedback merge_request": "2: 150", // 70 s and 80 s
	}
	if diff := cmp.Diff(want, w.observed(exporter.FirstFeedback)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.want(map[string]uint64{"first success": 5, "first failure": 2, "first cancellation": 1, "job build success": 5, "job build failure": 2, "job build cancellation": 1})
}

func TestMergeRequestsThatCannotBeReadHoldNothingUp(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused":                   {&upstream.StatusError{Code: 403}, ""},
		"broken for a few minutes":  {errors.New("connection reset"), "1: 62"},
		"unreadable for some while": {&upstream.StatusError{Code: 502}, "1: 62"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sync()
			w.pass(time.Minute)
			broken, asked := true, 0
			w.api.breaks = func(path string) error {
				if !strings.Contains(path, "/merge_requests?") {
					return nil
				}
				if asked++; asked == 1 { // whatever comes of it, pipelines are counted
					w.want(map[string]uint64{"first success": 1, "job build success": 1})
				}
				if broken {
					return c.err
				}
				return nil
			}
			w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{IID: 2, Branch: "tax", SHA: "2a", Opened: w.now.Add(-time.Second)})
			w.pushed("tax", "2a", "push", "success")
			for range 6 {
				w.pass(time.Minute)
				w.sync()
			}
			if asked != 1 {
				t.Errorf("asked %d times within minutes of the failure", asked)
			}
			w.want(map[string]uint64{"first success": 1, "job build success": 1})
			broken = false
			w.pass(10 * time.Minute)
			w.sync()
			if got := w.observed(exporter.FirstFeedback)["first_feedback merge_request"]; got != c.want {
				t.Errorf("first feedback %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheFirstResultOfAMergeRequestOutlastsACommitThatFails(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.pass(time.Minute)
	w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{IID: 2, Branch: "tax", SHA: "2a", Opened: w.now.Add(-time.Second)})
	w.pushed("tax", "2a", "push", "success")
	w.pass(5 * time.Minute)
	if err := w.source.Sync(t.Context(), w.graph, &crash{Sink: w.journal, at: 1, before: true}); err == nil {
		t.Fatal("the journal took nothing, and that is no error")
	}
	w.pass(10 * time.Minute)
	w.sync()
	if got := w.observed(exporter.FirstFeedback)["first_feedback merge_request"]; got != "1: 62" {
		t.Errorf("first feedback %q, want one of 62 seconds", got)
	}
}

func TestOldMergeRequestsThatChangeAreListedOnce(t *testing.T) {
	w := newWorld(t)
	for n := range int64(250) {
		w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{IID: n + 1, Branch: "old", SHA: "0a", Opened: w.now.Add(-time.Hour), Merged: w.now.Add(time.Duration(n) * time.Second)})
	}
	w.sync()
	for _, want := range []int{3, 1, 1} { // pages
		w.pass(2 * time.Minute)
		w.pushed("tax", "2a", "push", "success")
		w.pass(5 * time.Minute)
		w.fake.Requests()
		w.sync()
		if got := w.fake.Requests()["/projects/:id/merge_requests"]; got != want {
			t.Errorf("%d pages were read, want %d", got, want)
		}
	}
}
