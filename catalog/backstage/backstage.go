// Package backstage loads the catalog from Backstage's catalog API, page by page.
package backstage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// ErrEmpty says that the catalog holds nothing, as right after Backstage's start; the last good one is to be kept.
var ErrEmpty = errors.New("the catalog of Backstage is empty")

const pageSize = 500

// Load reads all entities. Pages that lead in a circle, or a catalog that shrinks while it is read, are errors.
func Load(ctx context.Context, c *upstream.Client) ([]*catalog.Entity, []catalog.Problem, error) {
	var entities []*catalog.Entity
	var problems []catalog.Problem
	reader := newReader()
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
			e, err := reader.entity(it)
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
