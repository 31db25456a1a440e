package slo

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/promql/parser"
)

// The base series: rates of bad and of all events, recorded every minute and, for windows of a day and more, every five.
const (
	SeriesErrors       = "sightline:slo_errors:rate5m"
	SeriesTotal        = "sightline:slo_total:rate5m"
	SeriesErrorsPeriod = "sightline:slo_errors_period:rate5m"
	SeriesTotalPeriod  = "sightline:slo_total_period:rate5m"
)

// Sums of the period's base over the window that follows: 1d and 3d of both, the budget window of the errors, as in
// "…:sum30d".
const (
	SeriesErrorsSum = "sightline:slo_errors_period:sum"
	SeriesTotalSum  = "sightline:slo_total_period:sum"
)

// SeriesErrorsRecent is what the period group's next sample of the errors has to come to, as far as it is known.
const SeriesErrorsRecent = "sightline:slo_errors_recent:sum"

// The derived series, with sloth's names. SeriesErrorRatio is followed by the window, as in "…_rate5m".
const (
	SeriesErrorRatio      = "slo:sli_error:ratio_rate"
	SeriesObjective       = "slo:objective:ratio"
	SeriesErrorBudget     = "slo:error_budget:ratio"
	SeriesPeriodDays      = "slo:time_period:days"
	SeriesCurrentBurnRate = "slo:current_burn_rate:ratio"
	SeriesPeriodBurnRate  = "slo:period_burn_rate:ratio"
	SeriesBudgetRemaining = "slo:period_error_budget_remaining:ratio"
	SeriesInfo            = "sloth_slo_info"
)

// The names of the alerts.
const (
	AlertBurn      = "SLOErrorBudgetBurn"
	AlertLow       = "SLOErrorBudgetLow"
	AlertExhausted = "SLOErrorBudgetExhausted"
	AlertAbsent    = "SLOMetricAbsent"
)

// RuleOptions says for which target rules are made. The zero value is portable, for scrapes once a minute.
type RuleOptions struct {
	Anchored       bool          // the evaluating engine knows the modifier "anchored"
	ScrapeInterval time.Duration // default 1m; added to the base window where Anchored is false
	SLOURL         string        // annotation slo_url; "$entity" and "$indicator" are replaced; "" leaves it out
	DashboardURL   string        // annotation dashboard_url, likewise
}

// LabelSpent is the label of AlertLow: how much of the budget is spent, in percent. It is 50, 75 or 90.
const LabelSpent = "budget_spent"

const spentTemplate = "{{ if ge $value 0.9 }}90{{ else if ge $value 0.75 }}75{{ else }}50{{ end }}"

const identity = "entity, sloth_id, sloth_service, sloth_slo"

// Groups compiles an objective into its fast (1m) and period (5m) rule group. Window and
// Target must be set and both queries must hold $window.
//
// One event raises a five-minute base rate by 1/300 for five one-minute evaluations, so sum_over_time × 60 counts
// events; of the period's base, which is recorded every five minutes, × 300. Extrapolation makes one event at most about
// 1.2 and two at least 1.6: "> 1.5" means two or more. Windows of a day and more are summed in the period group; the fast
// group adds what has happened since.
func Groups(o Objective, opts RuleOptions) []RuleGroup {
	size := 10<<10 + 12*(len(o.ErrorQuery)+len(o.TotalQuery)) + 64*(len(o.Service())+len(o.Indicator)) // what it comes to
	c := compiler{rules: make([]Rule, 0, 33), labels: make(slab, 0, 170), text: make(text, 0, size)}
	return c.compile(nil, &o, opts)
}

