package joblog

import (
	"context"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
)

// Tasks reads what the tasks of one scaffolder wrote; scaffolder.Source does.
type Tasks interface {
	Host() string
	ReadLog(ctx context.Context, r exporter.Run) ([]exporter.LogLine, error)
}

// A Scaffolder reads the logs of scaffolder tasks. The lines of all steps come with their task.
type Scaffolder struct {
	tasks Tasks
	limit int
	mask  *correlate.Mask
}

// NewScaffolder makes a Scaffolder. Of a log that is longer than limit bytes only the beginning and the end are kept, the end three
// times as long.
func NewScaffolder(tasks Tasks, limit int, mask *correlate.Mask) *Scaffolder {
	return &Scaffolder{tasks, limit, mask}
}

// Wants implements Reader: tasks of this scaffolder.
func (s *Scaffolder) Wants(r *exporter.Run) bool {
	return r.ID.Source == "scaffolder" && r.Level == exporter.LevelPipeline && r.ID.Host == s.tasks.Host()
}

// Sections implements Reader: spans of steps are sent with their runs.
func (*Scaffolder) Sections() bool { return false }

// ReadLog implements Reader.
func (s *Scaffolder) ReadLog(ctx context.Context, r exporter.Run) ([]correlate.Line, []correlate.Span, error) {
	log, err := s.tasks.ReadLog(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return correlate.ReadTaskLog(r, log, s.limit, s.mask), nil, nil
}
