package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/slo"
)

// A report says how the budgets of a period were spent.
type report struct {
	Owner      catalog.Ref       `json:"owner"`
	Entity     catalog.Ref       `json:"entity"`
	System     catalog.Ref       `json:"system"`
	From       time.Time         `json:"from"`
	To         time.Time         `json:"to"` // the first moment after it
	Zone       string            `json:"timezone"`
	Open       bool              `json:"open"` // the period is not over
	Objectives []reportObjective `json:"objectives"`
	WorstDays  []reportDay       `json:"worst_days"`

	// What does not count, if that is known: a Prometheus alone does not tell.
	Exclusions []reportExclusion `json:"exclusions"`
	Unknown    bool              `json:"exclusions_unknown"`
}

// A reportExclusion is a maintenance window or a correction within the period, and the objectives that it is about.
type reportExclusion struct {
	Kind       string    `json:"kind"`
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	Link       string    `json:"link"`
	Objectives []string  `json:"objectives"`
}

// A reportObjective is an objective in a period. What is not known is null.
type reportObjective struct {
	ID        string           `json:"id"`
	Entity    catalog.Ref      `json:"entity"`
	Owner     catalog.Ref      `json:"owner"`
	System    catalog.Ref      `json:"system"`
	Indicator string           `json:"indicator"`
	Target    string           `json:"target"`
	Attained  api.Number       `json:"attained"`
	Met       bool             `json:"met"`
	Errors    float64          `json:"errors"`
	Events    float64          `json:"events"`
	Spent     api.Number       `json:"budget_spent"`
	Days      []reportSpending `json:"days"`
}

type reportSpending struct {
	Date   string     `json:"date"`
	Errors float64    `json:"errors"`
	Events float64    `json:"events"`
	Spent  api.Number `json:"budget_spent"`
}

// A reportDay is a bad day: who spent budget, and what happened.
type reportDay struct {
	Date        string        `json:"date"`
	Spent       []reportShare `json:"budget_spent"`
	Runs        []reportCount `json:"runs"`
	Deployments []reportCount `json:"deployments"`
	Alerts      []reportAlert `json:"alerts"`
	from, to    time.Time     // of the day, within the period
}

type reportShare struct {
	Entity    catalog.Ref `json:"entity"`
	Indicator string      `json:"indicator"`
	Spent     float64     `json:"budget_spent"`
}

// A reportCount is how many runs or deployments of an entity ended so.
type reportCount struct {
	Entity string `json:"entity"`
	Name   string `json:"name"` // of the pipeline, or the tier of the environment
	Result string `json:"result"`
	Count  int    `json:"count"`
}

// A reportAlert is an alert that fired on a day.
type reportAlert struct {
	Name      string    `json:"name"`
	Severity  string    `json:"severity"`
	Entity    string    `json:"entity"`
	Indicator string    `json:"indicator"`
	Since     time.Time `json:"since"` // on the day, to five minutes
	Minutes   int       `json:"minutes"`
}

const (
	// reportStep is how finely events are read: whole days of every time zone can be made of it.
	reportStep = 15 * time.Minute
	// excludedStep is that of objectives of which minutes are left out: one sample each.
	excludedStep = 5 * time.Minute
	// excludedLate is how long after it happened an event is counted, at most: the base window, a scrape and a step.
	excludedLate = 11 * time.Minute
	// samplesPerQuery keeps a query below what Prometheus gives at once.
	samplesPerQuery = 10_000
	idsPerQuery     = 100
)

