// Package journal keeps what has been counted. A batch of runs changes the counters and stores the source's cursor in
// one transaction, so that after a crash at any instant, and with duplicates and reordering, every run has been counted
// exactly once, and a restart goes on with the same totals.
//
// History, the runs that a first start finds, is tallied apart and stays hidden until its cursor receives news or the
// whole source has been read (Settle). Then it becomes the starting value of series that nobody has seen yet. A series
// that is already exposed never takes history in: that would look like an increase.
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// Options are the settings of a Journal; the zero value is usable.
type Options struct {
	Logger        *slog.Logger                               // default: discard
	Now           func() time.Time                           // default: time.Now
	NameCap       int                                        // names of pipelines per entity, and of tasks per pipeline, before "other"; default 200
	RunsPerEntity int                                        // recent runs kept per entity; default 50
	Outboxes      []string                                   // sinks that every counted run is kept for until it is Sent; those of other sinks are deleted
	Trace         func(*exporter.Run) (id [16]byte, ok bool) // the trace of a run, for exemplars; nil: no exemplars
	Wanted        func(sink string, r *exporter.Run) bool    // whether a run waits for a sink; nil: every run waits for each
	Past          bool                                       // keep when counters grew that nobody saw grow, until it is released; see Past
	OutboxLimit   int                                        // unsent runs kept per sink before the oldest is dropped; default 50000
}

// A Journal is an exporter.Sink, exporter.Settler, exporter.TallySource and exporter.Outbox in one file. Safe for concurrent use; only one process may
// have the file open.
type Journal struct {
	db       *bolt.DB
	o        Options
	requests chan *request
	quit     chan struct{}
	done     chan struct{}
	closing  sync.Once
	closeErr error

	fail func(stage string) error // tests: an error at a stage stops the transaction there

	normals map[string]string   // names in their normal form; of the writer alone
	givenUp map[string]*givenUp // by sink; of the writer alone

	mu      sync.RWMutex
	state   state
	cursors map[string]position
	held    map[string]time.Time     // by source: since when
	arrived map[string]chan struct{} // by sink; not changed after Open
}

// state is what stands in memory of what the file holds.
type state struct {
	tallies map[exporter.TallyKey]*exporter.Tally
	history map[historyKey]*exporter.Tally
	active  map[string]exporter.Run
	names   map[nameScope]map[string]bool
	capped  map[string]uint64
	recent  map[string]int // runs kept, by entity
	outbox  outboxes
}

type historyKey struct {
	cursor, source, host string
	key                  exporter.TallyKey
}

type nameScope struct {
	level                            exporter.Level
	source, entity, system, pipeline string
}

type request struct {
	batch exporter.Batch
	do    func(*change) error // instead of a batch
	err   chan error
}

var (
	bucketMeta    = []byte("meta")
	bucketCursors = []byte("cursors")
	bucketCounted = []byte("counted") // run id, 0, finish → finished and recorded, unix seconds
	bucketTallies = []byte("tallies")
	bucketHistory = []byte("history")
	bucketActive  = []byte("active")
	bucketRecent  = []byte("recent") // entity, 0, inverted time, id → run
	bucketOutbox  = []byte("outbox") // a bucket per sink: finish in unix milliseconds, sequence → run
	buckets       = [][]byte{bucketMeta, bucketCursors, bucketCounted, bucketTallies, bucketHistory, bucketActive, bucketRecent, bucketOutbox, bucketPast}
)

const format = "3"

// fillPercent is how full pages are made: records come in runs of neighbours, a project's or a counter's at a time, and what is
// half empty is read, and stands in memory, all the same.
const fillPercent = 0.9

var errCorrupt = errors.New("journal is damaged")

type lockedError struct{ path string }

func (e *lockedError) Error() string { return "journal " + e.path + " is in use by another process" }

// Hint says what to do about it.
func (e *lockedError) Hint() string {
	return "only one sightline may write a journal: stop the other process, or give this one a store.path of its own"
}

// A formatError is a journal of another version of the program.
type formatError struct{ path, have string }

func (e *formatError) Error() string {
	return fmt.Sprintf("journal %s has format %q; this program knows %q", e.path, e.have, format)
}

// Hint says what to do about it.
func (e *formatError) Hint() string {
	return "run the version of sightline that wrote it, or move the file away: counters and cursors begin anew"
}

// Open opens or makes the journal at path. A damaged file is renamed to path.corrupt-<n>, which is logged, and a fresh one is
// begun. When another process has the file open, or another version of the program wrote it, the error has a Hint method.
func Open(path string, o Options) (*Journal, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NameCap <= 0 {
		o.NameCap = 200
	}
	if o.RunsPerEntity <= 0 {
		o.RunsPerEntity = 50
	}
	if o.OutboxLimit <= 0 {
		o.OutboxLimit = 50_000
	}
	j, err := open(path, o)
	if errors.Is(err, errCorrupt) {
		aside, renameErr := quarantine(path)
		if renameErr != nil {
			return nil, errors.Join(err, renameErr)
		}
		o.Logger.Error("journal was damaged; it is set aside, and a new one is filled by reading history again", "error", err, "moved_to", aside)
		j, err = open(path, o)
	}
	if err != nil {
		return nil, err
	}
	go j.write()
	return j, nil
}

