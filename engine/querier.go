// Package engine answers PromQL: by an embedded Prometheus (TSDB, PromQL, rule manager, scraping, remote-write
// receiver, notifier), or, in engine/remote, by any Prometheus-compatible API.
package engine

import (
	"context"
	"time"
)

// A Sample is one series of an instant query's answer.
type Sample struct {
	Labels map[string]string
	Value  float64
	Time   time.Time
}

// A Series is one series of a range query's answer.
type Series struct {
	Labels map[string]string
	Points []Point
}

// A Point is a value at a time.
type Point struct {
	Time  time.Time
	Value float64
}

// A Querier answers PromQL. Safe for concurrent use. Results are sorted by labels. What Engine.Query and QueryRange
// promise holds for every Querier (enginetest proves it); warnings go to the context (WithWarnings).
type Querier interface {
	Query(ctx context.Context, expr string, at time.Time) ([]Sample, error)
	QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error)
}
