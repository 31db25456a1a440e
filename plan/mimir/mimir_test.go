package mimir

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// A ruler answers as Mimir's and Cortex' do: lists are YAML with the keys in another order and 404 where there is
// nothing, writes are 202, and a refusal is 400 with the reason in plain text.
type ruler struct {
	mu     sync.Mutex
	groups map[string]map[string][]map[string]any // by tenant and namespace
	writes []string
}

func (r *ruler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tenant := req.Header.Get("X-Scope-OrgID")
	if tenant == "" {
		http.Error(w, "no org id", http.StatusUnauthorized)
		return
	}
	if r.groups[tenant] == nil {
		r.groups[tenant] = map[string][]map[string]any{}
	}
	namespaces := r.groups[tenant]
	rest, ok := strings.CutPrefix(req.URL.EscapedPath(), "/prometheus/config/v1/rules")
	parts := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	if !ok || len(parts) > 2 {
		http.NotFound(w, req)
		return
	}
	named := func(name any) func(map[string]any) bool {
		return func(g map[string]any) bool { return g["name"] == name }
	}
	accepted := func() {
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"status":"success","data":null,"errorType":"","error":""}`)
	}
	switch req.Method {
	case http.MethodGet:
		out := map[string][]map[string]any{}
		for namespace, groups := range namespaces {
			if parts[0] == "" || parts[0] == namespace {
				out[namespace] = slices.Clone(groups)
				slices.Reverse(out[namespace])
			}
		}
		if len(out) == 0 {
			http.Error(w, "no rule groups found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		yaml.NewEncoder(w).Encode(out)
	case http.MethodPost:
		var g map[string]any
		body, _ := io.ReadAll(req.Body)
		if err := yaml.Unmarshal(body, &g); err != nil || strings.Contains(string(body), "no PromQL") {
			http.Error(w, "could not parse expression: 1:4: parse error", http.StatusBadRequest)
			return
		}
		r.writes = append(r.writes, fmt.Sprintf("POST %s %s", parts[0], g["name"]))
		if g["interval"] == "60s" {
			g["interval"] = "1m" // as they write durations
		}
		g["limit"] = 0
		namespaces[parts[0]] = append(slices.DeleteFunc(namespaces[parts[0]], named(g["name"])), g)
		accepted()
	case http.MethodDelete:
		r.writes = append(r.writes, "DELETE "+strings.Join(parts, " "))
		namespaces[parts[0]] = slices.DeleteFunc(namespaces[parts[0]], named(parts[1]))
		if len(namespaces[parts[0]]) == 0 {
			delete(namespaces, parts[0])
		}
		accepted()
	}
}

// took gives the writes since the last call.
func (r *ruler) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.writes
	r.writes = nil
	return w
}

// set replaces what a namespace of the tenant "shop" holds.
func (r *ruler) set(namespace, body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var groups []map[string]any
	if err := yaml.Unmarshal([]byte(body), &groups); err != nil {
		panic(err)
	}
	r.groups["shop"][namespace] = groups
}

func start(t *testing.T) (*ruler, *upstream.Client) {
	t.Helper()
	r := &ruler{groups: map[string]map[string][]map[string]any{"shop": {}}}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	c, err := upstream.New(upstream.Options{BaseURL: srv.URL + "/prometheus/config/v1/rules", Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

var shop = Options{Tenant: "shop"}

// rules is an artifact whose groups record one series each; a group is "name expression".
func rules(path string, groups ...string) plan.Artifact {
	var list []slo.RuleGroup
	for _, g := range groups {
		name, expr, _ := strings.Cut(g, " ")
		list = append(list, slo.RuleGroup{Name: name, Interval: time.Minute, Rules: []slo.Rule{
			{Record: "a:b", Expr: expr, Labels: slo.Labels{{Name: "a", Value: `"q"`}, {Name: "z", Value: "1"}}},
			{Alert: "Burns", Expr: expr, For: 2 * time.Minute, Annotations: slo.Labels{{Name: "summary", Value: "it: burns"}}},
		}})
	}
	return plan.Artifact{Kind: plan.KindRules, Path: path, Owner: catalog.NewRef("group", "", "team-pay"), Body: slo.AppendYAML(nil, list)}
}

const checkout, refunds = "rules/default/team-pay/component.default.checkout.yaml", "rules/default/team-pay/component.default.refunds.yaml"

func apply(t *testing.T, c *upstream.Client, o Options, artifacts ...plan.Artifact) plan.Applied {
	t.Helper()
	p := &plan.Plan{Artifacts: artifacts}
	done, err := plan.Apply(t.Context(), New(c, p, o), p, plan.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestOnlyGroupsThatDifferAreWritten(t *testing.T) {
	r, c := start(t)
	step := func(want []string, artifacts ...plan.Artifact) {
		t.Helper()
		if done := apply(t, c, shop, artifacts...); len(done.Failed) > 0 {
			t.Fatal(done.Failed)
		}
		if d := cmp.Diff(want, r.took()); d != "" {
			t.Errorf("writes (-want +got):\n%s", d)
		}
	}
	step([]string{"POST sightline/default/team-pay/component.default.checkout slow", "POST sightline/default/team-pay/component.default.checkout fast"},
		rules(checkout, "slow up", "fast up"))
	step(nil, rules(checkout, "slow up", "fast up"))
	step([]string{
		"POST sightline/default/team-pay/component.default.refunds slow",
		"POST sightline/default/team-pay/component.default.checkout fast",
		"DELETE sightline/default/team-pay/component.default.checkout slow",
	}, rules(checkout, "fast up > 0"), rules(refunds, "slow up"))
	step([]string{"DELETE sightline/default/team-pay/component.default.checkout fast"}, rules(refunds, "slow up"))
}

func TestNamespacesOfOthersAndOtherTenantsAreLeftAlone(t *testing.T) {
	r, c := start(t)
	r.set("kubernetes", "[{name: a, rules: []}]")
	r.set("sightlines", "[{name: a, rules: []}]")
	apply(t, c, shop, rules(checkout, "a up"))
	apply(t, c, Options{Tenant: "other"}, rules(refunds, "a up"))
	apply(t, c, shop)
	if d := cmp.Diff([]string{"kubernetes", "sightlines"}, slices.Sorted(func(yield func(string) bool) {
		for n := range r.groups["shop"] {
			if !yield(n) {
				return
			}
		}
	})); d != "" {
		t.Errorf("namespaces of the tenant (-want +got):\n%s", d)
	}
	if len(r.groups["other"]) != 1 {
		t.Errorf("the other tenant has %v", r.groups["other"])
	}
}

func TestDriftIsShownAndHealed(t *testing.T) {
	r, c := start(t)
	want := rules(checkout, "a up")
	apply(t, c, shop, want)
	const namespace = "sightline/default/team-pay/component.default.checkout"
	for name, body := range map[string]string{
		"another expression": "[{name: a, interval: 1m, rules: [{record: 'a:b', expr: down}]}]",
		"a limit":            strings.Replace(string(mustYAML(r.groups["shop"][namespace])), "limit: 0", "limit: 9", 1),
		"a group more":       string(mustYAML(append(slices.Clone(r.groups["shop"][namespace]), map[string]any{"name": "b"}))),
	} {
		r.set(namespace, body)
		done := apply(t, c, shop, want)
		if len(done.Diff.Changed) != 1 || done.Diff.Changed[0].Unified == "" {
			t.Errorf("%s: the diff is %+v", name, done.Diff)
		}
		if d := apply(t, c, shop, want).Diff; !d.Empty() {
			t.Errorf("%s is not healed: %+v", name, d)
		}
	}
}

func mustYAML(v any) []byte {
	b, err := yaml.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestABadGroupIsOneFailureAndItsFileStaysAsItWas(t *testing.T) {
	r, c := start(t)
	apply(t, c, shop, rules(checkout, "a up", "b up"))
	r.took()
	done := apply(t, c, shop, rules(checkout, "a up > 0", "new up", "b no PromQL"), rules(refunds, "a up"))
	if len(done.Failed) != 1 || done.Failed[0].Artifact.Path != checkout || done.Failed[0].Artifact.Owner.Name != "team-pay" {
		t.Fatalf("failures: %v", done.Failed)
	}
	if err := done.Failed[0].Err.Error(); !strings.Contains(err, `the group "b"`) || !strings.Contains(err, "parse error") {
		t.Errorf("the failure says %q", err)
	}
	if d := apply(t, c, shop, rules(checkout, "a up", "b up"), rules(refunds, "a up")).Diff; !d.Empty() {
		t.Errorf("the file's groups did not stay, or the other file was not written: %+v", d)
	}
}

func TestTheTenantsLimitsAreCheckedBeforeAnyWrite(t *testing.T) {
	r, c := start(t)
	r.set("kubernetes", "[{name: a, rules: []}]")
	p := &plan.Plan{Artifacts: []plan.Artifact{rules(checkout, "a up", "b up")}}
	_, err := plan.Apply(t.Context(), New(c, p, Options{Tenant: "shop", Groups: 2}), p, plan.ApplyOptions{})
	var limit *LimitError
	if !errors.As(err, &limit) || *limit != (LimitError{Foreign: 1, Wanted: 2, Limit: 2}) {
		t.Errorf("error %v", err)
	}
	done := apply(t, c, Options{Tenant: "shop", Groups: 3, PerGroup: 1}, p.Artifacts...)
	if len(done.Failed) != 1 || !strings.Contains(done.Failed[0].Err.Error(), "has 2 rules, and the tenant may have 1") {
		t.Errorf("failures %v", done.Failed)
	}
	if w := r.took(); w != nil {
		t.Errorf("writes %q", w)
	}
	if done := apply(t, c, Options{Tenant: "shop", Groups: 3, PerGroup: 2}, p.Artifacts...); len(done.Failed) > 0 {
		t.Errorf("at the limits: %v", done.Failed)
	}
}

func TestAChangeBetweenReadingAndWritingIsAConflict(t *testing.T) {
	r, c := start(t)
	apply(t, c, shop, rules(checkout, "a up"))
	a := rules(checkout, "a up > 0")
	target := New(c, &plan.Plan{Artifacts: []plan.Artifact{a}}, shop)
	if _, err := target.Held(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.set("sightline/default/team-pay/component.default.checkout", "[{name: a, rules: [{record: 'a:b', expr: down}]}]")
	if err := target.Put(t.Context(), a); !errors.Is(err, plan.ErrConflict) {
		t.Errorf("error %v", err)
	}
}

func TestAWrongAddressIsAnErrorAndNotAnEmptyRuler(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	c, err := upstream.New(upstream.Options{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(c, &plan.Plan{}, shop).Held(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestNamesOfNamespacesAreRead(t *testing.T) {
	for _, path := range []string{checkout, "rules/default/unowned/sightline.default.watchdog.yaml", "rules/a/b+c@d/e.f.yaml"} {
		namespace, err := namespaceOf(path)
		if got, ours := pathOf(namespace); err != nil || !ours || got != path {
			t.Errorf("%s becomes %s and then %s (%v, %v)", path, namespace, got, ours, err)
		}
	}
	for _, path := range []string{"dashboards/a.json", "rules/.yaml", "rules/" + strings.Repeat("a", 250) + ".yaml"} {
		if _, err := namespaceOf(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}