// fill asks for everything. Errors are those of the store.
func (r *report) fill(ctx context.Context, q engine.Querier, filter api.SLOFilter, zone *time.Location, worst int, exclusions map[string][]slo.Exclusion) error {
	objectives, err := objectivesOf(ctx, q, r.To)
	if err != nil {
		return err
	}
	objectives = slices.DeleteFunc(objectives, func(o api.Objective) bool {
		return !filter.Owner.IsZero() && o.Owner != filter.Owner || !filter.Entity.IsZero() && o.Entity != filter.Entity ||
			!filter.System.IsZero() && o.System != filter.System || filter.Indicator != "" && o.Indicator != filter.Indicator
	})
	counts := map[string][]slo.Count{}
	spans := r.exclude(objectives, exclusions, zone)
	for step, list := range map[time.Duration][]api.Objective{
		reportStep:   slices.DeleteFunc(slices.Clone(objectives), func(o api.Objective) bool { return len(spans[o.ID]) > 0 }),
		excludedStep: slices.DeleteFunc(slices.Clone(objectives), func(o api.Objective) bool { return len(spans[o.ID]) == 0 }),
	} {
		for some := range slices.Chunk(list, idsPerQuery) {
			if err := r.count(ctx, q, some, step, counts); err != nil {
				return err
			}
		}
	}
	for id, s := range spans {
		counts[id] = slo.Without(counts[id], s, excludedStep, excludedLate)
	}
	spendings := make([]slo.Spending, len(objectives))
	r.Objectives = make([]reportObjective, len(objectives))
	for i, o := range objectives {
		target, err := slo.ParseTarget(o.Target)
		if err != nil {
			return fmt.Errorf("objective %s: %w", o.ID, err)
		}
		s, ok := slo.SpendingOf(counts[o.ID], target, r.From, r.To, zone)
		spendings[i] = s
		out := reportObjective{ID: o.ID, Entity: o.Entity, Owner: o.Owner, System: o.System, Indicator: o.Indicator, Target: target.Percent(), Errors: s.Errors, Events: s.Total}
		if ok {
			sli := s.SLI()
			out.Attained, out.Spent, out.Met = &sli, &spendings[i].Spent, s.Spent <= 1
		}
		for k := range s.Days {
			d := &s.Days[k]
			day := reportSpending{Date: d.Date.Format(time.DateOnly), Errors: d.Errors, Events: d.Total}
			if ok {
				day.Spent = &d.Spent
			}
			out.Days = append(out.Days, day)
		}
		r.Objectives[i] = out
	}
	r.worstDays(spendings, worst)
	for i := range r.WorstDays {
		if err := r.happened(ctx, q, &r.WorstDays[i], filter); err != nil {
			return err
		}
	}
	order := map[string]float64{}
	for i, o := range r.Objectives {
		order[o.ID] = spendings[i].Spent
	}
	slices.SortStableFunc(r.Objectives, func(a, b reportObjective) int { return cmp.Compare(order[b.ID], order[a.ID]) })
	return nil
}

// exclude notes what is left out of the objectives within the period, and gives the spans of each that has any.
func (r *report) exclude(objectives []api.Objective, exclusions map[string][]slo.Exclusion, zone *time.Location) map[string][]slo.Span {
	out := map[string][]slo.Span{}
	r.Exclusions = []reportExclusion{}
	for _, o := range objectives {
		name := o.Entity.String() + " " + o.Indicator
		for _, x := range exclusions[o.ID] {
			for _, s := range x.Spans(r.From.Add(-excludedLate), r.To) {
				out[o.ID] = append(out[o.ID], s)
				e := reportExclusion{x.Kind, s.From.In(zone), s.To.In(zone), x.By, x.Reason, x.Link, []string{name}}
				i := slices.IndexFunc(r.Exclusions, func(y reportExclusion) bool {
					return y.Kind == e.Kind && y.From.Equal(e.From) && y.To.Equal(e.To) && y.By == e.By && y.Reason == e.Reason && y.Link == e.Link
				})
				if i < 0 {
					r.Exclusions = append(r.Exclusions, e)
				} else {
					r.Exclusions[i].Objectives = append(r.Exclusions[i].Objectives, name)
				}
			}
		}
	}
	slices.SortStableFunc(r.Exclusions, func(a, b reportExclusion) int { return a.From.Compare(b.From) })
	return out
}

// count reads the events of some objectives. The period's base series has a sample every five minutes, which holds the rate
// of the five minutes before it.
func (r *report) count(ctx context.Context, q engine.Querier, objectives []api.Objective, step time.Duration, into map[string][]slo.Count) error {
	ids := make([]string, len(objectives))
	for i, o := range objectives {
		ids[i] = regexp.QuoteMeta(o.ID)
	}
	match := "{sloth_id=~" + strconv.Quote(strings.Join(ids, "|")) + "}"
	index := map[string]map[int64]int{}
	read := func(series string, add func(*slo.Count, float64)) error {
		expr := "max by (sloth_id) (sum_over_time(" + series + match + "[" + strconv.Itoa(int(step.Minutes())) + "m])) * 300"
		for from := r.From; from.Before(r.To); from = from.Add(samplesPerQuery * step) {
			to := from.Add(samplesPerQuery * step)
			if to.After(r.To) {
				to = r.To
			}
			found, err := q.QueryRange(ctx, expr, from.Add(step), to, step)
			if err != nil {
				return fmt.Errorf("read the events: %w", err)
			}
			for _, s := range found {
				id := s.Labels["sloth_id"]
				if index[id] == nil {
					index[id] = map[int64]int{}
				}
				for _, p := range s.Points {
					at := p.Time.Add(-step)
					i, seen := index[id][at.Unix()]
					if !seen {
						i = len(into[id])
						index[id][at.Unix()] = i
						into[id] = append(into[id], slo.Count{Time: at})
					}
					add(&into[id][i], p.Value)
				}
			}
		}
		return nil
	}
	if err := read(slo.SeriesErrorsPeriod, func(c *slo.Count, v float64) { c.Errors = v }); err != nil {
		return err
	}
	return read(slo.SeriesTotalPeriod, func(c *slo.Count, v float64) { c.Total = v })
}

