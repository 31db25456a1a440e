package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/upstream"
)

// A check examines one thing that the configuration names. run returns when ctx ends at the latest.
type check struct {
	name     string // as --check takes it
	subject  string // an address, or the file's name
	run      func(context.Context) upstream.Findings
	answered func() bool // whether the other system has answered, after run; nil where there is none
}

// A checked is a finding as it is reported.
type checked struct {
	Check   string `json:"check"`
	Subject string `json:"subject"`
	upstream.Finding
}

// checkNames lists what --check takes, in the order of the report.
var checkNames = []string{"config", "catalog", "scaffolder", "events", "backstage", "gitlab", "store", "prometheus", "ruler", "kubernetes", "alertmanager", "metrics", "logs", "traces", "grafana"}

func newDoctor(env environment) *cobra.Command {
	var conf, format string
	var only, metrics []string
	var timeout time.Duration
	var projects int
	cmd := &cobra.Command{
		Use: "doctor --config FILE", Short: "Check everything that a configuration names, and say how to mend it", Args: noArgs,
		Long: `Doctor asks every system that the configuration names whether Sightline can do its work with it, and says of each finding
why it matters and how it is mended: the configuration and the files it names, the catalog, Backstage's telemetry with its
known traps, the permissions of tokens, GitLab's projects, rate limit and webhooks, how long the Prometheus keeps samples
against the longest window of any objective, what Alertmanager has loaded, Loki, traces, Grafana, and everybody's clock.

Nothing is changed anywhere. The checks run at the same time, each for --timeout at most, and none stops another.
The exit code is 1 when something is an error, and 3 when no other system has answered.`,
		Example: `  sightline doctor --config sightline.yaml
  sightline doctor --config sightline.yaml --check gitlab,store
  sightline doctor --config sightline.yaml --format json
  sightline doctor --metrics-url http://localhost:9464/metrics`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			for _, name := range only {
				if err := oneOf("check", name, checkNames...); err != nil {
					return err
				}
			}
			if timeout <= 0 || projects < 1 {
				return hintError{errors.New("--timeout and --projects must be more than zero"), "leave them out"}
			}
			var c *config.Config
			switch {
			case (conf == "") == (len(metrics) == 0):
				return hintError{errors.New("doctor needs either --config or --metrics-url"), "try `sightline doctor --config sightline.yaml`"}
			case conf == "":
				c, only = &config.Config{Sources: config.Sources{Backstage: &config.BackstageMetrics{MetricsURLs: metrics}}}, []string{"backstage"}
			default:
				var err error
				if c, err = config.Load(conf); err != nil {
					return err
				}
			}
			d := &doctor{config: c, file: conf, alone: conf == "", projects: projects, timeout: timeout, now: time.Now}
			checks, err := d.checks()
			if err != nil {
				return err
			}
			if len(only) > 0 {
				checks = slices.DeleteFunc(checks, func(k check) bool { return !slices.Contains(only, k.name) })
			}
			if len(checks) == 0 {
				return hintError{fmt.Errorf("%s names nothing of %s", conf, strings.Join(only, ", ")), "leave --check out"}
			}
			bar := newProgress(env.stderr, false)
			found := runChecks(cmd.Context(), checks, timeout, func(done int, waiting []string) {
				bar.say("sightline: %d of %d checks done, waiting for %s", done, len(checks), strings.Join(waiting, ", "))
			})
			bar.done()
			if cmd.Context().Err() != nil {
				return exitError{exitUpstream, errors.New("interrupted")}
			}
			if format == "json" {
				if err := encodeJSON(env.stdout, found); err != nil {
					return err
				}
			} else {
				printChecked(env.stdout, found, newStyle(env.stdout, env.env))
				fmt.Fprintln(env.stderr, "sightline:", countChecked(found))
			}
			return doctorExit(checks, found)
		},
	}
	cmd.Flags().StringVar(&conf, "config", "", "configuration file, the one that serve takes")
	cmd.Flags().StringSliceVar(&only, "check", nil, "check only these: "+strings.Join(checkNames, ", "))
	cmd.Flags().StringSliceVar(&metrics, "metrics-url", nil, "check these metrics endpoints of Backstage, without a configuration")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long one check may take")
	cmd.Flags().IntVar(&projects, "projects", 50, "how many projects of a GitLab are asked for at most")
	for flag, values := range map[string][]string{"check": checkNames, "format": {"text", "json"}} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	return cmd
}

