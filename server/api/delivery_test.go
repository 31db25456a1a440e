package api

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
)

// delivering is a State whose store is an engine, and counts the queries.
type delivering struct {
	*happening
	store   engine.Querier
	queries int
	err     error
}

func (d *delivering) Querier() engine.Querier { return d }

func (d *delivering) Query(ctx context.Context, expr string, at time.Time) ([]engine.Sample, error) {
	d.queries++
	if d.err != nil {
		return nil, d.err
	}
	return d.store.Query(ctx, expr, at)
}

func TestDeliveryIsOfThirtyDaysAndOfOneQuery(t *testing.T) {
	e, err := engine.Open(engine.Options{Path: filepath.Join(t.TempDir(), "tsdb"), Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	system := catalog.NewRef("system", "", "shop")
	series := func(name string, perDay float64, more ...string) []engine.Sample {
		l := map[string]string{"__name__": name, "environment_tier": "production", "owner": payments.String(), "entity": checkout.String(), "system": system.String()}
		for i := 0; i+1 < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		var out []engine.Sample
		for h := range 31*24 + 1 {
			out = append(out, engine.Sample{Labels: l, Value: perDay / 24 * float64(h), Time: noon.Add(time.Duration(h-31*24) * time.Hour)})
		}
		return out
	}
	var samples []engine.Sample
	for _, s := range [][]engine.Sample{
		series("sightline_deployments_total", 2, "result", "success"),
		series("sightline_deployments_total", 5, "result", "failure"),
		series("sightline_deployments_total", 100, "result", "success", "environment_tier", "development"),
		series("sightline_deployments_failed_total", 0.2, "cause", "rollback"),
		series("sightline_deployments_failed_total", 0.3, "cause", "incident"),
		series("sightline_deployments_rework_total", 0.4, "cause", "fix"),
		series("sightline_change_lead_time_seconds_bucket", 0, "part", "total", "le", "3600.0"),
		series("sightline_change_lead_time_seconds_bucket", 4, "part", "total", "le", "7200.0"),
		series("sightline_change_lead_time_seconds_bucket", 4, "part", "total", "le", "+Inf"),
		series("sightline_change_lead_time_seconds_bucket", 900, "part", "deploy", "le", "3600.0"),
		series("sightline_change_lead_time_seconds_bucket", 900, "part", "deploy", "le", "+Inf"),
		series("sightline_deployment_recovery_seconds_bucket", 1, "le", "600.0"),
		series("sightline_deployment_recovery_seconds_bucket", 1, "le", "+Inf"),
		series("sightline_deployments_total", 0, "result", "success", "entity", "component:default/idle", "owner", "group:default/idle"),
		series("sightline_deployments_failed_total", 0, "cause", "fix", "entity", "component:default/idle", "owner", "group:default/idle"),
	} {
		samples = append(samples, s...)
	}
	if err := e.Append(t.Context(), samples); err != nil {
		t.Fatal(err)
	}
	state := &delivering{happening: newHappening(), store: e}
	s := NewReader(state, func() time.Time { return noon }).Snapshot(t.Context())
	state.queries = 0
	for name, d := range map[string]Delivery{
		"owner": s.OwnerDelivery(t.Context(), payments), "entity": s.EntityDelivery(t.Context(), checkout), "system": s.EntityDelivery(t.Context(), system),
	} {
		for figure, c := range map[string]struct {
			got  Number
			want float64
		}{
			"deployments per day": {d.DeploymentsPerDay, 2}, "lead time": {d.LeadTime, 5400}, "change fail rate": {d.ChangeFailRate, 0.25},
			"recovery": {d.Recovery, 300}, "rework rate": {d.ReworkRate, 0.2},
		} {
			if c.got == nil || math.Abs(*c.got-c.want) > 0.01*c.want {
				t.Errorf("%s: %s is %v; want %v", name, figure, c.got, c.want)
			}
		}
	}
	if state.queries != 3 {
		t.Errorf("%d queries for 3 pages", state.queries)
	}
	idle := s.EntityDelivery(t.Context(), catalog.NewRef("component", "", "idle"))
	if idle.DeploymentsPerDay == nil || *idle.DeploymentsPerDay != 0 || idle.ChangeFailRate != nil || idle.ReworkRate != nil || idle.LeadTime != nil {
		t.Errorf("what did not deploy has a share of its deployments: %+v", idle)
	}
	if d := s.EntityDelivery(t.Context(), catalog.NewRef("component", "", `no"body`)); d.Known() || d.StoreError != "" {
		t.Errorf("what is not known has figures: %+v", d)
	}
	state.err = errors.New("the store is gone")
	if d := s.OwnerDelivery(t.Context(), payments); d.Known() || !strings.Contains(d.StoreError, "the store is gone") {
		t.Errorf("a store that does not answer: %+v", d)
	}
}
