package api

import (
	"reflect"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// OpenAPI is the OpenAPI 3.1 document of the API, made from the routes and the structs of the answers.
func OpenAPI(version string) map[string]any {
	schemas := map[string]any{}
	paths := map[string]any{}
	problem := schemaOf(reflect.TypeFor[Error](), schemas)
	for _, rt := range routes() {
		params := []any{}
		for _, part := range strings.Split(rt.path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				params = append(params, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
			}
		}
		for _, p := range rt.params {
			params = append(params, map[string]any{"name": p.name, "in": "query", "description": p.doc, "schema": map[string]any{"type": p.kind}})
		}
		answer := map[string]any{"type": "object"}
		if rt.answer != nil {
			answer = schemaOf(rt.answer, schemas)
		}
		paths[rt.path] = map[string]any{"get": map[string]any{
			"summary": rt.summary, "parameters": params,
			"responses": map[string]any{
				"200":     map[string]any{"description": "The answer.", "content": map[string]any{"application/json": map[string]any{"schema": answer}}},
				"default": map[string]any{"description": "What went wrong, and a hint.", "content": map[string]any{"application/problem+json": map[string]any{"schema": problem}}},
			},
		}}
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "Sightline", "version": "v1", "description": "Owners, objectives and budgets. Read only. Served by Sightline " + version + "."},
		"paths":   paths,
		"components": map[string]any{"schemas": schemas, "securitySchemes": map[string]any{
			"bearer": map[string]any{"type": "http", "scheme": "bearer", "description": "A static token, or a Backstage user token."},
		}},
		"security": []any{map[string]any{}, map[string]any{"bearer": []any{}}},
	}
}

func schemaOf(t reflect.Type, schemas map[string]any) map[string]any {
	switch t {
	case reflect.TypeFor[Number]():
		return map[string]any{"type": []string{"number", "null"}}
	case reflect.TypeFor[*time.Time]():
		return map[string]any{"type": []string{"string", "null"}, "format": "date-time"}
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[catalog.Ref]():
		return map[string]any{"type": "string", "description": "Full entity reference, kind:namespace/name; empty for none."}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Struct:
		if _, done := schemas[t.Name()]; !done {
			properties, required := map[string]any{}, []string{}
			schemas[t.Name()] = nil // a name taken ends a recursion
			for _, f := range reflect.VisibleFields(t) {
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous || name == "" {
					continue
				}
				property := schemaOf(f.Type, schemas)
				if doc := f.Tag.Get("doc"); doc != "" {
					property["description"] = doc
				}
				properties[name] = property
				if options != "omitempty" {
					required = append(required, name)
				}
			}
			schemas[t.Name()] = map[string]any{"type": "object", "properties": properties, "required": required}
		}
		return map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	}
	panic("api: no schema for " + t.String())
}
