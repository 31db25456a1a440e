package server

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/value"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/dora"
)

// failedByAlerts is a source that deployments fail by incidents of.
type failedByAlerts struct {
	used dora.Incidents
}

func (*failedByAlerts) Name() string { return "gitlab" }
func (*failedByAlerts) Host() string { return "gitlab.example.com" }

func (*failedByAlerts) Sync(context.Context, *catalog.Graph, exporter.Sink) error { return nil }

func (s *failedByAlerts) UseIncidents(f dora.Incidents) { s.used = f }

func TestSourcesLearnOfAlertsAsIncidents(t *testing.T) {
	clock := newClock()
	source := &failedByAlerts{}
	s, err := New(t.Context(), Options{Listen: "127.0.0.1:0", Path: t.TempDir(), Now: clock.now, Sources: []Source{{Source: source}}, Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := clock.now().Truncate(time.Minute).Add(time.Minute)
	checkout, search := catalog.NewRef("component", "", "checkout"), catalog.NewRef("component", "", "search")
	// A rule leaves this behind, as Prometheus writes it, each time it is evaluated.
	fires := func(at time.Time, severity string, entity catalog.Ref, since time.Time, firing float64) []engine.Sample {
		series := func(name string, v float64) engine.Sample {
			return engine.Sample{Labels: map[string]string{"__name__": name, "alertname": "SLOErrorBudgetBurn", "severity": severity, "sloth_id": entity.Dotted(), "entity": entity.String()}, Value: v, Time: at}
		}
		state, alert := series("ALERTS_FOR_STATE", float64(since.Unix())), series("ALERTS", firing)
		alert.Labels["alertstate"] = "firing"
		if firing != 1 {
			state.Value = firing
		}
		return []engine.Sample{state, alert}
	}
	// It burns from minute 10 to 20, and from 30 on; a ticket is no incident.
	pass := func(from, to int) {
		for half := 2 * from; half < 2*to; half++ {
			at := begin.Add(time.Duration(half) * 30 * time.Second)
			samples := fires(at, "ticket", search, begin, 1)
			switch minute := half / 2; {
			case minute >= 10 && minute < 20:
				samples = append(samples, fires(at, "page", checkout, begin.Add(10*time.Minute), 1)...)
			case minute >= 30 && minute < 50:
				samples = append(samples, fires(at, "page", checkout, begin.Add(30*time.Minute), 1)...)
			case half == 2*20 || half == 2*50:
				samples = append(samples, fires(at, "page", checkout, begin, math.Float64frombits(value.StaleNaN))...)
			}
			if err := s.engine.Append(t.Context(), samples); err != nil {
				t.Fatal(err)
			}
			clock.ms.Store(at.UnixMilli())
		}
	}
	minute := func(m int) time.Time { return begin.Add(time.Duration(m) * time.Minute).UTC() }
	learn := func(from time.Time, want ...dora.Incident) {
		t.Helper()
		got, err := source.used(t.Context(), []catalog.Ref{checkout, search}, from)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("incidents %v, want %d", got, len(want))
		}
		for i := range want {
			if got[i].Entity != want[i].Entity || !got[i].Began.Equal(want[i].Began) || got[i].Ended.IsZero() != want[i].Ended.IsZero() || got[i].Ended.Sub(want[i].Ended).Abs() > incidentStep {
				t.Errorf("incident %+v, want %+v", got[i], want[i])
			}
		}
	}
	pass(0, 15)
	learn(begin, dora.Incident{Entity: checkout, Began: minute(10)})
	pass(15, 40)
	learn(begin, dora.Incident{Entity: checkout, Began: minute(10), Ended: minute(20)}, dora.Incident{Entity: checkout, Began: minute(30)})
	pass(40, 60)
	learn(minute(25), dora.Incident{Entity: checkout, Began: minute(30), Ended: minute(50)})
	if got, err := source.used(t.Context(), []catalog.Ref{search}, begin); err != nil || len(got) != 0 {
		t.Errorf("a ticket is an incident: %v, %v", got, err)
	}
}

// countingStore counts queries, and fails on demand.
type countingStore struct {
	engine.Querier
	n      int
	broken bool
}

func (s *countingStore) QueryRange(context.Context, string, time.Time, time.Time, time.Duration) ([]engine.Series, error) {
	if s.n++; s.broken {
		return nil, errors.New("no answer")
	}
	return nil, nil
}

func TestAStoreIsAskedForAlertsOnceAMinute(t *testing.T) {
	clock := newClock()
	store := &countingStore{broken: true}
	i := &incidents{store: store, now: clock.now}
	for range 100 { // projects, which would wait for it one after the other
		if _, err := i.of(t.Context(), nil, clock.now()); err == nil {
			t.Error("no error although the store gave no answer")
		}
	}
	store.broken = false
	clock.forward(30 * time.Second)
	for range 20 { // twice a minute, by all projects
		clock.forward(30 * time.Second)
		for range 100 {
			if _, err := i.of(t.Context(), nil, clock.now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(1+10, store.n); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}
