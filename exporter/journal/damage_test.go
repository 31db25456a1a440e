package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightline-dev/sightline/exporter"
)

// TestADamagedPageEndsNoProcess damages a journal in many places and ways. It is either set aside, or opened because the damage
// stands where nothing is, or in what a run says of itself; never does it end the process.
func TestADamagedPageEndsNoProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	for i := range 5 {
		var runs []exporter.Run
		for k := range 60 {
			runs = append(runs, run(fmt.Sprintf("1/pipeline/%d", 60*i+k), exporter.ResultSuccess, exporter.AttemptFirst, day))
		}
		commit(t, j, exporter.Batch{Runs: runs, Cursor: "c", Position: fmt.Sprint(i)})
	}
	size := j.db.Info().PageSize
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	damages := map[string]func(page []byte){
		"all ones": func(page []byte) {
			for i := range page {
				page[i] = 0xff
			}
		},
		"zeros": func(page []byte) { clear(page) },
		"noise": func(page []byte) {
			for i := range page {
				page[i] = byte(random.Uint32())
			}
		},
		"noise after the header": func(page []byte) {
			for i := range page[16:] {
				page[16+i] = byte(random.Uint32())
			}
		},
		"a byte of the header": func(page []byte) { page[random.IntN(16)] ^= byte(1 + random.IntN(255)) },
		"a byte of an element": func(page []byte) { page[16+random.IntN(64)] ^= byte(1 + random.IntN(255)) },
		"a byte somewhere":     func(page []byte) { page[random.IntN(len(page))] ^= byte(1 + random.IntN(255)) },
	}
	aside := 0
	dir := t.TempDir()
	for name, damage := range damages {
		for at := 0; at < len(whole); at += size {
			b := slices.Clone(whole)
			damage(b[at : at+size])
			path := filepath.Join(dir, fmt.Sprintf("%s-%d", name, at))
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := Open(path, Options{})
			if err != nil {
				var other *formatError
				if !errors.As(err, &other) {
					t.Errorf("%s in page %d: %v", name, at/size, err)
				}
				continue
			}
			if _, err := os.Stat(path + ".corrupt-1"); err == nil {
				aside++
			}
			if err := j.Close(); err != nil {
				t.Errorf("%s in page %d: %v", name, at/size, err)
			}
		}
	}
	if aside < len(whole)/size {
		t.Errorf("%d journals were set aside, of %d pages", aside, len(whole)/size)
	}
}
