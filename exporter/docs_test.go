package exporter_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/backstage"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/upstream"
)

func TestEveryMetricIsInTheDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Metrics of Sightline\n\nWritten by `make docs`. Names follow the OpenTelemetry CI/CD conventions where there is one\n([ADR 004](adr/004-run-counters.md)). How they are scraped and pushed, with exemplars and native histograms:\n[telemetry.md](telemetry.md#metrics). What those of GitLab count: [gitlab.md](gitlab.md).\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	all := slices.Concat(exporter.Families(), backstage.Families(), push.Families())
	for _, f := range upstream.Families() {
		all = append(all, exporter.Family(f))
	}
	all = append(all, declared(t, "../server", "../engine", "../cmd/sightline")...)
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

// declared finds the metrics that are made where they are declared, by prometheus.NewGauge(prometheus.GaugeOpts{...}) and
// the like, in the Go files of folders.
func declared(t *testing.T, folders ...string) []exporter.Family {
	t.Helper()
	var out []exporter.Family
	for _, folder := range folders {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no Go files in %s: %v", folder, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				made, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || len(call.Args) == 0 || !strings.HasPrefix(made.Sel.Name, "New") {
					return true
				}
				opts, ok := call.Args[0].(*ast.CompositeLit)
				if !ok {
					return true
				}
				f := exporter.Family{Type: strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(made.Sel.Name, "New"), "Vec"))}
				for _, e := range opts.Elts {
					pair, ok := e.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					switch fmt.Sprint(pair.Key) {
					case "Name":
						f.Name = literal(pair.Value)
					case "Help":
						f.Help = literal(pair.Value)
					}
				}
				if len(call.Args) == 2 {
					if labels, ok := call.Args[1].(*ast.CompositeLit); ok {
						for _, l := range labels.Elts {
							f.Labels = append(f.Labels, literal(l))
						}
					}
				}
				if strings.HasPrefix(f.Name, "sightline_") {
					out = append(out, f)
				}
				return true
			})
		}
	}
	if len(out) == 0 {
		t.Fatalf("no metric is declared in %v", folders)
	}
	return out
}

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(l.Value)
	return s
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
