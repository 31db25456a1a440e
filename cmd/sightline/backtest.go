package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/slo"
)

func newBacktest(env environment) *cobra.Command {
	var f historyFlags
	var percents []string
	var format, out string
	formats := map[string]func(io.Writer, []replayed, style) error{"text": backtestText, "json": backtestJSON, "html": backtestHTML, "svg": backtestSVG}
	names := []string{"text", "json", "html", "svg"}
	cmd := &cobra.Command{
		Use: "backtest [PATH...] --prometheus URL", Short: "Say what targets would have cost, and which alerts they would have sent, over past days",
		Long: `Backtest reads the bad and all events of each objective from a Prometheus, minute by minute, and replays the rules that
generate writes: how much of the error budget each target would have spent, and which alerts would have fired when. It
changes nothing, and the objectives need not be in use yet.

Without --target each objective's own is tried, with the next looser and tighter one that people usually take.`,
		Example: `  sightline backtest catalog-info.yaml --prometheus http://prometheus:9090
  sightline backtest catalog-info.yaml --prometheus http://prometheus:9090 --target 99,99.9,99.95 --since 60d
  sightline backtest --config sightline.yaml --entity checkout --indicator availability --format html -o backtest.html`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, names...); err != nil {
				return err
			}
			var targets []slo.Target
			for _, p := range percents {
				t, err := slo.ParseTarget(strings.TrimSuffix(strings.TrimSpace(p), "%"))
				if err != nil {
					return hintError{fmt.Errorf("--target: %w", err), "write them like 99,99.9,99.95"}
				}
				targets = append(targets, t)
			}
			past, err := f.open(cmd.Context(), "backtest", args)
			if err != nil {
				return err
			}
			found, err := past.replay(cmd.Context(), newProgress(env.stderr, false), func(o *slo.Objective) []slo.Target {
				if len(targets) > 0 {
					return targets
				}
				return around(o.Target)
			})
			if err != nil {
				return f.unreachable(err)
			}
			var b bytes.Buffer
			st := style{}
			if out == "" {
				st = newStyle(env.stdout, env.env)
			}
			if err := formats[format](&b, found, st); err != nil {
				return err
			}
			if out == "" {
				_, err = env.stdout.Write(b.Bytes())
			} else {
				err = outputError(os.WriteFile(out, b.Bytes(), 0o644))
			}
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found, func(r replayed) bool { return r.Measured() }) {
				return exitError{exitProblems, hintError{errors.New("no objective has events in this range"), "`sightline lint --prometheus URL` says which metric or label is not there"}}
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&percents, "target", nil, "targets to try, in percent: 99,99.9,99.95")
	cmd.Flags().StringVar(&format, "format", "text", strings.Join(names, ", "))
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write to, instead of standard output")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// around gives a target and its neighbours among the usual ones, loosest first.
func around(t slo.Target) []slo.Target {
	var looser, tighter []slo.Target
	for _, l := range slo.Ladder() {
		switch {
		case l.Budget() > t.Budget()*(1+1e-9):
			looser = []slo.Target{l}
		case l.Budget() < t.Budget()*(1-1e-9) && tighter == nil:
			tighter = []slo.Target{l}
		}
	}
	return slices.Concat(looser, []slo.Target{t}, tighter)
}

// shown is how a time and a length of time are shown to people.
func shownTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func shownLength(d time.Duration) string {
	switch m := int(d.Round(time.Minute) / time.Minute); {
	case m < 120:
		return fmt.Sprintf("%d min", m)
	case m < 48*60:
		return fmt.Sprintf("%dh %02dm", m/60, m%60)
	default:
		return fmt.Sprintf("%dd %dh", m/1440, m%1440/60)
	}
}

// shownCount shortens a number of events.
func shownCount(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f G", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

// verdict says in a few words what the replay found of events.
func (r *replayed) verdict() string {
	if !r.Measured() {
		return "no events"
	}
	of := ""
	if r.objective.Kind.CountsEvents() {
		of = fmt.Sprintf(": %s of %s events were bad", shownCount(r.Errors), shownCount(r.Events))
	}
	return fmt.Sprintf("%s %% attained%s", slo.Percentage(r.Attained), of)
}

// length is how long an alert fired.
func length(f *slo.Firing) time.Duration { return f.To.Sub(f.From) + time.Minute }

// pairsOf names the windows of the pairs that burned.
func pairsOf(f *slo.Firing) string {
	var out []string
	for _, p := range f.Pairs {
		out = append(out, p.Short+"/"+p.Long)
	}
	return strings.Join(out, " ")
}

func backtestJSON(w io.Writer, found []replayed, _ style) error {
	type alert struct {
		Alert    string    `json:"alert"`
		Severity string    `json:"severity"`
		Pairs    []string  `json:"pairs,omitempty"`
		From     time.Time `json:"from"`
		To       time.Time `json:"to"`
		Firing   bool      `json:"still_firing,omitempty"`
	}
	type outcome struct {
		Target           string    `json:"target"`
		BudgetSpent      float64   `json:"budget_spent"`
		WorstSpent       float64   `json:"worst_spent"`
		WorstAt          time.Time `json:"worst_at,omitzero"`
		ExhaustedSeconds float64   `json:"exhausted_seconds"`
		Pages            int       `json:"pages"`
		Tickets          int       `json:"tickets"`
		Alerts           []alert   `json:"alerts"`
		CannotFire       []string  `json:"cannot_fire,omitempty"`
	}
	type objective struct {
		Entity         string    `json:"entity"`
		Indicator      string    `json:"indicator"`
		Target         string    `json:"target"`
		Window         string    `json:"window"`
		From           time.Time `json:"from,omitzero"`
		To             time.Time `json:"to,omitzero"`
		Events         *float64  `json:"events,omitempty"`
		Errors         *float64  `json:"errors,omitempty"`
		Attained       *float64  `json:"attained"`
		MissingMinutes int       `json:"missing_minutes"`
		Notes          []string  `json:"notes,omitempty"`
		Candidates     []outcome `json:"candidates"`
	}
	out := []objective{}
	for i := range found {
		r := &found[i]
		o := objective{
			Entity: r.objective.Entity.String(), Indicator: r.objective.Indicator, Target: r.objective.Target.Percent(), Window: r.objective.Window.String(),
			From: r.From.UTC(), To: r.To.UTC(), MissingMinutes: r.Missing, Notes: r.notes, Candidates: []outcome{},
		}
		if r.Measured() {
			o.Attained = &r.Attained
			if r.objective.Kind.CountsEvents() {
				o.Events, o.Errors = &r.Events, &r.Errors
			}
		}
		for k := range r.Outcomes {
			c := &r.Outcomes[k]
			of := outcome{c.Target.Percent(), c.Spent, c.Worst, c.WorstAt.UTC(), c.Exhausted.Seconds(), c.Count(slo.SeverityPage), c.Count(slo.SeverityTicket), []alert{}, nil}
			if c.WorstAt.IsZero() {
				of.WorstAt = time.Time{}
			}
			for j := range c.Alerts {
				f := &c.Alerts[j]
				of.Alerts = append(of.Alerts, alert{f.Alert, string(f.Severity), strings.Fields(pairsOf(f)), f.From.UTC(), f.To.UTC(), f.Open})
			}
			for _, p := range c.Dead {
				of.CannotFire = append(of.CannotFire, p.Short+"/"+p.Long)
			}
			o.Candidates = append(o.Candidates, of)
		}
		out = append(out, o)
	}
	return encodeJSON(w, out)
}
