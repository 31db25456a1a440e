package main

import (
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/jaeger"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/tempo"
	"github.com/sightline-dev/sightline/upstream"
)

// What one answer of a log or trace store may cost. People wait for it, so a broken store is asked twice and no more.
const (
	readTimeout = 10 * time.Second
	readBytes   = 32 << 20
	readTries   = 2
)

// traceStore makes the store that traces.query names; nil when it names none.
func traceStore(c *config.Config, pool *upstream.Pool) (correlate.TraceStore, error) {
	t := c.Traces
	if t.Query == "" {
		return nil, nil
	}
	client, err := pool.Client(upstream.Options{Name: "traces", BaseURL: t.Query, TokenFile: t.TokenFile, CAFile: t.CAFile, Timeout: readTimeout, MaxBytes: readBytes, Tries: readTries})
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	switch t.Store {
	case "tempo":
		return tempo.New(client), nil
	case "jaeger":
		return jaeger.New(client), nil
	}
	return correlate.FirstOf(jaeger.New(client), tempo.New(client)), nil
}

// logStore makes the reader of logs.url; nil when there is none.
func logStore(c *config.Config, pool *upstream.Pool) (correlate.LogStore, error) {
	l := c.Logs
	if l.URL == "" {
		return nil, nil
	}
	client, err := pool.Client(upstream.Options{Name: "logs", BaseURL: l.URL, TokenFile: l.TokenFile, CAFile: l.CAFile, Timeout: readTimeout, MaxBytes: readBytes, Tries: readTries})
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	return loki.NewReader(client, l.Tenant), nil
}
