package gitlab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

const (
	// sameCommit is how long after one another pipelines of a commit may be made to be compared. What a job makes of a
	// commit within twice that time shows whether it is flaky.
	sameCommit = 24 * time.Hour
	// maxVerdicts is how many pipelines of a project are remembered for that; then the oldest is forgotten.
	maxVerdicts = 500
)

// comparable are the sources of pipelines that run the same jobs for the same commit. One that was started by another
// pipeline, or by a token, mostly has variables of its own, and does something else under the same name.
var comparable = []string{"push", "merge_request_event", "schedule", "web"}

// verdicts are what the jobs of a project made of its latest commits. They are a position of their own, which is stored
// before the project's: what is taken twice changes nothing.
type verdicts struct {
	Pipelines map[int64]*verdict `json:"pipelines"`
	Changed   []int64            `json:"changed,omitempty"` // pipelines that have not been compared since, or were when this was stored
	dirty     bool               // has to be stored
	compared  []int64            // pipelines of which what was found is committed next
}

// A verdict is what the jobs of one pipeline made of its commit.
type verdict struct {
	SHA   string           `json:"sha,omitempty"`
	Name  string           `json:"name,omitempty"`
	Made  time.Time        `json:"made"`
	Alone bool             `json:"alone,omitzero"` // is compared with no other pipeline
	Jobs  map[string]*ends `json:"jobs"`
}

// ends are when the first attempts at a job failed and passed, in unix milliseconds; 0 when none did.
type ends struct {
	Failed int64 `json:"f,omitzero"`
	Passed int64 `json:"p,omitzero"`
}

func (f *follower) verdictsCursor() string { return f.cursor + "/verdicts" }

// loadVerdicts gives what is remembered. It stays in memory for one reading alone, which is seldom more than one pipeline's.
func (r *reading) loadVerdicts() (*verdicts, error) {
	if r.verdicts != nil {
		return r.verdicts, nil
	}
	v := &verdicts{}
	if text, ok := r.to.Position(r.verdictsCursor()); ok {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			return nil, fmt.Errorf("stored position of %s: %w", r.verdictsCursor(), err)
		}
	}
	if v.Pipelines == nil {
		v.Pipelines = map[int64]*verdict{}
	}
	if r.compared {
		v.Changed = nil
		v.prune(r.clock.now(), time.Time{})
	}
	r.verdicts = v
	return v, nil
}

// prune forgets what no later pipeline is compared with. oldest is how far back a first reading has come, and zero after it.
func (k *verdicts) prune(now, oldest time.Time) {
	maps.DeleteFunc(k.Pipelines, func(id int64, v *verdict) bool {
		return !slices.Contains(k.Changed, id) && (v.Alone || now.Sub(v.Made) > 2*sameCommit && (oldest.IsZero() || v.Made.Sub(oldest) > sameCommit))
	})
	if len(k.Pipelines) <= maxVerdicts || !oldest.IsZero() {
		return
	}
	ids := slices.SortedFunc(maps.Keys(k.Pipelines), func(a, b int64) int {
		return cmp.Or(k.Pipelines[a].Made.Compare(k.Pipelines[b].Made), cmp.Compare(a, b))
	})
	for _, id := range ids[:len(ids)-maxVerdicts] {
		delete(k.Pipelines, id)
	}
}

// decided notes what the jobs of a pipeline, retried ones included, made of its commit.
func (r *reading) decided(row pipeline, jobs []job) error {
	v := &verdict{SHA: row.SHA, Name: row.Name, Made: row.Created.Time, Alone: row.SHA == "" || !slices.Contains(comparable, row.Source), Jobs: map[string]*ends{}}
	flaky := false
	for i := range jobs {
		j := &jobs[i]
		if j.ID <= 0 || j.Status != "failed" && j.Status != "success" {
			continue
		}
		e := v.Jobs[j.Name]
		if e == nil {
			e = &ends{}
			v.Jobs[j.Name] = e
		}
		at := j.end(row.Created.Time).UnixMilli()
		if first := map[string]*int64{"failed": &e.Failed, "success": &e.Passed}[j.Status]; *first == 0 || at < *first {
			*first = at
		}
		flaky = flaky || e.Failed != 0 && e.Passed != 0
	}
	if len(v.Jobs) == 0 || v.Alone && !flaky {
		return nil
	}
	known, err := r.loadVerdicts()
	if err != nil {
		return err
	}
	if have := known.Pipelines[row.ID]; have != nil && maps.EqualFunc(have.Jobs, v.Jobs, func(a, b *ends) bool { return *a == *b }) {
		return nil
	}
	known.Pipelines[row.ID], known.dirty, r.compared = v, true, false
	if !slices.Contains(known.Changed, row.ID) {
		known.Changed = append(known.Changed, row.ID)
	}
	return nil
}

