package slo

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// counts are the two queries of an SLO of a document, whose events add up over time. Their kind is recognised where the
// queries are those that Sightline itself writes for it.
type counts struct {
	kind          Kind
	threshold     string                                        // "" where there is none, or it is not one number
	errors, total string                                        // with $window
	idle          NoTraffic                                     // what no traffic means by the queries; "" where they do not say
	byIdle        func(idle NoTraffic) (errs, total string)     // the queries by what no traffic means; nil where it makes no difference
	sliced        *struct{ bad, all, threshold, length string } // of a time slice: its own queries of bad and of all events
}

// queries gives the queries for what no traffic means.
func (c counts) queries(idle NoTraffic) (errs, total string) {
	if c.byIdle == nil {
		return c.errors, c.total
	}
	return c.byIdle(idle)
}

// A partError is an error in one of two queries.
type partError struct {
	total bool // the second one
	error
}

func (e *partError) Unwrap() error { return e.error }

// countsOf reads the queries of bad and of all events of a document.
func countsOf(errs, total string) (counts, error) {
	e, errsExpr, err := windowQuery(errs)
	if err != nil {
		return counts{}, &partError{false, err}
	}
	t, totalExpr, err := windowQuery(total)
	if err != nil {
		return counts{}, &partError{true, err}
	}
	if c, ok := recognise(e, t); ok {
		return c, nil
	}
	if overTime(errsExpr) && overTime(totalExpr) {
		return timeCounts(aggregated(e), aggregated(t)), nil
	}
	if e, err = eventRate(e); err != nil {
		return counts{}, &partError{false, err}
	}
	if t, err = eventRate(t); err != nil {
		return counts{}, &partError{true, err}
	}
	return rateCounts(aggregated(e), aggregated(t)), nil
}

// countsOfGood reads the queries of good and of all events.
func countsOfGood(good, total string) (counts, error) {
	g, goodExpr, err := windowQuery(good)
	if err != nil {
		return counts{}, &partError{false, err}
	}
	t, totalExpr, err := windowQuery(total)
	if err != nil {
		return counts{}, &partError{true, err}
	}
	if overTime(goodExpr) && overTime(totalExpr) {
		g, t = aggregated(g), aggregated(t)
		return timeCounts("("+t+") - ("+g+")", t), nil
	}
	if g, err = eventRate(g); err != nil {
		return counts{}, &partError{false, err}
	}
	if t, err = eventRate(t); err != nil {
		return counts{}, &partError{true, err}
	}
	g, t = aggregated(g), aggregated(t)
	if hasBuckets(g) {
		return rateCounts("("+t+") - ("+g+")", t), nil
	}
	return counts{kind: KindEvents, errors: errorsFromGood(g, t), total: t}, nil
}

// countsOfRatio finds the two counts in a ratio of bad (or, with success, of good) events: bad / total, 1 - good / total,
// or an average over time.
func countsOfRatio(query string, success bool) (counts, error) {
	text, expr, err := windowQuery(query)
	if err != nil {
		return counts{}, err
	}
	expr = unwrap(expr)
	if b, ok := expr.(*parser.BinaryExpr); ok && b.Op == parser.SUB {
		if one, ok := unwrap(b.LHS).(*parser.NumberLiteral); ok && one.Val == 1 {
			expr, success = unwrap(b.RHS), !success
		}
	}
	if c, ok := expr.(*parser.Call); ok && c.Func.Name == "avg_over_time" && isWindow(c.Args[0]) {
		part := func(f string) string { return "sum(" + f + "(" + textOf(text, c.Args[0]) + "))" }
		if success {
			return countsOfGood(part("sum_over_time"), part("count_over_time"))
		}
		return countsOf(part("sum_over_time"), part("count_over_time"))
	}
	b, ok := expr.(*parser.BinaryExpr)
	if !ok || b.Op != parser.DIV || b.VectorMatching != nil && (b.VectorMatching.On || len(b.VectorMatching.MatchingLabels) > 0) {
		return counts{}, errNoQuotient
	}
	read := countsOf
	if success {
		read = countsOfGood
	}
	c, err := read(textOf(text, b.LHS), textOf(text, b.RHS))
	if part := (*partError)(nil); errors.As(err, &part) {
		which := "upper"
		if part.total {
			which = "lower"
		}
		return counts{}, fmt.Errorf("the %s part: %w", which, part.error)
	}
	return c, err
}

