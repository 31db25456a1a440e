package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
)

// A Delivery says how changes got to production in the last 30 days: DORA's five metrics.
type Delivery struct {
	DeploymentsPerDay Number `json:"deployments_per_day" doc:"Successful deployments to production per day; null where none is known."`
	LeadTime          Number `json:"lead_time_seconds" doc:"Median time from a commit to its deployment to production; null without deployments."`
	ChangeFailRate    Number `json:"change_fail_rate" doc:"Share of successful deployments to production that failed in service; null without deployments."`
	Recovery          Number `json:"recovery_seconds" doc:"Median time from a failure to what mended it; null without failures."`
	ReworkRate        Number `json:"rework_rate" doc:"Share of successful deployments to production that only mend an earlier one; null without deployments."`
	StoreError        string `json:"store_error" doc:"Why figures are missing; empty when the store answered."`
}

// Known tells whether there is any figure.
func (d Delivery) Known() bool {
	return d.DeploymentsPerDay != nil || d.LeadTime != nil || d.ChangeFailRate != nil || d.Recovery != nil || d.ReworkRate != nil
}

// deliveryFigures are the queries, by what tells their answers apart. "$is" stands for the matchers of whose figures they are.
var deliveryFigures = []struct {
	name, expr string
	of         func(*Delivery) *Number
}{
	{"deployments", `sum(rate(sightline_deployments_total{$is,result="success"}[30d])) * 86400`, func(d *Delivery) *Number { return &d.DeploymentsPerDay }},
	{"lead", `histogram_quantile(0.5, sum by (le) (rate(sightline_change_lead_time_seconds_bucket{$is,part="total"}[30d])))`, func(d *Delivery) *Number { return &d.LeadTime }},
	{
		"failed", `sum(increase(sightline_deployments_failed_total{$is}[30d])) / (sum(increase(sightline_deployments_total{$is,result="success"}[30d])) > 0)`,
		func(d *Delivery) *Number { return &d.ChangeFailRate },
	},
	{"recovery", `histogram_quantile(0.5, sum by (le) (rate(sightline_deployment_recovery_seconds_bucket{$is}[30d])))`, func(d *Delivery) *Number { return &d.Recovery }},
	{
		"rework", `sum(increase(sightline_deployments_rework_total{$is}[30d])) / (sum(increase(sightline_deployments_total{$is,result="success"}[30d])) > 0)`,
		func(d *Delivery) *Number { return &d.ReworkRate },
	},
}

// OwnerDelivery asks the store how an owner's changes got to production, by one query.
func (s *Snapshot) OwnerDelivery(ctx context.Context, ref catalog.Ref) Delivery {
	return s.delivery(ctx, "owner", ref)
}

// EntityDelivery is OwnerDelivery of an entity, or of all in a system.
func (s *Snapshot) EntityDelivery(ctx context.Context, ref catalog.Ref) Delivery {
	if ref.Kind == "system" {
		return s.delivery(ctx, "system", ref)
	}
	return s.delivery(ctx, "entity", ref)
}

func (s *Snapshot) delivery(ctx context.Context, label string, ref catalog.Ref) (d Delivery) {
	q := s.reader.state.Querier()
	if q == nil {
		d.StoreError = "there is no store to ask"
		return d
	}
	is := fmt.Sprintf(`%s=%q,environment_tier="production"`, label, ref)
	parts := make([]string, len(deliveryFigures))
	for i, f := range deliveryFigures {
		parts[i] = `label_replace(` + strings.ReplaceAll(f.expr, "$is", is) + `, "figure", "` + f.name + `", "", "")`
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	samples, err := q.Query(ctx, strings.Join(parts, " or "), s.Time)
	if err != nil {
		d.StoreError = withHint(fmt.Errorf("read figures of deliveries: %w", err))
		return d
	}
	for _, v := range samples {
		for _, f := range deliveryFigures {
			if v.Labels["figure"] == f.name {
				*f.of(&d) = number(v.Value)
			}
		}
	}
	return d
}