// compile appends the groups of an objective.
func (c *compiler) compile(out []RuleGroup, o *Objective, opts RuleOptions) []RuleGroup {
	if o.Window.Length() == 0 {
		return out
	}
	if o.Composite != nil {
		return c.composite(out, o, opts)
	}
	base, errorQuery, totalQuery := o.base(opts)
	c.o, c.first = o, len(c.rules)
	t := &c.text
	entity, service := o.Entity.String(), o.Service()
	id := t.join(service, "-", o.Indicator)
	c.fast, c.period = c.foldings(opts.ScrapeInterval)
	c.match = t.join(`{sloth_id=`, strconv.Quote(id), `}`)
	ids := c.labels.labels(nil, Label{"entity", entity}, Label{"sloth_id", id}, Label{"sloth_service", service}, Label{"sloth_slo", o.Indicator})
	derived := c.labels.labels(ids, Label{"owner", o.Owner.String()}, Label{"system", o.System.String()})
	over := func(window string) Labels { return c.labels.labels(derived, Label{"sloth_window", window}) }
	sloURL, dashboardURL := c.fill(opts.SLOURL), c.fill(opts.DashboardURL)
	annotations := func(summary, description string) Labels {
		return c.labels.labels(nil, Label{"dashboard_url", dashboardURL}, Label{"description", description}, Label{"runbook_url", o.Runbook},
			Label{"slo_url", sloURL}, Label{"summary", t.join(entity, " ", o.Indicator, summary)})
	}

	rates := func(errorQuery, totalQuery, window string) (errs, total string) {
		total = t.replace(totalQuery, "$window", window)
		return t.join("(", t.replace(errorQuery, "$window", window), ") or 0 * (", total, ")"), total
	}
	errorsBase, totalBase := rates(errorQuery, totalQuery, base)
	c.record(SeriesErrors, errorsBase, ids)
	c.record(SeriesTotal, totalBase, ids)
	c.record(SeriesErrorsRecent, t.join(SeriesErrors, c.match, c.fast.factor, " * scalar((time() - timestamp("+SeriesErrorsPeriod, c.match, ")) / 300 or on () vector(1))"), ids)
	for _, w := range [...]string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		var expr string
		switch w {
		case "5m":
			expr = c.ratio(t.join(SeriesErrors, c.match, c.fast.factor), t.join(SeriesTotal, c.match, c.fast.factor))
		case "1h":
			if o.NoTraffic == NoTrafficBad || len(o.Exclusions) > 0 { // what they say shows in the base only
				expr = c.sums(w, true)
				break
			}
			errs, total := rates(o.ErrorQuery, o.TotalQuery, "1h")
			expr = c.ratio(errs, t.join("(", total, ")"))
		case "1d", "3d":
			expr = c.recentSums(w)
		default:
			expr = c.sums(w, w == "6h")
		}
		c.record(t.join(SeriesErrorRatio, w), expr, over(w))
	}
	budget := o.Target.ErrorBudget()
	c.record(SeriesCurrentBurnRate, t.join("max by ("+identity+") ("+SeriesErrorRatio+"5m", c.match, ") / ", budget), derived)
	pairs := o.Window.BurnPairs()
	ticket := c.labels.labels(derived, Label{"severity", string(SeverityTicket)}, Label{"sloth_severity", string(SeverityTicket)})
	for _, severity := range [...]Severity{SeverityPage, SeverityTicket} {
		if o.MaxSeverity == SeverityOff || severity == SeverityPage && o.MaxSeverity == SeverityTicket {
			continue
		}
		expr := ""
		for _, p := range pairs {
			if p.Severity != severity || !p.CanFire(o.Target) {
				continue
			}
			if expr != "" {
				expr = t.join(expr, " or ")
			}
			threshold := t.join(" > (", p.Factor, " * ", budget, "))")
			errs := t.join("(", c.sum(c.fast, SeriesErrors, p.Long), " * 60 > 1.5)")
			total := t.join(c.sum(c.fast, SeriesTotal, p.Long), " * 60")
			if severity == SeverityTicket {
				errs = t.join("(last_over_time("+SeriesErrorsSum, p.Long, c.match, "[10m]) * 300 > 1.5 or "+SeriesErrorsRecent, c.match, " * 300 > 1.5)")
				total = t.join("last_over_time("+SeriesTotalSum, p.Long, c.match, "[10m]) * 300")
			}
			expr = t.join(expr, "(max by ("+identity+") ("+SeriesErrorRatio, p.Short, c.match, threshold,
				" and max by ("+identity+") ("+SeriesErrorRatio, p.Long, c.match, threshold, " and ", errs)
			if o.MinEvents > 0 {
				expr = t.join(expr, " and (", total, " >= ", strconv.Itoa(o.MinEvents), ")")
			}
			expr = t.join(expr, ")")
		}
		if expr == "" {
			continue
		}
		labels := ticket
		if severity == SeverityPage {
			labels = c.labels.labels(derived, Label{"severity", string(SeverityPage)}, Label{"sloth_severity", string(SeverityPage)})
		}
		c.alert(AlertBurn, expr, 0, labels, annotations(" burns its error budget too fast",
			t.join("The error ratio is far above what the target of ", o.Target.Percent(), " % over ", o.Window.String(), " allows.")))
	}
	absent := func(series, seen string) {
		why := "The query of all events returns nothing; the objective cannot be measured."
		if o.Kind == KindHistogram {
			why = "There are no observations, or no bucket ends at the threshold; the objective cannot be measured."
		}
		if c.fast.factor != "" {
			seen = t.join(seen, " and on () (vector(1)", c.fast.factor, " > 0)")
		}
		c.alert(AlertAbsent, t.join("absent(", series, c.match, ")", seen), absentFor(o.Window, o.Target), ticket, annotations(" has no data", why))
	}
	watched := o.MaxSeverity != SeverityOff && o.NoTraffic != NoTrafficBad // bad: without data, all is bad
	if watched && !o.Defaulted {
		absent(SeriesTotal, "")
	}
	fast := RuleGroup{Name: t.join("sightline-slo-fast-", id), Interval: time.Minute, Rules: c.group()}

	w := o.Window.String()
	c.record(SeriesErrorsPeriod, errorsBase, ids)
	c.record(SeriesTotalPeriod, totalBase, ids)
	for _, w := range [...]string{"1d", "3d"} {
		c.record(t.join(SeriesErrorsSum, w), c.sum(c.period, SeriesErrorsPeriod, w), ids)
		c.record(t.join(SeriesTotalSum, w), c.sum(c.period, SeriesTotalPeriod, w), ids)
	}
	// The suffix is the window's in the names of series: "30d", or "_month".
	suffix, sumErrors, sumTotal := w, c.sum(c.period, SeriesErrorsPeriod, w), c.sum(c.period, SeriesTotalPeriod, w)
	spent := t.join("max by ("+identity+") ("+SeriesPeriodBurnRate, c.match, ")") // share of the budget
	if kind := o.Window.Calendar; kind != "" {
		k := c.calendar(kind)
		c.record(SeriesLocalTime, t.join("vector(", cmp.Or(o.Window.LocalTime, "time()"), " - 150)"), ids)
		c.record(SeriesErrorsCalendar, c.mark(SeriesErrorsPeriod, k), ids)
		c.record(SeriesTotalCalendar, c.mark(SeriesTotalPeriod, k), ids)
		suffix, sumErrors, sumTotal = t.join("_", kind), c.current(c.period, SeriesErrorsCalendar, k), c.current(c.period, SeriesTotalCalendar, k)
		// The budget of the whole period, at even traffic: early in it, little traffic has little of the budget.
		whole := strconv.Itoa(int(o.Window.Length() / (5 * time.Minute)))
		spent = t.join(spent, " * clamp_max(max by ("+identity+") (", c.current(plainCount, SeriesTotalCalendar, k), ") / ", whole, ", 1)")
	}
	sum := t.join(SeriesErrorsSum, suffix)
	c.record(sum, sumErrors, ids)
	c.record(t.join(SeriesErrorRatio, suffix), c.ratio(t.join(sum, c.match), sumTotal), over(w))
	c.record(SeriesObjective, t.join("vector(", o.Target.Ratio(), ")"), derived)
	c.record(SeriesErrorBudget, t.join("vector(", budget, ")"), derived)
	c.record(SeriesPeriodDays, t.join("vector(", strconv.Itoa(int(o.Window.Length()/(24*time.Hour))), ")"), derived)
	c.record(SeriesPeriodBurnRate, t.join("max by ("+identity+") ("+SeriesErrorRatio, suffix, c.match, ") / ", budget), derived)
	c.record(SeriesBudgetRemaining, t.join("1 - max by ("+identity+") ("+SeriesPeriodBurnRate, c.match, ")"), derived)
	c.record(SeriesInfo, "vector(1)", c.labels.labels(derived, Label{"sloth_mode", "sightline"}, Label{"sloth_objective", o.Target.Percent()},
		Label{"sloth_spec", "sightline"}, Label{"sloth_version", "exact"}))
	if watched && o.Defaulted { // only once there has been data
		absent(SeriesTotalPeriod, t.join(" unless on () absent_over_time("+SeriesTotalPeriod, c.match, "[1d])"))
	}
	if o.MaxSeverity != SeverityOff {
		c.alert(AlertLow, t.join(spent, " >= 0.5 < 1 and (", sum, c.match, " * 300 > 1.5)"), 0,
			c.labels.labels(ticket, Label{LabelSpent, spentTemplate}), annotations(" has little error budget left",
				t.join("{{ $value | humanizePercentage }} of the error budget in the window of ", w, " is spent.")))
		c.alert(AlertExhausted, t.join(spent, " >= 1 and (", sum, c.match, " * 300 > 1.5)"), 0, ticket,
			annotations(" has used up its error budget", t.join("No error budget is left in the window of ", w, ".")))
	}
	return append(out, fast, RuleGroup{Name: t.join("sightline-slo-period-", id), Interval: 5 * time.Minute, Rules: c.group()})
}

