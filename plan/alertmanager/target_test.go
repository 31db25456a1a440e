package alertmanager

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/config"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// A server reloads a file as Alertmanager does: 500 where it does not load, and the old configuration stays.
type server struct {
	file    string
	down    bool
	reloads int
	loaded  string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/-/reload" {
		http.NotFound(w, r)
		return
	}
	s.reloads++
	file, err := os.ReadFile(s.file)
	if err == nil {
		_, err = config.Load(string(file))
	}
	if s.down {
		err = errors.New("out of order")
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("failed to reload config: %s", err), http.StatusInternalServerError)
		return
	}
	s.loaded = string(file)
}

func start(t *testing.T, file string) (*server, *upstream.Client) {
	t.Helper()
	s := &server{file: filepath.Join(t.TempDir(), "alertmanager.yml")}
	if err := os.WriteFile(s.file, []byte(file), 0o640); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func planOf(body []byte) *plan.Plan {
	return &plan.Plan{Artifacts: []plan.Artifact{{Kind: plan.KindAlertmanager, Path: "alertmanager/alertmanager.yml", Body: body}}}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAFileIsWrittenLoadedLeftAloneAndCleaned(t *testing.T) {
	s, c := start(t, plainFile)
	link := filepath.Join(t.TempDir(), "link.yml")
	if err := os.Symlink(s.file, link); err != nil {
		t.Fatal(err)
	}
	apply := func(p *plan.Plan) plan.Diff {
		t.Helper()
		done, err := plan.Apply(t.Context(), New(link, c, p), p, plan.ApplyOptions{})
		if err != nil || len(done.Failed) > 0 {
			t.Fatal(err, done.Failed)
		}
		return done.Diff
	}
	p := planOf(generated(t, true))
	if d := apply(p); len(d.Added) != 1 {
		t.Errorf("the first time: %+v", d)
	}
	if !strings.Contains(s.loaded, "sightline/group:default/team-pay") || s.loaded != read(t, s.file) {
		t.Errorf("Alertmanager loaded:\n%s", s.loaded)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the symbolic link is gone: %v", err)
	}
	if info, err := os.Stat(s.file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the permissions are %v, %v", info.Mode(), err)
	}
	if d := apply(p); !d.Empty() || s.reloads != 1 {
		t.Errorf("the second time: %+v, %d reloads", d, s.reloads)
	}
	if d := apply(planOf(generated(t, true, "team-new"))); len(d.Changed) != 1 || !strings.Contains(d.Changed[0].Unified, "+    - name: sightline/group:default/team-new") ||
		strings.Contains(d.Changed[0].Unified, "\n-") && strings.Count(d.Changed[0].Unified, "\n-") > 1 {
		t.Errorf("a new team: %+v", d)
	}
	apply(&plan.Plan{})
	if d := cmp.Diff(plainFile, s.loaded); d != "" {
		t.Errorf("after removal (-want +got):\n%s", d)
	}
	if left, _ := filepath.Glob(filepath.Dir(s.file) + "/*"); !slices.Equal(left, []string{s.file}) {
		t.Errorf("files that are left: %q", left)
	}
}

func TestWhatAlertmanagerRefusesIsRolledBack(t *testing.T) {
	s, c := start(t, plainFile)
	s.down = true
	p := planOf(generated(t, true))
	done, err := plan.Apply(t.Context(), New(s.file, c, p), p, plan.ApplyOptions{})
	if err != nil || len(done.Failed) != 1 {
		t.Fatal(err, done.Failed)
	}
	if err := done.Failed[0].Err.Error(); !strings.Contains(err, "the old one is back") || !strings.Contains(err, "out of order") {
		t.Errorf("the failure says %q", err)
	}
	if d := cmp.Diff(plainFile, read(t, s.file)); d != "" {
		t.Errorf("the file (-want +got):\n%s", d)
	}
	s.down = false
	if done, err := plan.Apply(t.Context(), New(s.file, c, p), p, plan.ApplyOptions{}); err != nil || len(done.Failed) > 0 || s.loaded == "" {
		t.Errorf("it does not work again: %v %v", err, done.Failed)
	}
}

func TestARunThatEndedBeforeTheReloadIsFinishedByTheNext(t *testing.T) {
	s, c := start(t, plainFile)
	gen := generated(t, true)
	merged, err := Merge([]byte(plainFile), gen)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{s.file + backup: []byte(plainFile), s.file: merged} {
		if err := os.WriteFile(name, body, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	p := planOf(gen)
	done, err := plan.Apply(t.Context(), New(s.file, c, p), p, plan.ApplyOptions{})
	if err != nil || len(done.Failed) > 0 || len(done.Diff.Changed) != 1 || s.loaded != string(merged) {
		t.Errorf("%v %+v, loaded:\n%s", err, done, s.loaded)
	}
}

func TestAFileThatSomebodyChangesMeanwhileIsAConflict(t *testing.T) {
	s, c := start(t, plainFile)
	p := planOf(generated(t, true))
	target := New(s.file, c, p)
	if _, err := target.Held(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "# mine\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := target.Put(t.Context(), p.Artifacts[0]); !errors.Is(err, plan.ErrConflict) {
		t.Errorf("error %v", err)
	}
}
