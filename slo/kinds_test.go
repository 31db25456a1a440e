package slo_test

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// everyKind makes the objectives of a component whose profile has an indicator of each kind, by indicator. Annotations are
// keys without the prefix, and values.
func everyKind(t *testing.T, annotations ...string) map[string]slo.Objective {
	t.Helper()
	lib, err := slo.LoadLibrary(os.DirFS("testdata/kinds"))
	if err != nil {
		t.Fatal(err)
	}
	owner := catalog.NewRef("group", "", "payments")
	e := &catalog.Entity{Ref: catalog.NewRef("component", "", "shop"), Name: "shop", Type: "every-kind", Lifecycle: "production", Owner: owner, Annotations: map[string]string{}}
	for i := 0; i+1 < len(annotations); i += 2 {
		e.Annotations[catalog.Prefix+annotations[i]] = annotations[i+1]
	}
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: owner}, e}, owner)
	found, problems := slo.Build(g, lib, slo.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	out := map[string]slo.Objective{}
	for _, o := range found {
		out[o.Indicator] = o
	}
	return out
}

// newEngine evaluates one objective's portable rules.
func newEngine(t *testing.T, o slo.Objective, opts engine.Options) *engine.Engine {
	t.Helper()
	opts.Path = t.TempDir()
	if opts.Now == nil {
		opts.Now = func() time.Time { return start }
	}
	e, err := engine.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	body := slo.AppendYAML(nil, slo.Groups(o, slo.RuleOptions{}))
	if err := e.SetRules(map[string][]byte{"a.yaml": body}); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return e
}

func sample(name string, at time.Time, value float64, labels ...string) engine.Sample {
	l := map[string]string{"__name__": name, "job": "shop"}
	for i := 0; i+1 < len(labels); i += 2 {
		l[labels[i]] = labels[i+1]
	}
	return engine.Sample{Labels: l, Value: value, Time: at}
}

