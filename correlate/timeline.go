package correlate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// Kind says what an Event is.
type Kind string

// The kinds of events.
const (
	KindRun          Kind = "run"           // a pipeline or scaffolder task finished, or is under way
	KindAlertStarted Kind = "alert_started" // an alert began to fire
	KindAlertEnded   Kind = "alert_ended"
	KindLog          Kind = "log"   // a log line
	KindTrace        Kind = "trace" // a trace
)

// An Event is one thing that happened to an entity.
type Event struct {
	Time          time.Time
	Kind          Kind
	Entity, Owner catalog.Ref
	Title         string // name of the run, alert or root span; text of a line
	Outcome       string // result of a run, severity of an alert, level of a line, "error" or "" of a trace
	Bad           bool   // somebody may have to act
	Detail        string // reason of a failure, summary of an alert
	TraceID       string // "" where there is none
	URL           string
	Duration      time.Duration // of a run or trace; of an alert that ended, how long it fired; else 0
}

// An AlertSpan is one time that an alert fired.
type AlertSpan struct {
	Name, Severity, Summary string
	Indicator               string // label sloth_slo; "" for other alerts
	Entity, Owner           catalog.Ref
	Start, End              time.Time // Start zero: before the range; End zero: it still fires
}

// Material is what a timeline is made of, in any order.
type Material struct {
	Runs   []exporter.Run
	Alerts []AlertSpan
	Lines  []Line
	Traces []TraceSummary
}

// Timeline gives the events of [from, to), newest first, each once: a line or a trace that only repeats a run which stands there is
// left out. Equal material in another order gives the same events in the same order.
func Timeline(from, to time.Time, m Material) []Event {
	var out []Event
	add := func(e Event) bool {
		if e.Time.Before(from) || !e.Time.Before(to) {
			return false
		}
		e.Time = e.Time.UTC()
		out = append(out, e)
		return true
	}
	runs, traces := map[string]bool{}, map[string]bool{}
	for _, r := range m.Runs {
		e := Event{Time: r.Finished, Kind: KindRun, Entity: r.Entity, Owner: r.Owner, Title: cmp.Or(r.Name, r.Pipeline, r.ID.Source), Outcome: string(cmp.Or(r.Result, exporter.Result(r.State))), Detail: r.Reason, URL: r.URL}
		for _, t := range []time.Time{r.Started, r.Created} {
			if e.Time.IsZero() {
				e.Time = t
			}
		}
		e.Bad = level(r.Result) == "error"
		if r.Duration != nil {
			e.Duration = time.Duration(*r.Duration * float64(time.Second))
		}
		if p, ok := locate(&r); ok {
			e.TraceID = p.traceID().String()
		}
		if add(e) {
			runs[r.ID.Key], traces[e.TraceID] = true, true
		}
	}
	for _, a := range m.Alerts {
		e := Event{Kind: KindAlertStarted, Entity: a.Entity, Owner: a.Owner, Title: a.Name, Outcome: a.Severity, Bad: true, Detail: a.Summary}
		if a.Indicator != "" {
			e.Title += " (" + a.Indicator + ")"
		}
		if !a.Start.IsZero() {
			e.Time = a.Start
			add(e)
		}
		if !a.End.IsZero() {
			e.Time, e.Kind, e.Bad = a.End, KindAlertEnded, false
			if !a.Start.IsZero() {
				e.Duration = a.End.Sub(a.Start)
			}
			add(e)
		}
	}
	for _, l := range m.Lines {
		if runs[l.Label("run_id")] {
			continue
		}
		e := Event{Time: l.Time, Kind: KindLog, Title: l.Text, Outcome: cmp.Or(l.Label("level"), l.Label("detected_level")), TraceID: l.Label("trace_id")}
		e.Bad = slices.Contains([]string{"error", "critical", "fatal"}, e.Outcome)
		e.Entity, _ = catalog.ParseRef(l.Label("entity"), "component")
		e.Owner, _ = catalog.ParseRef(l.Label("owner"), "group")
		add(e)
	}
	for _, t := range m.Traces {
		if traces[t.ID.String()] {
			continue
		}
		e := Event{Time: t.Start, Kind: KindTrace, Entity: t.Entity, Owner: t.Owner, Title: strings.TrimSpace(t.Service + " " + t.Name), Bad: t.Failed, TraceID: t.ID.String(), Duration: t.Duration}
		if t.Failed {
			e.Outcome = "error"
		}
		add(e)
	}
	slices.SortFunc(out, Event.compare)
	return slices.Compact(out)
}

// compare orders events by time, newest first, and then by all that they say.
func (e Event) compare(o Event) int {
	return cmp.Or(o.Time.Compare(e.Time), cmp.Compare(e.Kind, o.Kind), e.Entity.Compare(o.Entity), cmp.Compare(e.Title, o.Title), cmp.Compare(e.TraceID, o.TraceID),
		cmp.Compare(e.URL, o.URL), cmp.Compare(e.Outcome, o.Outcome), cmp.Compare(e.Detail, o.Detail), e.Owner.Compare(o.Owner), cmp.Compare(e.Duration, o.Duration))
}
