package slo

import (
	"maps"
	"slices"
	"strings"
)

// A Label is a name and its value.
type Label struct{ Name, Value string }

// Labels are those of a rule, or its annotations: sorted by name, each name once.
type Labels []Label

// LabelsOf sorts a map's entries.
func LabelsOf(m map[string]string) Labels {
	out := make(Labels, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Label{name, m[name]})
	}
	return out
}

// A slab makes many small Labels in one piece of memory. Labels that it made stay as they are.
type slab []Label

// labels joins the base and more, leaving out what has no value. No name may stand in both.
func (s *slab) labels(base Labels, more ...Label) Labels {
	start := len(*s)
	*s = append(*s, base...)
	for _, l := range more {
		if l.Value != "" {
			*s = append(*s, l)
		}
	}
	out := Labels((*s)[start:len(*s):len(*s)])
	slices.SortFunc(out, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}
