// Package fakegitlab is a simulated GitLab for tests and benchmarks: REST v4 as far as Sightline reads it. Every row is a
// function of the time, so that a test moves the clock and sees the pipelines go on. It counts requests by route, limits
// them, and breaks on demand.
package fakegitlab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Job is one attempt of a job, or a bridge, with everything that will happen to it.
type Job struct {
	ID           int64
	Name, Stage  string
	Bridge       bool
	Starts       *Pipeline // by a bridge
	Manual       bool      // waits for a person from when it is Reached until it is Queued
	Made         time.Time // when the row appears
	Reached      time.Time // when its stage is: it becomes manual or skipped
	Skipped      bool      // skipped from Reached until Queued
	Queued       time.Time // zero: never
	Started      time.Time // zero: never
	Finished     time.Time // zero: never
	Final        string    // status at Finished: success, failed, canceled
	Reason       string
	AllowFailure bool
	NoQueueTime  bool           // an older GitLab: queued_duration is null
	Coverage     *float64       // percent, from three seconds after Finished on
	Tags         []string       // nil: docker
	Tests        map[string]int // test cases by result, where Artifacts has a junit report
	Artifacts    map[string]int // bytes by file type, from Finished on; the log's from five seconds later
}

// Status is what the row says at a time; "" before it appears.
func (j *Job) Status(at time.Time) string {
	passed := func(t time.Time) bool { return !t.IsZero() && !t.After(at) }
	switch {
	case !passed(j.Made):
		return ""
	case passed(j.Finished):
		return j.Final
	case passed(j.Started):
		return "running"
	case passed(j.Queued):
		return "pending"
	case j.Skipped && passed(j.Reached):
		return "skipped"
	case j.Manual && passed(j.Reached):
		return "manual"
	}
	return "created"
}

// A Pipeline is one pipeline of a project.
type Pipeline struct {
	ID                     int64
	Ref, Source, Name, SHA string
	Tag                    bool
	Created                time.Time
	Updated                time.Time // zero: when its status last changed
	Deleted                time.Time
	Fixed                  string // status of a pipeline without jobs
	Jobs                   []*Job
	Parent                 *Pipeline // whose bridge started it

	end string // status from Updated on, where it is known
}

// Status is what the row says at a time.
func (p *Pipeline) Status(at time.Time) string {
	switch {
	case p.Fixed != "":
		return p.Fixed
	case p.end != "" && !at.Before(p.Updated):
		return p.end
	}
	count := map[string]int{}
	newest := map[string]*Job{}
	for _, j := range p.Jobs {
		if j.Status(at) != "" && (newest[j.Name] == nil || newest[j.Name].ID < j.ID) {
			newest[j.Name] = j
		}
	}
	ran := 0
	for _, j := range newest {
		s := j.Status(at)
		if s == "failed" && j.AllowFailure {
			s = "success"
		}
		if s == "success" || s == "failed" || s == "canceled" {
			ran++
		}
		count[s]++
	}
	switch {
	case count["running"] > 0:
		return "running"
	case count["pending"] > 0 || count["created"] > 0:
		if ran > 0 {
			return "running"
		}
		if count["pending"] > 0 {
			return "pending"
		}
		return "created"
	case count["failed"] > 0:
		return "failed"
	case count["canceled"] > 0:
		return "canceled"
	case count["success"] > 0:
		return "success"
	case count["manual"] > 0:
		return "manual"
	}
	return "skipped"
}

