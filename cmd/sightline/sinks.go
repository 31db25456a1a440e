package main

import (
	"fmt"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/push"
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

// pushTargets makes the targets of metrics that the configuration names.
func pushTargets(c *config.Config) ([]push.Target, error) {
	var out []push.Target
	if m := c.Metrics; m.OTLP != "" {
		client, err := upstream.NewHTTPClient(upstream.Options{TokenFile: m.TokenFile, CAFile: m.CAFile})
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		to, err := push.NewOTLP(m.OTLP, version, client)
		if err != nil {
			return nil, fmt.Errorf("metrics.otlp: %w", err)
		}
		out = append(out, to)
	}
	if w := c.Metrics.RemoteWrite; w.URL != "" {
		client, err := upstream.NewHTTPClient(upstream.Options{TokenFile: w.TokenFile, CAFile: w.CAFile})
		if err != nil {
			return nil, fmt.Errorf("metrics.remote_write: %w", err)
		}
		to, err := push.NewRemoteWrite(push.RemoteWriteOptions{URL: w.URL, Client: client, Tenant: w.Tenant, Labels: w.Labels})
		if err != nil {
			return nil, fmt.Errorf("metrics.remote_write: %w", err)
		}
		out = append(out, to)
	}
	return out, nil
}
