// Package changes keeps the history of what objectives ask for: each reading of the catalog is compared with the last one,
// and what differs is kept with the time. The history and the last reading stand in one file and are written in one
// transaction, so that a crash at any instant neither loses a change nor keeps one twice. A first reading is no change.
package changes

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/sightline-dev/sightline/slo"
)

// kept is how many changes are kept, of all objectives together; the oldest go first.
const kept = 20000

// A Change is one of what an objective asks for. Field is target, threshold, window, error_query, total_query, members (of a
// composite) or owner; or objective, where one begins (From is "") or ends (To is "") with this target.
type Change struct {
	Time              time.Time
	ID                string // label sloth_id
	Entity, Indicator string
	Field, From, To   string
}

// asked is what is compared.
type asked struct {
	Entity, Indicator, Target, Threshold, Window, Owner, Errors, Total string

	Members string `json:",omitempty"` // of a composite, which has no queries
}

func (a *asked) fields() []struct{ name, value string } {
	return []struct{ name, value string }{
		{"target", a.Target}, {"threshold", a.Threshold}, {"window", a.Window}, {"error_query", a.Errors}, {"total_query", a.Total}, {"members", a.Members}, {"owner", a.Owner},
	}
}

var (
	lastBucket    = []byte("last")    // by id: asked
	changesBucket = []byte("changes") // by sequence: Change
)

// A History is the open file. Its methods may be called by many goroutines.
type History struct {
	Damaged string // where a file that could not be read was set aside; "" where none was

	db *bolt.DB

	mu      sync.Mutex
	last    map[string]asked // nil before the first reading ever
	changes map[string][]Change
	n       int
}

// Open opens or makes a file. Another process must not have it open. A damaged file is set aside.
func Open(path string) (*History, error) {
	damaged := ""
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		damaged = path + ".damaged"
		if err = os.Rename(path, damaged); err == nil {
			db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
		}
	}
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			err = errors.New("another process has it open")
		}
		return nil, fmt.Errorf("open the history of objectives %s: %w", path, err)
	}
	h := &History{Damaged: damaged, db: db, changes: map[string][]Change{}}
	if err := db.View(h.load); err != nil {
		return nil, errors.Join(fmt.Errorf("read the history of objectives %s: %w", path, err), db.Close())
	}
	return h, nil
}

func (h *History) load(tx *bolt.Tx) error {
	if b := tx.Bucket(lastBucket); b != nil {
		h.last = map[string]asked{}
		err := b.ForEach(func(k, v []byte) error {
			var a asked
			if err := json.Unmarshal(v, &a); err != nil {
				return err
			}
			h.last[string(k)] = a
			return nil
		})
		if err != nil {
			return err
		}
	}
	if b := tx.Bucket(changesBucket); b != nil {
		return b.ForEach(func(_, v []byte) error {
			var c Change
			if err := json.Unmarshal(v, &c); err != nil {
				return err
			}
			h.changes[c.ID] = append(h.changes[c.ID], c)
			h.n++
			return nil
		})
	}
	return nil
}

// Close closes the file.
func (h *History) Close() error { return h.db.Close() }

// Of gives the changes of an objective, oldest first; nobody changes the slice.
func (h *History) Of(id string) []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clip(h.changes[id])
}

// Latest gives the last change of each field of each objective, by id and field.
func (h *History) Latest() []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Change
	for _, id := range slices.Sorted(maps.Keys(h.changes)) {
		latest := map[string]Change{}
		for _, c := range h.changes[id] {
			latest[c.Field] = c
		}
		for _, field := range slices.Sorted(maps.Keys(latest)) {
			out = append(out, latest[field])
		}
	}
	return out
}

// Note compares a reading, as of a time, with the last one, and keeps what differs. Where it fails, the next one finds the
// same differences.
func (h *History) Note(objectives []slo.Objective, at time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := make(map[string]asked, len(objectives))
	for i := range objectives {
		o := &objectives[i]
		next[o.ID()] = asked{
			Entity: o.Entity.String(), Indicator: o.Indicator, Target: o.Target.Percent(), Threshold: o.Threshold, Window: o.Window.String(),
			Owner: o.Owner.String(), Errors: o.ErrorQuery, Total: o.TotalQuery, Members: o.Composite.String(),
		}
	}
	if h.last != nil && maps.Equal(h.last, next) {
		return nil
	}
	found := differences(h.last, next, at)
	total := h.n
	err := h.db.Update(func(tx *bolt.Tx) error {
		last, err := tx.CreateBucketIfNotExists(lastBucket)
		if err != nil {
			return err
		}
		log, err := tx.CreateBucketIfNotExists(changesBucket)
		if err != nil {
			return err
		}
		for id := range h.last {
			if _, there := next[id]; !there {
				if err := last.Delete([]byte(id)); err != nil {
					return err
				}
			}
		}
		for id, a := range next {
			if old, there := h.last[id]; there && old == a {
				continue
			}
			if err := put(last, []byte(id), a); err != nil {
				return err
			}
		}
		for _, c := range found {
			n, err := log.NextSequence()
			if err != nil {
				return err
			}
			if err := put(log, binary.BigEndian.AppendUint64(nil, n), c); err != nil {
				return err
			}
		}
		cursor := log.Cursor()
		for total += len(found); total > kept; total-- {
			if k, _ := cursor.First(); k == nil {
				break
			}
			if err := cursor.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep what was changed in objectives: %w", err)
	}
	h.last = next
	for _, c := range found {
		h.changes[c.ID] = append(slices.Clip(h.changes[c.ID]), c)
	}
	if h.n += len(found); h.n <= kept {
		return nil
	}
	h.last, h.changes, h.n = nil, map[string][]Change{}, 0
	return h.db.View(h.load)
}

func put(b *bolt.Bucket, key []byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, body)
}

// differences gives what changed, by id; nothing where there was no reading before.
func differences(last, next map[string]asked, at time.Time) []Change {
	if last == nil {
		return nil
	}
	at = at.UTC().Truncate(time.Millisecond)
	var out []Change
	ids := slices.Concat(slices.Collect(maps.Keys(last)), slices.Collect(maps.Keys(next)))
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		old, was := last[id]
		now, is := next[id]
		switch {
		case !was:
			out = append(out, Change{at, id, now.Entity, now.Indicator, "objective", "", now.Target})
		case !is:
			out = append(out, Change{at, id, old.Entity, old.Indicator, "objective", old.Target, ""})
		default:
			to := now.fields()
			for i, f := range old.fields() {
				if f.value != to[i].value {
					out = append(out, Change{at, id, now.Entity, now.Indicator, f.name, f.value, to[i].value})
				}
			}
		}
	}
	return out
}
