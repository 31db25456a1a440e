package gitlab

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/sightline-dev/sightline/exporter"
)

// Backfilled gives of how many projects the history has been read. It implements exporter.Backfiller.
func (s *Source) Backfilled() (done, of int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.filled), s.parts
}

// beginBackfill takes over which projects are read, and which of them have been read before.
func (s *Source) beginBackfill(ids []int64, to exporter.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = len(ids)
	maps.DeleteFunc(s.filled, func(id int64, _ bool) bool {
		_, found := slices.BinarySearch(ids, id)
		return !found
	})
	for _, id := range ids {
		var p position
		if text, ok := to.Position(s.cursorOf(id)); ok && !s.filled[id] && json.Unmarshal([]byte(text), &p) == nil && p.Floor.IsZero() {
			s.filled[id] = true
		}
	}
}

// fill notes that the history of a project has been read.
func (s *Source) fill(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filled[id] = true
}
