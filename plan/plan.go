// Package plan joins what the compilers made into one Plan, compares it with what a target holds, and guards against
// dangerous changes. plan/<target> are the only places that change the outside world.
package plan

import "github.com/sightline-dev/sightline/catalog"

// Kind of an artifact.
type Kind string

// The kinds.
const (
	KindRules        Kind = "rules"
	KindAlertmanager Kind = "alertmanager"
	KindDashboard    Kind = "dashboard"
	KindProblems     Kind = "problems"
	KindDocument     Kind = "document" // objectives in a form of others
)

// An Artifact is one generated file or object. Path is slash separated and relative to the output folder.
type Artifact struct {
	Kind  Kind
	Path  string
	Owner catalog.Ref
	Body  []byte
}

// A Plan is everything that a catalog compiles to. Artifacts are sorted by path; equal inputs give identical bytes.
type Plan struct {
	Artifacts []Artifact
	Problems  []catalog.Problem
}
