package gitlab

import "github.com/sightline-dev/sightline/exporter"

// bridgeRuns makes a run of each bridge that ended, for its span and line alone. One that does not wait for what it starts
// has no start of its own with GitLab: it is a moment.
func (r *reading) bridgeRuns(row pipeline, bridges []job) []exporter.Run {
	common := r.describe(row, bridges)
	var out []exporter.Run
	for i := range bridges {
		j := &bridges[i]
		if !j.ended() || j.Status == "canceled" && j.Started.IsZero() {
			continue
		}
		run := common
		run.ID, run.Parent, run.Level, run.Name, run.Created = jobID(common.ID, j.ID), common.ID, exporter.LevelBridge, j.Name, j.Created.Time
		run.Started, run.Finished = j.Started.Time, j.end(row.Created.Time)
		if run.Started.IsZero() {
			run.Started = run.Finished
		}
		run.State, run.Result, run.Reason = exporter.StateFinished, resultOf(j.Status, j.Reason), ""
		if j.Status == "failed" {
			run.Reason = j.Reason
		}
		run.URL = j.WebURL
		if d := j.Downstream; d != nil && d.ID > 0 {
			project := d.Project
			if project <= 0 {
				project = r.project.ID
			}
			run.Starts = r.Source.runID(project, "pipeline", d.ID)
		}
		out = append(out, run)
	}
	return out
}
