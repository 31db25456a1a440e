package exporter

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Measure says what a Tally holds.
type Measure string

// The measures.
const (
	MeasureRuns      Measure = "runs"      // count of finished runs
	MeasureExecuting Measure = "executing" // histogram of durations
	MeasurePending   Measure = "pending"   // histogram of queue times
)

// A TallyKey identifies one series of the run metrics by its labels. Refs are in their full form.
type TallyKey struct {
	Level                         Level
	Measure                       Measure
	Source, Owner, Entity, System string
	Pipeline, Task                string
	Result                        Result
	RefKind                       string
	Attempt                       Attempt
	Values                        string // observations only: the values of the kind's own labels
}

// Compare orders keys field by field.
func (k TallyKey) Compare(o TallyKey) int { return slices.Compare(k.Fields(), o.Fields()) }

// Fields gives the key's parts in a fixed order; KeyOfFields is the inverse.
func (k TallyKey) Fields() []string {
	f := []string{string(k.Level), string(k.Measure), k.Source, k.Owner, k.Entity, k.System, k.Pipeline, k.Task, string(k.Result), k.RefKind, string(k.Attempt)}
	if k.Level == LevelObservation {
		f = append(f[:6], k.Values)
	}
	return f
}

// KeyOfFields makes a key of what Fields gave; false when the number of fields is another.
func KeyOfFields(f []string) (TallyKey, bool) {
	if len(f) == 7 && Level(f[0]) == LevelObservation {
		k, ok := kinds[ObservationKind(f[1])]
		return TallyKey{Level: LevelObservation, Measure: Measure(f[1]), Source: f[2], Owner: f[3], Entity: f[4], System: f[5], Values: f[6]},
			ok && strings.Count(f[6], valueSeparator) == len(k.Labels)-1
	}
	if len(f) != 11 {
		return TallyKey{}, false
	}
	return TallyKey{Level(f[0]), Measure(f[1]), f[2], f[3], f[4], f[5], f[6], f[7], Result(f[8]), f[9], Attempt(f[10]), ""}, true
}

// A NativeBucket is one bucket of a native histogram at NativeSchema.
type NativeBucket struct {
	Index int32
	Count uint64
}

// A Tally is the running total of one series. A published Tally is never changed: Clone it first.
type Tally struct {
	Key     TallyKey
	Count   uint64         // runs, or observations
	Sum     float64        // seconds of a histogram; value of a counter or gauge that is made of observations
	Buckets []uint64       // per Buckets(level) bound, not cumulative, +Inf last; histograms only
	Zero    uint64         // observations of zero seconds
	Native  []NativeBucket // sorted by Index
	Created time.Time      // when it began to be counted; zero when it began with history
	Latest  time.Time      // when what a gauge says was seen; gauges only

	Exemplars []*Exemplar // of a counter: one; of a histogram: per bucket, as Buckets; nil where there is none
}

// NativeSchema is the resolution of the native histograms: buckets grow by 2^(1/8).
const NativeSchema = 3

var (
	// Few, because each costs a line per series in the text format: native histograms have the resolution.
	pipelineBounds = []float64{60, 300, 600, 1800, 3600}
	taskBounds     = []float64{60, 600}
)

func bounds(k TallyKey) []float64 {
	switch k.Level {
	case LevelTask:
		return taskBounds
	case LevelObservation:
		return kinds[ObservationKind(k.Measure)].bounds
	}
	return pipelineBounds
}

// Clone gives a copy that may be changed.
func (t *Tally) Clone() *Tally {
	c := *t
	c.Buckets, c.Native, c.Exemplars = slices.Clone(t.Buckets), slices.Clone(t.Native), slices.Clone(t.Exemplars)
	return &c
}

// Observe adds one observation, in seconds, to a histogram. Negative and not-finite values count as zero seconds.
func (t *Tally) Observe(seconds float64) {
	seconds = observed(seconds)
	b := bounds(t.Key)
	if len(t.Buckets) != len(b)+1 {
		t.Buckets = append(t.Buckets, make([]uint64, len(b)+1-len(t.Buckets))...)
	}
	i, _ := slices.BinarySearch(b, seconds)
	t.Buckets[i]++
	t.Count++
	t.Sum += seconds
	if seconds <= nativeZero {
		t.Zero++
		return
	}
	index := int32(math.Ceil(math.Log2(seconds) * (1 << NativeSchema)))
	at, found := slices.BinarySearchFunc(t.Native, index, func(n NativeBucket, i int32) int { return int(n.Index) - int(i) })
	if !found {
		t.Native = slices.Insert(t.Native, at, NativeBucket{Index: index})
	}
	t.Native[at].Count++
}

// observed is the value that a histogram takes for seconds.
func observed(seconds float64) float64 {
	if !(seconds >= 0) || math.IsInf(seconds, 0) {
		return 0
	}
	return seconds
}

// Merge adds the totals of another Tally of the same key. Created is left as it is.
func (t *Tally) Merge(o *Tally) {
	if t.Key.Level == LevelObservation && kinds[ObservationKind(t.Key.Measure)].Type == "gauge" {
		if o.Count > 0 && (t.Count == 0 || o.Latest.After(t.Latest)) {
			t.Count, t.Sum, t.Latest = o.Count, o.Sum, o.Latest
		}
		return
	}
	t.Count += o.Count
	t.Sum += o.Sum
	t.Zero += o.Zero
	if len(t.Buckets) < len(o.Buckets) {
		t.Buckets = append(t.Buckets, make([]uint64, len(o.Buckets)-len(t.Buckets))...)
	}
	for i, n := range o.Buckets {
		t.Buckets[i] += n
	}
	for _, n := range o.Native {
		at, found := slices.BinarySearchFunc(t.Native, n.Index, func(n NativeBucket, i int32) int { return int(n.Index) - int(i) })
		if !found {
			t.Native = slices.Insert(t.Native, at, NativeBucket{Index: n.Index})
		}
		t.Native[at].Count += n.Count
	}
}

const nativeZero = 1e-3

var (
	matrixName = regexp.MustCompile(`(?s)(:? \[.*\]| \d+/\d+)$`)
	hexName    = regexp.MustCompile(`\b([0-9a-f]{8,}(-[0-9a-f]{4,})*|\d{5,})\b`)
)

// OtherName stands for every name beyond the cap.
const OtherName = "other"

// NormalizeName makes a name that users made up fit for a label: a job of a matrix or of a parallel set gets the name
// of its set, long numbers and hexadecimal ids become "N", and what is over 100 characters is cut.
func NormalizeName(s string) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "")
	s = matrixName.ReplaceAllString(s, "")
	s = hexName.ReplaceAllString(s, "N")
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 100 {
		s = string(r[:100])
	}
	return s
}