func quarantine(path string) (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.corrupt-%d", path, n)
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			if err := os.Rename(path, aside); err != nil {
				return "", fmt.Errorf("set damaged journal aside: %w", err)
			}
			return aside, nil
		} else if err != nil {
			return "", fmt.Errorf("set damaged journal aside: %w", err)
		}
	}
}

func open(path string, o Options) (j *Journal, err error) {
	var db *bolt.DB
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
		}
		if err != nil && db != nil {
			_ = db.Close()
		}
	}()
	if st, statErr := os.Stat(path); statErr == nil && st.Size() > 0 {
		err = isWhole(path)
	}
	if err == nil {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	}
	switch {
	case errors.Is(err, errCorrupt):
		return nil, err
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &lockedError{path}
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch), isTruncated(path, err):
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	case err != nil:
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		switch have := string(meta.Get([]byte("format"))); have {
		case format:
			return nil
		case "":
			return meta.Put([]byte("format"), []byte(format))
		default:
			return &formatError{path, have}
		}
	})
	if err != nil {
		return nil, err
	}
	j = &Journal{
		db: db, o: o, requests: make(chan *request, 1024), quit: make(chan struct{}), done: make(chan struct{}), cursors: map[string]position{}, held: map[string]time.Time{}, arrived: map[string]chan struct{}{}, normals: map[string]string{}, givenUp: map[string]*givenUp{},
		state: state{
			tallies: map[exporter.TallyKey]*exporter.Tally{}, history: map[historyKey]*exporter.Tally{}, active: map[string]exporter.Run{},
			names: map[nameScope]map[string]bool{}, capped: map[string]uint64{}, recent: map[string]int{},
			outbox: outboxes{map[string]int{}, map[string]uint64{}},
		},
	}
	if err := db.View(j.load); err != nil {
		return nil, err
	}
	if err := db.Update(j.loadOutbox); err != nil {
		return nil, fmt.Errorf("open the outbox of journal %s: %w", path, err)
	}
	if err := db.Update(j.loadPast); err != nil {
		return nil, fmt.Errorf("open the past of journal %s: %w", path, err)
	}
	return j, nil
}

// isTruncated tells that a file that is not empty is too short for bbolt to open.
func isTruncated(path string, err error) bool {
	if err == nil {
		return false
	}
	st, statErr := os.Stat(path)
	return statErr == nil && st.Mode().IsRegular() && st.Size() > 0 && (strings.Contains(err.Error(), "file size too small") || strings.Contains(err.Error(), "EOF"))
}

func (j *Journal) load(tx *bolt.Tx) error {
	if err := tx.Bucket(bucketCursors).ForEach(func(k, v []byte) error { j.cursors[string(k)] = pack(string(v)); return nil }); err != nil {
		return err
	}
	err := tx.Bucket(bucketTallies).ForEach(func(k, v []byte) error {
		key, ok := exporter.KeyOfFields(strings.Split(string(k), "\x00"))
		t, err := decodeTally(key, v)
		if !ok || err != nil {
			return fmt.Errorf("%w: bad counter %q", errCorrupt, k)
		}
		j.state.tallies[key] = t
		j.state.addName(key)
		return nil
	})
	if err != nil {
		return err
	}
	err = tx.Bucket(bucketHistory).ForEach(func(k, v []byte) error {
		f := strings.Split(string(k), "\x00")
		if len(f) < 3 {
			return fmt.Errorf("%w: bad history %q", errCorrupt, k)
		}
		key, ok := exporter.KeyOfFields(f[3:])
		t, err := decodeTally(key, v)
		if !ok || err != nil {
			return fmt.Errorf("%w: bad history %q", errCorrupt, k)
		}
		j.state.history[historyKey{f[0], f[1], f[2], key}] = t
		j.state.addName(key)
		return nil
	})
	if err != nil {
		return err
	}
	err = tx.Bucket(bucketActive).ForEach(func(k, v []byte) error {
		var r exporter.Run
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("%w: bad active run: %w", errCorrupt, err)
		}
		j.state.active[string(k)] = r
		return nil
	})
	if err != nil {
		return err
	}
	return tx.Bucket(bucketRecent).ForEach(func(k, _ []byte) error {
		entity, _, _ := bytes.Cut(k, []byte{0})
		j.state.recent[string(entity)]++
		return nil
	})
}

