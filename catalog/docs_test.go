package catalog_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
)

// table writes annotations as a Markdown table.
func table(annotations []catalog.Annotation) string {
	var b strings.Builder
	b.WriteString("| key | on | example | meaning |\n|---|---|---|---|\n")
	for _, a := range annotations {
		meaning := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(a.Meaning)
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", a.Key, a.On, strings.ReplaceAll(a.Example, "|", `\|`), meaning)
	}
	return b.String()
}

func annotationsPage() string {
	return "# Annotations\n\nWritten by `make docs` from the table that the program reads by.\n\n" +
		"All keys begin with `" + catalog.Prefix + "` and stand under `metadata.annotations`. Values are strings: quote numbers.\n" +
		"Owner, system, lifecycle and type come from the entity itself, never from an annotation.\n\n" +
		table(catalog.AnnotationTable()) + `
*entity* is every kind but groups, users and locations. Where groups and systems are named too, the value is handed down:
what counts is the entity's own, else its system's, else its owner's, else the default of profile and tier in the
configuration. An indicator may be written with ` + "`-` or `_`" + `; it is one indicator.

A bad value is a problem that says what to write instead, shown by ` + "`sightline lint`" + ` and in the owner's list; the other
values of the entity count. A value whose feature is not built yet is a problem of the rule ` + "`" + catalog.RuleNotSupportedYet + "`" + `, never ignored.

## Grammar

` + "```ebnf\n" + catalog.Grammar + "```\n" + `
A threshold without a unit is a number in the indicator's own unit; latencies and durations need one. A target below 1 is
refused, because it is nearly always a fraction (` + "`0.999` for `99.9`" + `). A selector holds label matchers only, without metric
name and braces.

## Keys of other tools

These are read where they exist; all others are dropped while loading.

` + table(catalog.ForeignAnnotationTable())
}

func TestTheDocumentsListEveryAnnotation(t *testing.T) {
	const page, readme, begin, end = "../docs/annotations.md", "../README.md", "<!-- annotations: written by make docs -->\n", "<!-- end of annotations -->\n"
	check := func(path, want, got string) {
		t.Helper()
		if want == got {
			return
		}
		if os.Getenv("UPDATE_DOCS") == "" {
			t.Errorf("%s: run `make docs` (-want +got):\n%s", path, cmp.Diff(want, got))
		} else if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil && (path == readme || os.Getenv("UPDATE_DOCS") == "") {
			t.Fatal(err)
		}
		return string(b)
	}
	check(page, annotationsPage(), read(page))
	text := read(readme)
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table, between %q and %q", readme, begin, end)
	}
	check(readme, before+begin+"\n"+table(catalog.AnnotationTable())+"\n"+end+after, text)
}

func TestEveryListedForeignKeyIsKept(t *testing.T) {
	for _, a := range catalog.ForeignAnnotationTable() {
		if key := strings.Replace(a.Key, "*", "service-id", 1); !catalog.KeepsAnnotation(key) {
			t.Errorf("%s is listed and dropped", key)
		}
	}
	for _, key := range []string{"pagerduty.com/integration-key", "backstage.io/techdocs-ref", "other.io/key", "sightline.device/tier"} {
		if catalog.KeepsAnnotation(key) {
			t.Errorf("%s is kept", key)
		}
	}
}
