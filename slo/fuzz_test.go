package slo

import (
	"io/fs"
	"math/big"
	"strings"
	"testing"
)

// FuzzParseTarget checks every target that is taken against exact arithmetic.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"99.9", "99", "0.5", "5", "099.90", "99.99999999999", "100", "0", "99,9", ".5", "5."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, percent string) {
		target, err := ParseTarget(percent)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(percent)
		if !ok {
			t.Fatalf("%q is taken and is no number", percent)
		}
		want.Quo(want, big.NewRat(100, 1))
		ratio, _ := new(big.Rat).SetString(target.Ratio())
		if ratio.Cmp(want) != 0 {
			t.Errorf("%s %% is the ratio %s", percent, target.Ratio())
		}
		if sum := ratio.Add(ratio, target.exactBudget()); sum.Cmp(big.NewRat(1, 1)) != 0 {
			t.Errorf("%s %%: ratio and budget come to %s", percent, sum.RatString())
		}
		if target.Percent() != percent || target.IsZero() {
			t.Errorf("%q is shown as %q", percent, target.Percent())
		}
	})
}

// FuzzParseProfile checks that an indicator file of any bytes is an error or a profile whose names fit into labels.
func FuzzParseProfile(f *testing.F) {
	files, err := fs.Glob(builtin, "library/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		body, err := fs.ReadFile(builtin, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parseProfile(body)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without a message")
			}
			return
		}
		for _, ind := range p.Indicators {
			if ind.Name == "" || strings.ContainsAny(ind.Name, ". -") {
				t.Errorf("indicator %q", ind.Name)
			}
		}
	})
}