func (s *state) addName(k exporter.TallyKey) {
	if k.Level == exporter.LevelObservation {
		for label, value := range k.Names() {
			s.insertName(nameScope{exporter.LevelObservation, k.Source, k.Entity, k.System, string(k.Measure) + " " + label}, value)
		}
		return
	}
	pipeline, task := nameScope{exporter.LevelPipeline, k.Source, k.Entity, k.System, ""}, nameScope{exporter.LevelTask, k.Source, k.Entity, k.System, k.Pipeline}
	s.insertName(pipeline, k.Pipeline)
	if k.Level == exporter.LevelTask {
		s.insertName(task, k.Task)
	}
}

func (s *state) insertName(scope nameScope, name string) {
	if name == exporter.OtherName {
		return
	}
	if s.names[scope] == nil {
		s.names[scope] = map[string]bool{}
	}
	s.names[scope][name] = true
}

// Position is the stored position of a cursor.
func (j *Journal) Position(cursor string) (string, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	p, ok := j.cursors[cursor]
	return p.unpack(), ok
}

// Positions gives the stored positions of all cursors whose name begins with a prefix.
func (j *Journal) Positions(prefix string) map[string]string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	out := map[string]string{}
	for cursor, p := range j.cursors {
		if strings.HasPrefix(cursor, prefix) {
			out[cursor] = p.unpack()
		}
	}
	return out
}

// Commit counts the runs of a batch that have not been counted, and stores its cursor, both durably or neither. When
// ctx ends first, the batch may or may not have been stored; committing it again is harmless.
func (j *Journal) Commit(ctx context.Context, b exporter.Batch) error {
	for i := range b.Runs {
		if err := check(&b.Runs[i]); err != nil {
			return err
		}
	}
	for i := range b.Seen {
		if err := b.Seen[i].Check(); err != nil {
			return err
		}
	}
	if strings.ContainsRune(b.Cursor, 0) {
		return fmt.Errorf("cursor %q has a zero byte", b.Cursor)
	}
	return j.send(ctx, &request{batch: b, err: make(chan error, 1)})
}

func check(r *exporter.Run) error {
	switch {
	case r.ID.Source == "" || r.ID.Key == "" || strings.ContainsRune(r.ID.String(), 0):
		return fmt.Errorf("run %q has no proper id", r.ID)
	case r.Level != exporter.LevelPipeline && r.Level != exporter.LevelTask && r.Level != exporter.LevelBridge:
		return fmt.Errorf("run %s has level %q", r.ID, r.Level)
	case r.State == exporter.StateFinished && !slices.Contains(exporter.Results, r.Result):
		return fmt.Errorf("finished run %s has result %q", r.ID, r.Result)
	}
	return nil
}

// Settle ends the history of a source: what was held back becomes visible.
func (j *Journal) Settle(ctx context.Context, source, host string) error {
	j.mu.RLock()
	pending := false
	for k := range j.state.history {
		if k.source == source && k.host == host {
			pending = true
			break
		}
	}
	j.mu.RUnlock()
	if !pending {
		return nil
	}
	return j.send(ctx, &request{err: make(chan error, 1), do: func(c *change) error {
		return c.release(func(k historyKey) bool { return k.source == source && k.host == host })
	}})
}

var errClosed = errors.New("journal is closed")

func (j *Journal) send(ctx context.Context, r *request) error {
	select {
	case <-j.quit:
		return errClosed
	default:
	}
	select {
	case j.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-j.quit:
		return errClosed
	}
	select {
	case err := <-r.err:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-j.done:
		select {
		case err := <-r.err:
			return err
		default:
			return errClosed
		}
	}
}

// Close waits for the running transaction and closes the file. It may be called twice.
func (j *Journal) Close() error {
	j.closing.Do(func() {
		close(j.quit)
		<-j.done
		j.closeErr = j.db.Close()
	})
	return j.closeErr
}

// write is the only writer: what waits at the same time is stored in one transaction.
func (j *Journal) write() {
	defer close(j.done)
	for {
		var group []*request
		select {
		case r := <-j.requests:
			group = append(group, r)
		case <-j.quit:
			return
		}
	more:
		for runs := len(group[0].batch.Runs); runs < 20000 && len(group) < cap(j.requests); {
			select {
			case r := <-j.requests:
				group = append(group, r)
				runs += len(r.batch.Runs)
			default:
				break more
			}
		}
		err := j.apply(group)
		if err != nil && len(group) > 1 { // one bad request must not fail the others
			for _, r := range group {
				r.err <- j.apply([]*request{r})
			}
			continue
		}
		for _, r := range group {
			r.err <- err
		}
	}
}

func (j *Journal) failAt(stage string) error {
	if j.fail == nil {
		return nil
	}
	return j.fail(stage)
}

