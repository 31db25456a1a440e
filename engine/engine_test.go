package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/prompb"
)

var start = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

func open(t testing.TB, change func(*Options)) *Engine {
	t.Helper()
	opts := Options{Path: t.TempDir(), Now: func() time.Time { return start }}
	if change != nil {
		change(&opts)
	}
	e, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func values(t testing.TB, e Querier, expr string, at time.Time) map[string]float64 {
	t.Helper()
	samples, err := e.Query(t.Context(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range samples {
		key, err := json.Marshal(s.Labels)
		if err != nil {
			t.Fatal(err)
		}
		out[string(key)] = s.Value
	}
	return out
}

func TestRulesAreEvaluatedAndAnchoredIsUnderstood(t *testing.T) {
	e := open(t, nil)
	rules := `
groups:
- name: g
  interval: 1m
  rules:
  - {record: "r:increase", expr: "increase(events_total[5m] anchored)"}
  - {alert: Many, expr: "r:increase > 5", for: 2m, labels: {severity: page}, annotations: {summary: "{{ $value }}"}}
`
	if err := e.SetRules(map[string][]byte{"a.yaml": []byte(rules)}); err != nil {
		t.Fatal(err)
	}
	var states []string
	for i := range 10 {
		at := start.Add(time.Duration(i) * time.Minute)
		if err := e.Append(t.Context(), []Sample{{map[string]string{"__name__": "events_total", "a": "b"}, float64(2 * i), at}}); err != nil {
			t.Fatal(err)
		}
		if err := e.Evaluate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		state := "-"
		for _, a := range e.Alerts() {
			state = a.State
		}
		states = append(states, state)
	}
	end := start.Add(9 * time.Minute)
	if diff := cmp.Diff(map[string]float64{`{"__name__":"r:increase","a":"b"}`: 10}, values(t, e, "r:increase", end)); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	if got, want := strings.Join(states, " "), "- - - pending pending firing firing firing firing firing"; got != want {
		t.Errorf("alert states: got %s, want %s", got, want)
	}
	for _, r := range e.Rules() {
		if r.Health != "ok" || r.LastError != "" {
			t.Errorf("rule %+v", r)
		}
	}
	want := []Alert{{
		Name: "Many", Labels: map[string]string{"alertname": "Many", "a": "b", "severity": "page"},
		Annotations: map[string]string{"summary": "10"}, State: "firing", ActiveAt: start.Add(3 * time.Minute), Value: 10,
	}}
	if diff := cmp.Diff(want, e.Alerts()); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}

	t.Run("bad rules leave the old ones and their state", func(t *testing.T) {
		for name, bad := range map[string]string{
			"PromQL": "groups: [{name: g, rules: [{record: x, expr: 'sum('}]}]",
			"YAML":   "groups: [",
			"field":  "groups: [{name: g, rulez: []}]",
			"second": rules + "---\ngroups: []\n",
		} {
			err := e.SetRules(map[string][]byte{"a.yaml": []byte(rules), "b.yaml": []byte(bad)})
			if err == nil || !strings.Contains(err.Error(), "b.yaml") {
				t.Errorf("%s: error %v does not name the file", name, err)
			}
		}
		if got := len(e.Rules()); got != 2 {
			t.Errorf("%d rules, want the old 2", got)
		}
	})
	t.Run("an unchanged group keeps its alerts when another file comes", func(t *testing.T) {
		more := "groups: [{name: h, rules: [{record: x, expr: vector(1)}]}]"
		if err := e.SetRules(map[string][]byte{"a.yaml": []byte(rules), "b.yaml": []byte(more)}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.Alerts()); diff != "" {
			t.Errorf("alerts (-want +got):\n%s", diff)
		}
		if got := len(e.Rules()); got != 3 {
			t.Errorf("%d rules, want 3", got)
		}
	})
}

func TestNaNAndInfinitiesPassThrough(t *testing.T) {
	e := open(t, nil)
	got, err := e.Query(t.Context(), `label_replace(vector(0/0), "x", "a", "", "") or label_replace(vector(1/0), "x", "b", "", "")`, start)
	if err != nil || len(got) != 2 || !math.IsNaN(got[0].Value) || !math.IsInf(got[1].Value, 1) {
		t.Errorf("got %v, %v", got, err)
	}
	series, err := e.QueryRange(t.Context(), "vector(1/0)", start, start.Add(2*time.Minute), time.Minute)
	if err != nil || len(series) != 1 || len(series[0].Points) != 3 || !math.IsInf(series[0].Points[2].Value, 1) {
		t.Errorf("got %v, %v", series, err)
	}
	if _, err := e.QueryRange(t.Context(), "vector(1)", start, start.Add(-time.Minute), time.Minute); err == nil {
		t.Error("a range that ends before it begins is accepted")
	}
}

func TestOwnRegistryIsStoredAsIfItWereScraped(t *testing.T) {
	reg := prometheus.NewRegistry()
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g", Help: "."}, []string{"l", "empty"})
	hist := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: ".", Buckets: []float64{.5, 1, 10}})
	sum := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", Help: ".", Objectives: map[float64]float64{.5: .1, 1: .01}})
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "."})
	reg.MustRegister(gauge, hist, sum, count)
	gauge.WithLabelValues("x", "").Set(3)
	gauge.WithLabelValues("y", "z").Set(math.Inf(1))
	hist.Observe(.7)
	hist.Observe(20)
	sum.Observe(4)
	count.Add(7)
	target := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer target.Close()

	direct := open(t, func(o *Options) { o.Gatherer = reg })
	if err := direct.Collect(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	scraped := open(t, func(o *Options) {
		o.Now = time.Now
		o.Scrape = []ScrapeJob{{Job: "j", Targets: []string{target.URL}, Interval: 50 * time.Millisecond}}
	})
	run(t, scraped)
	eventually(t, func() bool { return len(values(t, scraped, "up == 1", time.Time{})) == 1 })
	const all = `{__name__=~"g|h_.*|s|s_.*|c_total"}`
	want := values(t, scraped, `label_replace(label_replace(`+all+`, "job", "", "", ""), "instance", "", "", "")`, time.Time{})
	if len(want) != 13 {
		t.Fatalf("the scraped target has %d series, want 13: %v", len(want), want)
	}
	if diff := cmp.Diff(want, values(t, direct, all, start)); diff != "" {
		t.Errorf("(-scraped +direct):\n%s", diff)
	}
}

