package main

import (
	"fmt"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// sinks makes the sinks that the configuration names. A client tries once: exporter.Deliver repeats what was not sent.
func sinks(c *config.Config, pool *upstream.Pool) ([]exporter.Sender, error) {
	var out []exporter.Sender
	if t := c.Traces; t.OTLP != "" {
		client, err := pool.Client(upstream.Options{Name: "otlp", BaseURL: t.OTLP, TokenFile: t.TokenFile, CAFile: t.CAFile, Tries: 1})
		if err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
		out = append(out, otlp.New(client, version))
	}
	if l := c.Logs; l.URL != "" {
		client, err := pool.Client(upstream.Options{Name: "loki", BaseURL: l.URL, TokenFile: l.TokenFile, CAFile: l.CAFile, Tries: 1})
		if err != nil {
			return nil, fmt.Errorf("logs: %w", err)
		}
		out = append(out, loki.New(client, l.Tenant))
	}
	return out, nil
}