func (j *Journal) apply(group []*request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("journal: %v", p)
		}
	}()
	c := &change{
		j: j, old: &j.state, tallies: map[exporter.TallyKey]*exporter.Tally{}, history: map[historyKey]*exporter.Tally{}, active: map[string]*exporter.Run{}, names: map[nameScope]map[string]bool{},
		capped: map[string]uint64{}, recent: map[string]int{}, cursors: map[string]string{}, queued: map[string]int{}, dropped: map[string]uint64{}, now: j.o.Now(),
		grown: map[historyKey][]exporter.Step{},
	}
	j.mu.RLock()
	c.held = maps.Clone(j.held)
	j.mu.RUnlock()
	err = j.db.Update(func(tx *bolt.Tx) error {
		if err := j.failAt("begin"); err != nil {
			return err
		}
		c.tx = tx
		for _, b := range buckets {
			tx.Bucket(b).FillPercent = fillPercent
		}
		for _, r := range group {
			var err error
			if r.do != nil {
				err = r.do(c)
			} else {
				err = c.batch(&r.batch)
			}
			if err != nil {
				return err
			}
		}
		if err := j.failAt("applied"); err != nil {
			return err
		}
		if err := c.store(); err != nil {
			return err
		}
		return j.failAt("stored")
	})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.mu.Lock()
	c.publish()
	j.mu.Unlock()
	c.sayGivenUp()
	return j.failAt("committed")
}

// A change collects what one transaction does to the state in memory; nil values are deletions.
type change struct {
	j       *Journal
	tx      *bolt.Tx
	old     *state
	now     time.Time
	tallies map[exporter.TallyKey]*exporter.Tally
	history map[historyKey]*exporter.Tally
	active  map[string]*exporter.Run
	names   map[nameScope]map[string]bool // new ones
	capped  map[string]uint64
	recent  map[string]int
	cursors map[string]string
	queued  map[string]int // what the outbox of each sink gained, less what it lost
	dropped map[string]uint64
	key     []byte

	held     map[string]time.Time
	released []string // sources whose hold ends
	grown    map[historyKey][]exporter.Step
}

// ofTask tells observations of tasks apart.
type ofTask struct {
	id     exporter.RunID
	kind   exporter.ObservationKind
	labels string
}

func (c *change) batch(b *exporter.Batch) error {
	if !b.History && b.Cursor != "" {
		if err := c.release(func(k historyKey) bool { return k.cursor == b.Cursor }); err != nil {
			return err
		}
	}
	var counted map[exporter.RunID]bool // tasks of this batch
	var taken map[ofTask]bool           // what was seen of them: a batch may hold it more than once
	if slices.ContainsFunc(b.Seen, func(o exporter.Observation) bool { return o.OfTask }) {
		counted, taken = map[exporter.RunID]bool{}, map[ofTask]bool{}
	}
	for i := range b.Runs {
		isNew, err := c.run(&b.Runs[i], b)
		if err != nil {
			return err
		}
		if isNew && counted != nil && b.Runs[i].Level == exporter.LevelTask && !b.Runs[i].Told {
			counted[b.Runs[i].ID] = true
		}
	}
	for i := range b.Seen {
		if o := &b.Seen[i]; o.OfTask {
			key := ofTask{o.ID, o.Kind, strings.Join(o.Labels, "\x00")}
			if !counted[o.ID] || taken[key] {
				continue
			}
			taken[key] = true
		}
		if err := c.observe(&b.Seen[i], b); err != nil {
			return err
		}
	}
	if err := c.storePast(b); err != nil {
		return err
	}
	for _, id := range b.Gone {
		if _, ok := c.activeRun(id.String()); ok {
			c.active[id.String()] = nil
		}
	}
	if b.Cursor != "" {
		c.cursors[b.Cursor] = b.Position
	}
	return nil
}

// countedKey identifies one finish: a task finishes once; a pipeline once for the first time, and then at other times.
func (c *change) countedKey(r *exporter.Run, first bool) []byte {
	k := append(c.key[:0], r.ID.Source...)
	k = append(append(k, '|'), r.ID.Host...)
	k = append(append(k, '|'), r.ID.Key...)
	k = append(k, 0)
	if r.Level == exporter.LevelPipeline && !first && later(r) {
		k = binary.BigEndian.AppendUint64(k, uint64(r.Finished.UnixMilli()))
	}
	c.key = k
	return k
}

func later(r *exporter.Run) bool {
	return r.Attempt == exporter.AttemptRerun || r.Attempt == exporter.AttemptContinued
}

