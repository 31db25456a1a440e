package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// A Target is a folder, written file by file. Make one for each plan; it is not for concurrent use.
type Target struct {
	dir        string
	prometheus *upstream.Client // nil: nobody is told
	wanted     []plan.Artifact
	marked     *manifest // what the manifest says, once it takes in the plan
	before     map[string]bool
}

var _ plan.Target = (*Target)(nil)

// NewTarget makes a target of a plan. The client of the Prometheus that loads the rules may be nil.
func NewTarget(dir string, prometheus *upstream.Client, p *plan.Plan) *Target {
	return &Target{dir: dir, prometheus: prometheus, wanted: p.Artifacts}
}

// Name says which folder is meant.
func (t *Target) Name() string { return "files " + t.dir }

// Accepts takes everything.
func (t *Target) Accepts(plan.Kind) bool { return true }

// Held is Read.
func (t *Target) Held(context.Context) ([]plan.Artifact, error) { return Read(t.dir) }

// mark makes the manifest take in every file of the plan before the first is written, so that a run that is interrupted
// can be repeated.
func (t *Target) mark(root *os.Root) error {
	if t.marked != nil {
		return nil
	}
	m, err := readManifest(root)
	if err != nil {
		return err
	}
	before := map[string]bool{}
	for name := range m.Files {
		before[name] = true
	}
	for _, a := range t.wanted {
		old, err := root.ReadFile(a.Path)
		if err == nil && !before[a.Path] && !bytes.Equal(old, a.Body) {
			continue // somebody else's
		}
		m.Files[a.Path] = hash(a.Body)
	}
	if err := writeManifest(root, m); err != nil {
		return err
	}
	t.marked, t.before = &m, before
	return nil
}

func (t *Target) open() (*os.Root, error) {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make output folder: %w", err)
	}
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return nil, fmt.Errorf("open output folder: %w", err)
	}
	if err := t.mark(root); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// Put replaces one file atomically. A file that the manifest does not list is left alone.
func (t *Target) Put(_ context.Context, a plan.Artifact) error {
	root, err := t.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if old, err := root.ReadFile(a.Path); err == nil {
		if bytes.Equal(old, a.Body) {
			return nil
		}
		if !t.before[a.Path] {
			return fmt.Errorf("%s: %w; move it away", path.Join(t.dir, a.Path), plan.ErrForeign)
		}
	}
	if err := root.MkdirAll(path.Dir(a.Path), 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	return replace(root, a.Path, a.Body)
}

// Remove deletes a file and the folders that it leaves empty. A file that somebody changed is left alone and is an error
// that wraps ErrForeign, once: after that it is theirs.
func (t *Target) Remove(_ context.Context, a plan.Artifact) error {
	root, err := t.open()
	if err != nil {
		return err
	}
	defer root.Close()
	body, err := root.ReadFile(a.Path)
	sum := t.marked.Files[a.Path]
	delete(t.marked.Files, a.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read output folder: %w", err)
	case hash(body) != sum:
		if err := writeManifest(root, *t.marked); err != nil {
			return err
		}
		return fmt.Errorf("%s is no longer planned, but somebody changed it, so it stays: %w", path.Join(t.dir, a.Path), plan.ErrForeign)
	default:
		if err := root.Remove(a.Path); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		for d := path.Dir(a.Path); d != "." && root.Remove(d) == nil; d = path.Dir(d) { // empty folders only
		}
	}
	return writeManifest(root, *t.marked)
}

// Finish tells Prometheus to load what is there.
func (t *Target) Finish(ctx context.Context) error {
	if t.prometheus == nil {
		return nil
	}
	_, err := t.prometheus.Do(ctx, http.MethodPost, "/-/reload", nil, nil)
	return err
}
