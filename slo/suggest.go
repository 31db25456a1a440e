package slo

import (
	"fmt"
	"math/big"
	"strings"
)

// Ladder gives the targets that people usually choose from, loosest first.
func Ladder() []Target {
	var out []Target
	for _, p := range [...]string{"90", "95", "99", "99.5", "99.9", "99.95", "99.99"} {
		t, err := ParseTarget(p)
		if err != nil {
			panic(err) // a constant
		}
		out = append(out, t)
	}
	return out
}

// What a suggested target must leave: a fifth of the budget at the worst time, and a budget that single events do not decide.
const (
	roomToSpare  = 0.8
	fewestEvents = 5
)

// A Suggestion is a target that history would have kept, and why it is this one.
type Suggestion struct {
	Outcome *Outcome // nil: no target can be proposed
	Reasons []string // sentences without a full stop
}

// Suggest proposes the tightest target of a replay's outcomes, which come loosest first, that history would have kept with room to
// spare: at the worst time a fifth of the budget was left, it pages where the objective may, and its budget holds at
// least five events, so that no single one decides.
func Suggest(o *Objective, r *Replay) Suggestion {
	if !r.Measured() {
		return Suggestion{Reasons: []string{"there were no events in the range"}}
	}
	s := Suggestion{Reasons: []string{fmt.Sprintf("%s %% was attained", Percentage(r.Attained))}}
	var refused string
	for i := range r.Outcomes {
		out := &r.Outcomes[i]
		why := ""
		switch {
		case out.Worst > 1:
			why = fmt.Sprintf("at %s %% the budget would have been spent %.1f times over", out.Target.Percent(), out.Worst)
		case out.Worst > roomToSpare:
			why = fmt.Sprintf("at %s %% only %.0f %% of the budget would have been left at the worst time", out.Target.Percent(), 100*(1-out.Worst))
		case o.Kind.CountsEvents() && r.Events*out.Target.Budget() < fewestEvents:
			why = fmt.Sprintf("at %s %% the budget would be %.1f events of %.0f, so that a single one decides", out.Target.Percent(), r.Events*out.Target.Budget(), r.Events)
		case !alive(o, out.Dead):
			continue // looser than alerts can be
		default:
			s.Outcome = out
			continue
		}
		if refused == "" {
			refused = why
		}
		if s.Outcome != nil {
			break
		}
	}
	if s.Outcome != nil {
		s.Reasons = append(s.Reasons, fmt.Sprintf("%s %% is the tightest usual target that would have kept a fifth of its budget: %.0f %% were spent at the worst time", s.Outcome.Target.Percent(), 100*s.Outcome.Worst))
		s.Reasons = append(s.Reasons, fmt.Sprintf("it would have paged %s and opened %s", times(s.Outcome.Count(SeverityPage)), tickets(s.Outcome.Count(SeverityTicket))))
	}
	if refused != "" {
		s.Reasons = append(s.Reasons, refused)
	}
	return s
}

// alive tells whether any pair of the highest severity that may fire can fire.
func alive(o *Objective, dead []BurnPair) bool {
	if o.MaxSeverity == SeverityOff {
		return true
	}
	n := 0
	for _, p := range dead {
		if p.Severity == o.MaxSeverity {
			n++
		}
	}
	return n < 2
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func tickets(n int) string {
	switch n {
	case 0:
		return "no ticket"
	case 1:
		return "one ticket"
	}
	return fmt.Sprintf("%d tickets", n)
}

// Percentage prints a share in percent with as many digits as tell it from 100: "99.9512".
func Percentage(share float64) string {
	r := new(big.Rat)
	if r.SetFloat64(share*100) == nil {
		return "0"
	}
	digits := 2
	for bad := 1 - share; bad > 0 && bad < 0.01 && digits < 6; bad *= 10 {
		digits++
	}
	text := r.FloatString(digits)
	if share < 1 && strings.HasPrefix(text, "100") { // not quite
		text = "99." + strings.Repeat("9", digits)
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
