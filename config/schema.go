package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// A field is one key of the file, read off the struct tags, so that the schema, the example and the hints agree.
type field struct {
	key, doc, example string
	optional          bool
	typ               reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		out = append(out, field{key, f.Tag.Get("doc"), f.Tag.Get("example"), strings.Contains(opts, "omitempty"), f.Type})
	}
	return out
}

// walk visits every struct type of the file.
func walk(visit func(name string, fields []field)) {
	var rec func(t reflect.Type)
	rec = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		fields := fieldsOf(t)
		visit(t.Name(), fields)
		for _, f := range fields {
			rec(f.typ)
		}
	}
	rec(reflect.TypeFor[Config]())
}

// Schema is the JSON Schema (draft 2020-12) of the file.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Config]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Sightline configuration"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return append(b, '\n'), nil
}

func schemaOf(t reflect.Type) map[string]any {
	if t == reflect.TypeFor[Duration]() {
		return map[string]any{"type": "string", "pattern": `^(\d+[wd])*(\d+(\.\d+)?(h|m|s|ms))*$`}
	}
	if t == reflect.TypeFor[Bytes]() {
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^\d+(\.\d+)?([KMG]i?B|B)?$`}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Struct:
		props, required := map[string]any{}, []string{}
		for _, f := range fieldsOf(t) {
			p := schemaOf(f.typ)
			p["description"] = f.doc
			props[f.key] = p
			if !f.optional {
				required = append(required, f.key)
			}
		}
		out := map[string]any{"type": "object", "additionalProperties": false, "properties": props}
		if len(required) > 0 {
			out["required"] = required
		}
		return out
	default:
		return map[string]any{"type": "string"}
	}
}

// usedInExample are the keys that the example sets; all others stand in it as comments.
var usedInExample = map[string]bool{"catalog": true, "catalog.files": true, "store": true, "store.path": true, "server": true, "server.listen": true}

// Example is the commented whole of the file, every key with its meaning and an example. It loads as it stands; a key is
// put to use by taking away the # before it and before those that it is part of.
func Example() string {
	var b strings.Builder
	b.WriteString("# Sightline's configuration, with every key. A line such as \"#key: value\" shows the default or an example: take the # away\n" +
		"# to use it, and those of the keys above it that it belongs to.\n\n")
	writeExample(&b, reflect.TypeFor[Config](), 0, "", "")
	return b.String()
}

func writeExample(b *strings.Builder, t reflect.Type, depth int, first, path string) {
	pad := strings.Repeat("  ", depth)
	for i, f := range fieldsOf(t) {
		lead, key := pad, path+f.key
		if i == 0 && first != "" {
			lead = first
		}
		if !usedInExample[key] {
			indent := len(lead) - len(strings.TrimLeft(lead, " "))
			lead = lead[:indent] + "#" + lead[indent:]
		}
		ft := f.typ
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		fmt.Fprintf(b, "%s# %s\n", pad, f.doc)
		switch {
		case ft.Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", lead, f.key)
			writeExample(b, ft, depth+1, "", key+".")
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", lead, f.key)
			writeExample(b, ft.Elem(), depth+2, pad+"  - ", key+".")
		default:
			fmt.Fprintf(b, "%s%s: %s\n", lead, f.key, exampleValue(f, ft))
		}
	}
}

func exampleValue(f field, t reflect.Type) string {
	if f.example != "" {
		return f.example
	}
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	case reflect.Bool:
		return "false"
	default:
		return `""`
	}
}
