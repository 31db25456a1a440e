package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/upstream"
)

func (w *world) environment(name, tier string) *fakegitlab.Environment {
	for _, e := range w.project.Environments {
		if e.Name == name {
			return e
		}
	}
	e := &fakegitlab.Environment{ID: w.fake.ID(), Name: name, Tier: tier, Created: w.now}
	w.project.Environments = append(w.project.Environments, e)
	return e
}

// deploy makes a deployment by the API that ends now. Its environment's tier is its name.
func (w *world) deploy(environment, sha string, merged ...int64) *fakegitlab.Deployment {
	d := &fakegitlab.Deployment{
		ID: w.fake.ID(), Environment: w.environment(environment, environment), SHA: sha, Created: w.now.Add(-10 * time.Second), Finished: w.now, Final: "success", Merged: merged,
	}
	w.project.Deployments = append(w.project.Deployments, d)
	return d
}

// merge makes a merge request of one commit: an hour before now it was committed, half an hour before opened, now merged.
func (w *world) merge(iid int64, branch string) {
	sha := fmt.Sprintf("%08x", iid)
	w.project.MergeRequests = append(w.project.MergeRequests, &fakegitlab.MergeRequest{
		IID: iid, Title: "Change", Branch: branch, SHA: sha, MergeSHA: "aa" + sha, Opened: w.now.Add(-30 * time.Minute), Merged: w.now,
		Commits: []fakegitlab.Commit{{SHA: sha, Message: "Change", At: w.now.Add(-time.Hour)}, {SHA: "b" + sha, Message: "Bump", Author: "renovate[bot]", At: w.now.Add(-time.Hour)}},
	})
}

// poll reads every half minute for so long.
func (w *world) poll(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(30 * time.Second)
		w.sync()
	}
}

var measuredByDORA = []exporter.ObservationKind{exporter.Deployments, exporter.DeploymentsFailed, exporter.DeploymentsRework, exporter.LeadTime, exporter.RecoveryTime}

