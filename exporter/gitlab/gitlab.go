// Package gitlab reads the pipelines and jobs of one GitLab: one Run per finish of a pipeline, and one per job that ended.
//
// Projects are those that entities of the catalog name. Each is followed by its change feed, the list of pipelines
// updated since the last reading: an idle project costs one call, or a 25th of one where GraphQL answers (graphql.go). The jobs of what changed come from the project's
// list of all jobs, newest first, where several pipelines changed, else from each pipeline's own list. The finishes of a
// pipeline are computed from its jobs alone (finish.go). What is not finished is looked at again until it is.
//
// A project's position is stored together with the runs that were found, so that a reading that was cut off is simply
// done again; the journal counts nothing twice. On the first reading, what finished before it began is history.
package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
	"github.com/sightline-dev/sightline/upstream"
)

// Options are the settings of a Source.
type Options struct {
	URL      string           // base URL of GitLab, with its relative root where it has one
	Groups   []string         // full paths or ids; projects below them that no entity names are read too, for the platform owner
	First    bool             // entities that name no gitlab.com/instance belong to this host
	Backfill time.Duration    // how far back the first reading of a project goes; default 30 days
	Poll     time.Duration    // how often Sync is called; default 30s
	Workers  int              // projects read at the same time; default 8
	Now      func() time.Time // default time.Now

	FailureWindow time.Duration // how long after a deployment a rollback, fix or incident is put down to it; default 24h

	Logger *slog.Logger // default: discard
}

// A Source follows one GitLab host. It implements exporter.Source.
type Source struct {
	api   API
	opts  Options
	host  string
	clock *clock

	mu       sync.Mutex
	known    map[string]known    // by claim key
	followed map[int64]*follower // by project id
	problems []catalog.Problem
	refused  []catalog.Problem // of projects whose pipelines may not be read
	turn     int
	filled   map[int64]bool // projects whose history has been read
	parts    int            // projects in all
	retired  map[int64]bool // projects of which nothing is shown as active, because nobody names them

	hooks      hooks
	learn      dora.Incidents // nil: no deployment fails by an incident
	graph      graph
	downstream downstream
}

// known is what is remembered of the project behind a claim.
type known struct {
	project
	Missing bool      `json:"missing,omitempty"`
	Asked   time.Time `json:"asked"`
}

// New makes a Source.
func New(api API, o Options) (*Source, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("gitlab url: %w", err)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("gitlab url %q has no host", o.URL)
	}
	if o.Backfill <= 0 {
		o.Backfill = 30 * 24 * time.Hour
	}
	if o.Poll <= 0 {
		o.Poll = 30 * time.Second
	}
	if o.Workers <= 0 {
		o.Workers = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Source{api: api, opts: o, host: u.Hostname(), clock: &clock{local: o.Now}, followed: map[int64]*follower{}, filled: map[int64]bool{}, retired: map[int64]bool{}, hooks: hooks{nudge: make(chan struct{}, 1)}}, nil
}

// Name is "gitlab".
func (s *Source) Name() string { return "gitlab" }

// Host is the host of GitLab's URL, without port: what CI_SERVER_HOST is inside a job.
func (s *Source) Host() string { return s.host }

// Problems lists what is wrong in the catalog as GitLab sees it: projects that do not exist or may not be read, or whose pipelines may not. They are
// those of the last Sync. Safe for concurrent use.
func (s *Source) Problems() []catalog.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Concat(s.problems, s.refused, s.wrongDeployments())
	slices.SortFunc(out, catalog.Problem.Compare)
	return out
}

