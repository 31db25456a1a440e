package server

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/server/api"
)

// view is the api.State of a Server.
type view struct{ s *Server }

func (v view) Graph() *catalog.Graph       { return v.s.current.Load().compiled.Graph }
func (v view) Objectives() []api.Objective { return v.s.current.Load().objectives }
func (v view) Querier() engine.Querier     { return v.s.store.querier }
func (v view) Simulated() bool             { return v.s.opts.Simulated }
func (v view) Version() string             { return v.s.opts.Version }
func (v view) Notices() []string           { return v.s.notices() }

// Problems gives those of the catalog, and what the sources find wrong.
func (v view) Problems() []catalog.Problem {
	all := v.s.current.Load().compiled.Plan.Problems
	own := len(all)
	for _, source := range v.s.opts.Sources {
		if finder, ok := source.Source.(interface{ Problems() []catalog.Problem }); ok {
			all = append(all[:len(all):len(all)], finder.Problems()...)
		}
	}
	if len(all) > own {
		slices.SortFunc(all, catalog.Problem.Compare)
	}
	return all
}

// Alerts gives the alerts of the store. Those of a remote one that carry none of Sightline's labels are somebody else's.
func (v view) Alerts(ctx context.Context) ([]api.Alert, error) {
	var all []engine.Alert
	if v.s.engine != nil {
		all = v.s.engine.Alerts()
	} else {
		found, err := v.s.opts.Remote.Alerts(ctx)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(found, func(a engine.Alert) bool { return a.Labels["owner"] == "" && a.Labels["entity"] == "" })
	}
	out := make([]api.Alert, len(all))
	for i, a := range all {
		out[i] = api.Alert(a)
	}
	return out, nil
}

func (v view) Runs(entity catalog.Ref, limit int) []exporter.Run {
	return v.s.journal.Runs(journal.Filter{Entities: []catalog.Ref{entity}, Limit: limit})
}

func (v view) Logs() correlate.LogStore     { return v.s.opts.Logs }
func (v view) Traces() correlate.TraceStore { return v.s.opts.Traces }

func (v view) Sources() []api.SourceStatus { return v.s.status.all() }

// sourceStatus remembers how each source stands.
type sourceStatus struct {
	mu  sync.Mutex
	key map[string]api.SourceStatus
}

func (s *sourceStatus) note(name, host string, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		s.key = map[string]api.SourceStatus{}
	}
	key := name + "|" + host
	st := s.key[key]
	st.Name, st.Host, st.Up, st.LastError = name, host, err == nil, ""
	if err != nil {
		st.LastError = err.Error()
	} else {
		st.LastSuccess = now
	}
	s.key[key] = st
}

// all gives them by name, then host.
func (s *sourceStatus) all() []api.SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []api.SourceStatus
	for _, key := range slices.Sorted(maps.Keys(s.key)) {
		out = append(out, s.key[key])
	}
	return out
}
