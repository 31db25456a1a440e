package slo

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// A query of a document is parsed with this range in place of "$window"; it has as many bytes, so that positions hold.
const (
	windowMark  = "$window"
	windowRange = "999999s"
)

var (
	windowTemplate = regexp.MustCompile(`\{\{-?\s*\.window\s*-?\}\}`)
	windowBrackets = regexp.MustCompile(`\[\s*\$window\s*([:\]])`)
)

var (
	errNoWindow   = errors.New("the query lacks the range [{{.window}}]")
	errNoQuotient = errors.New("the ratio is no quotient of two counts of events, so its windows cannot be weighted by their events")
)

// windowQuery is readQuery for a query that must hold the window.
func windowQuery(query string) (text string, expr parser.Expr, err error) {
	text, expr, found, err := readQuery(query)
	if err == nil && !found {
		err = errNoWindow
	}
	return text, expr, err
}

// readQuery turns the placeholder {{.window}} into $window and parses the query. Windows that are no plain range of a
// selector, and other template expressions, are errors. hasWindow tells whether there is any.
func readQuery(query string) (text string, expr parser.Expr, hasWindow bool, err error) {
	text = strings.TrimSpace(windowTemplate.ReplaceAllLiteralString(query, windowMark))
	text = windowBrackets.ReplaceAllString(text, "[$$window$1")
	switch {
	case text == "":
		return "", nil, false, errors.New("the query is empty")
	case strings.Contains(text, "{{"):
		return "", nil, false, errors.New("the query holds a template expression other than {{.window}}")
	case strings.Count(text, windowMark) != strings.Count(text, "["+windowMark+"]")+strings.Count(text, "["+windowMark+":"):
		return "", nil, false, errors.New("{{.window}} may only be the whole range of a selector, as in rate(x[{{.window}}])")
	case strings.Contains(text, "["+windowRange):
		return "", nil, false, fmt.Errorf("the range %s is reserved", windowRange)
	}
	expr, err = parser.ParseExpr(strings.ReplaceAll(text, windowMark, windowRange))
	if err != nil {
		return "", nil, false, fmt.Errorf("the query does not parse: %w", err)
	}
	return text, expr, strings.Contains(text, windowMark), nil
}

func isWindow(e parser.Expr) bool {
	m, ok := e.(*parser.MatrixSelector)
	return ok && m.Range.Seconds() == 999999 && isPlain(m.VectorSelector)
}

// isPlain matches a selector without offset, @, anchored and smoothed.
func isPlain(e parser.Expr) bool {
	v, ok := e.(*parser.VectorSelector)
	return ok && v.OriginalOffset == 0 && v.OriginalOffsetExpr == nil && v.Timestamp == nil && v.StartOrEnd == 0 && !v.Anchored && !v.Smoothed
}

func hasWindow(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if m, ok := n.(*parser.MatrixSelector); ok && isWindow(m) {
			found = true
		}
		if q, ok := n.(*parser.SubqueryExpr); ok && q.Range.Seconds() == 999999 {
			found = true
		}
		return nil
	})
	return found
}

// isSum tells whether an expression is a sum of its leaves, so that its value over a long window is the sum of its
// values over the parts of that window. It may be scaled by a number and joined with an info metric.
func isSum(e parser.Expr, leaf func(parser.Expr) bool) bool {
	if leaf(e) {
		return true
	}
	switch e := e.(type) {
	case *parser.ParenExpr:
		return isSum(e.Expr, leaf)
	case *parser.AggregateExpr:
		return e.Op == parser.SUM && isSum(e.Expr, leaf)
	case *parser.Call:
		return (e.Func.Name == "label_replace" || e.Func.Name == "label_join") && isSum(e.Args[0], leaf)
	case *parser.BinaryExpr:
		number := func(x parser.Expr) bool {
			_, ok := unwrap(x).(*parser.NumberLiteral)
			return ok
		}
		join := e.VectorMatching != nil && e.VectorMatching.Card == parser.CardManyToOne && !hasWindow(e.RHS)
		switch e.Op {
		case parser.ADD, parser.SUB, parser.LOR:
			return isSum(e.LHS, leaf) && (isSum(e.RHS, leaf) || isZero(e.RHS))
		case parser.MUL:
			return isSum(e.LHS, leaf) && (number(e.RHS) || join) || number(e.LHS) && isSum(e.RHS, leaf)
		case parser.DIV:
			return isSum(e.LHS, leaf) && number(e.RHS)
		}
	}
	return false
}

// isZero matches 0 and vector(0).
func isZero(e parser.Expr) bool {
	e = unwrap(e)
	if c, ok := e.(*parser.Call); ok && c.Func.Name == "vector" {
		e = unwrap(c.Args[0])
	}
	n, ok := e.(*parser.NumberLiteral)
	return ok && n.Val == 0
}

func unwrap(e parser.Expr) parser.Expr {
	for {
		p, ok := e.(*parser.ParenExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

// eventRate makes the query of a document into one of events per second over $window: a sum of rates. increase, which
// counts events per window, becomes rate.
func eventRate(query string) (string, error) {
	text, expr, err := windowQuery(query)
	if err != nil {
		return "", err
	}
	return sumOfRates(text, expr)
}

func sumOfRates(text string, expr parser.Expr) (string, error) {
	var increases []int // offsets of calls of increase
	rate := func(e parser.Expr) bool {
		c, ok := e.(*parser.Call)
		if !ok || len(c.Args) != 1 || !isWindow(c.Args[0]) || c.Func.Name != "rate" && c.Func.Name != "increase" {
			return false
		}
		if c.Func.Name == "increase" {
			increases = append(increases, int(c.PositionRange().Start))
		}
		return true
	}
	if !isSum(expr, rate) {
		return "", errors.New("the query is no sum of rates of events over [{{.window}}], so the events of a long window cannot be counted from those of short ones")
	}
	slices.Sort(increases)
	increases = slices.Compact(increases)
	for _, at := range slices.Backward(increases) {
		text = text[:at] + "rate" + text[at+len("increase"):]
	}
	return text, nil
}

// counterRate makes an expression over plain counters into one of events per second over $window.
func counterRate(query string) (string, error) {
	text, expr, found, err := readQuery(query)
	if err != nil {
		return "", err
	}
	if found {
		return sumOfRates(text, expr)
	}
	var at []*parser.VectorSelector
	counter := func(e parser.Expr) bool {
		if !isPlain(e) {
			return false
		}
		at = append(at, e.(*parser.VectorSelector))
		return true
	}
	if !isSum(expr, counter) {
		return "", errors.New("the query is no sum of counters, so it cannot be made into a rate of events")
	}
	slices.SortFunc(at, func(a, b *parser.VectorSelector) int { return int(a.PosRange.Start) - int(b.PosRange.Start) })
	at = slices.Compact(at)
	for _, v := range slices.Backward(at) {
		start, end := int(v.PosRange.Start), int(v.PosRange.End)
		text = text[:start] + "rate(" + strings.TrimSpace(text[start:end]) + "[" + windowMark + "])" + text[end:]
	}
	return text, nil
}

// errorsFromGood counts the events that are not good. A good series that is missing while there are events counts as 0.
func errorsFromGood(good, total string) string {
	return "(" + total + ") - ((" + good + ") or 0 * (" + total + "))"
}
