package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/exporter"
)

// The past keeps, for a store that is filled at the times of events, when counters grew that nobody saw grow: all of
// history, and what is counted while its source is held. It is stored in the transaction that counts. A source is held
// while it has not been read completely for long; what reads the counters then leaves its counters out (Held).
//
// A record is what one batch brought to one counter. Its key is source, host, cursor (of history only), the counter's
// fields and a number.

var bucketPast = []byte("past")

// The kinds of records.
const (
	pastHeld    = 'h' // counted while the source was held
	pastHidden  = 'p' // history that is not visible yet
	pastVisible = 'v' // history; when it became visible follows, in unix milliseconds
)

// A Past is what the past holds of a source at one time.
type Past struct {
	Source  string
	Growths []exporter.Growth
	keys    [][]byte
}

// loadPast deletes what was kept for a store that is not there any more.
func (j *Journal) loadPast(tx *bolt.Tx) error {
	if j.o.Past {
		return nil
	}
	if err := tx.DeleteBucket(bucketPast); err != nil {
		return err
	}
	_, err := tx.CreateBucket(bucketPast)
	return err
}

// Hold begins to hold a source, whose counters were last seen at a time. It is forgotten with Close.
func (j *Journal) Hold(source string, since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held[source] = since
}

// Held tells whether a source is held, and since when.
func (j *Journal) Held(source string) (since time.Time, held bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	since, held = j.held[source]
	return since, held
}

// grew notes that a counter grew, if that belongs to the past.
func (c *change) grew(k exporter.TallyKey, host string, b *exporter.Batch, at time.Time, by float64) {
	if _, held := c.held[k.Source]; !c.j.o.Past || !b.History && !held {
		return
	}
	if !k.IsCounter() {
		return
	}
	h := historyKey{"", k.Source, host, k}
	if b.History {
		h.cursor = b.Cursor
	}
	c.grown[h] = append(c.grown[h], exporter.Step{At: at, By: by})
}

// storePast stores what a batch noted.
func (c *change) storePast(b *exporter.Batch) error {
	past := c.tx.Bucket(bucketPast)
	for h, steps := range c.grown {
		seq, err := past.NextSequence()
		if err != nil {
			return err
		}
		v := []byte{pastHeld}
		if b.History {
			v[0] = pastHidden
		}
		for _, s := range steps {
			v = binary.AppendVarint(v, s.At.UnixMilli())
			v = binary.AppendUvarint(v, math.Float64bits(s.By))
		}
		if err := past.Put(fmt.Appendf(pastPrefix(h), "%016x", seq), v); err != nil {
			return err
		}
	}
	clear(c.grown)
	return nil
}

func pastPrefix(h historyKey) []byte {
	return []byte(strings.Join(append([]string{h.source, h.host, h.cursor}, h.key.Fields()...), "\x00") + "\x00")
}

// releasePast makes the past of history visible with the history itself. Where it does not account for the whole, as after
// an update of the program in between, or where the history is not taken in, it is forgotten.
func (c *change) releasePast(h historyKey, t *exporter.Tally, taken bool) error {
	if !c.j.o.Past {
		return nil
	}
	past, prefix := c.tx.Bucket(bucketPast), pastPrefix(h)
	records, sum := map[string][]byte{}, 0.0
	cur := past.Cursor()
	for k, v := cur.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cur.Next() {
		_, steps, err := decodePast(v)
		if err != nil {
			return err
		}
		for _, s := range steps {
			sum += s.By
		}
		records[string(k)] = slices.Clone(v)
	}
	for k, v := range records {
		if !taken || math.Abs(sum-t.Total()) > 1e-6*max(1, sum) {
			if err := past.Delete([]byte(k)); err != nil {
				return err
			}
			continue
		}
		visible := binary.AppendVarint([]byte{pastVisible}, c.now.UnixMilli())
		if err := past.Put([]byte(k), append(visible, v[1:]...)); err != nil {
			return err
		}
	}
	return nil
}

// decodePast gives the steps of a record, and when it became visible.
func decodePast(v []byte) (visible time.Time, steps []exporter.Step, err error) {
	bad := fmt.Errorf("%w: bad record of the past", errCorrupt)
	if len(v) == 0 {
		return visible, nil, bad
	}
	r := bytes.NewReader(v[1:])
	if v[0] == pastVisible {
		ms, err := binary.ReadVarint(r)
		if err != nil {
			return visible, nil, bad
		}
		visible = time.UnixMilli(ms).UTC()
	}
	for r.Len() > 0 {
		ms, err := binary.ReadVarint(r)
		if err != nil {
			return visible, nil, bad
		}
		bits, err := binary.ReadUvarint(r)
		if err != nil {
			return visible, nil, bad
		}
		steps = append(steps, exporter.Step{At: time.UnixMilli(ms).UTC(), By: math.Float64frombits(bits)})
	}
	return visible, steps, nil
}