// run counts a finish that has not been counted, and says whether it was one, or whether its observations count now.
func (c *change) run(r *exporter.Run, b *exporter.Batch) (counted bool, err error) {
	records := c.tx.Bucket(bucketCounted)
	if r.State != exporter.StateFinished {
		if r.Level != exporter.LevelPipeline || (records.Get(c.countedKey(r, true)) != nil && !later(r)) {
			return false, nil // jobs are not shown while they run; and news that came late changes nothing
		}
		run := *r
		c.active[r.ID.String()] = &run
		return false, nil
	}
	key := c.countedKey(r, false)
	if record := records.Get(key); record != nil {
		if !r.Told && len(record) == 17 && record[16] == recordTold {
			return true, records.Put(key, append(slices.Clone(record[:16]), recordTask))
		}
		if a, ok := c.activeRun(r.ID.String()); ok && (a.Attempt == r.Attempt || !later(a)) {
			c.active[r.ID.String()] = nil
		}
		return false, nil
	}
	if mark := c.tx.Bucket(bucketMeta).Get(watermark(recordTask, r.ID)); mark != nil && !b.History && r.Level != exporter.LevelPipeline && r.Finished.Unix() < int64(binary.BigEndian.Uint64(mark)) {
		return false, nil // its record may have been compacted away
	}
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 17), uint64(r.Finished.Unix()))
	v = binary.BigEndian.AppendUint64(v, uint64(c.now.Unix()))
	record := byte(recordTask) // that of a bridge is no other
	switch {
	case r.Level == exporter.LevelPipeline:
		record = r.Level[0]
	case r.Told:
		record = recordTold
	}
	v = append(v, record)
	if err := records.Put(key, v); err != nil { // which copies the key
		return false, err
	}
	if _, ok := c.activeRun(r.ID.String()); ok {
		c.active[r.ID.String()] = nil
	}
	if r.Level != exporter.LevelBridge {
		c.count(r, b)
	}
	if !b.History {
		if err := c.enqueue(r); err != nil {
			return false, err
		}
	}
	if r.Level == exporter.LevelPipeline {
		return true, c.remember(r)
	}
	return true, nil
}

// observe counts an observation that has not been counted. Its record is kept until Compact drops it, or for ever where it
// may come again with another time; its task's record serves for what is of a task, and what is repeatable needs none.
func (c *change) observe(o *exporter.Observation, b *exporter.Batch) error {
	if !o.Declare && !o.OfTask && !o.Repeatable() {
		key := []byte(o.ID.String() + "\x00" + string(o.Kind))
		counted := c.tx.Bucket(bucketCounted)
		if counted.Get(key) != nil {
			return nil
		}
		from, until := o.Counted()
		level := byte(recordForEver)
		if !o.ComesAgain() {
			level = recordObservation
			if mark := c.tx.Bucket(bucketMeta).Get(watermark(recordObservation, o.ID)); mark != nil && !b.History && from.Unix() < int64(binary.BigEndian.Uint64(mark)) {
				return nil // its record may have been compacted away
			}
		}
		v := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
		v = binary.BigEndian.AppendUint64(v, uint64(c.now.Unix()))
		if err := counted.Put(key, append(v, level)); err != nil {
			return err
		}
	}
	entity, system := o.Entity.String(), o.System.String()
	k := o.Key(func(label, value string) string {
		return c.name(nameScope{exporter.LevelObservation, o.ID.Source, entity, system, string(o.Kind) + " " + label}, value)
	})
	c.tally(k, o.ID.Host, b).Take(o)
	if !o.Declare {
		c.grew(k, o.ID.Host, b, o.At, o.Value)
	}
	return nil
}

// What the last byte of a record says of it.
const (
	recordTask        = 't'
	recordTold        = 'w' // of a task that counts and whose observations do not yet
	recordObservation = 'o'
	recordForEver     = 'O' // of an observation
)

// watermark is the key of the time before which records of one kind may be missing.
func watermark(record byte, id exporter.RunID) []byte {
	if record == recordTask {
		return []byte("watermark\x00" + id.Source + "\x00" + id.Host)
	}
	return []byte("watermark of observations\x00" + id.Source + "\x00" + id.Host)
}

func (c *change) activeRun(id string) (*exporter.Run, bool) {
	if r, ok := c.active[id]; ok {
		return r, r != nil
	}
	r, ok := c.old.active[id]
	return &r, ok
}

// name caps the names within a scope.
func (c *change) name(scope nameScope, name string) string {
	name = c.j.normal(name)
	known, added := c.old.names[scope], c.names[scope]
	if known[name] || added[name] || name == exporter.OtherName {
		return name
	}
	if len(known)+len(added) >= c.j.o.NameCap {
		c.capped[scope.source]++
		return exporter.OtherName
	}
	if added == nil {
		added = map[string]bool{}
		c.names[scope] = added
	}
	added[name] = true
	return name
}

// rememberedNames is how many names are remembered in their normal form.
const rememberedNames = 10_000

// normal gives a name as it may stand in a label. Only the writer calls it.
func (j *Journal) normal(name string) string {
	n, ok := j.normals[name]
	if !ok {
		n = strings.ReplaceAll(exporter.NormalizeName(name), "\x00", "")
		if len(j.normals) >= rememberedNames {
			clear(j.normals)
		}
		j.normals[strings.Clone(name)] = n
	}
	return n
}

