package exporter

import (
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Family describes one metric family.
type Family struct {
	Name, Help string
	Type       string // counter, gauge, histogram
	Labels     []string
}

type familyID int

const (
	pipelineRuns familyID = iota
	pipelineDuration
	pipelineActive
	taskRuns
	taskDuration
	namesCapped
	outboxWaiting
	outboxDropped
	entityInfo
	joinInfo
	sourceUp
	sourceSuccess
	sourceDuration
	sourceRuns
	sourceErrors
	sourcePoll
	sourceBackfill
	webhooks
	sinkSent
	sinkRefused
	sinkErrors
	sinkSuccess
)

var families = [...]Family{
	pipelineRuns: {
		"cicd_pipeline_runs_total", "Finished pipeline runs, also those that never had a duration.", "counter",
		[]string{"source", "owner", "entity", "system", "cicd_pipeline_name", "cicd_pipeline_result", "ref_kind", "attempt"},
	},
	pipelineDuration: {
		"cicd_pipeline_run_duration_seconds", "Time that finished pipeline runs spent executing, or pending before that.", "histogram",
		[]string{"source", "owner", "entity", "system", "cicd_pipeline_name", "cicd_pipeline_run_state", "cicd_pipeline_result", "ref_kind"},
	},
	pipelineActive: {
		"cicd_pipeline_run_active", "Pipeline runs that are not finished.", "gauge",
		[]string{"source", "owner", "entity", "system", "cicd_pipeline_name", "cicd_pipeline_run_state"},
	},
	taskRuns: {
		"cicd_pipeline_task_runs_total", "Finished jobs or steps of pipelines, also those that never had a duration.", "counter",
		[]string{"source", "owner", "entity", "system", "cicd_pipeline_name", "cicd_pipeline_task_name", "cicd_pipeline_task_run_result"},
	},
	taskDuration: {
		"cicd_pipeline_task_run_duration_seconds", "Time that finished jobs or steps spent executing.", "histogram",
		[]string{"source", "owner", "entity", "system", "cicd_pipeline_name", "cicd_pipeline_task_name", "cicd_pipeline_task_run_result"},
	},
	namesCapped:   {"sightline_names_capped_total", "Runs counted under the name other, because the cap of names was reached.", "counter", []string{"source"}},
	outboxWaiting: {"sightline_outbox_runs", "Counted runs whose spans or log lines have not been sent.", "gauge", []string{"sink"}},
	outboxDropped: {"sightline_outbox_dropped_total", "Counted runs whose spans or log lines were given up, because too many were waiting.", "counter", []string{"sink"}},
	entityInfo: {
		"sightline_entity_info", "Always 1; what the catalog says of an entity.", "gauge",
		[]string{"entity", "owner", "system", "domain", "type", "lifecycle", "tier"},
	},
	joinInfo: {
		"sightline_join_info", "Always 1; the entity that a key of another system stands for.", "gauge",
		[]string{"source", "key", "entity", "owner"},
	},
	sourceUp:       {"sightline_source_up", "Whether the last synchronisation with the source succeeded.", "gauge", []string{"source", "host"}},
	sourceSuccess:  {"sightline_source_last_success_timestamp_seconds", "When the source was last read completely.", "gauge", []string{"source", "host"}},
	sourceDuration: {"sightline_source_sync_duration_seconds", "How long the last synchronisation took.", "gauge", []string{"source", "host"}},
	sourceRuns:     {"sightline_source_runs_total", "Runs that the source delivered, repeated ones included.", "counter", []string{"source", "host"}},
	sourceErrors:   {"sightline_source_errors_total", "Synchronisations that failed, wholly or in part.", "counter", []string{"source", "host"}},
	sourcePoll:     {"sightline_source_poll_interval_seconds", "Pause before the next synchronisation, back-off included.", "gauge", []string{"source", "host"}},
	sourceBackfill: {"sightline_source_backfill_ratio", "Share of the source's projects whose history has been read; 1 when the first reading is through.", "gauge", []string{"source", "host"}},
	webhooks:       {"sightline_webhooks_total", "Webhooks received, by what became of them: stored, ignored, repeated, refused, failed.", "counter", []string{"source", "result"}},
	sinkSent:       {"sightline_sink_sent_runs_total", "Runs that the sink took; after a crash a run may be sent twice, which changes nothing.", "counter", []string{"sink"}},
	sinkRefused:    {"sightline_sink_refused_runs_total", "Runs that the sink will never take, as log lines that are too old.", "counter", []string{"sink"}},
	sinkErrors:     {"sightline_sink_errors_total", "Attempts at sending that failed and are repeated.", "counter", []string{"sink"}},
	sinkSuccess:    {"sightline_sink_last_success_timestamp_seconds", "When the sink last took something.", "gauge", []string{"sink"}},
}

// Families lists every metric family of this package, for documentation and tests.
func Families() []Family {
	out := slices.Clone(families[:])
	for i := range out {
		out[i].Labels = slices.Clone(out[i].Labels)
	}
	return slices.Concat(out, Kinds())
}

func (f familyID) desc() *prometheus.Desc {
	return prometheus.NewDesc(families[f].Name, families[f].Help, families[f].Labels, nil)
}

// An ActiveKey identifies one series of cicd_pipeline_run_active.
type ActiveKey struct {
	Source, Owner, Entity, System, Pipeline string
	State                                   State
}

// A TallySnapshot is the state of all counters at one instant.
type TallySnapshot struct {
	Tallies []*Tally // in any order; not to be changed
	Active  map[ActiveKey]int
	Capped  map[string]uint64       // by source
	Outbox  map[string]OutboxStatus // by sink
}

// A TallySource gives the counters. Snapshot does no I/O and is safe for concurrent use; journal.Journal is one.
type TallySource interface{ Snapshot() TallySnapshot }

// NewCollector makes the collector of the run metrics. Gathering it does no I/O.
func NewCollector(from TallySource) prometheus.Collector {
	c := &collector{from: from, kinds: map[ObservationKind]*prometheus.Desc{}}
	for _, f := range []familyID{pipelineRuns, pipelineDuration, pipelineActive, taskRuns, taskDuration, namesCapped, outboxWaiting, outboxDropped} {
		c.descs[f] = f.desc()
	}
	for k, f := range kinds {
		c.kinds[k] = prometheus.NewDesc(f.Name, f.Help, slices.Concat(commonLabels, f.Labels), nil)
	}
	return c
}

type collector struct {
	from  TallySource
	descs [outboxDropped + 1]*prometheus.Desc
	kinds map[ObservationKind]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
	for _, d := range c.kinds {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.from.Snapshot()
	labels := labels{}
	for _, t := range s.Tallies {
		ch <- c.metric(t, labels)
	}
	for k, n := range s.Active {
		ch <- prometheus.MustNewConstMetric(c.descs[pipelineActive], prometheus.GaugeValue, float64(n),
			k.Source, k.Owner, k.Entity, k.System, k.Pipeline, string(k.State))
	}
	for source, n := range s.Capped {
		ch <- prometheus.MustNewConstMetric(c.descs[namesCapped], prometheus.CounterValue, float64(n), source)
	}
	for sink, o := range s.Outbox {
		ch <- prometheus.MustNewConstMetric(c.descs[outboxWaiting], prometheus.GaugeValue, float64(o.Waiting), sink)
		ch <- prometheus.MustNewConstMetric(c.descs[outboxDropped], prometheus.CounterValue, float64(o.Dropped), sink)
	}
}

func (c *collector) metric(t *Tally, l labels) prometheus.Metric {
	k := t.Key
	switch {
	case k.Level == LevelObservation:
		names := slices.Concat(commonLabels, kinds[ObservationKind(k.Measure)].Labels)
		return tallyMetric{c.kinds[ObservationKind(k.Measure)], t, l.pairs(names, append([]string{k.Source, k.Owner, k.Entity, k.System}, strings.Split(k.Values, valueSeparator)...))}
	case k.Level == LevelTask && k.Measure == MeasureRuns:
		return tallyMetric{c.descs[taskRuns], t, l.pairs(families[taskRuns].Labels, []string{k.Source, k.Owner, k.Entity, k.System, k.Pipeline, k.Task, string(k.Result)})}
	case k.Level == LevelTask:
		return tallyMetric{c.descs[taskDuration], t, l.pairs(families[taskDuration].Labels, []string{k.Source, k.Owner, k.Entity, k.System, k.Pipeline, k.Task, string(k.Result)})}
	case k.Measure == MeasureRuns:
		return tallyMetric{c.descs[pipelineRuns], t, l.pairs(families[pipelineRuns].Labels, []string{k.Source, k.Owner, k.Entity, k.System, k.Pipeline, string(k.Result), k.RefKind, string(k.Attempt)})}
	}
	return tallyMetric{c.descs[pipelineDuration], t, l.pairs(families[pipelineDuration].Labels, []string{k.Source, k.Owner, k.Entity, k.System, k.Pipeline, string(k.Measure), string(k.Result), k.RefKind})}
}

// labels are those of one scrape: series have the same owners, entities and names, of which one of each is enough.
type labels map[[2]string]*dto.LabelPair

// pairs makes labels in the order that the text format wants.
func (l labels) pairs(names, values []string) []*dto.LabelPair {
	out := make([]*dto.LabelPair, len(values))
	for i, v := range values {
		key := [2]string{names[i], v}
		if l[key] == nil {
			l[key] = &dto.LabelPair{Name: proto.String(names[i]), Value: proto.String(v)}
		}
		out[i] = l[key]
	}
	slices.SortFunc(out, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
	return out
}

// A tallyMetric is a counter, a gauge, or a histogram with both classic and native buckets.
type tallyMetric struct {
	desc   *prometheus.Desc
	tally  *Tally
	labels []*dto.LabelPair
}

// Desc implements prometheus.Metric.
func (m tallyMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m tallyMetric) Write(out *dto.Metric) error {
	t := m.tally
	out.Label = m.labels
	var created *timestamppb.Timestamp
	if !t.Created.IsZero() {
		created = timestamppb.New(t.Created)
	}
	if t.Key.Measure == MeasureRuns {
		out.Counter = &dto.Counter{Value: proto.Float64(float64(t.Count)), CreatedTimestamp: created, Exemplar: t.exemplar(0)}
		return nil
	}
	if t.Key.Level == LevelObservation {
		switch kinds[ObservationKind(t.Key.Measure)].Type {
		case "counter":
			out.Counter = &dto.Counter{Value: proto.Float64(t.Sum), CreatedTimestamp: created}
			return nil
		case "gauge":
			out.Gauge = &dto.Gauge{Value: proto.Float64(t.Sum)}
			return nil
		}
	}
	h := &dto.Histogram{
		SampleCount: proto.Uint64(t.Count), SampleSum: proto.Float64(t.Sum), CreatedTimestamp: created,
		Schema: proto.Int32(NativeSchema), ZeroThreshold: proto.Float64(nativeZero), ZeroCount: proto.Uint64(t.Zero),
	}
	var sum uint64
	limits := bounds(t.Key)
	h.Bucket = make([]*dto.Bucket, 0, len(limits)+1)
	h.PositiveDelta = make([]int64, 0, len(t.Native))
	for i, b := range limits {
		if i < len(t.Buckets) {
			sum += t.Buckets[i]
		}
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: proto.Float64(b), CumulativeCount: proto.Uint64(sum), Exemplar: t.exemplar(i)})
	}
	if e := t.exemplar(len(h.Bucket)); e != nil { // without one, +Inf is not written out
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: proto.Float64(math.Inf(1)), CumulativeCount: proto.Uint64(t.Count), Exemplar: e})
	}
	var last int64
	next := int32(0)
	for i, n := range t.Native {
		if i == 0 || n.Index != next {
			offset := n.Index
			if i > 0 {
				offset = n.Index - next
			}
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(offset), Length: proto.Uint32(0)})
		}
		span := h.PositiveSpan[len(h.PositiveSpan)-1]
		span.Length = proto.Uint32(span.GetLength() + 1)
		h.PositiveDelta = append(h.PositiveDelta, int64(n.Count)-last)
		last, next = int64(n.Count), n.Index+1
	}
	out.Histogram = h
	return nil
}
