package correlate

import (
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// A Node is a span with the spans below it, in order, and its log lines.
type Node struct {
	Span
	Lines    []Line
	Children []*Node
}

// Result is how the run of the span ended, in the words of the OpenTelemetry CI/CD conventions; for other spans "error", or "".
func (s Span) Result() string {
	for _, a := range s.Attributes {
		if a.Key == "cicd.pipeline.result" || a.Key == "cicd.pipeline.task.run.result" {
			return a.Value.String()
		}
	}
	if s.Failed {
		return "error"
	}
	return ""
}

// Tree gives the spans as trees: those whose parent is not in the trace are roots. Each span stands once, also where spans name each other as
// parents. A line stands below the span that its span_id names; the others are given back.
func (t Trace) Tree(lines []Line) (roots []*Node, others []Line) {
	nodes := make([]*Node, len(t.Spans))
	byID := map[trace.SpanID]*Node{}
	for i, s := range t.Spans {
		nodes[i] = &Node{Span: s}
		if byID[s.ID] == nil {
			byID[s.ID] = nodes[i]
		}
	}
	for _, l := range lines {
		id, err := trace.SpanIDFromHex(l.Label("span_id"))
		if n := byID[id]; err == nil && n != nil {
			n.Lines = append(n.Lines, l)
		} else {
			others = append(others, l)
		}
	}
	above := map[*Node]*Node{}
	for _, n := range nodes {
		parent := byID[n.Parent]
		for p := parent; p != nil; p = above[p] {
			if p == n { // its own ancestor
				parent = nil
				break
			}
		}
		if parent == nil {
			roots = append(roots, n)
			continue
		}
		above[n] = parent
		parent.Children = append(parent.Children, n)
	}
	return slices.Clip(roots), others
}
