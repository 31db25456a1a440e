package slo

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// A Gate is what objectives must meet before something goes on, a deployment for example. Its grammar:
//
//	gate      = condition { "," condition } ;                        (* a comma means "and" *)
//	condition = "budget" compare number "%" | "burn" compare number ;
//	compare   = ">" | ">=" | "<" | "<=" ;
//	number    = [ "-" ] digits [ "." digits ] ;
//
// The budget is the share of the error budget that is left, below 0 when overspent; the burn is the burn rate over the last hour.
// Spaces may stand between the parts.
type Gate struct{ conditions []condition }

type condition struct {
	burn    bool // else the budget
	compare string
	limit   float64 // a ratio
	text    string  // as it is printed
}

var conditionForm = regexp.MustCompile(`^\s*([^\s<>=%]*)\s*([<>=]+)\s*([^\s%]*)\s*(%?)\s*$`)

var gateNumber = regexp.MustCompile(`^-?[0-9]{1,9}(\.[0-9]{1,9})?$`)

// ParseGate reads a gate such as "budget>10%,burn<2".
func ParseGate(s string) (Gate, error) {
	var g Gate
	for part := range strings.SplitSeq(s, ",") {
		m := conditionForm.FindStringSubmatch(part)
		if m == nil {
			return Gate{}, fmt.Errorf("%q is no condition such as \"budget>10%%\"", strings.TrimSpace(part))
		}
		figure, compare, number, percent := m[1], m[2], m[3], m[4]
		switch {
		case figure != "budget" && figure != "burn":
			return Gate{}, fmt.Errorf("%q is neither budget nor burn", figure)
		case compare != ">" && compare != ">=" && compare != "<" && compare != "<=":
			return Gate{}, fmt.Errorf("%q is none of >, >=, < and <=", compare)
		case !gateNumber.MatchString(number):
			return Gate{}, fmt.Errorf("%q is not a number", number)
		case figure == "budget" && percent == "":
			return Gate{}, fmt.Errorf("a budget is in percent: write %q", figure+compare+number+"%")
		case figure == "burn" && percent != "":
			return Gate{}, errors.New("a burn rate has no unit: 1 spends the whole budget in one window")
		}
		limit, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return Gate{}, fmt.Errorf("%q is not a number", number)
		}
		if percent != "" {
			limit /= 100
		}
		g.conditions = append(g.conditions, condition{figure == "burn", compare, limit, figure + compare + number + percent})
	}
	return g, nil
}

// String gives the gate in its shortest form, which ParseGate reads as the same gate.
func (g Gate) String() string {
	parts := make([]string, len(g.conditions))
	for i, c := range g.conditions {
		parts[i] = c.text
	}
	return strings.Join(parts, ",")
}

// A Figures holds what a gate looks at: the share of the budget that is left and the burn rate over the last hour. NaN is unknown.
type Figures struct{ Budget, Burn float64 }

// Failures says of each condition that does not hold why, in a few words. missing tells whether a figure that the gate looks
// at is unknown; such a condition is no failure.
func (g Gate) Failures(f Figures) (failures []string, missing bool) {
	for _, c := range g.conditions {
		value, name, shown := f.Budget, "budget left", percentText(f.Budget)
		if c.burn {
			value, name, shown = f.Burn, "burn rate", strconv.FormatFloat(round(f.Burn), 'f', -1, 64)
		}
		ok := false
		switch c.compare {
		case ">":
			ok = value > c.limit
		case ">=":
			ok = value >= c.limit
		case "<":
			ok = value < c.limit
		case "<=":
			ok = value <= c.limit
		}
		switch {
		case math.IsNaN(value):
			missing = true
		case !ok:
			failures = append(failures, fmt.Sprintf("%s %s, wanted %s", name, shown, c.text))
		}
	}
	return failures, missing
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

func percentText(share float64) string {
	return strconv.FormatFloat(round(share*100), 'f', -1, 64) + "%"
}
