package server

import (
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/server/changes"
)

// openChanges opens the history of objectives beside the journal, and shows its last changes as metrics.
func (s *Server) openChanges() error {
	h, err := changes.Open(filepath.Join(s.opts.Path, "objectives.db"))
	if err != nil {
		return engine.NewError("open the history of objectives", "stop the other process, or give this one a store.path of its own", err)
	}
	s.onStop(h.Close)
	if h.Damaged != "" {
		s.log.Error("the history of objectives was damaged and begins anew", "set aside as", h.Damaged)
	}
	s.changes = h
	s.metrics.showChanges(h)
	return nil
}

// noteChanges keeps what a reading changed in objectives.
func (s *Server) noteChanges(c *Compiled) {
	if err := s.changes.Note(c.Objectives, s.opts.Now()); err != nil {
		s.log.Error("what was changed in objectives is not kept yet; trying again at the next reading", "error", err)
	}
	s.metrics.showChanges(s.changes)
}

func newChanged() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sightline_slo_last_change_timestamp_seconds",
		Help: "When a field of an objective was last changed; there is no series of what never was.",
	}, []string{"entity", "sloth_id", "sloth_slo", "field"})
}

// showChanges shows the last change of each field of each objective.
func (m *metrics) showChanges(h *changes.History) {
	latest := h.Latest()
	if len(latest) < m.changes {
		m.changed.Reset() // old ones were dropped
	}
	m.changes = len(latest)
	for _, c := range latest {
		m.changed.WithLabelValues(c.Entity, c.ID, c.Indicator, c.Field).Set(float64(c.Time.UnixMilli()) / 1000)
	}
}
