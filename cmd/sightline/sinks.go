package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/joblog"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
	"github.com/sightline-dev/sightline/upstream"
)

// sinks makes the sinks that the configuration names. A client tries once: exporter.Deliver repeats what was not sent.
func sinks(c *config.Config, pool *upstream.Pool, log *slog.Logger) ([]exporter.Sender, error) {
	var out []exporter.Sender
	var spans *otlp.Sink
	if t := c.Traces; t.OTLP != "" {
		client, err := pool.Client(upstream.Options{Name: "otlp", BaseURL: t.OTLP, TokenFile: t.TokenFile, CAFile: t.CAFile, Tries: 1})
		if err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
		spans = otlp.New(client, version)
		out = append(out, spans)
	}
	if l := c.Logs; l.URL != "" {
		client, err := pool.Client(upstream.Options{Name: "loki", BaseURL: l.URL, TokenFile: l.TokenFile, CAFile: l.CAFile, Tries: 1})
		if err != nil {
			return nil, fmt.Errorf("logs: %w", err)
		}
		lines := loki.New(client, l.Tenant)
		out = append(out, lines)
		if l.JobLogs != "off" {
			readers, err := logReaders(c, pool)
			if err != nil {
				return nil, err
			}
			logs := joblog.New(joblog.Options{Readers: readers, All: l.JobLogs == "all", Logger: log})
			out = append(out, logs.LinesTo(lines))
			if spans != nil {
				out = append(out, logs.SectionsTo(spans))
			}
		}
	}
	return out, nil
}

// logReaders makes a reader of job logs for each system that the configuration names.
func logReaders(c *config.Config, pool *upstream.Pool) ([]joblog.Reader, error) {
	mask, err := correlate.NewMask(c.Logs.Mask)
	if err != nil {
		return nil, fmt.Errorf("logs.mask: %w", err)
	}
	var out []joblog.Reader
	for _, g := range c.Sources.GitLab {
		client, err := pool.Client(gitlabOptions(g))
		if err != nil {
			return nil, err
		}
		out = append(out, joblog.NewGitLab(client, g.CallsPerHour, int(c.Logs.JobLogLimit), mask))
	}
	if b := c.Catalog.Backstage; b != nil && c.Sources.Scaffolder != nil {
		client, err := pool.Client(backstageOptions(b))
		if err != nil {
			return nil, err
		}
		tasks, err := scaffolder.New(client, b.URL, time.Now)
		if err != nil {
			return nil, err
		}
		out = append(out, joblog.NewScaffolder(tasks, int(c.Logs.JobLogLimit), mask))
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
