package main

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/slo"
)

func newSLOSuggest(env environment) *cobra.Command {
	var f historyFlags
	var format string
	cmd := &cobra.Command{
		Use: "suggest [PATH...] --prometheus URL", Short: "Propose targets from history, with the reason",
		Long: `Suggest replays the history of each objective at the usual targets and proposes the tightest one that would have been kept
with room to spare, so that an alert means something. It prints the annotation to paste.`,
		Example: `  sightline slo suggest catalog-info.yaml --prometheus http://prometheus:9090
  sightline slo suggest --config sightline.yaml --entity checkout --since 90d`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			past, err := f.open(cmd.Context(), "slo suggest", args)
			if err != nil {
				return err
			}
			found, err := past.replay(cmd.Context(), newProgress(env.stderr, false), func(*slo.Objective) []slo.Target { return slo.Ladder() })
			if err != nil {
				return f.unreachable(err)
			}
			if format == "json" {
				return suggestJSON(env.stdout, found)
			}
			return suggestText(env.stdout, found, newStyle(env.stdout, env.env))
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// annotation is the line that sets an objective to a target.
func annotation(o *slo.Objective, t slo.Target) string {
	value := t.Percent()
	if o.Threshold != "" {
		value += "@" + o.Threshold
		if seconds, err := strconv.ParseFloat(o.Threshold, 64); err == nil && o.Kind != slo.KindThroughput && o.Kind != slo.KindTimeSlice {
			if value += "s"; seconds < 1 {
				value = fmt.Sprintf("%s@%gms", t.Percent(), seconds*1000)
			}
		}
	}
	return fmt.Sprintf("%s: %q", entityKey(o), value)
}

func suggestText(w io.Writer, found []replayed, st style) error {
	for i := range found {
		r := &found[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		s := slo.Suggest(r.objective, &r.Replay)
		fmt.Fprintf(w, "%s  now %s %% over %s\n", st.bold(objectiveName(r.objective)), r.objective.Target.Percent(), r.objective.Window)
		switch {
		case s.Outcome == nil:
			fmt.Fprintln(w, "  no target can be proposed")
		case math.Abs(s.Outcome.Target.Budget()/r.objective.Target.Budget()-1) < 1e-9:
			fmt.Fprintln(w, "  the target fits")
		case r.objective.Source == "annotation":
			fmt.Fprintf(w, "  %s\n", st.bold(annotation(r.objective, s.Outcome.Target)))
		default:
			fmt.Fprintf(w, "  %s %% in %s\n", st.bold(s.Outcome.Target.Percent()), r.objective.Source)
		}
		for _, reason := range s.Reasons {
			fmt.Fprintf(w, "  - %s\n", reason)
		}
		for _, n := range r.notes {
			fmt.Fprintf(w, "  %s %s\n", st.severityMark("warning", "note:"), n)
		}
	}
	return nil
}

func suggestJSON(w io.Writer, found []replayed) error {
	type suggestion struct {
		Entity     string   `json:"entity"`
		Indicator  string   `json:"indicator"`
		Window     string   `json:"window"`
		Target     string   `json:"target"`
		Suggested  string   `json:"suggested,omitempty"`
		Annotation string   `json:"annotation,omitempty"`
		Attained   *float64 `json:"attained"`
		Reasons    []string `json:"reasons"`
		Notes      []string `json:"notes,omitempty"`
	}
	out := []suggestion{}
	for i := range found {
		r := &found[i]
		s := slo.Suggest(r.objective, &r.Replay)
		of := suggestion{Entity: r.objective.Entity.String(), Indicator: r.objective.Indicator, Window: r.objective.Window.String(), Target: r.objective.Target.Percent(), Reasons: s.Reasons, Notes: r.notes}
		if r.Measured() {
			of.Attained = &r.Attained
		}
		if s.Outcome != nil {
			of.Suggested = s.Outcome.Target.Percent()
			if r.objective.Source == "annotation" {
				of.Annotation = annotation(r.objective, s.Outcome.Target)
			}
		}
		out = append(out, of)
	}
	return encodeJSON(w, out)
}
