package gitlab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// The milestones of a journey, in their usual order.
const (
	milestoneProject    = "project"
	milestonePipeline   = "first_pipeline"
	milestoneGreen      = "first_green"
	milestoneDeployment = "first_deployment"
)

const (
	// journeyEnds is how long after its task a journey is given up.
	journeyEnds = 30 * 24 * time.Hour
	// journeySlack is how far the clocks of Backstage and GitLab may differ where a project is to be the task's.
	journeySlack = 2 * time.Minute
	// journeysAtOnce bounds the journeys that one Sync asks for, each with five calls at most.
	journeysAtOnce = 20
)

// journeys is the position of all journeys on a host: those under way, by task.
type journeys struct {
	Open map[string]*journey `json:"open"`
	Read bool                `json:"read"` // all that was there at the first time has been asked for
	// Until then both wait here: history, which the end of a Sync would show, and news, because what is shown takes no history in.
	Past []exporter.Observation `json:"past,omitempty"`
	Held []exporter.Observation `json:"held,omitempty"`
}

// A journey is what is known of a project that a scaffolder task made.
type journey struct {
	Done []string  `json:"done,omitempty"` // milestones that have been counted
	Next time.Time `json:"next"`           // when to ask again
}

// followJourneys asks for the milestones of what scaffolder tasks made here, seldomer the older a journey is. Each counts
// once, by task and milestone.
func (s *Source) followJourneys(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	ready, ok := to.Position(exporter.MadeReady)
	if !ok {
		return nil
	}
	start, err := time.Parse(time.RFC3339Nano, ready)
	if err != nil {
		return fmt.Errorf("stored position of %s: %w", exporter.MadeReady, err)
	}
	prefix, name := exporter.MadePrefix(s.host), "gitlab/"+s.host+"/journeys"
	marks := to.Positions(prefix)
	if len(marks) == 0 {
		return nil
	}
	state := journeys{}
	if text, ok := to.Position(name); ok {
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return fmt.Errorf("stored position of %s: %w", name, err)
		}
	}
	if state.Open == nil {
		state.Open = map[string]*journey{}
	}
	var over []string
	asked := 0
	now := s.opts.Now()
	next := func(cursor string) (at time.Time) { // zero before it is asked for at all
		if j := state.Open[strings.TrimPrefix(cursor, prefix)]; j != nil {
			at = j.Next
		}
		return at
	}
	longest := func(a, b string) int { return cmp.Or(next(a).Compare(next(b)), strings.Compare(a, b)) } // so that none is passed over
	for _, cursor := range slices.SortedFunc(maps.Keys(marks), longest) {
		task := strings.TrimPrefix(cursor, prefix)
		var m exporter.Made
		if err := json.Unmarshal([]byte(marks[cursor]), &m); err != nil {
			return fmt.Errorf("stored position of %s: %w", cursor, err)
		}
		j := state.Open[task]
		if j == nil {
			j = &journey{}
			state.Open[task] = j
		}
		if now.Before(j.Next) || asked == journeysAtOnce {
			continue
		}
		asked++
		found, ended, err := s.milestones(ctx, g, &m, j)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.opts.Logger.Warn("the way of a scaffolded project cannot be followed; trying again later", "source", "gitlab", "host", s.host, "project", m.Path, "error", err)
		}
		for _, o := range found {
			if o.At.Before(start) {
				state.Past = append(state.Past, o)
			} else {
				state.Held = append(state.Held, o)
			}
		}
		age := now.Sub(m.Created)
		j.Next = now.Add(min(max(age/10, time.Minute), 6*time.Hour))
		if ended || age > journeyEnds && (err == nil || useless(err)) {
			over = append(over, cursor)
			delete(state.Open, task)
		}
	}
	if asked == 0 {
		return nil
	}
	unasked := func(cursor string) bool { return next(cursor).IsZero() && !slices.Contains(over, cursor) }
	state.Read = state.Read || !slices.ContainsFunc(slices.Collect(maps.Keys(marks)), unasked)
	commit := func(b exporter.Batch) error {
		text, err := json.Marshal(state)
		if err != nil {
			return fmt.Errorf("position of %s: %w", name, err)
		}
		b.Cursor, b.Position = name, string(text)
		return to.Commit(ctx, b)
	}
	if !state.Read {
		err = commit(exporter.Batch{})
	}
	if past := state.Past; state.Read && len(past) > 0 {
		state.Past = nil
		err = commit(exporter.Batch{Seen: past, History: true})
	}
	if news := state.Held; state.Read && err == nil {
		state.Held = nil
		err = commit(exporter.Batch{Seen: news}) // shows the history
	}
	if err != nil {
		return err
	}
	for _, cursor := range over {
		if err := to.Commit(ctx, exporter.Batch{Cursor: cursor}); err != nil {
			return err
		}
	}
	return nil
}

