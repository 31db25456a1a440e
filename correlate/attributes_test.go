package correlate_test

import (
	"strings"

	otel "go.opentelemetry.io/otel/attribute"

	"github.com/sightline-dev/sightline/correlate"
)

func attribute(s correlate.Span, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.AsString()
		}
	}
	return ""
}

func attributes(kv []otel.KeyValue) string {
	var out []string
	for _, a := range kv {
		out = append(out, string(a.Key)+"="+a.Value.AsString())
	}
	return strings.Join(out, " ")
}
