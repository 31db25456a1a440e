package correlate_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/correlate"
)

// outline writes trees as "span 1(line span 2())".
func outline(nodes []*correlate.Node) string {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteString(n.Name + "(")
		for _, l := range n.Lines {
			b.WriteString(l.Text + " ")
		}
		b.WriteString(outline(n.Children) + ")")
	}
	return b.String()
}

func TestSpansStandBelowTheirParentsEachOnce(t *testing.T) {
	line := func(id, text string) correlate.Line {
		return correlate.Line{Labels: []correlate.Label{{Name: "span_id", Value: id}}, Text: text}
	}
	for _, c := range []struct {
		name   string
		spans  []correlate.Span
		lines  []correlate.Line
		want   string
		others int
	}{
		{"a pipeline and its jobs", []correlate.Span{span(3, 1, 5, 9, nil), span(1, 0, 0, 7, nil), span(2, 1, 1, 4, nil)}, nil, "span 1(span 2()span 3())", 0},
		{"lines below their spans", []correlate.Span{span(1, 0, 0, 7, nil), span(2, 1, 1, 4, nil)}, []correlate.Line{line("0200000000000000", "b"), line("0100000000000000", "a")}, "span 1(a span 2(b ))", 0},
		{"lines of no span", []correlate.Span{span(1, 0, 0, 7, nil)}, []correlate.Line{line("", "a"), line("0900000000000000", "b"), line("none", "c")}, "span 1()", 3},
		{"a parent that the store does not have", []correlate.Span{span(2, 9, 0, 7, nil), span(3, 9, 1, 4, nil)}, nil, "span 2()span 3()", 0},
		{"a span that is its own parent", []correlate.Span{span(1, 1, 0, 7, nil)}, nil, "span 1()", 0},
		{"spans that are each other's parents", []correlate.Span{span(1, 2, 0, 7, nil), span(2, 1, 1, 4, nil), span(3, 2, 2, 3, nil)}, nil, "span 2(span 1()span 3())", 0},
		{"nothing", nil, nil, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			roots, others := correlate.NewTrace(trace.TraceID{1}, c.spans, "").Tree(c.lines)
			if d := cmp.Diff(c.want, outline(roots)); d != "" || len(others) != c.others {
				t.Errorf("%d others, want %d (-want +got):\n%s", len(others), c.others, d)
			}
		})
	}
}
