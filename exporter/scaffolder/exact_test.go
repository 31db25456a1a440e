package scaffolder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
)

// A counter is a source beside a journal that can be cut off and started again.
type counter struct {
	t      *testing.T
	portal *portal
	path   string
	j      *journal.Journal
}

func newCounter(t *testing.T, p *portal) *counter {
	t.Helper()
	c := &counter{t: t, portal: p, path: filepath.Join(t.TempDir(), "journal.db")}
	c.j = open(t, c.path)
	t.Cleanup(func() { c.j.Close() })
	return c
}

func (c *counter) restart() {
	c.j.Close()
	c.j = open(c.t, c.path)
}

// sync reads once, as exporter.Follow does.
func (c *counter) sync(to exporter.Sink) error {
	c.t.Helper()
	c.portal.calls = nil
	s, err := New(c.portal, "http://backstage.test:7007", func() time.Time { return c.portal.now })
	if err != nil {
		c.t.Fatal(err)
	}
	if err := s.Sync(c.t.Context(), graph(), to); err != nil {
		return err
	}
	return c.j.Settle(c.t.Context(), s.Name(), s.Host())
}

func (c *counter) mustSync() {
	c.t.Helper()
	if err := c.sync(c.j); err != nil {
		c.t.Fatal(err)
	}
}

// counted gives the visible counters of tasks by result and attempt, and the number of active tasks.
func (c *counter) counted() (finished map[string]int, active int) {
	finished = map[string]int{}
	s := c.j.Snapshot()
	for _, ta := range s.Tallies {
		if ta.Key.Measure == exporter.MeasureRuns && ta.Key.Level == exporter.LevelPipeline && ta.Count > 0 {
			finished[string(ta.Key.Result)+" "+string(ta.Key.Attempt)] += int(ta.Count)
		}
	}
	for _, n := range s.Active {
		active += n
	}
	return finished, active
}

// mustBe compares the counters with what they have to be.
func (c *counter) mustBe(when string, want map[string]int) {
	c.t.Helper()
	if got, _ := c.counted(); !cmp.Equal(want, got) {
		c.t.Errorf("%s (-want +got):\n%s", when, cmp.Diff(want, got))
	}
}

// beganWithHistory tells whether every visible counter had a starting value.
func (c *counter) beganWithHistory() bool {
	for _, ta := range c.j.Snapshot().Tallies {
		if !ta.Created.IsZero() {
			return false
		}
	}
	return true
}

// A breakingSink lets some commits pass and loses the process at the next one, before or after it was stored.
type breakingSink struct {
	exporter.Sink
	left  int
	after bool
}

func (s *breakingSink) Commit(ctx context.Context, b exporter.Batch) error {
	s.left--
	if s.left >= 0 {
		return s.Sink.Commit(ctx, b)
	}
	if s.left == -1 && s.after {
		if err := s.Sink.Commit(ctx, b); err != nil {
			return err
		}
	}
	return errCutOff
}

func TestTheCountersAreTheTruthWhateverHappensInBetween(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p := &portal{now: now}
			c := newCounter(t, p)
			for range 60 {
				p.advance(time.Duration(1+rnd.IntN(40)) * time.Second)
				pick := func(ok func(*work) bool) *work {
					if len(p.tasks) == 0 {
						return nil
					}
					for range 8 {
						if w := p.tasks[rnd.IntN(len(p.tasks))]; ok(w) {
							return w
						}
					}
					return nil
				}
				result := []exporter.Result{exporter.ResultSuccess, exporter.ResultFailure}[rnd.IntN(2)]
				waits := func(w *work) bool { return w.status == "open" }
				runs := func(w *work) bool { return w.status == "processing" }
				switch rnd.IntN(13) {
				case 0, 1:
					p.create()
				case 2, 3:
					if w := pick(waits); w != nil {
						p.begin(w)
					}
				case 4, 5:
					if w := pick(runs); w != nil {
						p.finish(w, result)
					}
				case 6:
					if w := pick(func(w *work) bool { return waits(w) || runs(w) }); w != nil {
						p.cancel(w)
					}
				case 7:
					if w := pick((*work).terminal); w != nil {
						p.retry(w)
					}
				case 8: // what was lost before its first finish could be read stays unknown
					if w := pick(func(w *work) bool { return (waits(w) || runs(w)) && len(w.ended) == 0 }); w != nil {
						p.remove(w)
					}
				case 9:
					if w := pick(runs); w != nil {
						p.requeue(w)
					}
				case 10, 11:
					p.fail = 0
					if rnd.IntN(2) == 0 {
						p.fail = 1 + rnd.IntN(6)
					}
					sink := &breakingSink{c.j, 99, rnd.IntN(2) == 0}
					if rnd.IntN(3) == 0 {
						sink.left = rnd.IntN(3)
					}
					if err := c.sync(sink); err != nil && !errors.Is(err, errCutOff) {
						t.Fatal(err)
					}
					p.fail = 0
				case 12:
					c.restart()
				}
			}
			for _, w := range p.tasks {
				if w.status == "open" {
					p.begin(w)
				}
				if w.status == "processing" {
					p.finish(w, exporter.ResultSuccess)
				}
			}
			c.mustSync()
			c.restart()
			p.advance(2 * patience)
			c.mustSync()
			want, active := p.truth()
			c.mustBe("at the end", want)
			if _, got := c.counted(); got != active {
				t.Errorf("%d tasks are shown as active; want %d", got, active)
			}
		})
	}
}

