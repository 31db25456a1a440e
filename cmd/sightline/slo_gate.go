package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/slo"
)

// A gateResult says whether objectives meet a gate.
type gateResult struct {
	Expression string        `json:"expression"`
	Passed     bool          `json:"passed"`
	Checked    int           `json:"checked"`
	Failures   []gateFailure `json:"failures"`
}

// A gateFailure is an objective that does not meet a gate.
type gateFailure struct {
	ID        string   `json:"id"`
	Entity    string   `json:"entity"`
	Indicator string   `json:"indicator"`
	Reasons   []string `json:"reasons"`
	Hint      string   `json:"hint"`
}

// tryGate puts objectives to a gate. What has no data fails, and nothing at all fails too, unless that is allowed.
func tryGate(g slo.Gate, slos []api.SLO, allowNoData bool) *gateResult {
	r := &gateResult{Expression: g.String(), Checked: len(slos), Failures: []gateFailure{}}
	if len(slos) == 0 && !allowNoData {
		r.Failures = append(r.Failures, gateFailure{
			Reasons: []string{"no objective matches"}, Hint: "check --owner, --entity, --system and --indicator; --gate-allow-no-data lets it through",
		})
	}
	for _, s := range slos {
		reasons, missing := g.Failures(slo.Figures{Budget: valueOf(s.BudgetRemaining), Burn: valueOf(burnNow(s))})
		hint := gateHint(s)
		if missing && !allowNoData {
			reasons = append(reasons, "no data")
			hint = "see whether its metrics and its selector are right (`sightline explain annotations`), or give --gate-allow-no-data"
		}
		if len(reasons) > 0 {
			r.Failures = append(r.Failures, gateFailure{s.ID, s.Entity.String(), s.Indicator, reasons, hint})
		}
	}
	r.Passed = len(r.Failures) == 0
	return r
}

// gateHint says what to do about an objective that does not meet a gate.
func gateHint(s api.SLO) string {
	hint := "deploy only what makes it more reliable until the budget has recovered"
	if s.Status == api.StatusBurning || valueOf(burnNow(s)) > 1 {
		hint = "errors are being spent now: end the incident before the next deployment"
	}
	if s.Runbook != "" {
		hint += "; runbook: " + s.Runbook
	}
	return hint
}

func (r *gateResult) print(w io.Writer, st style) {
	if r.Passed {
		fmt.Fprintf(w, "sightline: the gate %s is met by %s\n", r.Expression, plural(r.Checked, "objective"))
		return
	}
	fmt.Fprintf(w, "%s the gate %s is not met\n", st.paint("31;1", "sightline:"), r.Expression)
	for _, f := range r.Failures {
		name := strings.TrimSpace(f.Entity + " " + f.Indicator)
		if name != "" {
			name += ": "
		}
		fmt.Fprintf(w, "  %s%s\n    %s %s\n", clean(name), strings.Join(f.Reasons, "; "), st.bold("hint:"), clean(f.Hint))
	}
}
