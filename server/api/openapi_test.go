package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
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

func FuzzDistance(f *testing.F) {
	f.Add("checkout", "chekout")
	f.Add("\x00", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, a, b string) {
		if d := distance(a, b, 3); d < 0 || (a == b && len(a) <= 200 && d != 0) || distance(b, a, 3) != d && len(a) <= 200 && len(b) <= 200 && d <= 3 {
			t.Errorf("distance %q %q = %d", a, b, d)
		}
	})
}
