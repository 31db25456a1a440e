package fakegitlab

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Environment is one environment of a project.
type Environment struct {
	ID         int64
	Name, Tier string
	Created    time.Time
	InRow      bool // rows of deployments tell the tier, as newer ones do
}

// A Deployment is one deployment with everything that will happen to it. One without a Job was made by the API.
type Deployment struct {
	ID          int64
	Environment *Environment
	Pipeline    *Pipeline // of the Job; nil: none
	Job         *Job
	SHA         string
	Created     time.Time
	Finished    time.Time // zero: never
	Updated     time.Time // zero: when its status last changed
	Final       string    // status from Finished on
	Merged      []int64   // merge requests, by iid, that it was the first to deploy
	Linked      time.Time // when they are told of; zero: at once
}

// Status is what the row says at a time.
func (d *Deployment) Status(at time.Time) string {
	if !d.Finished.IsZero() && !d.Finished.After(at) {
		return d.Final
	}
	return "running"
}

func (d *Deployment) updated(at time.Time) time.Time {
	switch {
	case !d.Updated.IsZero() && !d.Updated.After(at):
		return d.Updated
	case d.Status(at) != "running":
		return d.Finished
	}
	return d.Created
}

// A MergeRequest is one merge request.
type MergeRequest struct {
	IID                          int64
	Title, Branch, SHA, MergeSHA string
	Author                       string // user name; "": dev
	Fork                         bool   // its branch is another project's
	Labels                       []string
	Opened, Merged               time.Time // Merged is zero: never
	Commits                      []Commit
}

// A Commit is a commit of a merge request, or of a project.
type Commit struct {
	SHA, Message, Author string
	At                   time.Time
}

func (m *MergeRequest) merged(at time.Time) bool { return !m.Merged.IsZero() && !m.Merged.After(at) }

func (m *MergeRequest) updated(at time.Time) time.Time {
	if m.merged(at) {
		return m.Merged
	}
	return m.Opened
}

// delivery answers what is asked of deployments, environments and merge requests; false when it is something else.
func (s *Server) delivery(w http.ResponseWriter, r *http.Request, p *Project, parts []string, now time.Time) bool {
	if len(parts) == 0 {
		return false
	}
	id := func(i int) int64 {
		if len(parts) <= i {
			return 0
		}
		n, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	missing := func() { fail(w, http.StatusNotFound, "404 Not found") }
	switch {
	case parts[0] == "deployments" && p.NoDeployments:
		fail(w, http.StatusForbidden, "403 Forbidden")
	case parts[0] == "deployments" && len(parts) == 1:
		s.deployments(w, r, p, now)
	case parts[0] == "deployments" && len(parts) == 3 && parts[2] == "merge_requests":
		i := slices.IndexFunc(p.Deployments, func(d *Deployment) bool { return d.ID == id(1) && !d.Created.After(now) })
		if i < 0 {
			missing()
			return true
		}
		rows := []any{}
		for _, m := range p.MergeRequests {
			if slices.Contains(p.Deployments[i].Merged, m.IID) && !p.Deployments[i].Linked.After(now) {
				rows = append(rows, m.row(p, now))
			}
		}
		page(w, r, rows)
	case parts[0] == "environments" && len(parts) == 2:
		i := slices.IndexFunc(p.Environments, func(e *Environment) bool { return e.ID == id(1) })
		if i < 0 {
			missing()
			return true
		}
		row := p.Environments[i].row()
		row["tier"], row["state"] = p.Environments[i].Tier, "available"
		answer(w, row)
	case parts[0] == "repository" && len(parts) == 2 && parts[1] == "commits":
		from, to, _ := strings.Cut(r.URL.Query().Get("ref_name"), "..")
		at := func(sha string) int {
			return slices.IndexFunc(p.Commits, func(c Commit) bool { return c.SHA == sha })
		}
		if at(from) < 0 || at(to) < 0 {
			missing()
			return true
		}
		rows := []any{}
		for i := at(to); i > at(from); i-- {
			rows = append(rows, p.Commits[i].row(p))
		}
		page(w, r, rows)
	case parts[0] == "merge_requests" && len(parts) == 1:
		after, _ := time.Parse(time.RFC3339Nano, r.URL.Query().Get("updated_after"))
		rows := []any{}
		for _, m := range slices.SortedFunc(slices.Values(p.MergeRequests), func(a, b *MergeRequest) int {
			return cmp.Or(b.updated(now).Compare(a.updated(now)), cmp.Compare(b.IID, a.IID))
		}) {
			if !m.Opened.After(now) && m.updated(now).After(after) {
				rows = append(rows, m.row(p, now))
			}
		}
		page(w, r, rows)
	case parts[0] == "merge_requests" && len(parts) == 3 && parts[2] == "commits":
		i := slices.IndexFunc(p.MergeRequests, func(m *MergeRequest) bool { return m.IID == id(1) })
		if i < 0 {
			missing()
			return true
		}
		rows := []any{}
		for _, c := range p.MergeRequests[i].Commits {
			rows = append(rows, c.row(p))
		}
		page(w, r, rows)
	default:
		return false
	}
	return true
}

func (s *Server) deployments(w http.ResponseWriter, r *http.Request, p *Project, now time.Time) {
	q := r.URL.Query()
	after, _ := time.Parse(time.RFC3339Nano, q.Get("updated_after"))
	var list []*Deployment
	for _, d := range p.Deployments {
		if !d.Created.After(now) && d.updated(now).After(after) && (q.Get("environment") == "" || q.Get("environment") == d.Environment.Name) && (q.Get("status") == "" || q.Get("status") == d.Status(now)) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *Deployment) int {
		n := cmp.Compare(a.ID, b.ID)
		if q.Get("order_by") == "updated_at" {
			n = cmp.Or(a.updated(now).Compare(b.updated(now)), n)
		}
		if q.Get("sort") == "desc" {
			n = -n
		}
		return n
	})
	rows := []any{}
	for _, d := range list {
		rows = append(rows, s.deploymentRow(p, d, now))
	}
	page(w, r, rows)
}

