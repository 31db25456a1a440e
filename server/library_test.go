package server

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/slo"
)

// oneTally is a journal that has counted one series.
type oneTally struct{ *exporter.Tally }

func (o oneTally) Snapshot() exporter.TallySnapshot {
	return exporter.TallySnapshot{Tallies: []*exporter.Tally{o.Tally}}
}

func TestTheLibraryKnowsTheBucketsOfRunDurations(t *testing.T) {
	tally := &exporter.Tally{Key: exporter.TallyKey{Level: exporter.LevelPipeline, Measure: exporter.MeasureExecuting, Source: "gitlab"}}
	tally.Observe(1)
	reg := prometheus.NewRegistry()
	reg.MustRegister(exporter.NewCollector(oneTally{tally}))
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("gathered %d families, error %v", len(families), err)
	}
	var edges []string
	for _, b := range families[0].GetMetric()[0].GetHistogram().GetBucket() {
		edges = append(edges, strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
	}
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, p := range lib.Profiles() {
		for _, i := range p.Indicators {
			if i.Metric != families[0].GetName() {
				continue
			}
			found++
			if d := cmp.Diff(edges, i.Buckets); d != "" {
				t.Errorf("buckets of %s %s (-exporter +library):\n%s", p.Name, i.Name, d)
			}
		}
	}
	if found == 0 {
		t.Errorf("no indicator is about %s", families[0].GetName())
	}
}
