package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func entityProblem(e *Entity, severity Severity, rule, hint, format string, args ...any) Problem {
	return Problem{
		Severity: severity, Entity: e.Ref, File: e.Position.File, Line: e.Position.Line, Column: e.Position.Column,
		Rule: rule, Hint: hint, Message: fmt.Sprintf(format, args...),
	}
}

// ownerProblems finds owners that do not exist or cannot own. A catalog without any group or user is a part of one, whose
// owners stand elsewhere.
func (g *Graph) ownerProblems() []Problem {
	owners := map[string]Ref{} // by name; of a group and a user with one name, the group
	for _, e := range g.entities {
		if _, taken := owners[e.Ref.Name]; !taken && (e.Ref.Kind == "group" || e.Ref.Kind == "user") {
			owners[e.Ref.Name] = e.Ref
		}
	}
	names := slices.Sorted(maps.Keys(owners))
	var out []Problem
	hints := map[Ref]string{} // a group that is gone left many entities behind
	for _, e := range g.entities {
		o := g.Ownership(e.Ref)
		switch {
		case !o.Unowned || e.Owner.IsZero() || len(owners) == 0:
		case e.Owner.Kind != "group" && e.Owner.Kind != "user":
			out = append(out, entityProblem(e, SeverityWarning, "owner-kind", "name a group", "%s", o.Reason))
		default:
			hint, known := hints[e.Owner]
			if !known {
				hint = "name a group that exists, or add this one to the catalog"
				if near := nearest(e.Owner.Name, names); near != "" {
					hint = fmt.Sprintf("did you mean %s?", owners[near])
				}
				hints[e.Owner] = hint
			}
			out = append(out, entityProblem(e, SeverityWarning, "owner-missing", hint, "%s", o.Reason))
		}
	}
	return out
}

// circleProblems finds groups that are their own ancestors, one Problem for each circle, at its first group.
func (g *Graph) circleProblems() []Problem {
	var out []Problem
	done := map[Ref]bool{}
	for _, e := range g.entities {
		if e.Ref.Kind != "group" {
			continue
		}
		var way []Ref
		r := e.Ref
		for !done[r] && g.byRef[r] != nil {
			done[r] = true
			way = append(way, r)
			r = g.byRef[r].Parent
		}
		i := slices.Index(way, r)
		if i < 0 {
			continue
		}
		circle := way[i:]
		first := slices.MinFunc(circle, Ref.Compare)
		i = slices.Index(circle, first)
		names := make([]string, 0, len(circle)+1)
		for _, r := range slices.Concat(circle[i:], circle[:i], circle[i:i+1]) {
			names = append(names, r.String())
		}
		out = append(out, entityProblem(g.byRef[first], SeverityWarning, "group-circle", "remove one of the parents", "the parents of groups lead in a circle: %s", strings.Join(names, " → ")))
	}
	return out
}

// projectProblems finds GitLab projects of which several entities claim the same pipelines. Components come before other
// kinds, and "all" before saying nothing: an API or a template beside one component is no question.
func (g *Graph) projectProblems() []Problem {
	type claim struct{ instance, project, pipelines string }
	claims := map[claim][]*Entity{}
	var order []claim
	for _, e := range g.entities {
		_, project := projectOf(e)
		if project == "" || e.Ref.Kind == "group" || e.Ref.Kind == "user" {
			continue
		}
		instance := strings.ToLower(strings.Trim(strings.TrimPrefix(e.Annotations["gitlab.com/instance"], "https://"), "/ "))
		c := claim{instance, project, strings.TrimSpace(e.Annotations[Prefix+"pipelines"])}
		if claims[c] == nil {
			order = append(order, c)
		}
		claims[c] = append(claims[c], e)
	}
	var out []Problem
	for _, c := range order {
		same := claims[c]
		if slices.ContainsFunc(same, isComponent) {
			same = slices.DeleteFunc(slices.Clone(same), func(e *Entity) bool { return !isComponent(e) })
		}
		if len(same) < 2 || c.pipelines == "" && claims[claim{c.instance, c.project, "all"}] != nil {
			continue
		}
		counts := "they count for nobody, because the entities are not of one system"
		if s := g.commonSystem(same); !s.IsZero() {
			counts = "they count for " + s.String()
		}
		for i, e := range same {
			other := same[0]
			if i == 0 {
				other = same[1]
			}
			key, _ := projectOf(e)
			what := "pipelines"
			if c.pipelines != "" {
				key, what = Prefix+"pipelines", fmt.Sprintf("pipelines (%s)", c.pipelines)
			}
			p := entityProblem(e, SeverityWarning, "project-shared",
				fmt.Sprintf("give each entity the names of its own pipelines, such as %spipelines: %q", Prefix, e.Ref.Name+"-*"),
				"the %s of the GitLab project %s are claimed by %d entities, one of them %s; %s", what, c.project, len(same), other.Ref, counts)
			p.Annotation = key
			if at, ok := e.AnnotationPositions[key]; ok {
				p.File, p.Line, p.Column = at.File, at.Line, at.Column
			}
			out = append(out, p)
		}
	}
	return out
}

// projectOf is the GitLab project that an entity names, by id or by slug, and the annotation that does.
func projectOf(e *Entity) (annotation, project string) {
	if id := strings.TrimSpace(e.Annotations["gitlab.com/project-id"]); id != "" {
		return "gitlab.com/project-id", id
	}
	return "gitlab.com/project-slug", strings.ToLower(strings.Trim(e.Annotations["gitlab.com/project-slug"], "/ "))
}

func isComponent(e *Entity) bool { return e.Ref.Kind == "component" }

// commonSystem is the system that all entities belong to; zero when there is none.
func (g *Graph) commonSystem(entities []*Entity) Ref {
	system := g.System(entities[0].Ref)
	for _, e := range entities[1:] {
		if g.System(e.Ref) != system {
			return Ref{}
		}
	}
	return system
}
