// Package enginetest holds the test that every engine.Querier passes.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/engine"
)

// Samples is what the store must hold before TestQuerier, at the ten whole minutes up to end.
func Samples(end time.Time) []engine.Sample {
	var out []engine.Sample
	for i := range 10 {
		at := end.Add(time.Duration(i-9) * time.Minute)
		add := func(v float64, name string, labels ...string) {
			m := map[string]string{"__name__": name}
			for j := 0; j < len(labels); j += 2 {
				m[labels[j]] = labels[j+1]
			}
			out = append(out, engine.Sample{Labels: m, Value: v, Time: at})
		}
		add(float64(i), "enginetest_value", "a", "1", "z", "0")
		add(float64(10*i), "enginetest_value", "a", "2")
		add(-1, "enginetest_value", "a", `quote " slash \ and line`+"\n", "b", "ö")
		if i >= 8 {
			add(float64(i), "enginetest_late")
		}
	}
	return out
}

// TestQuerier proves that q answers as engine.Querier promises. The store holds Samples(end); end is a whole minute,
// less than five minutes before the store's clock.
func TestQuerier(t *testing.T, q engine.Querier, end time.Time) {
	end = end.UTC()
	one := map[string]string{"__name__": "enginetest_value", "a": "1", "z": "0"}
	two := map[string]string{"__name__": "enginetest_value", "a": "2"}
	odd := map[string]string{"__name__": "enginetest_value", "a": `quote " slash \ and line` + "\n", "b": "ö"}

	t.Run("an instant query is sorted by labels and carries its time", func(t *testing.T) {
		at := end.Add(-90 * time.Second)
		got, err := q.Query(t.Context(), "enginetest_value", at)
		if err != nil {
			t.Fatal(err)
		}
		want := []engine.Sample{sample(one, 7, at), sample(two, 70, at), sample(odd, -1, at)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("the order is that of labels also where PromQL's is another", func(t *testing.T) {
		got, err := q.Query(t.Context(), "sort_desc(enginetest_value)", end)
		if err != nil || len(got) != 3 || got[0].Value != 9 || got[1].Value != 90 || got[2].Value != -1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("the zero time is now", func(t *testing.T) {
		got, err := q.Query(t.Context(), "enginetest_late", time.Time{})
		if err != nil || len(got) != 1 || got[0].Value != 9 || got[0].Time.Before(end) {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a scalar is one sample without labels", func(t *testing.T) {
		got, err := q.Query(t.Context(), "scalar(enginetest_late) + 0.5", end)
		if diff := cmp.Diff([]engine.Sample{sample(map[string]string{}, 9.5, end)}, got); diff != "" || err != nil {
			t.Errorf("%v, (-want +got):\n%s", err, diff)
		}
	})
	t.Run("no series is an empty answer", func(t *testing.T) {
		got, err := q.Query(t.Context(), "enginetest_none", end)
		series, err2 := q.QueryRange(t.Context(), "enginetest_none", end, end, time.Minute)
		if err != nil || err2 != nil || len(got) != 0 || len(series) != 0 {
			t.Errorf("got %v, %v and %v, %v", got, err, series, err2)
		}
	})
	t.Run("NaN and infinities are answers", func(t *testing.T) {
		got, err := q.Query(t.Context(), `enginetest_late / (enginetest_late - 9) or label_replace(vector(NaN), "x", "a", "", "") or label_replace(vector(-Inf), "x", "b", "", "")`, end)
		var text []string
		for _, s := range got {
			text = append(text, fmt.Sprintf("%s=%g", s.Labels["x"], s.Value))
		}
		if diff := cmp.Diff("=+Inf a=NaN b=-Inf", strings.Join(text, " ")); diff != "" || err != nil {
			t.Errorf("%v, (-want +got):\n%s", err, diff)
		}
	})
	t.Run("a range query has its first and last step and leaves out what is missing", func(t *testing.T) {
		from := end.Add(-3 * time.Minute)
		got, err := q.QueryRange(t.Context(), `{__name__=~"enginetest_late|enginetest_value",b=""}`, from, end, 90*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		middle := from.Add(90 * time.Second)
		want := []engine.Series{
			{Labels: map[string]string{"__name__": "enginetest_late"}, Points: []engine.Point{point(end, 9)}},
			{Labels: one, Points: []engine.Point{point(from, 6), point(middle, 7), point(end, 9)}},
			{Labels: two, Points: []engine.Point{point(from, 60), point(middle, 70), point(end, 90)}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("steps of a fraction of a second are kept", func(t *testing.T) {
		got, err := q.QueryRange(t.Context(), "vector(1)", end, end.Add(time.Second), 250*time.Millisecond)
		if err != nil || len(got) != 1 || len(got[0].Points) != 5 || !got[0].Points[1].Time.Equal(end.Add(250*time.Millisecond)) {
			t.Errorf("got %v, %v", got, err)
		}
	})
	for name, expr := range map[string]string{"a string": `"text"`, "a range vector": "enginetest_value[5m]", "bad PromQL": "sum(", "a failing query": `enginetest_value * on () enginetest_value`} {
		t.Run(name+" is an error that names the query", func(t *testing.T) {
			got, err := q.Query(t.Context(), expr, end)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", expr)) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("a range that ends before it begins, and a step of nothing, are errors", func(t *testing.T) {
		if _, err := q.QueryRange(t.Context(), "vector(1)", end, end.Add(-time.Minute), time.Minute); err == nil {
			t.Error("a range backwards is accepted")
		}
		if _, err := q.QueryRange(t.Context(), "vector(1)", end, end, 0); err == nil {
			t.Error("a step of 0 is accepted")
		}
	})
	t.Run("a query ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Query(ctx, "enginetest_value", end); err == nil {
			t.Error("no error")
		}
		if _, err := q.QueryRange(ctx, "enginetest_value", end, end, time.Minute); err == nil {
			t.Error("no error of a range")
		}
	})
	t.Run("warnings reach the context and are no errors", func(t *testing.T) {
		ctx, warnings := engine.WithWarnings(t.Context())
		got, err := q.Query(ctx, "quantile(2, enginetest_value)", end)
		if err != nil || len(got) != 1 || !math.IsInf(got[0].Value, 1) {
			t.Errorf("got %v, %v", got, err)
		}
		if list := warnings.List(); len(list) != 1 || !strings.Contains(list[0], "quantile") {
			t.Errorf("warnings %q", list)
		}
		if _, err := q.QueryRange(ctx, "quantile(3, enginetest_value)", end, end, time.Minute); err != nil {
			t.Error(err)
		}
		if list := warnings.List(); len(list) != 2 {
			t.Errorf("warnings of both queries: %q", list)
		}
	})
	t.Run("many may ask at once", func(t *testing.T) {
		var wg sync.WaitGroup
		errs := make([]error, 20)
		for i := range errs {
			wg.Go(func() {
				expr := fmt.Sprintf("sum(enginetest_value) + %d", i)
				got, err := q.Query(t.Context(), expr, end)
				if err == nil && (len(got) != 1 || got[0].Value != float64(98+i)) {
					err = fmt.Errorf("%s: got %v", expr, got)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
}

func sample(labels map[string]string, v float64, at time.Time) engine.Sample {
	return engine.Sample{Labels: labels, Value: v, Time: at}
}

func point(at time.Time, v float64) engine.Point { return engine.Point{Time: at, Value: v} }
