package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/sightline-dev/sightline/plan"
)

// A cluster is the part of the Kubernetes API that a Target uses, with server-side apply: who applied a field owns it, a
// field that another manager owns with another value is a conflict unless forced, one that its only owner applies no longer
// goes, and a resourceVersion is a condition.
type cluster struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[string]*applied // resource/name
	version int
	crds    bool
	page    int // objects on a page
	fault   func(r *http.Request) int
	writes  []string
}

type applied struct {
	head    map[string]any // apiVersion, kind
	fields  map[string]any // by JSON pointer-like path; lists are whole
	owners  map[string]map[string]bool
	version int
}

func newCluster(t *testing.T) (*cluster, *rest.Config) {
	c := &cluster{t: t, objects: map[string]*applied{}, crds: true, page: 500}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return c, &rest.Config{Host: srv.URL, BearerToken: "token", QPS: -1}
}

const sep = "\x00"

func flatten(out map[string]any, at string, v any) {
	if m, ok := v.(map[string]any); ok {
		for k, child := range m {
			flatten(out, at+sep+k, child)
		}
		return
	}
	out[at] = v
}

func (c *cluster) render(name string, o *applied) map[string]any {
	out := maps.Clone(o.head)
	fieldsV1 := map[string]map[string]any{}
	for path, v := range o.fields {
		parts := strings.Split(path, sep)[1:]
		for manager := range o.owners[path] {
			if fieldsV1[manager] == nil {
				fieldsV1[manager] = map[string]any{}
			}
			m := fieldsV1[manager]
			for _, p := range parts {
				next, _ := m["f:"+p].(map[string]any)
				if next == nil {
					next = map[string]any{}
					m["f:"+p] = next
				}
				m = next
			}
		}
		m := out
		for _, p := range parts[:len(parts)-1] {
			next, _ := m[p].(map[string]any)
			if next == nil {
				next = map[string]any{}
				m[p] = next
			}
			m = next
		}
		m[parts[len(parts)-1]] = v
	}
	md, _ := out["metadata"].(map[string]any)
	if md == nil {
		md = map[string]any{}
		out["metadata"] = md
	}
	md["name"], md["namespace"], md["uid"], md["resourceVersion"] = name, "monitoring", "uid-"+name, strconv.Itoa(o.version)
	var list []any
	for _, manager := range slices.Sorted(maps.Keys(fieldsV1)) {
		list = append(list, map[string]any{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fieldsV1[manager]})
	}
	md["managedFields"] = list
	return out
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fail := func(code int, reason string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
	}
	if c.fault != nil {
		if code := c.fault(r); code != 0 {
			fail(code, map[int]string{401: "Unauthorized", 403: "Forbidden", 500: "InternalError"}[code])
			return
		}
	}
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/monitoring.coreos.com/v1"), "/api/v1")
	parts := strings.Split(strings.TrimPrefix(path, "/namespaces/monitoring/"), "/")
	if !c.crds && parts[0] == "prometheusrules" {
		fail(404, "NotFound")
		return
	}
	body, _ := io.ReadAll(r.Body)
	if r.Method != "GET" {
		c.writes = append(c.writes, r.Method+" "+strings.Join(parts, "/"))
	}
	w.Header().Set("Content-Type", "application/json")
	if len(parts) == 1 && r.Method == "GET" {
		c.list(w, r, parts[0])
		return
	}
	key := parts[0] + "/" + parts[1]
	o := c.objects[key]
	switch {
	case r.Method == "PATCH":
		c.apply(w, r, key, body, fail)
	case o == nil:
		fail(404, "NotFound")
	case r.Method == "GET":
		json.NewEncoder(w).Encode(c.render(parts[1], o))
	case r.Method == "DELETE":
		var opts struct {
			Preconditions struct{ UID, ResourceVersion string }
		}
		json.Unmarshal(body, &opts)
		if opts.Preconditions.ResourceVersion != strconv.Itoa(o.version) || opts.Preconditions.UID != "uid-"+parts[1] {
			fail(409, "Conflict")
			return
		}
		delete(c.objects, key)
		json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	}
}

