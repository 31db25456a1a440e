package gitlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// ExamineOptions say what a GitLab host is to be examined for.
type ExamineOptions struct {
	Name         string // of the configuration's entry, for hints, such as "sources.gitlab[0]"
	URL          string // base URL of GitLab
	Groups       []string
	First        bool // entities that name no gitlab.com/instance belong to this host
	CallsPerHour int
	Token        bool   // a token is configured
	Hooks        bool   // webhooks are expected
	HookURL      string // where they should go; "" where that is not known
	HookPath     string // how its path ends, such as "/webhooks/gitlab"
	Projects     int    // how many projects are asked at most; default 50
	Now          time.Time
}

// Examine asks a GitLab whether it can be read as the configuration wants it: version, token, rate limit, the projects that
// entities name, and the delivery of webhooks. It makes four calls, and four at most per project. Each question is asked
// whatever the others come to.
func Examine(ctx context.Context, c *upstream.Client, g *catalog.Graph, o ExamineOptions) upstream.Findings {
	o.Projects = cmp.Or(o.Projects, 50)
	e := &examination{api: c, opts: o}
	e.version(ctx)
	if !c.Answered() {
		return e.found
	}
	e.found.Clock(c)
	e.token(ctx)
	e.groups(ctx)
	e.projects(ctx, g)
	return e.found
}

type examination struct {
	api   *upstream.Client
	opts  ExamineOptions
	found upstream.Findings
}

// GitLab's oldest versions with what a source asks for, as 100 times the major and the minor.
const (
	oldestJobsFeed = 1509 // keyset paging of a project's jobs
	childPipelines = 1700 // pipelines?source=parent_pipeline
)

