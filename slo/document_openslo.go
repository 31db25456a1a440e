package slo

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	openslo "github.com/OpenSLO/go-sdk/pkg/openslo/v1"
	"github.com/nobl9/govy/pkg/govy"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

// An openIndicator is an SLI of a document and the place that it stands at.
type openIndicator struct {
	spec openslo.SLISpec
	at   *yaml.Node
}

// openSLO reads the objects of OpenSLO v1 documents. SLOs may refer to the SLIs and data sources among them.
func (r *documentReader) openSLO(roots []*yaml.Node) {
	indicators, sources := map[string]openIndicator{}, map[string]string{}
	slos := 0
	for _, n := range roots {
		at := lookup(n, "kind")
		switch kind := scalar(at); kind {
		case "SLO":
			slos++
		case "SLI":
			var sli openslo.SLI
			if decode(r, n, &sli) && r.valid(n, sli.Validate()) {
				indicators[sli.Metadata.Name] = openIndicator{sli.Spec, lookup(n, "spec")}
			}
		case "DataSource":
			var d openslo.DataSource
			if decode(r, n, &d) && r.valid(n, d.Validate()) {
				sources[d.Metadata.Name] = d.Spec.Type
			}
		case "Service":
			r.leftOut(at, true, "the service is left out: sloth_service is the entity", "")
		case "AlertPolicy", "AlertCondition", "AlertNotificationTarget":
			r.leftOut(at, false, "the "+kind+" is left out: "+ownAlerts, "set receivers on the owner")
		default:
			r.say(at, catalog.SeverityError, "slo-document-syntax", fmt.Sprintf("%q is no kind of OpenSLO v1", kind), "write kind: SLO")
		}
	}
	if len(roots) > 0 && slos == 0 {
		r.say(roots[0], catalog.SeverityError, "slo-document-syntax", "the document has no object of kind SLO", "")
	}
	for _, n := range roots {
		if scalar(lookup(n, "kind")) == "SLO" {
			r.openSLOObject(n, indicators, sources)
		}
	}
}

// valid reports what OpenSLO's own validation finds, at the properties.
func (r *documentReader) valid(n *yaml.Node, err error) bool {
	if err == nil {
		return true
	}
	var invalid *govy.ValidatorError
	if !errors.As(err, &invalid) {
		r.say(n, catalog.SeverityError, "slo-document-invalid", err.Error(), "")
		return false
	}
	for _, p := range invalid.Errors {
		path := p.PropertyPath.String()
		steps := strings.FieldsFunc(path, func(c rune) bool { return c == '.' || c == '[' || c == ']' || c == '$' })
		for _, e := range p.Errors {
			r.say(lookup(n, steps...), catalog.SeverityError, "slo-document-invalid", strings.TrimPrefix(path+": "+e.Message, ": "), "")
		}
	}
	return false
}

func (r *documentReader) openSLOObject(n *yaml.Node, indicators map[string]openIndicator, sources map[string]string) {
	var slo openslo.SLO
	if !decode(r, n, &slo) || !r.valid(n, slo.Validate()) {
		return
	}
	spec, at := slo.Spec, lookup(n, "spec")
	r.service(lookup(at, "service"), spec.Service)
	var common documentSLO
	r.openAnnotations(lookup(n, "metadata"), slo.Metadata, &common)
	if len(spec.AlertPolicies) > 0 {
		r.leftOut(lookup(at, "alertPolicies"), false, "the alert policies are left out: "+ownAlerts, "set "+catalog.Prefix+"alerting, and receivers on the owner")
	}
	switch {
	case spec.HasCompositeObjectives():
		r.notSupported(lookup(at, "objectives"), "composite objectives are", "write one SLO for each indicator")
		return
	case spec.BudgetingMethod == openslo.SLOBudgetingMethodRatioTimeslices:
		r.notSupported(lookup(at, "budgetingMethod"), "the budgeting method "+string(spec.BudgetingMethod)+" is", "write Occurrences or Timeslices")
		return
	}
	var ok bool
	if common.Window, ok = r.openWindow(at, spec); !ok {
		return
	}
	indicator := openIndicator{at: lookup(at, "indicator", "spec")}
	if spec.Indicator != nil {
		indicator.spec = spec.Indicator.Spec
	} else if indicator, ok = indicators[*spec.IndicatorRef]; !ok {
		r.say(lookup(at, "indicatorRef"), catalog.SeverityError, "slo-document-sli", fmt.Sprintf("there is no SLI %q in the document", *spec.IndicatorRef), "put it into the same file, or write it inline as indicator")
		return
	}
	if common.Title = slo.Metadata.DisplayName; common.Title == "" {
		common.Title = spec.Description
	}
	for i, o := range spec.Objectives {
		on, name := lookup(at, "objectives", strconv.Itoa(i)), slo.Metadata.Name
		if len(spec.Objectives) > 1 {
			suffix := o.DisplayName
			if suffix == "" {
				suffix = strconv.Itoa(i + 1)
			}
			name += "-" + suffix
		}
		key := "target"
		if o.TargetPercent != nil {
			key = "targetPercent"
		}
		out := common
		var target, counted bool
		out.Target, target = r.target(lookup(on, key), key == "target")
		goal := openGoal{objective: o, at: on, slices: spec.BudgetingMethod == openslo.SLOBudgetingMethodTimeslices}
		if out.counts, counted = r.openCounts(indicator, goal, sources); target && counted {
			r.add(on, name, out)
		} else if !counted && indicator.spec.RatioMetric != nil && !goal.slices {
			return // the same for each objective
		}
	}
}

