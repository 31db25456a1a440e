package push

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// An OTLP is a Target that takes OTLP over HTTP: an OpenTelemetry Collector, Mimir, Prometheus with its OTLP receiver. Histograms with native buckets
// become exponential ones. The resource is service.name=sightline with the version.
type OTLP struct {
	exporter *otlpmetrichttp.Exporter
	resource *resource.Resource
}

// NewOTLP makes an OTLP. The endpoint is the URL to which /v1/metrics is added; client carries what authenticates.
func NewOTLP(endpoint, version string, client *http.Client) (*OTLP, error) {
	e, err := otlpmetrichttp.New(context.Background(), otlpmetrichttp.WithEndpointURL(strings.TrimRight(endpoint, "/")+"/v1/metrics"),
		otlpmetrichttp.WithHTTPClient(client), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: 20 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("OTLP metrics: %w", err)
	}
	return &OTLP{e, resource.NewWithAttributes(semconv.SchemaURL, semconv.ServiceName("sightline"), semconv.ServiceVersion(version))}, nil
}

// Name is "otlp".
func (*OTLP) Name() string { return "otlp" }

// Push implements Target. Attempts are repeated for 20 seconds.
func (o *OTLP) Push(ctx context.Context, from prometheus.Gatherer) error {
	reader := metric.NewManualReader(metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(from))))
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(o.resource)) // a reader has its resource of one
	var all metricdata.ResourceMetrics
	err := reader.Collect(ctx, &all)
	if err := errors.Join(err, provider.Shutdown(ctx)); err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[float64]:
				for i := range data.DataPoints {
					data.DataPoints[i].Exemplars = traced(data.DataPoints[i].Exemplars)
				}
			case metricdata.Histogram[float64]:
				for i := range data.DataPoints {
					data.DataPoints[i].Exemplars = traced(data.DataPoints[i].Exemplars)
				}
			}
		}
	}
	if err := o.exporter.Export(ctx, &all); err != nil {
		return fmt.Errorf("push metrics by OTLP: %w", err)
	}
	return nil
}

// traced makes the trace ids of exemplars what OTLP wants, 16 bytes: the bridge leaves them in hexadecimal, with which a
// receiver refuses the whole request.
func traced(in []metricdata.Exemplar[float64]) []metricdata.Exemplar[float64] {
	var out []metricdata.Exemplar[float64]
	for _, e := range in {
		trace, err := hex.DecodeString(string(e.TraceID))
		span, spanErr := hex.DecodeString(string(e.SpanID))
		if err != nil || spanErr != nil || len(trace) != 16 || len(span) != 0 && len(span) != 8 {
			continue
		}
		e.TraceID, e.SpanID = trace, span
		out = append(out, e)
	}
	return out
}
