// Package files writes a plan to a folder. A manifest in the folder lists what Sightline made there, with a hash of each
// file: nothing that the manifest does not list is ever overwritten or deleted.
package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/plan"
)

// Manifest is the name of the file that marks what is Sightline's.
const Manifest = ".sightline.json"

type manifest struct {
	Files map[string]string `json:"files"` // path to SHA-256 in hex
}

// A Result counts what Write did, in paths.
type Result struct {
	Written, Unchanged, Deleted, Kept []string // Kept: no longer planned, but changed by somebody, so left alone
}

// A ForeignError is a file in the way that Sightline did not make, or that somebody changed.
type ForeignError struct{ Path string }

// Error names the file.
func (e *ForeignError) Error() string { return e.Path + " exists and is not Sightline's" }

// Hint says what to do.
func (e *ForeignError) Hint() string { return "move it away, or choose another --out folder" }

// Read gives the artifacts that the manifest of a folder lists, sorted by path. A folder that does not exist, or has no
// manifest, holds none.
func Read(dir string) ([]plan.Artifact, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open output folder: %w", err)
	}
	defer root.Close()
	m, err := readManifest(root)
	if err != nil {
		return nil, err
	}
	var out []plan.Artifact
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		body, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read output folder: %w", err)
		}
		out = append(out, plan.Artifact{Kind: kindOf(name), Path: name, Body: body})
	}
	return out, nil
}

func kindOf(name string) plan.Kind {
	switch top, _, _ := strings.Cut(name, "/"); top {
	case "rules":
		return plan.KindRules
	case "alertmanager":
		return plan.KindAlertmanager
	case "dashboards":
		return plan.KindDashboard
	default:
		return plan.KindProblems
	}
}

func readManifest(root *os.Root) (manifest, error) {
	m := manifest{Files: map[string]string{}}
	body, err := root.ReadFile(Manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("read manifest %s: %w", Manifest, err)
	}
	return m, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Write makes the folder hold the plan: changed files are replaced one by one, each atomically, and files that are no
// longer planned are deleted when nobody changed them. Before the first change the manifest takes in every file that will
// be written, so that an interrupted Write can be repeated. Symbolic links cannot lead outside the folder.
func Write(ctx context.Context, dir string, p *plan.Plan) (Result, error) {
	var res Result
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return res, fmt.Errorf("make output folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return res, fmt.Errorf("open output folder: %w", err)
	}
	defer root.Close()
	m, err := readManifest(root)
	if err != nil {
		return res, err
	}
	planned := map[string]bool{}
	var change []plan.Artifact
	for _, a := range p.Artifacts {
		planned[a.Path] = true
		old, err := root.ReadFile(a.Path)
		_, ours := m.Files[a.Path]
		switch {
		case err == nil && bytes.Equal(old, a.Body):
			res.Unchanged = append(res.Unchanged, a.Path)
			m.Files[a.Path] = hash(a.Body)
			continue
		case err == nil && !ours:
			return res, &ForeignError{path.Join(dir, a.Path)}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return res, fmt.Errorf("read output folder: %w", err)
		}
		change = append(change, a)
		m.Files[a.Path] = hash(a.Body)
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if !planned[name] {
			gone = append(gone, name)
		}
	}
	if err := writeManifest(root, m); err != nil {
		return res, err
	}
	for _, a := range change {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if err := root.MkdirAll(path.Dir(a.Path), 0o755); err != nil {
			return res, fmt.Errorf("make output folder: %w", err)
		}
		if err := replace(root, a.Path, a.Body); err != nil {
			return res, err
		}
		res.Written = append(res.Written, a.Path)
	}
	for _, name := range gone {
		body, err := root.ReadFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return res, fmt.Errorf("read output folder: %w", err)
		case hash(body) != m.Files[name]:
			res.Kept = append(res.Kept, name)
		default:
			if err := root.Remove(name); err != nil {
				return res, fmt.Errorf("delete: %w", err)
			}
			res.Deleted = append(res.Deleted, name)
			for d := path.Dir(name); d != "." && root.Remove(d) == nil; d = path.Dir(d) { // empty folders only
			}
		}
		delete(m.Files, name)
	}
	return res, writeManifest(root, m)
}

func writeManifest(root *os.Root, m manifest) error {
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	body = append(body, '\n')
	if old, err := root.ReadFile(Manifest); err == nil && bytes.Equal(old, body) {
		return nil
	}
	return replace(root, Manifest, body)
}

// replace writes a file under a temporary name, syncs it and renames it.
func replace(root *os.Root, name string, body []byte) error {
	tmp := name + ".sightline-tmp"
	f, err := root.Create(tmp)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = root.Rename(tmp, name)
	}
	if err != nil {
		root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
