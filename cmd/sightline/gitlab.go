package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/upstream"
)

// addGitLab makes a source of each GitLab host of the configuration, and takes their webhooks where there are secrets, or
// from Backstage's event bus.
// Entities that name no gitlab.com/instance belong to the first.
func addGitLab(o *server.Options, c *config.Config, pool *upstream.Pool) error {
	var hooked []gitlab.Hooked
	var onBus []*gitlab.Source
	for i, g := range c.Sources.GitLab {
		client, err := pool.Client(gitlabOptions(g))
		if err != nil {
			return err
		}
		s, err := gitlab.New(client, gitlab.Options{URL: g.URL, Groups: g.Groups, First: i == 0, Backfill: time.Duration(g.Backfill), Poll: time.Duration(g.Poll), FailureWindow: time.Duration(g.FailureWindow), Now: time.Now, Logger: o.Logger})
		if err != nil {
			return err
		}
		o.Sources = append(o.Sources, server.Source{Source: s, Poll: time.Duration(g.Poll)})
		if len(g.WebhookSecretFiles) > 0 {
			hooked = append(hooked, gitlab.Hooked{Source: s, SecretFiles: g.WebhookSecretFiles})
		}
		if g.BackstageEvents {
			onBus = append(onBus, s)
		}
	}
	if len(onBus) > 0 {
		if err := addEventBus(o, c, onBus); err != nil {
			return err
		}
	}
	if len(hooked) > 0 {
		o.Webhooks = func(to exporter.Sink, count *exporter.WebhookMetrics) http.Handler {
			return gitlab.NewReceiver(to, count, hooked...)
		}
	}
	return nil
}

// addEventBus takes the webhooks of some sources from Backstage's event bus.
func addEventBus(o *server.Options, c *config.Config, sources []*gitlab.Source) error {
	b := backstageOptions(c.Catalog.Backstage)
	b.Name, b.Tries, b.Timeout = "backstage-events", 1, gitlab.BusHold+30*time.Second
	bus, err := upstream.New(b) // not the pool's: a reading that is held is no slow answer of Backstage
	if err != nil {
		return err
	}
	log := o.Logger
	o.Events = func(ctx context.Context, to exporter.Sink, count *exporter.WebhookMetrics) {
		gitlab.NewSubscription(gitlab.SubscriptionOptions{
			Bus: bus, ID: subscriptionID(c), Sources: sources, Only: len(c.Sources.GitLab) == 1, To: to, Count: count, Logger: log,
		}).Run(ctx)
	}
	return nil
}

// subscriptionID names the subscription of one Sightline. Two that share a Backstage have different addresses, and must
// not take each other's events.
func subscriptionID(c *config.Config) string {
	if c.Server.URL == "" {
		return "sightline"
	}
	sum := sha256.Sum256([]byte(c.Server.URL))
	return "sightline-" + hex.EncodeToString(sum[:4])
}

// gitlabOptions are the same for all that ask a GitLab, so that they share its budget of calls.
func gitlabOptions(g config.GitLab) upstream.Options {
	return upstream.Options{Name: "gitlab", BaseURL: g.URL, TokenFile: g.TokenFile, CAFile: g.CAFile, CallsPerHour: g.CallsPerHour}
}
