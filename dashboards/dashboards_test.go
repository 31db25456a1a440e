package dashboards

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

var update = flag.Bool("update", false, "write the golden files anew")

var platformTeam = catalog.NewRef("group", "", "platform")

func ref(s string) catalog.Ref {
	r, err := catalog.ParseRef(s, "component")
	if err != nil {
		panic(err)
	}
	return r
}

// shop is a small catalog: a system of three components that call each other, one of them with four objectives, a
// pipeline objective on an API outside of any system, and a component whose owner does not exist.
func shop() ([]*catalog.Entity, []slo.Objective) {
	entity := func(s, owner, system string, deps ...string) *catalog.Entity {
		e := &catalog.Entity{Ref: ref(s), Type: "service", Lifecycle: "production"}
		e.Name = e.Ref.Name
		if owner != "" {
			e.Owner = ref(owner)
		}
		if system != "" {
			e.System = ref(system)
		}
		for _, d := range deps {
			e.DependsOn = append(e.DependsOn, ref(d))
		}
		return e
	}
	entities := []*catalog.Entity{
		entity("group:platform", "", ""), entity("group:payments", "", ""), entity("group:web", "", ""),
		entity("system:shop", "group:payments", ""),
		entity("component:ledger", "group:payments", "system:shop"),
		entity("component:checkout", "group:payments", "system:shop", "component:ledger", "component:ledger"),
		entity("component:storefront", "group:web", "system:shop", "component:checkout"),
		entity("component:mail", "group:gone", ""),
		entity("api:orders/orders", "group:web", ""),
	}
	for _, e := range entities {
		switch e.Ref.Name {
		case "checkout":
			e.Title, e.Description = "Checkout <& \"pay\">", "Takes the money.\nTwo lines."
			e.Annotations = map[string]string{"backstage.io/source-location": "url:https://gitlab.example.com/shop/checkout/-/tree/main/"}
		case "mail":
			e.Annotations = map[string]string{"backstage.io/source-location": "file:/etc/passwd"}
		}
	}
	objective := func(s, owner, system, indicator string) slo.Objective {
		o := slo.Objective{
			Entity: ref(s), Owner: ref(owner), Indicator: indicator, Title: "Requests that succeed", Window: slo.Window{Days: 30}, Tier: "2",
			ErrorQuery: `sum(rate(http_requests_total{job="` + s + `",code=~"5..$"}[$window]))`,
			TotalQuery: `sum(rate(http_requests_total{job="` + s + `"}[$window]))`, Source: "annotation",
		}
		if system != "" {
			o.System = ref(system)
		}
		return o
	}
	objectives := []slo.Objective{
		objective("component:checkout", "group:payments", "system:shop", "availability"),
		objective("component:checkout", "group:payments", "system:shop", "latency"),
		objective("component:checkout", "group:payments", "system:shop", "pipeline_duration"),
		objective("component:checkout", "group:payments", "system:shop", "pipeline_success"),
		objective("component:ledger", "group:payments", "system:shop", "availability"),
		objective("component:storefront", "group:web", "system:shop", "availability"),
		objective("component:mail", "group:platform", "", "availability"),
		objective("api:orders/orders", "group:web", "", "pipeline_success"),
	}
	objectives[0].Runbook = "https://runbooks.example.com/checkout?a=1&b=2"
	objectives[1].Window = slo.Window{Calendar: "month"}
	objectives[6].TotalQuery = ""
	return entities, objectives
}

func build(t testing.TB, opts Options) []Board {
	t.Helper()
	entities, objectives := shop()
	g, _ := catalog.NewGraph(entities, platformTeam)
	boards, problems := Build(g, objectives, opts)
	if len(problems) > 0 {
		t.Fatalf("unexpected problems: %v", problems)
	}
	return boards
}

