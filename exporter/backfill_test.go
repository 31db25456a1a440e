package exporter

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sightline-dev/sightline/catalog"
)

// archive is a source whose first reading takes four projects of forty seconds each.
type archive struct{ done int }

func (*archive) Name() string                 { return "gitlab" }
func (*archive) Host() string                 { return "gitlab.example.com" }
func (a *archive) Backfilled() (done, of int) { return a.done, 4 }

func (a *archive) Sync(ctx context.Context, _ *catalog.Graph, to Sink) error {
	for a.done < 4 {
		time.Sleep(40 * time.Second) // of the test's clock
		a.done++
		if err := to.Commit(ctx, Batch{}); err != nil {
			return err
		}
	}
	return nil
}

type sinkhole struct{}

func (sinkhole) Commit(context.Context, Batch) error       { return nil }
func (sinkhole) Position(string) (string, bool)            { return "", false }
func (sinkhole) Positions(prefix string) map[string]string { return nil }

func TestAFirstReadingTellsHowFarItHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := catalog.NewGraph(nil, catalog.NewRef("group", "", "platform"))
		m := NewSourceMetrics(prometheus.NewRegistry())
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		go func() {
			_ = Follow(ctx, &archive{}, FollowOptions{Graph: func() *catalog.Graph { return g }, Sink: sinkhole{}, Metrics: m, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		}()
		var ratios []float64
		for range 5 {
			time.Sleep(41 * time.Second) // of the test's clock
			ratios = append(ratios, testutil.ToFloat64(m.backfill.WithLabelValues("gitlab", "gitlab.example.com")))
		}
		if d := cmp.Diff([]float64{0.25, 0.5, 0.75, 1, 1}, ratios); d != "" {
			t.Errorf("sightline_source_backfill_ratio (-want +got):\n%s", d)
		}
		cancel()
		synctest.Wait()
		var lines []string
		for l := range strings.Lines(log.String()) {
			_, l, _ = strings.Cut(strings.TrimSpace(l), "level=INFO ")
			lines = append(lines, l)
		}
		want := []string{
			`msg="history is being read; what has been read is shown already" source=gitlab host=gitlab.example.com done=1 of=4`,
			`msg="history is being read; what has been read is shown already" source=gitlab host=gitlab.example.com done=3 of=4`,
			`msg="history has been read" source=gitlab host=gitlab.example.com of=4`,
		}
		if d := cmp.Diff(want, lines); d != "" {
			t.Errorf("log (-want +got):\n%s", d)
		}
	})
}
