package slo

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAGateSaysWhichConditionDoesNotHold(t *testing.T) {
	nan := math.NaN()
	tests := map[string]struct {
		gate    string
		figures Figures
		want    []string
		missing bool
	}{
		"enough budget passes":                             {"budget>10%", Figures{0.11, nan}, nil, false},
		"exactly the limit is not more":                    {"budget>10%", Figures{0.1, 0}, []string{"budget left 10%, wanted budget>10%"}, false},
		"exactly the limit is at least":                    {"budget>=10%", Figures{0.1, 0}, nil, false},
		"an overspent budget is below zero":                {"budget >= -50 %", Figures{-0.6, 0}, []string{"budget left -60%, wanted budget>=-50%"}, false},
		"a fast burn fails though there is budget":         {"budget>10%,burn<2", Figures{0.9, 14.4}, []string{"burn rate 14.4, wanted burn<2"}, false},
		"both conditions are told":                         {"budget>10%, burn<=1.5", Figures{0.0412, 2}, []string{"budget left 4.12%, wanted budget>10%", "burn rate 2, wanted burn<=1.5"}, false},
		"no budget is missing, not failed":                 {"budget>10%", Figures{nan, 0}, nil, true},
		"what the gate does not look at may be missing":    {"burn<2", Figures{nan, 0}, nil, false},
		"one is missing and the other fails":               {"budget<50%,burn<2", Figures{0.7, nan}, []string{"budget left 70%, wanted budget<50%"}, true},
		"a condition may be the other way round on budget": {"budget<100%", Figures{1, 0}, []string{"budget left 100%, wanted budget<100%"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g, err := ParseGate(tt.gate)
			if err != nil {
				t.Fatal(err)
			}
			got, missing := g.Failures(tt.figures)
			if diff := cmp.Diff(tt.want, got); diff != "" || missing != tt.missing {
				t.Errorf("missing %v (-want +got)\n%s", missing, diff)
			}
		})
	}
}

func TestABadGateIsRefusedWithTheReason(t *testing.T) {
	for gate, want := range map[string]string{
		"":                  "no condition",
		"budget>10%,":       "no condition",
		"budget":            "no condition",
		"budget>10":         `write "budget>10%"`,
		"burn<2%":           "no unit",
		"bugdet>10%":        `"bugdet" is neither budget nor burn`,
		"budget=10%":        `"=" is none of`,
		"budget=>10%":       `"=>" is none of`,
		"budget>ten%":       `"ten" is not a number`,
		"burn<NaN":          `"NaN" is not a number`,
		"burn<1e3":          `"1e3" is not a number`,
		"budget>10% burn<2": "no condition",
	} {
		if g, err := ParseGate(gate); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q and the error %v, want %s", gate, g, err, want)
		}
	}
}

func FuzzGate(f *testing.F) {
	for _, s := range []string{"budget>10%", "budget >= -5.5 % , burn<2", "burn<=14.4", ",", "budget>%", "burn<1e9", "budget>\x00%"} {
		f.Add(s, 0.5, 1.0)
	}
	f.Fuzz(func(t *testing.T, s string, budget, burn float64) {
		g, err := ParseGate(s)
		if err != nil {
			return
		}
		again, err := ParseGate(g.String())
		if err != nil || again.String() != g.String() {
			t.Fatalf("%q is printed as %q, which is %q, %v", s, g, again, err)
		}
		a, missing := g.Failures(Figures{budget, burn})
		b, _ := again.Failures(Figures{budget, burn})
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("what is printed is another gate:\n%s", diff)
		}
		if missing && !math.IsNaN(budget) && !math.IsNaN(burn) {
			t.Error("nothing is missing")
		}
	})
}