// base gives the base window, and the queries whose $window it is to be.
func (o *Objective) base(opts RuleOptions) (window, errs, total string) {
	switch {
	case o.Kind.countsTime():
		return "5m", o.ErrorQuery, o.TotalQuery
	case opts.Anchored && o.Kind != KindNativeHistogram:
		return "5m", anchor(o.ErrorQuery), anchor(o.TotalQuery)
	}
	if opts.ScrapeInterval <= 0 {
		opts.ScrapeInterval = time.Minute
	}
	return strconv.Itoa(int((5*time.Minute+opts.ScrapeInterval)/time.Second)) + "s", o.ErrorQuery, o.TotalQuery
}

// BaseQueries are the PromQL of the rates of bad and of all events over the base window. Where there are none, the rules
// take the bad ones for 0; this query has then no result.
func (o *Objective) BaseQueries(opts RuleOptions) (errs, total string) {
	window, errs, total := o.base(opts)
	return strings.ReplaceAll(errs, "$window", window), strings.ReplaceAll(total, "$window", window)
}

// absentFor is how long an objective must be without data before that is an alert: until a total failure would have spent
// a tenth of the budget, as it takes for a ticket, but at least 15 minutes and at most 6 hours.
func absentFor(w Window, t Target) time.Duration {
	d := (BudgetTime(w.Length(), t) / 10).Round(time.Minute)
	return min(max(d, 15*time.Minute), 6*time.Hour)
}

