package dora

import (
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// recorded gives the rows of a table that another implementation is tested with, by column.
func recorded(t *testing.T, parts ...string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(append([]string{"..", "..", "..", "shared", "recordings", "gitlab", "devlake", "dora_e2e"}, parts...)...))
	if err != nil {
		t.Skipf("no recordings of another implementation: %v", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, r := range records[1:] {
		row := map[string]string{}
		for i, column := range records[0] {
			row[column] = r[i]
		}
		out = append(out, row)
	}
	return out
}

func recordedTime(t *testing.T, text string) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339Nano, "2006-1-2 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	if text != "" {
		t.Fatalf("time %q", text)
	}
	return time.Time{}
}

// recordedDeployments reads the other one's deployments. Its pipelines are not ours: one of them deploys several
// repositories, each with a revision of its own.
func recordedDeployments(t *testing.T, rows []map[string]string, scopes map[string]catalog.Ref) []Deployment {
	t.Helper()
	results := map[string]exporter.Result{"SUCCESS": exporter.ResultSuccess, "FAILURE": exporter.ResultFailure}
	var out []Deployment
	for _, row := range rows {
		out = append(out, Deployment{
			ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: row["id"]}, Project: "42", Entity: scopes[row["cicd_scope_id"]],
			Environment: row["cicd_scope_id"] + " " + row["repo_url"] + " " + row["environment"], Tier: strings.ToLower(row["environment"]),
			SHA: row["commit_sha"], Result: results[row["result"]], At: recordedTime(t, row["finished_date"]),
		})
	}
	return out
}

// TestLeadTimesAgreeWithAnotherImplementation holds lead times against recorded ones. They are rounded up to minutes there.
func TestLeadTimesAgreeWithAnotherImplementation(t *testing.T) {
	rows := recorded(t, "change_lead_time", "cicd_deployment_commits.csv")
	project := catalog.NewRef("system", "", "project1")
	deployments := recordedDeployments(t, rows, map[string]catalog.Ref{"cicd1": project, "cicd2": project})
	commits := map[string][]Commit{}
	for _, row := range recorded(t, "change_lead_time", "pull_request_commits.csv") {
		commits[row["pull_request_id"]] = append(commits[row["pull_request_id"]], Commit{SHA: row["commit_sha"], At: recordedTime(t, row["commit_authored_date"])})
	}
	merged := map[string]Change{}
	for _, row := range recorded(t, "change_lead_time", "pull_requests.csv") {
		merged[row["merge_commit_sha"]] = Change{ID: row["id"], Opened: recordedTime(t, row["created_date"]), Merged: recordedTime(t, row["merged_date"]), Commits: commits[row["id"]]}
	}
	first := map[string]bool{}
	for i := range deployments {
		d := &deployments[i]
		for _, row := range recorded(t, "change_lead_time", "commits_diffs.csv") {
			if change, ok := merged[row["commit_sha"]]; ok && row["new_commit_sha"] == d.SHA {
				d.Changes = append(d.Changes, change)
			}
		}
		if d.Result == exporter.ResultSuccess {
			d.First = !first[d.Environment]
			first[d.Environment] = true
		}
	}
	var s State
	got := map[string]float64{}
	for _, o := range s.Take(Options{}, deployments, nil, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if o.Kind == exporter.LeadTime {
			id := strings.Split(strings.TrimPrefix(o.ID.Key, "42/commit/"), "/")[0]
			if o.Labels[1] != "total" {
				id = strings.Split(o.ID.Key, "/")[1]
			}
			got[id+" "+o.Labels[1]] = math.Ceil(o.Value / 60)
		}
	}
	theirs := map[string]float64{}
	for _, row := range recorded(t, "change_lead_time", "project_pr_metrics.csv") {
		for column, name := range map[string]string{"pr_coding_time": "coding", "pr_pickup_time": "pickup", "pr_review_time": "review", "pr_deploy_time": "deploy", "pr_cycle_time": "total"} {
			var minutes float64
			if _, err := fmt.Sscan(row[column], &minutes); err == nil {
				key := row["id"] + " " + name
				if name == "total" {
					key = row["first_commit_sha"] + " total"
				}
				theirs[key] = minutes
			}
		}
	}

	// The same.
	pr1, pr2, pr3 := "08d2f2b6de0fa8de4d0e2b55b4b9a2e244214029", "2537845559d8db99e9cda6190f32b50ec979c722", "55f445997abbd5918da59d202d28762cd56fbd44"
	for _, key := range []string{"pr1 coding", "pr1 deploy", pr1 + " total", "pr2 deploy", "pr3 coding"} {
		if got[key] != theirs[key] || got[key] == 0 {
			t.Errorf("%s: %v minutes, theirs %v", key, got[key], theirs[key])
		}
	}
	differences := []struct {
		why         string
		key, column string
		want, their float64
	}{
		{"review is from opening to merge; theirs begins with the first comment, and what is before it is the pickup time", "pr1 review", "pr1 review", 60, 55},
		{"the same, and their two parts are rounded up each", "pr2 review", "pr2 review", 60, 60},
		{"the same, where the first comment is older than the merge request", "pr3 review", "pr3 review", 72 * 60, 5760},
		{"the first commit came after the opening: no time; theirs is left out", "pr2 coding", "pr2 coding", 0, 0},
		{"the deployment is older than the merge: no time; theirs is left out", "pr3 deploy", "pr3 deploy", 0, 0},
		{"a change is under way since its first commit, whenever the merge request was opened; theirs is the sum of the parts that there are", pr2 + " total", pr2 + " total", 158, 1598},
		{"it ends with the deployment that holds the commit; theirs with a merge that came later", pr3 + " total", pr3 + " total", 8799, 10203},
	}
	explained := map[string]bool{"pr1 coding": true, "pr1 deploy": true, pr1 + " total": true, "pr2 deploy": true, "pr3 coding": true}
	for _, d := range differences {
		explained[d.key] = true
		if ours, ok := got[d.key]; !ok || ours != d.want || theirs[d.column] != d.their {
			t.Errorf("%s: %s is %v minutes (there: %v), theirs %v; want %v and %v", d.why, d.key, ours, ok, theirs[d.column], d.want, d.their)
		}
	}
	// A lead time is one of each commit here, and of the first commit of a merge request there.
	for _, sha := range []string{"0edd5d0e0d18516d3309fec90553c3ee7380c149", "209168a4b12d91a7ad1f3711fe05b39d5bd8e260", "4b71faf666833c0c7b915a512811e2c5e746d3de", "4f8cdefc9a9d53af16dd482c61623312eb9e9b5e", "3aba559962e04949a1731f7d5155c7aac2e900ce", "3ec3e113ed36a5a8978af295683085054e4dfdd9"} {
		if _, ok := got[sha+" total"]; !ok {
			t.Errorf("commit %s has no lead time", sha)
		}
		explained[sha+" total"] = true
	}
	// Merge requests that no deployment to production has deployed have no lead time here: pr0 is in the first deployment of
	// its environment, pr4 in staging, pr5 in a deployment that failed. Theirs have the parts up to the merge.
	for key := range got {
		if !explained[key] {
			t.Errorf("%s was not expected", key)
		}
	}
}

