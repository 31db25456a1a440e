package journal

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/exporter"
)

func TestPagesAreMostlyFullAfterAFirstReading(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	defer j.Close()
	for project := range 40 {
		b := exporter.Batch{Cursor: fmt.Sprint(project), Position: "1", History: true}
		for i := range 200 { // the latest comes first
			b.Runs = append(b.Runs, run(fmt.Sprintf("%d/pipeline/%d", project, 100_000-i), exporter.ResultSuccess, exporter.AttemptFirst, day.Add(-time.Duration(i)*time.Minute)))
		}
		commit(t, j, b)
	}
	err := j.db.View(func(tx *bolt.Tx) error {
		s := tx.Bucket(bucketCounted).Stats()
		if s.KeyN != 40*200 || s.LeafInuse*100 < s.LeafAlloc*75 {
			t.Errorf("%d records take %d of %d bytes; want 8000 records in pages that are full to 75 %%", s.KeyN, s.LeafInuse, s.LeafAlloc)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
