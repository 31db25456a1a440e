package dora

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// An event is something to be judged, in the order of time; at the same time, a deployment comes before an incident.
type event struct {
	at         time.Time
	rank       int // 0 deployment, 1 begin, 2 end
	id         string
	deployment *Deployment
	incident   *incident
}

// Take gives what deployments and incidents up to until mean, in the order of time, and keeps what came later for the
// next step. What was given before changes nothing, save that an incident may have ended. until never goes back: it is
// the time up to which everything is known. A deployment that is learned of later than that, and after a later one to the
// same environment, counts, but is no rollback, fix or change any more.
func (s *State) Take(o Options, deployments []Deployment, incidents []Incident, until time.Time) []exporter.Observation {
	o.Window, o.Fold = cmp.Or(o.Window, defaultWindow), cmp.Or(o.Fold, defaultFold)
	if s.Known == nil {
		s.Known = map[string]time.Time{}
	}
	if s.Lines == nil {
		s.Lines = map[string]*line{}
	}
	if s.Incidents == nil {
		s.Incidents = map[string]*incident{}
	}
	if until.Before(s.Until) {
		until = s.Until
	}
	for i := range deployments {
		if d := &deployments[i]; !s.Knows(d.ID) {
			s.Waiting = append(s.Waiting, *d)
		}
	}
	for _, in := range incidents {
		switch have := s.Incidents[in.ID]; {
		case have == nil:
			s.Incidents[in.ID] = &incident{Incident: in}
		case have.Ended.IsZero():
			have.Ended = in.Ended
		}
	}
	t := &taking{State: s, Options: o}
	for _, e := range s.events(until) {
		switch e.rank {
		case 0:
			t.deployment(e.deployment)
		case 1:
			t.begin(e.incident)
		case 2:
			t.end(e.incident)
		}
	}
	s.Until = until
	s.forget(o)
	return t.out
}

// events takes what is due out of what waits.
func (s *State) events(until time.Time) []event {
	var out []event
	var later []Deployment
	for i := range s.Waiting {
		d := s.Waiting[i]
		if d.At.After(until) {
			later = append(later, d)
			continue
		}
		out = append(out, event{d.At, 0, d.ID.Key, &d, nil})
	}
	s.Waiting = later
	for _, in := range s.Incidents {
		if !in.Took && !in.Began.After(until) {
			out = append(out, event{in.Began, 1, in.ID, nil, in})
		}
		if !in.Done && !in.Ended.IsZero() && !in.Ended.After(until) {
			out = append(out, event{in.Ended, 2, in.ID, nil, in})
		}
	}
	slices.SortFunc(out, func(a, b event) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.rank, b.rank), strings.Compare(a.id, b.id))
	})
	return out
}

// forget drops what no later step needs.
func (s *State) forget(o Options) {
	before := func(d time.Duration) time.Time { return s.Until.Add(-max(d, o.Window)) }
	maps.DeleteFunc(s.Known, func(_ string, at time.Time) bool { return at.Before(before(memory)) })
	maps.DeleteFunc(s.Incidents, func(_ string, in *incident) bool {
		if in.Done || in.Took && in.Of == (exporter.RunID{}) {
			return in.Began.Before(before(memory)) && in.Ended.Before(before(memory))
		}
		return in.Began.Before(before(lineMemory))
	})
	for name, l := range s.Lines {
		l.Fold = slices.DeleteFunc(l.Fold, func(f fold) bool { return f.At.Before(s.Until.Add(-o.Fold)) })
		if len(l.Fold) == 0 && l.At.Before(before(lineMemory)) { // one that is not production's has no time
			delete(s.Lines, name)
		}
	}
}

// A taking is one step.
type taking struct {
	*State
	Options
	out []exporter.Observation
}

func (t *taking) deployment(d *Deployment) {
	if t.Knows(d.ID) { // twice in one step
		return
	}
	t.Known[d.ID.Key] = d.At
	name := lineOf(d.Entity, d.Environment)
	l := t.Lines[name]
	if l == nil {
		l = &line{Entity: d.Entity}
		t.Lines[name] = l
	}
	folded := d.Pipeline != 0 && slices.ContainsFunc(l.Fold, func(f fold) bool {
		return f.Pipeline == d.Pipeline && f.Result == d.Result && d.At.Sub(f.At).Abs() <= t.Fold
	})
	if !folded {
		t.count(d)
		if d.Pipeline != 0 {
			l.Fold = append(l.Fold, fold{d.Pipeline, d.Result, d.At})
		}
	}
	if d.Result != exporter.ResultSuccess || d.Tier != Production {
		return
	}
	if !d.First {
		t.leadTime(d)
	}
	late := d.At.Before(l.At)
	if l.At = latest(l.At, d.At); late || folded {
		return
	}
	t.judge(l, d)
}

// count counts a deployment. That nothing of its entity has failed is a fact as well, so those series exist at zero.
func (t *taking) count(d *Deployment) {
	for _, r := range []exporter.Result{exporter.ResultSuccess, exporter.ResultFailure} {
		t.declare(d, exporter.Deployments, d.Tier, string(r))
	}
	if d.Tier == Production {
		for _, cause := range []string{CauseRollback, CauseFix} {
			t.declare(d, exporter.DeploymentsFailed, d.Tier, cause)
			t.declare(d, exporter.DeploymentsRework, d.Tier, cause)
		}
		t.declare(d, exporter.DeploymentsFailed, d.Tier, CauseIncident)
	}
	t.see(d.subject(), exporter.Deployments, d.ID.Key, 1, d.At, d.Tier, string(d.Result))
}

// The values of the label cause.
const (
	CauseRollback = "rollback"
	CauseFix      = "fix"
	CauseIncident = "incident"
)

