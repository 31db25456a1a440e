// Package catalog holds the software catalog as Sightline sees it: entities, who owns them, and what their
// annotations ask for. A Graph is immutable; everything that is wrong in a user's catalog is a Problem, not an error.
package catalog

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Ref names an entity, as in "component:default/checkout". Refs made by NewRef and ParseRef are lower-cased,
// so two spellings of one entity compare equal.
type Ref struct{ Kind, Namespace, Name string }

// NewRef makes a lower-cased Ref. An empty namespace means "default".
func NewRef(kind, namespace, name string) Ref {
	if namespace == "" {
		namespace = "default"
	}
	return Ref{strings.ToLower(kind), strings.ToLower(namespace), strings.ToLower(name)}
}

// ParseRef reads "[kind:][namespace/]name"; what is left out comes from defaultKind and the namespace "default".
func ParseRef(s, defaultKind string) (Ref, error) {
	kind, rest, ok := strings.Cut(s, ":")
	if !ok {
		kind, rest = defaultKind, s
	}
	namespace, name, ok := strings.Cut(rest, "/")
	if !ok {
		namespace, name = "default", rest
	}
	if !isRefPart(kind) || !isRefPart(namespace) || !isRefPart(name) {
		return Ref{}, fmt.Errorf("%q is not an entity reference like \"component:default/checkout\"", s)
	}
	return NewRef(kind, namespace, name), nil
}

// isRefPart tells whether s can be a part of a reference: printable, without space and the two separators.
func isRefPart(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool {
		return c == ':' || c == '/' || unicode.IsSpace(c) || !unicode.IsPrint(c)
	})
}

// String gives the full form, "kind:namespace/name", or "" for the zero Ref.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	return r.Kind + ":" + r.Namespace + "/" + r.Name
}

// Dotted gives "kind.namespace.name", the form used in file names and in the label sloth_service.
func (r Ref) Dotted() string { return r.Kind + "." + r.Namespace + "." + r.Name }

// IsZero tells whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Compare orders refs by kind, namespace and name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Name, o.Name))
}

// MarshalText and UnmarshalText use the full form, so a Ref is a JSON string and a JSON map key.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the full form; the empty text is the zero Ref.
func (r *Ref) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = Ref{}
		return nil
	}
	ref, err := ParseRef(string(b), "")
	if err != nil {
		return err
	}
	*r = ref
	return nil
}
