package gitlab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
)

const (
	// deploymentsEvery is how often the deployments of a project are asked for when no pipeline has moved, and
	// noDeploymentsEvery where there have never been any.
	deploymentsEvery   = 10 * time.Minute
	noDeploymentsEvery = time.Hour
	// settled is how old a deployment is when what it means is judged: another one that ended before it may be told of later.
	settled = 2 * time.Minute
	// maxTiers is how many environments' tiers are remembered; some projects make one for each branch.
	maxTiers = 500
	// givenUp is how old a deployment is when merge requests of it that GitLab cannot give are done without.
	givenUp = time.Hour
	// maxMerged is how many merge requests of one deployment are asked for their commits, a call each, those merged last.
	maxMerged = 50
	// maxCommits is how many commits of one merge request, or of a deployment without any, are read: those made last.
	maxCommits = 500
)

// UseIncidents lets deployments fail by incidents of their entities, too. It is called before the first Sync.
func (s *Source) UseIncidents(f dora.Incidents) { s.learn = f }

// deployment is a row of the list of deployments.
type deployment struct {
	ID          int64  `json:"id"`
	SHA         string `json:"sha"`
	Status      string `json:"status"`
	Updated     stamp  `json:"updated_at"`
	Environment struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		Tier string `json:"tier"`
	} `json:"environment"`
	Deployable *struct {
		Finished stamp    `json:"finished_at"`
		Pipeline pipeline `json:"pipeline"`
	} `json:"deployable"` // nil: made by the API
}

// deploymentResults are how deployments end. One that was skipped never began.
var deploymentResults = map[string]exporter.Result{"success": exporter.ResultSuccess, "failed": exporter.ResultFailure, "canceled": exporter.ResultCancellation}

// ended is when a deployment ended, as its job did.
func (d *deployment) ended() time.Time {
	if d.Deployable != nil && !d.Deployable.Finished.IsZero() {
		return d.Deployable.Finished.Time
	}
	return d.Updated.Time
}

// commit is a row of the commits of a merge request.
type commit struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Message   string `json:"message"`
	Author    string `json:"author_name"`
	Email     string `json:"author_email"`
	Committed stamp  `json:"committed_date"`
}

// delivered is what is stored of a project's deployments. Times are GitLab's.
type delivered struct {
	Start time.Time        `json:"start"` // what ended before it is history
	Since time.Time        `json:"since"` // newest change that was read
	Tiers map[int64]string `json:"tiers,omitempty"`
	DORA  dora.State       `json:"dora"`
}

// deploying is what a follower remembers of its project's deployments.
type deploying struct {
	asked  time.Time
	due    bool // a pipeline has moved, or a webhook told of a deployment
	any    bool // there have been deployments, or it is not known
	waits  bool // something was read that is not judged
	paused time.Time
	wrong  []catalog.Problem
}

// readDeployments reads the deployments that changed, when it is time to. What is wrong with them concerns no pipeline.
func (f *follower) readDeployments(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	d, now := &f.deploying, f.opts.Now()
	if d.asked.IsZero() {
		d.asked, d.any = now.Add(deploymentsEvery/20*time.Duration(f.project.ID%20)), true // not all at once
		if _, ok := to.Position(f.cursor + "/deployments"); !ok {                          // what ends from now on is news, however late it is read
			start := f.clock.now()
			text, err := json.Marshal(delivered{Start: start, Since: start.Add(-f.opts.Backfill)})
			if err != nil {
				return fmt.Errorf("position of deployments: %w", err)
			}
			return to.Commit(ctx, exporter.Batch{Cursor: f.cursor + "/deployments", Position: string(text)})
		}
	}
	every := noDeploymentsEvery
	if d.any {
		every = deploymentsEvery
	}
	if now.Before(d.paused) || !d.due && now.Sub(d.asked) < every && (!d.waits || now.Sub(d.asked) < settled) {
		return nil
	}
	d.asked, d.due = now, false
	err := f.deployments(ctx, g, to)
	var wrong []catalog.Problem
	switch {
	case refused(err):
		d.paused = now.Add(refusedPause)
		for _, c := range f.claims {
			p := problem(g, c.entity, "gitlab.com/project-slug", "gitlab-deployments-refused", fmt.Sprintf("GitLab %s gives no deployments of the project %s, so it has no DORA metrics", f.host, f.project.Path),
				"turn the project's feature Environments on, and give the token's user at least the role Reporter")
			p.Severity = catalog.SeverityInfo
			wrong = append(wrong, p)
		}
		err = nil
	case err != nil && ctx.Err() == nil:
		d.paused, d.due = now.Add(failedPause), true
		err = fmt.Errorf("deployments: %w", err)
	}
	f.mu.Lock()
	d.wrong = wrong
	f.mu.Unlock()
	return err
}