// milestones asks for those that have not been reached before. ended tells that there is nothing more to ask.
func (s *Source) milestones(ctx context.Context, g *catalog.Graph, m *exporter.Made, j *journey) (found []exporter.Observation, ended bool, err error) {
	var p struct {
		project
		Created stamp `json:"created_at"`
	}
	_, err = s.api.GetJSON(ctx, "/api/v4/projects/"+url.PathEscape(m.Path), &p)
	switch {
	case isStatus(err, http.StatusNotFound): // not yet, or not for this token
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("project %s: %w", m.Path, err)
	case p.Created.Before(m.Created.Add(-journeySlack)) || p.Created.After(m.Ended.Add(journeySlack)):
		return nil, true, nil // the task names a project that it did not make
	}
	owner := m.Owner
	claims := claimsOf(g, s.host, s.opts.First)
	named := slices.Concat(claims[strings.ToLower(p.Path)], claims[fmt.Sprint("#", p.ID)])
	if e := entityOf(g, named, ""); !e.IsZero() {
		owner = g.Owner(e)
	}
	if owner.IsZero() {
		owner = g.PlatformOwner()
	}
	reach := func(milestone string, at time.Time) {
		j.Done = append(j.Done, milestone)
		found = append(found, exporter.Observation{
			ID: exporter.RunID{Source: "gitlab", Host: s.host, Key: "journey/" + m.Task + "/" + milestone}, Kind: exporter.Journey,
			Entity: m.Entity, Owner: owner, System: m.System, Labels: []string{m.Template, milestone}, Value: max(at.Sub(m.Created).Seconds(), 0), At: at,
		})
	}
	done := func(milestone string) bool { return slices.Contains(j.Done, milestone) }
	if !done(milestoneProject) {
		reach(milestoneProject, p.Created.Time)
	}
	const oldest = "order_by=id&sort=asc&per_page=1"
	if !done(milestonePipeline) {
		var rows []pipeline
		if _, err := s.api.GetJSON(ctx, projectPath(p.ID)+"/pipelines?"+oldest, &rows); err != nil {
			return found, false, fmt.Errorf("first pipeline: %w", err)
		}
		if len(rows) == 0 {
			return found, false, nil
		}
		reach(milestonePipeline, rows[0].Created.Time)
	}
	if !done(milestoneGreen) {
		var rows []pipeline
		if _, err := s.api.GetJSON(ctx, projectPath(p.ID)+"/pipelines?status=success&"+oldest, &rows); err != nil {
			return found, false, fmt.Errorf("first green pipeline: %w", err)
		}
		if len(rows) > 0 {
			var whole struct {
				Finished stamp `json:"finished_at"`
			}
			if _, err := s.api.GetJSON(ctx, fmt.Sprintf("%s/pipelines/%d", projectPath(p.ID), rows[0].ID), &whole); err != nil {
				return found, false, fmt.Errorf("first green pipeline: %w", err)
			}
			if !whole.Finished.IsZero() {
				reach(milestoneGreen, whole.Finished.Time)
			}
		}
	}
	if !done(milestoneDeployment) {
		var rows []deployment
		_, err := s.api.GetJSON(ctx, projectPath(p.ID)+"/deployments?status=success&"+oldest, &rows)
		if err != nil && !refused(err) {
			return found, false, fmt.Errorf("first deployment: %w", err)
		}
		if len(rows) > 0 {
			reach(milestoneDeployment, rows[0].ended())
		}
	}
	return found, done(milestoneGreen) && done(milestoneDeployment), nil
}
