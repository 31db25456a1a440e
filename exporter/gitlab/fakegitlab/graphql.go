package fakegitlab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"
)

// schema is the part of GitLab's GraphQL schema that is simulated. A query that uses anything else is refused, as GitLab
// refuses a field that it does not have.
var schema = gqlparser.MustLoadSchema(&ast.Source{Name: "gitlab.graphql", Input: `
scalar Time
type Query { project(fullPath: ID!): Project }
type Project { id: ID! fullPath: ID! pipelines(first: Int, updatedAfter: Time): PipelineConnection }
type PipelineConnection { nodes: [Pipeline] }
type Pipeline { id: ID! status: String! updatedAt: Time }
`})

// maxComplexity is what a query with a token may cost.
const maxComplexity = 250

func (s *Server) graphql(w http.ResponseWriter, r *http.Request, now time.Time) {
	var ask struct {
		Query     string
		Variables map[string]any
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	refuse := func(message string) {
		answer(w, map[string]any{"errors": []any{map[string]any{"message": message}}})
	}
	doc, errs := gqlparser.LoadQueryWithRules(schema, ask.Query, nil)
	if len(errs) > 0 {
		refuse(errs[0].Message)
		return
	}
	vars, err := validator.VariableValues(schema, doc.Operations[0], ask.Variables)
	if err != nil {
		refuse(err.(*gqlerror.Error).Message)
		return
	}
	limit := maxComplexity
	if s.Complexity > 0 {
		limit = s.Complexity
	}
	if c := complexity(doc.Operations[0].SelectionSet, vars); c > limit {
		refuse(fmt.Sprintf("Query has complexity of %d, which exceeds max complexity of %d", c, limit))
		return
	}
	data := map[string]any{}
	for _, f := range doc.Operations[0].SelectionSet {
		field := f.(*ast.Field)
		data[field.Alias] = nil
		path := field.ArgumentMap(vars)["fullPath"]
		i := slices.IndexFunc(s.Projects, func(p *Project) bool { return p.Path == path })
		if i >= 0 {
			data[field.Alias] = s.Projects[i].selected(field.SelectionSet, vars, now)
		}
	}
	answer(w, map[string]any{"data": data})
}

// complexity is GitLab's: a field is 1, and a connection its children and 1 more, by 1 % more for each row that is asked for.
func complexity(set ast.SelectionSet, vars map[string]any) int {
	sum := 0.0
	for _, f := range set {
		field := f.(*ast.Field)
		c := float64(1 + complexity(field.SelectionSet, vars))
		if first, ok := field.ArgumentMap(vars)["first"].(int64); ok {
			c *= 1 + 0.01*float64(first)
		}
		sum += c
	}
	return int(sum)
}

func (p *Project) selected(set ast.SelectionSet, vars map[string]any, now time.Time) map[string]any {
	out := map[string]any{}
	for _, f := range set {
		switch field := f.(*ast.Field); field.Name {
		case "id":
			out[field.Alias] = "gid://gitlab/Project/" + strconv.FormatInt(p.ID, 10)
		case "fullPath":
			out[field.Alias] = p.Path
		case "pipelines":
			nodes := []any{}
			args := field.ArgumentMap(vars)
			text, _ := args["updatedAfter"].(string)
			after, _ := time.Parse(time.RFC3339Nano, text)
			first, limited := args["first"].(int64)
			list := slices.SortedFunc(slices.Values(p.Pipelines), func(a, b *Pipeline) int { return int(b.ID - a.ID) })
			for _, x := range list {
				if x.there(now) && x.updated(now).After(after) && (!limited || len(nodes) < int(first)) {
					nodes = append(nodes, map[string]any{
						"id": "gid://gitlab/Ci::Pipeline/" + strconv.FormatInt(x.ID, 10), "status": x.Status(now),
						"updatedAt": x.updated(now).UTC().Format(time.RFC3339), // whole seconds, as GitLab's
					})
				}
			}
			out[field.Alias] = map[string]any{"nodes": nodes}
		}
	}
	return out
}