// rateCounts are counts of rates of events. Where the bad ones are those of a histogram above a bucket's edge, the bucket
// must be there: without it, each observation would be taken for a good one.
func rateCounts(errs, total string) counts {
	c := counts{kind: KindEvents, errors: errs, total: total}
	b, ok := unwrapped(errs).(*parser.BinaryExpr)
	if !ok || b.Op != parser.SUB {
		return c
	}
	good := textOf(errs, b.RHS)
	if !hasBuckets(good) || shape(textOf(errs, b.LHS)) != shape(total) {
		return c
	}
	return slowCounts(total, good)
}

func slowCounts(count, good string) counts {
	good = bothEdges(good)
	operand := func(q string) string {
		if _, ok := unwrapped(q).(*parser.BinaryExpr); ok {
			return "(" + bare(q) + ")"
		}
		return bare(q)
	}
	c := counts{kind: KindHistogram, threshold: onlyEdge(good)}
	c.errors, c.total = slowOf(operand(count), operand(good))
	return c
}

// timeCounts are counts of samples, or of slices of time, in $window.
func timeCounts(errs, total string) counts {
	if !isPer300(errs) || !isPer300(total) {
		errs, total = "("+errs+") / 300", "("+total+") / 300"
	}
	if c, ok := recognise(errs, total); ok {
		return c
	}
	kind, none := KindProbe, "vector(1 / 60)" // one a minute where nothing is bad
	if sub := subqueryOf(unwrapped(total)); sub != nil {
		kind = KindTimeSlice
		if sub.Step.Minutes() == 5 {
			none = "vector(1 / 300)"
		}
	}
	c := counts{kind: kind, errors: errs, total: total}
	c.byIdle = func(idle NoTraffic) (string, string) {
		if idle == NoTrafficBad {
			return "(" + errs + ") or " + none, "(" + total + ") or " + none
		}
		return errs, total
	}
	return c
}