// Sync reads what is new of every project. A project that fails does not stop the others, and is left alone for longer and
// longer; then the error is an *exporter.PartialError.
func (s *Source) Sync(ctx context.Context, g *catalog.Graph, to exporter.Sink) error {
	claims := claimsOf(g, s.host, s.opts.First)
	byProject, err := s.resolve(ctx, g, claims, to)
	if err != nil {
		return err
	}
	ids := make([]int64, 0, len(byProject))
	for id := range byProject {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	s.beginBackfill(ids, to)
	if len(ids) > 0 { // another one is first each time, so that a small budget of calls starves none
		s.turn = (s.turn + 1) % len(ids)
		ids = append(ids[s.turn:], ids[:s.turn]...)
	}
	quiet := s.quiet(ctx, ids, byProject, to)
	failed := map[*claimed]error{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(s.opts.Workers)
	for _, id := range ids {
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			if err := s.follower(id).sync(ctx, g, to, byProject[id], quiet[id]); err != nil && ctx.Err() == nil {
				mu.Lock()
				failed[byProject[id]] = err
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // no function gives an error
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	for id := range s.followed {
		if _, ok := byProject[id]; !ok {
			delete(s.followed, id)
		}
	}
	s.mu.Unlock()
	errs, refused := permitted(failed, len(ids))
	s.forbidden(g, refused)
	if s.hooks.waiting() {
		s.hooks.wake()
	}
	if err := s.followJourneys(ctx, g, to); err != nil { // pipelines have been read all the same
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.opts.Logger.Warn("the ways of scaffolded projects cannot be followed; trying again at the next reading", "source", "gitlab", "host", s.host, "error", err)
	}
	if err := s.retire(ctx, byProject, to); err != nil {
		return err
	}
	if len(errs) > 0 {
		return &exporter.PartialError{Errs: errs, Of: len(ids)}
	}
	return nil
}

func (s *Source) follower(id int64) *follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followed[id] == nil {
		s.followed[id] = &follower{Source: s, cursor: s.cursorOf(id), cached: map[int64]cached{}, told: map[int64]bool{}}
	}
	return s.followed[id]
}

// cursorOf is the name of a project's position.
func (s *Source) cursorOf(id int64) string {
	return "gitlab/" + s.host + "/" + strconv.FormatInt(id, 10)
}

// retire ends the showing of pipelines that were under way in projects that nobody names any more. Their positions stay:
// should an entity name one again, reading goes on from there.
func (s *Source) retire(ctx context.Context, named map[int64]*claimed, to exporter.Sink) error {
	prefix := "gitlab/" + s.host + "/"
	for cursor, text := range to.Positions(prefix) {
		id, err := strconv.ParseInt(strings.TrimPrefix(cursor, prefix), 10, 64)
		if err != nil {
			continue // another kind of cursor
		}
		if named[id] != nil {
			delete(s.retired, id)
			continue
		}
		var p position
		if s.retired[id] || json.Unmarshal([]byte(text), &p) != nil {
			continue
		}
		var gone []exporter.RunID
		for pipeline := range p.Open {
			gone = append(gone, s.runID(id, "pipeline", pipeline))
		}
		if len(gone) > 0 {
			if err := to.Commit(ctx, exporter.Batch{Gone: gone}); err != nil {
				return err
			}
		}
		s.retired[id] = true
	}
	return nil
}

func (s *Source) runID(project int64, kind string, id int64) exporter.RunID {
	return exporter.RunID{Source: "gitlab", Host: s.host, Key: fmt.Sprintf("%d/%s/%d", project, kind, id)}
}

// claimed is a project with everything that claims it.
type claimed struct {
	project
	claims []claim
}

const (
	refreshProject = 24 * time.Hour // default branch and path are read again
	retryMissing   = time.Hour
)

// resolve finds the projects behind the claims, by id. What was found before is not asked for again within a day.
func (s *Source) resolve(ctx context.Context, g *catalog.Graph, claims map[string][]claim, to exporter.Sink) (map[int64]*claimed, error) {
	cursor := "gitlab/" + s.host + "/projects"
	if s.known == nil {
		before := map[string]known{}
		s.hooks.load(to.Positions(s.markPrefix()))
		s.downstream.load(to.Positions("gitlab/" + s.host + "/"))
		if text, ok := to.Position(cursor); ok {
			if err := json.Unmarshal([]byte(text), &before); err != nil {
				return nil, fmt.Errorf("stored position of %s: %w", cursor, err)
			}
		}
		s.mu.Lock()
		s.known = before
		s.mu.Unlock()
	}
	var ask []string
	for key := range claims {
		k, ok := s.known[key]
		if age := s.opts.Now().Sub(k.Asked); !ok || age > refreshProject || k.Missing && age > retryMissing {
			ask = append(ask, key)
		}
	}
	slices.Sort(ask)
	changed := len(ask) > 0
	s.mu.Lock()
	for key := range s.known {
		if _, ok := claims[key]; !ok {
			delete(s.known, key)
			changed = true
		}
	}
	s.mu.Unlock()
	failed := s.ask(ctx, ask)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if changed {
		text, err := json.Marshal(s.known)
		if err != nil {
			return nil, fmt.Errorf("position of %s: %w", cursor, err)
		}
		if err := to.Commit(ctx, exporter.Batch{Cursor: cursor, Position: string(text)}); err != nil {
			return nil, err
		}
	}
	out := map[int64]*claimed{}
	var problems []catalog.Problem
	for key, list := range claims {
		k, ok := s.known[key]
		if !ok || k.Missing {
			if ok {
				problems = append(problems, missing(g, key, list, s.host)...)
			}
			continue
		}
		if out[k.ID] == nil {
			out[k.ID] = &claimed{project: k.project}
		}
		out[k.ID].claims = append(out[k.ID].claims, list...)
	}
	for _, name := range s.opts.Groups {
		list, err := s.group(ctx, name, to)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = errors.Join(failed, err)
		for _, p := range list {
			named := claims[strings.ToLower(p.Path)] != nil || claims["#"+strconv.FormatInt(p.ID, 10)] != nil // and not found yet, perhaps
			if out[p.ID] == nil && !named {
				out[p.ID] = &claimed{project: p}
				problems = append(problems, unclaimed(g, p, s.host))
			}
		}
	}
	for _, c := range out {
		slices.SortFunc(c.claims, func(a, b claim) int { return a.entity.Compare(b.entity) })
	}
	slices.SortFunc(problems, catalog.Problem.Compare)
	s.mu.Lock()
	s.problems = problems
	s.mu.Unlock()
	if len(out) == 0 && failed != nil {
		return nil, failed
	}
	if failed != nil {
		s.opts.Logger.Warn("some projects were not found yet; the others are read", "source", "gitlab", "host", s.host, "error", failed)
	}
	return out, nil
}

// group gives the projects below a group. The list is read once a day; when that fails, the last one stays.
func (s *Source) group(ctx context.Context, name string, to exporter.Sink) ([]project, error) {
	var list struct {
		Asked    time.Time `json:"asked"`
		Projects []project `json:"projects"`
	}
	cursor := "gitlab/" + s.host + "/group/" + name
	if text, ok := to.Position(cursor); ok {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, fmt.Errorf("stored position of %s: %w", cursor, err)
		}
	}
	if s.opts.Now().Sub(list.Asked) < refreshProject {
		return list.Projects, nil
	}
	var found []project
	path := "/api/v4/groups/" + url.PathEscape(name) + "/projects?include_subgroups=true&with_shared=false&archived=false&simple=true&order_by=id&sort=asc&per_page=" + strconv.Itoa(pageSize)
	_, err := pages(ctx, s.api, path, s.clock, func(rows []project) bool {
		for _, p := range rows {
			if p.ID > 0 && !p.Archived {
				found = append(found, p)
			}
		}
		return true
	})
	if err != nil {
		return list.Projects, fmt.Errorf("projects of group %s: %w", name, err)
	}
	list.Asked, list.Projects = s.opts.Now(), found
	text, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("position of %s: %w", cursor, err)
	}
	return found, to.Commit(ctx, exporter.Batch{Cursor: cursor, Position: string(text)})
}

func unclaimed(g *catalog.Graph, p project, host string) catalog.Problem {
	return catalog.Problem{
		Severity: catalog.SeverityInfo, Entity: g.PlatformOwner(), Owner: g.PlatformOwner(), Annotation: "gitlab.com/project-slug", Rule: "gitlab-project-unclaimed",
		Message: fmt.Sprintf("no entity names the project %s of GitLab %s; its pipelines count for the platform owner", p.Path, host),
		Hint:    fmt.Sprintf("add the annotation gitlab.com/project-slug: %s to the component that it holds", p.Path),
	}
}

// ask looks projects up: many by the list of projects, a hundred to a call, the rest one by one.
func (s *Source) ask(ctx context.Context, keys []string) error {
	found := func(key string, p project) {
		s.mu.Lock()
		s.known[key] = known{project: p, Asked: s.opts.Now()}
		s.mu.Unlock()
	}
	left := map[string]bool{}
	for _, k := range keys {
		left[k] = true
	}
	if len(keys) > 4 {
		calls := 0
		path := "/api/v4/projects?membership=true&simple=true&archived=false&pagination=keyset&order_by=id&sort=asc&per_page=" + strconv.Itoa(pageSize)
		_, err := pages(ctx, s.api, path, s.clock, func(rows []project) bool {
			calls++
			for _, p := range rows {
				for _, key := range []string{strings.ToLower(p.Path), "#" + strconv.FormatInt(p.ID, 10)} {
					if left[key] && p.ID > 0 {
						delete(left, key)
						found(key, p)
					}
				}
			}
			return len(left) > 0 && calls <= len(keys)/4 // a list of everything could be without end
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	var errs []error
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(s.opts.Workers)
	for key := range left {
		group.Go(func() error {
			var p project
			header, err := s.api.GetJSON(ctx, "/api/v4/projects/"+url.PathEscape(strings.TrimPrefix(key, "#")), &p)
			s.clock.set(header)
			switch {
			case err == nil && p.ID > 0:
				found(key, p)
			case isStatus(err, 404), isStatus(err, 403):
				s.mu.Lock()
				s.known[key] = known{Missing: true, Asked: s.opts.Now()}
				s.mu.Unlock()
			default:
				if err == nil {
					err = errors.New("the answer has no project id")
				}
				mu.Lock()
				errs = append(errs, fmt.Errorf("project %s: %w", key, err))
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // no function gives an error
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("and %d more", len(errs)-3))
	}
	return errors.Join(errs...)
}

func missing(g *catalog.Graph, key string, claims []claim, host string) []catalog.Problem {
	var out []catalog.Problem
	for _, c := range claims {
		annotation := "gitlab.com/project-slug"
		if strings.HasPrefix(key, "#") {
			annotation = "gitlab.com/project-id"
		}
		out = append(out, problem(g, c.entity, annotation, "gitlab-project-missing",
			fmt.Sprintf("GitLab %s has no project %s, or the token may not read it", host, strings.TrimPrefix(key, "#")),
			"correct the annotation, or give the token's user at least the role Reporter in the project"))
	}
	return out
}

func problem(g *catalog.Graph, ref catalog.Ref, annotation, rule, message, hint string) catalog.Problem {
	p := catalog.Problem{Severity: catalog.SeverityWarning, Entity: ref, Owner: g.Owner(ref), Annotation: annotation, Rule: rule, Message: message, Hint: hint}
	if e := g.Entity(ref); e != nil {
		at := e.Position
		if a, ok := e.AnnotationPositions[annotation]; ok {
			at = a
		}
		p.File, p.Line, p.Column = at.File, at.Line, at.Column
	}
	return p
}

// refused tells whether an error is GitLab's word that there is no such thing, or not for this token.
func refused(err error) bool {
	return isStatus(err, http.StatusForbidden) || isStatus(err, http.StatusNotFound)
}

// useless tells whether asking the same again is of no use: GitLab knows the asker, is not busy, and does not give it.
func useless(err error) bool {
	var s *upstream.StatusError
	return errors.As(err, &s) && s.Code/100 == 4 && !slices.Contains([]int{http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests}, s.Code)
}

// isStatus tells whether an error is an answer of that status.
func isStatus(err error, code int) bool {
	var s *upstream.StatusError
	return errors.As(err, &s) && s.Code == code
}