func (s *Server) deploymentRow(p *Project, d *Deployment, now time.Time) map[string]any {
	environment := d.Environment.row()
	if d.Environment.InRow {
		environment["tier"] = d.Environment.Tier
	}
	row := map[string]any{
		"id": d.ID, "iid": d.ID, "ref": p.DefaultBranch, "sha": d.SHA, "created_at": text(d.Created), "updated_at": text(d.updated(now)), "status": d.Status(now),
		"user": map[string]any{"id": 1, "username": "dev", "name": "Dev", "state": "active", "avatar_url": nil, "web_url": "https://gitlab.example.com/dev"}, "environment": environment, "deployable": nil,
	}
	if d.Job != nil {
		row["deployable"] = s.jobRow(p, d.Pipeline, d.Job, now)
	}
	return row
}

func (e *Environment) row() map[string]any {
	return map[string]any{"id": e.ID, "name": e.Name, "slug": e.Name, "external_url": nil, "created_at": text(e.Created), "updated_at": text(e.Created)}
}

func (m *MergeRequest) row(p *Project, now time.Time) map[string]any {
	labels := m.Labels
	if labels == nil {
		labels = []string{}
	}
	row := map[string]any{
		"id": 90_000 + m.IID, "iid": m.IID, "project_id": p.ID, "title": m.Title, "state": "opened", "created_at": text(m.Opened), "updated_at": text(m.updated(now)), "merged_at": nil,
		"source_branch": m.Branch, "target_branch": p.DefaultBranch, "source_project_id": p.ID, "target_project_id": p.ID, "labels": labels, "sha": m.SHA,
		"merge_commit_sha": nil, "squash_commit_sha": nil, "author": map[string]any{"id": 1, "username": cmp.Or(m.Author, "dev"), "name": "Dev"},
		"web_url": fmt.Sprintf("https://gitlab.example.com/%s/-/merge_requests/%d", p.Path, m.IID),
	}
	if m.Fork {
		row["source_project_id"] = p.ID + 1_000_000
	}
	if m.merged(now) {
		row["state"], row["merged_at"], row["merge_commit_sha"] = "merged", text(m.Merged), m.MergeSHA
	}
	return row
}

func (c *Commit) row(p *Project) map[string]any {
	author := cmp.Or(c.Author, "Dev")
	return map[string]any{
		"id": c.SHA, "short_id": c.SHA[:min(8, len(c.SHA))], "title": c.Message, "message": c.Message, "created_at": text(c.At), "parent_ids": []string{}, "author_name": author,
		"author_email": "dev@example.com", "authored_date": text(c.At), "committer_name": author, "committer_email": "dev@example.com", "committed_date": text(c.At),
		"web_url": "https://gitlab.example.com/" + p.Path + "/-/commit/" + c.SHA,
	}
}
