package dora

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

var (
	day      = time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	checkout = catalog.NewRef("component", "", "checkout")
)

func at(minutes float64) time.Time { return day.Add(time.Duration(minutes * float64(time.Minute))) }

// deployed is a successful deployment of a revision to production, so many minutes after ten o'clock.
func deployed(id int, sha string, minutes float64, changes ...Change) Deployment {
	return Deployment{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: fmt.Sprintf("42/deployment/%d", id)}, Project: "42", Entity: checkout,
		Owner: catalog.NewRef("group", "", "pay"), Environment: "production", Tier: Production, SHA: sha, Pipeline: int64(1000 + id),
		Result: exporter.ResultSuccess, At: at(minutes), Changes: changes,
	}
}

func broken(id string, from, to float64) Incident {
	in := Incident{ID: id, Entity: checkout, Began: at(from)}
	if to > 0 {
		in.Ended = at(to)
	}
	return in
}

func hotfix() Change { return Change{ID: "merge_request/9", Branch: "hotfix/tax"} }

// lines renders what was counted, without the lead times: "failed 1 fix".
func lines(obs []exporter.Observation) []string {
	var out []string
	for _, o := range obs {
		if o.Declare {
			continue
		}
		id := o.ID.Key[strings.LastIndexByte(o.ID.Key, '/')+1:]
		switch o.Kind {
		case exporter.Deployments:
			out = append(out, fmt.Sprintf("deployment %s %s %s", id, o.Labels[0], o.Labels[1]))
		case exporter.DeploymentsFailed:
			out = append(out, fmt.Sprintf("failed %s %s", id, o.Labels[1]))
		case exporter.DeploymentsRework:
			out = append(out, fmt.Sprintf("rework %s %s", id, o.Labels[1]))
		case exporter.RecoveryTime:
			out = append(out, fmt.Sprintf("recovered %s after %gm", id, o.Value/60))
		}
	}
	return out
}

