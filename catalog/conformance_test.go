package catalog_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/backstage"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/upstream"
)

// One catalog with what the two loaders could read differently: references of every spelling, relations that stand on
// their other end, two namespaces, upper case, bad values, foreign annotations, owners that are gone, circles.
const everyKind = `
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: All, description: everyone}
spec: {type: organization, children: [payments, Runtime]}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata:
  name: payments
  title: Payments
  annotations: {sightline.dev/receiver.slack: "#pay", sightline.dev/office-hours: always, pagerduty.com/integration-key: secret, pagerduty.com/service-id: P1}
spec: {type: team, parent: all, children: [], members: [ada, user:default/bob, ada]}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: runtime}
spec: {type: team, children: []}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: circle-a, namespace: ext}
spec: {type: team, parent: circle-b, children: []}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: circle-b, namespace: ext}
spec: {type: team, parent: group:ext/circle-a, children: [default/runtime]}
---
apiVersion: backstage.io/v1alpha1
kind: User
metadata: {name: ada}
spec: {memberOf: [runtime, payments]}
---
apiVersion: backstage.io/v1alpha1
kind: User
metadata: {name: bob}
spec: {memberOf: []}
---
apiVersion: backstage.io/v1alpha1
kind: Domain
metadata: {name: commerce}
spec: {owner: all}
---
apiVersion: backstage.io/v1alpha1
kind: System
metadata: {name: shop, annotations: {sightline.dev/tier: "1", sightline.dev/windw: 30d}}
spec: {owner: group:payments, domain: commerce}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: Checkout
  description: |
    Two
    lines
  annotations:
    sightline.dev/objective.availability: "99,9"
    sightline.dev/objective.latency: "99@300ms"
    sightline.dev/pipelines: "checkout-*"
    gitlab.com/project-slug: acme/shop
    other.io/key: dropped
spec: {type: service, lifecycle: production, owner: user:ada, system: default/shop, dependsOn: [resource:db, component:ledger, resource:default/db]}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: ledger, annotations: {gitlab.com/project-slug: acme/shop}}
spec: {type: service, lifecycle: production, owner: paymants, system: shop}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: mirror, annotations: {gitlab.com/project-slug: Acme/Shop}}
spec: {type: service, lifecycle: experimental, owner: system:shop}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: tool, namespace: Ext}
spec: {type: tool, lifecycle: deprecated, owner: circle-a}
---
apiVersion: backstage.io/v1alpha1
kind: Resource
metadata: {name: db}
spec: {type: database, owner: runtime, system: shop, dependencyOf: [component:mirror, ledger]}
---
apiVersion: backstage.io/v1alpha1
kind: API
metadata: {name: cart, annotations: {sightline.dev/receiver.slack: "#x"}}
spec: {type: openapi, lifecycle: production, owner: default/payments, system: shop, definition: "{}"}
---
apiVersion: scaffolder.backstage.io/v1beta3
kind: Template
metadata: {name: go-service}
spec: {type: service, owner: all, parameters: [], steps: []}
---
apiVersion: backstage.io/v1alpha1
kind: Location
metadata: {name: extra}
spec: {type: file, targets: [./x.yaml]}
`

// ingest makes of YAML what Backstage's API serves: names as written, relations in full lower-case references on both
// ends, each once and in order.
func ingest(t *testing.T, text string) []map[string]any {
	t.Helper()
	type relation struct{ kind, target string }
	var out []map[string]any
	relations := map[string][]relation{}
	dec := yaml.NewDecoder(strings.NewReader(text))
	self := func(e map[string]any) string {
		meta := e["metadata"].(map[string]any)
		namespace, _ := meta["namespace"].(string)
		if namespace == "" {
			namespace = "default"
		}
		return strings.ToLower(fmt.Sprintf("%s:%s/%s", e["kind"], namespace, meta["name"]))
	}
	for {
		var e map[string]any
		if err := dec.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
		from := self(e)
		namespace, _, _ := strings.Cut(from[strings.Index(from, ":")+1:], "/")
		spec := e["spec"].(map[string]any)
		for _, r := range []struct{ key, kind, there, back string }{
			{"owner", "group", "ownedBy", "ownerOf"},
			{"system", "system", "partOf", "hasPart"},
			{"domain", "domain", "partOf", "hasPart"},
			{"parent", "group", "childOf", "parentOf"},
			{"children", "group", "parentOf", "childOf"},
			{"members", "user", "hasMember", "memberOf"},
			{"memberOf", "group", "memberOf", "hasMember"},
			{"dependsOn", "component", "dependsOn", "dependencyOf"},
			{"dependencyOf", "component", "dependencyOf", "dependsOn"},
		} {
			targets, _ := spec[r.key].([]any)
			if one, ok := spec[r.key].(string); ok {
				targets = []any{one}
			}
			for _, x := range targets {
				kind, rest, ok := strings.Cut(x.(string), ":")
				if !ok {
					kind, rest = r.kind, x.(string)
				}
				if !strings.Contains(rest, "/") {
					rest = namespace + "/" + rest
				}
				to := strings.ToLower(kind + ":" + rest)
				relations[from] = append(relations[from], relation{r.there, to})
				relations[to] = append(relations[to], relation{r.back, from})
			}
		}
	}
	for _, e := range out {
		var list []map[string]string
		all := relations[self(e)]
		slices.SortFunc(all, func(a, b relation) int { return strings.Compare(a.kind+" "+a.target, b.kind+" "+b.target) })
		for _, r := range slices.Compact(all) {
			list = append(list, map[string]string{"type": r.kind, "targetRef": r.target})
		}
		e["relations"] = list
	}
	return out
}

