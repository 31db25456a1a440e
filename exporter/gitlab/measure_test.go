package gitlab

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// measured gives what is visible of observations: kind and label values, and the sum, behind "#" the number of samples.
func (w *world) measured() map[string]float64 {
	out := map[string]float64{}
	for _, t := range w.journal.Snapshot().Tallies {
		if t.Key.Level != exporter.LevelObservation || t.Key.Measure == exporter.Measure(exporter.FirstFeedback) {
			continue
		}
		name := string(t.Key.Measure) + " " + strings.ReplaceAll(t.Key.Values, "\x1f", " ")
		out[name] += math.Round(t.Sum*1e6) / 1e6
		if t.Key.Measure == exporter.Measure(exporter.RunnerWait) {
			out[name+" #"] += float64(t.Count)
		}
	}
	return out
}

// wantMeasured compares what was measured of jobs with what happened to them.
func (w *world) wantMeasured() {
	w.t.Helper()
	got, want := w.measured(), map[string]float64{}
	failed, passed := map[string][]*fakegitlab.Pipeline{}, map[string][]*fakegitlab.Pipeline{}
	flaky := map[string]bool{}
	var covered time.Time
	var coverages []float64
	for _, p := range w.project.Pipelines {
		before := map[string]*fakegitlab.Job{}
		for _, j := range p.Jobs {
			if j.Finished.IsZero() || j.Bridge {
				continue
			}
			want["lost_time queue"] += 0
			want["lost_time retry"] += 0
			if j.Final == "failed" {
				want["task_failures acme/checkout "+map[bool]string{true: "unknown_failure", false: j.Reason}[j.Reason == ""]]++
			}
			if !j.Started.IsZero() {
				tags := map[bool]string{true: "docker", false: "big,linux"}[j.Tags == nil]
				want["runner_wait "+tags] += j.Started.Sub(j.Queued).Seconds()
				want["runner_wait "+tags+" #"]++
				want["lost_time queue"] += j.Started.Sub(j.Queued).Seconds()
				if j.Artifacts != nil {
					want["artifact_size acme/checkout"] += float64(j.Artifacts["archive"] + j.Artifacts["metadata"])
				}
			}
			if o := before[j.Name]; o != nil {
				want["task_retries acme/checkout "+j.Name]++
				if !o.Started.IsZero() {
					want["lost_time retry"] += o.Finished.Sub(o.Started).Seconds()
				}
			}
			before[j.Name] = j
			key := p.SHA + " " + j.Name
			if p.SHA == "" {
				key = fmt.Sprint(p.ID, " ", j.Name)
			}
			switch j.Final {
			case "failed":
				failed[key] = append(failed[key], p)
			case "success":
				passed[key] = append(passed[key], p)
			}
			together := func(o *fakegitlab.Pipeline) bool {
				return o == p || slices.Contains(comparable, p.Source) && slices.Contains(comparable, o.Source)
			}
			if !flaky[key] && (j.Final == "failed" && slices.ContainsFunc(passed[key], together) || j.Final == "success" && slices.ContainsFunc(failed[key], together)) {
				flaky[key] = true
				want["flaky_tasks acme/checkout "+j.Name]++
			}
		}
		for _, at := range truth(p, map[string]uint64{}) {
			newest := map[string]*fakegitlab.Job{}
			for _, j := range p.Jobs {
				if s := j.Status(at); s != "" && s != "manual" && s != "skipped" {
					newest[j.Name] = j
				}
			}
			sum, n := 0.0, 0
			for _, j := range newest {
				if j.Coverage != nil && !j.Bridge && !j.Started.IsZero() {
					sum += *j.Coverage
					n++
				}
			}
			if n == 0 || at.Before(covered) {
				continue
			}
			if at.After(covered) {
				covered, coverages = at, nil
			}
			coverages = append(coverages, math.Round(sum/float64(n)*1e4)/1e6)
		}
	}
	const coverage = "coverage acme/checkout default"
	if have, ok := got[coverage]; ok != (len(coverages) > 0) || ok && !slices.Contains(coverages, have) {
		w.t.Errorf("coverage is %v (%v), want one of %v", have, ok, coverages)
	}
	delete(got, coverage)
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("measured (-want +got):\n%s", diff)
	}
}

