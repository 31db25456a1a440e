package gitlab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// A report is a test report summary that is to be read, one call each. It is asked for when a pipeline of which a job left a
// JUnit report has come to rest; of history, for the latest such pipeline of the project alone.
type report struct {
	Pipeline pipeline  `json:"p"`
	Ended    time.Time `json:"ended"`
	History  bool      `json:"history,omitzero"`
	Tries    int       `json:"tries,omitzero"`
	Next     time.Time `json:"next,omitzero"` // not before
}

const (
	// reportsAtOnce is how many summaries one reading asks for; the others wait for the next one.
	reportsAtOnce = 50
	reportTries   = 5
	// maxReports is how many wait, where GitLab cannot be asked for them; the oldest are given up.
	maxReports = 1000
)

// A summary is what is read of a test report summary.
type summary struct {
	Total *struct {
		Success *float64 `json:"success"`
		Failed  *float64 `json:"failed"`
		Error   *float64 `json:"error"`
		Skipped *float64 `json:"skipped"`
	} `json:"total"`
}

// wantReport notes that the summary of a pipeline that has come to rest is to be read.
func (r *reading) wantReport(row pipeline, jobs []job, fs []finish) {
	junit := func(j job) bool {
		return j.ended() && slices.ContainsFunc(j.Artifacts, func(a artifact) bool { return a.Type == "junit" })
	}
	if len(fs) == 0 || !slices.ContainsFunc(jobs, junit) {
		return
	}
	ended := fs[len(fs)-1].at
	history := ended.Before(r.historyEnds())
	if history && r.Reported {
		return
	}
	r.Reported = true
	if r.Reports == nil {
		r.Reports = map[int64]*report{}
	}
	r.Reports[row.ID] = &report{Pipeline: row, Ended: ended, History: history}
	if len(r.Reports) > maxReports {
		delete(r.Reports, slices.Min(slices.Collect(maps.Keys(r.Reports))))
	}
}

// reports reads the summaries that are wanted. What fails is tried again later, and stops nothing. The test cases of a
// pipeline count once, by the first summary that was read: GitLab summarises the latest attempts of each job.
func (r *reading) reports(ctx context.Context) error {
	now, asked := r.clock.now(), 0
	for _, id := range slices.Sorted(maps.Keys(r.Reports)) {
		want := r.Reports[id]
		if want.Next.After(now) {
			continue
		}
		if asked++; asked > reportsAtOnce {
			break
		}
		var s summary
		_, err := r.api.GetJSON(ctx, fmt.Sprintf("%s/pipelines/%d/test_report_summary", projectPath(r.project.ID), id), &s)
		switch {
		case err == nil:
			r.testCases(want, &s)
			delete(r.Reports, id)
		case useless(err):
			delete(r.Reports, id)
		case !ofThisAlone(err): // neither can the next one be read
			asked = reportsAtOnce
		default:
			if want.Tries++; want.Tries >= reportTries {
				delete(r.Reports, id)
				r.opts.Logger.Warn("a test report summary cannot be read and is given up", "source", "gitlab", "host", r.host, "project", r.project.Path, "pipeline", id, "error", err)
			}
			want.Next = now.Add(10 * time.Minute)
		}
	}
	if asked == 0 {
		return nil
	}
	return r.commit(ctx)
}

// testCases observes the test cases of a pipeline, by result.
func (r *reading) testCases(want *report, s *summary) {
	if s.Total == nil {
		return
	}
	run := r.describe(want.Pipeline, nil)
	for _, c := range []struct {
		result string
		cases  *float64
	}{{"success", s.Total.Success}, {"failed", s.Total.Failed}, {"error", s.Total.Error}, {"skipped", s.Total.Skipped}} {
		n, ok := amount(c.cases)
		if !ok {
			continue
		}
		id := run.ID
		id.Key += "/tests/" + c.result
		o := exporter.Observation{
			ID: id, Kind: exporter.TestCases, Entity: run.Entity, Owner: run.Owner, System: run.System, Labels: []string{run.Pipeline, c.result},
			Value: n, At: want.Ended, From: want.Pipeline.Created.Time, // 0 counts, too: of a later summary nothing does
		}
		if want.History {
			r.seen.past = append(r.seen.past, o)
		} else {
			r.seen.news = append(r.seen.news, o)
		}
	}
}