func TestASeriesThatIsGoneEndsAtTheNextCollection(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g", Help: "."}, []string{"l"})
	reg.MustRegister(g)
	e := open(t, func(o *Options) { o.Gatherer = reg })
	collect := func(minute, want int) {
		t.Helper()
		at := start.Add(time.Duration(minute) * time.Minute)
		if err := e.Collect(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if got := len(values(t, e, "g", at)); got != want {
			t.Errorf("minute %d: %d series, want %d", minute, got, want)
		}
	}
	g.WithLabelValues("a").Set(1)
	g.WithLabelValues("b").Set(1)
	collect(0, 2)
	g.DeleteLabelValues("b")
	collect(1, 1)
	g.WithLabelValues("b").Set(1)
	collect(2, 2)
	if err := e.Collect(t.Context(), start); err == nil {
		t.Error("a collection in the past is accepted")
	}
}

// fixed is a collector of one counter with a chosen created timestamp.
type fixed struct {
	value   float64
	created time.Time
}

func (f *fixed) Describe(chan<- *prometheus.Desc) {}

func (f *fixed) Collect(ch chan<- prometheus.Metric) {
	if f.value == 0 {
		return
	}
	desc := prometheus.NewDesc("c_total", ".", nil, nil)
	if f.created.IsZero() {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, f.value)
		return
	}
	ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, f.value, f.created)
}