func (c *cluster) list(w http.ResponseWriter, r *http.Request, resource string) {
	q := r.URL.Query()
	if q.Get("labelSelector") != ManagedBy+"=sightline" {
		c.t.Errorf("list with the selector %q", q.Get("labelSelector"))
	}
	var items []any
	for _, key := range slices.Sorted(maps.Keys(c.objects)) {
		name, ok := strings.CutPrefix(key, resource+"/")
		if ok && c.objects[key].fields[sep+"metadata"+sep+"labels"+sep+ManagedBy] == "sightline" {
			items = append(items, c.render(name, c.objects[key]))
		}
	}
	from, _ := strconv.Atoi(q.Get("continue"))
	to, more := min(from+c.page, len(items)), ""
	if to < len(items) {
		more = strconv.Itoa(to)
	}
	kind := map[string]string{"configmaps": "ConfigMap", "secrets": "Secret", "prometheusrules": "PrometheusRule"}[resource]
	api := "v1"
	if kind == "PrometheusRule" {
		api = "monitoring.coreos.com/v1"
	}
	json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": api, "metadata": map[string]any{"continue": more}, "items": append([]any{}, items[from:to]...)})
}

func (c *cluster) apply(w http.ResponseWriter, r *http.Request, key string, body []byte, fail func(int, string)) {
	q := r.URL.Query()
	if ct := r.Header.Get("Content-Type"); ct != "application/apply-patch+yaml" || q.Get("fieldManager") == "" {
		c.t.Errorf("PATCH %s: Content-Type %q, manager %q", key, ct, q.Get("fieldManager"))
	}
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		c.t.Errorf("PATCH %s: %v", key, err)
	}
	c.merge(q.Get("fieldManager"), q.Get("force") == "true", key, sent, fail)
	if o := c.objects[key]; o != nil {
		json.NewEncoder(w).Encode(c.render(key[strings.Index(key, "/")+1:], o))
	}
}

// merge is server-side apply.
func (c *cluster) merge(manager string, force bool, key string, sent map[string]any, fail func(int, string)) {
	md := sent["metadata"].(map[string]any)
	o := c.objects[key]
	if v, ok := md["resourceVersion"]; ok && (o == nil || v != strconv.Itoa(o.version)) {
		fail(409, "Conflict")
		return
	}
	fields := map[string]any{}
	for k, v := range sent {
		if k == "metadata" {
			flatten(fields, sep+k+sep+"labels", md["labels"])
			flatten(fields, sep+k+sep+"annotations", md["annotations"])
		} else if k != "apiVersion" && k != "kind" {
			flatten(fields, sep+k, v)
		}
	}
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
	if o == nil {
		o = &applied{head: map[string]any{"apiVersion": sent["apiVersion"], "kind": sent["kind"]}, fields: map[string]any{}, owners: map[string]map[string]bool{}}
	}
	for path, v := range fields {
		others := maps.Clone(o.owners[path])
		delete(others, manager)
		if len(others) > 0 && !reflect.DeepEqual(o.fields[path], v) && !force {
			fail(409, "Conflict")
			return
		}
	}
	for path := range o.fields {
		if _, still := fields[path]; !still && o.owners[path][manager] {
			if delete(o.owners[path], manager); len(o.owners[path]) == 0 {
				delete(o.fields, path)
			}
		}
	}
	for path, v := range fields {
		if !reflect.DeepEqual(o.fields[path], v) || o.owners[path] == nil {
			o.owners[path] = map[string]bool{}
		}
		o.fields[path] = v
		o.owners[path][manager] = true
	}
	c.version++
	o.version = c.version
	c.objects[key] = o
}

// other changes an object as another manager, by force.
func (c *cluster) other(key string, sent map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.merge("kubectl", true, key, sent, func(code int, reason string) { c.t.Error(code, reason) })
}

type fields = map[string]any

