package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
)

const (
	timelineLimit  = 8 * time.Second // for all stores together, which are asked at once
	timelineRange  = 31 * 24 * time.Hour
	timelineRuns   = 200 // of each entity
	timelineLines  = 200
	timelineTraces = 50
)

// A Timeline is what happened to an entity, or to all that an owner owns.
type Timeline struct {
	From    time.Time       `json:"from"`
	To      time.Time       `json:"to"`
	Items   []TimelineEvent `json:"items" doc:"Newest first."`
	Total   int             `json:"total" doc:"Events that were found, also beyond limit."`
	Missing []MissingPart   `json:"missing" doc:"What could not be read, or not all of it."`
}

// A TimelineEvent is one thing that happened.
type TimelineEvent struct {
	Time     time.Time   `json:"time"`
	Kind     string      `json:"kind" doc:"run, alert_started, alert_ended, log or trace."`
	Entity   catalog.Ref `json:"entity" doc:"Empty where the event does not say."`
	Owner    catalog.Ref `json:"owner"`
	Title    string      `json:"title" doc:"Name of the pipeline, task, alert or root span; text of a log line, as it was written: anybody may have written it."`
	Outcome  string      `json:"outcome" doc:"Result of a run, severity of an alert, level of a line; error or empty for a trace."`
	Bad      bool        `json:"bad" doc:"A failure, or the start of an alert."`
	Detail   string      `json:"detail" doc:"Reason of a failure; summary of an alert."`
	TraceID  string      `json:"trace_id" doc:"Empty where there is none."`
	URL      string      `json:"url"`
	Duration Number      `json:"duration_seconds" doc:"Of a run or trace; of an alert that ended, how long it fired; null where it is not known."`
}

// A MissingPart says what a timeline lacks.
type MissingPart struct {
	Source string `json:"source" doc:"alerts, logs or traces."`
	Reason string `json:"reason"`
}

var timelineParams = []param{
	{"from", "string", "Start, RFC 3339; 24 hours before the end when left out. At most 31 days before it."},
	{"to", "string", "End, exclusive, RFC 3339; now when left out."},
	{"limit", "integer", "Most events, the newest, 1 to 1000; 200 when left out."},
}

// A TimelineQuery says whose timeline is wanted.
type TimelineQuery struct {
	Ref      catalog.Ref
	Owner    bool      // Ref is an owner: all that it owns
	From, To time.Time // zero: 24 hours, up to now
	Limit    int
}

// Timeline asks all stores at once, within some seconds. What one of them does not give is said in Missing; the rest stands.
func (s *Snapshot) Timeline(ctx context.Context, q TimelineQuery) Timeline {
	if q.To.IsZero() {
		q.To = s.reader.now()
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	ctx, cancel := context.WithTimeout(ctx, timelineLimit)
	defer cancel()
	var (
		m       correlate.Material
		mu      sync.Mutex
		wg      sync.WaitGroup
		missing = []MissingPart{}
	)
	say := func(source, partial string, err error) {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			partial = fmt.Sprintf("no answer within %s", timelineLimit)
		case err != nil:
			partial = withHint(err)
		}
		if partial != "" {
			mu.Lock()
			missing = append(missing, MissingPart{source, partial})
			mu.Unlock()
		}
	}
	wg.Go(func() {
		var err error
		m.Alerts, err = s.alertSpans(ctx, q)
		say("alerts", "", err)
	})
	if logs := s.reader.state.Logs(); logs != nil {
		wg.Go(func() {
			found, err := logs.Lines(ctx, s.lineQuery(q))
			m.Lines = found.Items
			say("logs", found.Partial, err)
		})
	}
	if traces := s.reader.state.Traces(); traces != nil {
		wg.Go(func() {
			search := correlate.TraceQuery{From: q.From, To: q.To, Failed: true, Limit: timelineTraces}
			if q.Owner {
				search.Owner = q.Ref
			} else {
				search.Entity = q.Ref
			}
			found, err := traces.Search(ctx, search)
			m.Traces = found.Items
			say("traces", found.Partial, err)
		})
	}
	refs := []catalog.Ref{q.Ref}
	if q.Owner {
		for _, e := range s.graph.OwnedBy(q.Ref) {
			if e.Ref != q.Ref {
				refs = append(refs, e.Ref)
			}
		}
	}
	for _, ref := range refs {
		m.Runs = append(m.Runs, s.reader.state.Runs(ref, timelineRuns)...)
	}
	wg.Wait()
	slices.SortFunc(missing, func(a, b MissingPart) int { return cmp.Compare(a.Source, b.Source) })
	out := Timeline{From: q.From.UTC(), To: q.To.UTC(), Items: []TimelineEvent{}, Missing: missing}
	events := correlate.Timeline(q.From, q.To, m)
	out.Total = len(events)
	for _, e := range events[:min(len(events), q.Limit)] {
		item := TimelineEvent{Time: e.Time, Kind: string(e.Kind), Entity: e.Entity, Owner: e.Owner, Title: e.Title, Outcome: e.Outcome, Bad: e.Bad, Detail: e.Detail, TraceID: e.TraceID, URL: e.URL}
		if e.Duration > 0 {
			item.Duration = number(e.Duration.Seconds())
		}
		out.Items = append(out.Items, item)
	}
	return out
}