// fromAPI loads entities through the API's loader.
func fromAPI(t *testing.T, items any) []*catalog.Entity {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(map[string]any{"items": items, "totalItems": 1, "pageInfo": map[string]string{}}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c, err := upstream.New(upstream.Options{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	entities, problems, err := backstage.Load(t.Context(), c)
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	return entities
}

func fromFiles(t *testing.T, paths ...string) []*catalog.Entity {
	t.Helper()
	found, err := files.Load(t.Context(), paths)
	if err != nil || len(found.Problems) > 0 {
		t.Fatalf("problems %v, error %v", found.Problems, err)
	}
	return found.Entities
}

// graph gives the entities in order and all problems, of the graph and of the annotations.
func graph(entities []*catalog.Entity) ([]*catalog.Entity, []catalog.Problem, map[catalog.Ref]catalog.Ownership) {
	g, problems := catalog.NewGraph(entities, catalog.NewRef("group", "", "all"))
	owners := map[catalog.Ref]catalog.Ownership{}
	for e := range g.Entities() {
		_, found := catalog.Parse(e)
		problems = append(problems, found...)
		owners[e.Ref] = g.Ownership(e.Ref)
	}
	for i := range problems {
		problems[i].File, problems[i].Line, problems[i].Column = "", 0, 0
	}
	slices.SortFunc(problems, catalog.Problem.Compare)
	return slices.Collect(g.Entities()), problems, owners
}

func compare(t *testing.T, api, fs []*catalog.Entity) (rules map[string]bool) {
	t.Helper()
	apiEntities, apiProblems, apiOwners := graph(api)
	fsEntities, fsProblems, fsOwners := graph(fs)
	if d := cmp.Diff(fsEntities, apiEntities, cmpopts.IgnoreFields(catalog.Entity{}, "Position", "AnnotationPositions"), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("entities (-files +API):\n%s", d)
	}
	if d := cmp.Diff(fsProblems, apiProblems, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("problems (-files +API):\n%s", d)
	}
	if d := cmp.Diff(fsOwners, apiOwners); d != "" {
		t.Errorf("owners (-files +API):\n%s", d)
	}
	rules = map[string]bool{}
	for _, p := range fsProblems {
		rules[p.Rule] = true
	}
	return rules
}

func TestFilesAndAPIGiveTheSameCatalog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog-info.yaml")
	if err := os.WriteFile(file, []byte(everyKind), 0o644); err != nil {
		t.Fatal(err)
	}
	fs := fromFiles(t, file)
	rules := compare(t, fromAPI(t, ingest(t, everyKind)), fs)
	for _, rule := range []string{"owner-missing", "owner-kind", "group-circle", "project-shared", "objective-percent", "annotation-unknown", "annotation-kind", "office-hours-syntax"} {
		if !rules[rule] {
			t.Errorf("the catalog of this test gives no problem %s; there are %v", rule, slices.Sorted(maps.Keys(rules)))
		}
	}
	parents := map[string]string{}
	for _, e := range fs {
		if e.Ref.Kind == "group" {
			parents[e.Ref.Name] = e.Parent.String()
		}
	}
	want := map[string]string{"all": "", "payments": "group:default/all", "runtime": "group:default/all", "circle-a": "group:ext/circle-b", "circle-b": "group:ext/circle-a"}
	if d := cmp.Diff(want, parents); d != "" {
		t.Errorf("parents (-want +got):\n%s", d)
	}
}

// A real Backstage ingested these files and its answer was recorded; its own annotations and, because they were written
// later, Sightline's are left out.
func TestFilesGiveWhatARealBackstageServed(t *testing.T) {
	body, err := os.ReadFile("backstage/testdata/entities.json")
	if err != nil {
		t.Fatal(err)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(body, &items); err != nil {
		t.Fatal(err)
	}
	api, fs := fromAPI(t, items), fromFiles(t, "../e2e/backstage/be/catalog")
	fs = slices.DeleteFunc(fs, func(e *catalog.Entity) bool { return e.Ref.Name == "double-fail" }) // younger than the recording
	for _, e := range slices.Concat(api, fs) {
		maps.DeleteFunc(e.Annotations, func(k, _ string) bool {
			return strings.HasPrefix(k, "backstage.io/") || strings.HasPrefix(k, catalog.Prefix)
		})
	}
	if len(api) < 35 {
		t.Errorf("only %d entities were compared", len(api))
	}
	compare(t, api, fs)
}
