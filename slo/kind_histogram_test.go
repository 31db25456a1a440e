package slo

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestThresholdsOfClassicHistogramsAreEdges(t *testing.T) {
	const count = `sum(rate(x_count{$selector,a="b"}[$window]))`
	bucket := func(le string) string { return `sum(rate(x_bucket{$selector,a="b",le=~"` + le + `"}[$window]))` }
	tests := []struct {
		name, threshold string
		buckets         []string
		interpolate     bool
		good, err       string
	}{
		{name: "edges that are not known", threshold: "0.3", good: bucket(`0\\.3`)},
		{name: "a whole number is written in two ways", threshold: "1", good: bucket(`1(\\.0)?`)},
		{name: "an edge", threshold: "0.5", buckets: []string{"0.25", "0.5"}, good: bucket(`0\\.5`)},
		{name: "an edge that is written otherwise", threshold: "1", buckets: []string{"0.5", "1.0"}, good: bucket(`1(\\.0)?`)},
		{name: "an edge needs no interpolation", threshold: "0.5", buckets: []string{"0.25", "0.5"}, interpolate: true, good: bucket(`0\\.5`)},
		{name: "no edge", threshold: "0.3", buckets: []string{"0.25", "0.5"}, err: "no bucket ends at the threshold 0.3; the nearest end at 0.25 and 0.5"},
		{name: "below the first edge", threshold: "0.1", buckets: []string{"0.25", "0.5"}, err: "the first ends at 0.25"},
		{name: "above the last edge", threshold: "2", buckets: []string{"0.25", "0.5"}, interpolate: true, err: "above the last bucket, which ends at 0.5"},
		{
			name: "between two edges, a fifth of the bucket", threshold: "0.3", buckets: []string{"0.25", "0.5"}, interpolate: true,
			good: "(" + bucket(`0\\.25`) + " + (" + bucket(`0\\.5`) + " - " + bucket(`0\\.25`) + ") * 0.2)",
		},
		{name: "in the first bucket", threshold: "0.1", buckets: []string{"0.25", "0.5"}, interpolate: true, good: bucket(`0\\.25`) + " * 0.4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := Indicator{Kind: KindHistogram, Metric: "x", Matchers: `a="b"`, Threshold: "1", Buckets: tt.buckets, Interpolate: tt.interpolate}
			errs, total, err := i.histogramQueries(tt.threshold, NoTrafficIgnore)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if d := cmp.Diff([]string{count + " - " + tt.good, count + " and " + tt.good}, []string{errs, total}); err != nil || d != "" {
				t.Errorf("%v, queries (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestIndicatorFilesSayWhatIsWrongWithThem(t *testing.T) {
	body, err := os.ReadFile("testdata/kinds/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, with, err string }{
		{"a kind that there is not", "kind: probe", "kind: probes", `there is no kind "probes"; the kinds are [events `},
		{"a key that the kind does not have", "metric: probe_success", "metric: probe_success\n    slice: 1m", "indicator reachable: the kind probe has no slice"},
		{"a key that the kind needs", "    metric: probe_success\n", "", "indicator reachable: the kind probe needs metric"},
		{"a slice of another length", "slice: 1m", "slice: 2m", `the slice is "2m": it must be 1m or 5m`},
		{"interpolation without edges", `    buckets: ["0.1", "0.25", "0.5", "1"]` + "\n", "", "interpolate needs the edges in buckets"},
		{"edges that do not rise", `"0.25", "0.5"`, `"0.5", "0.25"`, "the bucket 0.25 is not above the one before it"},
		{"an edge that is no number", `"0.25", "0.5"`, `"0.25", "1e3"`, `the bucket "1e3" is not a number`},
		{"a default threshold between two edges", "    interpolate: true\n", "", "indicator latency_between: no bucket ends at the threshold 0.3"},
		{"matchers that do not parse", `method="GET"`, `method=GET`, "indicator latency: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			broken := strings.Replace(string(body), tt.old, tt.with, 1)
			if broken == string(body) {
				t.Fatalf("%q is not in the file", tt.old)
			}
			if _, err := LoadLibrary(fstest.MapFS{"kinds.yaml": {Data: []byte(broken)}}); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}