func TestBuildMakesOneBoardPerThing(t *testing.T) {
	var got []string
	for _, b := range build(t, Options{}) {
		got = append(got, fmt.Sprintf("%s %s %s %s", b.Path, b.UID, b.Title, b.Owner))
	}
	want := []string{
		"dashboards/components/api.orders.orders.json " + ComponentUID(ref("api:orders/orders")) + " api:orders/orders group:default/web",
		"dashboards/components/component.default.checkout.json " + ComponentUID(ref("checkout")) + " component:default/checkout group:default/payments",
		"dashboards/components/component.default.ledger.json " + ComponentUID(ref("ledger")) + " component:default/ledger group:default/payments",
		"dashboards/components/component.default.mail.json " + ComponentUID(ref("mail")) + " component:default/mail group:default/platform",
		"dashboards/components/component.default.storefront.json " + ComponentUID(ref("storefront")) + " component:default/storefront group:default/web",
		"dashboards/owner.json " + OwnerUID() + " Sightline: owner group:default/platform",
		"dashboards/platform.json " + PlatformUID() + " Sightline: platform group:default/platform",
		"dashboards/systems/default.shop.json " + SystemUID(ref("system:shop")) + " system:default/shop group:default/payments",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("boards (-want +got):\n%s", diff)
	}
}

func TestUIDsAndTagsAreStableAndShort(t *testing.T) {
	// A change of these breaks every link that users saved.
	if got, want := ComponentUID(ref("checkout")), "sl-component-"+"wanted"; len(got) != 39 || got[:13] != want[:13] {
		t.Errorf("uid %q", got)
	}
	long := catalog.NewRef("component", strings.Repeat("n", 63), strings.Repeat("A.b_", 15))
	for _, r := range []catalog.Ref{ref("checkout"), ref("api:orders/orders"), long} {
		if tag := SelectorTag(r); !regexp.MustCompile(`^[\w-]+$`).MatchString(tag) || len(tag) > 50 {
			t.Errorf("tag %q of %s", tag, r)
		}
	}
	if SelectorTag(ref("a-b/c")) == SelectorTag(ref("a/b-c")) {
		t.Error("two entities share a selector tag")
	}
}

func TestBoardsPassStrictUnmarshallingAndValidation(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for _, b := range build(t, Options{}) {
		//lint:ignore SA1019 the classic model is what Grafana 9 to 13 load from files
		var d dashboard.Dashboard
		// On success the error is a typed nil, so its text is what counts.
		if err := d.UnmarshalJSONStrict(b.JSON); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", b.Path, err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", b.Path, err)
		}
		if len(d.Panels) == 0 || d.Uid == nil || *d.Uid != b.UID || *d.Title != b.Title || d.SchemaVersion != 42 {
			t.Errorf("%s: the model does not hold what the board says", b.Path)
		}
	}
	//lint:ignore SA1019 the classic model is what Grafana 9 to 13 load from files
	var d dashboard.Dashboard
	broken := bytes.Replace(build(t, Options{})[0].JSON, []byte(`"gridPos"`), []byte(`"gridPosition"`), 1)
	if err := d.UnmarshalJSONStrict(broken); err == nil || err.Error() == "" {
		t.Error("strict unmarshalling takes a misspelt key: the check above checks nothing")
	}
}

func TestBoardsPassOwnLint(t *testing.T) {
	for _, f := range Lint(build(t, Options{DatasourceUID: "mimir"})) {
		t.Error(f)
	}
	g, _ := catalog.NewGraph(nil, catalog.Ref{})
	boards, problems := Build(g, nil, Options{})
	for _, f := range Lint(boards) {
		t.Errorf("empty catalog: %v", f)
	}
	if len(boards) != 2 || len(problems) != 0 {
		t.Errorf("an empty catalog gives %d boards, %v", len(boards), problems)
	}
}

