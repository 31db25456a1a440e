package gitlab

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Webhooks of many pipelines of one project: when several have ended, which is so where they end fast or the budget of calls
// is short, the list of pipelines and the list of all jobs tell of all of them in two calls or three, instead of two for each.
// What polling has read meanwhile is not asked for again, and a list that was read for webhooks is not polled at once.

// cursors are locks by name, so that what webhooks tell of one pipeline is stored one after the other: the last job's webhook
// comes together with its pipeline's. Names share locks.
type cursors [1024]sync.Mutex

var cursorSeed = maphash.MakeSeed()

// lock locks a name and gives what unlocks it.
func (c *cursors) lock(name string) (unlock func()) {
	m := &c[maphash.String(cursorSeed, name)%uint64(len(c))]
	m.Lock()
	return m.Unlock
}

// byProject are the marks that have not been read.
func (h *hooks) byProject() map[int64]map[string]mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[int64]map[string]mark{}
	for cursor, m := range h.pending {
		if out[m.Project] == nil {
			out[m.Project] = map[string]mark{}
		}
		out[m.Project][cursor] = m
	}
	return out
}

// cameBefore tells that a mark came before t; of one that a restart found in the journal that is not known.
func (h *hooks) cameBefore(cursor string, t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	came, ok := h.came[cursor]
	return ok && came.Before(t)
}

// ended tells whether a mark is of a pipeline or job that has ended, so that something is to be read.
func (r *reading) ended(m mark) bool {
	return terminal(m.Pipeline.Status) || m.Pipeline.Status == "" && r.Open[m.Pipeline.ID] == nil
}

// knows tells that the list of pipelines, when it was last read, had the end of a pipeline. Its jobs may still be open.
func (r *reading) knows(id int64) bool {
	_, seen := r.Seen[id]
	o := r.Open[id]
	return (seen || r.listedRows[id]) && (o == nil || terminal(o.Pipeline.Status))
}

// many reads the list of pipelines. An error leaves nothing that may be committed.
func (r *reading) many(ctx context.Context) error {
	at := r.opts.Now()
	if err := r.changes(ctx); err != nil {
		return err
	}
	r.listed, r.listedForHooks = at, at
	return nil
}

// nextLook is when the first of the pipelines that wait for nothing but time can be judged; 0 where there is none.
func (f *follower) nextLook() (wait time.Duration) {
	now := f.clock.now()
	for _, c := range f.cached {
		if d := max(c.judged.Add(settleDelay).Sub(now), time.Second); wait == 0 || d < wait {
			wait = d
		}
	}
	return wait
}
