// Package backstage loads the catalog from Backstage's catalog API, page by page.
package backstage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// ErrEmpty says that the catalog holds nothing, as right after Backstage's start; the last good one is to be kept.
var ErrEmpty = errors.New("the catalog of Backstage is empty")

const pageSize = 500

// fields are what is asked for; they must be repeated with every cursor.
const fields = "kind,metadata.name,metadata.namespace,metadata.title,metadata.description,metadata.annotations," +
	"spec.type,spec.lifecycle,spec.owner,spec.system,spec.domain,spec.parent,spec.memberOf,relations"

type page struct {
	Items      []item
	TotalItems *int
	PageInfo   struct{ NextCursor string }
}

type item struct {
	Kind     string
	Metadata struct {
		Name, Namespace, Title, Description string
		Annotations                         map[string]string
	}
	Spec struct {
		Type, Lifecycle string
	}
	Relations []struct{ Type, TargetRef string }
}

// Load reads all entities. Pages that lead in a circle, or a catalog that shrinks while it is read, are errors.
func Load(ctx context.Context, c *upstream.Client) ([]*catalog.Entity, []catalog.Problem, error) {
	var entities []*catalog.Entity
	var problems []catalog.Problem
	query := url.Values{"fields": {fields}, "limit": {strconv.Itoa(pageSize)}}
	seen, total := map[string]bool{}, -1
	for {
		var p page
		if _, err := c.GetJSON(ctx, "/api/catalog/entities/by-query?"+query.Encode(), &p); err != nil {
			return nil, nil, fmt.Errorf("read catalog: %w", err)
		}
		if p.TotalItems == nil {
			return nil, nil, errors.New("read catalog: the answer has no totalItems: is this Backstage's catalog API?")
		}
		total = max(total, *p.TotalItems)
		for _, it := range p.Items {
			e, err := entity(it)
			switch {
			case err != nil:
				problems = append(problems, catalog.Problem{Severity: catalog.SeverityWarning, Rule: "entity-name", Message: err.Error()})
			case e.Ref.Kind != "location":
				entities = append(entities, e)
			}
		}
		next := p.PageInfo.NextCursor
		if next == "" || len(p.Items) == 0 {
			break
		}
		if seen[next] {
			return nil, nil, errors.New("read catalog: Backstage's pages lead in a circle")
		}
		seen[next] = true
		query = url.Values{"fields": {fields}, "limit": {strconv.Itoa(pageSize)}, "cursor": {next}}
	}
	if len(entities) == 0 {
		return nil, nil, ErrEmpty
	}
	return entities, problems, nil
}

// entity takes over what Sightline reads. Owner, system and the like come from the relations, which are normalised.
func entity(it item) (*catalog.Entity, error) {
	namespace := it.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	ref, err := catalog.ParseRef(it.Kind+":"+namespace+"/"+it.Metadata.Name, "")
	if err != nil {
		return nil, err
	}
	e := &catalog.Entity{
		Ref: ref, Name: it.Metadata.Name, Title: it.Metadata.Title, Description: it.Metadata.Description,
		Type: it.Spec.Type, Lifecycle: it.Spec.Lifecycle, Annotations: map[string]string{},
	}
	for k, v := range it.Metadata.Annotations {
		if catalog.KeepsAnnotation(k) {
			e.Annotations[k] = v
		}
	}
	for _, r := range it.Relations {
		target, err := catalog.ParseRef(r.TargetRef, "")
		if err != nil {
			continue
		}
		switch {
		case r.Type == "ownedBy" && e.Owner.IsZero():
			e.Owner = target
		case r.Type == "partOf" && target.Kind == "system":
			e.System = target
		case r.Type == "partOf" && target.Kind == "domain":
			e.Domain = target
		case r.Type == "childOf" && strings.EqualFold(target.Kind, "group"):
			e.Parent = target
		case r.Type == "memberOf":
			e.MemberOf = append(e.MemberOf, target)
		case r.Type == "dependsOn":
			e.DependsOn = append(e.DependsOn, target)
		}
	}
	return e, nil
}
