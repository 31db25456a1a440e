package slo

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A Selector is what a query of all events reads.
type Selector struct {
	Metric   string
	Matchers []*labels.Matcher // beside the name
	Rate     bool              // it is counted by rate, which needs a counter
}

// Labels are the names that the matchers speak of, sorted.
func (s *Selector) Labels() []string {
	names := map[string]bool{}
	for _, m := range s.Matchers {
		names[m.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Matches tells whether a series with these labels is read; what is missing is "".
func (s *Selector) Matches(series map[string]string) bool {
	for _, m := range s.Matchers {
		if !m.Matches(series[m.Name]) {
			return false
		}
	}
	return true
}

// String is the selector in PromQL.
func (s *Selector) String() string {
	var out []string
	for _, m := range s.Matchers {
		out = append(out, m.String())
	}
	return s.Metric + "{" + strings.Join(out, ",") + "}"
}

// Selectors lists what the query of all events reads, without what has no fixed name. Of the query of bad events nothing
// need be there.
func (o *Objective) Selectors() []Selector {
	_, total := o.BaseQueries(RuleOptions{})
	expr, err := parser.ParseExpr(total)
	if err != nil {
		return nil
	}
	var out []Selector
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok || v.Name == "" {
			return nil
		}
		s := Selector{Metric: v.Name}
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel {
				s.Matchers = append(s.Matchers, m)
			}
		}
		for _, p := range path {
			if c, ok := p.(*parser.Call); ok && (c.Func.Name == "rate" || c.Func.Name == "increase") {
				s.Rate = true
			}
		}
		if !slices.ContainsFunc(out, func(x Selector) bool { return x.String() == s.String() }) {
			out = append(out, s)
		}
		return nil
	})
	return out
}
