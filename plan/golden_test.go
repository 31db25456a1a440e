package plan_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

var update = flag.Bool("update", false, "write the golden files anew")

// compile makes the plan of the archive's catalog folder, its entities in an order of the seed's (0: as they stand).
func compile(t *testing.T, a *txtar.Archive, seed uint64) []plan.Artifact {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, f := range a.Files {
		if !strings.HasPrefix(f.Name, "catalog/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found, err := files.Load(t.Context(), []string{"catalog"})
	if err != nil {
		t.Fatal(err)
	}
	if seed != 0 {
		random := rand.New(rand.NewPCG(seed, seed))
		random.Shuffle(len(found.Entities), func(i, j int) {
			found.Entities[i], found.Entities[j] = found.Entities[j], found.Entities[i]
		})
		random.Shuffle(len(found.Problems), func(i, j int) {
			found.Problems[i], found.Problems[j] = found.Problems[j], found.Problems[i]
		})
	}
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	g, problems := catalog.NewGraph(found.Entities, catalog.Ref{})
	p, _, err := plan.Compile(t.Context(), g, lib, append(found.Problems, problems...), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Artifacts
}

// TestGolden compiles each testdata/*.txtar: a sentence, a catalog, and every artifact; of dashboards only the names.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			path, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			want, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := txtar.Archive{Comment: want.Comment}
			for _, f := range want.Files {
				if strings.HasPrefix(f.Name, "catalog/") {
					got.Files = append(got.Files, f)
				}
			}
			artifacts, boards := compile(t, want, 0), ""
			for _, a := range artifacts {
				if a.Kind == plan.KindDashboard {
					boards += a.Path + "\n"
					continue
				}
				got.Files = append(got.Files, txtar.File{Name: "out/" + a.Path, Data: a.Body})
			}
			got.Files = append(got.Files, txtar.File{Name: "boards", Data: []byte(boards)})
			if *update {
				if err := os.WriteFile(path, txtar.Format(&got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if d := cmp.Diff(string(txtar.Format(want)), string(txtar.Format(&got))); d != "" {
				t.Errorf("(-want +got; go test ./plan -update writes it anew):\n%s", d)
			}
			for seed := range uint64(5) {
				if d := cmp.Diff(artifacts, compile(t, want, seed+1)); d != "" {
					t.Errorf("another order of the entities gives other bytes (-want +got):\n%s", d)
				}
			}
		})
	}
}