// lineQuery asks for the lines of errors. Those of an entity are found by the service name: its own name, or the label that its
// workloads have in Kubernetes; a line that names another entity is not its.
func (s *Snapshot) lineQuery(q TimelineQuery) correlate.LineQuery {
	out := correlate.LineQuery{From: q.From, To: q.To, Limit: timelineLines, Filter: []correlate.Matcher{correlate.OneOf("detected_level", "error", "critical", "fatal")}}
	if q.Owner {
		out.Index = []correlate.Matcher{correlate.Equal("owner", q.Ref.String())}
		return out
	}
	names := []string{q.Ref.Name}
	if e := s.graph.Entity(q.Ref); e != nil {
		for _, name := range []string{e.Name, e.Annotations["backstage.io/kubernetes-id"]} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	out.Index = []correlate.Matcher{correlate.OneOf("service_name", names...)}
	out.Filter = append(out.Filter, correlate.OneOf("entity", q.Ref.String(), ""))
	return out
}

// alertSpans finds when alerts fired, from the series that rules leave behind. It is exact to a step: a minute, or more in long ranges.
func (s *Snapshot) alertSpans(ctx context.Context, q TimelineQuery) ([]correlate.AlertSpan, error) {
	store := s.reader.state.Querier()
	if store == nil {
		return nil, errors.New("there is no store to ask")
	}
	name := "entity"
	if q.Owner {
		name = "owner"
	}
	match, err := labels.NewMatcher(labels.MatchEqual, name, q.Ref.String())
	if err != nil {
		return nil, err
	}
	now := s.reader.now()
	step := max(time.Minute, q.To.Sub(q.From)/500).Truncate(time.Second)
	end := q.To
	if end.After(now) {
		end = now
	}
	if !end.After(q.From) {
		return nil, nil
	}
	end = end.Add(-time.Millisecond)                 // which the range does not hold
	from := end.Add(-end.Sub(q.From).Truncate(step)) // the last step is the end: what has just begun to fire is seen
	series, err := store.QueryRange(ctx, `max by (alertname, severity, sloth_slo, entity, owner) (ALERTS{alertstate="firing",`+match.String()+`})`, from, end, step)
	if err != nil {
		return nil, fmt.Errorf("read when alerts fired: %w", err)
	}
	var out []correlate.AlertSpan
	for _, one := range series {
		out = append(out, s.spansOf(one, from, end, step)...)
	}
	return out, nil
}

func (s *Snapshot) spansOf(one engine.Series, from, end time.Time, step time.Duration) []correlate.AlertSpan {
	base := correlate.AlertSpan{Name: one.Labels["alertname"], Severity: one.Labels["severity"], Indicator: one.Labels["sloth_slo"]}
	base.Entity, _ = catalog.ParseRef(one.Labels["entity"], "component")
	base.Owner, _ = catalog.ParseRef(one.Labels["owner"], "group")
	for _, a := range s.alerts {
		if a.Name == base.Name && a.Entity == base.Entity && a.Indicator == base.Indicator && a.Severity == base.Severity {
			base.Summary = a.Summary
		}
	}
	var out []correlate.AlertSpan
	for i, p := range one.Points {
		if i == 0 || p.Time.Sub(one.Points[i-1].Time) > step*3/2 {
			span := base
			if p.Time.Sub(from) >= step { // else it began before
				span.Start = p.Time
			}
			out = append(out, span)
		}
		out[len(out)-1].End = p.Time.Add(step)
	}
	if n := len(out); n > 0 && out[n-1].End.After(end) {
		out[n-1].End = time.Time{}
	}
	return out
}

func serveEntityTimeline(r *Reader, req *http.Request) (any, error) {
	return serveTimeline(r, req, false)
}

func serveOwnerTimeline(r *Reader, req *http.Request) (any, error) {
	return serveTimeline(r, req, true)
}

func serveTimeline(r *Reader, req *http.Request, owner bool) (any, error) {
	q := TimelineQuery{Ref: PathRef(req), Owner: owner}
	var err error
	if q.From, err = timeParam(req, "from"); err != nil {
		return nil, err
	}
	if q.To, err = timeParam(req, "to"); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(req, "limit", 200, 1, 1000); err != nil {
		return nil, err
	}
	if !q.From.IsZero() {
		to := q.To
		if to.IsZero() {
			to = r.now()
		}
		switch text := req.URL.Query().Get("from"); {
		case !to.After(q.From):
			return nil, badParam("from", text, "it has to be before the end")
		case to.Sub(q.From) > timelineRange:
			return nil, badParam("from", text, "ask for 31 days at most")
		}
	}
	s := r.Snapshot(req.Context())
	if owner {
		if _, ok := s.Owner(q.Ref); !ok {
			return nil, s.NotFound("owner", q.Ref)
		}
	} else if _, ok := s.Entity(q.Ref); !ok {
		return nil, s.NotFound("entity", q.Ref)
	}
	return s.Timeline(req.Context(), q), nil
}

// Notice says in a sentence what the timeline lacks; "" when nothing.
func (t Timeline) Notice() string {
	parts := make([]string, len(t.Missing))
	for i, m := range t.Missing {
		parts[i] = m.Source + ": " + strings.TrimSuffix(m.Reason, ".")
	}
	return strings.Join(parts, "; ")
}
