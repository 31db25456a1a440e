package slo

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// The base series: rates of bad and of all events, recorded every minute and, for the budget window, every five.
const (
	SeriesErrors       = "sightline:slo_errors:rate5m"
	SeriesTotal        = "sightline:slo_total:rate5m"
	SeriesErrorsPeriod = "sightline:slo_errors_period:rate5m"
	SeriesTotalPeriod  = "sightline:slo_total_period:rate5m"
)

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

const identity = "entity, sloth_id, sloth_service, sloth_slo"

// Groups compiles an objective into its fast (1m) and period (5m) rule group. A calendar window gives none; Window and
// Target must be set and both queries must hold $window.
//
// One event raises a five-minute base rate by 1/300 for five one-minute evaluations, so sum_over_time × 60 counts
// events. Extrapolation makes one event at most about 1.2 and two at least 1.6: "> 1.5" means two or more.
func Groups(o Objective, opts RuleOptions) []RuleGroup {
	if o.Window.Days == 0 {
		return nil
	}
	if opts.ScrapeInterval <= 0 {
		opts.ScrapeInterval = time.Minute
	}
	base := "5m] anchored"
	if !opts.Anchored {
		base = strconv.Itoa(int((5*time.Minute+opts.ScrapeInterval)/time.Second)) + "s]"
	}
	query := func(q, window string) string {
		if strings.HasSuffix(window, "anchored") {
			return strings.ReplaceAll(anchor(q), "$window", strings.TrimSuffix(window, "] anchored"))
		}
		return strings.ReplaceAll(q, "$window", strings.TrimSuffix(window, "]"))
	}
	id := o.ID()
	match := `{sloth_id=` + strconv.Quote(id) + `}`
	ids := map[string]string{"entity": o.Entity.String(), "sloth_id": id, "sloth_service": o.Service(), "sloth_slo": o.Indicator}
	derived := maps.Clone(ids)
	if s := o.Owner.String(); s != "" {
		derived["owner"] = s
	}
	if s := o.System.String(); s != "" {
		derived["system"] = s
	}
	with := func(more ...string) map[string]string {
		m := maps.Clone(derived)
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	errorsExpr := func(w string) string {
		return "(" + query(o.ErrorQuery, w) + ") or 0 * (" + query(o.TotalQuery, w) + ")"
	}
	ratio := func(errs, total string) string {
		s := "(" + errs + ") / (" + total + " > 0)"
		if o.NoTraffic == NoTrafficGood {
			s = "(" + s + ") or 0 * " + total
		}
		return s
	}
	sums := func(errs, total, w string) string {
		return ratio("sum_over_time("+errs+match+"["+w+"])", "sum_over_time("+total+match+"["+w+"])")
	}

	fast := RuleGroup{Name: "sightline-slo-fast-" + id, Interval: time.Minute}
	record := func(g *RuleGroup, name, expr string, labels map[string]string) {
		g.Rules = append(g.Rules, Rule{Record: name, Expr: expr, Labels: labels})
	}
	record(&fast, SeriesErrors, errorsExpr(base), ids)
	record(&fast, SeriesTotal, query(o.TotalQuery, base), ids)
	for _, w := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		expr := sums(SeriesErrors, SeriesTotal, w)
		switch w {
		case "5m":
			expr = ratio(SeriesErrors+match, SeriesTotal+match)
		case "1h":
			expr = ratio(errorsExpr("1h]"), "("+query(o.TotalQuery, "1h]")+")")
		}
		record(&fast, SeriesErrorRatio+w, expr, with("sloth_window", w))
	}
	annotations := func(summary, description string) map[string]string {
		m := map[string]string{"summary": summary, "description": description}
		fill := strings.NewReplacer("$entity", o.Entity.String(), "$indicator", o.Indicator)
		for k, v := range map[string]string{"runbook_url": o.Runbook, "slo_url": fill.Replace(opts.SLOURL), "dashboard_url": fill.Replace(opts.DashboardURL)} {
			if v != "" {
				m[k] = v
			}
		}
		return m
	}
	name := o.Entity.String() + " " + o.Indicator
	budget := o.Target.ErrorBudget()
	for _, severity := range []Severity{SeverityPage, SeverityTicket} {
		if o.MaxSeverity == SeverityOff || severity == SeverityPage && o.MaxSeverity == SeverityTicket {
			continue
		}
		var clauses []string
		for _, p := range o.Window.BurnPairs() {
			if p.Severity != severity || !p.CanFire(o.Target) {
				continue
			}
			over := func(w string) string {
				return "max by (" + identity + ") (" + SeriesErrorRatio + w + match + " > (" + p.Factor + " * " + budget + "))"
			}
			clause := over(p.Short) + " and " + over(p.Long) + " and (sum_over_time(" + SeriesErrors + match + "[" + p.Long + "]) * 60 > 1.5)"
			if o.MinEvents > 0 {
				clause += " and (sum_over_time(" + SeriesTotal + match + "[" + p.Long + "]) * 60 >= " + strconv.Itoa(o.MinEvents) + ")"
			}
			clauses = append(clauses, "("+clause+")")
		}
		if len(clauses) > 0 {
			fast.Rules = append(fast.Rules, Rule{
				Alert: AlertBurn, Expr: strings.Join(clauses, " or "),
				Labels:      with("severity", string(severity), "sloth_severity", string(severity)),
				Annotations: annotations(name+" burns its error budget too fast", "The error ratio is far above what the target of "+o.Target.Percent()+" % over "+o.Window.String()+" allows."),
			})
		}
	}
	if !o.Defaulted && o.MaxSeverity != SeverityOff {
		fast.Rules = append(fast.Rules, Rule{
			Alert: AlertAbsent, Expr: "absent(" + SeriesTotal + match + ")", For: 15 * time.Minute,
			Labels:      with("severity", "ticket", "sloth_severity", "ticket"),
			Annotations: annotations(name+" has no data", "The query of all events returns nothing; the objective cannot be measured."),
		})
	}

	period := RuleGroup{Name: "sightline-slo-period-" + id, Interval: 5 * time.Minute}
	w := o.Window.String()
	record(&period, SeriesErrorsPeriod, errorsExpr(base), ids)
	record(&period, SeriesTotalPeriod, query(o.TotalQuery, base), ids)
	record(&period, SeriesErrorRatio+w, sums(SeriesErrorsPeriod, SeriesTotalPeriod, w), with("sloth_window", w))
	record(&period, SeriesObjective, "vector("+o.Target.Ratio()+")", derived)
	record(&period, SeriesErrorBudget, "vector("+budget+")", derived)
	record(&period, SeriesPeriodDays, "vector("+strconv.Itoa(o.Window.Days)+")", derived)
	max := func(series string) string { return "max by (" + identity + ") (" + series + match + ")" }
	record(&period, SeriesCurrentBurnRate, max(SeriesErrorRatio+"5m")+" / "+budget, derived)
	record(&period, SeriesPeriodBurnRate, max(SeriesErrorRatio+w)+" / "+budget, derived)
	record(&period, SeriesBudgetRemaining, "1 - "+max(SeriesPeriodBurnRate), derived)
	record(&period, SeriesInfo, "vector(1)", with("sloth_mode", "sightline", "sloth_objective", o.Target.Percent(), "sloth_spec", "sightline", "sloth_version", "exact"))
	if o.MaxSeverity != SeverityOff {
		period.Rules = append(period.Rules, Rule{
			Alert:       AlertExhausted,
			Expr:        max(SeriesBudgetRemaining) + " <= 0 and (sum_over_time(" + SeriesErrorsPeriod + match + "[" + w + "]) * 300 > 1.5)",
			Labels:      with("severity", "ticket", "sloth_severity", "ticket"),
			Annotations: annotations(name+" has used up its error budget", "No error budget is left in the window of "+w+"."),
		})
	}
	return []RuleGroup{fast, period}
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
