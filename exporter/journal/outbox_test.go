package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/exporter"
)

func openOutbox(t *testing.T, path string, limit int, sinks ...string) *Journal {
	t.Helper()
	j, err := Open(path, Options{Now: func() time.Time { return day }, Outboxes: sinks, OutboxLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// waiting gives the ids of the runs that wait for a sink, in order.
func waiting(t *testing.T, j *Journal, sink string) (ids []string) {
	t.Helper()
	unsent, err := j.Waiting(sink, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range unsent {
		ids = append(ids, u.Run.ID.Key)
	}
	if n := j.Snapshot().Outbox[sink].Waiting; n != len(ids) {
		t.Errorf("the snapshot says that %d runs wait; there are %d", n, len(ids))
	}
	return ids
}

func sent(t *testing.T, j *Journal, sink string, n int) {
	t.Helper()
	unsent, err := j.Waiting(sink, n)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, u := range unsent {
		keys = append(keys, u.Key)
	}
	if err := j.Sent(context.Background(), sink, keys); err != nil {
		t.Fatal(err)
	}
}

func news(keys ...string) exporter.Batch {
	b := exporter.Batch{Cursor: "c"}
	for i, k := range keys {
		b.Runs = append(b.Runs, run(k, exporter.ResultSuccess, exporter.AttemptFirst, day.Add(time.Duration(i)*time.Minute)))
	}
	return b
}

func TestEachCountedRunWaitsOnceForEachSink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openOutbox(t, path, 0, "loki", "otlp")
	commit(t, j, exporter.Batch{Runs: news("old").Runs, Cursor: "h", History: true})
	going := run("going", "", exporter.AttemptFirst, time.Time{})
	going.State = exporter.StateExecuting
	commit(t, j, exporter.Batch{Runs: []exporter.Run{going}})
	commit(t, j, news("a", "b"))
	commit(t, j, news("a", "b"))
	sent(t, j, "otlp", 1)
	commit(t, j, news("a", "b"))
	_ = j.Close()
	j = openOutbox(t, path, 0, "loki", "otlp")
	if d := cmp.Diff([][]string{{"a", "b"}, {"b"}}, [][]string{waiting(t, j, "loki"), waiting(t, j, "otlp")}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestACrashAtEachPointLeavesARunCountedAndWaitingOrNeither(t *testing.T) {
	for _, stage := range []string{"begin", "applied", "stored", "committed"} {
		t.Run(stage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			j := openOutbox(t, path, 0, "otlp")
			j.fail = func(at string) error {
				if at == stage {
					return errors.New("crash")
				}
				return nil
			}
			if err := j.Commit(context.Background(), news("a")); err == nil {
				t.Fatal("Commit succeeded in spite of the crash")
			}
			_ = j.Close()
			j = openOutbox(t, path, 0, "otlp")
			if n, w := total(j), len(waiting(t, j, "otlp")); int(n) != w {
				t.Errorf("after the crash %d runs are counted and %d wait", n, w)
			}
			commit(t, j, news("a"))
			if n, w := total(j), len(waiting(t, j, "otlp")); n != 1 || w != 1 {
				t.Errorf("after the repeated commit %d runs are counted and %d wait; want 1 and 1", n, w)
			}
		})
	}
}

func TestAFullOutboxDropsTheEarliestFinish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openOutbox(t, path, 3, "loki", "otlp")
	commit(t, j, news("a", "b"))
	sent(t, j, "loki", 2)
	commit(t, j, exporter.Batch{Runs: []exporter.Run{
		run("e", exporter.ResultSuccess, exporter.AttemptFirst, day.Add(4*time.Minute)),
		run("d", exporter.ResultSuccess, exporter.AttemptFirst, day.Add(3*time.Minute)),
		run("too old", exporter.ResultSuccess, exporter.AttemptFirst, day.Add(-time.Hour)),
	}})
	if d := cmp.Diff([][]string{{"too old", "d", "e"}, {"b", "d", "e"}}, [][]string{waiting(t, j, "loki"), waiting(t, j, "otlp")}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s := j.Snapshot().Outbox; s["loki"].Dropped != 0 || s["otlp"].Dropped != 2 {
		t.Errorf("dropped: %+v; want none for loki, 2 for otlp", s)
	}
	if n := total(j); n != 5 {
		t.Errorf("counted %d; want all 5", n)
	}
}

func TestTheOutboxOfARemovedSinkIsDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openOutbox(t, path, 0, "loki", "otlp")
	commit(t, j, news("a"))
	_ = j.Close()
	j = openOutbox(t, path, 0, "otlp")
	commit(t, j, news("b"))
	_ = j.Close()
	j = openOutbox(t, path, 0, "loki", "otlp")
	if d := cmp.Diff([][]string{nil, {"a", "b"}}, [][]string{waiting(t, j, "loki"), waiting(t, j, "otlp")}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := j.Waiting("unknown", 1); err == nil {
		t.Error("an unknown sink has an outbox")
	}
}

// store takes runs as a trace store does: one that comes twice is kept once.
type store struct {
	kept  map[string]exporter.Run
	sends int
	after func()
}

func (*store) Name() string { return "otlp" }

func (s *store) Send(_ context.Context, runs []exporter.Run) (int, error) {
	s.sends++
	for _, r := range runs {
		if old, ok := s.kept[r.ID.Key]; ok && !cmp.Equal(old, r) {
			return 0, fmt.Errorf("run %s came again as another: %s", r.ID, cmp.Diff(old, r))
		}
		s.kept[r.ID.Key] = r
	}
	s.after()
	return 0, nil
}

func TestAKillBetweenSendAndDeleteSendsTheSameAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openOutbox(t, path, 0, "otlp")
	commit(t, j, news("a", "b"))
	to := &store{kept: map[string]exporter.Run{}}
	deliver := func() {
		ctx, kill := context.WithCancel(context.Background())
		defer kill()
		if to.sends == 0 {
			to.after = kill
			j.fail = func(string) error { return errors.New("killed") }
		} else {
			to.after = func() {}
			go func() {
				for j.Snapshot().Outbox["otlp"].Waiting > 0 {
					<-time.After(time.Millisecond)
				}
				kill()
			}()
		}
		o := exporter.DeliverOptions{Outbox: j, Metrics: exporter.NewSinkMetrics(prometheus.NewRegistry())}
		if err := exporter.Deliver(ctx, to, o); !errors.Is(err, context.Canceled) {
			t.Errorf("Deliver: %v", err)
		}
	}
	deliver()
	_ = j.Close()
	j = openOutbox(t, path, 0, "otlp")
	if d := cmp.Diff([]string{"a", "b"}, waiting(t, j, "otlp")); d != "" {
		t.Fatalf("after the kill (-want +got):\n%s", d)
	}
	deliver()
	if to.sends != 2 || len(to.kept) != 2 || len(waiting(t, j, "otlp")) != 0 {
		t.Errorf("%d sends of %d runs, and %v wait; want 2 of 2, and none", to.sends, len(to.kept), waiting(t, j, "otlp"))
	}
}
