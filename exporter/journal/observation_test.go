package journal

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

func seen(key string, kind exporter.ObservationKind, value float64, at time.Time, labels ...string) exporter.Observation {
	return exporter.Observation{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: key}, Kind: kind, Labels: labels, Value: value, At: at,
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"),
	}
}

func declared(kind exporter.ObservationKind, labels ...string) exporter.Observation {
	o := seen("", kind, 0, time.Time{}, labels...)
	o.Declare = true
	return o
}

func exposes(t *testing.T, j *Journal, want string, names ...string) {
	t.Helper()
	if err := testutil.CollectAndCompare(exporter.NewCollector(j), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestAnObservationCountsOncePerIDAndKindThroughARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	b := exporter.Batch{Seen: []exporter.Observation{
		declared(exporter.DeploymentsFailed, "production", "rollback"),
		seen("1/deployment/7", exporter.Deployments, 1, day, "production", "success"),
		seen("1/deployment/7", exporter.Deployments, 1, day, "production", "success"),
		seen("1/deployment/8", exporter.Deployments, 1, day, "production", "success"),
		seen("1/deployment/8", exporter.LeadTime, 7200, day, "production", "total"),
		seen("1/pipeline/3", exporter.Coverage, 0.75, day, "build", "default"),
		seen("1/pipeline/2", exporter.Coverage, 0.5, day.Add(-time.Hour), "build", "default"), // older: the latest stands
	}, Cursor: "c", Position: "1"}
	commit(t, j, b)
	commit(t, j, b)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, path)
	commit(t, j, b)
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{seen("1/pipeline/1", exporter.Coverage, 0.1, day.Add(-2*time.Hour), "build", "default")}})
	exposes(t, j, `
# HELP sightline_deployments_failed_total Successful deployments that failed in service, each once, by what showed it: rollback, fix or incident (DORA change fail rate, with sightline_deployments_total).
# TYPE sightline_deployments_failed_total counter
sightline_deployments_failed_total{cause="rollback",entity="component:default/checkout",environment_tier="production",owner="group:default/payments",source="gitlab",system=""} 0
# HELP sightline_deployments_total Deployments that ended, by the tier of their environment.
# TYPE sightline_deployments_total counter
sightline_deployments_total{entity="component:default/checkout",environment_tier="production",owner="group:default/payments",result="success",source="gitlab",system=""} 2
# HELP sightline_pipeline_coverage_ratio Test coverage of the latest finished pipeline that has one, between 0 and 1.
# TYPE sightline_pipeline_coverage_ratio gauge
sightline_pipeline_coverage_ratio{cicd_pipeline_name="build",entity="component:default/checkout",owner="group:default/payments",ref_kind="default",source="gitlab",system=""} 0.75
`, "sightline_deployments_total", "sightline_deployments_failed_total", "sightline_pipeline_coverage_ratio")
	for _, tally := range j.Snapshot().Tallies {
		if tally.Key.Measure == exporter.Measure(exporter.LeadTime) && (tally.Count != 1 || tally.Sum != 7200) {
			t.Errorf("lead time: %d samples, sum %v; want one of 7200 s", tally.Count, tally.Sum)
		}
	}
}

func TestAnObservationOfATaskCountsWithTheTask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	size := seen("1/job/7", exporter.ArtifactSize, 10, day, "build")
	size.OfTask = true
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{size}}) // without its task
	task := exporter.Run{ID: size.ID, Level: exporter.LevelTask, State: exporter.StateFinished, Result: exporter.ResultSuccess, Pipeline: "build", Name: "compile", Finished: day}
	told := task
	told.Told = true
	for range 2 { // by a webhook, before the size was read
		commit(t, j, exporter.Batch{Runs: []exporter.Run{told}, Seen: []exporter.Observation{size}})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, path)
	b := exporter.Batch{Runs: []exporter.Run{told, task}, Seen: []exporter.Observation{size, size}}
	commit(t, j, b)
	commit(t, j, b)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, path)
	commit(t, j, b)
	if _, err := j.Compact(t.Context(), day.Add(1000*time.Hour)); err != nil {
		t.Fatal(err)
	}
	commit(t, j, b) // of a task that may have been counted
	if n := total(j); n != 1 {
		t.Errorf("the task counts %d times", n)
	}
	exposes(t, j, `
# HELP sightline_artifact_bytes_total Size of the artifacts that finished jobs made, their logs left out.
# TYPE sightline_artifact_bytes_total counter
sightline_artifact_bytes_total{cicd_pipeline_name="build",entity="component:default/checkout",owner="group:default/payments",source="gitlab",system=""} 10
`, "sightline_artifact_bytes_total")
}

func TestObservationsOfAFirstStartAreStartingValues(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	old := seen("1/deployment/1", exporter.Deployments, 1, day.Add(-24*time.Hour), "production", "success")
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{old}, Cursor: "c", Position: "1", History: true})
	if n := testutil.CollectAndCount(exporter.NewCollector(j), "sightline_deployments_total"); n != 0 {
		t.Fatalf("%d series of a history that is not settled, want none", n)
	}
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{seen("1/deployment/2", exporter.Deployments, 1, day, "production", "success")}, Cursor: "c", Position: "2"})
	for _, tally := range j.Snapshot().Tallies {
		if tally.Sum != 2 || !tally.Created.IsZero() {
			t.Errorf("%v: %v since %v; want 2 without a created timestamp, as it began with history", tally.Key, tally.Sum, tally.Created)
		}
	}
}

func TestNamesOfObservationsAreCapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for range 2 { // the names are known again after a restart
		j, err := Open(path, Options{NameCap: 2, Now: func() time.Time { return day }})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			commit(t, j, exporter.Batch{Seen: []exporter.Observation{seen("1/job/"+name, exporter.ArtifactSize, 10, day, name)}})
		}
		exposes(t, j, `
# HELP sightline_artifact_bytes_total Size of the artifacts that finished jobs made, their logs left out.
# TYPE sightline_artifact_bytes_total counter
sightline_artifact_bytes_total{cicd_pipeline_name="a",entity="component:default/checkout",owner="group:default/payments",source="gitlab",system=""} 10
sightline_artifact_bytes_total{cicd_pipeline_name="b",entity="component:default/checkout",owner="group:default/payments",source="gitlab",system=""} 10
sightline_artifact_bytes_total{cicd_pipeline_name="other",entity="component:default/checkout",owner="group:default/payments",source="gitlab",system=""} 20
`, "sightline_artifact_bytes_total")
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnObservationThatCannotBeCountedIsRefused(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	for name, o := range map[string]exporter.Observation{
		"unknown kind":         seen("1", "nonsense", 1, day),
		"label values amiss":   seen("1", exporter.Deployments, 1, day, "production"),
		"no id":                seen("", exporter.Deployments, 1, day, "production", "success"),
		"a counter that falls": seen("1", exporter.Deployments, -1, day, "production", "success"),
	} {
		if err := j.Commit(t.Context(), exporter.Batch{Seen: []exporter.Observation{o}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWhatAGaugeTookLeavesNoRecord(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{
		seen("1/pipeline/3", exporter.Coverage, 0.75, day, "build", "default"),
		seen("1/deployment/7", exporter.Deployments, 1, day, "production", "success"),
	}})
	var records []string
	err := j.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketCounted).ForEach(func(k, _ []byte) error {
			records = append(records, string(k))
			return nil
		})
	})
	if diff := cmp.Diff([]string{"gitlab|gitlab.example.com|1/deployment/7\x00deployments"}, records); diff != "" || err != nil {
		t.Errorf("records (-want +got):\n%s%v", diff, err)
	}
}
