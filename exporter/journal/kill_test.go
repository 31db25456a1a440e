package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/sightline-dev/sightline/exporter"
)

// killAt names the environment variable that makes the child commit batches and end as by kill -9 at a stage of the last one.
const killAt = "SIGHTLINE_TEST_KILL"

const killedBatches = 5

// killed is the batch of a number, with an observation beside its run.
func killed(n int) exporter.Batch {
	return exporter.Batch{
		Runs:   []exporter.Run{run(fmt.Sprintf("1/pipeline/%d", n), exporter.ResultSuccess, exporter.AttemptFirst, day)},
		Seen:   []exporter.Observation{seen(fmt.Sprintf("1/deployment/%d", n), exporter.Deployments, 1, day, "production", "success")},
		Cursor: "c", Position: fmt.Sprint(n),
	}
}

func dieAt(stage, path string) {
	j, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	for n := 1; n <= killedBatches; n++ {
		if n == killedBatches {
			j.fail = func(at string) error {
				if at == stage {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {} // until it arrives
				}
				return nil
			}
		}
		if err := j.Commit(context.Background(), killed(n)); err != nil {
			panic(err)
		}
	}
	panic("not killed")
}

func TestAKillAtEachStageOfACommitCountsEveryRunOnce(t *testing.T) {
	for _, stage := range []string{"begin", "applied", "stored", "committed"} {
		t.Run(stage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childPath+"="+path, killAt+"="+stage)
			cmd.Stderr = os.Stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
				t.Fatalf("the process ended with %v, want that it was killed", err)
			}
			j := mustOpen(t, path)
			position, _ := j.Position("c")
			if n := total(j); fmt.Sprint(n) != position || n < killedBatches-1 {
				t.Errorf("after the kill %d runs, and the position is %q; want the same of both, and all that was acknowledged", n, position)
			}
			for n := 1; n <= killedBatches; n++ {
				commit(t, j, killed(n))
			}
			if n := total(j); n != killedBatches {
				t.Errorf("%d runs in the end, want %d", n, killedBatches)
			}
			for _, ta := range j.Snapshot().Tallies {
				if ta.Key.Level == exporter.LevelObservation && ta.Count > 0 && ta.Count != killedBatches {
					t.Errorf("%d deployments in the end, want %d", ta.Count, killedBatches)
				}
			}
		})
	}
}

func TestAFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	batch := func(from int) (b exporter.Batch) {
		for i := range 2000 {
			b.Runs = append(b.Runs, run(fmt.Sprintf("1/pipeline/%d", from+i), exporter.ResultSuccess, exporter.AttemptFirst, day))
		}
		b.Cursor, b.Position = "c", fmt.Sprint(from)
		return b
	}
	j.db.MaxSize = 1 << 20
	acknowledged := 0
	for {
		if err := j.Commit(t.Context(), batch(acknowledged)); err != nil {
			if !errors.Is(err, bolterrors.ErrMaxSizeReached) {
				t.Fatal(err)
			}
			break
		}
		acknowledged += 2000
		if acknowledged > 100_000 {
			t.Fatal("the disk is never full")
		}
	}
	if n := total(j); n != uint64(acknowledged) {
		t.Errorf("with a full disk %d runs are shown, want the %d that were acknowledged", n, acknowledged)
	}
	j.db.MaxSize = 0 // there is room again
	commit(t, j, batch(acknowledged))
	if n := total(j); n != uint64(acknowledged)+2000 {
		t.Errorf("%d runs, want %d", n, acknowledged+2000)
	}
	err := j.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