func (c *change) count(r *exporter.Run, b *exporter.Batch) {
	k := exporter.TallyKey{Level: r.Level, Measure: exporter.MeasureRuns, Source: r.ID.Source, Owner: r.Owner.String(), Entity: r.Entity.String(), System: r.System.String(), Result: r.Result}
	k.Pipeline = c.name(nameScope{exporter.LevelPipeline, k.Source, k.Entity, k.System, ""}, r.Pipeline)
	if r.Level == exporter.LevelTask {
		k.Task = c.name(nameScope{exporter.LevelTask, k.Source, k.Entity, k.System, k.Pipeline}, r.Name)
	} else {
		k.RefKind, k.Attempt = r.RefKind, r.Attempt
		if k.Attempt == "" {
			k.Attempt = exporter.AttemptFirst
		}
	}
	if !c.hasTally(k, r.ID.Host, b) { // the other results of a known pipeline exist at zero
		results := exporter.Results
		if r.Level == exporter.LevelTask {
			results = []exporter.Result{exporter.ResultFailure, exporter.ResultSuccess}
		}
		for _, result := range results {
			other := k
			other.Result = result
			c.tally(other, r.ID.Host, b)
		}
	}
	exemplify := func(*exporter.Tally, float64) {}
	if c.j.o.Trace != nil && !b.History {
		if id, ok := c.j.o.Trace(r); ok {
			exemplify = func(t *exporter.Tally, v float64) {
				t.Exemplify(exporter.Exemplar{Trace: id, Value: v, At: r.Finished})
			}
		}
	}
	t := c.tally(k, r.ID.Host, b)
	t.Count++
	exemplify(t, 1)
	c.grew(k, r.ID.Host, b, r.Finished, 1)
	k.Attempt = ""
	if r.Duration != nil {
		k.Measure = exporter.MeasureExecuting
		t := c.tally(k, r.ID.Host, b)
		t.Observe(*r.Duration)
		exemplify(t, *r.Duration)
	}
	if r.Queued != nil && r.Level == exporter.LevelPipeline {
		k.Measure, k.Result = exporter.MeasurePending, "" // nothing has come of it while it waits
		t := c.tally(k, r.ID.Host, b)
		t.Observe(*r.Queued)
		exemplify(t, *r.Queued)
	}
}

// hasTally tells whether tally would give one that exists.
func (c *change) hasTally(k exporter.TallyKey, host string, b *exporter.Batch) bool {
	if b.History {
		h := historyKey{b.Cursor, k.Source, host, k}
		if t, changed := c.history[h]; changed {
			return t != nil
		}
		return c.old.history[h] != nil
	}
	return c.tallies[k] != nil || c.old.tallies[k] != nil
}

// tally gives the tally of a key, to be changed within this transaction.
func (c *change) tally(k exporter.TallyKey, host string, b *exporter.Batch) *exporter.Tally {
	if b.History {
		h := historyKey{b.Cursor, k.Source, host, k}
		if t := c.history[h]; t != nil {
			return t
		}
		t := &exporter.Tally{Key: k}
		if old := c.old.history[h]; old != nil {
			if _, deleted := c.history[h]; !deleted {
				t = old.Clone()
			}
		}
		c.history[h] = t
		return t
	}
	if t := c.tallies[k]; t != nil {
		return t
	}
	t := &exporter.Tally{Key: k, Created: c.now}
	if old := c.old.tallies[k]; old != nil {
		t = old.Clone()
	}
	c.tallies[k] = t
	return t
}

// release makes history visible.
func (c *change) release(which func(historyKey) bool) error {
	var errs []error
	one := func(h historyKey, t *exporter.Tally) {
		c.history[h] = nil
		have := c.old.tallies[h.key]
		errs = append(errs, c.releasePast(h, t, have == nil))
		if have != nil {
			return // exposed already: history is not news
		}
		if have := c.tallies[h.key]; have != nil {
			have.Merge(t) // of this transaction, so nobody has seen it
			have.Created = time.Time{}
			return
		}
		c.tallies[h.key] = t.Clone()
	}
	for h, t := range c.history {
		if t != nil && which(h) {
			one(h, t)
		}
	}
	for h, t := range c.old.history {
		if _, changed := c.history[h]; !changed && which(h) {
			one(h, t)
		}
	}
	return errors.Join(errs...)
}

// remember keeps a finished pipeline among the recent runs of its entity.
func (c *change) remember(r *exporter.Run) error {
	entity := r.Entity.String()
	prefix := append([]byte(entity), 0)
	recent := c.tx.Bucket(bucketRecent)
	key := append(binary.BigEndian.AppendUint64(slices.Clone(prefix), math.MaxUint64-uint64(max(r.Finished.UnixMilli(), 0))), r.ID.String()...)
	n, ok := c.recent[entity]
	if !ok {
		n = c.old.recent[entity]
	}
	if n >= c.j.o.RunsPerEntity {
		cur := recent.Cursor()
		oldest, _ := cur.Seek(append([]byte(entity), 1))
		if oldest == nil {
			oldest, _ = cur.Last()
		} else {
			oldest, _ = cur.Prev()
		}
		if bytes.HasPrefix(oldest, prefix) {
			if bytes.Compare(key, oldest) >= 0 {
				return nil
			}
			if err := recent.Delete(slices.Clone(oldest)); err != nil {
				return err
			}
			n--
		}
	}
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if recent.Get(key) == nil {
		n++
	}
	c.recent[entity] = n
	return recent.Put(key, v)
}