func manifests(t *testing.T, o Options, texts ...string) *plan.Plan {
	t.Helper()
	p := &plan.Plan{}
	for _, text := range texts {
		name, expr, _ := strings.Cut(text, "=")
		p.Artifacts = append(p.Artifacts,
			plan.Artifact{Kind: plan.KindRules, Path: "rules/x/component.default." + name + ".yaml", Owner: payments, Body: fmt.Appendf(nil, "groups:\n- name: %s\n  interval: 60s\n  rules:\n  - {alert: A, expr: %q, for: 120s, labels: {owner: x}}\n", name, expr)},
			plan.Artifact{Kind: plan.KindDashboard, Path: "dashboards/" + name + ".json", Owner: payments, Body: fmt.Appendf(nil, "{\n \"uid\": \"sl-%s\",\n \"title\": %q\n}\n", name, expr)})
	}
	p.Artifacts = append(p.Artifacts, plan.Artifact{Kind: plan.KindAlertmanager, Path: "alertmanager/alertmanager.yml", Body: []byte("route: {receiver: x}\n")})
	if o.Namespace == "" {
		o.Namespace = "monitoring"
	}
	made, err := Manifests(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return &plan.Plan{Artifacts: made}
}

func applyTo(t *testing.T, c *rest.Config, p *plan.Plan) plan.Applied {
	t.Helper()
	target, err := NewTarget(c, "monitoring")
	if err != nil {
		t.Fatal(err)
	}
	done, err := plan.Apply(t.Context(), target, p, plan.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestApplyByServerSideApply(t *testing.T) {
	c, conf := newCluster(t)
	c.page = 1
	if done := applyTo(t, conf, manifests(t, Options{Labels: map[string]string{"release": "a"}}, "cart=1", "checkout=1")); len(done.Failed) > 0 || len(c.objects) != 5 {
		t.Fatal(len(c.objects), done.Failed)
	}
	c.writes = nil
	if done := applyTo(t, conf, manifests(t, Options{Labels: map[string]string{"release": "a"}}, "cart=1", "checkout=1")); !done.Diff.Empty() || len(c.writes) > 0 {
		t.Errorf("the second apply wrote %q for %+v", c.writes, done.Diff)
	}

	// What others add stays and is no difference; what they change is shown and set back; what is no longer planned goes.
	c.other("configmaps/sl-cart", fields{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{"labels": fields{"team": "x"}}})
	if done := applyTo(t, conf, manifests(t, Options{Labels: map[string]string{"release": "a"}}, "cart=1", "checkout=1")); !done.Diff.Empty() {
		t.Errorf("a label of somebody else is a difference: %+v", done.Diff)
	}
	c.other("configmaps/sl-cart", fields{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{"labels": fields{"team": "x"}}, "data": fields{"sl-cart.json": "mine"}})
	done := applyTo(t, conf, manifests(t, Options{}, "cart=1"))
	if len(done.Failed) > 0 || len(done.Diff.Removed) != 2 || len(c.objects) != 3 {
		t.Errorf("%d objects, removed %v, failed %v", len(c.objects), done.Diff.Removed, done.Failed)
	}
	got := c.render("sl-cart", c.objects["configmaps/sl-cart"])
	if d := cmp.Diff(fields{"sl-cart.json": "{\n \"uid\": \"sl-cart\",\n \"title\": \"1\"\n}\n"}, got["data"].(fields)); d != "" {
		t.Errorf("data (-want +got):\n%s", d)
	}
	labels := got["metadata"].(fields)["labels"].(fields)
	if labels["team"] != "x" || labels["release"] != nil {
		t.Errorf("labels: %v", labels)
	}
}

func TestObjectsWithoutTheMarkStay(t *testing.T) {
	c, conf := newCluster(t)
	c.other("configmaps/sl-cart", fields{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{}, "data": fields{"mine": "1"}})
	c.other("configmaps/other", fields{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{}, "data": fields{"mine": "1"}})
	done := applyTo(t, conf, manifests(t, Options{}, "cart=1"))
	if len(done.Failed) != 1 || !errors.Is(done.Failed[0].Err, plan.ErrForeign) {
		t.Errorf("failed: %v", done.Failed)
	}
	if d := cmp.Diff(map[string]any{sep + "data" + sep + "mine": "1"}, c.objects["configmaps/sl-cart"].fields); d != "" || c.objects["configmaps/other"] == nil {
		t.Errorf("the foreign object (-want +got):\n%s", d)
	}
}

func TestAnObjectThatChangedMeanwhileIsAConflict(t *testing.T) {
	c, conf := newCluster(t)
	applyTo(t, conf, manifests(t, Options{}, "cart=1", "checkout=1"))
	target, err := NewTarget(conf, "monitoring")
	if err != nil {
		t.Fatal(err)
	}
	held, err := target.Held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.other("configmaps/sl-cart", fields{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{}, "data": fields{"sl-cart.json": "mine"}})
	for _, a := range manifests(t, Options{}, "cart=2").Artifacts {
		if a.Path == "kubernetes/configmap-sl-cart.yaml" {
			if err := target.Put(t.Context(), a); !errors.Is(err, plan.ErrConflict) {
				t.Errorf("put: %v", err)
			}
		}
	}
	for _, a := range held {
		if a.Path == "kubernetes/configmap-sl-cart.yaml" {
			if err := target.Remove(t.Context(), a); !errors.Is(err, plan.ErrConflict) {
				t.Errorf("remove: %v", err)
			}
		}
	}
	if done := applyTo(t, conf, manifests(t, Options{}, "cart=2")); len(done.Failed) > 0 || len(c.objects) != 3 {
		t.Error(len(c.objects), done.Failed)
	}
}

func TestTwoTargetsAtOnce(t *testing.T) {
	c, conf := newCluster(t)
	p := manifests(t, Options{}, "cart=1", "checkout=1")
	a, _ := NewTarget(conf, "monitoring")
	b, _ := NewTarget(conf, "monitoring")
	for _, target := range []*Target{a, b} { // both see an empty namespace
		if held, err := target.Held(t.Context()); err != nil || len(held) > 0 {
			t.Fatal(held, err)
		}
	}
	for _, target := range []*Target{a, b} {
		for _, artifact := range p.Artifacts {
			if err := target.Put(t.Context(), artifact); err != nil {
				t.Error(err)
			}
		}
	}
	if len(c.writes) != 5 {
		t.Errorf("writes: %q", c.writes)
	}
}

func TestAFaultAtEachWriteIsMadeUpFor(t *testing.T) {
	for at := 1; ; at++ {
		c, conf := newCluster(t)
		applyTo(t, conf, manifests(t, Options{}, "cart=1", "checkout=1"))
		n := 0
		c.fault = func(r *http.Request) int {
			if r.Method != "GET" {
				n++
			}
			if n >= at {
				return 500
			}
			return 0
		}
		after := manifests(t, Options{}, "cart=2", "find=1")
		target, _ := NewTarget(conf, "monitoring")
		plan.Apply(t.Context(), target, after, plan.ApplyOptions{})
		c.fault = nil
		if n < at {
			if at < 5 {
				t.Errorf("only %d writes", n)
			}
			return
		}
		if done := applyTo(t, conf, after); len(done.Failed) > 0 {
			t.Errorf("write %d: %v", at, done.Failed)
		}
		if done := applyTo(t, conf, after); !done.Diff.Empty() || len(c.objects) != 5 {
			t.Errorf("write %d: %d objects, %+v", at, len(c.objects), done.Diff)
		}
	}
}

func TestClustersThatRefuse(t *testing.T) {
	for code, want := range map[int]string{401: "kubeconfig", 403: "let Sightline get, list"} {
		c, conf := newCluster(t)
		c.fault = func(*http.Request) int { return code }
		target, _ := NewTarget(conf, "monitoring")
		_, err := target.Held(t.Context())
		var h interface{ Hint() string }
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), want) {
			t.Errorf("%d: %v", code, err)
		}
	}
	c, conf := newCluster(t)
	c.crds = false
	done := applyTo(t, conf, manifests(t, Options{}, "cart=1"))
	var h interface{ Hint() string }
	if len(done.Failed) != 1 || !errors.As(done.Failed[0].Err, &h) || !strings.Contains(h.Hint(), "operator") || len(c.objects) != 2 {
		t.Errorf("without the operator: %d objects, %v", len(c.objects), done.Failed)
	}
	if _, err := NewTarget(conf, ""); err == nil {
		t.Error("a target without a namespace is made")
	}
}
