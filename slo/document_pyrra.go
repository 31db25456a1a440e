package slo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

// A pyrraSpec is the spec of Pyrra's ServiceLevelObjective, version pyrra.dev/v1alpha1. Pyrra's own types cannot be used:
// they need the whole of controller-runtime, and another Prometheus.
type pyrraSpec struct {
	Description string `json:"description"`
	Target      string `json:"target"`
	Window      string `json:"window"`
	Indicator   struct {
		Ratio *struct {
			Errors   pyrraQuery `json:"errors"`
			Total    pyrraQuery `json:"total"`
			Grouping []string   `json:"grouping"`
		} `json:"ratio"`
		Latency *struct {
			Success  pyrraQuery `json:"success"`
			Total    pyrraQuery `json:"total"`
			Grouping []string   `json:"grouping"`
		} `json:"latency"`
		LatencyNative *struct {
			Total    pyrraQuery `json:"total"`
			Latency  string     `json:"latency"`
			Grouping []string   `json:"grouping"`
		} `json:"latencyNative"`
		BoolGauge *struct {
			Metric   string   `json:"metric"`
			Grouping []string `json:"grouping"`
		} `json:"bool_gauge"`
	} `json:"indicator"`
	Alerting struct {
		Disabled   bool              `json:"disabled"`
		Burnrates  *bool             `json:"burnrates"`
		Absent     *bool             `json:"absent"`
		Name       string            `json:"name"`
		AbsentName string            `json:"absentName"`
		Severities map[string]string `json:"severities"`
	} `json:"alerting"`
	PartialResponseStrategy string         `json:"partial_response_strategy"`
	PerformanceOverAccuracy bool           `json:"performanceOverAccuracy"`
	RuleOutput              map[string]any `json:"ruleOutput"`
}

type pyrraQuery struct {
	Metric string `json:"metric"`
}

// pyrra reads an object of Pyrra's API group.
func (r *documentReader) pyrra(root *yaml.Node) {
	switch kind := scalar(lookup(root, "kind")); kind {
	case "ServiceLevelObjective":
		r.pyrraObject(root)
	case "ServiceLevelObjectiveList":
		r.list(root)
	default:
		r.say(lookup(root, "kind"), catalog.SeverityError, "slo-document-syntax", fmt.Sprintf("%q is no kind of Pyrra's", kind), "write kind: ServiceLevelObjective")
	}
}

func (r *documentReader) pyrraObject(root *yaml.Node) {
	at := lookup(root, "spec")
	if at == root || at.Kind != yaml.MappingNode {
		r.say(root, catalog.SeverityError, "slo-document-syntax", "the object has no spec", "")
		return
	}
	var spec pyrraSpec
	if !decode(r, at, &spec) {
		return
	}
	metadata := lookup(root, "metadata")
	if labels := lookup(metadata, "labels"); labels != metadata && len(labels.Content) > 0 {
		r.leftOut(labels, true, "the labels are left out: series and alerts carry entity, owner and system", "")
	}
	if spec.PerformanceOverAccuracy || len(spec.RuleOutput) > 0 || spec.PartialResponseStrategy != "" {
		r.leftOut(at, true, "performanceOverAccuracy, ruleOutput and partial_response_strategy are left out: Sightline's rules are exact and cheap", "")
	}
	name := lookup(metadata, "name")
	s := documentSLO{Title: oneParagraph(spec.Description)}
	var target, window, counted bool
	s.Target, target = r.target(lookup(at, "target"), false)
	s.Window, window = r.pyrraWindow(at, spec.Window)
	s.counts, counted = r.pyrraCounts(lookup(at, "indicator"), spec)
	r.pyrraAlerting(lookup(at, "alerting"), spec, &s)
	if target && window && counted {
		r.add(name, scalar(name), s)
	}
}

func (r *documentReader) pyrraWindow(at *yaml.Node, window string) (Window, bool) {
	d, err := model.ParseDuration(window)
	days := int(time.Duration(d) / (24 * time.Hour))
	if err != nil || time.Duration(days)*24*time.Hour != time.Duration(d) || days < 7 || days > 366 {
		r.say(lookup(at, "window"), catalog.SeverityError, "slo-document-window", fmt.Sprintf("the window %q is not 7 to 366 whole days", window), "write days or weeks, such as 30d or 4w")
		return Window{}, false
	}
	return Window{Days: days}, true
}