func TestATaskThatWasDeletedIsNeitherActiveNorCountedNorAFailure(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	w := p.create()
	p.begin(w)
	c.mustSync()
	if _, active := c.counted(); active != 1 {
		t.Fatalf("%d active tasks; want 1", active)
	}
	p.remove(w)
	c.mustSync()
	c.mustBe("after the deletion", map[string]int{})
	if _, active := c.counted(); active != 0 {
		t.Errorf("%d active tasks after the deletion; want none", active)
	}
	c.mustSync()
	for _, call := range p.calls {
		if call == "/api/scaffolder/v2/tasks/"+w.id {
			t.Errorf("the deleted task is still asked for: %v", p.calls)
		}
	}
}

func TestAPlainNotFoundOfAStartingBackstageDeletesNothing(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	w := p.create()
	p.begin(w)
	c.mustSync()
	p.silent = true
	p.remove(w)
	if err := c.sync(c.j); err == nil {
		t.Error("Sync succeeded although a task could not be read")
	}
	if _, active := c.counted(); active != 1 {
		t.Errorf("%d active tasks; want 1", active)
	}
}

func TestAFinishedTaskWithoutACompletionCountsOnceByItsStatus(t *testing.T) {
	for status, want := range map[string]string{"completed": "success first", "failed": "error first", "cancelled": "cancellation first", "skipped": "skip first"} {
		t.Run(status, func(t *testing.T) {
			p := &portal{now: now}
			c := newCounter(t, p)
			c.mustSync()
			p.advance(time.Minute)
			w := p.create()
			p.begin(w)
			w.status = status
			c.mustSync()
			c.mustBe("before the event may be given up", map[string]int{})
			p.advance(patience + time.Minute)
			for range 3 {
				c.mustSync()
				c.restart()
				c.mustBe("after "+patience.String(), map[string]int{want: 1})
				p.advance(25 * time.Hour)
			}
		})
	}
}

func TestALostWorkerIsAnErrorAndNotASuccess(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	w := p.create()
	p.begin(w)
	p.lose(w)
	c.mustSync()
	c.mustBe("task given up", map[string]int{"error first": 1})
}

func TestWhatEndsAfterTheFirstStartIsNews(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	old, across := p.create(), p.create()
	p.begin(old)
	p.begin(across)
	p.finish(old, exporter.ResultSuccess)
	p.advance(time.Minute)
	c.mustSync()
	c.mustBe("first start", map[string]int{"success first": 1})
	if !c.beganWithHistory() {
		t.Error("history looks like news")
	}
	p.advance(time.Minute)
	p.finish(across, exporter.ResultSuccess)
	c.mustSync()
	c.mustBe("end of the task that ran at the first start", map[string]int{"success first": 2})
}

func TestTheFirstTaskOfAnEmptyBackstageIsNews(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	c.mustSync()
	p.advance(time.Second)
	w := p.create()
	p.begin(w)
	p.finish(w, exporter.ResultFailure)
	p.advance(time.Second)
	c.mustSync()
	c.mustBe("first task", map[string]int{"failure first": 1})
	if c.beganWithHistory() {
		t.Error("a task that ran after the first start was taken for history")
	}
}

