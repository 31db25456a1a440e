// Package dora computes DORA's five metrics from deployments: what deployments, merge requests and incidents say becomes
// exporter.Observations. It does no I/O and has no clock.
//
// A State is what has to be remembered between two steps. It is stored as JSON together with the observations that a
// step gave; a step that was cut off and is done again gives the same observations with the same ids.
//
//   - Every deployment that ended counts once, by the tier of its environment. Several of one pipeline to one environment,
//     with the same result and within a short time, are one.
//   - All else is of successful deployments to tier production. Those of one entity to one environment are a line.
//   - A deployment of an older revision than the one that runs is a rollback; one that holds a merge request marked as
//     hotfix or revert, or one that reverts a commit of the change before it, is a fix. Both are rework.
//   - A change is a deployment that is neither of them, and no repetition of what runs already. It has failed when a
//     rollback, a fix, or an incident of its entity follows within a window and before the next change. It fails once.
//   - Recovery goes from the begin of the incident, or else from the deployment, to the rollback or fix, or to the end of
//     the last incident, whichever comes first.
//   - The lead time is that of each commit of the merge requests that a deployment was the first to deploy, or of each
//     commit that was pushed since the deployment before it where there are none. The first deployment of an environment
//     has none, as everything that was ever merged would be new in it.
package dora