// nothing is what is declared with the first deployment to production.
func nothing(more map[string]string) map[string]string {
	out := map[string]string{
		"deployments production success": "0: 0", "deployments production failure": "0: 0",
		"deployments_failed production rollback": "0: 0", "deployments_failed production fix": "0: 0", "deployments_failed production incident": "0: 0",
		"deployments_rework production rollback": "0: 0", "deployments_rework production fix": "0: 0",
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func (w *world) wantDORA(want map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.observed(measuredByDORA...)); diff != "" {
		w.t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeploymentsBecomeDORAMetrics(t *testing.T) {
	w := newWorld(t)
	var asked []catalog.Ref
	w.incidents = func(_ context.Context, entities []catalog.Ref, _ time.Time) ([]dora.Incident, error) {
		asked = entities
		return []dora.Incident{{ID: "a", Entity: checkout, Began: epoch.Add(102 * time.Minute), Ended: epoch.Add(107 * time.Minute)}}, nil
	}
	w.restart()
	w.sync()
	w.merge(1, "long-ago")
	w.pass(10 * time.Minute)
	w.deploy("production", "r1", 1) // the first ever: GitLab says that it deployed all merge requests
	w.poll(20 * time.Minute)        // 09:30
	w.merge(2, "tax")
	w.pass(10 * time.Minute)
	w.deploy("staging", "r2")
	w.deploy("production", "r2", 2)
	w.deploy("review/tax", "r2")
	w.poll(10 * time.Minute)     // 09:50
	w.deploy("production", "r1") // back, 10 minutes later
	w.deploy("production", "r3").Final = "failed"
	w.poll(20 * time.Minute) // 10:10
	w.merge(3, "hotfix/tax")
	w.pass(30 * time.Minute)
	w.deploy("production", "r4", 3) // 10:40, broken from 10:42 to 10:47: it mends nothing that has not been mended
	w.poll(30 * time.Minute)
	w.wantDORA(nothing(map[string]string{
		"deployments production success": "4: 4", "deployments production failure": "1: 1",
		"deployments staging success": "1: 1", "deployments staging failure": "0: 0", "deployments development success": "1: 1", "deployments development failure": "0: 0",
		"deployments_rework production rollback": "1: 1", "deployments_rework production fix": "1: 1", "deployments_failed production rollback": "1: 1",
		"recovery_time production":   "1: 600",
		"lead_time production total": fmt.Sprint("2: ", (70+90)*60), "lead_time production coding": fmt.Sprint("2: ", 60*60),
		"lead_time production review": fmt.Sprint("2: ", 60*60), "lead_time production deploy": fmt.Sprint("2: ", (10+30)*60),
	}))
	if diff := cmp.Diff([]catalog.Ref{checkout}, asked); diff != "" {
		t.Errorf("alerts were asked for of (-want +got):\n%s", diff)
	}
}

func TestAnIncidentFailsTheDeploymentBeforeIt(t *testing.T) {
	w := newWorld(t)
	var ended time.Time
	broken := true
	w.incidents = func(_ context.Context, _ []catalog.Ref, from time.Time) ([]dora.Incident, error) {
		if broken {
			return nil, errors.New("the store does not answer")
		}
		return []dora.Incident{{ID: "a", Entity: checkout, Began: epoch.Add(15 * time.Minute), Ended: ended}}, nil
	}
	w.restart()
	w.sync()
	w.pass(10 * time.Minute)
	w.deploy("production", "r1")
	w.poll(20 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1"})) // what cannot be read of alerts stops nothing
	broken = false
	w.poll(20 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1", "deployments_failed production incident": "1: 1"}))
	ended = epoch.Add(45 * time.Minute)
	w.open()
	w.poll(20 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1", "deployments_failed production incident": "1: 1", "recovery_time production": "1: 1800"}))
}

func TestDeploymentsBeforeTheFirstReadingAreTheStartingValue(t *testing.T) {
	w := newWorld(t)
	for i := range 250 {
		w.deploy("production", fmt.Sprint("r", i), 1)
		if i%3 == 0 { // many change in the same instant
			w.pass(10 * time.Minute)
		}
	}
	w.pass(time.Hour)
	w.sync()
	w.fake.Requests()
	w.poll(20 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "250: 250"}))
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Key.Level == exporter.LevelObservation && !tally.Created.IsZero() {
			t.Errorf("%v has a created timestamp: history would look like an increase", tally.Key)
		}
	}
	routes := w.fake.Requests()
	if n := routes["/projects/:id/deployments/:id/merge_requests"]; n != 0 || routes["/projects/:id/deployments"] > 7 {
		t.Errorf("calls for history: %v", routes)
	}
	w.deploy("production", "new")
	w.poll(20 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "251: 251"}))
}

func TestManyDeploymentsOfOneInstantAreReadOnce(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.pass(time.Minute)
	for i := range 230 {
		w.deploy("staging", fmt.Sprint("r", i))
	}
	w.poll(90 * time.Minute)
	w.wantDORA(map[string]string{"deployments staging success": "230: 230", "deployments staging failure": "0: 0"})
}

func TestAnIdleProjectCostsHardlyMoreForItsDeployments(t *testing.T) {
	w := newWorld(t)
	w.add("success")
	w.deploy("production", "r1")
	w.pass(time.Hour)
	w.sync()
	w.poll(20 * time.Minute)
	w.fake.Requests()
	cycles := 0
	for range 120 {
		w.pass(30 * time.Second)
		w.sync()
		cycles++
	}
	calls := 0
	routes := w.fake.Requests()
	for _, n := range routes {
		calls += n
	}
	if float64(calls) > 1.1*float64(cycles) {
		t.Errorf("%d calls in %d idle cycles: %v", calls, cycles, routes)
	}
}

func TestDeploymentsThatGitLabDoesNotGiveHoldNothingUp(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t)
		w.project.NoDeployments = true
		w.sync()
		w.pass(time.Minute)
		w.add("success")
		w.fake.Requests()
		w.poll(20 * time.Minute)
		if n := w.fake.Requests()["/projects/:id/deployments"]; n != 1 {
			t.Errorf("asked %d times", n)
		}
		w.want(map[string]uint64{"first success": 1, "job build success": 1})
		problems := w.source.Problems()
		if len(problems) != 1 || problems[0].Rule != "gitlab-deployments-refused" || problems[0].Entity != checkout || problems[0].Severity != catalog.SeverityInfo {
			t.Errorf("problems %+v", problems)
		}
		w.project.NoDeployments = false
		w.deploy("production", "r1")
		w.poll(2 * time.Hour)
		w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1"}))
		if len(w.source.Problems()) != 0 {
			t.Errorf("problems %+v after GitLab gave them", w.source.Problems())
		}
	})
	t.Run("broken", func(t *testing.T) {
		w := newWorld(t)
		w.sync()
		w.pass(time.Minute)
		w.add("success")
		w.deploy("production", "r0")
		w.merge(1, "tax")
		w.deploy("production", "r1", 1)
		broken := "/deployments?"
		w.api.breaks = func(path string) error {
			if broken != "" && strings.Contains(path, broken) {
				return &upstream.StatusError{Code: 502, URL: path}
			}
			return nil
		}
		failed := 0
		for range 60 {
			w.pass(30 * time.Second)
			if err := w.source.Sync(t.Context(), w.graph, w.journal); err != nil {
				failed++
			}
		}
		if failed == 0 || failed > 4 {
			t.Errorf("%d of 60 cycles failed", failed)
		}
		w.want(map[string]uint64{"first success": 1, "job build success": 1})
		broken = "/commits?" // the merge requests' own, for more than an hour: then they are done without
		for range 300 {
			w.pass(30 * time.Second)
			_ = w.source.Sync(t.Context(), w.graph, w.journal)
		}
		w.wantDORA(nothing(map[string]string{"deployments production success": "2: 2"}))
	})
}

