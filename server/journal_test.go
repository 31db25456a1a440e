package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
)

// logged hands on the records of one message.
type logged struct {
	slog.Handler
	message string
	records chan slog.Record
}

func (l logged) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message {
		l.records <- r
	}
	return nil
}

func (l logged) WithAttrs([]slog.Attr) slog.Handler { return l }

func TestTheJournalForgetsOldJobsAndKeepsTheirCounts(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	j, err := journal.Open(filepath.Join(dir, "journal.db"), journal.Options{Now: func() time.Time { return now.Add(-recordsKept - time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	job := exporter.Run{
		ID: exporter.RunID{Source: "gitlab", Host: "gitlab.example.com", Key: "42/job/1"}, Level: exporter.LevelTask, Pipeline: "deploy", Name: "build",
		Finished: now.Add(-recordsKept - time.Hour), State: exporter.StateFinished, Result: exporter.ResultSuccess,
	}
	if err := j.Commit(t.Context(), exporter.Batch{Runs: []exporter.Run{job}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	log := logged{slog.NewTextHandler(t.Output(), nil), "the journal was compacted", make(chan slog.Record, 1)}
	_, s, _ := run(t, Options{
		Path: dir, Now: func() time.Time { return now }, Logger: slog.New(log),
		Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") },
	})
	r := <-log.records
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "records" && a.Value.Int64() != 1 {
			t.Errorf("%d records were dropped, want 1", a.Value.Int64())
		}
		return true
	})
	total := uint64(0)
	for _, tally := range s.journal.Snapshot().Tallies {
		total += tally.Count
	}
	if total != 1 {
		t.Errorf("%d runs are counted afterwards, want 1", total)
	}
}