func TestWhatGitLabDoesNotSayOfAJobIsNotZero(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	at := func(seconds int) stamp { return stamp{epoch.Add(time.Duration(seconds) * time.Second)} }
	valid := func(change func(*job)) job {
		j := job{
			ID: 2, Name: "test", Status: "success", Created: at(0), Started: at(10), Finished: at(70), Duration: number(60), Queued: number(9), Coverage: number(80),
			Tags: []string{"b", "a", "b"}, Artifacts: []artifact{{"archive", number(100)}, {"trace", number(5)}},
		}
		if change != nil {
			change(&j)
		}
		return j
	}
	first := valid(func(j *job) { j.ID, j.Status, j.Reason = 1, "failed", "script_failure" })
	for _, c := range []struct {
		name string
		jobs []job
		want []string
	}{
		{"one that says everything", []job{valid(nil)}, []string{"artifact_size [acme/checkout] 100", "lost_time [queue] 9", "runner_wait [a,b] 9"}},
		{"no time in the queue", []job{valid(func(j *job) { j.Queued = nil })}, []string{"artifact_size [acme/checkout] 100"}},
		{"no time at all in the queue", []job{valid(func(j *job) { j.Queued = number(0) })}, []string{"artifact_size [acme/checkout] 100", "lost_time [queue] 0", "runner_wait [a,b] 0"}},
		{"a queue in which time ran backwards", []job{valid(func(j *job) { j.Queued = number(-3) })}, []string{"artifact_size [acme/checkout] 100", "lost_time [queue] 0", "runner_wait [a,b] 0"}},
		{"no artifact but the log", []job{valid(func(j *job) { j.Artifacts = j.Artifacts[1:] })}, []string{"lost_time [queue] 9", "runner_wait [a,b] 9"}},
		{"an artifact without a size", []job{valid(func(j *job) { j.Artifacts[0].Size = nil })}, []string{"lost_time [queue] 9", "runner_wait [a,b] 9"}},
		{"no tags", []job{valid(func(j *job) { j.Tags, j.Artifacts = nil, nil })}, []string{"lost_time [queue] 9", "runner_wait [untagged] 9"}},
		{
			"no runner took it",
			[]job{valid(func(j *job) {
				j.Status, j.Reason, j.Started, j.Artifacts = "failed", "stuck_or_timeout_failure", stamp{}, nil
			})},
			[]string{"task_failures [acme/checkout stuck_or_timeout_failure] 1"},
		},
		{"a failure without a reason", []job{valid(func(j *job) { j.Status, j.Artifacts, j.Queued = "failed", nil, nil })}, []string{"task_failures [acme/checkout unknown_failure] 1"}},
		{"a canceled one with a reason", []job{valid(func(j *job) { j.Status, j.Reason, j.Artifacts, j.Queued = "canceled", "script_failure", nil, nil })}, nil},
		{"one that runs", []job{valid(func(j *job) { j.Status, j.Finished = "running", stamp{} })}, nil},
		{
			"a retry that passed",
			[]job{valid(nil), first},
			[]string{
				"artifact_size [acme/checkout] 100", "artifact_size [acme/checkout] 100", "lost_time [queue] 9", "lost_time [queue] 9",
				"lost_time [retry] 60", "runner_wait [a,b] 9", "runner_wait [a,b] 9", "task_failures [acme/checkout script_failure] 1", "task_retries [acme/checkout test] 1",
			},
		},
		{
			"a retry of an attempt of which GitLab gives no duration", []job{
				valid(func(j *job) { j.Artifacts, j.Queued = nil, nil }),
				valid(func(j *job) { j.ID, j.Status, j.Duration, j.Artifacts, j.Queued = 1, "canceled", nil, nil, nil }),
			}, []string{"task_retries [acme/checkout test] 1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			common := exporter.Run{ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/pipeline/7"}, Pipeline: "acme/checkout", Created: epoch}
			var got []string
			for _, o := range measure(common, c.jobs) {
				if err := o.Check(); err != nil {
					t.Error(err)
				}
				if !o.Declare {
					got = append(got, fmt.Sprint(o.Kind, " ", o.Labels, " ", o.Value))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("measured (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMeasurementsOfTheFirstReadingAreStartingValues(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		w.add("failed").Jobs[0].Artifacts = map[string]int{"archive": 100}
		w.pass(time.Minute)
	}
	w.pass(time.Hour)
	w.sync()
	want := map[string]float64{
		"artifact_size acme/checkout": 3000, "lost_time queue": 30, "lost_time retry": 0, "runner_wait docker": 30, "runner_wait docker #": 30,
		"task_failures acme/checkout script_failure": 30,
	}
	if diff := cmp.Diff(want, w.measured()); diff != "" {
		t.Errorf("measured (-want +got):\n%s", diff)
	}
	for _, tally := range w.journal.Snapshot().Tallies {
		if !tally.Created.IsZero() || tally.Key.Level == exporter.LevelObservation && tally.Key.Owner != catalog.NewRef("group", "", "pay").String() {
			t.Errorf("%v has a created timestamp or no owner", tally.Key)
		}
	}
	w.pass(time.Hour)
	w.open()
	w.sync()
	if diff := cmp.Diff(want, w.measured()); diff != "" {
		t.Errorf("measured without an event (-want +got):\n%s", diff)
	}
}

func TestACoverageThatGitLabFindsAfterTheEndIsNotMissed(t *testing.T) {
	w := newWorld(t)
	w.sync()
	for _, percent := range []float64{50, 70} {
		p := w.add("success")
		p.Jobs[0].Coverage = &percent
		w.pass(time.Minute + 3*time.Second)
		if percent == 70 {
			w.now = p.Jobs[0].Finished.Add(2 * time.Second)
		}
		w.sync() // of the second pipeline it is not known yet
		w.pass(30 * time.Second)
		w.sync()
	}
	if got := w.measured()["coverage acme/checkout default"]; got != 0.7 {
		t.Errorf("coverage is %v, want that of the second pipeline, 0.7", got)
	}
}