// runChecks runs all checks at the same time and gives the findings in the order of the checks. A check that does not end
// in time is reported so. said is called by one goroutine at a time when a check has ended.
func runChecks(ctx context.Context, checks []check, timeout time.Duration, said func(done int, waiting []string)) []checked {
	results := make([]upstream.Findings, len(checks))
	var mu sync.Mutex
	ended := make([]bool, len(checks))
	say := func() {
		var waiting []string
		done := 0
		for i, k := range checks {
			switch {
			case ended[i]:
				done++
			case !slices.Contains(waiting, k.name):
				waiting = append(waiting, k.name)
			}
		}
		if len(waiting) > 0 {
			said(done, waiting)
		}
	}
	say()
	var wg sync.WaitGroup
	for i, k := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			answer := make(chan upstream.Findings, 1)
			go func() { answer <- k.run(ctx) }()
			select {
			case results[i] = <-answer:
			case <-ctx.Done():
				select { // what has heeded the end has more to say
				case results[i] = <-answer:
				case <-time.After(time.Second):
					results[i].Error("", "it took longer than %s", timeout)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			ended[i] = true
			say()
		})
	}
	wg.Wait()
	out := []checked{}
	for i, k := range checks {
		for _, f := range results[i] {
			out = append(out, checked{k.name, k.subject, f})
		}
	}
	return out
}

// doctorExit gives the exit code: an error is a problem, unless no system answered that was asked.
func doctorExit(checks []check, found []checked) error {
	if !slices.ContainsFunc(found, func(f checked) bool { return f.Level == upstream.LevelError }) {
		return nil
	}
	asked, answered := 0, 0
	for _, k := range checks {
		if k.answered != nil {
			asked++
			if k.answered() {
				answered++
			}
		}
	}
	if asked > 0 && answered == 0 {
		return exitError{exitUpstream, hintError{errors.New("no other system has answered"), "check the network, and HTTPS_PROXY and NO_PROXY where there is a proxy"}}
	}
	return exitError{code: exitProblems}
}

func (s style) level(l upstream.Level) string {
	text := fmt.Sprintf("%-7s", l)
	switch l {
	case upstream.LevelOK:
		return s.paint("32", text)
	case upstream.LevelError:
		return s.paint("31;1", text)
	case upstream.LevelWarning:
		return s.paint("33", text)
	}
	return s.dim(text)
}

func printChecked(w io.Writer, found []checked, st style) {
	for i, f := range found {
		if i == 0 || f.Check != found[i-1].Check || f.Subject != found[i-1].Subject {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, st.bold(f.Check), clean(f.Subject))
		}
		fmt.Fprintf(w, "  %s  %s\n", st.level(f.Level), clean(f.Message))
		if f.Hint != "" && f.Level != upstream.LevelOK {
			fmt.Fprintf(w, "           %s %s\n", st.bold("hint:"), clean(f.Hint))
		}
	}
}

func countChecked(found []checked) string {
	n := map[upstream.Level]int{}
	for _, f := range found {
		n[f.Level]++
	}
	return fmt.Sprintf("%s, %s, %d skipped, %d ok", plural(n[upstream.LevelError], "error"), plural(n[upstream.LevelWarning], "warning"), n[upstream.LevelSkipped], n[upstream.LevelOK])
}

// shown is a URL without its user and password, of which there are none where config has checked it.
func shown(url string) string { return cmp.Or(strings.TrimRight(url, "/"), "-") }