func TestEqualInputInAnyOrderGivesEqualBytes(t *testing.T) {
	want := build(t, Options{})
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		entities, objectives := shop()
		r.Shuffle(len(entities), func(i, j int) { entities[i], entities[j] = entities[j], entities[i] })
		r.Shuffle(len(objectives), func(i, j int) { objectives[i], objectives[j] = objectives[j], objectives[i] })
		g, _ := catalog.NewGraph(entities, platformTeam)
		got, _ := Build(g, objectives, Options{})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

func TestAnEntityThatCannotBeAFileNameIsAProblemAndTheOthersGoOn(t *testing.T) {
	entities, objectives := shop()
	bad := catalog.Ref{Kind: "component", Namespace: "..", Name: "a/b"}
	objectives = append(objectives, slo.Objective{Entity: bad, Indicator: "availability"})
	entities = append(entities, &catalog.Entity{Ref: catalog.Ref{Kind: "system", Namespace: "x/y", Name: "z"}})
	g, _ := catalog.NewGraph(entities, platformTeam)
	boards, problems := Build(g, objectives, Options{})
	if len(boards) != 8 {
		t.Errorf("%d boards, want 8", len(boards))
	}
	if len(problems) != 2 || problems[0].Rule != "dashboard-name" || problems[0].Owner != platformTeam {
		t.Errorf("problems: %+v", problems)
	}
}

func TestComponentsOfASystemStandInDataFlowOrder(t *testing.T) {
	entities, _ := shop()
	g, _ := catalog.NewGraph(entities, platformTeam)
	order := func(members []*catalog.Entity) (names []string) {
		for _, m := range dataFlowOrder(members) {
			names = append(names, m.Ref.Name)
		}
		return names
	}
	if diff := cmp.Diff([]string{"storefront", "checkout", "ledger"}, order(g.InSystem(ref("system:shop")))); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	a, b, c := &catalog.Entity{Ref: ref("a")}, &catalog.Entity{Ref: ref("b")}, &catalog.Entity{Ref: ref("c")}
	a.DependsOn, b.DependsOn, c.DependsOn = []catalog.Ref{b.Ref, a.Ref}, []catalog.Ref{a.Ref}, []catalog.Ref{a.Ref}
	if diff := cmp.Diff([]string{"c", "a", "b"}, order([]*catalog.Entity{a, b, c})); diff != "" {
		t.Errorf("order of a cycle (-want +got):\n%s", diff)
	}
}

func TestDatasourceVariableStartsWithTheConfiguredSource(t *testing.T) {
	for _, uid := range []string{"", "mimir"} {
		want := uid
		if uid == "" {
			want = "default"
		}
		for _, b := range build(t, Options{DatasourceUID: uid}) {
			var d struct {
				Templating struct {
					List []struct {
						Current struct{ Value string }
					}
				}
			}
			if err := json.Unmarshal(b.JSON, &d); err != nil {
				t.Fatal(err)
			}
			if got := d.Templating.List[0].Current.Value; got != want {
				t.Errorf("%s: current is %q, want %q", b.Path, got, want)
			}
		}
	}
}

// Every query of every board runs in a real engine, and those about what the store holds give a result.
func TestQueriesRunInAPromQLEngine(t *testing.T) {
	storage := promqltest.LoadedStorage(t, `
load 1m
  sightline_entity_info{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",domain="",type="service",lifecycle="production",tier="2"} 1x200
  sightline_entity_info{entity="component:default/checkout",owner="group:default/web",system="system:default/shop",domain="",type="service",lifecycle="production",tier="2"} 1x200
  sightline_source_up{source="gitlab"} 1x200
  sightline_source_last_success_timestamp_seconds{source="gitlab"} 0+60x200
  sloth_slo_info{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_service="component.default.checkout",sloth_slo="availability"} 1x200
  slo:objective:ratio{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability"} 0.99x200
  slo:period_error_budget_remaining:ratio{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability"} 0.75x200
  slo:period_error_budget_remaining:ratio{entity="component:default/checkout",owner="group:default/web",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability"} 0.75x200
  slo:current_burn_rate:ratio{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability"} 2x200
`+windowSeries()+deliverySeries()+`
  ALERTS{alertname="SLOErrorBudgetBurn",alertstate="firing",severity="page",entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability"} 1x200
  http_requests_total{job="component:checkout",code="200"} 0+600x200
  http_requests_total{job="component:checkout",code="500"} 0+6x200
  cicd_pipeline_runs_total{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_result="success",ref_kind="default",attempt="first"} 0+3x200
  cicd_pipeline_runs_total{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_result="failure",ref_kind="default",attempt="first"} 0+1x200
  cicd_pipeline_runs_total{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_result="cancellation",ref_kind="default",attempt="first"} 0+9x200
  cicd_pipeline_runs_total{source="scaffolder",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="new-service",cicd_pipeline_result="success",ref_kind="other",attempt="first"} 0+1x200
  cicd_pipeline_run_duration_seconds_bucket{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_run_state="executing",le="60"} 0+1x200
  cicd_pipeline_run_duration_seconds_bucket{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_run_state="executing",le="+Inf"} 0+2x200
  cicd_pipeline_run_duration_seconds_bucket{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_run_state="pending",le="60"} 0+2x200
  cicd_pipeline_run_duration_seconds_bucket{source="gitlab",owner="group:default/payments",entity="component:default/checkout",system="system:default/shop",cicd_pipeline_name="build",cicd_pipeline_run_state="pending",le="+Inf"} 0+2x200
  backstage_plugin_http_request_duration_seconds_count{plugin="catalog",code="200",streaming="false"} 0+60x200
  backstage_plugin_http_request_duration_seconds_count{plugin="catalog",code="200",streaming="true"} 0+500x200
  backstage_plugin_http_request_duration_seconds_count{plugin="catalog",code="500",streaming="false"} 0+6x200
  backstage_plugin_http_request_duration_seconds_bucket{plugin="catalog",streaming="false",le="0.1"} 0+60x200
  backstage_plugin_http_request_duration_seconds_bucket{plugin="catalog",streaming="false",le="+Inf"} 0+66x200
`)
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 1e6, Timeout: 30 * time.Second, EnableAtModifier: true, EnableNegativeOffset: true})
	end := time.Unix(0, 0).Add(199 * time.Minute)
	results := map[string]string{}
	seen := 0
	for _, b := range build(t, Options{}) {
		// Everything is about checkout, so its boards and those above it must show something everywhere.
		full := strings.HasSuffix(b.Path, "/platform.json") || strings.HasSuffix(b.Path, "/owner.json")
		for _, p := range allPanels(t, b) {
			for _, target := range p.Targets {
				seen++
				expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "3h", "$owner", "group:default/payments").Replace(target.Expr)
				q, err := engine.NewInstantQuery(t.Context(), storage, nil, expr, end)
				if err != nil {
					t.Errorf("%s: %q: %v", b.Path, p.Title, err)
					continue
				}
				r := q.Exec(t.Context())
				if r.Err != nil {
					t.Errorf("%s: %q: %s: %v", b.Path, p.Title, expr, r.Err)
					continue
				}
				v, err := r.Vector()
				if err != nil {
					t.Errorf("%s: %q: %v", b.Path, p.Title, err)
					continue
				}
				if full && len(v) == 0 {
					t.Errorf("%s: %q shows nothing: %s", b.Path, p.Title, expr)
				}
				if len(v) == 1 {
					results[filepath.Base(b.Path)+": "+p.Title+": "+target.RefID] = fmt.Sprintf("%.4g", v[0].F)
				}
				q.Close()
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d queries were run", seen)
	}
	for name, want := range map[string]string{
		"owner.json: Lowest budget remaining: A":                             "0.75",
		"owner.json: Pages firing: A":                                        "1",
		"owner.json: Tickets firing: A":                                      "0",
		"owner.json: Pipeline success: A":                                    "0.75",
		"owner.json: Service level objectives: A":                            "0.99",
		"owner.json: Service level objectives: B":                            "0.9975",
		"owner.json: Service level objectives: C":                            "0.75",
		"owner.json: Service level objectives: D":                            "2",
		"owner.json: Entities of this owner: A":                              "1",
		"platform.json: Components with an objective: A":                     "1",
		"platform.json: Budgets exhausted: A":                                "0",
		"platform.json: Plugin errors: A":                                    "0.09091",
		"component.default.checkout.json: SLI: availability: A":              "0.9975",
		"component.default.checkout.json: Burn rates: availability: A":       "3",
		"component.default.checkout.json: Budget burn-down: availability: A": "0.75",
		"component.default.checkout.json: Traffic: A":                        "10.1",
		"component.default.checkout.json: Alerts firing: A":                  "1",
		"default.shop.json: Rate: component:default/checkout: A":             "10.1",

		// 2 of 3 deployments a minute succeed.
		"owner.json: Deployments per day: A":                                "2880",
		"owner.json: Lead time, median: A":                                  "5400",
		"owner.json: Lead time, 90 %: A":                                    "6840",
		"owner.json: Change fail rate: A":                                   "0.25",
		"owner.json: Recovery time, median: A":                              "300",
		"owner.json: Rework rate: A":                                        "0.05",
		"owner.json: Delivery per entity: A":                                "360",
		"owner.json: Delivery per entity: B":                                "0.25",
		"owner.json: First feedback, median: A":                             "150",
		"owner.json: Runner wait, 90 %: A":                                  "10",
		"owner.json: Time lost to queues: A":                                "5400",
		"owner.json: Time lost to retries: A":                               "1800",
		"owner.json: Failed test cases: A":                                  "0.02",
		"owner.json: Test coverage: A":                                      "0.8",
		"owner.json: Flaky jobs: A":                                         "180",
		"owner.json: Flaky jobs: B":                                         "360",
		"platform.json: From template to production: A":                     "720",
		"platform.json: From template to production: C":                     "450",
		"platform.json: From template to production: E":                     "0.25",
		"component.default.checkout.json: Change fail rate: A":              "0.25",
		"default.shop.json: Rework rate: A":                                 "0.05",
		"default.shop.json: Delivery per entity: C":                         "5400",
		"component.default.checkout.json: Failed jobs per day by reason: A": "1440",
	} {
		if results[name] != want {
			t.Errorf("%s: got %q, want %q", name, results[name], want)
		}
	}
}

