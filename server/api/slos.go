package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// An SLOFilter picks objectives; what is empty picks all.
type SLOFilter struct {
	Owner, Entity, System catalog.Ref
	Indicator             string
}

// An AllSLOList is the answer of /slos.
type AllSLOList struct {
	Time          time.Time `json:"time" doc:"When the current values were read."`
	Items         []SLO     `json:"items" doc:"Worst first."`
	Total         int       `json:"total" doc:"Objectives that match, on all pages."`
	StoreError    string    `json:"store_error" doc:"Why values are missing or as old as time says; empty when the store answered."`
	StoreWarnings []string  `json:"store_warnings" doc:"What the store says about values that may be incomplete."`
}

// severity orders statuses, worst first. What has no data may be anything, so it stands before what is well.
var severity = map[Status]int{StatusBreaching: 0, StatusBurning: 1, StatusLow: 2, StatusNoData: 3, StatusOK: 4}

// FindSLOs gives the objectives that a filter picks, worst first, without series.
func (s *Snapshot) FindSLOs(f SLOFilter) []SLO {
	out := []SLO{}
	for _, v := range s.slos {
		if (f.Owner.IsZero() || v.Owner == f.Owner) && (f.Entity.IsZero() || v.Entity == f.Entity) &&
			(f.System.IsZero() || v.System == f.System) && (f.Indicator == "" || v.Indicator == f.Indicator) {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b SLO) int {
		return cmp.Or(cmp.Compare(severity[a.Status], severity[b.Status]), cmp.Compare(rank(a.BudgetRemaining), rank(b.BudgetRemaining)))
	})
	return out
}

// AllSLOs is FindSLOs as an answer, of which items are left out before offset and after limit of them, each with at most
// points of its budget over its own window; 0 points ask for none.
func (s *Snapshot) AllSLOs(ctx context.Context, f SLOFilter, offset, limit, points int) AllSLOList {
	all := s.FindSLOs(f)
	items := all[min(offset, len(all)):]
	items = items[:min(limit, len(items))]
	l := s.list(catalog.Ref{}, items, nil)
	out := AllSLOList{Time: l.Time, Items: items, Total: len(all), StoreError: l.StoreError, StoreWarnings: l.StoreWarnings}
	if points <= 0 {
		return out
	}
	byWindow := map[time.Duration][]int{}
	for i, v := range items {
		for _, k := range s.byEntity[v.Entity] {
			if s.objective[k].ID == v.ID {
				byWindow[s.objective[k].Length] = append(byWindow[s.objective[k].Length], i)
			}
		}
	}
	for _, indexes := range byWindow { // one query for each length
		group := make([]SLO, len(indexes))
		for k, i := range indexes {
			group[k] = items[i]
		}
		if err := s.AddSeries(ctx, group, time.Time{}, time.Time{}, points); err != nil {
			out.StoreError = cmp.Or(out.StoreError, withHint(err)) // the last figures are worth more than an error page
		}
		for k, i := range indexes {
			items[i] = group[k]
		}
	}
	return out
}

// refParam reads a reference; kind is that of one without.
func refParam(req *http.Request, name, kind string) (catalog.Ref, error) {
	text := req.URL.Query().Get(name)
	if text == "" {
		return catalog.Ref{}, nil
	}
	ref, err := catalog.ParseRef(text, kind)
	if err != nil {
		return ref, badParam(name, text, "write a reference like "+kind+":default/payments")
	}
	return ref, nil
}

func serveAllSLOs(r *Reader, req *http.Request) (any, error) {
	var f SLOFilter
	for name, at := range map[string]struct {
		kind string
		ref  *catalog.Ref
	}{"owner": {"group", &f.Owner}, "entity": {"component", &f.Entity}, "system": {"system", &f.System}} {
		var err error
		if *at.ref, err = refParam(req, name, at.kind); err != nil {
			return nil, err
		}
	}
	f.Indicator = req.URL.Query().Get("indicator")
	limit, offset, err := pageParams(req)
	if err != nil {
		return nil, err
	}
	points, err := intParam(req, "points", 0, 0, MaxPoints)
	if err != nil {
		return nil, err
	}
	return r.Snapshot(req.Context()).AllSLOs(req.Context(), f, offset, limit, points), nil
}