func TestATaskRetriedAcrossTheFirstStartIsHistoryOnceAndNewsOnce(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	w := p.create()
	p.begin(w)
	p.finish(w, exporter.ResultFailure)
	p.advance(time.Minute)
	p.retry(w)
	p.begin(w)
	p.advance(time.Minute)
	var batches []exporter.Batch
	if err := c.sync(&recorder{c.j, &batches}); err != nil {
		t.Fatal(err)
	}
	c.mustBe("while the retry runs", map[string]int{"failure first": 1})
	p.advance(time.Minute)
	p.finish(w, exporter.ResultSuccess)
	if err := c.sync(&recorder{c.j, &batches}); err != nil {
		t.Fatal(err)
	}
	c.mustBe("after the retry", map[string]int{"failure first": 1, "success rerun": 1})
	for _, b := range batches {
		for _, r := range b.Runs {
			if r.Level == exporter.LevelPipeline && r.State == exporter.StateFinished && b.History != (r.Attempt == exporter.AttemptFirst) {
				t.Errorf("the %s attempt was delivered with History %v", r.Attempt, b.History)
			}
		}
	}
}

type recorder struct {
	exporter.Sink
	batches *[]exporter.Batch
}

func (r *recorder) Commit(ctx context.Context, b exporter.Batch) error {
	*r.batches = append(*r.batches, b)
	return r.Sink.Commit(ctx, b)
}

func TestHistoryOfManyPagesIsWholeBesideATaskThatRuns(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	for range 2*pageSize + 20 {
		w := p.create()
		p.begin(w)
		p.finish(w, exporter.ResultSuccess)
		p.advance(time.Minute)
	}
	p.begin(p.create())
	p.fail = 150 // in the middle of the second page
	if err := c.sync(c.j); err == nil {
		t.Fatal("the cut-off was not reported")
	}
	p.fail = 0
	c.mustBe("before everything is read", map[string]int{})
	c.mustSync()
	c.mustBe("first start", map[string]int{"success first": 2*pageSize + 20})
}

func TestARetryOfATaskThatWasForgottenIsARerun(t *testing.T) {
	p := &portal{now: now}
	c := newCounter(t, p)
	for range pageSize + 20 {
		w := p.create()
		p.begin(w)
		p.finish(w, exporter.ResultFailure)
		p.advance(time.Minute)
	}
	c.mustSync()
	c.mustSync()
	w := p.tasks[0]
	p.retry(w)
	p.begin(w)
	c.mustSync()
	if _, active := c.counted(); active != 1 {
		t.Errorf("%d active tasks; want 1", active)
	}
	p.advance(time.Minute)
	p.finish(w, exporter.ResultSuccess)
	c.mustSync()
	c.mustSync()
	c.mustBe("after the retry", map[string]int{"failure first": pageSize + 20, "success rerun": 1})
}

func TestALineThatIsWrittenAfterTheEndOfATaskIsNoAttemptAtIt(t *testing.T) {
	for name, late := range map[string][3]string{
		"a line of the task": {"", "", "Cleaning up"},
		"a line of a step":   {"b", "", "done"},
		"the end of a step":  {"b", "failed", "Error: no again"},
	} {
		for _, read := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, read before: %v", name, read), func(t *testing.T) {
				p := &portal{now: now}
				c := newCounter(t, p)
				c.mustSync()
				p.advance(time.Minute)
				w := p.create()
				p.begin(w)
				p.finish(w, exporter.ResultFailure)
				if read {
					c.mustSync()
				}
				p.log(w, "log", late[0], late[1], late[2])
				w.heartbeat = p.now.Add(time.Second)
				c.mustSync()
				c.mustBe("after the line", map[string]int{"failure first": 1})
				p.advance(time.Minute)
				p.retry(w)
				p.begin(w)
				c.mustSync()
				p.finish(w, exporter.ResultFailure)
				c.mustSync()
				c.mustBe("after the retry", map[string]int{"failure first": 1, "failure rerun": 1})
			})
		}
	}
}
