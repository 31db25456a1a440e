package journal

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/exporter"
)

func TestALongPositionIsGivenAsItWasStoredAndTakesLessMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	long := strings.Repeat(`{"name":"build","p":1764097165000},`, 500)
	j := mustOpen(t, path)
	for cursor, p := range map[string]string{"c/long": long, "c/short": "1", "d": long[:packFrom-1]} {
		commit(t, j, exporter.Batch{Cursor: cursor, Position: p})
	}
	for range 2 {
		for cursor, want := range map[string]string{"c/long": long, "c/short": "1", "d": long[:packFrom-1]} {
			if got, ok := j.Position(cursor); !ok || got != want {
				t.Errorf("position of %s has %d bytes (%v), want %d as they were stored", cursor, len(got), ok, len(want))
			}
		}
		if all := j.Positions("c/"); len(all) != 2 || all["c/long"] != long || all["c/short"] != "1" {
			t.Errorf("%d positions, want the two that begin with c/", len(all))
		}
		if have := len(j.cursors["c/long"].text); have > len(long)/4 {
			t.Errorf("%d bytes in memory of %d", have, len(long))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, path)
	}
	j.Close()
}
