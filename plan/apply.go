package plan

import (
	"context"
	"errors"
	"fmt"
)

// A Target is a place outside that artifacts are written to: plan/<target> implements it. Its methods are called one
// after the other.
type Target interface {
	// Name says for people what and where it is, without credentials, such as "grafana https://grafana.example.com".
	Name() string
	// Accepts tells whether the target takes artifacts of a kind.
	Accepts(k Kind) bool
	// Held gives what the target holds that bears Sightline's mark, sorted by path. An artifact that applying would not
	// change has the path and the bytes of the plan's.
	Held(ctx context.Context) ([]Artifact, error)
	// Put makes or changes one artifact, whole or not at all. Something of the same name without Sightline's mark is
	// left alone, and the error wraps ErrForeign; something that was changed meanwhile is an error that wraps
	// ErrConflict. Putting what is there already is no error.
	Put(ctx context.Context, a Artifact) error
	// Remove takes away what Held gave. What is gone already is no error.
	Remove(ctx context.Context, a Artifact) error
}

var (
	// ErrForeign tells that something at the artifact's place is not Sightline's.
	ErrForeign = errors.New("it is not Sightline's")
	// ErrConflict tells that somebody else changed the artifact between reading and writing.
	ErrConflict = errors.New("somebody else changed it meanwhile")
)

// ApplyOptions are the settings of Apply.
type ApplyOptions struct {
	Limits   Limits
	Override bool                           // go on where Guard refuses
	Progress func(done, of int, now string) // called before each write with the artifact's path; may be nil
}

// A Failure is one artifact that could not be written; the others were.
type Failure struct {
	Artifact Artifact
	Err      error
}

// Applied says what Apply did.
type Applied struct {
	Diff   Diff
	Failed []Failure
}

// For gives the artifacts of a plan that a target accepts.
func (p *Plan) For(t Target) []Artifact {
	var out []Artifact
	for _, a := range p.Artifacts {
		if t.Accepts(a.Kind) {
			out = append(out, a)
		}
	}
	return out
}

// Apply makes a target hold what a plan says: it reads what is there, refuses what Guard refuses, writes what differs, and
// removes what is no longer wanted, last. An artifact that cannot be written is a Failure and stops no other; while there
// are failures nothing is removed. The error is for what stops everything. Applying again goes on where an
// interrupted one stopped.
func Apply(ctx context.Context, t Target, p *Plan, o ApplyOptions) (Applied, error) {
	held, err := t.Held(ctx)
	if err != nil {
		return Applied{}, fmt.Errorf("read %s: %w", t.Name(), err)
	}
	done := Applied{Diff: Compare(held, p.For(t))}
	if err := Guard(done.Diff, o.Limits); err != nil && !o.Override {
		return done, fmt.Errorf("%s: %w", t.Name(), err)
	}
	n, of := 0, len(done.Diff.Added)+len(done.Diff.Changed)+len(done.Diff.Removed)
	each := func(list []Change, write func(context.Context, Artifact) error) error {
		for _, c := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			if o.Progress != nil {
				o.Progress(n, of, c.Artifact.Path)
			}
			n++
			if err := write(ctx, c.Artifact); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				done.Failed = append(done.Failed, Failure{c.Artifact, err})
			}
		}
		return nil
	}
	for _, list := range [][]Change{done.Diff.Added, done.Diff.Changed} {
		if err := each(list, t.Put); err != nil {
			return done, err
		}
	}
	if len(done.Failed) > 0 {
		return done, nil
	}
	return done, each(done.Diff.Removed, t.Remove)
}
