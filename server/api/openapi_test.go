package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/catalog"
)

func TestTheDocumentHoldsEveryRouteAndEveryField(t *testing.T) {
	doc := OpenAPI("test")
	if _, err := json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, rt := range routes() {
		if doc["paths"].(map[string]any)[rt.path] == nil {
			t.Errorf("route %s is missing", rt.path)
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Owner](), reflect.TypeFor[Entity](), reflect.TypeFor[SLO](), reflect.TypeFor[Run](), reflect.TypeFor[Issue](), reflect.TypeFor[FiringAlert](), reflect.TypeFor[Error]()} {
		schema, ok := schemas[typ.Name()].(map[string]any)
		if !ok {
			t.Errorf("schema %s is missing", typ.Name())
			continue
		}
		b, _ := json.Marshal(reflect.New(typ).Interface())
		var fields map[string]any
		json.Unmarshal(b, &fields)
		for name := range fields {
			if schema["properties"].(map[string]any)[strings.Split(name, ",")[0]] == nil {
				t.Errorf("%s.%s is missing", typ.Name(), name)
			}
		}
	}
}

func FuzzNear(f *testing.F) {
	f.Add("checkout", "chekout")
	f.Add("\x00", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, a, b string) {
		candidates := []catalog.Ref{{Kind: "component", Namespace: "default", Name: b}, {Kind: "system", Namespace: "default", Name: a}}
		near := Near(catalog.Ref{Kind: "component", Namespace: "default", Name: a}, candidates)
		if len(near) > 2 || len(a) > 1 && !slices.Contains(near, candidates[1]) {
			t.Errorf("near %q of %q and itself as a system: %v", a, b, near)
		}
	})
}
