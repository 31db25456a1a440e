package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func run(key string, result exporter.Result, attempt exporter.Attempt, at time.Time) exporter.Run {
	d := 42.0
	return exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: key}, Level: exporter.LevelPipeline,
		Entity: catalog.NewRef("component", "", "checkout"), Owner: catalog.NewRef("group", "", "payments"), Pipeline: "build", Name: "build", RefKind: "default",
		Finished: at, Duration: &d, State: exporter.StateFinished, Result: result, Attempt: attempt,
	}
}

func mustOpen(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path, Options{Now: func() time.Time { return day }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// total sums the counts of finished runs.
func total(j *Journal) (n uint64) {
	for _, t := range j.Snapshot().Tallies {
		if t.Key.Measure == exporter.MeasureRuns {
			n += t.Count
		}
	}
	return n
}

func commit(t *testing.T, j *Journal, b exporter.Batch) {
	t.Helper()
	if err := j.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

func TestARunCountsOnceThroughDuplicatesReorderingAndRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	first := run("1/pipeline/1", exporter.ResultFailure, exporter.AttemptFirst, day)
	rerun := run("1/pipeline/1", exporter.ResultSuccess, exporter.AttemptRerun, day.Add(time.Hour))
	commit(t, j, exporter.Batch{Runs: []exporter.Run{rerun, first, first}, Cursor: "c", Position: "1"})
	commit(t, j, exporter.Batch{Runs: []exporter.Run{first, rerun}, Cursor: "c", Position: "2"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, path)
	commit(t, j, exporter.Batch{Runs: []exporter.Run{rerun, first}})
	if got := total(j); got != 2 {
		t.Errorf("counted %d finishes; want 2", got)
	}
	if p, ok := j.Position("c"); p != "2" || !ok {
		t.Errorf("Position = %q, %v; want 2", p, ok)
	}
}

func TestARunThatIsGoneIsNoLongerActiveAndNeverCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	r := run("1/pipeline/1", "", exporter.AttemptFirst, time.Time{})
	r.State = exporter.StateExecuting
	commit(t, j, exporter.Batch{Runs: []exporter.Run{r}})
	if n := len(j.Snapshot().Active); n != 1 {
		t.Fatalf("%d active series; want 1", n)
	}
	for range 2 { // the second one finds nothing to remove
		commit(t, j, exporter.Batch{Gone: []exporter.RunID{r.ID}})
		if n := len(j.Snapshot().Active); n != 0 || total(j) != 0 {
			t.Errorf("%d active series and %d counted runs; want none", n, total(j))
		}
	}
	_ = j.Close()
	if n := len(mustOpen(t, path).Snapshot().Active); n != 0 {
		t.Errorf("%d active series after a restart; want none", n)
	}
}

func TestACrashAtEachPointOfACommitCountsEveryRunOnce(t *testing.T) {
	for _, stage := range []string{"begin", "applied", "stored", "committed"} {
		t.Run(stage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			j := mustOpen(t, path)
			j.fail = func(at string) error {
				if at == stage {
					return errors.New("crash")
				}
				return nil
			}
			b := exporter.Batch{Runs: []exporter.Run{run("1/pipeline/1", exporter.ResultSuccess, exporter.AttemptFirst, day)}, Cursor: "c", Position: "1"}
			if err := j.Commit(context.Background(), b); err == nil {
				t.Fatal("Commit succeeded in spite of the crash")
			}
			if got := total(j); stage != "committed" && got != 0 {
				t.Errorf("a failed commit shows %d runs", got)
			}
			_ = j.Close()
			j = mustOpen(t, path)
			_, stored := j.Position("c")
			if n := total(j); (n == 1) != stored {
				t.Errorf("after the crash %d runs and cursor stored %v; want both or neither", n, stored)
			}
			commit(t, j, b)
			if n := total(j); n != 1 {
				t.Errorf("after the repeated commit %d runs; want 1", n)
			}
		})
	}
}

func TestHistoryIsHiddenUntilReleasedAndNeverAnIncrease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	for i := range 3 {
		commit(t, j, exporter.Batch{Runs: []exporter.Run{run(fmt.Sprintf("1/pipeline/%d", i), exporter.ResultFailure, exporter.AttemptFirst, day.Add(-time.Hour))}, Cursor: "p1", Position: "h", History: true})
		if n := len(j.Snapshot().Tallies); n != 0 {
			t.Fatalf("history shows %d series before it is released", n)
		}
	}
	_ = j.Close()
	j = mustOpen(t, path)
	commit(t, j, exporter.Batch{Cursor: "p1", Position: "live"})
	if n := total(j); n != 3 {
		t.Fatalf("released history has %d runs; want 3", n)
	}
	for _, ta := range j.Snapshot().Tallies {
		if !ta.Created.IsZero() {
			t.Errorf("%v began with history but says it was created at %v", ta.Key, ta.Created)
		}
	}
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("2/pipeline/1", exporter.ResultFailure, exporter.AttemptFirst, day)}, Cursor: "p2", History: true})
	if err := j.Settle(context.Background(), "gitlab", "gitlab.example.com"); err != nil {
		t.Fatal(err)
	}
	if n := total(j); n != 3 {
		t.Errorf("history moved an exposed counter to %d; want 3", n)
	}
}

