package gitlab

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
)

// TestProjectsOfOnePathOnTwoHostsAreToldApart is of a project that no entity names: an entity is on one host.
func TestProjectsOfOnePathOnTwoHostsAreToldApart(t *testing.T) {
	w := newWorld(t)
	w.graph = graphOf(t)
	w.add("success")
	w.pass(5 * time.Minute)
	for _, o := range []Options{{URL: "https://gitlab.example.com", First: true}, {URL: "https://git2.example.org"}} {
		o.Groups, o.Now, o.Workers = []string{"acme"}, func() time.Time { return w.now }, 1
		s, err := New(w.api, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context(), w.graph, w.journal); err != nil {
			t.Fatal(err)
		}
		if err := w.journal.Settle(t.Context(), s.Name(), s.Host()); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, tally := range w.journal.Snapshot().Tallies {
		if tally.Key.Level == exporter.LevelPipeline && tally.Key.Measure == exporter.MeasureRuns && tally.Count > 0 {
			got = append(got, tally.Key.Pipeline)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"acme/checkout", "git2.example.org/acme/checkout"}, got); diff != "" {
		t.Errorf("pipelines (-want +got):\n%s", diff)
	}
}
