package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/guptarohit/asciigraph"

	"github.com/sightline-dev/sightline/slo"
)

// mostAlerts is how many alerts of one target the text lists.
const mostAlerts = 8

// backtestText prints of each objective a table of the targets, the course of its own target's budget, and the alerts.
func backtestText(w io.Writer, found []replayed, st style) error {
	for i := range found {
		r := &found[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  target %s %% over %s\n", st.bold(objectiveName(r.objective)), r.objective.Target.Percent(), r.objective.Window)
		if r.Minutes > 0 {
			fmt.Fprintf(w, "%s to %s UTC: %s\n", shownTime(r.From), shownTime(r.To), r.verdict())
		}
		for _, n := range r.notes {
			fmt.Fprintf(w, "%s %s\n", st.severityMark("warning", "note:"), n)
		}
		if !r.Measured() {
			continue
		}
		fmt.Fprintln(w)
		table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "target\tbudget spent\tat the worst\texhausted\tpages\ttickets\t")
		for k := range r.Outcomes {
			o := &r.Outcomes[k]
			exhausted := "never"
			if o.Exhausted > 0 {
				exhausted = shownLength(o.Exhausted)
			}
			fmt.Fprintf(table, "%s %%\t%.1f %%\t%.1f %%\t%s\t%d\t%d\t\n", o.Target.Percent(), 100*o.Spent, 100*o.Worst, exhausted, o.Count(slo.SeverityPage), o.Count(slo.SeverityTicket))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		own := ownOutcome(r)
		plotBudget(w, r, own, st)
		printAlerts(w, own, st)
	}
	return nil
}

// ownOutcome is that of the objective's own target, or the first.
func ownOutcome(r *replayed) *slo.Outcome {
	for k := range r.Outcomes {
		if r.Outcomes[k].Target == r.objective.Target {
			return &r.Outcomes[k]
		}
	}
	return &r.Outcomes[0]
}

// plotBudget draws how much of the budget was left; below what was overspent by once, nothing is drawn.
func plotBudget(w io.Writer, r *replayed, o *slo.Outcome, st style) {
	const width = 72
	if len(o.Curve) < 2 {
		return
	}
	left := make([]float64, width)
	for i := range left { // the lowest of what falls on a column, so that no dip is lost
		from, to := i*len(o.Curve)/width, max((i+1)*len(o.Curve)/width, i*len(o.Curve)/width+1)
		worst := 0.0
		for _, spent := range o.Curve[from:min(to, len(o.Curve))] {
			worst = max(worst, spent)
		}
		left[i] = max(-100, 100*(1-worst))
	}
	low := 0.0
	for _, v := range left {
		low = min(low, v)
	}
	options := []asciigraph.Option{asciigraph.Height(8), asciigraph.LowerBound(low), asciigraph.UpperBound(100), asciigraph.Precision(0), asciigraph.YAxisValueFormatter(func(v float64) string { return fmt.Sprintf("%.0f %%", v) })}
	if st.colour {
		options = append(options, asciigraph.SeriesColors(asciigraph.Blue))
	}
	fmt.Fprintf(w, "\nbudget left at %s %%\n%s\n", o.Target.Percent(), asciigraph.Plot(left, options...))
	from, to := r.From.UTC().Format("2006-01-02"), r.To.UTC().Format("2006-01-02")
	fmt.Fprintf(w, "         %s%s%s\n", from, strings.Repeat(" ", width-len(from)-len(to)), to)
}

func printAlerts(w io.Writer, o *slo.Outcome, st style) {
	if len(o.Alerts) == 0 {
		fmt.Fprintf(w, "\nat %s %% no alert would have fired\n", o.Target.Percent())
		return
	}
	fmt.Fprintf(w, "\nalerts at %s %%\n", o.Target.Percent())
	for i := range o.Alerts {
		f := &o.Alerts[i]
		if i == mostAlerts {
			fmt.Fprintf(w, "  and %d more: --format json has them all\n", len(o.Alerts)-i)
			return
		}
		severity := st.severityMark("warning", fmt.Sprintf("%-6s", f.Severity))
		if f.Severity == slo.SeverityPage {
			severity = st.severityMark("error", fmt.Sprintf("%-6s", f.Severity))
		}
		still := ""
		if f.Open {
			still = ", still firing"
		}
		fmt.Fprintf(w, "  %s  %s  %-8s %s\n", severity, shownTime(f.From), shownLength(length(f)), strings.TrimSpace(f.Alert+" "+pairsOf(f))+still)
	}
}
