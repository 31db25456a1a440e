package push

import (
	"context"
	"errors"
	"net/http"

	"github.com/golang/snappy"

	"github.com/sightline-dev/sightline/upstream"
)

// ExamineOTLP sends a request without a metric, which an OTLP endpoint takes and which leaves nothing behind. The client's
// base URL is what metrics.otlp says.
func ExamineOTLP(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	if _, err := c.Post(ctx, "/v1/metrics", http.Header{"Content-Type": {"application/x-protobuf"}}, nil); err != nil {
		out.Failed("send no metric", err, "metrics.otlp is an OTLP/HTTP endpoint, mostly at port 4318, without /v1/metrics")
		return out
	}
	out.OK("metrics are taken by OTLP")
	out.Clock(c)
	return out
}

// ExamineRemoteWrite sends a request of remote write 2.0 without a sample, which leaves nothing behind. The client's base URL
// is where samples are posted to; tenant may be empty.
func ExamineRemoteWrite(ctx context.Context, c *upstream.Client, tenant string) (out upstream.Findings) {
	header := http.Header{
		"Content-Type": {"application/x-protobuf;proto=io.prometheus.write.v2.Request"}, "Content-Encoding": {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"2.0.0"},
	}
	if tenant != "" {
		header.Set("X-Scope-OrgID", tenant)
	}
	_, err := c.Post(ctx, "", header, snappy.Encode(nil, nil))
	var status *upstream.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusUnsupportedMediaType:
		out.Failed("send no sample", err, "remote write 2.0 is needed, as Prometheus 3 and Mimir take it")
		return out
	case errors.As(err, &status) && status.Code == http.StatusNotFound:
		out.Error("metrics.remote_write.url is the whole URL, such as http://mimir:8080/api/v1/push; Prometheus needs --web.enable-remote-write-receiver", "send no sample: %s", err)
		return out
	case err != nil:
		out.Failed("send no sample", err, "check that the receiver runs and that metrics.remote_write.url is right")
		return out
	}
	out.OK("samples are taken by remote write")
	out.Clock(c)
	return out
}
