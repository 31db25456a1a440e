package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// FillStep is the spacing of the samples that Fill repeats between changes.
const FillStep = 5 * time.Minute

// fillLookback is how far before its first point Fill looks at what a counter was.
const fillLookback = time.Hour

// A Past is a counter in the past: its value from each point on, until a time. Points stand in the order of time.
type Past struct {
	Series
	Until time.Time
}

// at gives the value at a time that is not before the first point.
func (p *Past) at(t int64) float64 {
	i := sort.Search(len(p.Points), func(i int) bool { return p.Points[i].Time.UnixMilli() > t })
	return p.Points[max(i-1, 0)].Value
}

// samples yields the points in [from, to), and between them and until the end the same value at every multiple of FillStep.
func (p *Past) samples(from, to int64, yield func(t int64, v float64) error) error {
	step := FillStep.Milliseconds()
	to = min(to, p.Until.UnixMilli()+1)
	for i, point := range p.Points {
		t := point.Time.UnixMilli()
		next := to
		if i+1 < len(p.Points) {
			next = min(p.Points[i+1].Time.UnixMilli(), to)
		}
		if t >= to {
			break
		}
		if t >= from && t < next {
			if err := yield(t, point.Value); err != nil {
				return err
			}
		}
		repeat := max(t+1, from)
		for t = (repeat + step - 1) / step * step; t < next; t += step {
			if err := yield(t, point.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// Fill writes counters into the past, where the store holds nothing of them: what is older than all that the store keeps in
// memory as blocks, a day each, which appear all together or, after a crash, not at all; what is newer as late samples. A
// counter that contradicts what the store holds is left alone: one that was greater within the hour before its first
// point, or that has another value in between. So the same Past may be filled again. All of it can be queried when
// Fill returns. What is older than the retention only counts for the first value. filled is the number of counters that were not left alone.
func (e *Engine) Fill(ctx context.Context, pasts []Past) (filled int, err error) {
	e.filling.Lock()
	defer e.filling.Unlock()
	if e.closed() {
		return 0, errClosed
	}
	oldest := e.now().Add(-e.opts.Retention)
	for i := range pasts {
		if n := sort.Search(len(pasts[i].Points), func(n int) bool { return pasts[i].Points[n].Time.After(oldest) }); n > 1 {
			pasts[i].Points = slices.Clone(pasts[i].Points[n-1:])
			pasts[i].Points[0].Time = oldest
		}
	}
	pasts, err = e.uncontradicted(ctx, pasts)
	if err != nil || len(pasts) == 0 {
		return 0, err
	}
	first, until := pasts[0].Points[0].Time.UnixMilli(), int64(0)
	for i := range pasts {
		first, until = min(first, pasts[i].Points[0].Time.UnixMilli()), max(until, pasts[i].Until.UnixMilli()+1)
	}
	err = e.writePast(ctx, first, until, func(from, to int64, add adder) error {
		for i := range pasts {
			if err := pasts[i].samples(from, to, add(labels.FromMap(pasts[i].Labels))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("fill the past: %w", err)
	}
	return len(pasts), nil
}

// An adder begins a series; what it gives takes the samples, in the order of time.
type adder = func(labels.Labels) func(t int64, v float64) error

// writePast writes what samples gives for the parts of [first, until) into the store.
func (e *Engine) writePast(ctx context.Context, first, until int64, samples func(from, to int64, add adder) error) error {
	border := e.border()
	if until > border {
		if err := e.writeLate(ctx, max(first, border), until, samples); err != nil {
			return err
		}
	}
	if first < border {
		return e.writeBlocks(ctx, first, min(until, border), samples)
	}
	return nil
}

// border is the time from which on samples must not lie in blocks of ours: the store takes what its newest block covers for
// the end of its log, and would forget what it keeps in memory beside it.
func (e *Engine) border() int64 {
	border := int64(0)
	for _, b := range e.db.Blocks() {
		if m := b.Meta(); !m.Compaction.FromOutOfOrder() {
			border = max(border, m.MaxTime)
		}
	}
	if border == 0 {
		border = min(e.db.Head().MinTime(), e.now().UnixMilli())
	}
	return border
}

// uncontradicted gives the counters that do not contradict what the store holds.
func (e *Engine) uncontradicted(ctx context.Context, pasts []Past) ([]Past, error) {
	type span struct{ from, to int64 }
	spans := map[string]span{}
	byLabels := map[uint64][]int{}
	all := make([]labels.Labels, len(pasts))
	for i := range pasts {
		p := &pasts[i]
		if len(p.Points) == 0 {
			return nil, fmt.Errorf("fill %v: no points", p.Labels)
		}
		all[i] = labels.FromMap(p.Labels)
		byLabels[all[i].Hash()] = append(byLabels[all[i].Hash()], i)
		from, to := p.Points[0].Time.Add(-fillLookback).UnixMilli(), p.Until.UnixMilli()
		s, ok := spans[p.Labels[model.MetricNameLabel]]
		if !ok {
			s = span{from, to}
		}
		spans[p.Labels[model.MetricNameLabel]] = span{min(s.from, from), max(s.to, to)}
	}
	contradicted := make([]bool, len(pasts))
	for name, s := range spans {
		err := e.each(ctx, s.from, s.to, labels.FromStrings(model.MetricNameLabel, name), func(l labels.Labels, it chunkenc.Iterator) error {
			var mine []int
			for _, i := range byLabels[l.Hash()] {
				if labels.Equal(all[i], l) {
					mine = append(mine, i)
				}
			}
			if len(mine) == 0 {
				return nil
			}
			for it.Next() == chunkenc.ValFloat {
				t, v := it.At()
				if value.IsStaleNaN(v) {
					continue
				}
				for _, i := range mine {
					p := &pasts[i]
					switch first := p.Points[0].Time.UnixMilli(); {
					case t > p.Until.UnixMilli() || t < first-fillLookback.Milliseconds():
					case t < first:
						contradicted[i] = contradicted[i] || v > p.Points[0].Value
					default:
						contradicted[i] = contradicted[i] || v != p.at(t)
					}
				}
			}
			return it.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	var out []Past
	for i := range pasts {
		if !contradicted[i] {
			out = append(out, pasts[i])
		}
	}
	return out, nil
}

// each calls do for each series with all of these labels, and maybe more, that has samples in [from, to].
func (e *Engine) each(ctx context.Context, from, to int64, with labels.Labels, do func(labels.Labels, chunkenc.Iterator) error) (err error) {
	q, err := e.db.Querier(from, to)
	if err != nil {
		return fmt.Errorf("read what the store holds of %s: %w", with, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var matchers []*labels.Matcher
	with.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	set := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to}, matchers...)
	for set.Next() {
		if err := do(set.At().Labels(), set.At().Iterator(nil)); err != nil {
			return err
		}
	}
	return set.Err()
}

// writeLate appends.
func (e *Engine) writeLate(ctx context.Context, from, to int64, samples func(from, to int64, add adder) error) error {
	app, n := e.db.Appender(ctx), 0
	err := samples(from, to, func(l labels.Labels) func(int64, float64) error {
		ref := storage.SeriesRef(0)
		return func(t int64, v float64) (err error) {
			ref, err = app.Append(ref, l, t, v)
			if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
				return nil // written before
			}
			n++
			return err
		}
	})
	if err != nil {
		return errors.Join(err, app.Rollback())
	}
	if err := app.Commit(); err != nil {
		return err
	}
	if n >= manySamples {
		e.db.ForceHeadMMap()
	}
	return nil
}

const dayMilli = int64(24 * time.Hour / time.Millisecond)

// writeBlocks writes blocks beside the store, and then moves them in.
func (e *Engine) writeBlocks(ctx context.Context, first, last int64, samples func(from, to int64, add adder) error) error {
	dir := filepath.Join(e.opts.Path, fillFolder)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	wrote := false
	for from := first; from < last; from = from/dayMilli*dayMilli + dayMilli {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.closed() {
			return errClosed
		}
		to := min(from/dayMilli*dayMilli+dayMilli, last)
		some, err := writeBlock(ctx, dir, dayMilli, func(add adder) error { return samples(from, to, add) })
		if err != nil {
			return err
		}
		wrote = wrote || some
	}
	if !wrote {
		return os.RemoveAll(dir)
	}
	if err := os.WriteFile(filepath.Join(dir, fillReady), nil, 0o640); err != nil {
		return err
	}
	moved, err := moveFill(e.opts.Path)
	if err != nil {
		return err
	}
	return e.loaded(ctx, moved)
}

const (
	fillFolder = "fill"  // in the store's folder: blocks that are being written
	fillReady  = "ready" // in it: all of them are
)

// moveFill moves the blocks of a Fill that were all written into the store, and deletes those of one that was cut off.
func moveFill(path string) (moved []ulid.ULID, err error) {
	dir := filepath.Join(path, fillFolder)
	if _, err := os.Stat(filepath.Join(dir, fillReady)); errors.Is(err, fs.ErrNotExist) {
		return nil, os.RemoveAll(dir)
	} else if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		id, err := ulid.ParseStrict(entry.Name())
		if err != nil {
			continue
		}
		if err := os.Rename(filepath.Join(dir, entry.Name()), filepath.Join(path, entry.Name())); err != nil {
			return nil, err
		}
		moved = append(moved, id)
	}
	return moved, os.RemoveAll(dir)
}

// loaded waits until the store has taken up blocks; it looks for new ones by itself every blockReload.
func (e *Engine) loaded(ctx context.Context, ids []ulid.ULID) error {
	tick := time.NewTicker(blockReload / 10)
	defer tick.Stop()
	for {
		missing := slices.Clone(ids)
		for _, b := range e.db.Blocks() {
			m := b.Meta()
			missing = slices.DeleteFunc(missing, func(id ulid.ULID) bool {
				return id == m.ULID || slices.Contains(m.Compaction.Sources, id)
			})
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if e.closed() {
				return errClosed
			}
		}
	}
}
