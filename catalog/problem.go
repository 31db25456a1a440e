package catalog

import "cmp"

// Severity says how bad a Problem is.
type Severity string

// The severities, worst first.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityInfo    Severity = "info"
)

// A Problem is something wrong in a user's catalog. It is data, not an error: one bad entity never stops the others.
type Problem struct {
	Severity   Severity `json:"severity"`
	Entity     Ref      `json:"entity"`
	Owner      Ref      `json:"owner"`
	Annotation string   `json:"annotation,omitempty"`
	File       string   `json:"file,omitempty"`
	Line       int      `json:"line,omitempty"`
	Column     int      `json:"column,omitempty"`
	Message    string   `json:"message"`
	Hint       string   `json:"hint,omitempty"`
	Rule       string   `json:"rule"` // stable name of the check, e.g. "objective-percent"
}

// Compare orders problems by file, position, entity, annotation, rule and message, so that lists of them are stable.
func (p Problem) Compare(o Problem) int {
	return cmp.Or(cmp.Compare(p.File, o.File), cmp.Compare(p.Line, o.Line), cmp.Compare(p.Column, o.Column),
		p.Entity.Compare(o.Entity), cmp.Compare(p.Annotation, o.Annotation), cmp.Compare(p.Rule, o.Rule), cmp.Compare(p.Message, o.Message))
}