// A compiler makes the rules of one objective after the other. Their texts, labels and rules each share one piece of memory.
type compiler struct {
	o      *Objective
	match  string // the matcher of the objective's own series
	text   text
	labels slab
	rules  []Rule
	first  int // of the group that is being made

	fast, period folding // of what is recorded every minute, and every five
}

func (c *compiler) record(series, expr string, labels Labels) {
	c.rules = append(c.rules, Rule{Record: series, Expr: expr, Labels: labels})
}

func (c *compiler) alert(name, expr string, pending time.Duration, labels, annotations Labels) {
	c.rules = append(c.rules, Rule{Alert: name, Expr: expr, For: pending, Labels: labels, Annotations: annotations})
}

// group gives the rules made since the last group.
func (c *compiler) group() []Rule {
	rules := c.rules[c.first:len(c.rules):len(c.rules)]
	c.first = len(c.rules)
	return rules
}

func (c *compiler) ratio(errs, total string) string {
	if c.o.NoTraffic == NoTrafficGood {
		return c.text.join("((", errs, ") / ((", total, ") > 0)) or 0 * (", total, ")")
	}
	return c.text.join("(", errs, ") / ((", total, ") > 0)")
}

func (c *compiler) sum(f folding, series, window string) string {
	return c.text.join(f.open, series, c.match, f.from, window, f.to)
}

