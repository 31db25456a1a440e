package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/simulate"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// compiler gives the function that the server calls at the start and at each reload.
func compiler(load func() (*config.Config, error), pool *upstream.Pool) func(context.Context) (*server.Compiled, error) {
	return func(ctx context.Context) (*server.Compiled, error) {
		c, err := load()
		if err != nil {
			return nil, hintError{err, hintOf(err)}
		}
		lib, err := library(c)
		if err != nil {
			return nil, err
		}
		g, problems, err := loadCatalog(ctx, c, pool)
		if err != nil {
			return nil, err
		}
		opts, err := compileOptions(c, false)
		if err != nil {
			return nil, err
		}
		opts.Rules.Anchored = c.Store.URL == "" // the embedded engine knows it
		p, objectives, err := plan.Compile(ctx, g, lib, problems, opts)
		if err != nil {
			return nil, err
		}
		addRetention(c, p, objectives)
		addExpired(p, objectives)
		return &server.Compiled{Graph: g, Objectives: objectives, Plan: p}, nil
	}
}

// isUpstream tells errors of a system that may be mended while serve waits from those of the configuration.
func isUpstream(err error) bool {
	var e exitError
	return errors.As(err, &e) && e.code == exitUpstream
}

// serve runs a server until the context ends, and reloads on a signal.
func serve(ctx context.Context, env environment, o server.Options, started func(url string)) error {
	s, err := server.New(ctx, o)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped while it started, which is no more an error than later
	}
	if err != nil {
		return err
	}
	started(s.URL())
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-env.reload:
				if err := s.Reload(ctx); err != nil {
					o.Logger.Error("not taken over; the old configuration keeps running", "error", err, "hint", hintOf(err))
				} else {
					o.Logger.Info("reloaded")
				}
			}
		}
	}()
	return s.Run(ctx)
}

func newServe(env environment) *cobra.Command {
	var conf string
	cmd := &cobra.Command{
		Use: "serve --config FILE", Short: "Run the server: embedded Prometheus, HTTP API, web UI", Args: noArgs,
		Long: `Serve compiles the catalog, evaluates the objectives in an embedded Prometheus, notifies Alertmanager, and serves the web
UI, the HTTP API, /metrics and a Prometheus query API. With store.url the figures come from that Prometheus, Mimir or
Thanos instead, which evaluates the files of "sightline generate".

The catalog is read again every minute. SIGHUP or POST /-/reload reads it and the configuration at once; a bad one, or a
catalog that shrank to less than half, leaves the old one running. Changes of catalog.backstage, sources, store,
alertmanager.url, server, metrics, logs and traces need a restart, and the log says so. A Backstage that cannot be reached
at the start is tried again and again; /-/ready says what is missing.`,
		Example: "  sightline serve --config sightline.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(conf)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(env.stderr, nil))
			pool := upstream.NewPool()
			var waiting atomic.Pointer[[]string] // keys that wait for a restart
			load := func() (*config.Config, error) {
				now, err := config.Load(conf)
				if err != nil {
					return nil, err
				}
				keys := now.RestartNeeded(c)
				if said := waiting.Swap(&keys); len(keys) > 0 && (said == nil || !slices.Equal(*said, keys)) {
					log.Warn("changed in the configuration, and taken over by a restart only", "keys", strings.Join(keys, ", "))
				}
				return now, nil
			}
			o := server.Options{
				Compile: compiler(load, pool), Waiting: func() []string { return *waiting.Load() },
				Retry: isUpstream, WebConfig: c.Server.WebConfigFile,
				Listen: c.Server.Listen, MetricsListen: c.Server.MetricsListen, NeedAuth: len(c.Server.Auth.TokenFiles) > 0 || c.Server.Auth.Backstage, AllowOpen: c.Server.Auth.AllowOpen,
				Auth: auth.Options{TokenFiles: c.Server.Auth.TokenFiles}, Path: c.Store.Path, Retention: time.Duration(c.Store.Retention),
				Version: version, Logger: log, Collect: []prometheus.Collector{pool},
			}
			if st := c.Store; st.URL != "" {
				if o.Remote, err = remote.New(remote.Options{URL: st.URL, TokenFile: st.TokenFile, CAFile: st.CAFile, Tenant: st.Tenant}); err != nil {
					return err
				}
				if c.Alertmanager.URL != "" {
					log.Warn("alertmanager.url has no effect beside store.url: the Prometheus there sends the alerts")
				}
				log.Info("rules and samples are the store's: load the files of `sightline generate` into it, and let it scrape /metrics", "store", o.Remote.Address())
			}
			if b := c.Catalog.Backstage; b != nil {
				o.Refresh = time.Duration(b.Refresh)
				if c.Sources.Scaffolder != nil {
					client, err := pool.Client(backstageOptions(b))
					if err != nil {
						return err
					}
					tasks, err := scaffolder.New(client, b.URL, time.Now)
					if err != nil {
						return err
					}
					for _, g := range c.Sources.GitLab {
						tasks.Follow(g.URL)
					}
					o.Sources = append(o.Sources, server.Source{Source: tasks, Poll: time.Duration(c.Sources.Scaffolder.Poll)})
				}
				if c.Server.Auth.Backstage {
					o.Auth.Backstage = &auth.BackstageOptions{BaseURL: b.URL}
				}
			}
			if err := addGitLab(&o, c, pool); err != nil {
				return err
			}
			if o.Sinks, err = sinks(c, pool, log); err != nil {
				return err
			}
			if o.Push, err = pushTargets(c); err != nil {
				return err
			}
			o.PushEvery = time.Duration(c.Metrics.Interval)
			if o.Logs, err = logStore(c, pool); err != nil {
				return err
			}
			if o.Traces, err = traceStore(c, pool); err != nil {
				return err
			}
			if c.Alertmanager.URL != "" {
				o.Alerting = []string{c.Alertmanager.URL}
			}
			for _, j := range c.Store.Scrape {
				o.Scrape = append(o.Scrape, engine.ScrapeJob{Job: j.Job, Targets: j.Targets, Interval: time.Duration(j.Interval)})
			}
			if err := addPlugins(c, &o); err != nil {
				return err
			}
			if c.Apply == "continuous" {
				if _, err := targetsOf(c, &plan.Plan{}, nil); err != nil {
					return fmt.Errorf("apply: continuous: %w", err)
				}
				r := newReconciler(c, log)
				o.Taken, o.Collect = r.take, append(o.Collect, r.collectors()...)
				ctx, stop := context.WithCancel(cmd.Context())
				var wg sync.WaitGroup
				wg.Go(func() { r.run(ctx) })
				defer wg.Wait()
				defer stop()
			}
			return serve(cmd.Context(), env, o, func(url string) { log.Info("listening", "url", url) })
		},
	}
	cmd.Flags().StringVar(&conf, "config", "", "configuration file")
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