func TestACounterThatAppearsLaterStartsAtZero(t *testing.T) {
	for name, test := range map[string]struct {
		created time.Time
		want    float64
	}{
		"created after the last collection: its first increments count": {start.Add(90 * time.Second), 5},
		"created while this one gathered, so after its timestamp":       {start.Add(2*time.Minute + time.Second), 5},
		"created before: what it starts with is history":                {start.Add(-time.Hour), 0},
		"no created timestamp: what it starts with is history":          {time.Time{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			reg, c := prometheus.NewRegistry(), &fixed{}
			reg.MustRegister(c)
			e := open(t, func(o *Options) { o.Gatherer = reg })
			for minute := range 5 {
				if minute == 2 {
					c.value, c.created = 5, test.created
				}
				if err := e.Collect(t.Context(), start.Add(time.Duration(minute)*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			got := values(t, e, "increase(c_total[4m] anchored) or vector(-1)", start.Add(4*time.Minute))
			if diff := cmp.Diff(map[string]float64{"{}": test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAlertReachesAlertmanagerWithExternalLabels(t *testing.T) {
	received := make(chan map[string]string, 100)
	am := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var alerts []struct{ Labels map[string]string }
		if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil || r.URL.Path != "/am/api/v2/alerts" {
			t.Errorf("%s: %v", r.URL.Path, err)
			return
		}
		for _, a := range alerts {
			select {
			case received <- a.Labels:
			default:
			}
		}
	}))
	defer am.Close()
	e := open(t, func(o *Options) {
		o.Now, o.EvaluationInterval = time.Now, 50*time.Millisecond
		o.Alertmanagers = []string{am.URL + "/am/"}
		o.ExternalLabels = map[string]string{"cluster": "c1"}
	})
	run(t, e)
	rules := "groups: [{name: g, rules: [{alert: Always, expr: vector(1), labels: {severity: page}}]}]"
	// Alertmanagers are known a moment after Run began; an alert before that would be sent again only a minute later.
	eventually(t, func() bool { return len(e.notifier.Alertmanagers()) == 1 })
	if err := e.SetRules(map[string][]byte{"a": []byte(rules)}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-received:
		if diff := cmp.Diff(map[string]string{"alertname": "Always", "severity": "page", "cluster": "c1"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no alert after 30 s")
	}
}

func TestRemoteWriteIsStoredAndTheAPIAnswers(t *testing.T) {
	e := open(t, func(o *Options) { o.Now = time.Now })
	now := time.Now().Truncate(time.Second)
	body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "a", Value: "b"}},
		Samples: []prompb.Sample{{Value: 4, Timestamp: now.UnixMilli()}},
	}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write := httptest.NewServer(e.RemoteWriteHandler())
	defer write.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, write.URL, bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatal(resp.Status)
	}
	if diff := cmp.Diff(map[string]float64{`{"__name__":"m","a":"b"}`: 4}, values(t, e, "m", now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	api := httptest.NewServer(e.QueryHandler())
	defer api.Close()
	for path, want := range map[string]struct {
		status int
		holds  string
	}{
		"/api/v1/query?query=m":                             {200, `"4"`},
		"/api/v1/query?query=sum(":                          {400, "bad_data"},
		"/api/v1/series?match[]=m":                          {200, `"a":"b"`},
		"/api/v1/labels":                                    {200, `"__name__"`},
		"/api/v1/label/a/values":                            {200, `["b"]`},
		"/api/v1/metadata":                                  {200, `"data":{`},
		"/api/v1/rules":                                     {200, `"groups":[]`},
		"/api/v1/alerts":                                    {200, `"alerts":[]`},
		"/api/v1/status/buildinfo":                          {200, prometheusVersion},
		"/api/v1/features":                                  {200, `"anchored":true`},
		"/api/v1/status/config":                             {404, ""},
		"/api/v1/admin/tsdb/snapshot":                       {404, ""},
		"/api/v1/read":                                      {404, ""},
		"/api/v1/query_range?query=m&start=0&end=10&step=0": {400, "step"},
		"/api/v1/query_range?query=vector(1)&start=0&end=1&step=1": {200, "matrix"},
	} {
		resp, err := http.Get(api.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(got), want.holds) {
			t.Errorf("%s: %s, %v, %s; want %+v", path, resp.Status, err, got, want)
		}
	}
}

func TestOpenAndCloseOfAStore(t *testing.T) {
	reg := prometheus.NewRegistry()
	e := open(t, func(o *Options) { o.Registerer = reg })
	open(t, nil) // a second engine in the process, with metrics of its own

	_, err := Open(Options{Path: e.opts.Path})
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), e.opts.Path) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "another process") {
		t.Errorf("a locked store: %v", err)
	}
	if families, err := reg.Gather(); err != nil || len(families) < 20 {
		t.Errorf("%d metric families, %v", len(families), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	if err := e.Append(t.Context(), []Sample{{map[string]string{"__name__": "m"}, 1, start}}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after Close %d metric families, %v", len(families), err)
	}
	if _, err := e.Query(t.Context(), "m", start); !errors.Is(err, errClosed) {
		t.Errorf("query after Close: %v", err)
	}
	again, err := Open(Options{Path: e.opts.Path, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := values(t, again, "m", start); len(got) != 1 {
		t.Errorf("after opening again: %v", got)
	}
}

func run(t *testing.T, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// eventually waits for what real timers bring about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not within 30 s")
}

func TestTheSameRulesAgainAreNotTakenUpAnew(t *testing.T) {
	e := open(t, nil)
	set := func(value string) *rulefmt.RuleGroups {
		t.Helper()
		body := "groups: [{name: g, rules: [{record: r, expr: '" + value + "'}]}]"
		if err := e.SetRules(map[string][]byte{"a.yaml": []byte(body)}); err != nil {
			t.Fatal(err)
		}
		groups, _ := e.loader.Load("a.yaml", false, validation)
		return groups
	}
	first := set("1")
	if set("1") != first {
		t.Error("rules that did not change were parsed again, while every query waits")
	}
	if set("2") == first {
		t.Error("rules that changed were not taken up")
	}
	if set("1") == first {
		t.Error("going back to earlier rules was taken for no change")
	}
}
