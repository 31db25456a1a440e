package slo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	openslo "github.com/OpenSLO/go-sdk/pkg/openslo/v1"
	"github.com/nobl9/govy/pkg/govy"
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
	if spec.Service != r.entity {
		r.leftOut(lookup(at, "service"), true, fmt.Sprintf("the service %q is left out: sloth_service is the entity", spec.Service), "")
	}
	if len(slo.Metadata.Labels)+len(slo.Metadata.Annotations) > 0 {
		r.leftOut(lookup(n, "metadata"), true, "labels and annotations are left out: series and alerts carry entity, owner and system", "")
	}
	if len(spec.AlertPolicies) > 0 {
		r.leftOut(lookup(at, "alertPolicies"), false, "the alert policies are left out: "+ownAlerts, "set "+catalog.Prefix+"alerting, and receivers on the owner")
	}
	switch {
	case spec.HasCompositeObjectives():
		r.notSupported(lookup(at, "objectives"), "composite objectives are", "write one SLO for each indicator")
		return
	case spec.BudgetingMethod != openslo.SLOBudgetingMethodOccurrences:
		r.notSupported(lookup(at, "budgetingMethod"), "the budgeting method "+string(spec.BudgetingMethod)+" is", "write Occurrences")
		return
	}
	days, ok := r.openWindow(at, spec)
	if !ok {
		return
	}
	indicator := openIndicator{at: lookup(at, "indicator", "spec")}
	if spec.Indicator != nil {
		indicator.spec = spec.Indicator.Spec
	} else if indicator, ok = indicators[*spec.IndicatorRef]; !ok {
		r.say(lookup(at, "indicatorRef"), catalog.SeverityError, "slo-document-sli", fmt.Sprintf("there is no SLI %q in the document", *spec.IndicatorRef), "put it into the same file, or write it inline as indicator")
		return
	}
	errs, total, ok := r.openQueries(indicator, sources)
	if !ok {
		return
	}
	for i, o := range spec.Objectives {
		on := lookup(at, "objectives", strconv.Itoa(i))
		name, title := slo.Metadata.Name, slo.Metadata.DisplayName
		if len(spec.Objectives) > 1 {
			suffix := o.DisplayName
			if suffix == "" {
				suffix = strconv.Itoa(i + 1)
			}
			name += "-" + suffix
		}
		if title == "" {
			title = spec.Description
		}
		key := "target"
		if o.TargetPercent != nil {
			key = "targetPercent"
		}
		if target, ok := r.target(lookup(on, key), key == "target"); ok {
			r.add(on, name, documentSLO{Title: title, Target: target, Days: days, Errors: errs, Total: total})
		}
	}
}

// openWindow gives the days of the window; 0 when there is none.
func (r *documentReader) openWindow(n *yaml.Node, spec openslo.SLOSpec) (int, bool) {
	if len(spec.TimeWindow) == 0 {
		return 0, true
	}
	w, at := spec.TimeWindow[0], lookup(n, "timeWindow", "0")
	if w.Calendar != nil {
		r.notSupported(lookup(at, "calendar"), "calendar windows are", "leave timeWindow out, and set "+catalog.Prefix+"window: calendar-month")
		return 0, false
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
		return 0, false
	}
	return days, true
}

func (r *documentReader) openQueries(ind openIndicator, sources map[string]string) (errs, total string, ok bool) {
	ratio := ind.spec.RatioMetric
	if ratio == nil {
		r.notSupported(lookup(ind.at, "thresholdMetric"), "thresholds on a metric are", "count events: write a ratioMetric of bad and total")
		return "", "", false
	}
	at := lookup(ind.at, "ratioMetric")
	rate := func(key string, m *openslo.SLIMetricSpec, read func(string) (string, error)) (string, bool) {
		where := lookup(at, key, "metricSource")
		q, ok := r.openQuery(where, m.MetricSource, sources)
		if !ok {
			return "", false
		}
		q, err := read(q)
		if err != nil {
			r.badQuery(lookup(where, "spec", "query"), err)
		}
		return q, err == nil
	}
	read := eventRate
	if ratio.Counter {
		read = counterRate
	}
	switch {
	case ratio.Raw != nil:
		split := func(q string) (string, error) {
			var err error
			errs, total, err = splitRatio(q, ratio.RawType == openslo.SLIRawMetricTypeSuccess)
			return q, err
		}
		_, ok = rate("raw", ratio.Raw, split)
		return errs, total, ok
	case ratio.Total == nil || ratio.Bad == nil && ratio.Good == nil:
		r.say(at, catalog.SeverityError, "slo-document-sli", "the ratio has no total with good or bad", "")
		return "", "", false
	}
	if total, ok = rate("total", ratio.Total, read); !ok {
		return "", "", false
	}
	if ratio.Bad != nil {
		errs, ok = rate("bad", ratio.Bad, read)
		return errs, total, ok
	}
	good, ok := rate("good", ratio.Good, read)
	return errorsFromGood(good, total), total, ok
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
