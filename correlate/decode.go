package correlate

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// ReadSpans reads spans as JSON: OTLP's own (resourceSpans, ids in hexadecimal digits), and Tempo's (batches, ids in base64).
func ReadSpans(b []byte) ([]Span, error) {
	var groups struct{ ResourceSpans, Batches []json.RawMessage }
	if err := json.Unmarshal(b, &groups); err != nil {
		return nil, fmt.Errorf("read spans: %w", err)
	}
	var all []*tracepb.ResourceSpans
	for _, raw := range slices.Concat(groups.ResourceSpans, groups.Batches) {
		rs := &tracepb.ResourceSpans{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, rs); err != nil {
			return nil, fmt.Errorf("read spans: %w", err)
		}
		all = append(all, rs)
	}
	return DecodeSpans(all)
}

// DecodeSpans is the inverse of what a sink sends. A span without valid ids is an error.
func DecodeSpans(all []*tracepb.ResourceSpans) ([]Span, error) {
	var out []Span
	for _, rs := range all {
		resource := decodeAttributes(rs.GetResource().GetAttributes())
		for _, scope := range rs.GetScopeSpans() {
			for _, p := range scope.GetSpans() {
				s := Span{
					Name: p.GetName(), Kind: kinds[p.GetKind()], Start: nanos(p.GetStartTimeUnixNano()), End: nanos(p.GetEndTimeUnixNano()),
					Failed: p.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Reason: p.GetStatus().GetMessage(),
					Attributes: decodeAttributes(p.GetAttributes()), Resource: resource,
				}
				copy(s.TraceID[:], idBytes(p.GetTraceId(), len(s.TraceID)))
				copy(s.ID[:], idBytes(p.GetSpanId(), len(s.ID)))
				copy(s.Parent[:], idBytes(p.GetParentSpanId(), len(s.Parent)))
				if !s.TraceID.IsValid() || !s.ID.IsValid() {
					return nil, fmt.Errorf("read spans: a span named %.60q has no valid ids", p.GetName())
				}
				if s.End.Before(s.Start) {
					s.End = s.Start
				}
				for _, l := range p.GetLinks() {
					var link Link
					copy(link.TraceID[:], idBytes(l.GetTraceId(), len(link.TraceID)))
					copy(link.SpanID[:], idBytes(l.GetSpanId(), len(link.SpanID)))
					if link.TraceID.IsValid() && link.SpanID.IsValid() {
						s.Links = append(s.Links, link)
					}
				}
				out = append(out, s)
			}
		}
	}
	return out, nil
}

var kinds = map[tracepb.Span_SpanKind]trace.SpanKind{
	tracepb.Span_SPAN_KIND_INTERNAL: trace.SpanKindInternal, tracepb.Span_SPAN_KIND_SERVER: trace.SpanKindServer, tracepb.Span_SPAN_KIND_CLIENT: trace.SpanKindClient,
	tracepb.Span_SPAN_KIND_PRODUCER: trace.SpanKindProducer, tracepb.Span_SPAN_KIND_CONSUMER: trace.SpanKindConsumer,
}

// idBytes gives the n bytes of an id. JSON's bytes are base64, but OTLP writes ids as 2n hexadecimal digits, which read as base64 become
// 3n/2 bytes: written as base64 again they are the digits.
func idBytes(b []byte, n int) []byte {
	if len(b) == n {
		return b
	}
	if len(b) == n*3/2 {
		if id, err := hex.DecodeString(base64.StdEncoding.EncodeToString(b)); err == nil {
			return id
		}
	}
	return nil
}

func nanos(n uint64) time.Time {
	if n == 0 || n > 1<<63-1 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// decodeAttributes gives attributes sorted by key. A list or a map becomes its JSON.
func decodeAttributes(in []*common.KeyValue) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(in))
	for _, a := range in {
		key := attribute.Key(a.GetKey())
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out = append(out, key.String(v.StringValue))
		case *common.AnyValue_BoolValue:
			out = append(out, key.Bool(v.BoolValue))
		case *common.AnyValue_IntValue:
			out = append(out, key.Int64(v.IntValue))
		case *common.AnyValue_DoubleValue:
			out = append(out, key.Float64(v.DoubleValue))
		case nil:
		default:
			b, _ := protojson.Marshal(a.GetValue())
			out = append(out, key.String(string(b)))
		}
	}
	slices.SortStableFunc(out, func(a, b attribute.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return out
}
