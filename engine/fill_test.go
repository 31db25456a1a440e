package engine

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// now is the time of the tests that fill the past.
var now = time.Date(2026, 3, 4, 10, 2, 30, 0, time.UTC)

// runsAt is a counter of runs that finished at times, in minutes before until.
func runsAt(until time.Time, minutes ...int) Past {
	p := Past{Series{Labels: map[string]string{"__name__": "runs_total", "entity": "checkout"}}, until}
	p.Points = append(p.Points, Point{until.Add(-time.Duration(minutes[0]+5) * time.Minute), 0})
	for i, m := range minutes {
		p.Points = append(p.Points, Point{until.Add(-time.Duration(m) * time.Minute), float64(i + 1)})
	}
	return p
}

func openAt(t *testing.T, path string, now time.Time) *Engine {
	t.Helper()
	e, err := Open(Options{Path: path, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func answer(t *testing.T, e *Engine, expr string, at time.Time) string {
	t.Helper()
	got, err := e.Query(t.Context(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		return strconv.Itoa(len(got)) + " series"
	}
	return strconv.FormatFloat(got[0].Value, 'g', 4, 64)
}

func fill(t *testing.T, e *Engine, want int, pasts ...Past) {
	t.Helper()
	if got, err := e.Fill(t.Context(), pasts); err != nil || got != want {
		t.Fatalf("filled %d counters (%v), want %d", got, err, want)
	}
}

const thirtyDays = `increase(runs_total[30d] anchored)`

func TestAFilledPastIsCountedAndJoinsWhatComesAfter(t *testing.T) {
	path := t.TempDir()
	e := openAt(t, path, now)
	past := runsAt(now, 6*1440, 6*1440-1, 3*1440, 300, 200, 30)
	if err := e.Append(t.Context(), []Sample{ // the store was at work before, and goes on
		{Labels: map[string]string{"__name__": "other"}, Value: 1, Time: now.Add(-150 * time.Minute)},
		{Labels: past.Labels, Value: 6, Time: now.Add(time.Minute)},
		{Labels: past.Labels, Value: 7, Time: now.Add(2 * time.Minute)},
	}); err != nil {
		t.Fatal(err)
	}
	fill(t, e, 1, past)
	check := func(e *Engine) {
		t.Helper()
		for expr, want := range map[string]string{
			thirtyDays:                            "7",
			`increase(runs_total[1d] anchored)`:   "4", // 300, 200 and 30 minutes ago, and the one after now
			`increase(runs_total[1h])`:            "2",
			`resets(runs_total[30d])`:             "0",
			`runs_total offset 2d`:                "3",
			`count_over_time(other[1d])`:          "1",
			`increase(runs_total[10m] offset 6d)`: "2",
		} {
			if got := answer(t, e, expr, now.Add(3*time.Minute)); got != want && !near(got, want) {
				t.Errorf("%s is %s, want %s", expr, got, want)
			}
		}
	}
	check(e)
	fill(t, e, 1, past) // again, as after a crash before it was noted
	check(e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	check(openAt(t, path, now))
}

// near allows for the extrapolation of what is not anchored.
func near(got, want string) bool {
	g, _ := strconv.ParseFloat(got, 64)
	w, _ := strconv.ParseFloat(want, 64)
	return g > 0.9*w && g < 1.2*w
}

func TestAFillLeavesAloneWhatContradictsIt(t *testing.T) {
	label := map[string]string{"__name__": "runs_total", "entity": "checkout"}
	for name, held := range map[string]Sample{
		"a greater value before it": {label, 3, now.Add(-40 * time.Minute)},
		"another value within it":   {label, 2, now.Add(-10 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			e := openAt(t, t.TempDir(), now)
			if err := e.Append(t.Context(), []Sample{held}); err != nil {
				t.Fatal(err)
			}
			fill(t, e, 0, runsAt(now, 30))
			if got := answer(t, e, `count_over_time(runs_total[1h])`, now); got != "1" {
				t.Errorf("the store has %s samples, want the one that it had", got)
			}
		})
	}
}

func TestAFillThatWasCutOffIsCompletedOrForgotten(t *testing.T) {
	for name, ready := range map[string]bool{"all blocks were written": true, "some blocks were not written": false} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			dir := filepath.Join(path, fillFolder)
			if err := os.MkdirAll(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			if err := WriteBlock(t.Context(), dir, []Series{runsAt(now, 3000, 2000).Series}); err != nil {
				t.Fatal(err)
			}
			want := "0 series"
			if ready {
				want = "2"
				if err := os.WriteFile(filepath.Join(dir, fillReady), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			e := openAt(t, path, now)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openAt(t, path, now)
			if got := answer(t, e, `max_over_time(runs_total[7d])`, now); got != want {
				t.Errorf("the store has %s, want %s", got, want)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the folder of the fill is still there (%v)", err)
			}
		})
	}
}

func TestRulesAreEvaluatedInThePastWhereTheyWereNot(t *testing.T) {
	e := openAt(t, t.TempDir(), now)
	if err := e.SetRules(map[string][]byte{"r": []byte(`
groups:
- name: period
  interval: 5m
  rules:
  - {record: "base:rate5m", expr: "sum(rate(runs_total[5m] anchored))", labels: {id: wanted}}
  - {record: "base:rate5m", expr: "sum(rate(runs_total[5m] anchored))", labels: {id: other}}
  - {record: "sum:30d", expr: "sum_over_time(base:rate5m[30d])"}
`)}); err != nil {
		t.Fatal(err)
	}
	fill(t, e, 1, runsAt(now, 5*1440, 5*1440-7, 4*1440, 300, 200, 30))
	wanted := func(l map[string]string) bool { return l["id"] == "wanted" }
	for range 2 { // the second time changes nothing
		if err := e.Backfill(context.WithoutCancel(t.Context()), []string{"base:rate5m"}, wanted, now.Add(-30*24*time.Hour), now); err != nil {
			t.Fatal(err)
		}
		if got := answer(t, e, `sum_over_time(base:rate5m[30d]) * 300`, now); got != "6" {
			t.Errorf("the base counts %s events, want 6", got)
		}
	}
	// What was recorded at the time stays, and what comes goes on without a gap or an overlap.
	if err := e.Evaluate(t.Context(), now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := e.Query(t.Context(), `count_over_time(base:rate5m[40d])`, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, s := range got {
		counts[s.Labels["id"]] = s.Value
	}
	if diff := cmp.Diff(map[string]float64{"wanted": 5*288 + 2, "other": 1}, counts); diff != "" {
		t.Errorf("recorded samples (-want +got):\n%s", diff)
	}
}
