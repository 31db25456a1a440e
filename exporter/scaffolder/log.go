package scaffolder

import (
	"context"
	"fmt"
	"slices"

	"github.com/sightline-dev/sightline/exporter"
)

// ReadLog gives what a finished task wrote in the attempt that the run is, in the order in which it was written. Lines of a step that
// never began are the task's. An attempt that is not found has no lines.
func (s *Source) ReadLog(ctx context.Context, r exporter.Run) ([]exporter.LogLine, error) {
	var events []event
	if _, err := s.api.GetJSON(ctx, taskPath(r.ID.Key)+"/events", &events); err != nil {
		return nil, fmt.Errorf("read the log of task %s: %w", r.ID.Key, err)
	}
	for n, events := range attempts(events) {
		if !began(events).CreatedAt.Equal(r.Started) {
			continue
		}
		var out []exporter.LogLine
		for _, e := range events {
			if e.Type != "log" {
				continue
			}
			line := exporter.LogLine{Time: e.CreatedAt, Run: r.ID, Text: e.Body.Message}
			if id := e.Body.StepID; slices.ContainsFunc(events, func(o event) bool { return o.Body.StepID == id && id != "" && o.Body.Status == "processing" }) {
				line.Run.Key, line.Part = stepKey(r.ID.Key, id, n, events), normalise(id)
			}
			out = append(out, line)
		}
		return out, nil
	}
	return nil, nil
}
