package slo

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/slok/sloth/pkg/lib"
	slothv1 "github.com/slok/sloth/pkg/prometheus/api/v1"
)

// SlothGroups compiles an objective with sloth's own library: three groups whose budget is a mean of ratios. sloth knows
// windows of 28 and 30 days only, and reads $window as its own placeholder.
func SlothGroups(ctx context.Context, o Objective) ([]RuleGroup, error) {
	if o.Window.Calendar != "" {
		return nil, fmt.Errorf("sloth has no window %s", o.Window)
	}
	// An empty plug-in file system keeps sloth from interpreting its embedded plug-ins, which nothing here uses.
	gen, err := lib.NewPrometheusSLOGenerator(lib.PrometheusSLOGeneratorConfig{
		PluginsFS: []fs.FS{embed.FS{}}, DefaultSLOPeriod: time.Duration(o.Window.Days) * 24 * time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("start sloth's generator: %w", err)
	}
	spec, err := slothSpec(&o)
	if err != nil {
		return nil, err
	}
	res, err := gen.GenerateFromSlothV1(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("generate with sloth: %w", err)
	}
	var out []RuleGroup
	for _, r := range res.SLOResults {
		for _, g := range []struct {
			name  string
			rules []rulefmt.Rule
		}{
			{r.PrometheusRules.SLIErrorRecRules.Name, r.PrometheusRules.SLIErrorRecRules.Rules},
			{r.PrometheusRules.MetadataRecRules.Name, r.PrometheusRules.MetadataRecRules.Rules},
			{r.PrometheusRules.AlertRules.Name, r.PrometheusRules.AlertRules.Rules},
		} {
			if len(g.rules) == 0 {
				continue
			}
			group := RuleGroup{Name: g.name}
			for _, rule := range g.rules {
				group.Rules = append(group.Rules, Rule{Record: rule.Record, Alert: rule.Alert, Expr: rule.Expr, For: time.Duration(rule.For), Labels: LabelsOf(rule.Labels), Annotations: LabelsOf(rule.Annotations)})
			}
			out = append(out, group)
		}
	}
	return out, nil
}

// slothSpec is an objective as a document of sloth's.
func slothSpec(o *Objective) (slothv1.Spec, error) {
	objective, err := strconv.ParseFloat(o.Target.Percent(), 64)
	if err != nil {
		return slothv1.Spec{}, fmt.Errorf("read target: %w", err)
	}
	labels := map[string]string{"entity": o.Entity.String()}
	for k, v := range map[string]string{"owner": o.Owner.String(), "system": o.System.String()} {
		if v != "" {
			labels[k] = v
		}
	}
	alertLabels := maps.Clone(labels)
	maps.Copy(alertLabels, map[string]string{"sloth_id": o.ID(), "sloth_service": o.Service(), "sloth_slo": o.Indicator})
	query := func(q string) string { return strings.ReplaceAll(q, "$window", "{{.window}}") }
	alert := func(s Severity) slothv1.Alert {
		return slothv1.Alert{Disable: o.MaxSeverity == SeverityOff || s == SeverityPage && o.MaxSeverity == SeverityTicket, Labels: map[string]string{"severity": string(s)}}
	}
	return slothv1.Spec{Version: slothv1.Version, Service: o.Service(), Labels: labels, SLOs: []slothv1.SLO{{
		Name: o.Indicator, Description: o.Title, Objective: objective,
		SLI:      slothv1.SLI{Events: &slothv1.SLIEvents{ErrorQuery: query(o.ErrorQuery), TotalQuery: query(o.TotalQuery)}},
		Alerting: slothv1.Alerting{Name: AlertBurn, Labels: alertLabels, PageAlert: alert(SeverityPage), TicketAlert: alert(SeverityTicket)},
	}}}, nil
}
