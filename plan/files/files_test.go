package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/plan"
)

func planOf(files map[string]string) *plan.Plan {
	p := &plan.Plan{}
	for _, name := range []string{"problems.json", "rules/a/b/c.yaml", "rules/a/b/d.yaml"} {
		if body, ok := files[name]; ok {
			p.Artifacts = append(p.Artifacts, plan.Artifact{Path: name, Body: []byte(body)})
		}
	}
	return p
}

func write(t *testing.T, dir string, files map[string]string) Result {
	t.Helper()
	r, err := Write(t.Context(), dir, planOf(files))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASecondWriteChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	files := map[string]string{"problems.json": "[]", "rules/a/b/c.yaml": "groups: []"}
	if r := write(t, dir, files); len(r.Written) != 2 {
		t.Errorf("first write: %+v", r)
	}
	if r := write(t, dir, files); len(r.Written)+len(r.Deleted) != 0 || len(r.Unchanged) != 2 {
		t.Errorf("second write: %+v", r)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || string(got[1].Body) != "groups: []" || got[1].Kind != plan.KindRules {
		t.Errorf("read back %+v", got)
	}
}

func TestWhatIsNoLongerPlannedGoesUnlessSomebodyChangedIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"problems.json": "[]", "rules/a/b/c.yaml": "c", "rules/a/b/d.yaml": "d"})
	if err := os.WriteFile(filepath.Join(dir, "rules/a/b/d.yaml"), []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := write(t, dir, map[string]string{"problems.json": "[]"})
	if d := cmp.Diff([]string{"rules/a/b/c.yaml"}, r.Deleted); d != "" {
		t.Errorf("deleted (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"rules/a/b/d.yaml"}, r.Kept); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
}

func TestForeignFilesAreNeverTouched(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "problems.json")
	if err := os.WriteFile(foreign, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Write(t.Context(), dir, planOf(map[string]string{"problems.json": "[]"}))
	var f *ForeignError
	if !errors.As(err, &f) {
		t.Fatalf("got error %v, want a *ForeignError", err)
	}
	if b, _ := os.ReadFile(foreign); string(b) != "mine" {
		t.Errorf("the foreign file now holds %q", b)
	}
}

func TestLinksDoNotLeadOutside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "rules")); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), dir, planOf(map[string]string{"rules/a/b/c.yaml": "c"})); err == nil {
		t.Error("a link out of the folder was followed")
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("written outside: %v", entries)
	}
}
