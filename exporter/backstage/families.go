package backstage

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/exporter"
)

type family int

const (
	httpDuration family = iota
	taskStarts
	taskRuns
	taskDuration
	taskLastStart
	taskLastCompletion
	catalogEntities
	catalogRelations
	catalogLocations
	catalogProcessed
	catalogProcessing
	catalogProcessor
	catalogProcessingDelay
	catalogStitched
	catalogStitching
	catalogStitchingDelay
	catalogStitchingQueue
	scaffolderDuration
	replicaUp
)

// common are the labels that every family but replicaUp begins with; the series' own dimensions follow.
var common = []string{"plugin", "owner", "entity", "system", "replica"}

func with(dims ...string) []string { return slices.Concat(common, dims) }

var families = [...]exporter.Family{
	httpDuration:       {Name: "backstage_plugin_http_request_duration_seconds", Type: "histogram", Labels: with("method", "code", "streaming"), Help: "Time that HTTP requests to a plugin took. Requests that are held open by design have streaming=true."},
	taskStarts:         {Name: "backstage_plugin_task_starts_total", Type: "counter", Labels: with("task"), Help: "Runs of a plugin's scheduled task that began."},
	taskRuns:           {Name: "backstage_plugin_task_runs_total", Type: "counter", Labels: with("task", "result"), Help: "Runs of a plugin's scheduled task that ended, in success or failure."},
	taskDuration:       {Name: "backstage_plugin_task_duration_seconds", Type: "histogram", Labels: with("task", "result"), Help: "Time that runs of a plugin's scheduled task took."},
	taskLastStart:      {Name: "backstage_plugin_task_last_start_timestamp_seconds", Type: "gauge", Labels: with("task"), Help: "When the scheduled task last began on this replica."},
	taskLastCompletion: {Name: "backstage_plugin_task_last_completion_timestamp_seconds", Type: "gauge", Labels: with("task", "result"), Help: "When the scheduled task last ended on this replica, in success or failure."},

	catalogEntities:        {Name: "backstage_catalog_entities", Type: "gauge", Labels: with("kind"), Help: "Entities in the catalog."},
	catalogRelations:       {Name: "backstage_catalog_relations", Type: "gauge", Labels: with(), Help: "Relations in the catalog; an estimate, and absent while Backstage knows none."},
	catalogLocations:       {Name: "backstage_catalog_locations", Type: "gauge", Labels: with(), Help: "Registered locations; an estimate, and absent while Backstage knows none."},
	catalogProcessed:       {Name: "backstage_catalog_processed_entities_total", Type: "counter", Labels: with("result"), Help: "Entities that the catalog processed, by Backstage's word for the result."},
	catalogProcessing:      {Name: "backstage_catalog_processing_duration_seconds", Type: "histogram", Labels: with("result"), Help: "Time that the catalog spent on processing one entity."},
	catalogProcessor:       {Name: "backstage_catalog_processor_duration_seconds", Type: "histogram", Labels: with("result"), Help: "Time that the catalog's processors spent on one entity."},
	catalogProcessingDelay: {Name: "backstage_catalog_processing_queue_delay_seconds", Type: "histogram", Labels: with(), Help: "How late entities were when their processing began."},
	catalogStitched:        {Name: "backstage_catalog_stitched_entities_total", Type: "counter", Labels: with("result"), Help: "Entities that the catalog stitched, by Backstage's word for the result."},
	catalogStitching:       {Name: "backstage_catalog_stitching_duration_seconds", Type: "histogram", Labels: with("result"), Help: "Time that the catalog spent on stitching one entity."},
	catalogStitchingDelay:  {Name: "backstage_catalog_stitching_queue_delay_seconds", Type: "histogram", Labels: with(), Help: "How long entities waited to be stitched."},
	catalogStitchingQueue:  {Name: "backstage_catalog_stitching_queue_length", Type: "gauge", Labels: with(), Help: "Entities that wait to be stitched."},

	scaffolderDuration: {Name: "backstage_scaffolder_task_duration_seconds", Type: "histogram", Labels: with("template", "result"), Help: "Time that scaffolder tasks took, as Backstage measures it. Only without sources.scaffolder, which counts tasks exactly."},
	replicaUp:          {Name: "sightline_backstage_replica_up", Type: "gauge", Labels: []string{"replica"}, Help: "Whether the last reading of a replica's metrics succeeded."},
}

// Families lists every metric family of this package, for documentation and tests.
func Families() []exporter.Family {
	out := slices.Clone(families[:])
	for i := range out {
		out[i].Labels = slices.Clone(out[i].Labels)
	}
	return out
}

func (f family) desc() *prometheus.Desc {
	return prometheus.NewDesc(families[f].Name, families[f].Help, families[f].Labels, nil)
}
