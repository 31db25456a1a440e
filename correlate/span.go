// Package correlate makes spans and log lines of runs, and reads them back. SpanOf and LineOf are pure: the same Run always gives the same ids,
// times and text, so a run that is sent twice stays one span and one line. The trace of a GitLab pipeline is known
// inside its jobs before it is sent (docs/telemetry.md), so whatever a job runs can join it.
//
// The sub-packages do the I/O: correlate/otlp sends spans, correlate/loki sends and reads lines (LogStore), correlate/tempo and
// correlate/jaeger read traces (TraceStore), correlate/joblog reads the logs of jobs, of which ReadJobLog makes lines and spans.
package correlate

import (
	"cmp"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/exporter"
)

// SchemaURL names the version of the OpenTelemetry conventions that attributes follow.
const SchemaURL = semconv.SchemaURL

// A Span is one run that was executed, in OpenTelemetry's terms.
type Span struct {
	TraceID    trace.TraceID
	ID, Parent trace.SpanID // Parent is zero for the root
	Name       string
	Kind       trace.SpanKind
	Start, End time.Time
	Failed     bool   // the span's status is Error
	Reason     string // the system's own reason of a failure; may be empty
	Attributes []attribute.KeyValue
	Resource   []attribute.KeyValue // entity, owner, service.name, source, system: those that are known
	Links      []Link
}

// A Link points to a span of this or another trace.
type Link struct {
	TraceID trace.TraceID
	SpanID  trace.SpanID
}

// SpanOf makes the span of a finished run. It gives false for a run that was never executed, which a span cannot say (its line
// does), and for a job whose pipeline is unknown.
//
// The first finish of a pipeline is the root of its trace. Trace stores do not replace spans, so a later finish is not sent
// as the root again: it is a span "pipeline re-run" below the root and linked to it.
func SpanOf(r exporter.Run) (Span, bool) {
	p, ok := locate(&r)
	if !ok || r.State != exporter.StateFinished || r.Started.IsZero() {
		return Span{}, false
	}
	s := Span{
		TraceID: p.traceID(), ID: p.rootID(), Kind: trace.SpanKindServer, Start: r.Started, End: end(&r), Resource: resource(&r),
		Attributes: []attribute.KeyValue{semconv.CICDPipelineName(r.Pipeline), semconv.CICDPipelineRunID(p.pipeline)},
	}
	add := func(kv ...attribute.KeyValue) { s.Attributes = append(s.Attributes, kv...) }
	if isPart(&r) {
		s.ID, s.Parent, s.Kind, s.Name = p.taskID(), p.rootID(), trace.SpanKindInternal, exporter.NormalizeName(r.Name)
		add(semconv.CICDPipelineTaskName(r.Name), semconv.CICDPipelineTaskRunID(p.task), semconv.CICDPipelineTaskRunResultKey.String(string(r.Result)))
		if r.URL != "" {
			add(semconv.CICDPipelineTaskRunURLFull(r.URL))
		}
		if started, ok := locateRoot(r.Starts); ok { // which has a trace of its own
			s.Links = append(s.Links, Link{started.traceID(), started.rootID()})
		}
	} else {
		pipeline := exporter.NormalizeName(cmp.Or(r.Pipeline, r.ID.Source))
		s.Name = "RUN " + pipeline
		add(semconv.CICDPipelineActionNameRun, semconv.CICDPipelineResultKey.String(string(r.Result)))
		if r.URL != "" {
			add(semconv.CICDPipelineRunURLFull(r.URL))
		}
		if r.Attempt == exporter.AttemptRerun || r.Attempt == exporter.AttemptContinued {
			s.Name, s.ID, s.Parent, s.Kind = "pipeline re-run "+pipeline, p.rerunID(&r), p.rootID(), trace.SpanKindInternal
			s.Links = append(s.Links, Link{p.traceID(), p.rootID()})
			add(attribute.String("attempt", string(r.Attempt)))
		}
		if made, ok := locateRoot(r.Parent); ok { // what started this pipeline has a trace of its own
			link := Link{made.traceID(), made.rootID()}
			if made.task != "" {
				link.SpanID = made.taskID()
			}
			s.Links = append(s.Links, link)
		}
	}
	if r.RefKind != "" {
		add(attribute.String("ref_kind", r.RefKind))
	}
	if r.ID.Source == "gitlab" {
		add(semconv.VCSProviderNameGitlab)
	}
	switch r.Result {
	case exporter.ResultFailure, exporter.ResultError, exporter.ResultTimeout:
		s.Failed, s.Reason = true, r.Reason
		add(semconv.ErrorTypeKey.String(cmp.Or(r.Reason, string(r.Result))))
	}
	return s, true
}

// end is never before the start, and falls back on the system's own duration.
func end(r *exporter.Run) time.Time {
	e := r.Finished
	if e.IsZero() && r.Duration != nil {
		e = r.Started.Add(time.Duration(*r.Duration * float64(time.Second)))
	}
	if e.Before(r.Started) {
		return r.Started
	}
	return e
}

// service is the entity's name, or the source where nobody claims the run.
func service(r *exporter.Run) string {
	if r.Entity.IsZero() {
		return r.ID.Source
	}
	return r.Entity.Name
}

// resource is sorted by key.
func resource(r *exporter.Run) []attribute.KeyValue {
	var out []attribute.KeyValue
	for _, x := range []struct {
		key   attribute.Key
		value string
	}{{"entity", r.Entity.String()}, {"owner", r.Owner.String()}, {semconv.ServiceNameKey, service(r)}, {"source", r.ID.Source}, {"system", r.System.String()}} {
		if x.value != "" {
			out = append(out, x.key.String(x.value))
		}
	}
	return out
}
