package gitlab

import (
	"slices"

	"github.com/sightline-dev/sightline/exporter"
)

// A StatusRow says what one status of GitLab, with one failure reason where that matters, comes to.
type StatusRow struct {
	Status string
	Reason string // failure_reason of a job; "" stands for every other one
	State  exporter.State
	Result exporter.Result // "" while it is not finished
}

// Statuses is the table of statuses and failure reasons, in the order of the documentation. A status that is not in it
// counts as executing, so that a new one of GitLab's never counts as an end.
var Statuses = []StatusRow{
	{"created", "", exporter.StatePending, ""},
	{"waiting_for_resource", "", exporter.StatePending, ""},
	{"preparing", "", exporter.StatePending, ""},
	{"waiting_for_callback", "", exporter.StatePending, ""},
	{"pending", "", exporter.StatePending, ""},
	{"scheduled", "", exporter.StatePending, ""},
	{"manual", "", exporter.StatePending, ""},
	{"running", "", exporter.StateExecuting, ""},
	{"canceling", "", exporter.StateFinalizing, ""},
	{"success", "", exporter.StateFinished, exporter.ResultSuccess},
	{"failed", "stuck_or_timeout_failure", exporter.StateFinished, exporter.ResultTimeout},
	{"failed", "job_execution_timeout", exporter.StateFinished, exporter.ResultTimeout},
	{"failed", "job_execution_server_timeout", exporter.StateFinished, exporter.ResultTimeout},
	{"failed", "no_matching_runner", exporter.StateFinished, exporter.ResultTimeout},
	{"failed", "runner_system_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "runner_unsupported", exporter.StateFinished, exporter.ResultError},
	{"failed", "scheduler_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "api_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "image_pull_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "data_integrity_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "archived_failure", exporter.StateFinished, exporter.ResultError},
	{"failed", "ci_quota_exceeded", exporter.StateFinished, exporter.ResultError},
	{"failed", "trace_size_exceeded", exporter.StateFinished, exporter.ResultError},
	{"failed", "", exporter.StateFinished, exporter.ResultFailure},
	{"canceled", "", exporter.StateFinished, exporter.ResultCancellation},
	{"skipped", "", exporter.StateFinished, exporter.ResultSkip},
}

func lookup(status, reason string) (StatusRow, bool) {
	i := slices.IndexFunc(Statuses, func(r StatusRow) bool { return r.Status == status && (r.Reason == reason || r.Reason == "") })
	if i < 0 {
		return StatusRow{Status: status, State: exporter.StateExecuting}, false
	}
	return Statuses[i], true
}

func resultOf(status, reason string) exporter.Result {
	r, _ := lookup(status, reason)
	return r.Result
}

func stateOf(status string) exporter.State {
	r, _ := lookup(status, "")
	return r.State
}

func terminal(status string) bool { return stateOf(status) == exporter.StateFinished }