func windowSeries() string {
	var b strings.Builder
	for _, w := range burnWindows {
		fmt.Fprintf(&b, `  slo:sli_error:ratio_rate%s{entity="component:default/checkout",owner="group:default/payments",system="system:default/shop",sloth_id="component.default.checkout-availability",sloth_slo="availability",sloth_window="%s"} 0.03x200`+"\n", w, w)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// deliverySeries are what is measured beside runs.
func deliverySeries() string {
	var b strings.Builder
	add := func(name, labels, values string) {
		if !strings.Contains(labels, "entity=") {
			labels += `,entity="component:default/checkout"`
		}
		fmt.Fprintf(&b, "\n  %s{source=\"gitlab\",owner=\"group:default/payments\",system=\"system:default/shop\",%s} %sx200", name, labels, values)
	}
	const production = `environment_tier="production",`
	add("sightline_deployments_total", production+`result="success"`, "0+2")
	add("sightline_deployments_total", production+`result="failure"`, "0+1")
	add("sightline_deployments_total", `environment_tier="development",result="success"`, "0+9")
	add("sightline_deployments_failed_total", production+`cause="rollback"`, "0+0.2")
	add("sightline_deployments_failed_total", production+`cause="incident"`, "0+0.3")
	add("sightline_deployments_rework_total", production+`cause="fix"`, "0+0.1")
	for le, values := range map[string]string{"3600": "0+0", "7200": "0+1", "+Inf": "0+1"} {
		add("sightline_change_lead_time_seconds_bucket", production+`part="total",le="`+le+`"`, values)
	}
	for le, values := range map[string]string{"3600": "0+5", "+Inf": "0+5"} {
		add("sightline_change_lead_time_seconds_bucket", production+`part="coding",le="`+le+`"`, values)
	}
	for _, le := range []string{"600", "+Inf"} {
		add("sightline_deployment_recovery_seconds_bucket", production+`le="`+le+`"`, "0+1")
	}
	for _, le := range []string{"300", "+Inf"} {
		add("sightline_first_feedback_seconds_bucket", `of="commit",le="`+le+`"`, "0+1")
	}
	for le, values := range map[string]string{"10": "0+9", "60": "0+10", "+Inf": "0+10"} {
		add("sightline_runner_wait_seconds_bucket", `tags="docker",le="`+le+`"`, values)
	}
	add("sightline_pipeline_lost_seconds_total", `cause="queue"`, "0+30")
	add("sightline_pipeline_lost_seconds_total", `cause="retry"`, "0+10")
	for result, values := range map[string]string{"success": "0+98", "failed": "0+1", "error": "0+1", "skipped": "0+9"} {
		add("sightline_test_cases_total", `cicd_pipeline_name="build",result="`+result+`"`, values)
	}
	add("sightline_pipeline_coverage_ratio", `cicd_pipeline_name="build",ref_kind="default"`, "0.8+0")
	add("sightline_pipeline_coverage_ratio", `cicd_pipeline_name="build",ref_kind="merge_request"`, "0.1+0")
	add("sightline_flaky_tasks_total", `cicd_pipeline_name="build",cicd_pipeline_task_name="test"`, "0+1")
	add("sightline_task_retries_total", `cicd_pipeline_name="build",cicd_pipeline_task_name="test"`, "0+2")
	add("sightline_task_failures_total", `cicd_pipeline_name="build",reason="script_failure"`, "0+1")
	for milestone, values := range map[string]string{"project": "0+4", "first_pipeline": "0+4", "first_green": "0+3", "first_deployment": "0+1"} {
		labels := `entity="template:default/service",template="service",milestone="` + milestone + `"`
		add("sightline_journey_seconds_count", labels, values)
		add("sightline_journey_seconds_bucket", labels+`,le="900"`, values)
		add("sightline_journey_seconds_bucket", labels+`,le="+Inf"`, values)
	}
	return b.String()
}

func allPanels(t testing.TB, b Board) []lintPanel {
	t.Helper()
	l := lintOne(b.Path, b.JSON)
	var out []lintPanel
	for _, p := range l.board.Panels {
		out = append(append(out, p), p.Panels...)
	}
	return out
}

func TestValuesOfUsersAreEscaped(t *testing.T) {
	want := `x{entity="component:default/a\"b\\c",y="z"}`
	got := equals("entity", `component:default/a"b\c`).of("x", `y="z"`)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, b := range build(t, Options{}) {
		if bytes.Contains(b.JSON, []byte(`\u003c`)) || bytes.Contains(b.JSON, []byte(`\u0026`)) {
			t.Errorf("%s: \"<\" and \"&\" are escaped, which makes it hard to read", b.Path)
		}
		if bytes.Contains(b.JSON, []byte("/etc/passwd")) {
			t.Errorf("%s: links to a file", b.Path)
		}
	}
}

// The golden files hold the boards of the small catalog. Read their diff as the review of a change.
func TestGolden(t *testing.T) {
	archive := &txtar.Archive{Comment: []byte("The boards of a small catalog: a system of three components, an API of a namespace, an unowned component.\n")}
	for _, b := range build(t, Options{}) {
		archive.Files = append(archive.Files, txtar.File{Name: b.Path, Data: b.JSON})
	}
	got := txtar.Format(archive)
	file := filepath.Join("testdata", "shop.txtar")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("boards differ; -update writes them anew (-want +got):\n%s", diff)
	}
}

func BenchmarkBuild1000(b *testing.B) {
	entities := []*catalog.Entity{{Ref: platformTeam}}
	var objectives []slo.Objective
	for i := range 100 {
		entities = append(entities, &catalog.Entity{Ref: catalog.NewRef("system", "", fmt.Sprintf("system-%d", i)), Owner: platformTeam})
	}
	for i := range 1000 {
		system := catalog.NewRef("system", "", fmt.Sprintf("system-%d", i%100))
		e := &catalog.Entity{Ref: catalog.NewRef("component", "", fmt.Sprintf("service-%d", i)), Owner: platformTeam, System: system}
		entities = append(entities, e)
		for _, indicator := range []string{"availability", "latency"} {
			objectives = append(objectives, slo.Objective{
				Entity: e.Ref, Owner: platformTeam, System: system, Indicator: indicator,
				TotalQuery: `sum(rate(http_requests_total{job="x"}[$window]))`, Window: slo.Window{Days: 30},
			})
		}
	}
	slices.Reverse(objectives)
	g, _ := catalog.NewGraph(entities, platformTeam)
	b.ReportAllocs()
	var size int
	for b.Loop() {
		boards, problems := Build(g, objectives, Options{})
		if len(boards) != 1102 || len(problems) != 0 {
			b.Fatal(len(boards), problems)
		}
		size = 0
		for _, board := range boards {
			size += len(board.JSON)
		}
	}
	b.ReportMetric(float64(size)/1102, "bytes/board")
}

func TestBoardsLeadToSightlineWhereItsAddressIsKnown(t *testing.T) {
	links := func(b Board) (found []string) {
		for _, url := range collect(lintOne(b.Path, b.JSON).whole, "url", nil) {
			if strings.HasPrefix(url, "https://sightline.example.com/") {
				found = append(found, strings.TrimPrefix(url, "https://sightline.example.com"))
			}
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	for _, b := range build(t, Options{}) {
		if got := links(b); len(got) > 0 {
			t.Errorf("%s links to %v without an address", b.Path, got)
		}
	}
	boards := build(t, Options{URL: "https://sightline.example.com/"})
	for _, f := range Lint(boards) {
		t.Error(f)
	}
	const entity = "/entities?ref=${__data.fields.entity}"
	want := map[string][]string{
		"dashboards/components/component.default.checkout.json": {"/entities/component/default/checkout", entity},
		"dashboards/systems/default.shop.json":                  {"/entities/system/default/shop", entity},
		"dashboards/owner.json":                                 {entity, "/owners?ref=${owner}"},
		"dashboards/platform.json":                              {"/", entity},
	}
	for _, b := range boards {
		if w, ok := want[b.Path]; ok {
			if diff := cmp.Diff(w, links(b)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", b.Path, diff)
			}
		}
	}
}

func TestATagHoldsTheSlugOfAReferenceThatIsTooLong(t *testing.T) {
	long := catalog.NewRef("component", "", strings.Repeat("long-", 12)+"name")
	for _, c := range []struct {
		ref  catalog.Ref
		want []string
	}{
		{ref("checkout"), []string{"component:component:default/checkout"}},
		{long, []string{"component:" + catalog.Slug(long, 40)}},
		{catalog.Ref{}, nil},
	} {
		if diff := cmp.Diff(c.want, refTag("component", c.ref)); diff != "" {
			t.Errorf("tag of %s (-want +got):\n%s", c.ref, diff)
		}
	}
	if tag := refTag("component", long)[0]; len(tag) > maxTag {
		t.Errorf("the tag %q has %d characters", tag, len(tag))
	}
}