// openAnnotations reads those annotations of an SLO that mean there what they mean in the catalog.
func (r *documentReader) openAnnotations(n *yaml.Node, m openslo.Metadata, out *documentSLO) {
	if len(m.Labels) > 0 {
		r.leftOut(lookup(n, "labels"), true, "the labels are left out: series and alerts carry entity, owner and system", "")
	}
	others := 0
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		value, at := m.Annotations[key], lookup(n, "annotations", key)
		name, ours := strings.CutPrefix(key, catalog.Prefix)
		bad := func(hint string) {
			r.leftOut(at, false, fmt.Sprintf("the annotation %s: %q is left out", key, value), hint)
		}
		switch {
		case !ours:
			others++
		case name == "alerting":
			if out.MaxSeverity = Severity(value); !slices.Contains([]Severity{SeverityPage, SeverityTicket, SeverityOff}, out.MaxSeverity) {
				out.MaxSeverity = ""
				bad("write page, ticket or off")
			}
		case name == "no-traffic":
			if out.NoTraffic = NoTraffic(value); !slices.Contains([]NoTraffic{NoTrafficIgnore, NoTrafficGood, NoTrafficBad}, out.NoTraffic) {
				out.NoTraffic = ""
				bad("write ignore, good or bad")
			}
		case name == "min-events":
			events, err := strconv.Atoi(value)
			if err != nil || events < 1 || events > 1e9 {
				bad("write a number of events")
				continue
			}
			out.MinEvents = events
		case name == "runbook":
			out.Runbook = r.runbook(at, value)
		default:
			bad("alerting, no-traffic, min-events and runbook are read here; the others belong on the entity")
		}
	}
	if others > 0 {
		r.leftOut(lookup(n, "annotations"), true, "annotations of others are left out", "")
	}
}

// openWindow gives the window; zero when there is none.
func (r *documentReader) openWindow(n *yaml.Node, spec openslo.SLOSpec) (Window, bool) {
	if len(spec.TimeWindow) == 0 {
		return Window{}, true
	}
	w, at := spec.TimeWindow[0], lookup(n, "timeWindow", "0")
	if w.Calendar != nil {
		return r.openCalendar(at, w)
	}
	days := 0
	switch v := w.Duration.GetValue(); w.Duration.GetUnit() {
	case openslo.DurationShorthandUnitDay:
		days = v
	case openslo.DurationShorthandUnitWeek:
		days = min(v, 1000) * 7
	}
	if days < 7 || days > 366 {
		r.say(lookup(at, "duration"), catalog.SeverityError, "slo-document-window", fmt.Sprintf("the window %s is not 7 to 366 days", w.Duration.String()), "write days or weeks, such as 30d or 4w")
		return Window{}, false
	}
	return Window{Days: days}, true
}