// HasPast tells whether the past holds anything of a source, history that is not visible yet left out.
func (j *Journal) HasPast(source string) bool {
	found := false
	_ = j.db.View(func(tx *bolt.Tx) error {
		prefix := []byte(source + "\x00")
		cur := tx.Bucket(bucketPast).Cursor()
		for k, v := cur.Seek(prefix); bytes.HasPrefix(k, prefix) && !found; k, v = cur.Next() {
			found = v[0] != pastHidden
		}
		return nil
	})
	return found
}

// Past gives what the past holds of a source, history that is not visible yet left out.
func (j *Journal) Past(ctx context.Context, source string) (*Past, error) {
	p := &Past{Source: source}
	return p, j.send(ctx, &request{err: make(chan error, 1), do: func(c *change) error {
		*p = Past{Source: source}
		at := map[exporter.TallyKey]int{}
		prefix := []byte(source + "\x00")
		cur := c.tx.Bucket(bucketPast).Cursor()
		for k, v := cur.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cur.Next() {
			if v[0] == pastHidden {
				continue
			}
			f := strings.Split(string(k), "\x00")
			key, ok := exporter.KeyOfFields(f[min(3, len(f)):max(3, len(f)-1)])
			visible, steps, err := decodePast(v)
			if !ok || err != nil {
				return fmt.Errorf("%w: bad record of the past %q", errCorrupt, k)
			}
			i, known := at[key]
			if !known {
				i = len(p.Growths)
				at[key] = i
				p.Growths = append(p.Growths, exporter.Growth{Key: key})
			}
			g := &p.Growths[i]
			g.Steps = append(g.Steps, steps...)
			if visible.After(g.Settled) {
				g.Settled = visible
			}
			p.keys = append(p.keys, slices.Clone(k))
		}
		for i := range p.Growths {
			g := &p.Growths[i]
			if !g.Settled.IsZero() {
				continue
			}
			t := c.current(g.Key)
			if t == nil {
				return fmt.Errorf("%w: the past of no counter", errCorrupt)
			}
			g.Base = t.Total()
			for _, s := range g.Steps {
				g.Base -= s.By
			}
		}
		return nil
	}})
}

// current is the visible tally of a key within this transaction.
func (c *change) current(k exporter.TallyKey) *exporter.Tally {
	if t := c.tallies[k]; t != nil {
		return t
	}
	return c.old.tallies[k]
}

// Release forgets a Past and ends the hold of its source. What was counted after the Past was taken is seen to grow now. A
// counter that began during the hold, and that is not among those that were placed in the store, is created anew: whoever
// reads it next has never seen it at zero.
func (j *Journal) Release(ctx context.Context, p *Past, placed func(exporter.TallyKey) bool) error {
	return j.send(ctx, &request{err: make(chan error, 1), do: func(c *change) error {
		past := c.tx.Bucket(bucketPast)
		for _, k := range p.keys {
			if err := past.Delete(k); err != nil {
				return err
			}
		}
		since, held := c.held[p.Source]
		if !held {
			return nil
		}
		prefix := []byte(p.Source + "\x00")
		var rest [][]byte
		cur := past.Cursor()
		for k, v := cur.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cur.Next() {
			if v[0] == pastHeld {
				rest = append(rest, slices.Clone(k))
			}
		}
		for _, k := range rest {
			if err := past.Delete(k); err != nil {
				return err
			}
		}
		renew := func(k exporter.TallyKey) {
			if t := c.current(k); !placed(k) && !t.Created.IsZero() {
				t = t.Clone()
				t.Created, c.tallies[k] = c.now, t
			}
		}
		for _, tallies := range []map[exporter.TallyKey]*exporter.Tally{c.old.tallies, maps.Clone(c.tallies)} {
			for k, t := range tallies {
				if k.Source == p.Source && !t.Created.Before(since) {
					renew(k)
				}
			}
		}
		delete(c.held, p.Source)
		c.released = append(c.released, p.Source)
		return nil
	}})
}
