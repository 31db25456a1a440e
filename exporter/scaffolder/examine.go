package scaffolder

import (
	"context"
	"errors"
	"net/http"

	"github.com/sightline-dev/sightline/upstream"
)

// Examine asks Backstage for a task and its events, with the calls that a Source makes, and says whether it may.
func Examine(ctx context.Context, api API) (out upstream.Findings) {
	var list struct {
		Tasks []task `json:"tasks"`
		Total int    `json:"totalTasks"`
	}
	if _, err := api.GetJSON(ctx, "/api/scaffolder/v2/tasks?limit=1&offset=0&order=desc:created_at", &list); err != nil {
		refused(&out, "list scaffolder tasks", err)
		return out
	}
	out.OK("scaffolder tasks can be listed: Backstage has %d", list.Total)
	if len(list.Tasks) == 0 {
		return out
	}
	var events []event
	if _, err := api.GetJSON(ctx, taskPath(list.Tasks[0].ID)+"/events", &events); err != nil {
		refused(&out, "read the events of a scaffolder task", err)
		return out
	}
	out.OK("the events of a task can be read")
	return out
}

func refused(out *upstream.Findings, doing string, err error) {
	var status *upstream.StatusError
	if errors.As(err, &status) && status.Code == http.StatusForbidden {
		out.Error("allow the plugin scaffolder in the token's accessRestrictions, and scaffolder.task.read where permissions are on", "%s: %s", doing, err)
		return
	}
	out.Failed(doing, err, "check that Backstage runs, with the plugin scaffolder")
}