// judge says what a successful production deployment means for the ones before it.
func (t *taking) judge(l *line, d *Deployment) {
	var current *subject
	if n := len(l.Subjects); n > 0 {
		current = l.Subjects[n-1]
	}
	running, rank := slices.Index(l.Revisions, l.Running), slices.Index(l.Revisions, d.SHA)
	cause := ""
	var deployed []string
	if current != nil {
		deployed = current.Commits
	}
	switch {
	case rank >= 0 && rank < running:
		cause = CauseRollback
	case d.SHA == l.Running: // deployed again: nothing has changed
		return
	case slices.ContainsFunc(d.Changes, func(c Change) bool { return c.fix(deployed) }):
		cause = CauseFix
	}
	if rank < 0 {
		l.Revisions = append(l.Revisions, d.SHA)
		l.Revisions = l.Revisions[max(len(l.Revisions)-maxRevisions, 0):]
	}
	l.Running = d.SHA
	if cause == "" {
		next := d.subject()
		for _, c := range d.Changes {
			next.Commits = append(next.Commits, c.SHAs...)
			for _, commit := range c.Commits {
				next.Commits = append(next.Commits, commit.SHA)
			}
		}
		l.Subjects = append(l.Subjects, next)
		l.Subjects = l.Subjects[max(len(l.Subjects)-maxSubjects, 0):]
		for _, older := range l.Subjects[:len(l.Subjects)-1] {
			older.Commits = nil
		}
		return
	}
	t.see(d.subject(), exporter.DeploymentsRework, d.ID.Key, 1, d.At, Production, cause)
	if current == nil || d.At.Sub(current.At) > t.Window {
		return
	}
	t.fail(current, cause, d.At)
	t.recover(current, d.At)
}

func (t *taking) fail(s *subject, cause string, at time.Time) {
	if !s.Failed {
		s.Failed = true
		t.see(s, exporter.DeploymentsFailed, s.ID.Key, 1, at, Production, cause)
	}
}

func (t *taking) recover(s *subject, at time.Time) {
	if s.Recovered {
		return
	}
	s.Recovered = true
	from := s.At
	if !s.Broken.IsZero() {
		from = s.Broken
	}
	t.see(s, exporter.RecoveryTime, s.ID.Key, seconds(from, at), at, Production)
}

// begin puts an incident down to the latest change of its entity, in whichever environment.
func (t *taking) begin(in *incident) {
	in.Took = true
	var found *subject
	for _, name := range slices.Sorted(maps.Keys(t.Lines)) {
		l := t.Lines[name]
		if l.Entity != in.Entity || in.Entity.IsZero() {
			continue
		}
		for _, s := range l.Subjects {
			if !s.At.After(in.Began) && in.Began.Sub(s.At) <= t.Window && (found == nil || s.At.After(found.At)) {
				found, in.Line = s, name
			}
		}
	}
	if found == nil {
		return
	}
	in.Of = found.ID
	found.Open = append(found.Open, in.ID)
	if found.Broken.IsZero() || in.Began.Before(found.Broken) {
		found.Broken = in.Began
	}
	t.fail(found, CauseIncident, in.Began)
}

func (t *taking) end(in *incident) {
	in.Done = true
	l := t.Lines[in.Line]
	if l == nil || in.Of == (exporter.RunID{}) {
		return
	}
	for _, s := range l.Subjects {
		if s.ID != in.Of {
			continue
		}
		if s.Open = slices.DeleteFunc(s.Open, func(id string) bool { return id == in.ID }); len(s.Open) == 0 {
			t.recover(s, in.Ended)
		}
	}
}

// leadTime observes the changes of a deployment. A time that would be negative is none: a merge request may be opened
// before its first commit.
func (t *taking) leadTime(d *Deployment) {
	of := d.subject()
	key := func(id, part string) string {
		return d.Project + "/" + id + "/" + Production + "/" + part + "/" + d.Entity.String()
	}
	for i := range d.Changes {
		c := &d.Changes[i]
		var first time.Time
		for j := range c.Commits {
			commit := &c.Commits[j]
			if c.Bot || commit.At.IsZero() || !commit.own() {
				continue
			}
			t.see(of, exporter.LeadTime, key("commit/"+commit.SHA, "total"), seconds(commit.At, d.At), d.At, Production, "total")
			if first.IsZero() || commit.At.Before(first) {
				first = commit.At
			}
		}
		if c.ID == "" || c.Bot || first.IsZero() && !c.Unread || c.Opened.IsZero() || c.Merged.IsZero() {
			continue
		}
		if !c.Unread {
			t.see(of, exporter.LeadTime, key(c.ID, "coding"), seconds(first, c.Opened), d.At, Production, "coding")
		}
		t.see(of, exporter.LeadTime, key(c.ID, "review"), seconds(c.Opened, c.Merged), d.At, Production, "review")
		t.see(of, exporter.LeadTime, key(c.ID, "deploy"), seconds(c.Merged, d.At), d.At, Production, "deploy")
	}
}

func (d *Deployment) subject() *subject {
	return &subject{ID: d.ID, Entity: d.Entity, Owner: d.Owner, System: d.System, At: d.At}
}

func (t *taking) see(s *subject, kind exporter.ObservationKind, key string, value float64, at time.Time, labels ...string) {
	id := s.ID
	id.Key = key
	t.out = append(t.out, exporter.Observation{ID: id, Kind: kind, Entity: s.Entity, Owner: s.Owner, System: s.System, Labels: labels, Value: value, At: at})
}

func (t *taking) declare(d *Deployment, kind exporter.ObservationKind, labels ...string) {
	t.see(d.subject(), kind, "", 0, d.At, labels...)
	t.out[len(t.out)-1].Declare = true
}

func seconds(from, to time.Time) float64 { return max(to.Sub(from).Seconds(), 0) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
