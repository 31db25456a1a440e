package main

import (
	"log/slog"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/exporter/gitlab"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/upstream"
)

// gitlabSources makes a source of each GitLab host of the configuration. Entities that name no gitlab.com/instance belong
// to the first.
func gitlabSources(c *config.Config, pool *upstream.Pool, log *slog.Logger) ([]server.Source, error) {
	var out []server.Source
	for i, g := range c.Sources.GitLab {
		client, err := pool.Client(upstream.Options{Name: "gitlab", BaseURL: g.URL, TokenFile: g.TokenFile, CAFile: g.CAFile, CallsPerHour: g.CallsPerHour})
		if err != nil {
			return nil, err
		}
		s, err := gitlab.New(client, gitlab.Options{URL: g.URL, First: i == 0, Backfill: time.Duration(g.Backfill), Poll: time.Duration(g.Poll), Now: time.Now, Logger: log})
		if err != nil {
			return nil, err
		}
		out = append(out, server.Source{Source: s, Poll: time.Duration(g.Poll)})
	}
	return out, nil
}
