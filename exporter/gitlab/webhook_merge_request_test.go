package gitlab

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// TestAMergeRequestsFirstResultIsObservedByWebhooksAlone polls only before.
func TestAMergeRequestsFirstResultIsObservedByWebhooksAlone(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	m := &fakegitlab.MergeRequest{IID: 2, Branch: "tax", SHA: "2a", Opened: w.now}
	w.project.MergeRequests = append(w.project.MergeRequests, m)
	w.fake.Requests()
	for range 2 {
		if code := w.send(w.fake.MergeRequestHook(w.project, m, "open", w.now)); code != http.StatusOK {
			t.Fatalf("answered %d", code)
		}
	}
	w.send(w.fake.MergeRequestHook(w.project, m, "update", w.now))
	if left := w.journal.Positions("gitlab/gitlab.example.com/hooks/"); len(left) != 1 {
		t.Errorf("the journal holds %v, want the merge request", left)
	}
	w.open() // it outlasts a restart
	w.sync()
	w.fake.Requests()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	if calls := w.fake.Requests(); len(calls) != 0 {
		t.Errorf("a merge request that was opened costs %v", calls)
	}
	if left := w.journal.Positions("gitlab/gitlab.example.com/hooks/"); len(left) != 0 {
		t.Errorf("the journal still holds %v", left)
	}
	w.pass(4 * time.Second)
	w.pushed("tax", "2a", "push", "failed")
	w.pass(2 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		w.send(h)
	}
	w.later()
	want := map[string]string{"first_feedback commit": "1: 61", "first_feedback merge_request": "1: 65"}
	if diff := cmp.Diff(want, w.observed(exporter.FirstFeedback)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if calls := w.fake.Requests(); calls["/projects/:id/merge_requests"] != 1 || calls["/projects/:id/pipelines"] != 1 {
		t.Errorf("calls %v, want one list of merge requests and one of pipelines", calls)
	}
}

// feedbackTruth is how long commits and merge requests waited, by the definition.
func (w *world) feedbackTruth() map[string]string {
	sums, counts := map[string]float64{}, map[string]int{}
	type result struct {
		*fakegitlab.Pipeline
		end time.Time
	}
	var results []result
	for _, p := range w.project.Pipelines {
		if j := p.Jobs[0]; j.Final != "canceled" && (p.Source == "push" || p.Source == "merge_request_event") {
			results = append(results, result{p, j.Finished})
		}
	}
	slices.SortFunc(results, func(a, b result) int {
		if n := a.end.Compare(b.end); n != 0 {
			return n
		}
		return a.Created.Compare(b.Created)
	})
	commits := map[string]bool{}
	for _, r := range results {
		if !commits[r.SHA] {
			commits[r.SHA] = true
			counts["commit"]++
			sums["commit"] += r.end.Sub(r.Created).Seconds()
		}
	}
	for _, m := range w.project.MergeRequests {
		for _, r := range results {
			own := strings.HasPrefix(r.Ref, fmt.Sprintf("refs/merge-requests/%d/", m.IID)) || r.Ref == m.Branch && !m.Fork
			if own && !r.end.Before(m.Opened) && m.Opened.After(epoch) {
				counts["merge_request"]++
				sums["merge_request"] += r.end.Sub(m.Opened).Seconds()
				break
			}
		}
	}
	out := map[string]string{}
	for of, n := range counts {
		out["first_feedback "+of] = fmt.Sprintf("%d: %g", n, sums[of])
	}
	return out
}

// TestMergeRequestsByWebhooksAndPollingGiveTheSame lets merge requests of a few branches be opened, and pipelines of them
// run, and delivers the webhooks of both twice, late, in any order or not at all.
func TestMergeRequestsByWebhooksAndPollingGiveTheSame(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 17))
			w := newWorld(t)
			w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{IID: 100, Branch: "tax", SHA: "0", Opened: w.now.Add(-time.Hour)})
			w.sync()
			begin := w.now
			var told []fakegitlab.Hook
			for i := range 12 + random.IntN(20) {
				w.pass(time.Duration(1+random.IntN(200)) * time.Second)
				branch := []string{"tax", "fee", "vat"}[random.IntN(3)]
				if random.IntN(3) == 0 {
					m := &fakegitlab.MergeRequest{IID: int64(1 + i), Branch: branch, SHA: fmt.Sprint("c", random.IntN(12)), Opened: w.now, Fork: random.IntN(4) == 0}
					if random.IntN(3) == 0 {
						m.Merged, m.MergeSHA = w.now.Add(time.Duration(random.IntN(600))*time.Second), "aa"
						told = append(told, w.fake.MergeRequestHook(w.project, m, "merge", m.Merged))
					}
					w.project.MergeRequests = append(w.project.MergeRequests, m)
					told = append(told, w.fake.MergeRequestHook(w.project, m, "open", m.Opened))
					continue
				}
				source := "push"
				if n := len(w.project.MergeRequests); random.IntN(3) == 0 {
					branch, source = fmt.Sprintf("refs/merge-requests/%d/head", w.project.MergeRequests[random.IntN(n)].IID), "merge_request_event"
				} else if random.IntN(4) == 0 {
					branch = "main"
				}
				p := w.pushed(branch, fmt.Sprint("c", random.IntN(12)), source, []string{"success", "failed", "canceled"}[random.IntN(3)])
				p.Jobs[0].Finished = p.Jobs[0].Started.Add(time.Duration(1+random.IntN(300)) * time.Second)
			}
			end := w.now.Add(30 * time.Minute)
			hooks := append(w.fake.Hooks(w.project, begin, end), told...)
			for i := range hooks {
				if random.IntN(3) == 0 {
					hooks[i].At = hooks[i].At.Add(time.Duration(random.IntN(300)) * time.Second)
				}
			}
			slices.SortStableFunc(hooks, func(a, b fakegitlab.Hook) int { return a.At.Compare(b.At) })
			w.deliver(random, hooks, begin, end)
			w.wantTruth()
			if diff := cmp.Diff(w.feedbackTruth(), w.observed(exporter.FirstFeedback)); diff != "" {
				t.Errorf("first feedback (-want +got):\n%s", diff)
			}
		})
	}
}
