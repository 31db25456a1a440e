package gitlab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

func TestAJobIsFlakyWhenItFailedAndPassedForOneCommit(t *testing.T) {
	type run struct {
		after                time.Duration
		sha, source, verdict string
	}
	for _, c := range []struct {
		name string
		runs []run
		want string
	}{
		{"in the pipelines of its branch and its merge request", []run{{0, "a", "push", "failed"}, {0, "a", "merge_request_event", "success"}}, "1: 1"},
		{"in a pipeline of the next night", []run{{0, "a", "push", "success"}, {20 * time.Hour, "a", "schedule", "failed"}}, "1: 1"},
		{"again and again", []run{{0, "a", "push", "failed"}, {time.Hour, "a", "web", "success"}, {time.Hour, "a", "web", "failed"}, {time.Hour, "a", "web", "success"}}, "1: 1"},
		{"for two commits", []run{{0, "a", "push", "failed"}, {0, "a", "web", "success"}, {0, "b", "push", "success"}, {0, "b", "web", "failed"}}, "2: 2"},
		{"never: each commit has one verdict", []run{{0, "a", "push", "failed"}, {0, "a", "web", "failed"}, {0, "b", "push", "success"}}, ""},
		{"never: a canceled job is no verdict", []run{{0, "a", "push", "failed"}, {0, "a", "web", "canceled"}}, ""},
		{"never: a pipeline of another week is another matter", []run{{0, "a", "push", "failed"}, {7 * 24 * time.Hour, "a", "schedule", "success"}}, ""},
		{"never: child pipelines call different jobs the same", []run{{0, "a", "push", "failed"}, {0, "a", "parent_pipeline", "success"}}, ""},
		{"never: pipelines that others started have variables of their own", []run{{0, "a", "trigger", "failed"}, {0, "a", "api", "success"}}, ""},
	} {
		for _, how := range []string{"polled", "polled after restarts", "read as history"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				w := newWorld(t)
				if how != "read as history" {
					w.sync()
				}
				for _, r := range c.runs {
					w.pass(r.after)
					w.pushed("main", r.sha, r.source, r.verdict)
					w.pass(5 * time.Minute)
					switch how {
					case "polled after restarts":
						w.open()
						fallthrough
					case "polled":
						w.sync()
						w.pass(time.Minute)
						w.sync()
					}
				}
				w.sync()
				if got := w.observed(exporter.FlakyTasks)["flaky_tasks acme/checkout build"]; got != c.want {
					t.Errorf("flaky jobs %q, want %q", got, c.want)
				}
			})
		}
	}
}

// TestFlakyJobsAreTheSameInAnyOrder is of pipelines with names, as one of them gives its name to the label: it must not
// depend on which was learned of first.
func TestFlakyJobsAreTheSameInAnyOrder(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			read := func(rough bool) map[string]string {
				random, luck := rand.New(rand.NewPCG(seed, 5)), rand.New(rand.NewPCG(seed, 6))
				w := newWorld(t)
				w.sync()
				begin := w.now
				for range 25 {
					w.pass(time.Duration(1+random.IntN(300)) * time.Second)
					p := w.pushed("main", fmt.Sprint("c", random.IntN(6)), []string{"push", "merge_request_event", "api"}[random.IntN(3)], []string{"success", "failed"}[random.IntN(2)])
					p.Name = []string{"branch", "merge", "night"}[random.IntN(3)]
					p.Jobs[0].Finished = p.Jobs[0].Started.Add(time.Duration(1+random.IntN(600)) * time.Second)
					if random.IntN(4) == 0 {
						w.attempt(p, "build", p.Jobs[0].Finished.Add(time.Duration(random.IntN(900))*time.Second), "success")
					}
				}
				end := w.now.Add(time.Hour)
				if !rough {
					w.now = begin
					for w.now.Before(end) {
						w.pass(30 * time.Second)
						w.sync()
					}
				} else {
					hooks := w.fake.Hooks(w.project, begin, end)
					for i := range hooks {
						hooks[i].At = hooks[i].At.Add(time.Duration(luck.IntN(300)) * time.Second)
					}
					slices.SortStableFunc(hooks, func(a, b fakegitlab.Hook) int { return a.At.Compare(b.At) })
					w.deliver(luck, hooks, begin, end)
				}
				return w.observed(exporter.FlakyTasks)
			}
			quiet := read(false)
			if len(quiet) == 0 {
				t.Error("no job is flaky")
			}
			if diff := cmp.Diff(quiet, read(true)); diff != "" {
				t.Errorf("(-quiet +rough):\n%s", diff)
			}
		})
	}
}

func TestWhatIsRememberedOfCommitsDoesNotGrow(t *testing.T) {
	w := newWorld(t)
	w.sync()
	longest := 0
	for i := range 400 {
		w.pushed("main", fmt.Sprint("c", i), "push", []string{"success", "failed"}[i%2])
		w.pass(time.Hour)
		w.sync()
		text, _ := w.journal.Position("gitlab/gitlab.example.com/42/verdicts")
		longest = max(longest, len(text))
	}
	if longest == 0 || longest > 70*100 {
		t.Errorf("%d bytes are stored of 48 hours with a pipeline each", longest)
	}
}