// pyrraCounts reads the indicator, of which there is one.
func (r *documentReader) pyrraCounts(at *yaml.Node, spec pyrraSpec) (counts, bool) {
	var kinds []string
	i := spec.Indicator
	for kind, set := range map[string]bool{"ratio": i.Ratio != nil, "latency": i.Latency != nil, "latencyNative": i.LatencyNative != nil, "bool_gauge": i.BoolGauge != nil} {
		if set {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		r.say(at, catalog.SeverityError, "slo-document-sli", fmt.Sprintf("the indicator has %d of ratio, latency, latencyNative and bool_gauge", len(kinds)), "write exactly one")
		return counts{}, false
	}
	n := lookup(at, kinds[0])
	ungrouped := func(grouping []string) bool {
		if len(grouping) > 0 {
			r.say(lookup(n, "grouping"), catalog.SeverityError, catalog.RuleNotSupportedYet, "grouping, which makes an objective of each group, is not supported yet",
				"leave grouping out to have one objective over all groups, or write one object for each group")
		}
		return len(grouping) == 0
	}
	switch {
	case i.Ratio != nil:
		bad, ok := r.pyrraSeries(n, "errors", i.Ratio.Errors.Metric)
		all, ok2 := r.pyrraSeries(n, "total", i.Ratio.Total.Metric)
		return rateCounts(ratesOf(bad), ratesOf(all)), ok && ok2 && ungrouped(i.Ratio.Grouping)
	case i.Latency != nil:
		good, ok := r.pyrraSeries(n, "success", i.Latency.Success.Metric)
		all, ok2 := r.pyrraSeries(n, "total", i.Latency.Total.Metric)
		if ok && !hasBuckets(good) {
			r.say(lookup(n, "success", "metric"), catalog.SeverityError, "slo-document-sli", "the metric of fast requests has no bucket", `write a matcher such as le="0.5"`)
			ok = false
		}
		return slowCounts(ratesOf(all), ratesOf(good)), ok && ok2 && ungrouped(i.Latency.Grouping)
	case i.LatencyNative != nil:
		all, ok := r.pyrraSeries(n, "total", i.LatencyNative.Total.Metric)
		d, err := model.ParseDuration(i.LatencyNative.Latency)
		if err != nil || d <= 0 {
			r.say(lookup(n, "latency"), catalog.SeverityError, "slo-document-target", fmt.Sprintf("the latency %q is no duration", i.LatencyNative.Latency), "write one such as 500ms or 1s")
			ok = false
		}
		c := counts{kind: KindNativeHistogram, threshold: strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64)}
		c.errors, c.total = slowNative(ratesOf(all), c.threshold)
		return c, ok && ungrouped(i.LatencyNative.Grouping)
	default:
		gauge, ok := r.pyrraSeries(n, "", i.BoolGauge.Metric)
		c := counts{kind: KindProbe, byIdle: func(idle NoTraffic) (string, string) { return probesOf(gauge, idle) }}
		c.errors, c.total = c.byIdle(NoTrafficIgnore)
		return c, ok && ungrouped(i.BoolGauge.Grouping)
	}
}

func ratesOf(series string) string { return "sum(rate(" + series + "[" + windowMark + "]))" }

// pyrraSeries reads a metric, which is the selector of a series.
func (r *documentReader) pyrraSeries(n *yaml.Node, key, metric string) (string, bool) {
	at := lookup(n, "metric")
	if key != "" {
		at = lookup(n, key, "metric")
	}
	expr, err := parser.ParseExpr(metric)
	switch {
	case err != nil:
		err = fmt.Errorf("the metric does not parse: %w", err)
	case !isPlain(unwrap(expr)):
		err = errors.New("the metric is no plain selector, so its events cannot be counted")
	default:
		return bothEdges(textOf(metric, unwrap(expr))), true
	}
	r.say(at, catalog.SeverityError, "slo-document-query", "the SLO is left out: "+err.Error(), `write a selector such as http_requests_total{job="checkout"}`)
	return "", false
}

// pyrraAlerting reads the switches. Pyrra has them for burn rates and for absent metrics; Sightline has one for both.
func (r *documentReader) pyrraAlerting(n *yaml.Node, spec pyrraSpec, s *documentSLO) {
	a := spec.Alerting
	if a.Name != "" || a.AbsentName != "" {
		r.leftOut(n, true, "the names of the alerts are left out: "+ownAlerts, "")
	}
	if len(a.Severities) > 0 {
		r.leftOut(lookup(n, "severities"), false, "the severities are left out: alerts have page and ticket", "route by these, or set "+catalog.Prefix+"alerting to ticket")
	}
	burns, absent := a.Burnrates == nil || *a.Burnrates, a.Absent == nil || *a.Absent
	switch {
	case a.Disabled || !burns && !absent:
		s.MaxSeverity = SeverityOff
	case !burns:
		s.MaxSeverity = SeverityOff
		r.leftOut(lookup(n, "burnrates"), false, "with burnrates: false there is no alert of a missing metric either", "set absent: false, too, to say that it is not wanted")
	case !absent:
		r.leftOut(lookup(n, "absent"), false, "the alert of a missing metric cannot be switched off alone", "set "+catalog.Prefix+"alerting to off to have no alerts")
	}
}

// oneParagraph is the first paragraph of a text, on one line.
func oneParagraph(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n\n")
	return strings.Join(strings.Fields(first), " ")
}