func (e *examination) version(ctx context.Context) {
	var v struct{ Version string }
	header, err := e.api.GetJSON(ctx, "/api/v4/metadata", &v)
	if isStatus(err, http.StatusNotFound) {
		header, err = e.api.GetJSON(ctx, "/api/v4/version", &v)
	}
	if err != nil {
		e.found.Failed("ask for the version", err, "check that GitLab runs and that "+e.opts.Name+".url is right")
		return
	}
	major, rest, _ := strings.Cut(v.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	switch number := 100*a + b; {
	case v.Version == "" || errA != nil || errB != nil:
		e.found.Warn("check that "+e.opts.Name+".url is a GitLab", "its version %q is not one of GitLab's", v.Version)
	case number < oldestJobsFeed:
		e.found.Warn("upgrade GitLab", "GitLab %s is older than 15.9, and needs many more calls to read jobs", v.Version)
	case number < childPipelines:
		e.found.Warn("upgrade GitLab", "GitLab %s is older than 17.0 and does not list child pipelines", v.Version)
	default:
		e.found.OK("GitLab %s", v.Version)
	}
	e.limits(header)
}

// limits compares GitLab's own limit, which is for a minute, with the configured one.
func (e *examination) limits(h http.Header) {
	limit, err := strconv.Atoi(h.Get("RateLimit-Limit"))
	if err != nil || limit <= 0 {
		e.found.OK("it states no rate limit; %d calls an hour are allowed by calls_per_hour", e.opts.CallsPerHour)
		return
	}
	remaining, err := strconv.Atoi(h.Get("RateLimit-Remaining"))
	switch {
	case e.opts.CallsPerHour > limit*60:
		e.found.Warn(fmt.Sprintf("set %s.calls_per_hour to %d or less", e.opts.Name, limit*60), "it allows %d calls a minute, fewer than the %d an hour of calls_per_hour", limit, e.opts.CallsPerHour)
	case err == nil && remaining*10 < limit:
		e.found.Warn("give Sightline a token of its own, or let the others that use this one call less", "%d of %d calls a minute are left to this token", remaining, limit)
	default:
		e.found.OK("it allows %d calls a minute; calls_per_hour is %d", limit, e.opts.CallsPerHour)
	}
}

// wantedScope is all that is needed; others let a thief of the token change things.
const wantedScope = "read_api"

func (e *examination) token(ctx context.Context) {
	key := e.opts.Name + ".token_file"
	if !e.opts.Token {
		e.found.Warn("make a token of scope read_api with the role Reporter, and name its file", "%s is not set: only public projects can be read", key)
		return
	}
	var t struct {
		Name    string
		Scopes  []string
		Active  *bool
		Revoked bool
		Expires string `json:"expires_at"`
	}
	_, err := e.api.GetJSON(ctx, "/api/v4/personal_access_tokens/self", &t)
	var status *upstream.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusUnauthorized:
		e.found.Failed("check the token", err, "make a new one, of scope read_api")
		return
	case errors.As(err, &status) && status.Code/100 == 4:
		e.found.Skip("a personal, project or group access token tells its scopes; an OAuth or job token does not", "the token does not tell its scopes (%d)", status.Code)
		return
	case err != nil:
		e.found.Failed("check the token", err, "")
		return
	}
	slices.Sort(t.Scopes)
	more := slices.DeleteFunc(slices.Clone(t.Scopes), func(s string) bool { return s == wantedScope || s == "read_user" })
	scopes := strings.Join(t.Scopes, ", ")
	switch {
	case t.Revoked || t.Active != nil && !*t.Active:
		e.found.Error("make a new one, of scope read_api", "the token %q is revoked or expired", t.Name)
	case slices.Contains(t.Scopes, "granular"):
		e.found.Skip("", "the token %q has fine-grained permissions, which are not compared with what is needed", t.Name)
	case !slices.Contains(t.Scopes, wantedScope) && !slices.Contains(t.Scopes, "api"):
		e.found.Error("make a token of scope read_api", "the token %q has the scopes %s: it cannot read pipelines", t.Name, cmp.Or(scopes, "none"))
	case len(more) > 0:
		e.found.Warn("make one of scope read_api: Sightline changes nothing in GitLab", "the token %q may do more than is needed, with the scopes %s", t.Name, scopes)
	default:
		e.found.OK("the token %q has the scope %s", t.Name, scopes)
	}
	end, err := time.Parse(time.DateOnly, t.Expires)
	left := end.Sub(e.opts.Now)
	switch {
	case err != nil:
		e.found.OK("the token does not expire")
	case left <= 0:
		e.found.Error("rotate it, and put the new one into the file", "the token expired on %s", t.Expires)
	case left < 21*24*time.Hour:
		e.found.Warn("rotate it, and put the new one into the file; it is taken over without a restart", "the token expires on %s, in %d days", t.Expires, int(left/(24*time.Hour)))
	default:
		e.found.OK("the token expires on %s", t.Expires)
	}
}

func (e *examination) groups(ctx context.Context) {
	for _, name := range e.opts.Groups {
		var rows []project
		if _, err := e.api.GetJSON(ctx, "/api/v4/groups/"+url.PathEscape(name)+"/projects?simple=true&include_subgroups=true&archived=false&per_page=1", &rows); err != nil {
			e.found.Failed("read the group "+name, err, "check its full path, and that the token's user is a member")
			continue
		}
		e.found.OK("the group %s can be read", name)
	}
}

// A hook is a row of the list of a project's webhooks.
type hook struct {
	ID          int64  `json:"id"`
	URL         string `json:"url"`
	Pipelines   bool   `json:"pipeline_events"`
	Jobs        bool   `json:"job_events"`
	AlertStatus string `json:"alert_status"` // executable, temporarily_disabled, disabled
}

// A visit is what one project's questions came to.
type visit struct {
	name        string
	missing     bool
	noPipelines bool // it exists, and its pipelines cannot be read
	archived    bool
	err         error

	hooks    int  // that should bring webhooks here
	secret   bool // the token may not see its webhooks
	partial  bool // a hook leaves out pipelines or jobs
	disabled string
	failed   int // of the last deliveries
	recent   int
	status   string // of the last failed one
}