// noNaN fails the test when any series of an objective has been NaN at a minute.
func noNaN(t *testing.T, e *engine.Engine, minutes int) {
	t.Helper()
	for m := 0; m < minutes; m += 5 {
		all, err := e.Query(t.Context(), `{sloth_id!=""}`, at(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if math.IsNaN(s.Value) {
				t.Fatalf("minute %d: %s is NaN", m, s.Labels["__name__"])
			}
		}
	}
}

// pages replays the page alert of a 99 % objective over 30 days over counted events: the first minute at which a pair
// burns, and the first after it at which none does. Ranges are cut at the start. It is the arithmetic of facts, not of PromQL.
func pages(minutes int, bad, total func(minute int) float64) (from, until int) {
	var b, n []float64 // sums up to and without the minute
	b, n = append(b, 0), append(n, 0)
	for m := range minutes {
		b, n = append(b, b[m]+bad(m)), append(n, n[m]+total(m))
	}
	ratio := func(m, length int) float64 {
		since := max(0, m+1-length)
		if n[m+1] == n[since] {
			return 0
		}
		return (b[m+1] - b[since]) / (n[m+1] - n[since])
	}
	from, until = -1, -1
	for m := range minutes {
		burns := ratio(m, 5) > 14.4*0.01 && ratio(m, 60) > 14.4*0.01 || ratio(m, 30) > 6*0.01 && ratio(m, 360) > 6*0.01
		switch {
		case burns && from < 0:
			from = m
		case !burns && from >= 0 && until < 0:
			until = m
		}
	}
	return from, until
}

// Each kind of indicator is run over an incident of twenty minutes, from minute 101 on.
func TestTheBudgetOfEveryKindIsWhatWasCounted(t *testing.T) {
	const minutes = 200
	objectives := everyKind(t)
	incident := func(m int) bool { return m > 100 && m <= 120 }
	// counter is a counter well above zero that grows by one figure in ordinary minutes and by another in the incident.
	counter := func(m int, ordinary, then float64) float64 {
		during := float64(min(max(m-100, 0), 20))
		return 1e6 + ordinary*(float64(m)-during) + then*during
	}
	constant := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	during := func(v float64) func(int) float64 {
		return func(m int) float64 {
			if incident(m) {
				return v
			}
			return 0
		}
	}
	slices := func(f func(int) float64) func(int) float64 { // of five minutes, known at their end
		return func(m int) float64 {
			if m%5 == 0 {
				return f(m)
			}
			return 0
		}
	}
	requests := func(m int, at time.Time, part float64) []engine.Sample {
		now, before := counter(m, 540, 240), counter(m-1, 540, 240)
		bad, badBefore := counter(m, 0, 300), counter(m-1, 0, 300)
		return []engine.Sample{
			sample("requests_total", at, before+(now-before)*part, "code", "200"), sample("requests_total", at, badBefore+(bad-badBefore)*part, "code", "500"),
			sample("requests_total", at, counter(m-1, 60, 60)+60*part, "code", "404"),
		}
	}
	buckets := func(m int) []engine.Sample {
		var out []engine.Sample
		for le, then := range map[string]float64{"0.1": 300, "0.25": 300, "0.5": 600, "1": 600, "+Inf": 600} {
			out = append(out, sample("request_duration_seconds_bucket", at(m), counter(m, 600, then), "method", "GET", "le", le))
		}
		return append(out, sample("request_duration_seconds_count", at(m), counter(m, 600, 600), "method", "GET"))
	}
	tests := []struct {
		indicator  string
		scrape     func(m int) []engine.Sample
		bad, total func(m int) float64
		late       int // minutes, that the kind itself takes to see an event
	}{
		{"availability", func(m int) []engine.Sample { return requests(m, at(m), 1) }, during(300), constant(600), 0},
		{"latency", buckets, during(300), constant(600), 0},
		// 300 of 600 lie between 0.25 and 0.5; a fifth of these is taken to be at most 0.3.
		{"latency_between", buckets, during(240), constant(600), 0},
		{"native_latency", nil, during(30), constant(60), 0},
		{"reachable", func(m int) []engine.Sample {
			up := 1.0
			if incident(m) {
				up = 0
			}
			return []engine.Sample{sample("probe_success", at(m), 1, "instance", "a"), sample("probe_success", at(m), up, "instance", "b"), sample("probe_success", at(m), up, "instance", "c")}
		}, during(2), constant(3), 0},
		{"freshness", func(m int) []engine.Sample { // no success from minute 91 to 120, stale from 101 on
			last := m
			if m > 90 && m <= 120 {
				last = 90
			}
			return []engine.Sample{sample("backup_last_success_timestamp_seconds", at(m), float64(at(last).Unix())), sample("backup_last_success_timestamp_seconds", at(m), 0, "never", "true")}
		}, during(1), constant(1), 0},
		{"throughput", func(m int) []engine.Sample {
			return []engine.Sample{sample("messages_consumed_total", at(m), counter(m, 600, 60), "partition", "0"), sample("messages_consumed_total", at(m), counter(m, 60, 60), "partition", "1")}
		}, slices(during(1)), slices(constant(1)), 5},
		{"good_slices", func(m int) []engine.Sample { return requests(m, at(m), 1) }, slices(during(1)), slices(constant(1)), 5},
		{"good_minutes", func(m int) (out []engine.Sample) {
			for i := 1; i <= 4; i++ {
				out = append(out, requests(m, at(m-1).Add(time.Duration(i)*15*time.Second), float64(i)/4)...)
			}
			return out
		}, during(1), constant(1), 0},
	}
	if len(tests) != len(objectives) {
		t.Errorf("%d tests of %d indicators", len(tests), len(objectives))
	}
	for _, tt := range tests {
		t.Run(tt.indicator, func(t *testing.T) {
			t.Parallel()
			o := objectives[tt.indicator]
			o.MaxSeverity = slo.SeverityPage
			opts := engine.Options{}
			var scrape func(*engine.Engine, int) error
			if tt.scrape == nil {
				registry := prometheus.NewRegistry()
				h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "call_duration_seconds", Help: "h", ConstLabels: prometheus.Labels{"job": "shop"}, NativeHistogramBucketFactor: 1.1})
				registry.MustRegister(h)
				opts = engine.Options{Gatherer: registry, NativeHistograms: true}
				scrape = func(e *engine.Engine, m int) error {
					for i := range 60 {
						if incident(m) && i < 30 {
							h.Observe(2)
						} else {
							h.Observe(0.01 * float64(i%7+1))
						}
					}
					return e.Collect(t.Context(), at(m))
				}
			} else {
				scrape = func(e *engine.Engine, m int) error { return e.Append(t.Context(), tt.scrape(m)) }
			}
			e := newEngine(t, o, opts)
			fired, reset := -1, -1
			for m := range minutes {
				if err := scrape(e, m); err != nil {
					t.Fatal(err)
				}
				if err := e.Evaluate(t.Context(), at(m)); err != nil {
					t.Fatalf("minute %d: %v", m, err)
				}
				firing := false
				for _, a := range e.Alerts() {
					firing = firing || a.Name == slo.AlertBurn && a.State == "firing" && a.Labels["severity"] == "page"
				}
				switch {
				case firing && fired < 0:
					fired = m
				case !firing && fired >= 0 && reset < 0:
					reset = m
				}
			}
			bad, total := 0.0, 0.0
			for m := 1; m <= minutes-5; m++ { // up to the last that the period group has seen
				bad, total = bad+tt.bad(m), total+tt.total(m)
			}
			for _, window := range []string{"3d", "30d"} {
				got, err := e.Query(t.Context(), slo.SeriesErrorRatio+window, at(minutes-1))
				if err != nil || len(got) != 1 {
					t.Fatalf("%v, %v", got, err)
				}
				if want := bad / total; math.Abs(got[0].Value/want-1) > 0.006 {
					t.Errorf("%s error ratio %.5f, counted %.5f (%+.2f %%)", window, got[0].Value, want, 100*(got[0].Value/want-1))
				}
			}
			from, until := pages(minutes, tt.bad, tt.total)
			if fired < from || fired > from+3+tt.late || from < 0 {
				t.Errorf("the page fired at minute %d, by the arithmetic at %d", fired, from)
			}
			if reset < until-1 || reset > until+5+tt.late {
				t.Errorf("the page ended at minute %d, by the arithmetic at %d", reset, until)
			}
			noNaN(t, e, minutes)
		})
	}
}