func TestTheExpositionStatesRunsResultsAndDurations(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("1/pipeline/1", exporter.ResultSuccess, exporter.AttemptFirst, day)}})
	c := exporter.NewCollector(j)
	l := `attempt="first",cicd_pipeline_name="build",cicd_pipeline_result="%s",entity="component:default/checkout",owner="group:default/payments",ref_kind="default",source="gitlab",system=""`
	var want strings.Builder
	want.WriteString("# HELP cicd_pipeline_runs_total Finished pipeline runs, also those that never had a duration.\n# TYPE cicd_pipeline_runs_total counter\n")
	for _, r := range exporter.Results {
		n := 0
		if r == exporter.ResultSuccess {
			n = 1
		}
		fmt.Fprintf(&want, "cicd_pipeline_runs_total{"+l+"} %d\n", r, n)
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(want.String()), "cicd_pipeline_runs_total"); err != nil {
		t.Error(err)
	}
	if p, err := testutil.CollectAndLint(c); err != nil || len(p) > 0 {
		t.Errorf("promlint: %v %v", p, err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

func TestADamagedFileIsSetAsideAndASecondWriterRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte(strings.Repeat("no journal ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
	if _, err := os.Stat(path + ".corrupt-1"); err != nil {
		t.Error(err)
	}
	_, err := Open(path, Options{})
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) {
		t.Errorf("second Open: %v; want an error with a hint", err)
	}
}

func TestAJournalOfAnotherFormatIsLeftAloneAndTheErrorSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	if err := j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte("format"), []byte("0")) }); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the file is not held after the first
		_, err := Open(path, Options{})
		var other *formatError
		if !errors.As(err, &other) || !strings.Contains(other.Hint(), "move the file away") {
			t.Errorf("got %v, want that the format is another, with a hint", err)
		}
	}
}

func TestATruncatedFileIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	for i := range 50 {
		commit(t, j, exporter.Batch{Runs: []exporter.Run{run(fmt.Sprintf("1/pipeline/%d", i), exporter.ResultSuccess, exporter.AttemptFirst, day)}})
	}
	_ = j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100, 5000, 8192, 16384, len(whole) / 2} {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(path, Options{})
		if err != nil {
			t.Errorf("cut to %d bytes: %v", size, err)
			continue
		}
		if n := total(j); n != 0 {
			t.Errorf("cut to %d bytes: %d runs", size, n)
		}
		if _, err := os.Stat(path + ".corrupt-1"); err != nil {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
		_ = j.Close()
	}
}

func TestRecentRunsAreBoundedAndTheLatestComeFirst(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	var runs []exporter.Run
	for i := range 70 {
		runs = append(runs, run(fmt.Sprintf("1/pipeline/%d", i), exporter.ResultSuccess, exporter.AttemptFirst, day.Add(time.Duration(i*37%70)*time.Minute)))
	}
	commit(t, j, exporter.Batch{Runs: runs})
	got := j.Runs(Filter{Entities: []catalog.Ref{catalog.NewRef("component", "", "checkout")}})
	if len(got) != 50 || !got[0].Finished.Equal(day.Add(69*time.Minute)) || !got[49].Finished.Equal(day.Add(20*time.Minute)) {
		t.Errorf("kept %d runs from %v to %v", len(got), got[0].Finished, got[len(got)-1].Finished)
	}
}

func TestCompactionNeverLetsATaskCountTwice(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	r := run("1/job/1", exporter.ResultSuccess, "", day.Add(-time.Hour))
	r.Level = exporter.LevelTask
	commit(t, j, exporter.Batch{Runs: []exporter.Run{r}})
	if n, err := j.Compact(context.Background(), day.Add(time.Hour)); n != 1 || err != nil {
		t.Fatalf("Compact = %d, %v", n, err)
	}
	commit(t, j, exporter.Batch{Runs: []exporter.Run{r}})
	if n := total(j); n != 1 {
		t.Errorf("counted %d; want 1", n)
	}
}

func TestCompactionWorksInStepsAndKeepsPipelinesAndWhatIsYoung(t *testing.T) {
	now := day
	j, err := Open(filepath.Join(t.TempDir(), "journal"), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	jobs := func(from, to int, at time.Time) (runs []exporter.Run) {
		for i := from; i < to; i++ {
			r := run(fmt.Sprintf("1/job/%d", i), exporter.ResultSuccess, "", at)
			r.Level = exporter.LevelTask
			runs = append(runs, r)
		}
		return runs
	}
	pipeline := run("1/pipeline/1", exporter.ResultSuccess, exporter.AttemptFirst, day)
	old := append(jobs(0, 2*compactStep+10, day), pipeline)
	commit(t, j, exporter.Batch{Runs: old})
	now = day.Add(time.Hour)
	young := jobs(2*compactStep+10, 2*compactStep+20, now)
	commit(t, j, exporter.Batch{Runs: young})
	if n, err := j.Compact(t.Context(), day.Add(time.Minute)); n != 2*compactStep+10 || err != nil {
		t.Fatalf("Compact = %d, %v", n, err)
	}
	if n, err := j.Compact(t.Context(), day.Add(-time.Hour)); n != 0 || err != nil { // must not take the earlier mark back
		t.Fatalf("Compact again = %d, %v", n, err)
	}
	want := total(j)
	commit(t, j, exporter.Batch{Runs: append(old, young...)})
	if n := total(j); n != want {
		t.Errorf("counted %d of what was counted before", n-want)
	}
}

func TestARunIsActiveUntilItFinishes(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	done := run("1/pipeline/1", exporter.ResultSuccess, exporter.AttemptFirst, day)
	going := done
	going.State, going.Result, going.Finished = exporter.StateExecuting, "", time.Time{}
	for i, step := range []struct {
		run  exporter.Run
		want int
	}{{going, 1}, {done, 0}, {going, 0}} {
		commit(t, j, exporter.Batch{Runs: []exporter.Run{step.run}})
		if n := len(j.Snapshot().Active); n != step.want {
			t.Errorf("step %d: %d active; want %d", i, n, step.want)
		}
	}
}
