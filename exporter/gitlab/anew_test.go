package gitlab

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
)

// totals are all tallies by their key, without what tells when they were begun.
func (w *world) totals() map[exporter.TallyKey]exporter.Tally {
	out := map[exporter.TallyKey]exporter.Tally{}
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Count > 0 {
			out[tally.Key] = *tally
		}
	}
	return out
}

// TestADamagedJournalIsFilledAnew damages the file between two starts, after history and news were counted.
func TestADamagedJournalIsFilledAnew(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 3, Branches: 2, Pipelines: 20, Jobs: 3})
	w.sync()
	random := rand.New(rand.NewPCG(7, 7))
	for i := range 9 {
		p := w.fake.AddFinished(w.fake.Projects[i%3], "main", w.now.Add(-3*time.Minute), 3, random)
		p.Updated = w.now
		w.pass(time.Minute)
		w.sync()
	}
	if p, j := w.total(); p != 69 || j != 207 {
		t.Fatalf("counted %d pipelines and %d jobs, want 69 and 207", p, j)
	}
	before := w.totals()
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 4; i < len(b)/2; i++ {
		b[i] = 0xff
	}
	if err := os.WriteFile(w.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if w.journal, err = journal.Open(w.path, journal.Options{Now: func() time.Time { return w.now }, Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	if aside, err := os.ReadFile(w.path + ".corrupt-1"); err != nil || !bytes.Equal(aside, b) || !strings.Contains(log.String(), ".corrupt-1") {
		t.Errorf("the damaged file is not kept (%v), or nobody is told: %s", err, &log)
	}
	w.restart()
	if n := len(w.totals()); n != 0 {
		t.Fatalf("%d tallies are there before anything was read", n)
	}
	for range 4 {
		w.sync()
		w.pass(time.Minute)
	}
	for key, tally := range w.totals() {
		if !tally.Created.IsZero() {
			t.Errorf("%v has a created timestamp: what was counted before would look like an increase", key)
		}
	}
	ignore := cmpopts.IgnoreFields(exporter.Tally{}, "Created", "Exemplars")
	if diff := cmp.Diff(before, w.totals(), ignore, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("totals (-before the damage +after):\n%s", diff)
	}
}

// mixedHeaders is an API whose lists of pipelines name the next page by one header here, by another there.
type mixedHeaders struct {
	API
	lists int
}

func (a *mixedHeaders) GetJSON(ctx context.Context, path string, into any) (http.Header, error) {
	h, err := a.API.GetJSON(ctx, path, into)
	if strings.Contains(path, "/pipelines?") {
		h.Del([]string{"Link", "X-Next-Page"}[a.lists%2])
		a.lists++
	}
	return h, err
}

// TestAListOfMoreThanTenThousandRowsIsReadToItsEnd is of lists for which GitLab gives no totals.
func TestAListOfMoreThanTenThousandRowsIsReadToItsEnd(t *testing.T) {
	const pipelines = 10_150
	w := many(t, fakegitlab.Size{Projects: 1})
	random := rand.New(rand.NewPCG(1, 1))
	for i := range pipelines { // in four weeks
		w.fake.AddFinished(w.fake.Projects[0], "main", w.now.Add(-time.Duration(pipelines-i)*4*time.Minute), 1, random)
	}
	api := &mixedHeaders{API: w.api}
	s, err := New(api, Options{URL: "https://gitlab.example.com", First: true, Now: func() time.Time { return w.now }, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.source = s
	for range 2 {
		w.sync()
		if p, j := w.total(); p != pipelines || j != pipelines {
			t.Errorf("counted %d pipelines and %d jobs, want %d", p, j, pipelines)
		}
		w.pass(time.Minute)
	}
	if api.lists < pipelines/pageSize {
		t.Errorf("%d pages of pipelines", api.lists)
	}
}
