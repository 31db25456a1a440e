package catalog

import (
	"iter"
	"slices"
)

// A Graph is an immutable picture of the catalog. It may be read by many goroutines.
type Graph struct {
	entities      []*Entity // sorted by Ref
	byRef         map[Ref]*Entity
	owned         map[Ref][]*Entity // by effective owner, sorted
	inSystem      map[Ref][]*Entity // by system, sorted
	platformOwner Ref
}

// NewGraph makes a Graph of the entities. Of two with the same Ref the first wins and the second is a Problem; so are
// owners that are not there, circles in the tree of groups, and projects that several entities claim. platformOwner owns
// what has no valid owner; it may be zero.
func NewGraph(entities []*Entity, platformOwner Ref) (*Graph, []Problem) {
	g := &Graph{byRef: make(map[Ref]*Entity, len(entities)), owned: map[Ref][]*Entity{}, inSystem: map[Ref][]*Entity{}, platformOwner: platformOwner}
	var problems []Problem
	for _, e := range entities {
		if first, dup := g.byRef[e.Ref]; dup {
			p := entityProblem(e, SeverityError, "entity-duplicate", "", "entity is defined twice; the first definition is used")
			if first.Position.File != "" {
				p.Hint = "remove this one or the one in " + first.Position.File
			}
			problems = append(problems, p)
			continue
		}
		g.byRef[e.Ref] = e
		g.entities = append(g.entities, e)
	}
	slices.SortFunc(g.entities, func(a, b *Entity) int { return a.Ref.Compare(b.Ref) })
	for _, e := range g.entities {
		o := g.Ownership(e.Ref)
		if !o.Owner.IsZero() {
			g.owned[o.Owner] = append(g.owned[o.Owner], e)
		}
		if !e.System.IsZero() && e.System != e.Ref {
			g.inSystem[e.System] = append(g.inSystem[e.System], e)
		}
	}
	problems = slices.Concat(problems, g.ownerProblems(), g.circleProblems(), g.projectProblems())
	for i := range problems {
		problems[i].Owner = g.Owner(problems[i].Entity)
	}
	return g, problems
}

// Len is the number of entities.
func (g *Graph) Len() int { return len(g.entities) }

// Entities gives all entities, sorted by Ref.
func (g *Graph) Entities() iter.Seq[*Entity] { return slices.Values(g.entities) }

// Entity finds one entity; nil when there is none.
func (g *Graph) Entity(r Ref) *Entity { return g.byRef[r] }

// PlatformOwner owns what has no valid owner of its own.
func (g *Graph) PlatformOwner() Ref { return g.platformOwner }

// Ownership says who owns an entity, and why when it is not the owner that the entity names.
type Ownership struct {
	Owner   Ref    // effective owner: the named one when it exists, else the platform owner
	Unowned bool   // there is no valid owner; Owner is the platform owner or zero
	Reason  string // why it is unowned, in words for the user
}

// Ownership finds the owner of an entity. A group or user owns itself. An owner that is not in the catalog, or that
// is neither a group nor a user, does not count.
func (g *Graph) Ownership(r Ref) Ownership {
	e := g.byRef[r]
	switch {
	case e == nil:
		return Ownership{g.platformOwner, true, "the entity is not in the catalog"}
	case r.Kind == "group" || r.Kind == "user":
		return Ownership{Owner: r}
	case e.Owner.IsZero():
		return Ownership{g.platformOwner, true, "the entity names no owner"}
	case e.Owner.Kind != "group" && e.Owner.Kind != "user":
		return Ownership{g.platformOwner, true, "the owner " + e.Owner.String() + " is neither a group nor a user"}
	case g.byRef[e.Owner] == nil:
		return Ownership{g.platformOwner, true, "the owner " + e.Owner.String() + " does not exist in the catalog"}
	}
	return Ownership{Owner: e.Owner}
}

// Owner is the effective owner of an entity (see Ownership); the zero Ref when there is none at all.
func (g *Graph) Owner(r Ref) Ref { return g.Ownership(r).Owner }

// OwnedBy gives the entities whose effective owner is the group or user, sorted by Ref, the owner itself included.
func (g *Graph) OwnedBy(owner Ref) []*Entity { return g.owned[owner] }

// Owners gives every group and user that effectively owns something besides itself, and every group, sorted.
func (g *Graph) Owners() []Ref {
	var out []Ref
	for _, e := range g.entities {
		if e.Ref.Kind == "group" || (e.Ref.Kind == "user" && len(g.owned[e.Ref]) > 1) {
			out = append(out, e.Ref)
		}
	}
	if p := g.platformOwner; !p.IsZero() && g.byRef[p] == nil {
		out = append(out, p)
		slices.SortFunc(out, Ref.Compare)
	}
	return out
}

// System is the system that an entity belongs to (a system belongs to itself); zero when there is none.
func (g *Graph) System(r Ref) Ref {
	if r.Kind == "system" {
		return r
	}
	if e := g.byRef[r]; e != nil {
		return e.System
	}
	return Ref{}
}

// Domain is the domain of an entity's system; zero when there is none.
func (g *Graph) Domain(r Ref) Ref {
	if s := g.byRef[g.System(r)]; s != nil {
		return s.Domain
	}
	return Ref{}
}

// InSystem gives the entities that belong to a system, sorted by Ref, the system itself not included.
func (g *Graph) InSystem(system Ref) []*Entity { return g.inSystem[system] }

// GroupChain gives a group and its ancestors, nearest first. A cycle in the tree ends the chain.
func (g *Graph) GroupChain(group Ref) []Ref {
	var chain []Ref
	for r := group; !r.IsZero() && !slices.Contains(chain, r); {
		e := g.byRef[r]
		if e == nil {
			break
		}
		chain = append(chain, r)
		r = e.Parent
	}
	return chain
}
