package slo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	openslov1 "github.com/OpenSLO/go-sdk/pkg/openslo/v1"
	slothv1 "github.com/slok/sloth/pkg/prometheus/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/sightline-dev/sightline/catalog"
)

// A Format is a form of documents that objectives can be written in.
type Format string

// The formats.
const (
	FormatOpenSLO Format = "openslo"
	FormatSloth   Format = "sloth"
)

// Export writes the objectives of one entity as a document of a format, which an slo-ref of that entity can name. What the
// document does not carry is a Problem of the objective: an error where the objective is not in the document, else a
// warning. To find out, the document is read again.
func Export(objectives []Objective, format Format) ([]byte, []catalog.Problem, error) {
	var problems []catalog.Problem
	say := func(o *Objective, severity catalog.Severity, message, hint string) {
		problems = append(problems, catalog.Problem{
			Severity: severity, Entity: o.Entity, Owner: o.Owner, Rule: "slo-export",
			Message: fmt.Sprintf("%s: %s", o.Indicator, message), Hint: hint,
		})
	}
	var parts []any
	var sloth slothv1.Spec
	for i := range objectives {
		o := &objectives[i]
		part, lost, err := exported(o, format)
		if err != nil {
			say(o, catalog.SeverityError, "the objective is not in the document: "+err.Error(), "")
			continue
		}
		for _, l := range lost {
			say(o, catalog.SeverityWarning, l.what, l.hint)
		}
		if spec, ok := part.(slothv1.Spec); ok {
			spec.SLOs = append(sloth.SLOs, spec.SLOs...)
			sloth = spec
			continue
		}
		parts = append(parts, part)
	}
	if len(sloth.SLOs) > 0 {
		parts = append(parts, sloth)
	}
	var out []byte
	for i, p := range parts {
		body, err := document(p)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, body...)
	}
	return out, problems, nil
}

// A loss is what a document lacks of an objective.
type loss struct{ what, hint string }

// exported gives an objective as the library's type of a format, and what that lacks.
func exported(o *Objective, format Format) (part any, lost []loss, err error) {
	if o.Composite != nil {
		return nil, nil, errors.New("a composite is made of other objectives and has no query of its own")
	}
	if format == FormatSloth {
		spec, err := slothSpec(o)
		if err != nil {
			return nil, nil, err
		}
		if o.Runbook != "" {
			spec.SLOs[0].Alerting.Annotations = map[string]string{"runbook": o.Runbook}
		}
		lost, err = lacks(spec, o)
		return spec, lost, err
	}
	if c, ok := recognise(o.ErrorQuery, o.TotalQuery); ok && c.sliced != nil { // slices of time have a word of their own
		if native, err := openSLOOf(o, c); err == nil {
			if lost, err := lacks(native, o); err == nil && len(lost) == 0 {
				return native, nil, nil
			}
		}
	}
	slo, err := openSLOOf(o, counts{})
	if err != nil {
		return nil, nil, err
	}
	lost, err = lacks(slo, o)
	return slo, lost, err
}