// deployments reads on from the stored position, the oldest change first, and commits each page. Each page is asked for by
// the time of the last row, as a row that changes meanwhile would move all others. The first reading commits when it is
// through: history that was committed in part would be shown when the source is settled, and the rest would be lost.
func (f *follower) deployments(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	r := &deploymentReading{follower: f, graph: g, to: to, name: f.cursor + "/deployments"}
	r.stored, _ = to.Position(r.name)
	if err := json.Unmarshal([]byte(r.stored), &r.delivered); err != nil {
		return fmt.Errorf("stored position of %s: %w", r.name, err)
	}
	if r.Tiers == nil {
		r.Tiers = map[int64]string{}
	}
	first := r.DORA.Until.IsZero()
	after, page := r.Since.Add(-overlap), 1
	for {
		q := url.Values{"updated_after": {after.Format(time.RFC3339Nano)}, "order_by": {"updated_at"}, "sort": {"asc"}, "per_page": {strconv.Itoa(pageSize)}, "page": {strconv.Itoa(page)}}
		var rows []deployment
		header, err := r.api.GetJSON(ctx, projectPath(r.project.ID)+"/deployments?"+q.Encode(), &rows)
		if err != nil {
			return fmt.Errorf("list deployments: %w", err)
		}
		r.clock.set(header)
		until := r.clock.now().Add(-settled)
		young := slices.IndexFunc(rows, func(d deployment) bool { return deploymentResults[d.Status] != "" && d.Updated.After(until) })
		last := len(rows) < pageSize || young >= 0
		if young >= 0 { // GitLab links merge requests to a deployment some time after its end: it is read again when that is done
			rows, r.young = rows[:young], true
		}
		for i := range rows {
			r.Since = latest(r.Since, rows[i].Updated.Time)
		}
		if !last {
			until = earliest(until, rows[len(rows)-1].Updated.Add(-settled))
		}
		if err := r.take(ctx, rows, until); err != nil {
			return err
		}
		if last || !first {
			if err := r.commit(ctx, last); err != nil {
				return err
			}
		}
		if last {
			break
		}
		if next := rows[len(rows)-1].Updated.Add(-time.Second); next.After(after) {
			after, page = next, 1
		} else {
			page++
		}
	}
	f.deploying.any = r.young || len(r.DORA.Known)+len(r.DORA.Waiting) > 0
	f.deploying.waits = r.young || r.DORA.Expects()
	return nil
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// A deploymentReading is one reading of a project's deployments.
type deploymentReading struct {
	*follower
	delivered
	name       string // of the position
	stored     string
	graph      *catalog.Graph
	to         exporter.Sink
	past, news []exporter.Observation
	history    bool // some was committed, and has to be shown
	young      bool // there are deployments that ended a moment ago
}

// take gives the deployments that have ended to dora.
func (r *deploymentReading) take(ctx context.Context, rows []deployment, until time.Time) error {
	var list []dora.Deployment
	first := map[string]bool{}
	for i := range rows {
		row := &rows[i]
		result := deploymentResults[row.Status]
		id := r.runID(r.project.ID, "deployment", row.ID)
		if result == "" || row.ID <= 0 || r.DORA.Knows(id) {
			continue
		}
		d := dora.Deployment{
			ID: id, Project: strconv.FormatInt(r.project.ID, 10), Owner: r.graph.PlatformOwner(),
			Environment: row.Environment.Name, SHA: row.SHA, Result: result, At: row.ended(),
		}
		name := ""
		if row.Deployable != nil {
			d.Pipeline, name = row.Deployable.Pipeline.ID, strings.TrimSpace(row.Deployable.Pipeline.Name)
		}
		if entity := entityOf(r.graph, r.claims, name); !entity.IsZero() {
			d.Entity, d.Owner, d.System = entity, r.graph.Owner(entity), r.graph.System(entity)
		}
		var err error
		if d.Tier, err = r.tier(ctx, row); err != nil {
			return err
		}
		if line := d.Entity.String() + " " + d.Environment; d.Tier == dora.Production && result == exporter.ResultSuccess {
			if !first[line] && !r.DORA.Deployed(d.Entity, d.Environment) {
				if d.First, err = r.first(ctx, row); err != nil {
					return err
				}
			}
			first[line] = true
			if !d.First && !d.At.Before(r.Start) {
				before := r.DORA.Before(d.Entity, d.Environment, d.At, list)
				if d.Changes, err = r.changes(ctx, row, before); err != nil {
					return err
				}
			}
		}
		list = append(list, d)
	}
	for _, o := range r.DORA.Take(dora.Options{Window: r.opts.FailureWindow}, list, r.incidents(ctx, until), until) {
		if o.At.Before(r.Start) {
			r.past = append(r.past, o)
		} else {
			r.news = append(r.news, o)
		}
	}
	return nil
}

// incidents gives those of the entities that were deployed to production. Those that cannot be read are read the next time.
func (r *deploymentReading) incidents(ctx context.Context, until time.Time) []dora.Incident {
	entities := r.DORA.Entities()
	if r.learn == nil || len(entities) == 0 || until.Before(r.Start) {
		return nil
	}
	list, err := r.learn(ctx, entities, latest(r.Start, until.Add(-incidentsBack)))
	if err != nil {
		r.opts.Logger.Warn("alerts cannot be read; no deployment fails by them until they can", "source", "gitlab", "host", r.host, "project", r.project.Path, "error", err)
	}
	return list
}

// incidentsBack is how long alerts may have been out of reach without one being missed.
const incidentsBack = 24 * time.Hour

// commit stores what was found, and the position when anything but the time has changed.
func (r *deploymentReading) commit(ctx context.Context, last bool) error {
	text, err := json.Marshal(r.delivered)
	if err != nil {
		return fmt.Errorf("position of %s: %w", r.name, err)
	}
	if len(r.past) > 0 || !last && len(r.news) == 0 {
		at := r.stored
		if len(r.news) == 0 {
			at = string(text)
		}
		if err := r.to.Commit(ctx, exporter.Batch{Seen: r.past, Cursor: r.name, Position: at, History: true}); err != nil {
			return err
		}
		r.past, r.stored, r.history = nil, at, true
	}
	if len(r.news) == 0 && !last {
		return nil
	}
	if len(r.news) == 0 && !r.history {
		var before delivered
		if err := json.Unmarshal([]byte(r.stored), &before); err != nil {
			return fmt.Errorf("stored position of %s: %w", r.name, err)
		}
		if before.DORA.Until = r.DORA.Until; before.Tiers == nil {
			before.Tiers = map[int64]string{}
		}
		if same, err := json.Marshal(before); err == nil && string(same) == string(text) {
			return nil
		}
	}
	if err := r.to.Commit(ctx, exporter.Batch{Seen: r.news, Cursor: r.name, Position: string(text)}); err != nil {
		return err
	}
	r.news, r.stored = nil, string(text)
	return nil
}

// tier gives the tier of a deployment's environment. Where rows do not tell, each environment is asked for once.
func (r *deploymentReading) tier(ctx context.Context, row *deployment) (string, error) {
	tier := cmp.Or(row.Environment.Tier, r.Tiers[row.Environment.ID])
	if tier == "" && (row.Environment.ID <= 0 || strings.HasPrefix(row.Environment.Name, "review/")) {
		return guessTier(row.Environment.Name), nil // there may be any number of those
	}
	if tier == "" {
		var e struct {
			Tier string `json:"tier"`
		}
		header, err := r.api.GetJSON(ctx, fmt.Sprintf("%s/environments/%d", projectPath(r.project.ID), row.Environment.ID), &e)
		if err != nil && !refused(err) {
			return "", fmt.Errorf("environment %s: %w", row.Environment.Name, err)
		}
		r.clock.set(header)
		tier = cmp.Or(e.Tier, guessTier(row.Environment.Name)) // one that was deleted has no tier any more
		if len(r.Tiers) >= maxTiers {
			clear(r.Tiers)
		}
		r.Tiers[row.Environment.ID] = tier
	}
	if !slices.Contains(tiers, tier) {
		return "other", nil
	}
	return tier, nil
}

var (
	tiers     = []string{"production", "staging", "testing", "development", "other"}
	tierNames = []struct {
		name *regexp.Regexp
		tier string
	}{
		{regexp.MustCompile(`(?i)dev|review|trunk`), "development"},
		{regexp.MustCompile(`(?i)te?st|int|acc?e?pt|qa|qc|control|quality`), "testing"},
		{regexp.MustCompile(`(?i)sta?ge?|mode?l|pre|demo|non`), "staging"},
		{regexp.MustCompile(`(?i)pro?d|live`), "production"},
	}
)

// guessTier tells the tier by the name, as GitLab does for an environment that is given none.
func guessTier(name string) string {
	for _, t := range tierNames {
		if t.name.MatchString(name) {
			return t.tier
		}
	}
	return "other"
}

// first tells whether a deployment is the first successful one to its environment. GitLab says that it was the first to
// deploy all merge requests that were ever merged.
func (r *deploymentReading) first(ctx context.Context, row *deployment) (bool, error) {
	q := url.Values{"environment": {row.Environment.Name}, "status": {"success"}, "order_by": {"id"}, "sort": {"asc"}, "per_page": {"1"}}
	var rows []deployment
	header, err := r.api.GetJSON(ctx, projectPath(r.project.ID)+"/deployments?"+q.Encode(), &rows)
	if err != nil {
		return false, fmt.Errorf("first deployment to %s: %w", row.Environment.Name, err)
	}
	r.clock.set(header)
	return len(rows) == 0 || rows[0].ID == row.ID, nil
}

// changes gives the merge requests that a deployment was the first to deploy, with their commits. Where there are none, it
// gives the commits that were pushed since the revision that was deployed before.
func (r *deploymentReading) changes(ctx context.Context, row *deployment, before string) ([]dora.Change, error) {
	var list []mergeRequest
	err := all(ctx, r, fmt.Sprintf("deployments/%d/merge_requests?", row.ID), 0, &list)
	slices.SortFunc(list, func(a, b mergeRequest) int { return cmp.Or(b.Merged.Compare(a.Merged.Time), cmp.Compare(b.IID, a.IID)) })
	var out []dora.Change
	for i := 0; i < len(list) && err == nil; i++ {
		m := &list[i]
		c := dora.Change{
			ID: fmt.Sprintf("merge_request/%d", m.IID), Title: m.Title, Branch: m.Branch, Labels: m.Labels, Opened: m.Created.Time, Merged: m.Merged.Time,
			Bot: strings.HasSuffix(m.Author.Username, "[bot]") || botUser.MatchString(m.Author.Username),
		}
		for _, sha := range []string{m.MergeSHA, m.Squash, m.SHA} {
			if sha != "" {
				c.SHAs = append(c.SHAs, sha)
			}
		}
		if i < maxMerged {
			c.Commits, err = r.commits(ctx, fmt.Sprintf("merge_requests/%d/commits?", m.IID))
		} else {
			c.Unread = true
		}
		out = append(out, c)
	}
	if err == nil && len(list) == 0 && before != "" && row.SHA != "" && before != row.SHA {
		var commits []dora.Commit
		if commits, err = r.commits(ctx, "repository/commits?"+url.Values{"ref_name": {before + ".." + row.SHA}}.Encode()+"&"); len(commits) > 0 {
			out = []dora.Change{{Commits: commits}}
		}
	}
	if err != nil && (refused(err) || ofThisAlone(err) && r.clock.now().Sub(row.Updated.Time) > givenUp) {
		r.opts.Logger.Warn("a deployment counts without its changes, which GitLab does not give", "source", "gitlab", "host", r.host, "project", r.project.Path, "deployment", row.ID, "error", err)
		return nil, nil
	}
	return out, err
}

// commits reads a list of commits, the latest first.
func (r *deploymentReading) commits(ctx context.Context, what string) (out []dora.Commit, err error) {
	var rows []commit
	err = all(ctx, r, what, maxCommits, &rows)
	for _, k := range rows {
		out = append(out, dora.Commit{SHA: k.ID, Title: k.Title, Message: k.Message, Author: k.Author, Email: k.Email, At: k.Committed.Time})
	}
	return out, err
}

// botUser is the name of the user behind a project's or group's access token.
var botUser = regexp.MustCompile(`^(project|group)_[0-9]+_bot`)

// all reads a list of a project to its end, or until it has so many rows; 0 is no limit. What is asked for ends in "?" or "&".
func all[T any](ctx context.Context, r *deploymentReading, what string, limit int, into *[]T) error {
	_, err := pages(ctx, r.api, fmt.Sprintf("%s/%sper_page=%d", projectPath(r.project.ID), what, pageSize), r.clock, func(rows []T) bool {
		*into = append(*into, rows...)
		return limit == 0 || len(*into) < limit
	})
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimRight(what, "?&"), err)
	}
	return nil
}

// wrongDeployments lists the projects that give none.
func (s *Source) wrongDeployments() (out []catalog.Problem) {
	for _, id := range slices.Sorted(maps.Keys(s.followed)) {
		out = append(out, s.followed[id].deploying.wrong...)
	}
	return out
}
