package sightline_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sightline-dev/sightline/"

// permitted lists, for each package, the packages of this module that its non-test code may import. Changing it is an
// architectural decision: see docs/architecture.md. A pattern "x/*" stands for the packages below x.
var permitted = map[string][]string{
	"catalog":             {},
	"catalog/backstage":   {"catalog", "upstream"},
	"catalog/files":       {"catalog", "upstream"},
	"upstream":            {},
	"slo":                 {"catalog"},
	"alerts":              {"catalog", "slo"},
	"dashboards":          {"catalog", "slo"},
	"plan":                {"catalog", "slo", "alerts", "dashboards"},
	"plan/*":              {"plan", "catalog", "slo", "upstream"},
	"exporter":            {"catalog"},
	"exporter/*":          {"exporter", "catalog", "upstream"},
	"exporter/dora":       {"exporter", "catalog"},
	"exporter/gitlab":     {"exporter", "exporter/dora", "catalog", "upstream"},
	"exporter/gitlab/*":   {"exporter", "catalog", "upstream"},
	"correlate":           {"catalog", "exporter", "slo"},
	"correlate/*":         {"correlate", "catalog", "exporter", "upstream"},
	"engine":              {"upstream"},
	"engine/*":            {"engine", "upstream"},
	"config":              {},
	"simulate":            {"catalog", "exporter", "engine", "slo"},
	"server":              {"*"},
	"server/*":            {"*"},
	"cmd/sightline":       {"*"},
	"cmd/sightline/quiet": {},
}

// forbidden are modules under a licence that Sightline's must not be linked with, and one that does not build beside
// sloth (docs/adr).
var forbidden = []string{"github.com/grafana/loki/v3", "github.com/grafana/tempo", "github.com/grafana/mimir", "github.com/grafana/grafana/", "github.com/grafana/loki-client-go"}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestPackagesImportOnlyWhatTheArchitecturePermits(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(name, "e2e") {
			continue
		}
		seen++
		allowed, known := permitted[name]
		if !known {
			allowed, known = permitted[path.Dir(name)+"/*"]
		}
		if !known {
			t.Errorf("package %s is not in the table of permitted imports", name)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module)
			if !ours || slices.Contains(allowed, "*") && !strings.HasPrefix(imp, "cmd/") || slices.Contains(allowed, imp) || strings.HasPrefix(name, "cmd/") {
				continue
			}
			t.Errorf("%s imports %s, which the table does not permit (permitted: %v)", name, imp, allowed)
		}
		for _, dep := range p.Deps {
			for _, f := range forbidden {
				if strings.HasPrefix(dep, f) {
					t.Errorf("%s links %s, which is forbidden", name, dep)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were checked", seen)
	}
}