func (e *examination) projects(ctx context.Context, g *catalog.Graph) {
	claims := claimsOf(g, hostOf(e.opts.URL), e.opts.First)
	keys := slices.Sorted(maps.Keys(claims))
	if len(keys) == 0 {
		if len(e.opts.Groups) == 0 {
			e.found.Warn("put gitlab.com/project-slug on components, or name groups in "+e.opts.Name+".groups", "no entity of the catalog names a project of this GitLab: nothing will be counted")
		}
		return
	}
	all := len(keys)
	keys = keys[:min(all, e.opts.Projects)]
	visits := make([]visit, len(keys))
	var group errgroup.Group
	group.SetLimit(4)
	for i, key := range keys {
		group.Go(func() error {
			visits[i] = e.visit(ctx, key)
			return nil
		})
	}
	_ = group.Wait() // no function gives an error
	which := func(is func(*visit) bool) (names []string) {
		for i := range visits {
			if is(&visits[i]) {
				names = append(names, visits[i].name)
			}
		}
		return names
	}
	var first error
	for i := range visits {
		if first == nil {
			first = visits[i].err
		}
	}
	readable := which(func(v *visit) bool { return !v.missing && v.err == nil && !v.noPipelines })
	switch {
	case len(readable) == len(keys) && all > len(keys):
		e.found.OK("%d of %d projects were asked for, and can be read", len(keys), all)
	case len(readable) == len(keys):
		e.found.OK("%s can be read, of all that entities name", countOf(len(keys), "project", "projects"))
	default:
		e.found.OK("%d of the %d projects that were asked for can be read (%d are named)", len(readable), len(keys), all)
	}
	if missing := which(func(v *visit) bool { return v.missing }); len(missing) > 0 {
		e.found.Error("mend the annotation gitlab.com/project-slug, or make the token's user a member (role Reporter)", "%s not exist, or may not be read: %s", countOf(len(missing), "project does", "projects do"), some(missing))
	}
	if dark := which(func(v *visit) bool { return v.noPipelines }); len(dark) > 0 {
		e.found.Warn("switch CI/CD on in the project, or give the token's user the role Reporter", "the pipelines of %s cannot be read: %s", countOf(len(dark), "project", "projects"), some(dark))
	}
	if broken := which(func(v *visit) bool { return v.err != nil }); len(broken) > 0 {
		e.found.Failed(fmt.Sprintf("ask for %s (%s)", countOf(len(broken), "project", "projects"), some(broken)), first, "")
	}
	if old := which(func(v *visit) bool { return v.archived }); len(old) > 0 {
		e.found.Warn("take the annotation off, or mark the entity as deprecated", "%s archived: %s", countOf(len(old), "project is", "projects are"), some(old))
	}
	e.delivery(visits, which)
}

// delivery says whether webhooks come. GitLab is polled in any case.
func (e *examination) delivery(visits []visit, which func(func(*visit) bool) []string) {
	if !e.opts.Hooks {
		e.found.Skip("set "+e.opts.Name+".webhook_secret_files to hear of pipelines at once", "no webhooks are expected: pipelines are found by polling")
		return
	}
	seen := func(v *visit) bool { return !v.missing && v.err == nil && !v.secret }
	if hidden := which(func(v *visit) bool { return !v.missing && v.err == nil && v.secret }); len(hidden) > 0 {
		e.found.Skip("the role Maintainer is needed to see webhooks; compare sightline_webhooks_total with what GitLab sends instead", "the webhooks of %s may not be seen with this token", countOf(len(hidden), "project", "projects"))
	}
	where := cmp.Or(e.opts.HookURL, "a URL that ends in "+e.opts.HookPath)
	if none := which(func(v *visit) bool { return seen(v) && v.hooks == 0 }); len(none) > 0 {
		e.found.Warn("add one for pipeline and job events with the secret token of "+e.opts.Name+"; a webhook of the group or a system hook does too", "%s no webhook to %s: %s", countOf(len(none), "project has", "projects have"), where, some(none))
	}
	if good := which(func(v *visit) bool { return seen(v) && v.hooks > 0 && v.disabled == "" && !v.partial && v.failed == 0 }); len(good) > 0 {
		e.found.OK("the webhooks of %s are in order", countOf(len(good), "project", "projects"))
	}
	if partial := which(func(v *visit) bool { return v.partial }); len(partial) > 0 {
		e.found.Warn("tick pipeline events and job events", "a webhook leaves out pipeline or job events: %s", some(partial))
	}
	if off := which(func(v *visit) bool { return v.disabled != "" }); len(off) > 0 {
		e.found.Error("mend what the deliveries say, then press Test in the project's webhook settings", "GitLab has switched webhooks off after failures: %s", some(off))
	}
	for i := range visits {
		if v := &visits[i]; v.failed > 0 {
			e.found.Error("401 is a wrong secret, 404 a wrong URL, 5xx or none a Sightline that cannot be reached from GitLab", "%d of the last %d deliveries of %s failed, the last one with %q", v.failed, v.recent, v.name, v.status)
			return // one is enough to go on
		}
	}
}

