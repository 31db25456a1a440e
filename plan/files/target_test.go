package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sightline-dev/sightline/plan"
)

func TestATargetHoldsWhatThePlanSaysAndLeavesTheRestAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	artifact := func(path, body string) plan.Artifact {
		return plan.Artifact{Kind: plan.KindRules, Path: path, Body: []byte(body)}
	}
	apply := func(list ...plan.Artifact) plan.Applied {
		t.Helper()
		p := &plan.Plan{Artifacts: list}
		done, err := plan.Apply(t.Context(), NewTarget(dir, nil, p), p, plan.ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	write := func(name, body string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(name, want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	a, b := artifact("rules/a/a.yaml", "a"), artifact("rules/b/b.yaml", "b")
	if done := apply(a, b); len(done.Diff.Added) != 2 || len(done.Failed) > 0 {
		t.Errorf("first: %+v", done)
	}
	if done := apply(a, b); !done.Diff.Empty() {
		t.Errorf("second: %+v", done)
	}
	write("theirs.yaml", "theirs")
	done := apply(a, artifact("theirs.yaml", "ours"), artifact("new.yaml", "new"))
	if len(done.Failed) != 1 || !errors.Is(done.Failed[0].Err, plan.ErrForeign) {
		t.Errorf("failures: %v", done.Failed)
	}
	expect("theirs.yaml", "theirs")
	expect("new.yaml", "new")
	expect("rules/b/b.yaml", "b") // nothing is removed while there are failures
	write("new.yaml", "changed")
	done = apply(a)
	if len(done.Failed) != 1 || !errors.Is(done.Failed[0].Err, plan.ErrForeign) {
		t.Errorf("failures: %v", done.Failed)
	}
	expect("new.yaml", "changed")
	expect("rules/b/b.yaml", "")
	if _, err := os.Stat(filepath.Join(dir, "rules/b")); !os.IsNotExist(err) {
		t.Errorf("the empty folder stays: %v", err)
	}
	if done := apply(a); !done.Diff.Empty() || len(done.Failed) > 0 {
		t.Errorf("a file that is theirs is still looked at: %+v", done)
	}
	if res, err := Write(t.Context(), dir, &plan.Plan{Artifacts: []plan.Artifact{a}}); err != nil || len(res.Unchanged) != 1 || len(res.Written) > 0 {
		t.Errorf("generate sees %+v, %v", res, err)
	}
}