// openSLOOf is an objective as an SLO of OpenSLO v1: of slices of time where they are given, else of occurrences.
func openSLOOf(o *Objective, c counts) (openslov1.SLO, error) {
	name := strings.ReplaceAll(o.Indicator, "_", "-")
	annotations := openslov1.Annotations{}
	for key, value := range map[string]string{
		"alerting": except(string(o.MaxSeverity), string(SeverityPage)), "no-traffic": except(string(o.NoTraffic), string(NoTrafficIgnore)),
		"min-events": except(strconv.Itoa(o.MinEvents), "0"), "runbook": o.Runbook,
	} {
		if value != "" {
			annotations[catalog.Prefix+key] = value
		}
	}
	percent, err := strconv.ParseFloat(o.Target.Percent(), 64)
	if err != nil {
		return openslov1.SLO{}, fmt.Errorf("read target: %w", err)
	}
	objective, method := openslov1.SLOObjective{TargetPercent: &percent}, openslov1.SLOBudgetingMethodOccurrences
	bad, all := o.ErrorQuery, o.TotalQuery
	if s := c.sliced; s != nil {
		share, ok := new(big.Rat).SetString(s.threshold)
		if !ok {
			return openslov1.SLO{}, fmt.Errorf("the share %s is not a number", s.threshold)
		}
		good, _ := share.Sub(big.NewRat(1, 1), share).Float64()
		length, err := openslov1.ParseDurationShorthand(s.length)
		if err != nil {
			return openslov1.SLO{}, err
		}
		method, objective.TimeSliceTarget, objective.TimeSliceWindow = openslov1.SLOBudgetingMethodTimeslices, &good, &length
		over := func(q string) string { return strings.ReplaceAll(q, "["+s.length+"]", "["+windowMark+"]") }
		bad, all = over(s.bad), over(s.all)
	}
	query := func(q string) *openslov1.SLIMetricSpec {
		return &openslov1.SLIMetricSpec{MetricSource: openslov1.SLIMetricSource{Type: "Prometheus", Spec: map[string]any{"query": strings.ReplaceAll(q, windowMark, "{{.window}}")}}}
	}
	out := openslov1.NewSLO(openslov1.Metadata{Name: name, Annotations: annotations}, openslov1.SLOSpec{
		Description: o.Title, Service: o.Entity.Name, BudgetingMethod: method, TimeWindow: []openslov1.SLOTimeWindow{openWindowOf(o.Window)},
		Indicator: &openslov1.SLOIndicatorInline{
			Metadata: openslov1.Metadata{Name: name},
			Spec:     openslov1.SLISpec{RatioMetric: &openslov1.SLIRatioMetric{Bad: query(bad), Total: query(all)}},
		},
		Objectives: []openslov1.SLOObjective{objective},
	})
	if err := out.Validate(); err != nil {
		return out, fmt.Errorf("OpenSLO refuses it: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return out, nil
}

func openWindowOf(w Window) openslov1.SLOTimeWindow {
	unit, ok := map[string]openslov1.DurationShorthandUnit{
		"week": openslov1.DurationShorthandUnitWeek, "month": openslov1.DurationShorthandUnitMonth, "quarter": openslov1.DurationShorthandUnitQuarter,
	}[w.Calendar]
	if !ok {
		return openslov1.SLOTimeWindow{Duration: openslov1.NewDurationShorthand(w.Days, openslov1.DurationShorthandUnitDay), IsRolling: true}
	}
	// The first day of 2024 began a week, a month and a quarter.
	return openslov1.SLOTimeWindow{Duration: openslov1.NewDurationShorthand(1, unit), Calendar: &openslov1.SLOCalendar{StartTime: "2024-01-01 00:00:00", TimeZone: cmp.Or(w.Zone, "UTC")}}
}

// except is a value, or "" where it is the one that need not be said.
func except(value, silent string) string {
	if value == silent {
		return ""
	}
	return value
}

// lacks reads a document of one objective and compares the two.
func lacks(part any, o *Objective) ([]loss, error) {
	body, err := document(part)
	if err != nil {
		return nil, err
	}
	read, problems := readDocument(o.Entity, body)
	if len(read) != 1 {
		why := "it is not read"
		if len(problems) > 0 {
			why = problems[0].Message
		}
		return []loss{{"it is in the document as it is, but Sightline would not read it back: " + why, ""}}, nil
	}
	got := read[0].objective()
	got.ErrorQuery, got.TotalQuery = read[0].counts.queries(got.NoTraffic)
	var out []loss
	add := func(same bool, what, hint string) {
		if !same {
			out = append(out, loss{what + " is not in the document", hint})
		}
	}
	keep := func(key string) string { return "keep " + catalog.Prefix + key + " on the entity" }
	rolling := fmt.Sprintf("give it to sloth as --default-slo-period=%dd", o.Window.Days)
	if o.Window.Calendar != "" {
		rolling = "sloth has none; " + keep("window")
	}
	sameWindow := got.Window.Days == o.Window.Days && got.Window.Calendar == o.Window.Calendar && cmp.Or(got.Window.LocalTime, "time()") == cmp.Or(o.Window.LocalTime, "time()")
	add(got.Indicator == o.Indicator, fmt.Sprintf("the name %q", o.Indicator), "")
	add(got.Title == o.Title, "the title", "")
	add(got.Target.Ratio() == o.Target.Ratio(), "the target "+o.Target.Percent(), "")
	add(sameWindow || got.Window.Length() == 0 && o.Window.Days == 30, "the window "+o.Window.String(), rolling)
	add(got.Kind == o.Kind, "that it is of the kind "+string(o.Kind), "")
	add(got.Threshold == o.Threshold, "the threshold "+o.Threshold+", other than in the queries,", "")
	add(shape(got.ErrorQuery) == shape(o.ErrorQuery) && shape(got.TotalQuery) == shape(o.TotalQuery), "what exactly is counted", "")
	add(cmp.Or(got.NoTraffic, NoTrafficIgnore) == o.NoTraffic, "no-traffic: "+string(o.NoTraffic), keep("no-traffic"))
	add(got.MinEvents == o.MinEvents, fmt.Sprintf("min-events: %d", o.MinEvents), keep("min-events"))
	add(got.MaxSeverity == o.MaxSeverity, "alerting: "+string(o.MaxSeverity), keep("alerting"))
	add(got.Runbook == o.Runbook, "the runbook", keep("runbook"))
	add(len(o.Exclusions) == 0, "what of maintenance windows and corrections does not count", "")
	return out, nil
}

// document writes a value of a library's type as YAML, without what is empty.
func document(part any) ([]byte, error) {
	body, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var plain map[string]any
	if err := dec.Decode(&plain); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	prune(plain)
	if body, err = json.Marshal(plain); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	if body, err = yaml.JSONToYAML(body); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	return body, nil
}

// prune takes what is null or an empty mapping out of a mapping.
func prune(m map[string]any) {
	for key, value := range m {
		switch v := value.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			if prune(v); len(v) == 0 {
				delete(m, key)
			}
		case []any:
			for _, item := range v {
				if inner, ok := item.(map[string]any); ok {
					prune(inner)
				}
			}
		}
	}
}