// updated is the time of the last change of the status up to at.
func (p *Pipeline) updated(at time.Time) time.Time {
	if !p.Updated.IsZero() {
		return p.Updated
	}
	times := []time.Time{p.Created}
	for _, j := range p.Jobs {
		for _, t := range []time.Time{j.Made, j.Reached, j.Queued, j.Started, j.Finished} {
			if !t.IsZero() && !t.After(at) {
				times = append(times, t)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	last := times[0]
	for i := 1; i < len(times); i++ {
		if times[i].Sub(times[i-1]) > 0 && p.Status(times[i]) != p.Status(times[i].Add(-time.Nanosecond)) {
			last = times[i]
		}
	}
	return last
}

// A Project is one project. OldPath answers with a redirect.
type Project struct {
	ID                           int64
	Path, OldPath, DefaultBranch string
	Pipelines                    []*Pipeline

	Environments  []*Environment
	Deployments   []*Deployment
	MergeRequests []*MergeRequest
	Commits       []Commit // of the default branch, each on top of the one before
	NoDeployments bool     // the feature is off
}

// A Server is the simulated GitLab. Lock it to change the projects while it serves.
type Server struct {
	sync.Mutex
	Projects   []*Project
	Now        func() time.Time
	Token      string                                            // "": everybody may read
	Limit      int                                               // requests in 60 seconds; 0: no limit
	Break      func(r *http.Request, w http.ResponseWriter) bool // answers instead when it gives true
	NoGraphQL  bool
	Complexity int  // most complexity of a GraphQL query; 0: as GitLab's
	NoChildren bool // as before 17.0: a list of child pipelines is refused
	Extra      int  // bytes of description in each job's commit, as real rows have

	requests map[string]int
	times    []time.Time
	lastID   int64
}

// ID gives a new id, larger than all before.
func (s *Server) ID() int64 {
	s.lastID++
	return s.lastID
}

// Requests gives the number of requests by route and resets it.
func (s *Server) Requests() map[string]int {
	s.Lock()
	defer s.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// ServeHTTP answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	now := s.Now()
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v4")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if s.requests == nil {
		s.requests = map[string]int{}
	}
	route := []string{}
	for i, p := range parts {
		if i%2 == 1 {
			p = ":id"
		}
		route = append(route, p)
	}
	s.requests["/"+strings.Join(route, "/")]++
	if s.Limit > 0 && !s.allow(w, now) {
		return
	}
	if s.Break != nil && s.Break(r, w) {
		return
	}
	if s.Token != "" && r.Header.Get("PRIVATE-TOKEN") != s.Token && r.Header.Get("Authorization") != "Bearer "+s.Token {
		fail(w, http.StatusUnauthorized, "401 Unauthorized")
		return
	}
	if r.URL.Path == "/api/graphql" && r.Method == http.MethodPost && !s.NoGraphQL {
		s.graphql(w, r, now)
		return
	}
	if len(parts) == 3 && parts[0] == "groups" && parts[2] == "projects" {
		name, err := url.PathUnescape(parts[1])
		rows := []any{}
		for _, p := range s.Projects {
			if strings.HasPrefix(p.Path, name+"/") {
				rows = append(rows, p.row())
			}
		}
		if err != nil || len(rows) == 0 {
			fail(w, http.StatusNotFound, "404 Group Not Found")
			return
		}
		page(w, r, rows)
		return
	}
	if parts[0] != "projects" || !strings.HasPrefix(r.URL.Path, "/api/v4/") {
		fail(w, http.StatusNotFound, "404 Not Found")
		return
	}
	if len(parts) == 1 {
		rows := []any{}
		for _, p := range s.Projects {
			rows = append(rows, p.row())
		}
		page(w, r, rows)
		return
	}
	name, err := url.PathUnescape(parts[1])
	i := slices.IndexFunc(s.Projects, func(p *Project) bool {
		return strconv.FormatInt(p.ID, 10) == name || strings.EqualFold(p.Path, name) || p.OldPath != "" && strings.EqualFold(p.OldPath, name)
	})
	if err != nil || i < 0 {
		fail(w, http.StatusNotFound, "404 Project Not Found")
		return
	}
	p := s.Projects[i]
	if p.OldPath != "" && strings.EqualFold(p.OldPath, name) {
		parts[1] = strconv.FormatInt(p.ID, 10)
		http.Redirect(w, r, "/api/v4/"+strings.Join(parts, "/"), http.StatusMovedPermanently)
		return
	}
	s.project(w, r, p, parts[2:], now)
}

func (p *Pipeline) there(at time.Time) bool {
	return !p.Created.After(at) && !p.Updated.After(at) && (p.Deleted.IsZero() || p.Deleted.After(at))
}

func (s *Server) project(w http.ResponseWriter, r *http.Request, p *Project, parts []string, now time.Time) {
	there := func(x *Pipeline) bool { return x.there(now) }
	switch {
	case s.delivery(w, r, p, parts, now):
	case len(parts) == 0:
		answer(w, p.row())
	case len(parts) == 1 && parts[0] == "pipelines":
		q := r.URL.Query()
		if q.Get("source") != "" && s.NoChildren {
			fail(w, http.StatusBadRequest, "source does not have a valid value")
			return
		}
		after, _ := time.Parse(time.RFC3339Nano, q.Get("updated_after"))
		before, errBefore := time.Parse(time.RFC3339Nano, q.Get("updated_before"))
		type aged struct {
			*Pipeline
			at time.Time
		}
		var list []aged
		for _, x := range p.Pipelines {
			at := x.updated(now)
			if there(x) && at.After(after) && (errBefore != nil || at.Before(before)) && (q.Get("ref") == "" || q.Get("ref") == x.Ref) && (q.Get("sha") == "" || q.Get("sha") == x.SHA) &&
				(q.Get("source") == x.Source || q.Get("source") == "" && x.Source != "parent_pipeline") {
				list = append(list, aged{x, at})
			}
		}
		slices.SortFunc(list, func(a, b aged) int {
			n := cmp.Compare(a.ID, b.ID)
			if q.Get("order_by") == "updated_at" {
				n = cmp.Or(a.at.Compare(b.at), n)
			}
			if q.Get("sort") != "asc" {
				n = -n
			}
			return n
		})
		pageOf(w, r, len(list), func(i int) any { return list[i].row(p, now) })
	case len(parts) == 1 && parts[0] == "jobs":
		var list []*Job
		owner := map[*Job]*Pipeline{}
		for _, x := range p.Pipelines {
			if there(x) {
				for _, j := range x.Jobs {
					if !j.Bridge && j.Status(now) != "" {
						list = append(list, j)
						owner[j] = x
					}
				}
			}
		}
		slices.SortFunc(list, func(a, b *Job) int { return cmp.Compare(b.ID, a.ID) })
		if r.URL.Query().Get("pagination") != "keyset" {
			rows := []any{}
			for _, j := range list {
				rows = append(rows, s.jobRow(p, owner[j], j, now))
			}
			page(w, r, rows)
			return
		}
		cursor, err := strconv.ParseInt(r.URL.Query().Get("id_before"), 10, 64)
		size := sizeOf(r)
		rows := []any{}
		for _, j := range list {
			if err == nil && j.ID >= cursor {
				continue
			}
			if len(rows) == size {
				q := r.URL.Query()
				q.Set("id_before", strconv.FormatInt(rows[size-1].(map[string]any)["id"].(int64), 10))
				w.Header().Set("Link", fmt.Sprintf(`<http://gitlab.example.com%s?%s>; rel="next"`, r.URL.EscapedPath(), q.Encode()))
				break
			}
			rows = append(rows, s.jobRow(p, owner[j], j, now))
		}
		answer(w, rows)
	case len(parts) >= 2 && parts[0] == "pipelines":
		i := slices.IndexFunc(p.Pipelines, func(x *Pipeline) bool { return strconv.FormatInt(x.ID, 10) == parts[1] && there(x) })
		if i < 0 {
			fail(w, http.StatusNotFound, "404 Not found")
			return
		}
		x := p.Pipelines[i]
		if len(parts) == 2 {
			answer(w, x.row(p, now))
			return
		}
		if parts[2] == "test_report_summary" {
			answer(w, x.summary(now))
			return
		}
		rows := []any{}
		for _, j := range slices.Backward(x.Jobs) {
			newer := slices.ContainsFunc(x.Jobs, func(o *Job) bool { return o.Name == j.Name && o.ID > j.ID && o.Status(now) != "" })
			if j.Bridge != (parts[2] == "bridges") || j.Status(now) == "" || newer && r.URL.Query().Get("include_retried") != "true" && !j.Bridge {
				continue
			}
			rows = append(rows, s.jobRow(p, x, j, now))
		}
		page(w, r, rows)
	default:
		fail(w, http.StatusNotFound, "404 Not Found")
	}
}

func (s *Server) allow(w http.ResponseWriter, now time.Time) bool {
	s.times = slices.DeleteFunc(s.times, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	reset := now.Truncate(time.Minute).Add(time.Minute)
	left := s.Limit - len(s.times) - 1
	w.Header().Set("RateLimit-Limit", strconv.Itoa(s.Limit))
	w.Header().Set("RateLimit-Remaining", strconv.Itoa(max(left, 0)))
	w.Header().Set("RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	if left < 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(reset.Sub(now).Seconds())+1))
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{"message": map[string]string{"error": "Too many requests"}})
		return false
	}
	s.times = append(s.times, now)
	return true
}

func (p *Project) row() map[string]any {
	return map[string]any{
		"id": p.ID, "path_with_namespace": p.Path, "default_branch": p.DefaultBranch, "name": p.Path[strings.LastIndexByte(p.Path, '/')+1:],
		"web_url": "https://gitlab.example.com/" + p.Path, "archived": false,
	}
}

func (x *Pipeline) row(p *Project, at time.Time) map[string]any {
	name := any(nil)
	if x.Name != "" {
		name = x.Name
	}
	return map[string]any{
		"id": x.ID, "iid": x.ID, "project_id": p.ID, "sha": x.SHA, "ref": x.Ref, "status": x.Status(at), "source": x.Source, "name": name,
		"created_at": text(x.Created), "updated_at": text(x.updated(at)), "web_url": fmt.Sprintf("https://gitlab.example.com/%s/-/pipelines/%d", p.Path, x.ID),
	}
}

func (s *Server) jobRow(p *Project, x *Pipeline, j *Job, at time.Time) map[string]any {
	until := func(t time.Time) any {
		if t.IsZero() || t.After(at) {
			return nil
		}
		return text(t)
	}
	row := map[string]any{
		"id": j.ID, "status": j.Status(at), "stage": j.Stage, "name": j.Name, "ref": x.Ref, "tag": x.Tag, "coverage": nil, "allow_failure": j.AllowFailure,
		"created_at": text(j.Made), "started_at": until(j.Started), "finished_at": until(j.Finished), "erased_at": nil, "duration": nil, "queued_duration": nil,
		"user": map[string]any{"id": 1, "username": "dev", "name": "Dev", "state": "active", "locked": false, "avatar_url": nil, "web_url": "https://gitlab.example.com/dev"},
		"commit": map[string]any{
			"id": x.SHA, "short_id": x.SHA[:min(8, len(x.SHA))], "title": "Change", "message": "Change", "created_at": text(x.Created), "parent_ids": []string{},
			"author_name": "Dev", "author_email": "dev@example.com", "authored_date": text(x.Created), "committer_name": "Dev", "committer_email": "dev@example.com",
			"committed_date": text(x.Created), "web_url": "https://gitlab.example.com/" + p.Path + "/-/commit/" + x.SHA,
		},
		"pipeline":  x.row(p, at),
		"web_url":   fmt.Sprintf("https://gitlab.example.com/%s/-/jobs/%d", p.Path, j.ID),
		"artifacts": []any{}, "artifacts_expire_at": nil, "tag_list": []string{"docker"},
		"runner": map[string]any{
			"id": 1 + j.ID%8, "description": "runner", "ip_address": "127.0.0.1", "active": true, "is_shared": false, "name": "gitlab-runner", "online": true, "status": "online",
		},
		"project": map[string]any{"ci_job_token_scope_enabled": false}, "archived": false,
	}
	if j.Bridge {
		row["downstream_pipeline"] = nil
		if c := j.Starts; c != nil && !c.Created.After(at) {
			row["downstream_pipeline"] = c.row(s.projectOf(c), at)
		}
	}
	if row["started_at"] != nil && row["finished_at"] != nil {
		row["duration"] = j.Finished.Sub(j.Started).Seconds()
	}
	if row["started_at"] != nil && !j.NoQueueTime && !j.Queued.IsZero() {
		row["queued_duration"] = j.Started.Sub(j.Queued).Seconds()
	}
	if len(j.Tags) > 0 {
		row["tag_list"] = j.Tags
	}
	if row["finished_at"] != nil && row["started_at"] != nil && !j.Bridge {
		if j.Coverage != nil && !at.Before(j.Finished.Add(3*time.Second)) {
			row["coverage"] = *j.Coverage
		}
		files := []any{}
		for _, kind := range slices.Sorted(maps.Keys(j.Artifacts)) {
			if kind != "trace" || !at.Before(j.Finished.Add(5*time.Second)) {
				files = append(files, map[string]any{"file_type": kind, "size": j.Artifacts[kind], "filename": kind + ".gz", "file_format": "gzip"})
			}
		}
		row["artifacts"] = files
	}
	if j.Status(at) == "failed" {
		row["failure_reason"] = j.Reason
	}
	return row
}

// summary is the test report summary, which is of the latest attempts.
func (x *Pipeline) summary(at time.Time) map[string]any {
	total := map[string]any{"time": 1.5, "count": 0, "success": 0, "failed": 0, "error": 0, "skipped": 0, "suite_error": nil}
	suites := []any{}
	for _, j := range x.Jobs {
		newer := slices.ContainsFunc(x.Jobs, func(o *Job) bool { return o.Name == j.Name && o.ID > j.ID && o.Status(at) != "" })
		if newer || j.Finished.IsZero() || j.Finished.After(at) || j.Artifacts["junit"] == 0 {
			continue
		}
		for result, n := range j.Tests {
			total[result] = total[result].(int) + n
			total["count"] = total["count"].(int) + n
		}
		suites = append(suites, map[string]any{"name": j.Name, "build_ids": []int64{j.ID}})
	}
	return map[string]any{"total": total, "test_suites": suites}
}

func (s *Server) projectOf(x *Pipeline) *Project {
	for _, p := range s.Projects {
		if slices.Contains(p.Pipelines, x) {
			return p
		}
	}
	return nil
}

func text(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func sizeOf(r *http.Request) int {
	n, err := strconv.Atoi(r.URL.Query().Get("per_page"))
	if err != nil || n < 1 {
		return 20
	}
	return min(n, 100)
}

func page(w http.ResponseWriter, r *http.Request, rows []any) {
	pageOf(w, r, len(rows), func(i int) any { return rows[i] })
}

// pageOf answers with a page of a list of so many rows, of which it makes no others.
func pageOf(w http.ResponseWriter, r *http.Request, count int, row func(i int) any) {
	size := sizeOf(r)
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || n < 1 {
		n = 1
	}
	from := min((n-1)*size, count)
	to := min(from+size, count)
	w.Header().Set("X-Page", strconv.Itoa(n))
	w.Header().Set("X-Next-Page", "")
	if to < count {
		w.Header().Set("X-Next-Page", strconv.Itoa(n+1))
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n+1))
		w.Header().Set("Link", fmt.Sprintf(`<http://gitlab.example.com%s?%s>; rel="next"`, r.URL.EscapedPath(), q.Encode()))
	}
	rows := []any{}
	for i := from; i < to; i++ {
		rows = append(rows, row(i))
	}
	answer(w, rows)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}