// openCalendar gives a calendar window. It must begin as ours do, at the first midnight of a week, month or quarter.
func (r *documentReader) openCalendar(at *yaml.Node, w openslo.SLOTimeWindow) (Window, bool) {
	refuse := func(key, message, hint string) (Window, bool) {
		r.say(lookup(at, strings.Split(key, ".")...), catalog.SeverityError, "slo-document-window", message, hint)
		return Window{}, false
	}
	start, err := time.Parse(time.DateTime, w.Calendar.StartTime)
	if err != nil {
		return refuse("calendar.startTime", fmt.Sprintf("the start %q is no date and time", w.Calendar.StartTime), "write it like 2026-01-01 00:00:00")
	}
	kind, first, begin := "", false, ""
	switch w.Duration.String() {
	case "1w", "7d":
		kind, first, begin = "week", start.Weekday() == time.Monday, "a Monday"
	case "1M":
		kind, first, begin = "month", start.Day() == 1, "the first of a month"
	case "1Q", "3M":
		kind, first, begin = "quarter", start.Day() == 1 && start.Month()%3 == 1, "the first of January, April, July or October"
	default:
		return refuse("duration", fmt.Sprintf("the calendar window %s is no week, month or quarter", w.Duration.String()), "write 1w, 1M or 1Q")
	}
	if hour, minute, second := start.Clock(); !first || hour+minute+second != 0 {
		return refuse("calendar.startTime", fmt.Sprintf("the window of a %s does not begin at %s", kind, w.Calendar.StartTime), "it begins at midnight of "+begin)
	}
	zone, err := time.LoadLocation(w.Calendar.TimeZone)
	if err != nil || zone == time.Local {
		return refuse("calendar.timeZone", fmt.Sprintf("the time zone %q is not known", w.Calendar.TimeZone), "write a name such as Europe/Zurich")
	}
	return Window{Calendar: kind, LocalTime: localTime(zone), Zone: zoneName(zone)}, true
}

// An openGoal is an objective of an SLO, and the place that it stands at.
type openGoal struct {
	objective openslo.SLOObjective
	at        *yaml.Node
	slices    bool // the budget is of slices of time
}

// openCounts reads what an SLO counts: events, samples of a metric that meets a threshold, or slices of time.
func (r *documentReader) openCounts(ind openIndicator, goal openGoal, sources map[string]string) (counts, bool) {
	if ind.spec.ThresholdMetric != nil {
		return r.openThreshold(ind, goal, sources)
	}
	c, ok := r.openRatio(ind, sources)
	if !ok || !goal.slices {
		return c, ok
	}
	slice, share, ok := r.openSlice(goal)
	switch {
	case !ok:
		return c, false
	case c.kind == KindProbe || c.kind == KindTimeSlice:
		r.say(lookup(goal.at, "timeSliceTarget"), catalog.SeverityError, "slo-document-sli", "slices of samples or of slices of time are not counted", "write a ratioMetric of events, or budgetingMethod: Occurrences")
		return c, false
	}
	over := func(q string) string { return strings.ReplaceAll(q, windowMark, slice) }
	return sliceCounts(over(c.errors), over(c.total), decimal(share), slice), true
}

// openSlice gives the length of the slices, and the share of bad events above which one is bad.
func (r *documentReader) openSlice(goal openGoal) (slice string, bad *big.Rat, ok bool) {
	at := lookup(goal.at, "timeSliceWindow")
	if slice = goal.objective.TimeSliceWindow.String(); slice != "1m" && slice != "5m" {
		r.say(at, catalog.SeverityError, "slo-document-window", fmt.Sprintf("slices of %s are not counted", slice), "write 1m or 5m")
		return "", nil, false
	}
	if slice == "1m" {
		r.say(at, catalog.SeverityInfo, "slo-document-slice", "slices of one minute need scrapes every 15 seconds", "")
	}
	at = lookup(goal.at, "timeSliceTarget")
	text := scalar(at)
	good, isNumber := new(big.Rat).SetString(text)
	if !plainDecimal.MatchString(text) || !isNumber {
		r.say(at, catalog.SeverityError, "slo-document-target", fmt.Sprintf("the target %q of a slice is not a share", text), "write a share such as 0.95")
		return "", nil, false
	}
	return slice, good.Sub(big.NewRat(1, 1), good), true
}

