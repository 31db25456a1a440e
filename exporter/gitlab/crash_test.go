package gitlab

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

var errCrash = errors.New("crash")

// A crash is a sink that takes nothing any more from one commit on, as if the process had ended before or after it.
type crash struct {
	exporter.Sink
	at, commits int
	before      bool
}

// Commit implements exporter.Sink.
func (c *crash) Commit(ctx context.Context, b exporter.Batch) error {
	c.commits++
	switch {
	case c.commits > c.at || c.commits == c.at && c.before:
		return errCrash
	case c.commits == c.at:
		return errors.Join(c.Sink.Commit(ctx, b), errCrash)
	}
	return c.Sink.Commit(ctx, b)
}

// TestACrashAtEveryCommitCountsEveryRunOnce ends the process, before and after the journal took a batch, at every commit of a
// first reading and of the readings that follow.
func TestACrashAtEveryCommitCountsEveryRunOnce(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		for _, phase := range []string{"the first reading", "a later one"} {
			crashes := 0
			for at := 1; ; at++ {
				w := many(t, fakegitlab.Size{Projects: 2, Branches: 1, Pipelines: 3, Jobs: 2})
				news := func() {
					random := rand.New(rand.NewPCG(uint64(at), 1))
					for i := range 4 {
						p := w.fake.AddFinished(w.fake.Projects[i%2], "main", w.now.Add(-3*time.Minute), 2, random)
						p.Updated = w.now
					}
					w.pass(30 * time.Second)
				}
				if phase != "the first reading" {
					w.sync()
					news()
				}
				sink := &crash{Sink: w.journal, at: at, before: when == "before"}
				err := w.source.Sync(t.Context(), w.graph, sink)
				w.open()
				if phase == "the first reading" {
					news()
				}
				w.sync()
				w.pass(time.Minute)
				w.sync()
				if p, j := w.total(); p != 10 || j != 20 {
					t.Errorf("a crash in %s, %s commit %d: %d pipelines and %d jobs, want 10 and 20", phase, when, at, p, j)
				}
				if err == nil {
					break
				}
				crashes++
			}
			if crashes < 2 {
				t.Errorf("%s has %d commits only", phase, crashes)
			}
		}
	}
}