import (
	"context"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// Production is the tier that all metrics but the number of deployments are about.
const Production = "production"

// A Deployment is one deployment that ended.
type Deployment struct {
	ID          exporter.RunID  `json:"id"`
	Project     string          `json:"project"` // begins the ids of its commits, e.g. "42"
	Entity      catalog.Ref     `json:"entity,omitzero"`
	Owner       catalog.Ref     `json:"owner,omitzero"` // at the time
	System      catalog.Ref     `json:"system,omitzero"`
	Environment string          `json:"environment"`
	Tier        string          `json:"tier"`
	SHA         string          `json:"sha"`
	Pipeline    int64           `json:"pipeline,omitzero"` // 0: made by no pipeline
	Result      exporter.Result `json:"result"`
	At          time.Time       `json:"at"`                // when it ended
	First       bool            `json:"first,omitzero"`    // nothing was deployed to the environment before, ever
	Changes     []Change        `json:"changes,omitempty"` // that were first deployed by it
}

// A Change is a merge request, or what was pushed without one.
type Change struct {
	ID      string    `json:"id"` // within the project, e.g. "merge_request/12"; "" for commits without a merge request
	Title   string    `json:"title"`
	Branch  string    `json:"branch"`
	Labels  []string  `json:"labels,omitempty"`
	Opened  time.Time `json:"opened"`
	Merged  time.Time `json:"merged"`
	SHAs    []string  `json:"shas,omitempty"` // what it was merged as: merge commit, squash commit
	Bot     bool      `json:"bot,omitzero"`   // made by no person
	Commits []Commit  `json:"commits,omitempty"`
	Unread  bool      `json:"unread,omitzero"` // its commits are not known, for their number
}

// A Commit is a commit of a merge request, or one that was deployed without any.
type Commit struct {
	SHA     string    `json:"sha"`
	Title   string    `json:"title"`
	Message string    `json:"message,omitempty"`
	Author  string    `json:"author"`
	Email   string    `json:"email,omitempty"`
	At      time.Time `json:"at"` // committed
}

// An Incident is a time in which an entity was broken. Ended is zero while it lasts.
type Incident struct {
	ID     string      `json:"id"`
	Entity catalog.Ref `json:"entity"`
	Began  time.Time   `json:"began"`
	Ended  time.Time   `json:"ended,omitzero"`
}

// Incidents gives those of entities that had not ended at a time, with the same ids each time. One that lasts has no end yet.
type Incidents func(ctx context.Context, entities []catalog.Ref, from time.Time) ([]Incident, error)

// Options are the settings of a step.
type Options struct {
	// Window is how long after a change a rollback, fix or incident is put down to it; default 24 h.
	Window time.Duration
	// Fold is how long after a deployment another one of the same pipeline, environment and result is the same; default 15 min.
	Fold time.Duration
}

const (
	defaultWindow = 24 * time.Hour
	defaultFold   = 15 * time.Minute
	// memory is how long ids are known, so that news of the same thing change nothing.
	memory = 7 * 24 * time.Hour
	// lineMemory is how long a production environment may rest before its revisions are forgotten.
	lineMemory = 400 * 24 * time.Hour
	// maxRevisions is how many revisions of a line are known; a rollback to an older one is not seen as one.
	maxRevisions = 100
	// maxSubjects is how many changes of a line an incident that is learned of late can be put down to.
	maxSubjects = 10
)

// A State is what is known of one project after a step. Its zero value knows nothing. Not safe for concurrent use.
type State struct {
	Until     time.Time            `json:"until,omitzero"` // judged up to here
	Waiting   []Deployment         `json:"waiting,omitempty"`
	Known     map[string]time.Time `json:"known,omitempty"` // keys of deployments that were judged, and when they ended
	Lines     map[string]*line     `json:"lines,omitempty"`
	Incidents map[string]*incident `json:"incidents,omitempty"`
}

// A line is the deployments of one entity to one environment.
type line struct {
	Entity    catalog.Ref `json:"entity,omitzero"`
	At        time.Time   `json:"at"`                // the latest one
	Fold      []fold      `json:"fold,omitempty"`    // those that others may be folded into
	Revisions []string    `json:"revs,omitempty"`    // by when they were first deployed
	Running   string      `json:"running,omitempty"` // the revision that was deployed last
	Subjects  []*subject  `json:"changes,omitempty"` // the latest changes, oldest first
}

type fold struct {
	Pipeline int64           `json:"pipeline"`
	Result   exporter.Result `json:"result"`
	At       time.Time       `json:"at"`
}

// A subject is a change that may yet fail.
type subject struct {
	ID        exporter.RunID `json:"id"`
	Entity    catalog.Ref    `json:"entity,omitzero"`
	Owner     catalog.Ref    `json:"owner,omitzero"`
	System    catalog.Ref    `json:"system,omitzero"`
	At        time.Time      `json:"at"`
	Commits   []string       `json:"commits,omitempty"`
	Failed    bool           `json:"failed,omitzero"`
	Broken    time.Time      `json:"broken,omitzero"` // begin of the first incident
	Open      []string       `json:"open,omitempty"`  // incidents that last
	Recovered bool           `json:"recovered,omitzero"`
}

type incident struct {
	Incident
	Line string         `json:"line,omitempty"`
	Of   exporter.RunID `json:"of,omitzero"` // the change that it is put down to
	Took bool           `json:"took,omitzero"`
	Done bool           `json:"done,omitzero"`
}

// Knows tells whether a deployment has been given to the state, so that nothing need be asked for it again.
func (s *State) Knows(id exporter.RunID) bool {
	if _, ok := s.Known[id.Key]; ok {
		return true
	}
	for i := range s.Waiting {
		if s.Waiting[i].ID == id {
			return true
		}
	}
	return false
}

// Expects tells whether something was given that has not been judged.
func (s *State) Expects() bool { return len(s.Waiting) > 0 }

// Deployed tells whether a deployment of the entity to the production environment is known.
func (s *State) Deployed(entity catalog.Ref, environment string) bool {
	l := s.Lines[lineOf(entity, environment)]
	return l != nil && l.Running != "" || slices.ContainsFunc(s.Waiting, func(d Deployment) bool {
		return d.Entity == entity && d.Environment == environment && d.Result == exporter.ResultSuccess
	})
}

// Before gives the revision that ran when a deployment of the entity to the production environment ended; "" when none is
// known. The given deployments are known beside those of the state.
func (s *State) Before(entity catalog.Ref, environment string, at time.Time, given []Deployment) (sha string) {
	if l := s.Lines[lineOf(entity, environment)]; l != nil {
		sha = l.Running
	}
	var latest time.Time
	for _, list := range [][]Deployment{s.Waiting, given} {
		for i := range list {
			d := &list[i]
			if d.Entity == entity && d.Environment == environment && d.Result == exporter.ResultSuccess && d.At.Before(at) && !d.At.Before(latest) {
				sha, latest = d.SHA, d.At
			}
		}
	}
	return sha
}

// Entities lists those that have been deployed to production, sorted.
func (s *State) Entities() []catalog.Ref {
	var out []catalog.Ref
	for _, l := range s.Lines {
		if l.Running != "" && !l.Entity.IsZero() {
			out = append(out, l.Entity)
		}
	}
	slices.SortFunc(out, catalog.Ref.Compare)
	return slices.Compact(out)
}

func lineOf(entity catalog.Ref, environment string) string {
	return entity.String() + " " + environment
}