// openThreshold counts the samples of a metric, one each minute, or the slices of which enough samples meet the threshold.
func (r *documentReader) openThreshold(ind openIndicator, goal openGoal, sources map[string]string) (counts, bool) {
	where := lookup(ind.at, "thresholdMetric", "metricSource")
	query, ok := r.openQuery(where, ind.spec.ThresholdMetric.MetricSource, sources)
	if !ok {
		return counts{}, false
	}
	where = lookup(where, "spec", "query")
	text, expr, window, err := readQuery(query)
	if err == nil && window {
		err = errors.New("a metric that is compared with a threshold has no budget window: write a range such as [5m]")
	}
	if err == nil && expr.Type() != parser.ValueTypeVector {
		err = fmt.Errorf("a metric that is compared with a threshold is an instant vector, not a %s", parser.DocumentedType(expr.Type()))
	}
	if err != nil {
		r.say(where, catalog.SeverityError, "slo-document-query", "the SLO is left out: "+err.Error(), "")
		return counts{}, false
	}
	opposite := map[openslo.Operator]string{openslo.OperatorLTE: ">", openslo.OperatorLT: ">=", openslo.OperatorGTE: "<", openslo.OperatorGT: "<="}[goal.objective.Operator]
	threshold := scalar(lookup(goal.at, "value"))
	if opposite == "" || goal.objective.Value == nil || !number.MatchString(threshold) {
		r.say(goal.at, catalog.SeverityError, "slo-document-sli", "the metric is compared with nothing", "write op: lte (or lt, gte, gt), and value: a number")
		return counts{}, false
	}
	// A value that is not a number, as that of a quantile without traffic, is no sample.
	bad := "((" + text + ") >= -Inf) " + opposite + " bool " + threshold
	if !goal.slices {
		c := timeCounts("sum(sum_over_time(("+bad+")[$window:1m]))", "sum(count_over_time(("+bad+")[$window:1m]))")
		c.threshold = threshold
		return c, true
	}
	slice, share, ok := r.openSlice(goal)
	if !ok {
		return counts{}, false
	}
	ratio := "sum(" + bad + ") / count(" + bad + ")"
	if slice == "5m" { // one sample each minute
		ratio = "sum(sum_over_time((" + bad + ")[299s:1m])) / sum(count_over_time((" + bad + ")[299s:1m]))"
	}
	over := "(" + ratio + " > bool " + decimal(share) + ")[$window:" + slice + "]"
	c := timeCounts("sum_over_time("+over+")", "count_over_time("+over+")")
	c.threshold = threshold
	return c, true
}

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// openRatio reads the counts of bad and of all events.
func (r *documentReader) openRatio(ind openIndicator, sources map[string]string) (counts, bool) {
	ratio := ind.spec.RatioMetric
	if ratio == nil {
		r.say(ind.at, catalog.SeverityError, "slo-document-sli", "the indicator has neither a ratioMetric nor a thresholdMetric", "")
		return counts{}, false
	}
	at := lookup(ind.at, "ratioMetric")
	query := func(key string, m *openslo.SLIMetricSpec) (string, bool) {
		q, ok := r.openQuery(lookup(at, key, "metricSource"), m.MetricSource, sources)
		if ok && ratio.Counter && ratio.Raw == nil {
			var err error
			if q, err = counterRate(q); err != nil {
				r.badQuery(lookup(at, key, "metricSource", "spec", "query"), err)
				return "", false
			}
		}
		return q, ok
	}
	if ratio.Raw != nil {
		q, ok := query("raw", ratio.Raw)
		if !ok {
			return counts{}, false
		}
		c, err := countsOfRatio(q, ratio.RawType == openslo.SLIRawMetricTypeSuccess)
		if err != nil {
			r.badQuery(lookup(at, "raw", "metricSource", "spec", "query"), err)
		}
		return c, err == nil
	}
	if ratio.Total == nil || ratio.Bad == nil && ratio.Good == nil {
		r.say(at, catalog.SeverityError, "slo-document-sli", "the ratio has no total with good or bad", "")
		return counts{}, false
	}
	total, ok := query("total", ratio.Total)
	if !ok {
		return counts{}, false
	}
	key, metric, read := "bad", ratio.Bad, countsOf
	if ratio.Bad == nil {
		key, metric, read = "good", ratio.Good, countsOfGood
	}
	part, ok := query(key, metric)
	if !ok {
		return counts{}, false
	}
	c, err := read(part, total)
	if err != nil {
		if p := (*partError)(nil); errors.As(err, &p) && p.total {
			key = "total"
		}
		r.badQuery(lookup(at, key, "metricSource", "spec", "query"), err)
	}
	return c, err == nil
}

// openQuery gives the PromQL of a metric source.
func (r *documentReader) openQuery(n *yaml.Node, m openslo.SLIMetricSource, sources map[string]string) (string, bool) {
	kind := m.Type
	if kind == "" {
		kind = sources[m.MetricSourceRef]
	}
	if !strings.EqualFold(kind, "prometheus") {
		what := fmt.Sprintf("the metric source is of type %q", kind)
		if kind == "" {
			what = "the type of the metric source is not known"
		}
		r.say(n, catalog.SeverityError, "slo-document-sli", what, "write type: Prometheus")
		return "", false
	}
	for key := range m.Spec {
		if key != "query" {
			r.leftOut(lookup(n, "spec", key), false, fmt.Sprintf("%q of the metric source is left out", key), "")
		}
	}
	q, ok := m.Spec["query"].(string)
	if !ok {
		r.say(lookup(n, "spec"), catalog.SeverityError, "slo-document-sli", "the metric source has no query", "write spec: {query: …}")
	}
	return q, ok
}
