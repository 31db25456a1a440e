package simulate

import (
	"math"
	"testing"

	"github.com/sightline-dev/sightline/slo"
)

func TestTheBudgetOfACompositeIsMadeOfWhatItsMembersHaveLeft(t *testing.T) {
	g, objectives, _ := checkout(t)
	var members []slo.CompositeMember
	for i := range objectives {
		if name := objectives[i].Indicator; name == "availability" || name == "latency" {
			members = append(members, slo.CompositeMember{ID: objectives[i].ID(), Weight: map[string]string{"availability": "3", "latency": "1"}[name], Target: objectives[i].Target})
		}
	}
	if len(members) != 2 {
		t.Fatalf("members %v", members)
	}
	target, err := slo.ParseTarget("99.5")
	if err != nil {
		t.Fatal(err)
	}
	for name, worst := range map[string]bool{"weighted": false, "worst": true} {
		o := objectives[0]
		o.Indicator, o.Target, o.Composite = name, target, &slo.Composite{WorstOf: worst, Members: members}
		objectives = append(objectives, o)
	}
	left := map[string]map[int64]float64{}
	h := NewHistory(g, objectives, start)
	for range 2 { // the second goes on where the first ended
		for _, s := range h.next(h.at.Add(24 * period)) {
			if s.Labels["__name__"] != slo.SeriesBudgetRemaining {
				continue
			}
			of := s.Labels["sloth_slo"]
			if left[of] == nil {
				left[of] = map[int64]float64{}
			}
			for _, p := range s.Points {
				left[of][p.Time.Unix()] = p.Value
			}
		}
	}
	if len(left["weighted"]) != 48 || len(left["worst"]) != 48 {
		t.Fatalf("%d and %d points, want 48", len(left["weighted"]), len(left["worst"]))
	}
	for at, got := range left["weighted"] {
		available, fast := left["availability"][at], left["latency"][at]
		if want := 1 - (3*(1-available)*0.001+(1-fast)*0.01)/4/0.005; math.Abs(got-want) > 1e-9 {
			t.Fatalf("weighted has %v left at %d, want %v", got, at, want)
		}
		if want := min(available, fast); math.Abs(left["worst"][at]-want) > 1e-9 {
			t.Fatalf("the worst has %v left at %d, want %v", left["worst"][at], at, want)
		}
	}
}