func (c *change) store() error {
	put := func(bucket []byte, key string, t *exporter.Tally) error {
		if t == nil {
			return c.tx.Bucket(bucket).Delete([]byte(key))
		}
		return c.tx.Bucket(bucket).Put([]byte(key), encodeTally(t))
	}
	for k, t := range c.tallies {
		if err := put(bucketTallies, strings.Join(k.Fields(), "\x00"), t); err != nil {
			return err
		}
	}
	for h, t := range c.history {
		if err := put(bucketHistory, strings.Join(append([]string{h.cursor, h.source, h.host}, h.key.Fields()...), "\x00"), t); err != nil {
			return err
		}
	}
	for id, r := range c.active {
		if r == nil {
			if err := c.tx.Bucket(bucketActive).Delete([]byte(id)); err != nil {
				return err
			}
			continue
		}
		v, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := c.tx.Bucket(bucketActive).Put([]byte(id), v); err != nil {
			return err
		}
	}
	for cursor, position := range c.cursors {
		if position == "" {
			if err := c.tx.Bucket(bucketCursors).Delete([]byte(cursor)); err != nil {
				return err
			}
			continue
		}
		if err := c.tx.Bucket(bucketCursors).Put([]byte(cursor), []byte(position)); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) publish() {
	s := c.old
	maps.Copy(s.tallies, c.tallies)
	for h, t := range c.history {
		if t == nil {
			delete(s.history, h)
		} else {
			s.history[h] = t
		}
	}
	for id, r := range c.active {
		if r == nil {
			delete(s.active, id)
		} else {
			s.active[id] = *r
		}
	}
	for scope, names := range c.names {
		for name := range names {
			s.insertName(scope, name)
		}
	}
	for source, n := range c.capped {
		s.capped[source] += n
	}
	maps.Copy(s.recent, c.recent)
	for cursor, text := range c.cursors {
		if text == "" {
			delete(c.j.cursors, cursor)
		} else {
			c.j.cursors[cursor] = pack(text)
		}
	}
	c.publishOutbox()
	for _, source := range c.released {
		delete(c.j.held, source)
	}
}

// Snapshot gives all visible counters. It does no I/O.
func (j *Journal) Snapshot() exporter.TallySnapshot {
	j.mu.RLock()
	defer j.mu.RUnlock()
	s := exporter.TallySnapshot{Tallies: slices.Collect(maps.Values(j.state.tallies)), Active: map[exporter.ActiveKey]int{}, Capped: maps.Clone(j.state.capped), Outbox: j.outboxSnapshot()}
	for _, r := range j.state.active {
		name := exporter.NormalizeName(r.Pipeline)
		if !j.state.names[nameScope{exporter.LevelPipeline, r.ID.Source, r.Entity.String(), r.System.String(), ""}][name] &&
			len(j.state.names[nameScope{exporter.LevelPipeline, r.ID.Source, r.Entity.String(), r.System.String(), ""}]) >= j.o.NameCap {
			name = exporter.OtherName
		}
		s.Active[exporter.ActiveKey{Source: r.ID.Source, Owner: r.Owner.String(), Entity: r.Entity.String(), System: r.System.String(), Pipeline: name, State: r.State}]++
	}
	return s
}

// A Filter selects recent runs; empty fields select all.
type Filter struct {
	Entities []catalog.Ref
	Owner    catalog.Ref // the owner at the finish
	Source   string
	Limit    int
}

// Runs gives recent pipelines, the latest first: those that are not finished, then by finish.
func (j *Journal) Runs(f Filter) []exporter.Run {
	match := func(r *exporter.Run) bool {
		return (len(f.Entities) == 0 || slices.Contains(f.Entities, r.Entity)) && (f.Owner.IsZero() || r.Owner == f.Owner) && (f.Source == "" || r.ID.Source == f.Source)
	}
	var out []exporter.Run
	j.mu.RLock()
	for _, r := range j.state.active {
		if match(&r) {
			out = append(out, r)
		}
	}
	j.mu.RUnlock()
	_ = j.db.View(func(tx *bolt.Tx) error {
		cur := tx.Bucket(bucketRecent).Cursor()
		scan := func(prefix []byte) {
			for k, v := cur.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = cur.Next() {
				var r exporter.Run
				if json.Unmarshal(v, &r) == nil && match(&r) {
					out = append(out, r)
				}
			}
		}
		if len(f.Entities) == 0 {
			scan(nil)
		}
		for _, e := range f.Entities {
			scan(append([]byte(e.String()), 0))
		}
		return nil
	})
	slices.SortFunc(out, func(a, b exporter.Run) int {
		if af, bf := a.State == exporter.StateFinished, b.State == exporter.StateFinished; af != bf {
			if bf {
				return -1
			}
			return 1
		}
		if n := b.Finished.Compare(a.Finished); n != 0 {
			return n
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out
}

// Compact drops the records of tasks that finished, and of observations of what happened, before the given time, if they
// were recorded before it, too, and gives their number. What finished or happened before then and is delivered again as
// news is taken for one that was counted. Records of pipelines stay, so that a pipeline that is retried after months counts
// as a rerun, and so do those of observations that may come again with another time. It works in steps, so that what is
// committed meanwhile does not wait.
func (j *Journal) Compact(ctx context.Context, before time.Time) (dropped int, err error) {
	limit := before.Unix()
	for from := []byte{}; from != nil; {
		old, next, err := j.expired(from, limit)
		if err != nil {
			return dropped, err
		}
		if len(old) > 0 {
			if err := j.send(ctx, &request{err: make(chan error, 1), do: func(c *change) error { return c.drop(old, limit) }}); err != nil {
				return dropped, err
			}
		}
		dropped += len(old)
		from = next
	}
	return dropped, ctx.Err()
}

// compactStep is how many records Compact looks at in one transaction.
const compactStep = 20_000

// expired finds the keys of the records that Compact drops among those from a key on; next is nil at the end.
func (j *Journal) expired(from []byte, limit int64) (old [][]byte, next []byte, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		cur := tx.Bucket(bucketCounted).Cursor()
		n := 0
		for k, v := cur.Seek(from); k != nil; k, v = cur.Next() {
			if n++; n > compactStep {
				next = slices.Clone(k)
				return nil
			}
			if len(v) == 17 && dropped(k, v[16]) && int64(binary.BigEndian.Uint64(v)) < limit && int64(binary.BigEndian.Uint64(v[8:])) < limit {
				old = append(old, slices.Clone(k))
			}
		}
		return nil
	})
	return old, next, err
}

// dropped tells whether a record is one that Compact drops. Those of observations that are kept for ever were like all others
// once.
func dropped(key []byte, record byte) bool {
	if record != recordObservation {
		return record == recordTask || record == recordTold
	}
	o := exporter.Observation{Kind: exporter.ObservationKind(key[bytes.LastIndexByte(key, 0)+1:])}
	return !o.ComesAgain()
}

// drop deletes records, and notes for each source until when they may be missing.
func (c *change) drop(keys [][]byte, limit int64) error {
	meta := c.tx.Bucket(bucketMeta)
	for _, k := range keys {
		if f := bytes.SplitN(k, []byte{'|'}, 3); len(f) == 3 {
			record := byte(recordObservation)
			if k[len(k)-1] == 0 { // a task's ends there
				record = recordTask
			}
			mark := watermark(record, exporter.RunID{Source: string(f[0]), Host: string(f[1])})
			if have := meta.Get(mark); have == nil || int64(binary.BigEndian.Uint64(have)) < limit {
				if err := meta.Put(mark, binary.BigEndian.AppendUint64(nil, uint64(limit))); err != nil {
					return err
				}
			}
		}
		if err := c.tx.Bucket(bucketCounted).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func encodeTally(t *exporter.Tally) []byte {
	b := make([]byte, 0, 32+2*len(t.Buckets)+4*len(t.Native))
	created := int64(0)
	if !t.Created.IsZero() {
		created = t.Created.UnixMilli()
	}
	b = binary.AppendVarint(b, created)
	b = binary.AppendUvarint(b, t.Count)
	b = binary.AppendUvarint(b, math.Float64bits(t.Sum))
	b = binary.AppendUvarint(b, t.Zero)
	b = binary.AppendUvarint(b, uint64(len(t.Buckets)))
	for _, n := range t.Buckets {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Native)))
	for _, n := range t.Native {
		b = binary.AppendVarint(b, int64(n.Index))
		b = binary.AppendUvarint(b, n.Count)
	}
	if !t.Latest.IsZero() {
		b = binary.AppendVarint(b, t.Latest.UnixMilli())
	}
	return b
}

func decodeTally(k exporter.TallyKey, v []byte) (*exporter.Tally, error) {
	r := bytes.NewReader(v)
	var failed error
	u := func() uint64 {
		n, err := binary.ReadUvarint(r)
		failed = errors.Join(failed, err)
		return n
	}
	i := func() int64 {
		n, err := binary.ReadVarint(r)
		failed = errors.Join(failed, err)
		return n
	}
	t := &exporter.Tally{Key: k}
	if created := i(); created != 0 {
		t.Created = time.UnixMilli(created).UTC()
	}
	t.Count, t.Sum, t.Zero = u(), math.Float64frombits(u()), u()
	for n := u(); n > 0 && failed == nil; n-- {
		t.Buckets = append(t.Buckets, u())
	}
	for n := u(); n > 0 && failed == nil; n-- {
		t.Native = append(t.Native, exporter.NativeBucket{Index: int32(i()), Count: u()})
	}
	if r.Len() > 0 {
		t.Latest = time.UnixMilli(i()).UTC()
	}
	return t, failed
}
