package backstage

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightline-dev/sightline/catalog"
)

// graph has the plugin catalog, which team-portal owns, a template of the same team, and the platform team.
func graph(t *testing.T, more ...*catalog.Entity) *catalog.Graph {
	t.Helper()
	portal := catalog.NewRef("group", "", "team-portal")
	g, found := catalog.NewGraph(append([]*catalog.Entity{
		{Ref: portal},
		{Ref: catalog.NewRef("group", "", "platform")},
		{Ref: catalog.NewRef("component", "", "catalog-backend"), Type: "backstage-plugin", Owner: portal, System: catalog.NewRef("system", "", "portal")},
		{Ref: catalog.NewRef("component", "", "events"), Type: "service", Owner: portal},
		{Ref: catalog.NewRef("template", "", "go-service"), Owner: portal},
	}, more...), catalog.NewRef("group", "", "platform"))
	if len(found) > 0 {
		t.Fatal(found)
	}
	return g
}

// An upstreamStub answers with a body that may be changed; "" answers 404.
type upstreamStub struct {
	body atomic.Pointer[string]
	hits atomic.Int64
	host string
	url  string
}

func serve(t *testing.T, body string) *upstreamStub {
	t.Helper()
	u := &upstreamStub{}
	u.body.Store(&body)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		u.hits.Add(1)
		if b := *u.body.Load(); b != "" {
			w.Header().Set("Content-Type", "text/plain")
			w.Write([]byte(b))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(s.Close)
	u.url, u.host = s.URL+"/metrics", strings.TrimPrefix(s.URL, "http://")
	return u
}

func (u *upstreamStub) set(body string) { u.body.Store(&body) }

func mustNew(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gather gives the metrics of a source by family.
func gather(t *testing.T, s *Source) map[string][]*dto.Metric {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(s); err != nil {
		t.Fatal(err)
	}
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]*dto.Metric{}
	for _, f := range found {
		out[f.GetName()] = f.Metric
	}
	return out
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// replicasOf gives the values of the label replica in a family.
func replicasOf(metrics []*dto.Metric) []string {
	out := []string{}
	for _, m := range metrics {
		out = append(out, labelOf(m, "replica"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

const tasks = `# TYPE backend_tasks_task_runs_count_total counter
backend_tasks_task_runs_count_total{taskId="refresh",scope="global",result="started",otel_scope_name="backstage-plugin-catalog"} 5
backend_tasks_task_runs_count_total{taskId="refresh",scope="global",result="completed",otel_scope_name="backstage-plugin-catalog"} 4
backend_tasks_task_runs_count_total{taskId="cleanup",scope="global",result="failed",otel_scope_name="backstage-plugin-events"} 1
# TYPE backend_tasks_task_runs_completed gauge
backend_tasks_task_runs_completed{taskId="refresh",scope="global",result="completed",otel_scope_name="backstage-plugin-catalog"} 1795375393.5
`

func TestSeriesCarryThePluginAndItsOwner(t *testing.T) {
	up := serve(t, tasks+page)
	s := mustNew(t, Options{URLs: []string{up.url}})
	if err := s.Sync(t.Context(), graph(t), nil); err != nil {
		t.Fatal(err)
	}
	want := `# HELP backstage_catalog_entities Entities in the catalog.
# TYPE backstage_catalog_entities gauge
backstage_catalog_entities{entity="component:default/catalog-backend",kind="component",owner="group:default/team-portal",plugin="catalog",replica="HOST",system="system:default/portal"} 12
# HELP backstage_plugin_http_request_duration_seconds Time that HTTP requests to a plugin took. Requests that are held open by design have streaming=true.
# TYPE backstage_plugin_http_request_duration_seconds histogram
backstage_plugin_http_request_duration_seconds_bucket{code="200",entity="component:default/catalog-backend",method="GET",owner="group:default/team-portal",plugin="catalog",replica="HOST",streaming="false",system="system:default/portal",le="0.1"} 3
backstage_plugin_http_request_duration_seconds_bucket{code="200",entity="component:default/catalog-backend",method="GET",owner="group:default/team-portal",plugin="catalog",replica="HOST",streaming="false",system="system:default/portal",le="+Inf"} 4
backstage_plugin_http_request_duration_seconds_sum{code="200",entity="component:default/catalog-backend",method="GET",owner="group:default/team-portal",plugin="catalog",replica="HOST",streaming="false",system="system:default/portal"} 1.5
backstage_plugin_http_request_duration_seconds_count{code="200",entity="component:default/catalog-backend",method="GET",owner="group:default/team-portal",plugin="catalog",replica="HOST",streaming="false",system="system:default/portal"} 4
# HELP backstage_plugin_task_last_completion_timestamp_seconds When the scheduled task last ended on this replica, in success or failure.
# TYPE backstage_plugin_task_last_completion_timestamp_seconds gauge
backstage_plugin_task_last_completion_timestamp_seconds{entity="component:default/catalog-backend",owner="group:default/team-portal",plugin="catalog",replica="HOST",result="success",system="system:default/portal",task="refresh"} 1.7953753935e+09
# HELP backstage_plugin_task_runs_total Runs of a plugin's scheduled task that ended, in success or failure.
# TYPE backstage_plugin_task_runs_total counter
backstage_plugin_task_runs_total{entity="",owner="group:default/platform",plugin="events",replica="HOST",result="failure",system="",task="cleanup"} 1
backstage_plugin_task_runs_total{entity="component:default/catalog-backend",owner="group:default/team-portal",plugin="catalog",replica="HOST",result="success",system="system:default/portal",task="refresh"} 4
# HELP backstage_plugin_task_starts_total Runs of a plugin's scheduled task that began.
# TYPE backstage_plugin_task_starts_total counter
backstage_plugin_task_starts_total{entity="component:default/catalog-backend",owner="group:default/team-portal",plugin="catalog",replica="HOST",system="system:default/portal",task="refresh"} 5
# HELP sightline_backstage_replica_up Whether the last reading of a replica's metrics succeeded.
# TYPE sightline_backstage_replica_up gauge
sightline_backstage_replica_up{replica="HOST"} 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(strings.ReplaceAll(want, "HOST", up.host))); err != nil {
		t.Error(err)
	}
}

func TestThePluginsEntityIsFoundByItsName(t *testing.T) {
	owner := catalog.NewRef("group", "", "team-portal")
	plugin := func(name string) *catalog.Entity {
		return &catalog.Entity{Ref: catalog.NewRef("component", "", name), Type: "backstage-plugin", Owner: owner}
	}
	found := entities(graph(t, plugin("plugin-search-backend"), plugin("backstage-plugin-todo"), plugin("search"), plugin("backend")))
	got := map[string]string{}
	for _, id := range []string{"catalog", "events", "search", "todo", "backend", "unknown"} {
		if e := found[id]; e != nil {
			got[id] = e.Ref.Name
		}
	}
	want := map[string]string{"catalog": "catalog-backend", "search": "search", "todo": "backstage-plugin-todo", "backend": "backend"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestEveryRecordingIsExposedWithoutAComplaint(t *testing.T) {
	for _, name := range recordings {
		up := serve(t, string(recording(t, name)))
		s := mustNew(t, Options{URLs: []string{up.url}, Scaffolder: true})
		if err := s.Sync(t.Context(), graph(t), nil); err != nil {
			t.Fatal(err)
		}
		found, err := testutil.CollectAndLint(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
		if len(gather(t, s)) < 2 {
			t.Errorf("%s: nothing is exposed", name)
		}
	}
}

func TestAScrapeCallsNoUpstream(t *testing.T) {
	up := serve(t, page)
	s := mustNew(t, Options{URLs: []string{up.url}})
	if got := gather(t, s); len(got) != 0 {
		t.Errorf("before the first reading there are %d families", len(got))
	}
	if err := s.Sync(t.Context(), graph(t), nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		gather(t, s)
	}
	if n := up.hits.Load(); n != 1 {
		t.Errorf("%d requests for one reading and four scrapes", n)
	}
}

func TestAReplicaThatFailsKeepsItsSeriesForAWhile(t *testing.T) {
	const entities = "backstage_catalog_entities"
	bad, good := serve(t, page), serve(t, page)
	now := time.Unix(1e9, 0)
	s := mustNew(t, Options{URLs: []string{bad.url, good.url}, Keep: 5 * time.Minute, Now: func() time.Time { return now }})
	sync := func() error { return s.Sync(t.Context(), graph(t), nil) }
	if err := sync(); err != nil {
		t.Fatal(err)
	}
	for _, answer := range []string{"", "<html>", page[:200]} {
		bad.set(answer)
		good.set(strings.Replace(page, "} 12", "} 13", 1))
		now = now.Add(time.Minute)
		err := sync()
		if err == nil || !strings.Contains(err.Error(), bad.host) || strings.Contains(err.Error(), good.host) {
			t.Errorf("answer %.10q: error %v, want one that names the replica %s alone", answer, err, bad.host)
		}
		values := map[string]float64{}
		for _, m := range gather(t, s)[entities] {
			values[labelOf(m, "replica")] = m.Gauge.GetValue()
		}
		if d := cmp.Diff(map[string]float64{bad.host: 12, good.host: 13}, values); d != "" {
			t.Errorf("answer %.10q (-want +got):\n%s", answer, d)
		}
	}
	up := map[string]float64{}
	for _, m := range gather(t, s)["sightline_backstage_replica_up"] {
		up[labelOf(m, "replica")] = m.Gauge.GetValue()
	}
	if d := cmp.Diff(map[string]float64{bad.host: 0, good.host: 1}, up); d != "" {
		t.Errorf("up (-want +got):\n%s", d)
	}
	now = now.Add(2 * time.Minute)
	if d := cmp.Diff([]string{good.host}, replicasOf(gather(t, s)[entities])); d != "" {
		t.Errorf("five minutes later (-want +got):\n%s", d)
	}
	bad.set(page)
	if err := sync(); err != nil {
		t.Fatal(err)
	}
	if got := replicasOf(gather(t, s)[entities]); len(got) != 2 {
		t.Errorf("when it works again: replicas %v", got)
	}
}

func TestTheAddressesOfANameAreReplicas(t *testing.T) {
	up := serve(t, page)
	u, err := url.Parse(up.url)
	if err != nil {
		t.Fatal(err)
	}
	addresses, lookupErr := []string{"127.0.0.1"}, error(nil)
	s := mustNew(t, Options{
		URLs: []string{"dns+http://backstage.test:" + u.Port() + "/metrics"},
		Lookup: func(_ context.Context, host string) ([]string, error) {
			if host != "backstage.test" {
				t.Errorf("asked for %q", host)
			}
			return addresses, lookupErr
		},
	})
	sync := func() []string {
		t.Helper()
		if err := s.Sync(t.Context(), graph(t), nil); (err == nil) != (lookupErr == nil) {
			t.Errorf("sync: %v", err)
		}
		return replicasOf(gather(t, s)["sightline_backstage_replica_up"])
	}
	if d := cmp.Diff([]string{"127.0.0.1:" + u.Port()}, sync()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	lookupErr = errors.New("the resolver is down")
	if d := cmp.Diff([]string{"127.0.0.1:" + u.Port()}, sync()); d != "" {
		t.Errorf("with a resolver that fails (-want +got):\n%s", d)
	}
	lookupErr, addresses = nil, []string{"127.0.0.1", "127.0.0.1"}
	if got := sync(); len(got) != 1 {
		t.Errorf("an address that is listed twice gives the replicas %v", got)
	}
}

func TestASeriesThatAppearsLaterBeganThen(t *testing.T) {
	const runs = "backstage_plugin_task_runs_total"
	up := serve(t, page+tasks)
	now := time.Unix(1e9, 0)
	s := mustNew(t, Options{URLs: []string{up.url}, Now: func() time.Time { return now }})
	owner := catalog.NewRef("group", "", "team-portal")
	sync := func(more ...*catalog.Entity) map[string]time.Time {
		t.Helper()
		if err := s.Sync(t.Context(), graph(t, more...), nil); err != nil {
			t.Fatal(err)
		}
		out := map[string]time.Time{}
		for _, m := range gather(t, s)[runs] {
			created := time.Time{}
			if c := m.Counter.CreatedTimestamp; c != nil {
				created = c.AsTime()
			}
			out[labelOf(m, "plugin")+" "+labelOf(m, "result")] = created
		}
		return out
	}
	before := map[string]time.Time{"catalog success": {}, "events failure": {}}
	if d := cmp.Diff(before, sync()); d != "" {
		t.Errorf("what was there at the first reading (-want +got):\n%s", d)
	}
	now = now.Add(30 * time.Second)
	appeared := now
	up.set(page + strings.Replace(tasks, "# TYPE backend_tasks_task_runs_completed", `backend_tasks_task_runs_count_total{taskId="refresh",result="failed",otel_scope_name="backstage-plugin-catalog"} 1`+"\n# TYPE backend_tasks_task_runs_completed", 1))
	after := map[string]time.Time{"catalog success": {}, "events failure": {}, "catalog failure": appeared.UTC()}
	if d := cmp.Diff(after, sync()); d != "" {
		t.Errorf("a first failure (-want +got):\n%s", d)
	}
	now = now.Add(30 * time.Second)
	if d := cmp.Diff(after, sync(&catalog.Entity{Ref: catalog.NewRef("component", "", "events-backend"), Type: "backstage-plugin", Owner: owner})); d != "" {
		t.Errorf("a change of owner (-want +got):\n%s", d)
	}
}

func TestBothRegistriesOfABackstageCountOnce(t *testing.T) {
	const scaffolds = "backstage_scaffolder_task_duration_seconds"
	otel, prom := serve(t, string(recording(t, "otel-prometheus-9464"))), serve(t, string(recording(t, "promclient-7007")))
	s := mustNew(t, Options{URLs: []string{prom.url, otel.url}, Scaffolder: true})
	if err := s.Sync(t.Context(), graph(t), nil); err != nil {
		t.Fatal(err)
	}
	got := gather(t, s)
	for name, metrics := range got {
		if d := cmp.Diff([]string{otel.host}, replicasOf(metrics)); d != "" && name != "sightline_backstage_replica_up" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	var n uint64
	for _, m := range got[scaffolds] {
		n += m.Histogram.GetSampleCount()
	}
	if n != 4 {
		t.Errorf("%d scaffolder tasks, want the 4 of OpenTelemetry", n)
	}
	found := s.Problems()
	if d := cmp.Diff([]string{ruleBoth, ruleBuckets}, rulesOf(found)); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
	for _, p := range found {
		if p.Owner.String() != "group:default/platform" || p.Hint == "" {
			t.Errorf("problem %+v lacks the platform owner or a hint", p)
		}
	}
	otel.set("")
	if err := s.Sync(t.Context(), graph(t), nil); err == nil {
		t.Error("a replica is gone and nobody says so")
	}
	if got := replicasOf(gather(t, s)[scaffolds]); len(got) != 1 || got[0] != otel.host {
		t.Errorf("while the last good state of OpenTelemetry stays: replicas %v", got)
	}
}

func TestScaffolderTasksAreNotCountedBesideTheAPIs(t *testing.T) {
	up := serve(t, string(recording(t, "otel-recommended-9464")))
	for _, exposed := range []bool{false, true} {
		s := mustNew(t, Options{URLs: []string{up.url}, Scaffolder: exposed})
		if err := s.Sync(t.Context(), graph(t), nil); err != nil {
			t.Fatal(err)
		}
		owners := map[string]string{}
		for name, metrics := range gather(t, s) {
			if strings.HasPrefix(name, "backstage_scaffolder") {
				for _, m := range metrics {
					owners[labelOf(m, "template")] = labelOf(m, "owner")
				}
			}
		}
		want := map[string]string{}
		if exposed {
			want = map[string]string{"template:default/go-service": "group:default/team-portal", "template:default/broken-template": "group:default/platform"}
		}
		if d := cmp.Diff(want, owners); d != "" {
			t.Errorf("exposed %v (-want +got):\n%s", exposed, d)
		}
	}
}

func TestMetricsURLsAreChecked(t *testing.T) {
	for _, u := range []string{"", "backstage:9464", "ftp://backstage/metrics", "dns+https://backstage:9464/metrics", "http://%zz/"} {
		if _, err := New(Options{URLs: []string{u}}); err == nil {
			t.Errorf("the URL %q is taken", u)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no URL is taken")
	}
}

func TestAnAnswerThatIsTooLargeIsRefused(t *testing.T) {
	up := serve(t, page)
	s := mustNew(t, Options{URLs: []string{up.url}, MaxBytes: 100})
	if err := s.Sync(t.Context(), graph(t), nil); err == nil || !strings.Contains(err.Error(), "larger than 100 bytes") {
		t.Errorf("error %v", err)
	}
}

func TestAReplicaThatAsksToWaitHoldsNobodyUp(t *testing.T) {
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer busy.Close()
	good := serve(t, page)
	s := mustNew(t, Options{URLs: []string{busy.URL + "/metrics", good.url}})
	for range 2 {
		if err := s.Sync(t.Context(), graph(t), nil); err == nil || strings.Contains(err.Error(), good.host) {
			t.Errorf("error %v", err)
		}
	}
	if n := good.hits.Load(); n != 2 {
		t.Errorf("the other replica was read %d times, want 2", n)
	}
}
