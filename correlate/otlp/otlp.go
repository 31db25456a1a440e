// Package otlp sends the spans of runs to a trace store (Tempo, Jaeger, an OpenTelemetry Collector) by OTLP over HTTP.
//
// The OpenTelemetry SDK is not used: it makes the ids of spans itself and sends them once, from memory. Here ids follow from
// the run (correlate.SpanOf), and the outbox keeps what has not been sent.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// A Sink is an exporter.Sender of spans. A span that is sent twice has the same ids and content, which trace stores keep
// as one.
type Sink struct {
	client  *upstream.Client
	version string
}

// New makes a Sink. The client's base URL is the OTLP/HTTP endpoint, to which /v1/traces is added; version is Sightline's.
func New(client *upstream.Client, version string) *Sink { return &Sink{client, version} }

// Name is "otlp".
func (*Sink) Name() string { return "otlp" }

// Send sends the spans of the runs that have one.
func (s *Sink) Send(ctx context.Context, runs []exporter.Run) (refused int, err error) {
	spans := make([]correlate.Span, 0, len(runs))
	for _, r := range runs {
		if span, ok := correlate.SpanOf(r); ok {
			spans = append(spans, span)
		}
	}
	return s.SendSpans(ctx, spans)
}

// SendSpans sends spans. Its results are those of Send.
func (s *Sink) SendSpans(ctx context.Context, spans []correlate.Span) (refused int, err error) {
	if len(spans) == 0 {
		return 0, nil
	}
	req := s.request(spans)
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil { // a string that is not UTF-8
		return 0, &exporter.SendError{Err: fmt.Errorf("encode spans: %w", err), Rejected: true}
	}
	answer, err := s.client.Post(ctx, "/v1/traces", http.Header{"Content-Type": {"application/x-protobuf"}}, body)
	if err != nil {
		err = fmt.Errorf("send spans: %w", err)
		var status *upstream.StatusError
		if errors.As(err, &status) {
			return 0, exporter.HTTPSendError(err, status.Code)
		}
		return 0, err
	}
	var took collector.ExportTraceServiceResponse
	if proto.Unmarshal(answer, &took) != nil {
		return 0, nil // taken, by a store that answers in its own words
	}
	return int(min(max(took.GetPartialSuccess().GetRejectedSpans(), 0), int64(len(spans)))), nil
}

// request groups the spans by resource, in their order.
func (s *Sink) request(spans []correlate.Span) *collector.ExportTraceServiceRequest {
	req := &collector.ExportTraceServiceRequest{}
	groups := map[attribute.Distinct]*tracepb.ScopeSpans{}
	for _, span := range spans {
		set := attribute.NewSet(span.Resource...)
		group := groups[set.Equivalent()]
		if group == nil {
			group = &tracepb.ScopeSpans{Scope: &common.InstrumentationScope{Name: "sightline", Version: s.version}, SchemaUrl: correlate.SchemaURL}
			groups[set.Equivalent()] = group
			req.ResourceSpans = append(req.ResourceSpans, &tracepb.ResourceSpans{
				Resource: &resource.Resource{Attributes: attributes(span.Resource)}, ScopeSpans: []*tracepb.ScopeSpans{group}, SchemaUrl: correlate.SchemaURL,
			})
		}
		group.Spans = append(group.Spans, encode(span))
	}
	return req
}

func encode(s correlate.Span) *tracepb.Span {
	out := &tracepb.Span{
		TraceId: s.TraceID[:], SpanId: s.ID[:], Name: s.Name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(s.Start.UnixNano()), EndTimeUnixNano: uint64(s.End.UnixNano()), Attributes: attributes(s.Attributes),
		Flags: uint32(trace.FlagsSampled),
	}
	if s.Kind == trace.SpanKindServer {
		out.Kind = tracepb.Span_SPAN_KIND_SERVER
	}
	if s.Parent.IsValid() {
		out.ParentSpanId = s.Parent[:]
	}
	if s.Failed {
		out.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: s.Reason}
	}
	for _, l := range s.Links {
		out.Links = append(out.Links, &tracepb.Span_Link{TraceId: l.TraceID[:], SpanId: l.SpanID[:]})
	}
	return out
}

// attributes encodes strings, the only kind of value that correlate makes.
func attributes(kv []attribute.KeyValue) []*common.KeyValue {
	out := make([]*common.KeyValue, len(kv))
	for i, a := range kv {
		out[i] = &common.KeyValue{Key: string(a.Key), Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: a.Value.AsString()}}}
	}
	return out
}
