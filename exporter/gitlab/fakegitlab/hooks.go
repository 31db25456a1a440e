package fakegitlab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// A Hook is one webhook, as GitLab sends it.
type Hook struct {
	At    time.Time
	Event string // X-Gitlab-Event
	Key   string // Idempotency-Key
	Body  []byte
}

// Hooks are the webhooks of a project for every change of a pipeline's or job's status in (from, until], in their order.
func (s *Server) Hooks(p *Project, from, until time.Time) []Hook {
	var out []Hook
	add := func(at time.Time, event, key string, body map[string]any) {
		b, err := json.Marshal(body)
		if err != nil {
			panic(err) // the maps below can be encoded
		}
		out = append(out, Hook{at, event, key, b})
	}
	for _, x := range p.Pipelines {
		times := []time.Time{x.Created}
		for _, j := range x.Jobs {
			for _, t := range []time.Time{j.Made, j.Reached, j.Queued, j.Started, j.Finished} {
				if t.IsZero() || !t.After(from) || t.After(until) {
					continue
				}
				times = append(times, t)
				if before := j.Status(t.Add(-time.Nanosecond)); !j.Bridge && before != j.Status(t) {
					add(t, "Job Hook", fmt.Sprint("job-", j.ID, "-", j.Status(t), "-", t.Unix()), s.jobHook(p, x, j, t))
				}
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		for _, t := range slices.CompactFunc(times, time.Time.Equal) {
			if t.After(from) && !t.After(until) && (t.Equal(x.Created) || x.Status(t.Add(-time.Nanosecond)) != x.Status(t)) {
				add(t, "Pipeline Hook", fmt.Sprint("pipeline-", x.ID, "-", x.Status(t), "-", t.Unix()), s.pipelineHook(p, x, t))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Hook) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	return out
}

func classic(t, at time.Time) any {
	if t.IsZero() || t.After(at) {
		return nil
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func (s *Server) pipelineHook(p *Project, x *Pipeline, at time.Time) map[string]any {
	builds := []any{}
	for _, j := range x.Jobs {
		newer := slices.ContainsFunc(x.Jobs, func(o *Job) bool { return o.Name == j.Name && o.ID > j.ID && o.Status(at) != "" })
		if j.Bridge || newer || j.Status(at) == "" {
			continue
		}
		builds = append(builds, map[string]any{
			"id": j.ID, "stage": j.Stage, "name": j.Name, "status": j.Status(at), "created_at": classic(j.Made, at), "started_at": classic(j.Started, at),
			"finished_at": classic(j.Finished, at), "when": "on_success", "manual": j.Manual, "allow_failure": j.AllowFailure, "runner": nil, "environment": nil,
		})
	}
	return map[string]any{
		"object_kind": "pipeline", "source_pipeline": s.sourcePipeline(x),
		"object_attributes": map[string]any{
			"id": x.ID, "iid": x.ID, "name": x.Name, "ref": x.Ref, "tag": x.Tag, "sha": x.SHA, "source": x.Source, "status": x.Status(at), "created_at": classic(x.Created, at),
			"url":       fmt.Sprintf("https://gitlab.example.com/%s/-/pipelines/%d", p.Path, x.ID),
			"variables": []any{map[string]string{"key": "DEPLOY_PASSWORD", "value": "hunter2"}},
		},
		"project": map[string]any{"id": p.ID, "path_with_namespace": p.Path, "web_url": "https://gitlab.example.com/" + p.Path, "default_branch": p.DefaultBranch},
		"builds":  builds,
	}
}

func (s *Server) sourcePipeline(x *Pipeline) any {
	if x.Parent == nil {
		return nil
	}
	i := slices.IndexFunc(x.Parent.Jobs, func(j *Job) bool { return j.Starts == x })
	p := s.projectOf(x.Parent)
	return map[string]any{"project": map[string]any{"id": p.ID, "path_with_namespace": p.Path}, "pipeline_id": x.Parent.ID, "job_id": x.Parent.Jobs[i].ID}
}

func (s *Server) jobHook(p *Project, x *Pipeline, j *Job, at time.Time) map[string]any {
	name, reason := any(nil), "unknown_failure"
	if x.Name != "" {
		name = x.Name
	}
	if j.Status(at) == "failed" {
		reason = cmp.Or(j.Reason, reason)
	}
	hook := map[string]any{
		"object_kind": "build", "ref": x.Ref, "tag": x.Tag, "sha": x.SHA, "build_id": j.ID, "build_name": j.Name, "build_stage": j.Stage, "build_status": j.Status(at),
		"build_created_at": classic(j.Made, at), "build_started_at": classic(j.Started, at), "build_finished_at": classic(j.Finished, at),
		"build_duration": nil, "build_queued_duration": nil,
		"build_allow_failure": j.AllowFailure, "build_failure_reason": reason, "pipeline_id": x.ID, "project_id": p.ID, "project_name": "Acme / checkout",
		"commit": map[string]any{"id": x.ID, "name": name, "sha": x.SHA},
	}
	if started := !j.Started.IsZero() && !j.Started.After(at); started {
		if !j.NoQueueTime && !j.Queued.IsZero() {
			hook["build_queued_duration"] = j.Started.Sub(j.Queued).Seconds()
		}
		if !j.Finished.IsZero() && !j.Finished.After(at) {
			hook["build_duration"] = j.Finished.Sub(j.Started).Seconds()
		}
	}
	return hook
}

// DeploymentHook is the webhook of a deployment's status at a time.
func (s *Server) DeploymentHook(p *Project, d *Deployment, at time.Time) Hook {
	body, err := json.Marshal(map[string]any{
		"object_kind": "deployment", "status": d.Status(at), "status_changed_at": at.Format("2006-01-02 15:04:05 -0700"), "deployment_id": d.ID, "deployable_id": nil,
		"environment": d.Environment.Name, "environment_tier": d.Environment.Tier, "short_sha": d.SHA[:min(8, len(d.SHA))], "ref": p.DefaultBranch,
		"project": map[string]any{"id": p.ID, "path_with_namespace": p.Path, "default_branch": p.DefaultBranch},
	})
	if err != nil {
		panic(err) // the map can be encoded
	}
	return Hook{at, "Deployment Hook", fmt.Sprint("deployment-", d.ID, "-", d.Status(at)), body}
}

// MergeRequestHook is the webhook of what somebody did to a merge request at a time: open, update, merge.
func (s *Server) MergeRequestHook(p *Project, m *MergeRequest, action string, at time.Time) Hook {
	attributes := m.row(p, at)
	attributes["action"], attributes["created_at"] = action, classic(m.Opened, at)
	body, err := json.Marshal(map[string]any{
		"object_kind": "merge_request", "event_type": "merge_request", "object_attributes": attributes,
		"project": map[string]any{"id": p.ID, "path_with_namespace": p.Path, "default_branch": p.DefaultBranch},
	})
	if err != nil {
		panic(err) // the map can be encoded
	}
	return Hook{at, "Merge Request Hook", fmt.Sprint("merge-request-", m.IID, "-", action, "-", at.Unix()), body}
}
