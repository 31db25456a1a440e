package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBlocksAreTheHistoryOfAStore(t *testing.T) {
	path := t.TempDir()
	series := func(from time.Time, first float64) []Series {
		out := []Series{{Labels: map[string]string{"__name__": "a", "x": "1"}}, {Labels: map[string]string{"__name__": "a", "x": "2"}}, {Labels: map[string]string{"__name__": "none"}}}
		for i := range 288 {
			at := from.Add(time.Duration(i) * 5 * time.Minute)
			out[0].Points = append(out[0].Points, Point{at, first + float64(i)})
			if i > 100 {
				out[1].Points = append(out[1].Points, Point{at, 1})
			}
		}
		return out
	}
	day := 24 * time.Hour
	for i, from := range []time.Time{start.Add(-2 * day), start.Add(-day)} {
		if err := WriteBlock(t.Context(), path, series(from, float64(288*i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteBlock(t.Context(), path, nil); err != nil {
		t.Error(err)
	}
	e := open(t, func(o *Options) { o.Path = path })
	if err := e.Append(t.Context(), []Sample{{map[string]string{"__name__": "a", "x": "1"}, 576, start}}); err != nil {
		t.Fatalf("a sample after the last block: %v", err)
	}
	want := map[string]float64{`{"x":"1"}`: 577 * 576 / 2, `{"x":"2"}`: 2 * 187}
	if diff := cmp.Diff(want, values(t, e, "sum_over_time(a[3d])", start)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := values(t, e, "count(none)", start); len(got) != 0 {
		t.Errorf("a series without points: %v", got)
	}
}
