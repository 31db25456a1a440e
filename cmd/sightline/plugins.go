package main

import (
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/exporter/backstage"
	"github.com/sightline-dev/sightline/server"
)

// addPlugins adds the metrics of Backstage's plugins, where the configuration asks for them.
func addPlugins(c *config.Config, o *server.Options) error {
	m := c.Sources.Backstage
	if m == nil {
		return nil
	}
	plugins, err := backstage.New(backstage.Options{URLs: m.MetricsURLs, Scaffolder: c.Sources.Scaffolder == nil})
	if err != nil {
		return fmt.Errorf("sources.backstage: %w", err)
	}
	poll := time.Duration(m.Poll)
	o.Sources = append(o.Sources, server.Source{Source: plugins, Poll: poll, MaxBackoff: poll}) // a replica that fails does not slow the others down
	o.Collect = append(o.Collect, plugins)
	return nil
}
