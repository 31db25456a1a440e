package plan

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// A Change is a new, changed or removed artifact.
type Change struct {
	Artifact Artifact // the new one; the old one of a removal
	Unified  string   // unified diff of a changed artifact
}

// A Diff says how two lists of artifacts differ, each list sorted by path.
type Diff struct {
	Added, Changed, Removed []Change
	Unchanged               []Artifact
	old                     int
}

// Empty tells whether nothing differs.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Changed)+len(d.Removed) == 0 }

// Compare finds what turns the old artifacts into the new ones.
func Compare(old, new []Artifact) Diff {
	d := Diff{old: len(old)}
	before := make(map[string]Artifact, len(old))
	for _, a := range old {
		before[a.Path] = a
	}
	for _, a := range new {
		was, ok := before[a.Path]
		delete(before, a.Path)
		switch {
		case !ok:
			d.Added = append(d.Added, Change{Artifact: a})
		case bytes.Equal(was.Body, a.Body):
			d.Unchanged = append(d.Unchanged, a)
		default:
			d.Changed = append(d.Changed, Change{a, string(diff.Diff("a/"+a.Path, was.Body, "b/"+a.Path, a.Body))})
		}
	}
	for _, a := range before {
		d.Removed = append(d.Removed, Change{Artifact: a})
	}
	byPath := func(a, b Change) int { return strings.Compare(a.Artifact.Path, b.Artifact.Path) }
	slices.SortFunc(d.Added, byPath)
	slices.SortFunc(d.Changed, byPath)
	slices.SortFunc(d.Removed, byPath)
	return d
}

// Limits say how much a plan may take away at once.
type Limits struct {
	Share float64 // of the old artifacts; 0 means 0.3
	Least int     // so many may always go; 0 means 5
}

// ErrGuard is what Guard's errors wrap.
var ErrGuard = errors.New("refused as dangerous")

// Guard refuses a diff that removes more than the limits allow, which is also what a catalog that shrank by a fault
// upstream looks like.
func Guard(d Diff, l Limits) error {
	if l.Share == 0 {
		l.Share = 0.3
	}
	if l.Least == 0 {
		l.Least = 5
	}
	if n := len(d.Removed); n > l.Least && float64(n) > l.Share*float64(d.old) {
		return fmt.Errorf("%w: %d of %d artifacts would be removed; the catalog may be incomplete", ErrGuard, n, d.old)
	}
	return nil
}
