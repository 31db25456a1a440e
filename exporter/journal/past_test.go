package journal

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
)

func openPast(t *testing.T, path string, now *time.Time) *Journal {
	t.Helper()
	j, err := Open(path, Options{Past: true, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// grown gives what the past holds: the base and the minutes before day of each counter's steps, by result or labels.
func grown(t *testing.T, j *Journal) map[string][]float64 {
	t.Helper()
	p, err := j.Past(t.Context(), "gitlab")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float64{}
	for _, g := range p.Growths {
		name := string(g.Key.Result) + g.Key.Values
		out[name] = append(out[name], g.Base)
		for _, s := range g.Steps {
			out[name] = append(out[name], day.Sub(s.At).Minutes())
		}
	}
	if has := j.HasPast("gitlab"); has != (len(out) > 0) {
		t.Errorf("HasPast is %v with %v", has, out)
	}
	return out
}

func wantGrown(t *testing.T, j *Journal, want map[string][]float64) {
	t.Helper()
	if diff := cmp.Diff(want, grown(t, j)); diff != "" {
		t.Errorf("the past (-want +got):\n%s", diff)
	}
}

func at(minutes int) time.Time { return day.Add(-time.Duration(minutes) * time.Minute) }

func TestHistoryIsPastOnceItIsVisible(t *testing.T) {
	now, path := day, filepath.Join(t.TempDir(), "journal")
	j := openPast(t, path, &now)
	commit(t, j, exporter.Batch{History: true, Cursor: "c", Position: "1", Runs: []exporter.Run{
		run("1", exporter.ResultSuccess, exporter.AttemptFirst, at(90)), run("2", exporter.ResultFailure, exporter.AttemptFirst, at(80)),
	}, Seen: []exporter.Observation{seen("d", exporter.Deployments, 1, at(70), "production", "success")}})
	commit(t, j, exporter.Batch{History: true, Cursor: "c", Position: "2", Runs: []exporter.Run{
		run("1", exporter.ResultSuccess, exporter.AttemptFirst, at(90)), run("3", exporter.ResultSuccess, exporter.AttemptFirst, at(60)),
	}})
	wantGrown(t, j, map[string][]float64{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openPast(t, path, &now)
	host := run("1", exporter.ResultSuccess, exporter.AttemptFirst, day).ID.Host
	if err := j.Settle(t.Context(), "gitlab", host); err != nil {
		t.Fatal(err)
	}
	commit(t, j, exporter.Batch{Cursor: "c", Position: "3", Runs: []exporter.Run{run("4", exporter.ResultSuccess, exporter.AttemptFirst, at(50))}})
	want := map[string][]float64{"success": {0, 90, 60}, "failure": {0, 80}, "production\x1fsuccess": {0, 70}}
	wantGrown(t, j, want)
	// Of a counter that is visible already, history is not taken in.
	commit(t, j, exporter.Batch{History: true, Cursor: "d", Position: "1", Runs: []exporter.Run{run("5", exporter.ResultSuccess, exporter.AttemptFirst, at(40))}})
	if err := j.Settle(t.Context(), "gitlab", host); err != nil {
		t.Fatal(err)
	}
	wantGrown(t, j, want)
	p, err := j.Past(t.Context(), "gitlab")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Growths[0].Settled.Equal(day) {
		t.Errorf("settled at %s, want %s", p.Growths[0].Settled, day)
	}
	if err := j.Release(t.Context(), p, func(exporter.TallyKey) bool { return true }); err != nil {
		t.Fatal(err)
	}
	wantGrown(t, j, map[string][]float64{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	wantGrown(t, openPast(t, path, &now), map[string][]float64{})
}

func TestWhatIsCountedDuringAHoldIsPastUntilItIsReleased(t *testing.T) {
	now, path := day, filepath.Join(t.TempDir(), "journal")
	j := openPast(t, path, &now)
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("1", exporter.ResultSuccess, exporter.AttemptFirst, at(90))}})
	wantGrown(t, j, map[string][]float64{})
	j.Hold("gitlab", day)
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("2", exporter.ResultSuccess, exporter.AttemptFirst, at(30))}})
	if err := j.Close(); err != nil { // nothing was placed: it is found again
		t.Fatal(err)
	}
	now = day.Add(time.Hour)
	j = openPast(t, path, &now)
	j.Hold("gitlab", now)
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("3", exporter.ResultSuccess, exporter.AttemptFirst, at(20))}})
	wantGrown(t, j, map[string][]float64{"success": {1, 30, 20}})
	p, err := j.Past(t.Context(), "gitlab")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	late := run("4", exporter.ResultSuccess, exporter.AttemptFirst, at(10))
	late.Pipeline = "new"
	commit(t, j, exporter.Batch{Runs: []exporter.Run{late}})
	j.fail = func(stage string) error {
		if stage == "stored" {
			return errors.New("the disk is full")
		}
		return nil
	}
	if err := j.Release(t.Context(), p, func(exporter.TallyKey) bool { return false }); err == nil {
		t.Error("a release that was not stored gives no error")
	}
	j.fail = nil
	if _, held := j.Held("gitlab"); !held {
		t.Error("a release that was not stored ended the hold")
	}
	now = now.Add(time.Minute)
	if err := j.Release(t.Context(), p, func(exporter.TallyKey) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if since, held := j.Held("gitlab"); held {
		t.Errorf("held since %s after the release", since)
	}
	wantGrown(t, j, map[string][]float64{})
	for _, tally := range j.Snapshot().Tallies { // what began meanwhile was never seen at zero
		if want := tally.Key.Pipeline == "new"; want != tally.Created.Equal(now) {
			t.Errorf("%v was created at %s; now is %s", tally.Key, tally.Created, now)
		}
	}
	commit(t, j, exporter.Batch{Runs: []exporter.Run{run("5", exporter.ResultSuccess, exporter.AttemptFirst, at(5))}})
	wantGrown(t, j, map[string][]float64{})
}

func TestTheTimesOfHistoryThatWereNotAllKeptAreForgotten(t *testing.T) {
	now, path := day, filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path) // as an earlier version
	commit(t, j, exporter.Batch{History: true, Cursor: "c", Position: "1", Runs: []exporter.Run{run("1", exporter.ResultSuccess, exporter.AttemptFirst, at(90))}})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openPast(t, path, &now)
	commit(t, j, exporter.Batch{History: true, Cursor: "c", Position: "2", Runs: []exporter.Run{
		run("2", exporter.ResultSuccess, exporter.AttemptFirst, at(80)), run("3", exporter.ResultFailure, exporter.AttemptFirst, at(70)),
	}})
	commit(t, j, exporter.Batch{Cursor: "c", Position: "3"})
	wantGrown(t, j, map[string][]float64{"failure": {0, 70}})
}
