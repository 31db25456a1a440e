package main

import (
	"net/http"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/upstream"
)

// addGitLab makes a source of each GitLab host of the configuration, and takes their webhooks where there are secrets.
// Entities that name no gitlab.com/instance belong to the first.
func addGitLab(o *server.Options, c *config.Config, pool *upstream.Pool) error {
	var hooked []gitlab.Hooked
	for i, g := range c.Sources.GitLab {
		client, err := pool.Client(upstream.Options{Name: "gitlab", BaseURL: g.URL, TokenFile: g.TokenFile, CAFile: g.CAFile, CallsPerHour: g.CallsPerHour})
		if err != nil {
			return err
		}
		s, err := gitlab.New(client, gitlab.Options{URL: g.URL, Groups: g.Groups, First: i == 0, Backfill: time.Duration(g.Backfill), Poll: time.Duration(g.Poll), Now: time.Now, Logger: o.Logger})
		if err != nil {
			return err
		}
		o.Sources = append(o.Sources, server.Source{Source: s, Poll: time.Duration(g.Poll)})
		if len(g.WebhookSecretFiles) > 0 {
			hooked = append(hooked, gitlab.Hooked{Source: s, SecretFiles: g.WebhookSecretFiles})
		}
	}
	if len(hooked) > 0 {
		o.Webhooks = func(to exporter.Sink, count *exporter.WebhookMetrics) http.Handler {
			return gitlab.NewReceiver(to, count, hooked...)
		}
	}
	return nil
}
