// Package exporter holds the Run, the one record that every system's unit of work becomes, the Source that yields
// Runs, and the metric families made of them. exporter/journal keeps what has been counted; exporter/<system> is one
// source each.
package exporter

import (
	"context"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A RunID identifies a Run for ever: source, host and the system's own stable id, never a name.
type RunID struct {
	Source string `json:"source"` // "gitlab", "scaffolder"
	Host   string `json:"host"`   // without port
	Key    string `json:"key"`    // e.g. "42/pipeline/1001", "42/job/5001", a task's uuid
}

// String joins the parts by "|".
func (id RunID) String() string {
	if id == (RunID{}) {
		return ""
	}
	return id.Source + "|" + id.Host + "|" + id.Key
}

// Level says whether a Run is a whole (pipeline, scaffolder task) or a part of one (job, step).
type Level string

// The levels.
const (
	LevelPipeline Level = "pipeline" // metrics cicd_pipeline_run_*
	LevelTask     Level = "task"     // metrics cicd_pipeline_task_run_*
	LevelBridge   Level = "bridge"   // a job that does nothing but start a pipeline: a span and a line, and no metrics
)

// State is where a Run stands, in the words of the OpenTelemetry CI/CD conventions.
type State string

// The states.
const (
	StatePending    State = "pending"
	StateExecuting  State = "executing"
	StateFinalizing State = "finalizing"
	StateFinished   State = "finished"
)

// Result is how a finished Run ended, in the words of the OpenTelemetry CI/CD conventions; "" while it is not finished.
type Result string

// The results. Success ratios leave out ResultCancellation and ResultSkip.
const (
	ResultSuccess      Result = "success"
	ResultFailure      Result = "failure"
	ResultError        Result = "error"
	ResultTimeout      Result = "timeout"
	ResultCancellation Result = "cancellation"
	ResultSkip         Result = "skip"
)

// Results lists every Result, sorted.
var Results = []Result{ResultCancellation, ResultError, ResultFailure, ResultSkip, ResultSuccess, ResultTimeout}

// Attempt tells the first finish of a pipeline from later ones.
type Attempt string

// The attempts.
const (
	AttemptFirst     Attempt = "first"
	AttemptRerun     Attempt = "rerun"     // after a retry
	AttemptContinued Attempt = "continued" // after a manual job was played
)

// A Run is one unit of work that a platform system did for an entity. Zero times and nil durations mean "never
// happened" or "the system gave none"; they are not zero.
type Run struct {
	ID       RunID       `json:"id"`
	Parent   RunID       `json:"parent"` // the pipeline of a job; of a pipeline, the one that started it, with "/job/" and its job where that is known
	Level    Level       `json:"level"`
	Starts   RunID       `json:"starts,omitzero"` // of a bridge, the pipeline that it started, where that is known
	Entity   catalog.Ref `json:"entity"`          // zero: nobody claims it
	Owner    catalog.Ref `json:"owner"`           // the owner that the entity had at the finish
	System   catalog.Ref `json:"system"`
	Pipeline string      `json:"pipeline"` // low cardinality: template or pipeline name
	Name     string      `json:"name"`     // low cardinality: pipeline name, or job or step name
	RefKind  string      `json:"ref_kind"` // default, tag, merge_request, other; "" for scaffolder tasks
	Created  time.Time   `json:"created,omitzero"`
	Started  time.Time   `json:"started,omitzero"`
	Finished time.Time   `json:"finished,omitzero"`
	Queued   *float64    `json:"queued,omitempty"`   // seconds, the system's own figure
	Duration *float64    `json:"duration,omitempty"` // seconds, the system's own figure
	State    State       `json:"state"`
	Result   Result      `json:"result,omitempty"`
	Reason   string      `json:"reason,omitempty"` // the system's own failure reason
	Attempt  Attempt     `json:"attempt,omitempty"`
	URL      string      `json:"url,omitempty"`
	Told     bool        `json:"told,omitzero"` // of a task: a webhook told of it; what is measured of it follows with the same run, not told
}

// A Batch is what a Source found in one step: runs, and the cursor that says how far it has read. The receiver
// stores both in one transaction, so a batch that was cut off is simply found again.
type Batch struct {
	Runs     []Run         // in any order; a run seen before in the same state counts once
	Seen     []Observation // in any order; each counts once
	Gone     []RunID       // unfinished runs that were deleted upstream: no longer shown as active, and never counted
	Cursor   string        // name of the cursor, e.g. "gitlab/gitlab.example.com/42"
	Position string        // opaque to everybody but the source; "" forgets the cursor
	History  bool          // what a first start backfills: starting values, never increments
}

// A Sink takes batches. Commit returns when the batch is durable and counted. Position is what was stored for a cursor, and
// Positions for every cursor whose name begins with a prefix. Safe for concurrent use.
type Sink interface {
	Commit(ctx context.Context, b Batch) error
	Position(cursor string) (string, bool)
	Positions(prefix string) map[string]string
}

// A Source follows one upstream. Sync reads what is new since the stored cursors, commits it to the sink page by page,
// and returns; it is called again after the poll interval. One project's failure does not stop the others: errors are
// joined. Sync is never called concurrently with itself.
type Source interface {
	Name() string // "gitlab", "scaffolder", "backstage"
	Host() string
	Sync(ctx context.Context, g *catalog.Graph, to Sink) error
}

// Nudged is a Source that learns of changes in between, as by webhooks. After each value of Nudge, SyncNudged reads what is
// known to have changed, and nothing else. It may be called while Sync runs, which can take long when the budget of calls
// is small, and never concurrently with itself.
type Nudged interface {
	Source
	Nudge() <-chan struct{}
	SyncNudged(ctx context.Context, g *catalog.Graph, to Sink) error
}