// flakyJobs observes the jobs that failed and passed for one commit, each once by its name, at the time when both were
// known first. What is news waits until the whole feed has been read, so that the order in which pipelines were learned of
// makes no difference.
func (r *reading) flakyJobs() error {
	if r.compared && r.verdicts == nil || !r.filling && !r.complete {
		return nil
	}
	known, err := r.loadVerdicts()
	if err != nil {
		return err
	}
	bySHA := map[string][]int64{}
	for _, id := range slices.Sorted(maps.Keys(known.Pipelines)) {
		if v := known.Pipelines[id]; !v.Alone {
			bySHA[v.SHA] = append(bySHA[v.SHA], id)
		}
	}
	for _, id := range known.Changed {
		v := known.Pipelines[id]
		peers, whole := []int64{id}, true
		if v != nil && !v.Alone {
			peers = bySHA[v.SHA]
		}
		for _, found := range known.compare(peers) {
			if r.filling && !found.at.Before(r.Start) {
				whole = false
				continue
			}
			run := r.describe(pipeline{ID: found.pipeline, Name: known.Pipelines[found.pipeline].Name}, nil)
			key, _, _ := strings.Cut(run.ID.Key, "/")
			run.ID.Key = key + "/flaky/" + cmp.Or(v.SHA, run.ID.Key) + "/" + strings.ReplaceAll(found.job, "\x00", "")
			r.saw(exporter.Observation{
				ID: run.ID, Kind: exporter.FlakyTasks, Entity: run.Entity, Owner: run.Owner, System: run.System,
				Labels: []string{run.Pipeline, found.job}, Value: 1, At: found.at,
			})
		}
		if whole {
			known.compared = append(known.compared, id)
		}
	}
	return nil
}

// flakyJobsCommitted forgets what was compared and is committed. oldest is as with prune.
func (r *reading) flakyJobsCommitted(oldest time.Time) {
	known := r.verdicts
	if known == nil || !r.filling && !r.complete {
		return
	}
	known.Changed = slices.DeleteFunc(known.Changed, func(id int64) bool { return slices.Contains(known.compared, id) })
	known.compared = nil
	known.prune(r.clock.now(), oldest)
	r.compared = len(known.Changed) == 0
}

// A flaky is a job that failed and passed.
type flaky struct {
	job      string
	pipeline int64 // in which it failed
	at       time.Time
}

// compare finds the jobs that failed in one of the pipelines and passed in the same or another one.
func (k *verdicts) compare(ids []int64) []flaky {
	best := map[string]flaky{}
	for _, failed := range ids {
		a := k.Pipelines[failed]
		if a == nil {
			continue
		}
		for name, e := range a.Jobs {
			for _, passed := range ids {
				b := k.Pipelines[passed]
				if e.Failed == 0 || b == nil || b.Jobs[name] == nil || b.Jobs[name].Passed == 0 {
					continue
				}
				at := time.UnixMilli(max(e.Failed, b.Jobs[name].Passed)).UTC()
				if failed != passed && (a.Made.Sub(b.Made).Abs() > sameCommit || at.Sub(a.Made) > 2*sameCommit || at.Sub(b.Made) > 2*sameCommit) {
					continue
				}
				if have, ok := best[name]; !ok || at.Before(have.at) || at.Equal(have.at) && failed < have.pipeline {
					best[name] = flaky{name, failed, at}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b flaky) int { return strings.Compare(a.job, b.job) })
}

// storeVerdicts stores what has changed.
func (r *reading) storeVerdicts(ctx context.Context) error {
	if r.verdicts == nil || !r.verdicts.dirty {
		return nil
	}
	text, err := json.Marshal(r.verdicts)
	if err != nil {
		return fmt.Errorf("position of %s: %w", r.verdictsCursor(), err)
	}
	if err := r.to.Commit(ctx, exporter.Batch{Cursor: r.verdictsCursor(), Position: string(text)}); err != nil {
		return err
	}
	r.verdicts.dirty = false
	return nil
}
