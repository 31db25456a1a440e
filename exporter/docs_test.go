package exporter_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/backstage"
	"github.com/sightline-dev/sightline/upstream"
)

func TestEveryMetricIsInTheDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Metrics of Sightline\n\nWritten by `make docs`. Names follow the OpenTelemetry CI/CD conventions where there is one ([ADR 004](adr/004-run-counters.md)).\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	all := slices.Concat(exporter.Families(), backstage.Families())
	for _, f := range upstream.Families() {
		all = append(all, exporter.Family(f))
	}
	for _, f := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, strings.Join(f.Labels, ", "), f.Help)
	}
	const path = "../docs/metrics.md"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.String(), string(got)); d != "" {
		t.Errorf("run `make docs` (-want +got):\n%s", d)
	}
}

// The README has the table without labels, between two marks.
func TestEveryMetricIsInTheReadme(t *testing.T) {
	const path, begin, end = "../README.md", "<!-- metrics: written by make docs -->\n", "<!-- end of metrics -->"
	var b strings.Builder
	b.WriteString("\n| metric | type | meaning |\n|---|---|---|\n")
	for _, f := range exporter.Families() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Type, f.Help)
	}
	b.WriteString("\n")
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(readme), begin)
	got, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s does not have the marks %q and %q", path, begin, end)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(b.String(), got); d != "" {
		t.Errorf("run `make docs` (-want +got):\n%s", d)
	}
}
