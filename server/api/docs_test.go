package api

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheAPIsPageIsItsDocumentInWords(t *testing.T) {
	const path = "../../docs/api.md"
	want := markdown(OpenAPI("test"))
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("run `make docs` (-want +got):\n%s", d)
	}
}

type object = map[string]any

// markdown writes an OpenAPI document as one page of Markdown.
func markdown(doc object) string {
	var b strings.Builder
	b.WriteString("# HTTP API\n\nWritten by `make docs` from the OpenAPI 3.1 document, which a server gives at `/api/v1/openapi.json`. All resources are\nread only: `GET` and `HEAD`.\n\n" +
		"With authentication configured, send `Authorization: Bearer TOKEN`: a static token, or a Backstage user token. A reference such as\n`component:default/checkout` is three parts of a path: `component/default/checkout`. A figure that does not exist is `null`, never 0.\n" +
		"Every error is a problem document (RFC 9457, `application/problem+json`) with a `hint`.\n\n" +
		"Beside these resources, `/api/v1/` answers Prometheus's query API (`query`, `query_range`, `series`, `labels`, `metadata`, `rules`,\n`alerts`), so that Grafana can use Sightline as a Prometheus data source, and takes remote write at `/api/v1/write`. That,\nand `POST /-/reload`, want a static token: a Backstage user may read only.\n\n" +
		"```\n$ curl 'http://127.0.0.1:9469/api/v1/entities/component/default/checkout/slos?points=0'\n```\n\n## Resources\n\n| resource | answer | meaning |\n|---|---|---|\n")
	paths := doc["paths"].(object)
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		get := paths[p].(object)["get"].(object)
		answer := get["responses"].(object)["200"].(object)["content"].(object)["application/json"].(object)["schema"].(object)
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p, typeOf(answer), get["summary"])
	}
	b.WriteString("\n## Parameters\n\n| resource | parameter | type | meaning |\n|---|---|---|---|\n")
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		for _, v := range paths[p].(object)["get"].(object)["parameters"].([]any) {
			if v := v.(object); v["in"] == "query" {
				fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", p, v["name"], v["schema"].(object)["type"], v["description"])
			}
		}
	}
	schemas := doc["components"].(object)["schemas"].(object)
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		schema := schemas[name].(object)
		fmt.Fprintf(&b, "\n## %s\n\n| field | type | meaning |\n|---|---|---|\n", name)
		properties := schema["properties"].(object)
		for _, field := range slices.Sorted(maps.Keys(properties)) {
			property := properties[field].(object)
			meaning, _ := property["description"].(string)
			if !slices.Contains(schema["required"].([]string), field) {
				meaning = strings.TrimSpace(meaning + " May be left out.")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", field, typeOf(property), meaning)
		}
	}
	return b.String()
}

// typeOf writes a schema's type; a named one as a link to its section.
func typeOf(schema object) string {
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndex(ref, "/")+1:]
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	switch kind := schema["type"].(type) {
	case []string:
		return strings.Join(kind, " or ")
	case string:
		if kind == "array" {
			return "list of " + typeOf(schema["items"].(object))
		}
		if schema["format"] == "date-time" {
			return "time"
		}
		return kind
	}
	return "any"
}
