package backstage

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A metric is one series as it is exposed. It is not changed after it was made.
type metric struct {
	desc *prometheus.Desc
	dto  *dto.Metric
}

var descs = func() (out [len(families)]*prometheus.Desc) {
	for f := range families {
		out[f] = family(f).desc()
	}
	return out
}()

func newMetric(k key, s *series, replica string, b belonging) prometheus.Metric {
	f := families[k.family]
	values := append([]string{k.plugin, b.owner, b.entity, b.system, replica}, k.dims[:]...)
	m := &dto.Metric{Label: make([]*dto.LabelPair, len(f.Labels))}
	for i, name := range f.Labels {
		m.Label[i] = &dto.LabelPair{Name: proto.String(name), Value: proto.String(values[i])}
	}
	slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	var created *timestamppb.Timestamp
	if !s.created.IsZero() {
		created = timestamppb.New(s.created)
	}
	switch f.Type {
	case "counter":
		m.Counter = &dto.Counter{Value: proto.Float64(s.value), CreatedTimestamp: created}
	case "gauge":
		m.Gauge = &dto.Gauge{Value: proto.Float64(s.value)}
	default:
		m.Histogram = &dto.Histogram{SampleCount: proto.Uint64(s.hist.count), SampleSum: proto.Float64(s.hist.sum), CreatedTimestamp: created}
		for i, bound := range s.hist.bounds {
			m.Histogram.Bucket = append(m.Histogram.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCount: proto.Uint64(s.hist.counts[i])})
		}
	}
	return &metric{descs[k.family], m}
}

// Desc implements prometheus.Metric.
func (m *metric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *metric) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge, out.Histogram = m.dto.Label, m.dto.Counter, m.dto.Gauge, m.dto.Histogram
	return nil
}
