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

func TestDocumentsStayInsideTheCatalogsFolder(t *testing.T) {
	tests := []struct {
		name, annotation, path, problem, want string // path is what Load is given; "" for the file itself
	}{
		{"beside the file", "sightline.dev/slo-ref: ./slo.yaml", "", "", "beside"},
		{"in a folder below", "sightline.dev/slo-ref: more/slo.yaml", "", "", "below"},
		{"put in place as Backstage does", "sightline.dev/slo: {$text: ./slo.yaml}", "", "", "beside"},
		{"above the file but inside the folder that was named", "sightline.dev/slo-ref: ../shared.yaml", "catalog", "", "shared"},
		{"above the file but inside the glob's folder", "sightline.dev/slo-ref: ../shared.yaml", "catalog/**/catalog-info.yaml", "", "shared"},
		{"above a file that was named alone", "sightline.dev/slo-ref: ../shared.yaml", "", "../shared.yaml is outside the catalog's folder", ""},
		{"above the folder that was named", "sightline.dev/slo-ref: ../../secret.yaml", "catalog", "../../secret.yaml is outside the catalog's folder", ""},
		{"an absolute path", "sightline.dev/slo-ref: /etc/hosts", "catalog", "/etc/hosts is outside the catalog's folder", ""},
		{"a link that leads outside", "sightline.dev/slo-ref: ./link.yaml", "catalog", "./link.yaml cannot be read: statat svc/link.yaml: path escapes from parent", ""},
		{"a folder", "sightline.dev/slo-ref: ./more", "", "./more is no file of at most 1 MiB", ""},
		{"nothing", "sightline.dev/slo-ref: ./missing.yaml", "", "./missing.yaml does not exist", ""},
		{"two documents", "{sightline.dev/slo: {$text: ./more/slo.yaml}, sightline.dev/slo-ref: ./slo.yaml}", "", "slo and slo-ref both name a document; slo-ref is used", "beside"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "catalog", "svc", "more"), 0o755); err != nil {
				t.Fatal(err)
			}
			annotations := tt.annotation
			if annotations[0] != '{' {
				annotations = "{" + annotations + "}"
			}
			for name, body := range map[string]string{
				"secret.yaml": "secret", "catalog/shared.yaml": "shared", "catalog/svc/slo.yaml": "beside", "catalog/svc/more/slo.yaml": "below",
				"catalog/svc/catalog-info.yaml": "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: a, annotations: " + annotations + "}\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(filepath.Join(dir, "secret.yaml"), filepath.Join(dir, "catalog", "svc", "link.yaml")); err != nil {
				t.Fatal(err)
			}
			path := tt.path
			if path == "" {
				path = "catalog/svc/catalog-info.yaml"
			}
			got, err := Load(t.Context(), []string{filepath.Join(dir, path)})
			if err != nil {
				t.Fatal(err)
			}
			document, problem := "", ""
			for _, body := range got.Entities[0].Documents {
				document += string(body)
			}
			for _, p := range got.Problems {
				problem += p.Message
			}
			if document != tt.want || problem != tt.problem {
				t.Errorf("got document %q and problem %q, want %q and %q", document, problem, tt.want, tt.problem)
			}
		})
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