func (e *examination) visit(ctx context.Context, key string) (v visit) {
	id := strings.TrimPrefix(key, "#")
	v.name = id
	var p project
	_, err := e.api.GetJSON(ctx, "/api/v4/projects/"+url.PathEscape(id), &p)
	switch {
	case isStatus(err, http.StatusNotFound), isStatus(err, http.StatusForbidden):
		v.missing = true
		return v
	case err != nil:
		v.err = err
		return v
	}
	v.archived = p.Archived
	v.name = cmp.Or(p.Path, v.name)
	var rows []pipeline
	_, err = e.api.GetJSON(ctx, projectPath(p.ID)+"/pipelines?per_page=1", &rows)
	switch {
	case isStatus(err, http.StatusForbidden), isStatus(err, http.StatusNotFound):
		v.noPipelines = true
	case err != nil:
		v.err = err
		return v
	}
	if !e.opts.Hooks {
		return v
	}
	var hooks []hook
	_, err = e.api.GetJSON(ctx, projectPath(p.ID)+"/hooks?per_page=100", &hooks)
	var status *upstream.StatusError
	switch {
	case errors.As(err, &status) && status.Code/100 == 4 && status.Code != http.StatusTooManyRequests:
		v.secret = true
		return v
	case err != nil:
		v.err = err
		return v
	}
	for _, h := range hooks {
		if !e.comesHere(h.URL) {
			continue
		}
		v.hooks++
		v.partial = v.partial || !h.Pipelines || !h.Jobs
		if h.AlertStatus != "" && h.AlertStatus != "executable" {
			v.disabled = h.AlertStatus
		}
		if v.hooks == 1 {
			e.deliveries(ctx, p.ID, h.ID, &v)
		}
	}
	return v
}

// deliveries counts the last ones of a webhook; a GitLab before 17.3 does not list them.
func (e *examination) deliveries(ctx context.Context, project, hook int64, v *visit) {
	var rows []struct {
		Status string `json:"response_status"`
	}
	if _, err := e.api.GetJSON(ctx, fmt.Sprintf("%s/hooks/%d/events?per_page=20", projectPath(project), hook), &rows); err != nil {
		return
	}
	v.recent = len(rows)
	for _, r := range slices.Backward(rows) { // newest first, so that the newest failure stands at the end
		if !strings.HasPrefix(r.Status, "2") && !strings.HasPrefix(r.Status, "3") {
			v.failed++
			v.status = r.Status
		}
	}
}

// comesHere tells whether a webhook's URL is the one that Sightline is reached at.
func (e *examination) comesHere(hook string) bool {
	at, err := url.Parse(hook)
	if err != nil || !strings.HasSuffix(strings.TrimRight(at.Path, "/"), e.opts.HookPath) {
		return false
	}
	want, err := url.Parse(e.opts.HookURL)
	return err != nil || want.Host == "" || strings.EqualFold(want.Host, at.Host)
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// some names at most three.
func some(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}
