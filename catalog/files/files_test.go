package files

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
)

const valid = `apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: Checkout
  annotations:
    sightline.dev/objective.availability: "99.9"
    other.io/key: dropped
spec: {type: service, lifecycle: production, owner: team-pay, system: shop}
---
apiVersion: v1
kind: ConfigMap
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: team-pay, namespace: Pay}
spec: {type: team, parent: all}
`

func TestParseKeepsRefsAnnotationsAndPlaces(t *testing.T) {
	got, problems := Parse("c.yaml", []byte(valid))
	want := []*catalog.Entity{
		{
			Ref: catalog.NewRef("component", "", "checkout"), Name: "Checkout", Type: "service", Lifecycle: "production",
			Owner: catalog.NewRef("group", "", "team-pay"), System: catalog.NewRef("system", "", "shop"),
			Annotations:         map[string]string{"sightline.dev/objective.availability": "99.9"},
			AnnotationPositions: map[string]catalog.Position{"sightline.dev/objective.availability": {File: "c.yaml", Line: 6, Column: 43}},
			Position:            catalog.Position{File: "c.yaml", Line: 1, Column: 1},
		},
		{
			Ref: catalog.NewRef("group", "pay", "team-pay"), Name: "team-pay", Type: "team", Parent: catalog.NewRef("group", "pay", "all"),
			Annotations: map[string]string{}, AnnotationPositions: map[string]catalog.Position{}, Position: catalog.Position{File: "c.yaml", Line: 13, Column: 1},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entities (-want +got):\n%s", d)
	}
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	tests := []struct {
		name, body, rule string
		line             int
	}{
		{"an unquoted number", "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: a\n  annotations:\n    sightline.dev/tier: 1\n", "annotation-type", 6},
		{"an entity without name", "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {}\n", "entity-name", 1},
		{"broken YAML, at the line before the one that the parser could not end", "a: b\n---\nkey: [unclosed\n", "yaml-syntax", 2},
		{"an owner that is no reference", "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec:\n  owner: 'a b'\n", "entity-reference", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := Parse("c.yaml", []byte(tt.body))
			if len(problems) != 1 || problems[0].Rule != tt.rule || problems[0].Line != tt.line {
				t.Errorf("got %+v, want one problem %s at line %d", problems, tt.rule, tt.line)
			}
		})
	}
}

func TestLoadFindsFilesInFoldersAndGlobsOnce(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "svc", "a")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{filepath.Join(sub, "catalog-info.yaml"): valid, filepath.Join(dir, "README.md"): "no"} {
		if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(t.Context(), []string{dir, filepath.Join(dir, "**", "*.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if got.Files != 1 || len(got.Entities) != 2 {
		t.Errorf("got %d files and %d entities, want 1 and 2", got.Files, len(got.Entities))
	}
	for _, path := range []string{filepath.Join(dir, "missing.yaml"), filepath.Join(dir, "*.none")} {
		if _, err := Load(t.Context(), []string{path}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestDocumentsStayInsideTheFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret.yaml"), []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "svc")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	body := "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: a, annotations: {sightline.dev/slo-ref: ../secret.yaml}}\n"
	name := filepath.Join(sub, "catalog-info.yaml")
	if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Entities[0].Documents) != 0 || len(got.Problems) != 1 || got.Problems[0].Rule != "slo-ref" {
		t.Errorf("got documents %v and problems %+v, want none and one of rule slo-ref", got.Entities[0].Documents, got.Problems)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Fuzz(func(t *testing.T, body []byte) {
		entities, _ := Parse("f.yaml", body)
		for _, e := range entities {
			if e.Ref.IsZero() {
				t.Error("an entity without a ref")
			}
			catalog.Parse(e)
		}
	})
}