func TestWhatNoTrafficMeansIsCountedSo(t *testing.T) {
	const minutes = 120 // without traffic from minute 41 to 80
	idle := func(m int) bool { return m > 40 && m <= 80 }
	gone := func(name string, value float64) func(int) []engine.Sample {
		return func(m int) []engine.Sample {
			if idle(m) {
				return nil
			}
			return []engine.Sample{sample(name, at(m), value)}
		}
	}
	still := func(m int) []engine.Sample { // the series stay, and count nothing; before, all requests are well
		good := float64(600 * (m - min(max(m-40, 0), 40)))
		return []engine.Sample{sample("requests_total", at(m), 1e6+good, "code", "200"), sample("requests_total", at(m), 1e4, "code", "500")}
	}
	tests := []struct {
		name, indicator, policy string
		scrape                  func(m int) []engine.Sample
		bad, total              float64 // counted until the end
	}{
		{"a probe that is not there is left out", "reachable", "ignore", gone("probe_success", 1), 0, 80},
		// The last sample is seen for five minutes.
		{"a probe that is not there is bad", "reachable", "bad", gone("probe_success", 1), 36, 116},
		// The first slice has no sample before it.
		{"a slice without requests is left out", "good_slices", "ignore", still, 0, 15},
		{"a slice without requests is good", "good_slices", "good", still, 0, 23},
		{"a slice without requests is bad", "good_slices", "bad", still, 9, 24},
		{"requests that are not there have no bad", "availability", "ignore", still, 0, 80 * 600},
		{"a counter that is not there is no throughput", "throughput", "bad", gone("messages_consumed_total", 1e6), 24, 24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := everyKind(t, "no-traffic", tt.policy)[tt.indicator]
			e := newEngine(t, o, engine.Options{})
			for m := range minutes {
				if err := e.Append(t.Context(), tt.scrape(m)); err != nil {
					t.Fatal(err)
				}
				if err := e.Evaluate(t.Context(), at(m)); err != nil {
					t.Fatalf("minute %d: %v", m, err)
				}
			}
			for series, want := range map[string]float64{slo.SeriesErrors: tt.bad, slo.SeriesTotal: tt.total} {
				got, err := e.Query(t.Context(), "sum_over_time("+series+"[1d]) * 60", at(minutes-1))
				if err != nil || len(got) != 1 {
					t.Fatalf("%s: %v, %v", series, got, err)
				}
				if math.Abs(got[0].Value-want) > 0.04*tt.total {
					t.Errorf("%s counts %.2f, want %.2f", series, got[0].Value, want)
				}
			}
			noNaN(t, e, minutes)
		})
	}
}

func TestAThresholdWithoutABucketIsNotTakenForAllIsWell(t *testing.T) {
	o := everyKind(t, "objective.latency", "99@300ms")["latency"] // its file names no edges
	e := newEngine(t, o, engine.Options{})
	for m := range 30 {
		v := 1e6 + 600*float64(m)
		err := e.Append(t.Context(), []engine.Sample{
			sample("request_duration_seconds_count", at(m), v, "method", "GET"),
			sample("request_duration_seconds_bucket", at(m), v, "method", "GET", "le", "0.25"), sample("request_duration_seconds_bucket", at(m), v, "method", "GET", "le", "0.5"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := e.Query(t.Context(), `{__name__=~"slo:sli_error.+"}`, at(29)); err != nil || len(got) > 0 {
		t.Errorf("there is an error ratio of a bucket that is not there: %v, %v", got, err)
	}
	alerts := e.Alerts()
	if len(alerts) != 1 || alerts[0].Name != slo.AlertAbsent {
		t.Errorf("alerts are %v, want %s", alerts, slo.AlertAbsent)
	}
}
