package files

import (
	"slices"

	"github.com/sightline-dev/sightline/catalog"
)

// A link is a relation that stands on its other end: a group's children and members, and dependencyOf.
type link struct {
	from catalog.Ref
	key  string
	to   catalog.Ref
}

// connect puts the links where Backstage's relations have them, and the lists in Backstage's order. A parent that a group
// names itself comes before one that names it as a child; of several of those the first by name counts.
func connect(entities []*catalog.Entity, links []link) {
	byRef := make(map[catalog.Ref]*catalog.Entity, len(entities))
	for _, e := range entities {
		if byRef[e.Ref] == nil {
			byRef[e.Ref] = e
		}
	}
	slices.SortFunc(links, func(a, b link) int { return a.from.Compare(b.from) })
	for _, l := range links {
		e := byRef[l.to]
		switch {
		case e == nil:
		case l.key == "children" && e.Parent.IsZero():
			e.Parent = l.from
		case l.key == "members":
			e.MemberOf = append(e.MemberOf, l.from)
		case l.key == "dependencyOf":
			e.DependsOn = append(e.DependsOn, l.from)
		}
	}
	for _, e := range entities {
		for _, list := range []*[]catalog.Ref{&e.MemberOf, &e.DependsOn} {
			slices.SortFunc(*list, catalog.Ref.Compare)
			*list = slices.Compact(*list)
		}
	}
}