func newDemo(env environment) *cobra.Command {
	var listen, data string
	cmd := &cobra.Command{
		Use: "demo", Short: "Serve a simulated platform, to look around", Args: noArgs,
		Long: `Demo runs the real server on a simulated platform: teams, services, pipelines and scaffolder tasks that do not exist, with
30 days of history and a few incidents. Nothing is contacted.`,
		Example: "  sightline demo\n  sightline demo --listen 127.0.0.1:8080 --data /tmp/sightline-demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				dir, err := os.MkdirTemp("", "sightline-demo-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				data = dir
			}
			dir := filepath.Join(data, "catalog")
			if err := simulate.WriteCatalog(dir); err != nil {
				return hintError{err, "name a folder for --data that you may write to, or leave --data out"}
			}
			c := &config.Config{Catalog: config.Catalog{Files: []string{dir}, PlatformOwner: "group:default/platform"}}
			c.Alertmanager.Receivers.Email = &config.Email{Smarthost: "mail.simulated:587", From: "slo@example.com"}
			ctx, start := cmd.Context(), time.Now()
			compile := compiler(func() (*config.Config, error) { return c, nil }, upstream.NewPool())
			compiled, err := compile(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(env.stderr, "sightline: making 30 days of simulated history ...")
			traffic := simulate.NewTraffic(compiled.Graph, start, start.Add(-2*time.Hour), time.Now)
			var history *simulate.History
			fresh := false
			o := server.Options{
				Compile: compile, Listen: listen, Path: data, Simulated: true, Version: version,
				Logger:  slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
				Sources: []server.Source{{Source: simulate.NewSource(start, 30*24*time.Hour, time.Now), Poll: 10 * time.Second}},
				Collect: []prometheus.Collector{traffic},
				History: func(ctx context.Context, path string, objectives []slo.Objective) (err error) {
					history = simulate.NewHistory(compiled.Graph, objectives, start)
					fresh, err = history.WriteBlocks(ctx, path)
					return err
				},
				Warm: func(ctx context.Context, e *engine.Engine) error {
					if !fresh { // a demo that goes on
						return nil
					}
					return history.Finish(ctx, e, traffic)
				},
			}
			return serve(ctx, env, o, func(url string) {
				fmt.Fprintf(env.stderr, "sightline: the simulated platform is at %s (stop with Ctrl-C)\n", url)
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9469", "address to listen on")
	cmd.Flags().StringVar(&data, "data", "", "folder to keep the data in; a temporary one by default")
	return cmd
}
