package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/exporter"
)

// TestObservationsCountOnceThroughCompactionsAndCrashes delivers random observations again and again through a year, some with
// another time than the first, with daily compactions of which some are cut off in the middle, and restarts.
func TestObservationsCountOnceThroughCompactionsAndCrashes(t *testing.T) {
	const kept = 90 * 24 * time.Hour
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 23))
			path := filepath.Join(t.TempDir(), "journal")
			now := day
			var j *Journal
			open := func() {
				if j != nil {
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
				}
				var err error
				if j, err = Open(path, Options{Now: func() time.Time { return now }}); err != nil {
					t.Fatal(err)
				}
			}
			open()
			defer func() { j.Close() }()
			var all []exporter.Observation
			for i := range 365 {
				now = now.Add(24 * time.Hour)
				for n := range 1 + random.IntN(4) {
					at := now.Add(-time.Duration(random.IntN(72)) * time.Hour)
					o := []exporter.Observation{
						seen(fmt.Sprintf("1/deployment/%d-%d", i, n), exporter.Deployments, 1, at, "production", "success"),
						seen(fmt.Sprintf("1/commit/%d-%d", i, n), exporter.FirstFeedback, 1, at, "commit"),
						seen(fmt.Sprintf("1/pipeline/%d-%d/tests/success", i, n), exporter.TestCases, 1, at, "build", "success"),
						seen(fmt.Sprintf("1/commit/%d-%d/production/total", i, n), exporter.LeadTime, 1, at, "production", "total"),
						seen(fmt.Sprintf("1/flaky/%d-%d/test", i, n), exporter.FlakyTasks, 1, at, "build", "test"),
					}[random.IntN(5)]
					switch o.Kind {
					case exporter.FirstFeedback:
						o.From = at.Add(time.Duration(random.IntN(100)-80) * time.Hour) // a clock may be wrong
					case exporter.TestCases:
						o.From = at.Add(-time.Duration(random.IntN(72)) * time.Hour)
					}
					all = append(all, o)
				}
				batch := exporter.Batch{Cursor: "c", Position: fmt.Sprint(i), Seen: all[max(len(all)-8, 0):]}
				for range 5 {
					o := all[random.IntN(len(all))]
					if o.Kind != exporter.Deployments { // of which the time never changes
						o.At = now
					}
					batch.Seen = append(batch.Seen, o)
				}
				commit(t, j, batch)
				if random.IntN(3) == 0 {
					stage := []string{"begin", "applied", "stored", "committed"}[random.IntN(4)]
					j.fail = func(at string) error {
						if at == stage {
							return errors.New("killed")
						}
						return nil
					}
					_, _ = j.Compact(t.Context(), now.Add(-kept)) // it may have found nothing to do
					open()
				}
				if _, err := j.Compact(t.Context(), now.Add(-kept)); err != nil {
					t.Fatal(err)
				}
				if random.IntN(10) == 0 {
					open()
				}
			}
			var counted uint64
			for _, tally := range j.Snapshot().Tallies {
				counted += tally.Count
			}
			if counted != uint64(len(all)) {
				t.Errorf("%d observations were counted, want %d", counted, len(all))
			}
			records, lasting := 0, 0
			err := j.db.View(func(tx *bolt.Tx) error {
				return tx.Bucket(bucketCounted).ForEach(func(_, v []byte) error {
					records++
					if v[16] == recordForEver {
						lasting++
					}
					return nil
				})
			})
			if forgettable := records - lasting; err != nil || forgettable > len(all)/2 || lasting == 0 {
				t.Errorf("%d records are left beside %d that last, of %d observations in a year: %v", forgettable, lasting, len(all), err)
			}
		})
	}
}

// TestWhatWasNeverSeenIsCountedThoughItIsOldWhereNothingWasDropped is of a journal in which there is no observation to drop yet:
// that jobs were dropped must not make it refuse any.
func TestWhatWasNeverSeenIsCountedThoughItIsOldWhereNothingWasDropped(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	r := run("1/job/1", exporter.ResultSuccess, "", day.Add(-time.Hour))
	r.Level = exporter.LevelTask
	commit(t, j, exporter.Batch{Runs: []exporter.Run{r}})
	if n, err := j.Compact(t.Context(), day.Add(time.Hour)); n != 1 || err != nil {
		t.Fatalf("Compact = %d, %v", n, err)
	}
	commit(t, j, exporter.Batch{Seen: []exporter.Observation{seen("1/deployment/1", exporter.Deployments, 1, day.Add(-time.Hour), "production", "success")}})
	for _, tally := range j.Snapshot().Tallies {
		if tally.Key.Measure == exporter.Measure(exporter.Deployments) && tally.Count == 1 {
			return
		}
	}
	t.Error("the deployment was not counted")
}
