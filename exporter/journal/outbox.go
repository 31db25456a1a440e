package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/exporter"
)

// The outbox keeps, for each sink, the runs that were counted as news and have not been sent. A run enters it in the
// transaction that counts it, so it is sent if and only if it was counted; history never enters. It holds OutboxLimit
// runs per sink: when one more comes, the oldest is dropped and counted, so a sink that stays away costs bounded space.

// An outboxes is what stands in memory of the outbox.
type outboxes struct {
	waiting map[string]int
	dropped map[string]uint64 // since the start
}

// loadOutbox makes a bucket for each sink and deletes those of sinks that are gone.
func (j *Journal) loadOutbox(tx *bolt.Tx) error {
	box := tx.Bucket(bucketOutbox)
	var gone [][]byte
	err := box.ForEachBucket(func(name []byte) error {
		if !slices.Contains(j.o.Outboxes, string(name)) {
			gone = append(gone, slices.Clone(name))
		}
		return nil
	})
	for _, name := range gone {
		err = errors.Join(err, box.DeleteBucket(name))
	}
	for _, sink := range j.o.Outboxes {
		b, createErr := box.CreateBucketIfNotExists([]byte(sink))
		if createErr != nil {
			return errors.Join(err, createErr)
		}
		n := 0
		err = errors.Join(err, b.ForEach(func([]byte, []byte) error { n++; return nil }))
		j.state.outbox.waiting[sink], j.state.outbox.dropped[sink] = n, 0
		j.arrived[sink] = make(chan struct{}, 1)
	}
	return err
}

// enqueue puts a run into every outbox, and drops the oldest where there are too many.
func (c *change) enqueue(r *exporter.Run) error {
	if len(c.j.o.Outboxes) == 0 {
		return nil
	}
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, sink := range c.j.o.Outboxes {
		if c.j.o.Wanted != nil && !c.j.o.Wanted(sink, r) {
			continue
		}
		b := c.tx.Bucket(bucketOutbox).Bucket([]byte(sink))
		seq, err := b.NextSequence()
		if err != nil {
			return err
		}
		key := binary.BigEndian.AppendUint64(nil, uint64(max(r.Finished.UnixMilli(), 0)))
		if err := b.Put(binary.BigEndian.AppendUint64(key, seq), v); err != nil {
			return err
		}
		c.queued[sink]++
		for c.old.outbox.waiting[sink]+c.queued[sink] > c.j.o.OutboxLimit {
			oldest, _ := b.Cursor().First()
			if oldest == nil {
				break
			}
			if err := b.Delete(slices.Clone(oldest)); err != nil {
				return err
			}
			c.queued[sink]--
			c.dropped[sink]++
		}
	}
	return nil
}

// publishOutbox takes over what the transaction did to the outbox.
func (c *change) publishOutbox() {
	for sink, n := range c.queued {
		c.old.outbox.waiting[sink] += n
		if n > 0 {
			select {
			case c.j.arrived[sink] <- struct{}{}:
			default: // told already
			}
		}
	}
	for sink, n := range c.dropped {
		c.old.outbox.dropped[sink] += n
	}
}

// givenUp is what the log has not yet said of the runs that an outbox dropped.
type givenUp struct {
	runs uint64
	said time.Time
}

const sayGivenUpEvery = time.Hour

// sayGivenUp logs that runs are given up: when it begins, and once an hour while it lasts.
func (c *change) sayGivenUp() {
	for sink, n := range c.dropped {
		g := c.j.givenUp[sink]
		if g == nil {
			g = &givenUp{}
			c.j.givenUp[sink] = g
		}
		if g.runs += n; c.now.Sub(g.said) < sayGivenUpEvery {
			continue
		}
		c.j.o.Logger.Warn("too many runs wait for a sink: those that finished first are given up", "sink", sink, "limit", c.j.o.OutboxLimit, "given_up", g.runs)
		*g = givenUp{said: c.now}
	}
}

// Waiting implements exporter.Outbox: the unsent runs that finished first, up to limit, in the order of their finish.
func (j *Journal) Waiting(sink string, limit int) ([]exporter.Unsent, error) {
	var out []exporter.Unsent
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketOutbox).Bucket([]byte(sink))
		if b == nil {
			return fmt.Errorf("journal has no outbox %q", sink)
		}
		cur := b.Cursor()
		for k, v := cur.First(); k != nil && len(out) < limit; k, v = cur.Next() {
			u := exporter.Unsent{Key: string(k)}
			if json.Unmarshal(v, &u.Run) != nil {
				u.Run = exporter.Run{}
			}
			out = append(out, u)
		}
		return nil
	})
	return out, err
}

// Sent implements exporter.Outbox: the runs with these keys are forgotten. Keys that are gone already are no error.
func (j *Journal) Sent(ctx context.Context, sink string, keys []string) error {
	return j.send(ctx, &request{err: make(chan error, 1), do: func(c *change) error {
		b := c.tx.Bucket(bucketOutbox).Bucket([]byte(sink))
		if b == nil {
			return fmt.Errorf("no outbox %q", sink)
		}
		for _, k := range keys {
			if b.Get([]byte(k)) == nil {
				continue
			}
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
			c.queued[sink]--
		}
		return nil
	}})
}

// Arrived implements exporter.Outbox: it yields a value after runs have come in.
func (j *Journal) Arrived(sink string) <-chan struct{} { return j.arrived[sink] }

// outboxSnapshot is for Snapshot, which holds the lock.
func (j *Journal) outboxSnapshot() map[string]exporter.OutboxStatus {
	out := map[string]exporter.OutboxStatus{}
	for sink, n := range j.state.outbox.waiting {
		out[sink] = exporter.OutboxStatus{Waiting: n, Dropped: j.state.outbox.dropped[sink]}
	}
	return out
}