// TestIncidentsAgreeWithAnotherImplementation holds what incidents are put down to against recorded links.
func TestIncidentsAgreeWithAnotherImplementation(t *testing.T) {
	dir := "connect_incident_to_deployment"
	rows := recorded(t, dir, "prev_success_deployment_commit", "cicd_deployment_commits_after.csv")
	pipelines := map[string]string{}
	for _, row := range rows {
		pipelines[row["id"]] = row["cicd_deployment_id"]
	}
	entities := map[string]catalog.Ref{}
	for _, row := range recorded(t, dir, "raw_tables", "project_mapping.csv") {
		entities[row["row_id"]] = catalog.NewRef("system", "", row["project_name"])
	}
	var incidents []Incident
	for _, row := range recorded(t, dir, "raw_tables", "incidents.csv") {
		incidents = append(incidents, Incident{ID: row["id"], Entity: entities[row["scope_id"]], Began: recordedTime(t, row["created_date"]), Ended: recordedTime(t, row["updated_date"])})
	}
	theirs := map[string]string{}
	for _, row := range recorded(t, dir, "snapshot_tables", "project_incident_deployment_relationships.csv") {
		theirs[row["id"]] = row["deployment_id"]
	}
	fail := func(window time.Duration, incidents ...Incident) (out []string) {
		var s State
		for _, o := range s.Take(Options{Window: window}, recordedDeployments(t, rows, entities), incidents, time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)) {
			if o.Kind == exporter.DeploymentsFailed && !o.Declare {
				out = append(out, pipelines[o.ID.Key])
			}
		}
		return out
	}
	links := func(window time.Duration) (map[string]string, int) {
		out := map[string]string{}
		for _, in := range incidents {
			if failed := fail(window, in); len(failed) > 0 {
				out[in.ID] = strings.Join(failed, " ")
			}
		}
		return out, len(fail(window, incidents...))
	}
	// Without a window, every incident is put down to the same deployment as there.
	ours, failed := links(100 * 24 * time.Hour)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("incidents and deployments (-theirs +ours):\n%s", diff)
	}
	// The six incidents count as six failures there: sum(incidents) / count(deployments). Here each deployment fails once.
	if failed != 2 || len(theirs) != 6 {
		t.Errorf("%d deployments failed for %d incidents; want 2 and 6", failed, len(theirs))
	}
	// Five of the incidents began more than a month after the deployment, which is hardly their cause. The sixth came
	// 19 hours after it.
	ours, failed = links(0)
	if diff := cmp.Diff(map[string]string{"github:GithubIssue:1:1373792478": "pipeline2"}, ours); diff != "" || failed != 1 {
		t.Errorf("within a day %d deployments failed (-want +got):\n%s", failed, diff)
	}
}
