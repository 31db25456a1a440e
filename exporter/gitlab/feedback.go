package gitlab

import (
	"cmp"
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
	Project  int64    `json:"source_project_id"`
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
	Since   time.Time         `json:"since,omitzero"`    // newest change of a merge request that was read
	Opened  map[int64]*opened `json:"opened,omitempty"`  // merge requests without a result, by iid
	Ended   []ended           `json:"ended,omitempty"`   // pipelines that may be the first of a merge request
	Commits []ended           `json:"commits,omitempty"` // pipelines that may be the first of their commit
}

// opened is a merge request that waits for its first result.
type opened struct {
	At     time.Time `json:"at"`
	Branch string    `json:"branch,omitempty"` // of the same project; "" for one of a fork
}

// ended is a pipeline that has ended for the first time.
type ended struct {
	Ref  string    `json:"ref"`
	SHA  string    `json:"sha"`
	Name string    `json:"name,omitempty"`
	From time.Time `json:"from,omitzero"` // when the commit was made
	Made time.Time `json:"made,omitzero"`
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

// firstResults notes how long a commit waited for the first result of a pipeline: from the making of the pipeline, so that
// the wait for a runner is part of it, to its end. A pipeline that was canceled or skipped is no result. Which one was the
// first shows when the whole feed has been read, as a webhook may tell of a later one before.
func (r *reading) firstResults(row pipeline, jobs []job, fs []finish) {
	if row.SHA == "" || row.Created.IsZero() || row.Source != "push" && row.Source != "merge_request_event" {
		return
	}
	for _, f := range fs {
		if f.kind != exporter.AttemptFirst || f.result == exporter.ResultCancellation || f.result == exporter.ResultSkip {
			continue
		}
		e := ended{Ref: row.Ref, SHA: row.SHA, Name: row.Name, Made: row.Created.Time, At: f.at}
		if len(jobs) > 0 {
			e.From = jobs[0].Commit.Committed.Time
		}
		if f.at.Before(r.Start) {
			r.firstOfCommit(e)
			continue
		}
		if r.told[row.ID] || slices.Contains(r.tell, row.ID) {
			continue
		}
		r.tell = append(r.tell, row.ID)
		r.Feedback.Commits = append(r.Feedback.Commits, e)
		if kind := r.describe(row, jobs).RefKind; kind != "default" && kind != "tag" {
			r.Feedback.Ended = append(r.Feedback.Ended, e)
		}
	}
}

// firstOfCommit observes the first result of a commit; of later ones the journal takes none.
func (r *reading) firstOfCommit(e ended) {
	run := r.describe(pipeline{Name: e.Name}, nil)
	r.saw(exporter.Observation{
		ID: r.commitID(e.SHA), Kind: exporter.FirstFeedback, Entity: run.Entity, Owner: run.Owner, System: run.System, Labels: []string{"commit"},
		Value: max(e.At.Sub(e.Made).Seconds(), 0), At: e.At, From: e.From,
	})
}

// awaitsFeed tells that there is something of which only the whole feed tells whether it was the first.
func (r *reading) awaitsFeed() bool {
	return len(r.Feedback.Commits) > 0 || r.awaitsMergeRequests() || r.listed != (time.Time{}) && !r.compared
}

func (r *reading) awaitsMergeRequests() bool {
	return len(r.Feedback.Ended) > 0 && !r.opts.Now().Before(r.mergeRequestsAt)
}

func (r *reading) commitID(sha string) exporter.RunID {
	return exporter.RunID{Source: "gitlab", Host: r.host, Key: strconv.FormatInt(r.project.ID, 10) + "/commit/" + sha}
}

// mergeRequests observes how long commits and merge requests waited for their first result, once everything that ended
// before is known. A merge request waits from when it was opened to the end of the first pipeline that is its own, or that is
// of its branch in the same project. Merge requests are asked for only when a pipeline has ended that may be it. Those that
// were opened before the first reading are left out.
func (r *reading) mergeRequests(ctx context.Context) error {
	fb := &r.Feedback
	byEnd := func(a, b ended) int { return cmp.Or(a.At.Compare(b.At), a.Made.Compare(b.Made)) }
	if r.complete {
		slices.SortFunc(fb.Commits, byEnd)
		for _, e := range fb.Commits {
			r.firstOfCommit(e)
		}
		fb.Commits = nil
	}
	fb.Ended, fb.Commits = fb.Ended[max(len(fb.Ended)-maxTold, 0):], fb.Commits[max(len(fb.Commits)-maxTold, 0):]
	if !r.complete || !r.awaitsMergeRequests() {
		return nil
	}
	if fb.Since.IsZero() {
		fb.Since = latest(r.Start, r.clock.now().Add(-feedbackLimit))
	}
	from := fb.Since.Add(-overlap)
	q := url.Values{
		"scope": {"all"}, "updated_after": {from.Format(time.RFC3339Nano)}, "order_by": {"updated_at"}, "sort": {"desc"}, "per_page": {strconv.Itoa(pageSize)},
	}
	since := fb.Since
	_, err := pages(ctx, r.api, projectPath(r.project.ID)+"/merge_requests?"+q.Encode(), r.clock, func(rows []mergeRequest) bool {
		for _, m := range rows {
			since = latest(since, m.Updated.Time)
			r.wasOpened(m.IID, m.Created.Time, m.Branch, m.Project)
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
	slices.SortFunc(fb.Ended, byEnd)
	for _, e := range fb.Ended {
		run := r.describe(pipeline{Name: e.Name}, nil)
		for iid, m := range fb.Opened {
			if e.At.Before(m.At) || e.At.Sub(m.At) > feedbackLimit || !strings.HasPrefix(e.Ref, fmt.Sprintf("refs/merge-requests/%d/", iid)) && (m.Branch == "" || e.Ref != m.Branch) {
				continue
			}
			r.saw(exporter.Observation{
				ID: r.runID("merge_request", iid), Kind: exporter.FirstFeedback, Entity: run.Entity, Owner: run.Owner, System: run.System, Labels: []string{"merge_request"},
				Value: e.At.Sub(m.At).Seconds(), At: e.At, From: m.At,
			})
			delete(fb.Opened, iid)
		}
	}
	fb.Ended = nil
	for iid, m := range fb.Opened {
		if r.clock.now().Sub(m.At) > feedbackLimit {
			delete(fb.Opened, iid)
		}
	}
	return nil
}

// wasOpened notes a merge request that the API or a webhook tells of. One that has had its result is no new one to the
// journal.
func (r *reading) wasOpened(iid int64, at time.Time, branch string, project int64) {
	if iid <= 0 || at.Before(r.Start) || r.Feedback.Opened[iid] != nil {
		return
	}
	if project != r.project.ID {
		branch = ""
	}
	if r.Feedback.Opened == nil {
		r.Feedback.Opened = map[int64]*opened{}
	}
	r.Feedback.Opened[iid] = &opened{at, branch}
}
