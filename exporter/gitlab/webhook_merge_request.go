package gitlab

import (
	"context"
	"encoding/json"
	"fmt"
)

// openedMark is what a webhook tells of a merge request: what never changes of it, so that it is the same as the API's.
type openedMark struct {
	IID    int64  `json:"iid"`
	At     stamp  `json:"created_at"`
	Branch string `json:"source_branch"`
	From   int64  `json:"source_project_id"` // another project for one of a fork
}

// readMergeRequestHook takes out of a payload which merge request was opened. Of what happens to it later nothing is of
// interest: the lead times of its commits are asked for with the deployment that holds them.
func readMergeRequestHook(body []byte) (m mark, ok bool, err error) {
	var p struct {
		Project struct {
			ID int64 `json:"id"`
		} `json:"project"`
		Attributes struct {
			openedMark
			Action string `json:"action"`
		} `json:"object_attributes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return m, false, fmt.Errorf("%w: %w", errNoHook, err)
	}
	m = mark{Project: p.Project.ID, MergeRequest: p.Attributes.openedMark}
	return m, p.Attributes.Action == "open" && m.Project > 0 && m.MergeRequest.IID > 0 && !m.MergeRequest.At.IsZero(), nil
}

// wholeFeed reads everything that has changed when a pipeline has ended that may be the first of a merge request: a
// webhook that was lost may have told of one that ended before.
func (r *reading) wholeFeed(ctx context.Context) error {
	if !r.awaitsMergeRequests() {
		return nil
	}
	if err := r.changes(ctx); err != nil {
		return err
	}
	r.complete = true
	return r.look(ctx, func(int64) bool { return true })
}
