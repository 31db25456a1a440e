package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// WriteBlock writes series as one block into the folder of a store that is not open. It costs a fraction of the time and
// memory of Append, which keeps all of the past in the head. Blocks of one store must not overlap, and what is appended
// after Open must be newer than the newest block. Series without points are left out.
func WriteBlock(ctx context.Context, path string, series []Series) error {
	var oldest, newest time.Time
	for _, s := range series {
		for _, p := range s.Points {
			if oldest.IsZero() || p.Time.Before(oldest) {
				oldest = p.Time
			}
			if p.Time.After(newest) {
				newest = p.Time
			}
		}
	}
	if oldest.IsZero() {
		return nil
	}
	_, err := writeBlock(ctx, path, newest.Sub(oldest).Milliseconds(), func(add func(labels.Labels) func(int64, float64) error) error {
		for _, s := range series {
			write := add(labels.FromMap(s.Labels))
			for _, p := range s.Points {
				if err := write(p.Time.UnixMilli(), p.Value); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

// writeBlock writes one block of samples, series by series, that lie within a span of milliseconds. It is false when there
// were none, and nothing was written.
func writeBlock(ctx context.Context, path string, span int64, fill func(add func(labels.Labels) func(t int64, v float64) error) error) (written bool, err error) {
	// The head takes samples of half its range; twice the span takes all, in any order of series.
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), path, 2*(span+time.Hour.Milliseconds()))
	if err != nil {
		return false, fmt.Errorf("write block into %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	app := w.Appender(ctx)
	err = fill(func(l labels.Labels) func(int64, float64) error {
		ref := storage.SeriesRef(0)
		return func(t int64, v float64) (err error) {
			if ref, err = app.Append(ref, l, t, v); err != nil {
				return fmt.Errorf("write %s at %s into a block: %w", l, time.UnixMilli(t).UTC().Format(time.RFC3339), err)
			}
			written = true
			return nil
		}
	})
	if err != nil || !written {
		return false, errors.Join(err, app.Rollback())
	}
	if err := app.Commit(); err != nil {
		return false, fmt.Errorf("write block into %s: %w", path, err)
	}
	if _, err := w.Flush(ctx); err != nil {
		return false, fmt.Errorf("write block into %s: %w", path, err)
	}
	return true, nil
}