// sums is the ratio over a window that is summed from the base of each minute. An event is in five of its samples, so a
// sum is two minutes behind what has happened, at its beginning as at its end: the window is two minutes shorter. Where
// newest is set, the newest rate stands for the two minutes that are not summed yet; a short window of a pair needs none.
func (c *compiler) sums(window string, newest bool) string {
	sum := func(series string) string {
		sum := c.sum(c.fast, series, shortened[window])
		if newest {
			return c.text.join(sum, " + 2 * scalar(", series, c.match, c.fast.factor, " or on () vector(0))")
		}
		return sum
	}
	return c.ratio(sum(SeriesErrors), sum(SeriesTotal))
}

var shortened = map[string]string{"30m": "28m", "1h": "58m", "2h": "118m", "6h": "358m"}

// recentSums is the ratio over a window that the period group sums, with the errors since then. The traffic since then is
// taken to be what has left the window meanwhile.
func (c *compiler) recentSums(window string) string {
	return c.text.join("clamp_max(", c.ratio(
		c.text.join("last_over_time("+SeriesErrorsSum, window, c.match, "[10m]) + scalar("+SeriesErrorsRecent, c.match, " or on () vector(0))"),
		c.text.join("last_over_time("+SeriesTotalSum, window, c.match, "[10m])")), ", 1)")
}

// fill puts the objective into an annotation's URL.
func (c *compiler) fill(url string) string {
	return c.text.replace(c.text.replace(url, "$entity", c.o.Entity.String()), "$indicator", c.o.Indicator)
}

// anchor puts the modifier "anchored" on the ranges that count an increase; functions over time do not know it. A query that
// does not parse is given back as it is.
func anchor(query string) string {
	const stand = "999999s" // as long as $window, so that positions are the query's
	expr, err := parser.ParseExpr(strings.ReplaceAll(query, "$window", stand))
	if err != nil {
		return query
	}
	var ends []int
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		call, ok := n.(*parser.Call)
		if !ok || !slices.Contains([]string{"rate", "increase", "delta", "changes", "resets"}, call.Func.Name) {
			return nil
		}
		if m, ok := call.Args[0].(*parser.MatrixSelector); ok {
			if end := int(m.PositionRange().End); strings.HasSuffix(query[:end], "$window]") {
				ends = append(ends, end)
			}
		}
		return nil
	})
	slices.Sort(ends)
	for _, end := range slices.Backward(ends) {
		query = query[:end] + " anchored" + query[end:]
	}
	return query
}

// A text makes many strings in one piece of memory. Once it is cut to be used again, none of them may be read any more.
type text []byte

// since gives what was appended after so many bytes.
func (t text) since(start int) string {
	return unsafe.String(unsafe.SliceData(t[start:]), len(t)-start)
}

// join gives the parts one after the other.
func (t *text) join(parts ...string) string {
	b := *t
	for _, p := range parts {
		b = append(b, p...)
	}
	start := len(*t)
	*t = b
	return b.since(start)
}

// replace is strings.ReplaceAll; old must not be empty.
func (t *text) replace(s, old, with string) string {
	b := *t
	for {
		before, after, found := strings.Cut(s, old)
		b = append(b, before...)
		if !found {
			start := len(*t)
			*t = b
			return b.since(start)
		}
		b = append(b, with...)
		s = after
	}
}
