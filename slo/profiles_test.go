package slo_test

import (
	"math"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// built makes the objective of one indicator for a component of a type, in production.
func built(t *testing.T, name, kind, indicator, value string) slo.Objective {
	t.Helper()
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	owner := catalog.NewRef("group", "", "portal")
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: owner}, {
		Ref: catalog.NewRef("component", "", name), Name: name, Type: kind, Lifecycle: "production", Owner: owner,
		Annotations: map[string]string{catalog.Prefix + "objective." + indicator: value},
	}}, owner)
	found, problems := slo.Build(g, lib, slo.Options{Environments: map[string]string{"production": `cluster="prod"`}})
	for _, o := range found {
		if o.Indicator == indicator {
			return o
		}
	}
	t.Fatalf("no objective %s: %v", indicator, problems)
	return slo.Objective{}
}

func TestTheBudgetOfGaugesIsAShareOfTime(t *testing.T) {
	const minutes = 600
	tests := []struct {
		name      string
		objective slo.Objective
		sample    func(minute int) engine.Sample
		want      float64 // bad minutes
		alert     bool
	}{
		{
			"probes of a web site fail for twenty minutes",
			built(t, "shop", "website", "availability", "99"),
			func(m int) engine.Sample {
				v := 1.0
				if m >= 300 && m < 320 {
					v = 0
				}
				return engine.Sample{Labels: map[string]string{"__name__": "probe_success", "service_name": "shop", "cluster": "prod"}, Value: v}
			},
			20, true,
		},
		{
			"a web site that is always there",
			built(t, "shop", "website", "availability", "99"),
			func(int) engine.Sample {
				return engine.Sample{Labels: map[string]string{"__name__": "probe_success", "service_name": "shop", "cluster": "prod"}, Value: 1}
			},
			0, false,
		},
		{
			"a scheduled task that does not succeed from minute 200 to 320 is stale after its hour",
			built(t, "refresh", "scheduled-task", "freshness", "99@1h"),
			func(m int) engine.Sample {
				last := m
				if m > 200 && m < 320 {
					last = 200
				}
				return engine.Sample{
					Labels: map[string]string{"__name__": "backstage_plugin_task_last_completion_timestamp_seconds", "task": "refresh", "result": "success", "plugin": "catalog"},
					Value:  float64(at(last).Unix()),
				}
			},
			59, true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := engine.Open(engine.Options{Path: t.TempDir(), Now: func() time.Time { return start }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			rules(t, e, tt.objective)
			fired := false
			for m := range minutes {
				s := tt.sample(m)
				s.Time = at(m)
				if err := e.Append(t.Context(), []engine.Sample{s}); err != nil {
					t.Fatal(err)
				}
				if err := e.Evaluate(t.Context(), at(m)); err != nil {
					t.Fatalf("minute %d: %v", m, err)
				}
				for _, a := range e.Alerts() {
					fired = fired || a.Name == slo.AlertBurn && a.State == "firing"
				}
			}
			got, err := e.Query(t.Context(), slo.SeriesErrorRatio+"30d", at(minutes-5))
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			if want := tt.want / minutes; math.Abs(got[0].Value-want) > 0.03*want+1e-9 {
				t.Errorf("30d error ratio %.5f, counted %.5f", got[0].Value, want)
			}
			if fired != tt.alert {
				t.Errorf("an alert fired: %v, want %v", fired, tt.alert)
			}
		})
	}
}

func TestRequestsOfAPluginAreFoundByItsEntityInEveryEnvironment(t *testing.T) {
	o := built(t, "catalog", "backstage-plugin", "latency", "99@1s")
	const want = `sum(rate(backstage_plugin_http_request_duration_seconds_count{entity="component:default/catalog",streaming="false"}[$window])) and ` +
		`sum(rate(backstage_plugin_http_request_duration_seconds_bucket{entity="component:default/catalog",streaming="false",le=~"1(\\.0)?"}[$window]))`
	if o.TotalQuery != want {
		t.Errorf("total is %s, want %s", o.TotalQuery, want)
	}
}
