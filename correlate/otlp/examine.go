package otlp

import (
	"context"
	"net/http"

	"github.com/sightline-dev/sightline/upstream"
)

// Examine sends a request without a span, which an OTLP endpoint takes and which leaves nothing behind.
func Examine(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	if _, err := c.Post(ctx, "/v1/traces", http.Header{"Content-Type": {"application/x-protobuf"}}, nil); err != nil {
		out.Failed("send no span", err, "traces.otlp is an OTLP/HTTP endpoint, mostly at port 4318, without /v1/traces")
		return out
	}
	out.OK("spans are taken")
	out.Clock(c)
	return out
}