// recognise finds the kind of indicator whose queries these are; both hold $window.
func recognise(errs, total string) (found counts, ok bool) {
	expr := unwrapped(total)
	text := func(n parser.Node) string { return textOf(total, n) }
	wantErrs, wantTotal := shape(errs), shape(total)
	same := func(e, t string) bool { return shape(e) == wantErrs && shape(t) == wantTotal }
	try := func(c counts) {
		for _, idle := range []NoTraffic{NoTrafficIgnore, NoTrafficBad, NoTrafficGood} {
			if e, t := c.byIdle(idle); !ok && same(e, t) {
				c.errors, c.total = e, t
				if idle != NoTrafficIgnore {
					c.idle = idle
				}
				found, ok = c, true
			}
		}
	}
	if and, is := expr.(*parser.BinaryExpr); is && and.Op == parser.LAND {
		if e, t := slowOf(text(and.LHS), text(and.RHS)); same(e, t) {
			return slowCounts(text(and.LHS), text(and.RHS)), true
		}
		return counts{}, false
	}
	series := ""
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, is := n.(*parser.VectorSelector); is && series == "" {
			series = text(v)
		}
		return nil
	})
	if sub := subqueryOf(expr); sub != nil {
		slice := strings.TrimSuffix(sub.Step.String(), "0s") // 1m or 5m
		inner := unwrap(sub.Expr)
		if or, is := inner.(*parser.BinaryExpr); is && or.Op == parser.LOR {
			inner = unwrap(or.LHS)
		}
		cmp, is := inner.(*parser.BinaryExpr)
		if !is || !cmp.ReturnBool {
			return counts{}, false
		}
		threshold := text(cmp.RHS)
		try(counts{kind: KindFreshness, threshold: threshold, byIdle: func(idle NoTraffic) (string, string) { return staleMinutes(series, threshold, idle) }})
		try(counts{kind: KindThroughput, threshold: threshold, byIdle: func(idle NoTraffic) (string, string) { return slowSlices(series, threshold, slice, idle) }})
		ratio, is := unwrap(cmp.LHS).(*parser.BinaryExpr)
		if !is {
			return found, ok
		}
		above, is := unwrap(ratio.LHS).(*parser.BinaryExpr)
		below, is2 := unwrap(ratio.RHS).(*parser.BinaryExpr)
		if is && is2 {
			try(sliceCounts(text(unwrap(above.LHS)), text(unwrap(below.LHS)), threshold, slice))
		}
		return found, ok
	}
	try(counts{kind: KindProbe, byIdle: func(idle NoTraffic) (string, string) { return probesOf(series, idle) }})
	if e, t := probesOf(series, NoTrafficIgnore); !ok && same("(sum(count_over_time("+series+"[$window])) - sum(sum_over_time("+series+"[$window]))) / 300", t) {
		c := counts{kind: KindProbe, errors: e, total: t, byIdle: func(idle NoTraffic) (string, string) { return probesOf(series, idle) }}
		return c, true
	}
	if c, is := expr.(*parser.Call); is && c.Func.Name == "histogram_count" {
		all := text(c.Args[0])
		parser.Inspect(unwrapped(errs), func(n parser.Node, _ []parser.Node) error {
			f, is := n.(*parser.Call)
			if !is || f.Func.Name != "histogram_fraction" {
				return nil
			}
			if upper, is := f.Args[1].(*parser.NumberLiteral); is {
				threshold := upper.String()
				try(counts{kind: KindNativeHistogram, threshold: threshold, byIdle: func(NoTraffic) (string, string) { return slowNative(all, threshold) }})
			}
			return nil
		})
	}
	return found, ok
}

// sliceCounts counts slices of time in which more than the threshold of all events are bad. Both queries have the range
// of a slice.
func sliceCounts(bad, all, threshold, length string) counts {
	c := counts{kind: KindTimeSlice, threshold: threshold, sliced: &struct{ bad, all, threshold, length string }{bad, all, threshold, length}}
	c.byIdle = func(idle NoTraffic) (string, string) { return badSlices(bad, all, threshold, length, idle) }
	c.errors, c.total = c.byIdle(NoTrafficIgnore)
	return c
}

// overTime tells whether an expression is a sum of counts of samples or of slices of time in the window.
func overTime(e parser.Expr) bool {
	return isSum(e, func(e parser.Expr) bool {
		c, ok := e.(*parser.Call)
		if !ok || c.Func.Name != "count_over_time" && c.Func.Name != "sum_over_time" {
			return false
		}
		return isWindow(c.Args[0]) || isSliced(c.Args[0])
	})
}

// isSliced matches a subquery over the window whose steps are minutes or five minutes.
func isSliced(n parser.Node) bool {
	s, ok := n.(*parser.SubqueryExpr)
	return ok && s.Range.Seconds() == 999999 && s.OriginalOffset == 0 && s.OriginalOffsetExpr == nil && s.Timestamp == nil && s.StartOrEnd == 0 &&
		(s.Step.Minutes() == 1 || s.Step.Minutes() == 5) && !hasWindow(s.Expr)
}

// subqueryOf finds the subquery over the window; nil where there is none.
func subqueryOf(e parser.Expr) (found *parser.SubqueryExpr) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if found == nil && n != nil && isSliced(n) {
			found = n.(*parser.SubqueryExpr)
		}
		return nil
	})
	return found
}

func isPer300(query string) bool {
	b, ok := unwrapped(query).(*parser.BinaryExpr)
	if !ok || b.Op != parser.DIV {
		return false
	}
	n, ok := unwrap(b.RHS).(*parser.NumberLiteral)
	return ok && n.Val == 300
}

