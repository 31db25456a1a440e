package gitlab

import (
	"encoding/json"
	"strconv"
	"strings"
)

// The webhook of a job that has ended tells all that counts of its run, so that it counts at once and without a call. What is
// measured of the job besides, and its pipeline, follow when the pipeline's jobs are read. Nothing of this is stored before:
// a job that a crash forgets is found by that reading.

// An endedJob is what a webhook tells of a job that has ended.
type endedJob struct {
	job
	name string // of the pipeline
}

// maxEnded is how many jobs of a project are kept until they are counted; the others count when their pipelines are read.
const maxEnded = 1000

// readEndedJob takes the run of a job out of its webhook; nil where that leaves anything open: the reason of a failure, which
// decides about the result, or the name of the pipeline.
func readEndedJob(body []byte) *endedJob {
	var p struct {
		ID           int64    `json:"build_id"`
		Name         string   `json:"build_name"`
		Status       string   `json:"build_status"`
		Tag          bool     `json:"tag"`
		AllowFailure bool     `json:"build_allow_failure"`
		Reason       string   `json:"build_failure_reason"`
		Created      stamp    `json:"build_created_at"`
		Started      stamp    `json:"build_started_at"`
		Finished     stamp    `json:"build_finished_at"`
		Duration     *float64 `json:"build_duration"`
		Queued       *float64 `json:"build_queued_duration"`
		Pipeline     int64    `json:"pipeline_id"`
		Commit       struct {
			Name json.RawMessage `json:"name"` // of the pipeline
		} `json:"commit"`
	}
	var name *string
	if json.Unmarshal(body, &p) != nil || p.Commit.Name == nil || json.Unmarshal(p.Commit.Name, &name) != nil {
		return nil
	}
	if p.ID <= 0 || p.Name == "" || p.Finished.IsZero() || !p.Started.IsZero() && p.Duration == nil {
		return nil
	}
	if p.Status == "failed" && (p.Reason == "" || p.Reason == "unknown_failure") {
		return nil
	}
	j := endedJob{job: job{
		ID: p.ID, Name: p.Name, Status: p.Status, Tag: p.Tag, AllowFailure: p.AllowFailure, Reason: p.Reason,
		Created: p.Created, Started: p.Started, Finished: p.Finished, Duration: p.Duration, Queued: p.Queued,
	}}
	j.job.Pipeline.ID = p.Pipeline
	if name != nil {
		j.name = *name
	}
	return &j
}

// end keeps a job that has ended until it is counted.
func (h *hooks) end(project int64, j *endedJob) {
	h.mu.Lock()
	if h.ended == nil {
		h.ended = map[int64][]*endedJob{}
	}
	if len(h.ended[project]) < maxEnded {
		h.ended[project] = append(h.ended[project], j)
	}
	h.mu.Unlock()
	h.wake()
}

// hasEnded tells whether jobs of a project wait to be counted.
func (h *hooks) hasEnded(project int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ended[project]) > 0
}

// takeEnded gives the jobs of a project that wait to be counted, and forgets them.
func (h *hooks) takeEnded(project int64) []*endedJob {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.ended[project]
	delete(h.ended, project)
	return out
}

// jobsEnded makes runs of jobs whose pipeline is known and under way.
func (r *reading) jobsEnded(jobs []*endedJob) {
	for _, j := range jobs {
		o := r.Open[j.job.Pipeline.ID]
		if o == nil || o.Pipeline.Source == "" || strings.TrimSpace(o.Pipeline.Name) != strings.TrimSpace(j.name) {
			continue
		}
		j.WebURL = jobURL(o.Pipeline.WebURL, j.ID)
		for _, run := range r.tasks(o.Pipeline, []job{j.job}) {
			run.Told = true
			r.found(run)
		}
	}
}

// jobURL is the page of a job, which is beside that of its pipeline: …/-/pipelines/1 and …/-/jobs/2.
func jobURL(pipeline string, job int64) string {
	base, _, ok := strings.Cut(pipeline, "/-/pipelines/")
	if !ok {
		return ""
	}
	return base + "/-/jobs/" + strconv.FormatInt(job, 10)
}