// worstDays picks the days on which an objective spent the most of its budget, worst first; a day on which all together spent
// nothing is none.
func (r *report) worstDays(spendings []slo.Spending, worst int) {
	r.WorstDays = []reportDay{}
	if len(spendings) == 0 {
		return
	}
	for k, d := range spendings[0].Days { // all have the same days
		day := reportDay{Date: d.Date.Format(time.DateOnly), Runs: []reportCount{}, Deployments: []reportCount{}, Alerts: []reportAlert{}, from: d.Date, to: r.To}
		if k+1 < len(spendings[0].Days) {
			day.to = spendings[0].Days[k+1].Date
		}
		for i, s := range spendings {
			if spent := s.Days[k].Spent; spent > 0 {
				day.Spent = append(day.Spent, reportShare{r.Objectives[i].Entity, r.Objectives[i].Indicator, spent})
			}
		}
		slices.SortStableFunc(day.Spent, func(a, b reportShare) int { return cmp.Compare(b.Spent, a.Spent) })
		if len(day.Spent) > 0 {
			r.WorstDays = append(r.WorstDays, day)
		}
	}
	slices.SortStableFunc(r.WorstDays, func(a, b reportDay) int { return cmp.Compare(b.Spent[0].Spent, a.Spent[0].Spent) })
	r.WorstDays = r.WorstDays[:min(worst, len(r.WorstDays))]
}

// happened adds what else there was on a day.
func (r *report) happened(ctx context.Context, q engine.Querier, d *reportDay, filter api.SLOFilter) error {
	var match []string
	for name, ref := range map[string]catalog.Ref{"owner": filter.Owner, "entity": filter.Entity, "system": filter.System} {
		if !ref.IsZero() {
			match = append(match, name+"="+strconv.Quote(ref.String()))
		}
	}
	slices.Sort(match)
	where := strings.Join(match, ",")
	length := strconv.Itoa(int(d.to.Sub(d.from)/time.Second)) + "s"
	counts := func(metric, name, result string) ([]reportCount, error) {
		found, err := q.Query(ctx, fmt.Sprintf("sum by (entity, %s, %s) (increase(%s{%s}[%s])) >= 0.5", name, result, metric, where, length), d.to)
		if err != nil {
			return nil, fmt.Errorf("read what happened on %s: %w", d.Date, err)
		}
		out := []reportCount{}
		for _, s := range found {
			out = append(out, reportCount{s.Labels["entity"], s.Labels[name], s.Labels[result], int(math.Round(s.Value))})
		}
		return out, nil
	}
	var err error
	if d.Runs, err = counts("cicd_pipeline_runs_total", "cicd_pipeline_name", "cicd_pipeline_result"); err != nil {
		return err
	}
	if d.Deployments, err = counts("sightline_deployments_total", "environment_tier", "result"); err != nil {
		return err
	}
	const step = 5 * time.Minute
	found, err := q.QueryRange(ctx, fmt.Sprintf(`max by (alertname, severity, entity, sloth_slo) (max_over_time(ALERTS{alertstate="firing",%s}[5m]))`, where), d.from.Add(step), d.to, step)
	if err != nil {
		return fmt.Errorf("read the alerts of %s: %w", d.Date, err)
	}
	for _, s := range found {
		if len(s.Points) > 0 {
			d.Alerts = append(d.Alerts, reportAlert{
				s.Labels["alertname"], s.Labels["severity"], s.Labels["entity"], s.Labels["sloth_slo"], s.Points[0].Time.Add(-step).In(d.from.Location()), len(s.Points) * int(step.Minutes()),
			})
		}
	}
	slices.SortStableFunc(d.Alerts, func(a, b reportAlert) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Severity, b.Severity))
	})
	return nil
}
