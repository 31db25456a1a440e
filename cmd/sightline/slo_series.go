package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/slo"
)

// A seriesState is the api.State that the series of the rules tell, without a catalog.
type seriesState struct {
	client     *remote.Client
	objectives []api.Objective
}

// newSeriesState asks which objectives there are.
func newSeriesState(ctx context.Context, c *remote.Client) (*seriesState, error) {
	objectives, err := objectivesOf(ctx, c, time.Now())
	return &seriesState{c, objectives}, err
}

// objectivesOf finds the objectives whose rules were evaluated shortly before a time, sorted by entity and indicator. The
// period group runs every five minutes.
func objectivesOf(ctx context.Context, q engine.Querier, at time.Time) ([]api.Objective, error) {
	days, err := q.Query(ctx, "max by (sloth_id) (last_over_time("+slo.SeriesPeriodDays+"[11m]))", at)
	if err != nil {
		return nil, err
	}
	lengths := map[string]int{}
	for _, s := range days {
		lengths[s.Labels["sloth_id"]] = int(s.Value)
	}
	windows, err := q.Query(ctx, `group by (sloth_id, sloth_window) (last_over_time({__name__=~"`+slo.SeriesErrorRatio+`_(week|month|quarter)"}[11m]))`, at)
	if err != nil {
		return nil, err
	}
	calendar := map[string]string{}
	for _, s := range windows {
		calendar[s.Labels["sloth_id"]] = s.Labels["sloth_window"]
	}
	infos, err := q.Query(ctx, "group by (sloth_id, sloth_slo, sloth_objective, entity, owner, system) (last_over_time("+slo.SeriesInfo+`{entity!=""}[11m]))`, at)
	if err != nil {
		return nil, err
	}
	var out []api.Objective
	seen := map[string]bool{}
	for _, s := range infos {
		l := s.Labels
		if seen[l["sloth_id"]] { // it has changed just now
			continue
		}
		seen[l["sloth_id"]] = true
		entity, err := catalog.ParseRef(l["entity"], "component")
		if err != nil {
			return nil, fmt.Errorf("label entity of %s: %w", slo.SeriesInfo, err)
		}
		o := api.Objective{ID: l["sloth_id"], Entity: entity, Indicator: l["sloth_slo"], Target: strings.TrimSuffix(l["sloth_objective"], "%"), Length: time.Duration(lengths[l["sloth_id"]]) * 24 * time.Hour}
		o.Owner, _ = catalog.ParseRef(l["owner"], "group")
		o.System, _ = catalog.ParseRef(l["system"], "system")
		o.Window = cmp.Or(calendar[o.ID], strconv.Itoa(lengths[o.ID])+"d")
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b api.Objective) int {
		return cmp.Or(a.Entity.Compare(b.Entity), cmp.Compare(a.Indicator, b.Indicator))
	})
	return out, nil
}

func (s *seriesState) Graph() *catalog.Graph {
	g, _ := catalog.NewGraph(nil, catalog.Ref{})
	return g
}

func (s *seriesState) Objectives() []api.Objective          { return s.objectives }
func (s *seriesState) Problems() []catalog.Problem          { return nil }
func (s *seriesState) Querier() engine.Querier              { return s.client }
func (s *seriesState) Runs(catalog.Ref, int) []exporter.Run { return nil }
func (s *seriesState) Logs() correlate.LogStore             { return nil }
func (s *seriesState) Traces() correlate.TraceStore         { return nil }
func (s *seriesState) Sources() []api.SourceStatus          { return nil }
func (s *seriesState) Notices() []string                    { return nil }
func (s *seriesState) Simulated() bool                      { return false }
func (s *seriesState) Version() string                      { return version }

func (s *seriesState) Alerts(ctx context.Context) ([]api.Alert, error) {
	found, err := s.client.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	var out []api.Alert
	for _, a := range found {
		if a.Labels["sloth_id"] != "" {
			out = append(out, api.Alert(a))
		}
	}
	return out, nil
}
