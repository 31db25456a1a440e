package slo

import (
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestTargetsAreExact compares the decimal texts with rational arithmetic, over random targets and windows.
func TestTargetsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	one, hundred := big.NewRat(1, 1), big.NewRat(100, 1)
	fixed := []string{"99.9", "099.90", "0.000000000000000001", "99.99999999999999999", "93.05555555555555556", "0.1", "10", "1"}
	for i := range 2000 {
		percent := strconv.Itoa(random.IntN(100)) + "." + strconv.FormatUint(random.Uint64N(1e17)+1, 10)[:1+i%15]
		if i < len(fixed) {
			percent = fixed[i]
		}
		target, err := ParseTarget(percent)
		if strings.Trim(percent, "0.") == "" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want, _ := new(big.Rat).SetString(percent)
		want.Quo(want, hundred)
		if got := decimal(want); target.Ratio() != got {
			t.Errorf("%s %%: ratio %s, want %s", percent, target.Ratio(), got)
		}
		budget := new(big.Rat).Sub(one, want)
		if got := decimal(budget); target.ErrorBudget() != got {
			t.Errorf("%s %%: budget %s, want %s", percent, target.ErrorBudget(), got)
		}
		if f, _ := budget.Float64(); target.Budget() != f {
			t.Errorf("%s %%: budget %v, want %v", percent, target.Budget(), f)
		}
		days := 7 + i%359
		for j, p := range (Window{Days: days}).BurnPairs() {
			share, hours := []int64{2, 5, 10, 10}[j], []int64{1, 6, 24, 72}[j]
			factor := big.NewRat(share*int64(days)*24, 100*hours)
			if factor.Cmp(one) < 0 {
				factor = one
			}
			if p.Factor != decimal(factor) {
				t.Errorf("%d days, %s: factor %s, want %s", days, p.Long, p.Factor, decimal(factor))
			}
			printed, _ := new(big.Rat).SetString(p.Factor)
			if can := printed.Mul(printed, budget).Cmp(one) < 0; p.CanFire(target) != can {
				t.Errorf("%s %%, %d days, %s: can fire %v, want %v", percent, days, p.Long, !can, can)
			}
		}
	}
	for _, bad := range []string{"", ".", "0", "0.0", "100", "100.0", "1000", "-1", "1e1", "99,9", "99.", ".9", "1.2.3", "99.9999999999999999999"} {
		if _, err := ParseTarget(bad); err == nil {
			t.Errorf("%q is taken as a target", bad)
		}
	}
}
