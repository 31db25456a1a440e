package gitlab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// An artifact is a file that a job left.
type artifact struct {
	Type string   `json:"file_type"`
	Size *float64 `json:"size"` // bytes
}

// measure computes what the jobs of a pipeline, retried ones included, tell beside their results. It depends on nothing
// else, so that every way of learning about them gives the same. What is measured of one attempt counts with its run; the
// attempt before it, whose time a retry lost, has ended by then. common is the run that all have in common.
func measure(common exporter.Run, jobs []job) []exporter.Observation {
	var out []exporter.Observation
	see := func(o exporter.Observation, kind exporter.ObservationKind, value float64, labels ...string) {
		o.Entity, o.Owner, o.System = common.Entity, common.Owner, common.System
		o.Kind, o.Value, o.Labels = kind, value, labels
		out = append(out, o)
	}
	byName := map[string][]*job{} // attempts in their order
	for i := range jobs {
		byName[jobs[i].Name] = append(byName[jobs[i].Name], &jobs[i])
	}
	for _, list := range byName {
		slices.SortFunc(list, func(a, b *job) int { return cmp.Compare(a.ID, b.ID) })
	}
	var ended time.Time
	for i := range jobs {
		j := &jobs[i]
		if !j.ended() {
			continue
		}
		of := exporter.Observation{ID: jobID(common.ID, j.ID), At: j.end(common.Created), OfTask: true}
		if j.Status == "failed" {
			see(of, exporter.TaskFailures, 1, common.Pipeline, cmp.Or(j.Reason, "unknown_failure"))
		}
		ended = latest(ended, of.At)
		if wait, ok := amount(j.Queued); ok && !j.Started.IsZero() {
			see(of, exporter.RunnerWait, wait, tagSet(j.Tags))
			see(of, exporter.LostTime, wait, "queue")
		}
		if bytes, ok := j.artifactBytes(); ok {
			see(of, exporter.ArtifactSize, bytes, common.Pipeline)
		}
		if n := slices.Index(byName[j.Name], j); n > 0 {
			see(of, exporter.TaskRetries, 1, common.Pipeline, j.Name)
			before := byName[j.Name][n-1]
			if lost, ok := amount(before.Duration); ok && !before.Started.IsZero() {
				see(of, exporter.LostTime, lost, "retry")
			}
		}
	}
	if !ended.IsZero() {
		for _, cause := range []string{"queue", "retry"} {
			see(exporter.Observation{ID: exporter.RunID{Source: common.ID.Source, Host: common.ID.Host}, At: ended, Declare: true}, exporter.LostTime, 0, cause)
		}
	}
	return out
}

// measureFinishes gives the coverage at each finish of a pipeline.
func measureFinishes(common exporter.Run, fs []finish) []exporter.Observation {
	var out []exporter.Observation
	for _, f := range fs {
		if f.coverage == nil {
			continue
		}
		id := common.ID
		id.Key = fmt.Sprintf("%s/finish/%d", id.Key, f.at.UnixMilli())
		out = append(out, exporter.Observation{
			ID: id, Kind: exporter.Coverage, Entity: common.Entity, Owner: common.Owner, System: common.System,
			Labels: []string{common.Pipeline, common.RefKind}, Value: *f.coverage / 100, At: f.at,
		})
	}
	return out
}

// meanCoverage is the coverage of a pipeline as GitLab computes it: the mean, in percent, of its latest jobs that have one.
func meanCoverage(newest map[string]interval) *float64 {
	sum, n := 0.0, 0
	for _, iv := range newest {
		if c := iv.coverage; c != nil && *c >= 0 && *c <= 100 {
			sum += *c
			n++
		}
	}
	if n == 0 {
		return nil
	}
	sum /= float64(n)
	return &sum
}

// ended tells whether the attempt will never change again. A skipped job has not ended: a retry of what stood before it may
// start it.
func (j *job) ended() bool { return terminal(j.Status) && j.Status != "skipped" && j.ID > 0 }

// end is when the attempt ended; for one that GitLab gives no time of, when it or its pipeline was made.
func (j *job) end(made time.Time) time.Time {
	if !j.Finished.IsZero() {
		return j.Finished.Time
	}
	return latest(j.Started.Time, j.Created.Time, made)
}

// artifactBytes leaves the log out, which GitLab archives only some time after the end.
func (j *job) artifactBytes() (sum float64, ok bool) {
	for _, a := range j.Artifacts {
		if size, sized := amount(a.Size); sized && a.Type != "trace" {
			sum, ok = sum+size, true
		}
	}
	return sum, ok
}

// amount is a figure of GitLab's that can be added up; false where it gave none. A clock that goes back makes no time.
func amount(v *float64) (float64, bool) {
	if v == nil || *v > 1e15 {
		return 0, false
	}
	return max(*v, 0), true
}

// tagSet is the same for the same tags in any order.
func tagSet(tags []string) string {
	if len(tags) == 0 {
		return "untagged"
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(tags))), ",")
}

// jobID makes the id of a job of the pipeline's project.
func jobID(pipeline exporter.RunID, job int64) exporter.RunID {
	project, _, _ := strings.Cut(pipeline.Key, "/")
	pipeline.Key = fmt.Sprintf("%s/job/%d", project, job)
	return pipeline
}
