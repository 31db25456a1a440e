package catalog

import "testing"

func TestObjectiveValuesAreReadOrExplained(t *testing.T) {
	for _, c := range []struct{ name, key, value, percent, threshold, hint string }{
		{"a percentage", "objective.availability", "99.9", "99.9", "", ""},
		{"milliseconds become seconds", "objective.latency", "99@300ms", "99", "0.3", ""},
		{"minutes become seconds", "objective.duration", "95@10m", "95", "600", ""},
		{"a comma is not a point", "objective.availability", "99,9", "", "", `write "99.9"`},
		{"a fraction is not a percentage", "objective.availability", "0.999", "", "", `write "99.9"`},
		{"a latency without target and unit", "objective.latency", "300", "", "", `write the target and the threshold with its unit, such as "99@300ms"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, problems := Parse(&Entity{Ref: NewRef("component", "", "a"), Annotations: map[string]string{Prefix + c.key: c.value}})
			hint := ""
			if len(problems) > 0 {
				hint = problems[0].Hint
			}
			o := s.Objectives[c.key[len("objective."):]]
			if o.Percent != c.percent || o.Threshold != c.threshold || hint != c.hint {
				t.Errorf("%q: %+v, problems %+v", c.value, o, problems)
			}
		})
	}
}
