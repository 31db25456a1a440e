package exporter

import (
	"encoding/hex"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// An Exemplar is the latest run that a counter, or a bucket of a histogram, counted. Exemplars stand in memory only: after a start
// a series has none until it counts again. It is never changed.
type Exemplar struct {
	Trace [16]byte
	Value float64 // seconds in a histogram, 1 in a counter
	At    time.Time
}

// Exemplify keeps an exemplar for what it stands for, unless there is a later one: one per series of a counter, one per classic
// bucket of a histogram. Gauges have none.
func (t *Tally) Exemplify(e Exemplar) {
	i, n := 0, 1
	if t.Key.Measure != MeasureRuns {
		b := bounds(t.Key)
		if len(b) == 0 {
			return
		}
		e.Value = observed(e.Value)
		i, _ = slices.BinarySearch(b, e.Value)
		n = len(b) + 1
	}
	if len(t.Exemplars) != n {
		t.Exemplars = make([]*Exemplar, n)
	}
	if have := t.Exemplars[i]; have == nil || !e.At.Before(have.At) {
		t.Exemplars[i] = &e
	}
}

// exemplar is that of a bucket, or that of a counter at 0; nil where there is none.
func (t *Tally) exemplar(i int) *dto.Exemplar {
	if i >= len(t.Exemplars) || t.Exemplars[i] == nil {
		return nil
	}
	e := t.Exemplars[i]
	return &dto.Exemplar{
		Label: []*dto.LabelPair{{Name: proto.String("trace_id"), Value: proto.String(hex.EncodeToString(e.Trace[:]))}},
		Value: proto.Float64(e.Value), Timestamp: timestamppb.New(e.At),
	}
}