// aggregated makes one series of a query that may have several.
func aggregated(query string) string {
	if isOne(unwrapped(query)) {
		return query
	}
	return "sum(" + query + ")"
}

// isOne tells whether an expression has at most one series, as that of an aggregation without labels.
func isOne(e parser.Expr) bool {
	switch e := unwrap(e).(type) {
	case *parser.NumberLiteral:
		return true
	case *parser.AggregateExpr:
		return len(e.Grouping) == 0 && !e.Without
	case *parser.Call:
		switch e.Func.Name {
		case "vector", "scalar", "time":
			return true
		case "count_over_time", "sum_over_time", "label_replace", "label_join", "histogram_count":
			s, ok := e.Args[0].(*parser.SubqueryExpr)
			return ok && isOne(s.Expr) || !ok && isOne(e.Args[0])
		}
	case *parser.BinaryExpr:
		return isOne(e.LHS) && isOne(e.RHS)
	}
	return false
}

// shape prints a query with $window so that two that differ only in blanks, parentheses or order of letters in a range
// are the same; "" where it does not parse.
func shape(query string) string {
	expr := unwrapped(query)
	if expr == nil {
		return ""
	}
	return nested(expr).String()
}

// unwrapped parses a query with $window and takes off the parentheses around it; nil where it does not parse.
func unwrapped(query string) parser.Expr {
	expr, err := parser.ParseExpr(strings.ReplaceAll(query, windowMark, windowRange))
	if err != nil {
		return nil
	}
	return unwrap(expr)
}

// nested puts parentheses around each operand, and takes off all others.
func nested(e parser.Expr) parser.Expr {
	switch e := unwrap(e).(type) {
	case *parser.BinaryExpr:
		e.LHS, e.RHS = &parser.ParenExpr{Expr: nested(e.LHS)}, &parser.ParenExpr{Expr: nested(e.RHS)}
		return e
	case *parser.UnaryExpr:
		e.Expr = &parser.ParenExpr{Expr: nested(e.Expr)}
		return e
	case *parser.AggregateExpr:
		e.Expr = nested(e.Expr)
		return e
	case *parser.SubqueryExpr:
		e.Expr = &parser.ParenExpr{Expr: nested(e.Expr)}
		return e
	case *parser.Call:
		for i := range e.Args {
			e.Args[i] = nested(e.Args[i])
		}
		return e
	default:
		return e
	}
}

// textOf is the part of a query with $window that a node of it was made of.
func textOf(query string, n parser.Node) string {
	at := n.PositionRange()
	return query[at.Start:at.End]
}

// bare is a query without the parentheses around all of it.
func bare(query string) string {
	query = strings.TrimSpace(query)
	if expr, err := parser.ParseExpr(strings.ReplaceAll(query, windowMark, windowRange)); err == nil {
		if p, ok := expr.(*parser.ParenExpr); ok {
			return bare(textOf(query, p.Expr))
		}
	}
	return query
}

// edgesOf gives the edges of buckets that a query selects.
func edgesOf(query string) (out []string) {
	expr := unwrapped(query)
	if expr == nil {
		return nil
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, m := range v.LabelMatchers {
			if m.Name == "le" {
				out = append(out, strings.ReplaceAll(strings.TrimSuffix(m.Value, `(\.0)?`), `\.`, "."))
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out)
}

func hasBuckets(query string) bool { return len(edgesOf(query)) > 0 }

// onlyEdge is the edge where there is one, and it is a number.
func onlyEdge(query string) string {
	if edges := edgesOf(query); len(edges) == 1 && regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`).MatchString(edges[0]) {
		return edges[0]
	}
	return ""
}

var wholeEdge = regexp.MustCompile(`\ble\s*=\s*"([0-9]+)(\.0)?"`)

// bothEdges matches a whole edge as Prometheus 3 stores it, "1.0", and as 2 does, "1".
func bothEdges(query string) string { return wholeEdge.ReplaceAllString(query, `le=~"$1(\\.0)?"`) }