func TestFailedChanges(t *testing.T) {
	staging := deployed(2, "b", 5)
	staging.Environment, staging.Tier = "staging", "staging"
	unfinished := deployed(2, "b", 5)
	unfinished.Result = exporter.ResultFailure
	second := deployed(2, "b", 5)
	second.Pipeline = 1001
	other := deployed(2, "x", 5)
	other.Environment = "production-us"
	stranger := broken("i", 5, 8)
	stranger.Entity = catalog.NewRef("component", "", "search")
	revert := Change{Title: "Tax as before", Commits: []Commit{{SHA: "ffff", Message: "Tax as before\n\nThis reverts commit AAAA111.", At: at(6)}}}
	made := Change{Title: "Tax anew", SHAs: []string{"aaaa1112222"}}

	for name, c := range map[string]struct {
		deployments []Deployment
		incidents   []Incident
		want        []string
	}{
		"a deployment that nothing follows has not failed": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success"},
		},
		"the return to an older revision fails the change before it": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "a", 15)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success", "rework 3 rollback", "failed 2 rollback", "recovered 2 after 10m"},
		},
		"a further rollback is rework and fails nothing again": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "c", 6), deployed(4, "b", 15), deployed(5, "a", 20)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success", "deployment 4 production success", "rework 4 rollback", "failed 3 rollback", "recovered 3 after 9m", "deployment 5 production success", "rework 5 rollback"},
		},
		"forward again is a change that can fail again": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "a", 10), deployed(4, "b", 20), deployed(5, "a", 30)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success", "rework 3 rollback", "failed 2 rollback", "recovered 2 after 5m", "deployment 4 production success", "deployment 5 production success", "rework 5 rollback", "failed 4 rollback", "recovered 4 after 10m"},
		},
		"the same revision again is no change": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "b", 7), deployed(4, "a", 15)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success", "deployment 4 production success", "rework 4 rollback", "failed 2 rollback", "recovered 2 after 10m"},
		},
		"a hotfix fails the change before it": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 30, hotfix())},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "rework 2 fix", "failed 1 fix", "recovered 1 after 30m"},
		},
		"a hotfix after the window is rework and fails nothing": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 25*60, hotfix())},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "rework 2 fix"},
		},
		"a merge request that reverts a commit of the change is a fix": {
			[]Deployment{deployed(1, "a", 0, made), deployed(2, "b", 30, revert)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "rework 2 fix", "failed 1 fix", "recovered 1 after 30m"},
		},
		"a merge request that reverts something older is none": {
			[]Deployment{deployed(1, "a", 0, made), deployed(2, "b", 10), deployed(3, "c", 30, revert)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success"},
		},
		"an incident fails the change before it, until its end": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5)},
			[]Incident{broken("i", 7, 27)},
			[]string{"deployment 1 production success", "deployment 2 production success", "failed 2 incident", "recovered 2 after 20m"},
		},
		"three incidents fail one change once, and it recovers with the last of those at the same time": {
			[]Deployment{deployed(1, "a", 0)},
			[]Incident{broken("i", 7, 20), broken("j", 10, 30), broken("k", 40, 50)},
			[]string{"deployment 1 production success", "failed 1 incident", "recovered 1 after 23m"},
		},
		"the rollback ends what the incident began": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "a", 15)},
			[]Incident{broken("i", 7, 27)},
			[]string{"deployment 1 production success", "deployment 2 production success", "failed 2 incident", "deployment 3 production success", "rework 3 rollback", "recovered 2 after 8m"},
		},
		"an incident that begins after the rollback is still the change's": {
			[]Deployment{deployed(1, "a", 0), deployed(2, "b", 5), deployed(3, "a", 15)},
			[]Incident{broken("i", 16, 27)},
			[]string{"deployment 1 production success", "deployment 2 production success", "deployment 3 production success", "rework 3 rollback", "failed 2 rollback", "recovered 2 after 10m"},
		},
		"an incident before every deployment, after the window, or of another entity fails nothing": {
			[]Deployment{deployed(1, "a", 0)},
			[]Incident{broken("i", -5, 5), broken("j", 24*60+1, 25*60), stranger},
			[]string{"deployment 1 production success"},
		},
		"an incident is put down to the latest change in whichever environment": {
			[]Deployment{deployed(1, "a", 0), other},
			[]Incident{broken("i", 7, 0)},
			[]string{"deployment 1 production success", "deployment 2 production success", "failed 2 incident"},
		},
		"other tiers are counted, and that is all": {
			[]Deployment{deployed(1, "a", 0), staging, deployed(3, "a", 15)},
			[]Incident{},
			[]string{"deployment 1 production success", "deployment 2 staging success", "deployment 3 production success"},
		},
		"a deployment that failed is no change": {
			[]Deployment{deployed(1, "a", 0), unfinished, deployed(3, "a", 15)},
			nil,
			[]string{"deployment 1 production success", "deployment 2 production failure", "deployment 3 production success"},
		},
		"two jobs of one pipeline to one environment are one deployment": {
			[]Deployment{deployed(1, "a", 0), second, deployed(3, "a", 15)},
			nil,
			[]string{"deployment 1 production success", "deployment 3 production success"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			got := lines(s.Take(Options{}, c.deployments, c.incidents, at(48*60)))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLeadTime(t *testing.T) {
	change := Change{
		ID: "merge_request/7", Opened: at(60), Merged: at(90), Commits: []Commit{
			{SHA: "1", Title: "Add tax", Author: "Ann", At: at(0)},
			{SHA: "2", Title: "Merge branch 'main' into tax", Author: "Ann", At: at(30)},
			{SHA: "3", Title: "Bump left-pad", Author: "renovate[bot]", At: at(-1000)},
			{SHA: "4", Title: "Round tax", Author: "Ann", At: at(70)},
		},
	}
	early := change
	early.ID, early.Opened, early.Commits = "merge_request/8", at(-10), []Commit{{SHA: "5", Author: "Bob", At: at(200)}}
	bot := Change{ID: "merge_request/6", Bot: true, Opened: at(0), Merged: at(1), Commits: []Commit{{SHA: "6", Author: "Project token", At: at(0)}}}
	direct := Change{Commits: []Commit{{SHA: "7", Author: "Ann", At: at(95)}}}
	first := deployed(1, "a", 50, Change{ID: "merge_request/1", Opened: at(0), Merged: at(1), Commits: []Commit{{SHA: "0", At: at(-5000)}}})
	first.First = true
	var s State
	got := map[string]float64{}
	for _, o := range s.Take(Options{}, []Deployment{first, deployed(2, "b", 100, change, early, bot, direct)}, nil, at(200)) {
		if o.Kind == exporter.LeadTime {
			id := strings.Split(o.ID.Key, "/")
			got[strings.Join(id[1:3], " ")+" "+o.Labels[1]] = o.Value / 60
		}
	}
	want := map[string]float64{
		"commit 1 total": 100, "commit 4 total": 30, "merge_request 7 coding": 60, "merge_request 7 review": 30, "merge_request 7 deploy": 10,
		"commit 5 total": 0, "merge_request 8 coding": 0, "merge_request 8 review": 100, "merge_request 8 deploy": 10,
		"commit 7 total": 5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lead times in minutes (-want +got):\n%s", diff)
	}
}

func TestWhatMarksAFix(t *testing.T) {
	for name, c := range map[string]struct {
		change Change
		want   bool
	}{
		"branch hotfix/x":              {Change{Branch: "hotfix/x"}, true},
		"branch revert-1234":           {Change{Branch: "revert-1234"}, true},
		"branch ann/hotfix":            {Change{Branch: "ann/hotfix"}, true},
		"title of GitLab's own revert": {Change{Title: `Revert "Add tax"`}, true},
		"conventional hotfix":          {Change{Title: "hotfix(tax): round up"}, true},
		"label":                        {Change{Labels: []string{"backend", "type::hotfix"}}, true},
		"an ordinary fix":              {Change{Title: "fix: round up", Branch: "fix-rounding", Labels: []string{"bug"}}, false},
		"the word elsewhere":           {Change{Title: "Reverting lists is faster; docs of hotfixes", Branch: "reverted-list", Labels: []string{"hotfix-docs"}}, false},
	} {
		if got := c.change.fix(nil); got != c.want {
			t.Errorf("%s: fix %v, want %v", name, got, c.want)
		}
	}
}

func TestNothingFailedIsSaidFromTheFirstProductionDeploymentOn(t *testing.T) {
	var s State
	got := map[string]bool{}
	staging := deployed(2, "a", 1)
	staging.Environment, staging.Tier = "staging", "staging"
	for _, o := range s.Take(Options{}, []Deployment{deployed(1, "a", 0), staging}, nil, at(10)) {
		if o.Declare {
			got[string(o.Kind)+" "+strings.Join(o.Labels, " ")] = true
		}
	}
	want := map[string]bool{
		"deployments production success": true, "deployments production failure": true, "deployments staging success": true, "deployments staging failure": true,
		"deployments_failed production rollback": true, "deployments_failed production fix": true, "deployments_failed production incident": true,
		"deployments_rework production rollback": true, "deployments_rework production fix": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("declared (-want +got):\n%s", diff)
	}
}

// scenario is a random week: three environments, returns to older revisions, fixes, folded jobs and incidents.
func scenario(r *rand.Rand) (ds []Deployment, is []Incident) {
	shas := []string{"a", "b", "c", "d", "e", "f"}
	for i := range 30 {
		d := deployed(i, shas[r.IntN(min(len(shas), 2+i/4))], float64(r.IntN(7*24*6))*10) // several may be at the same time
		d.Environment = []string{"production", "production-us", "staging"}[r.IntN(3)]
		if d.Environment == "staging" {
			d.Tier = "staging"
		}
		d.Pipeline = int64(r.IntN(20))
		d.Result = []exporter.Result{exporter.ResultSuccess, exporter.ResultSuccess, exporter.ResultFailure}[r.IntN(3)]
		change := Change{ID: fmt.Sprint("merge_request/", r.IntN(20)), Opened: d.At.Add(-time.Hour), Merged: d.At.Add(-time.Minute), SHAs: []string{"abcdef0" + d.SHA}, Commits: []Commit{{SHA: fmt.Sprint(r.IntN(20)), At: d.At.Add(-2 * time.Hour)}}}
		switch r.IntN(5) {
		case 0:
			change.Labels = []string{"hotfix"}
		case 1:
			change.Commits[0].Message = "This reverts commit abcdef0" + shas[r.IntN(3)]
		}
		d.Changes = []Change{change}
		ds = append(ds, d)
	}
	for i := range 15 {
		from := float64(r.IntN(7*24*6)) * 10
		in := broken(fmt.Sprint("incident ", i), from, from+float64(r.IntN(300)))
		if r.IntN(4) == 0 {
			in.Ended = time.Time{}
		}
		is = append(is, in)
	}
	return ds, is
}

// sums adds what was observed the way the journal does: each kind and id once.
func sums(into map[string]float64, declared map[string]bool, obs []exporter.Observation) {
	for _, o := range obs {
		if o.Declare {
			declared[string(o.Kind)+" "+strings.Join(o.Labels, " ")] = true
			continue
		}
		key := string(o.Kind) + " " + o.ID.Key + " " + strings.Join(o.Labels, " ")
		if _, ok := into[key]; !ok {
			into[key] = o.Value
		}
	}
}

// TestHowItIsReadDoesNotMatter splits random weeks into steps, gives things twice and in any order within the overlap, cuts
// steps off and does them again, and stores the state in between.
func TestHowItIsReadDoesNotMatter(t *testing.T) {
	const overlap = 60 // minutes; late news within it change nothing
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		ds, is := scenario(r)
		want, wantDeclared := map[string]float64{}, map[string]bool{}
		var whole State
		sums(want, wantDeclared, whole.Take(Options{}, ds, is, at(30*24*60)))

		got, declared := map[string]float64{}, map[string]bool{}
		counted := map[string]int{}
		stored := "{}"
		lag := func() time.Duration { return time.Duration(r.IntN(overlap)) * time.Minute }
		learned, begins, ends := map[int]time.Time{}, map[int]time.Time{}, map[int]time.Time{}
		for i := range ds {
			learned[i] = ds[i].At.Add(lag())
		}
		for i := range is {
			begins[i], ends[i] = is[i].Began.Add(lag()), is[i].Ended.Add(lag())
		}
		last := time.Time{}
		for now := day; now.Before(at(9 * 24 * 60)); now = now.Add(time.Duration(1+r.IntN(600)) * time.Minute) {
			var batch []Deployment
			var incidents []Incident
			for i := range ds {
				if !learned[i].After(now) && (learned[i].After(last) || r.IntN(10) == 0 && now.Sub(ds[i].At) < memory) {
					batch = append(batch, ds[i])
				}
			}
			for i := range is {
				if begins[i].After(now) {
					continue
				}
				in := is[i]
				if ends[i].After(now) {
					in.Ended = time.Time{}
				}
				incidents = append(incidents, in)
			}
			batch = append(batch, batch[:len(batch)/3]...)
			r.Shuffle(len(batch), func(i, k int) { batch[i], batch[k] = batch[k], batch[i] })
			r.Shuffle(len(incidents), func(i, k int) { incidents[i], incidents[k] = incidents[k], incidents[i] })
			var first []exporter.Observation
			for try := range 2 { // the first one is cut off: its observations may have been counted or not
				var s State
				if err := json.Unmarshal([]byte(stored), &s); err != nil {
					t.Fatal(err)
				}
				obs := s.Take(Options{}, batch, incidents, now.Add(-overlap*time.Minute))
				if try == 0 {
					first = obs
					continue
				}
				if diff := cmp.Diff(first, obs); diff != "" {
					t.Fatalf("seed %d: done again, a step gives something else:\n%s", seed, diff)
				}
				sums(got, declared, obs)
				for _, o := range obs {
					if !o.Declare && o.Kind != exporter.LeadTime {
						counted[string(o.Kind)+o.ID.Key]++
					}
				}
				text, err := json.Marshal(s)
				if err != nil {
					t.Fatal(err)
				}
				stored = string(text)
			}
			last = now
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: observed at once and in steps (-once +steps):\n%s", seed, diff)
		}
		if diff := cmp.Diff(wantDeclared, declared); diff != "" {
			t.Fatalf("seed %d: declared at once and in steps (-once +steps):\n%s", seed, diff)
		}
		for key, n := range counted {
			if n != 1 {
				t.Fatalf("seed %d: %s was observed %d times", seed, key, n)
			}
		}
	}
}
