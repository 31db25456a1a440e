package gitlab

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// mergeRequest is a row of a list of merge requests.
type mergeRequest struct {
	IID      int64    `json:"iid"`
	Title    string   `json:"title"`
	State    string   `json:"state"`
	Branch   string   `json:"source_branch"`
	Labels   []string `json:"labels"`
	SHA      string   `json:"sha"`
	MergeSHA string   `json:"merge_commit_sha"`
	Squash   string   `json:"squash_commit_sha"`
	Created  stamp    `json:"created_at"`
	Updated  stamp    `json:"updated_at"`
	Merged   stamp    `json:"merged_at"`
	Author   struct {
		Username string `json:"username"`
	} `json:"author"`
}

// feedback is what is stored of the wait for a first result.
type feedback struct {
	Since  time.Time         `json:"since,omitzero"`   // newest change of a merge request that was read
	Opened map[int64]*opened `json:"opened,omitempty"` // merge requests without a result, by iid
	Ended  []ended           `json:"ended,omitempty"`  // pipelines that may be the first of a merge request
}

// opened is a merge request that waits for its first result.
type opened struct {
	At  time.Time `json:"at"`
	SHA string    `json:"sha"` // when it was first seen
}

// ended is a pipeline that has ended for the first time.
type ended struct {
	Ref  string    `json:"ref"`
	SHA  string    `json:"sha"`
	Name string    `json:"name,omitempty"`
	At   time.Time `json:"at"`
}

const (
	// feedbackLimit is how long a merge request waits for a first result; then it is taken to have no pipelines.
	feedbackLimit = 7 * 24 * time.Hour
	// refusedPause and failedPause are how long what GitLab refused, or could not give, is left alone.
	refusedPause = time.Hour
	failedPause  = 10 * time.Minute
	// maxTold is how many pipelines are remembered as known; being told of one again costs a call.
	maxTold = 1000
)

// firstResults observes how long a commit waited for the first result of a pipeline: from the making of the pipeline, so
// that the wait for a runner is part of it, to its end. A pipeline that was canceled or skipped is no result.
func (r *reading) firstResults(row pipeline, jobs []job, fs []finish) {
	if row.SHA == "" || row.Created.IsZero() || row.Source != "push" && row.Source != "merge_request_event" {
		return
	}
	for _, f := range fs {
		if f.kind != exporter.AttemptFirst || f.result == exporter.ResultCancellation || f.result == exporter.ResultSkip {
			continue
		}
		run := r.describe(row, jobs)
		r.saw(exporter.Observation{
			ID: r.commitID(row.SHA), Kind: exporter.FirstFeedback, Entity: run.Entity, Owner: run.Owner, System: run.System, Labels: []string{"commit"},
			Value: max(f.at.Sub(row.Created.Time).Seconds(), 0), At: f.at,
		})
		if run.RefKind != "default" && run.RefKind != "tag" && !f.at.Before(r.Start) && !r.told[row.ID] && !slices.Contains(r.tell, row.ID) {
			r.tell = append(r.tell, row.ID)
			r.Feedback.Ended = append(r.Feedback.Ended, ended{row.Ref, row.SHA, row.Name, f.at})
		}
	}
}

func (r *reading) commitID(sha string) exporter.RunID {
	return exporter.RunID{Source: "gitlab", Host: r.host, Key: strconv.FormatInt(r.project.ID, 10) + "/commit/" + sha}
}

// mergeRequests observes how long merge requests waited for their first result, from when they were opened to the end of
// the first pipeline that is theirs, or that is of the commit they were opened with. They are asked for only when a
// pipeline has ended that may be it. Those that were opened before the first reading are left out.
func (r *reading) mergeRequests(ctx context.Context) error {
	fb := &r.Feedback
	fb.Ended = fb.Ended[max(len(fb.Ended)-maxTold, 0):]
	if len(fb.Ended) == 0 || r.opts.Now().Before(r.mergeRequestsAt) {
		return nil
	}
	if fb.Since.IsZero() {
		fb.Since = latest(r.Start, r.clock.now().Add(-feedbackLimit))
	}
	from := fb.Since.Add(-overlap)
	q := url.Values{
		"scope": {"all"}, "updated_after": {from.Format(time.RFC3339Nano)}, "order_by": {"updated_at"}, "sort": {"desc"}, "per_page": {strconv.Itoa(pageSize)},
	}
	if fb.Opened == nil {
		fb.Opened = map[int64]*opened{}
	}
	since := fb.Since
	_, err := pages(ctx, r.api, projectPath(r.project.ID)+"/merge_requests?"+q.Encode(), r.clock, func(rows []mergeRequest) bool {
		for _, m := range rows {
			since = latest(since, m.Updated.Time)
			if m.IID <= 0 || m.Created.Before(r.Start) || fb.Since.Sub(m.Created.Time) > feedbackLimit {
				continue
			}
			if _, known := fb.Opened[m.IID]; !known {
				fb.Opened[m.IID] = &opened{m.Created.Time, m.SHA}
			}
		}
		return true
	})
	if refused(err) { // the project has no merge requests, or the token may not see them
		fb.Ended, fb.Opened, r.mergeRequestsAt = nil, nil, r.opts.Now().Add(refusedPause)
		return nil
	}
	if err != nil {
		r.mergeRequestsAt = r.opts.Now().Add(failedPause)
		return fmt.Errorf("list merge requests: %w", err)
	}
	fb.Since = since
	slices.SortFunc(fb.Ended, func(a, b ended) int { return a.At.Compare(b.At) })
	for _, e := range fb.Ended {
		run := r.describe(pipeline{Name: e.Name}, nil)
		for iid, m := range fb.Opened {
			if e.At.Before(m.At) || !strings.HasPrefix(e.Ref, fmt.Sprintf("refs/merge-requests/%d/", iid)) && e.SHA != m.SHA {
				continue
			}
			r.saw(exporter.Observation{
				ID: r.runID("merge_request", iid), Kind: exporter.FirstFeedback, Entity: run.Entity, Owner: run.Owner, System: run.System, Labels: []string{"merge_request"},
				Value: e.At.Sub(m.At).Seconds(), At: e.At,
			})
			delete(fb.Opened, iid)
		}
	}
	fb.Ended = nil
	for iid, m := range fb.Opened {
		if fb.Since.Sub(m.At) > feedbackLimit {
			delete(fb.Opened, iid)
		}
	}
	return nil
}
