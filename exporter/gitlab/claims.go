package gitlab

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
)

// A claim is an entity that names a project, and the pipelines of it that are its own.
type claim struct {
	entity  catalog.Ref
	pattern string // "" or "all": every pipeline
}

// claimsOf finds the projects that entities name, by slug in lower case or by "#" and id. An entity that names another
// instance than host is left out; one that names none belongs to the first host of the configuration.
func claimsOf(g *catalog.Graph, host string, first bool) map[string][]claim {
	out := map[string][]claim{}
	for e := range g.Entities() {
		if e.Ref.Kind == "group" || e.Ref.Kind == "user" || e.Ref.Kind == "location" {
			continue
		}
		if instance := e.Annotations["gitlab.com/instance"]; instance == "" && !first || instance != "" && !strings.EqualFold(hostOf(instance), host) {
			continue
		}
		key := strings.ToLower(strings.Trim(e.Annotations["gitlab.com/project-slug"], "/ "))
		if id, err := strconv.ParseInt(strings.TrimSpace(e.Annotations["gitlab.com/project-id"]), 10, 64); err == nil && id > 0 {
			key = "#" + strconv.FormatInt(id, 10)
		}
		if key != "" {
			out[key] = append(out[key], claim{e.Ref, e.Annotations[catalog.Prefix+"pipelines"]})
		}
	}
	return out
}

func hostOf(instance string) string {
	if u, err := url.Parse(instance); err == nil && u.Hostname() != "" {
		return u.Hostname()
	}
	host, _, _ := strings.Cut(instance, "/")
	host, _, _ = strings.Cut(host, ":")
	return host
}

// entityOf says which entity a pipeline of a project belongs to: the one whose pattern matches its name, else the only
// component (or the only entity) that claims the project, else the system that all of them share. The zero Ref means
// that it cannot be told.
func entityOf(g *catalog.Graph, claims []claim, pipelineName string) catalog.Ref {
	match := func(ok func(claim) bool) []claim {
		return slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return !ok(c) })
	}
	component := func(c claim) bool { return c.entity.Kind == "component" }
	patterned := match(func(c claim) bool {
		ok, err := path.Match(c.pattern, pipelineName)
		return c.pattern != "" && c.pattern != "all" && err == nil && ok
	})
	rest := match(func(c claim) bool { return c.pattern == "" || c.pattern == "all" })
	if all := match(func(c claim) bool { return c.pattern == "all" }); len(all) > 0 {
		rest = all
	}
	for _, candidates := range [][]claim{patterned, rest} {
		if len(candidates) > 1 && slices.ContainsFunc(candidates, component) {
			candidates = slices.DeleteFunc(slices.Clone(candidates), func(c claim) bool { return !component(c) })
		}
		switch {
		case len(candidates) == 1:
			return candidates[0].entity
		case len(candidates) > 1:
			return commonSystem(g, candidates)
		}
	}
	return commonSystem(g, claims)
}

func commonSystem(g *catalog.Graph, claims []claim) catalog.Ref {
	var system catalog.Ref
	for i, c := range claims {
		s := g.System(c.entity)
		if i > 0 && s != system {
			return catalog.Ref{}
		}
		system = s
	}
	return system
}