func TestADeploymentHookReadsTheDeploymentsOfItsProject(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.pass(time.Minute)
	running := w.deploy("production", "r1")
	running.Finished = w.now.Add(time.Minute)
	w.send(w.fake.DeploymentHook(w.project, running, w.now)) // it has not ended
	w.fake.Requests()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	if calls := w.fake.Requests(); len(calls) != 0 {
		t.Errorf("a deployment under way costs %v", calls)
	}
	w.pass(time.Minute)
	hook := w.fake.DeploymentHook(w.project, running, w.now)
	w.send(hook)
	w.send(hook)
	hook.Key = ""
	w.send(hook)
	w.open() // the hook outlasts a restart
	w.sync()
	w.fake.Requests()
	if err := w.nudge(); err != nil {
		t.Fatal(err)
	}
	if n := w.fake.Requests()["/projects/:id/deployments"]; n != 1 {
		t.Errorf("the deployments were asked for %d times", n)
	}
	w.pass(settled + time.Second)
	if err := w.source.SyncNudged(t.Context(), w.graph, w.journal); err != nil {
		t.Fatal(err)
	}
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1"})) // without a polling
	w.send(hook)
	w.poll(3 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1"}))
	w.poll(30 * time.Minute)
	w.wantDORA(nothing(map[string]string{"deployments production success": "1: 1"}))
}

func TestARecordedDeploymentHookIsRead(t *testing.T) {
	body, err := os.ReadFile(recordings(t, "client-go", "testdata", "webhooks", "deployment.json"))
	if err != nil {
		t.Fatal(err)
	}
	if m, ok, err := readHook("Deployment Hook", body); err != nil || !ok || m.Project != 30 || !m.Deployment {
		t.Errorf("read %+v, %v, %v", m, ok, err)
	}
}

func TestRecordedDeploymentsAreRead(t *testing.T) {
	n := 0
	for _, data := range rows(t, "_raw_gitlab_api_deployments.csv") {
		var d deployment
		if err := json.Unmarshal([]byte(data), &d); err != nil || d.ID == 0 || d.SHA == "" || d.Environment.ID == 0 || d.Environment.Name == "" {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if d.Deployable != nil && !d.Deployable.Finished.IsZero() && !d.ended().Equal(d.Deployable.Finished.Time) {
			t.Errorf("deployment %d ended at %v, its job at %v", d.ID, d.ended(), d.Deployable.Finished)
		}
		n++
	}
	if n != 8 {
		t.Errorf("%d deployments, want 8", n)
	}
	for _, data := range rows(t, "_raw_gitlab_api_merge_requests.csv") {
		var m mergeRequest
		if err := json.Unmarshal([]byte(data), &m); err != nil || m.IID == 0 || m.Created.IsZero() || m.Branch == "" || m.Author.Username == "" || m.State == "merged" && m.Merged.IsZero() {
			t.Errorf("%s: %v", data, err)
		}
	}
	for _, data := range rows(t, "_raw_gitlab_api_merge_request_commits.csv") {
		var c commit
		if err := json.Unmarshal([]byte(data), &c); err != nil || c.ID == "" || c.Committed.IsZero() || c.Author == "" {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func TestTheSimulatedEnvironmentIsGitLabs(t *testing.T) {
	w := newWorld(t)
	e := w.environment("production", "production")
	var row any
	if _, err := w.api.GetJSON(t.Context(), fmt.Sprintf("/api/v4/projects/42/environments/%d", e.ID), &row); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	c.UseLoader(schemaLoader{})
	s, err := c.Compile(recordings(t, "gitlabhq", "public_api", "v4", "environment.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(row); err != nil {
		t.Error(err)
	}
}

func TestTheTierOfAnEnvironmentWithoutOneIsGitLabsGuess(t *testing.T) {
	for name, want := range map[string]string{
		"production": "production", "prod-eu": "production", "live": "production", "staging": "staging", "pre-prod": "staging", "qa": "testing", "review/tax": "development", "dev": "development", "canary": "other",
	} {
		if got := guessTier(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestDeploymentsCountOnceHoweverTheyAreRead reads random days with calls that fail, restarts and webhooks in between, and
// compares them with the same days read quietly.
func TestDeploymentsCountOnceHoweverTheyAreRead(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			read := func(rough bool) map[string]string {
				story, luck := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4))
				w := newWorld(t)
				w.sync()
				w.deploy("production", "r0")
				w.poll(15 * time.Minute)
				for i := range 30 {
					w.pass(time.Duration(1+story.IntN(1800)) * time.Second)
					w.merge(int64(i), []string{"tax", "hotfix/tax", "fee"}[story.IntN(3)])
					d := w.deploy([]string{"production", "staging", "production"}[story.IntN(3)], fmt.Sprint("r", story.IntN(3+i)), int64(i))
					d.Final = []string{"success", "success", "success", "failed"}[story.IntN(4)]
					if !rough {
						w.poll(15 * time.Minute)
						continue
					}
					for end := w.now.Add(15 * time.Minute); w.now.Before(end); {
						w.pass(30 * time.Second)
						w.api.calls, w.api.failAt = 0, luck.IntN(6)
						if luck.IntN(8) == 0 {
							w.open()
						}
						if luck.IntN(8) == 0 {
							w.send(w.fake.DeploymentHook(w.project, d, w.now))
							_ = w.nudge()
						}
						if luck.IntN(3) > 0 {
							_ = w.source.Sync(t.Context(), w.graph, w.journal)
						}
					}
				}
				w.api.failAt = 0
				w.pass(time.Hour)
				w.restart()
				w.sync()
				w.poll(30 * time.Minute)
				return w.observed(measuredByDORA...)
			}
			quiet := read(false)
			if diff := cmp.Diff(quiet, read(true)); diff != "" {
				t.Errorf("(-quiet +rough):\n%s", diff)
			}
			if quiet["deployments production success"] == "" || quiet["lead_time production total"] == "" {
				t.Errorf("nothing was observed: %v", quiet)
			}
		})
	}
}

func TestTiersOfManyEnvironmentsDoNotGrowWithoutEnd(t *testing.T) {
	w, api := newWorld(t), paths{}
	w.source.api = api
	f := w.source.follower(42)
	f.project.ID = 42
	r := &deploymentReading{follower: f, delivered: delivered{Tiers: map[int64]string{}}}
	for id := range int64(2 * maxTiers) {
		api[fmt.Sprintf("/api/v4/projects/42/environments/%d", id+1)] = `{"tier":"staging"}`
		row := &deployment{}
		row.Environment.ID, row.Environment.Name = id+1, fmt.Sprint("preview-", id)
		if tier, err := r.tier(t.Context(), row); tier != "staging" || err != nil {
			t.Fatal(tier, err)
		}
		if len(r.Tiers) > maxTiers {
			t.Fatalf("%d tiers are remembered", len(r.Tiers))
		}
	}
}
