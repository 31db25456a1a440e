package gitlab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A forbiddenError says that the token may see a project but not its pipelines. It is no fault of the source: it stays until
// somebody gives the token a role, so it is a problem of the project and not an error of the reading.
type forbiddenError struct{ err error }

func (e *forbiddenError) Error() string { return e.err.Error() }

func (e *forbiddenError) Unwrap() error { return e.err }

// retryForbidden is how long pipelines that may not be read are left alone.
const retryForbidden = time.Hour

// forbidden makes problems of the projects whose pipelines may not be read.
func (s *Source) forbidden(g *catalog.Graph, projects []*claimed) {
	var out []catalog.Problem
	for _, p := range projects {
		entities := []catalog.Ref{g.PlatformOwner()} // of a project below a group that nobody names
		if len(p.claims) > 0 {
			entities = nil
		}
		for _, c := range p.claims {
			entities = append(entities, c.entity)
		}
		for _, ref := range entities {
			annotation := "gitlab.com/project-slug"
			if e := g.Entity(ref); e != nil && e.Annotations[annotation] == "" && len(p.claims) > 0 {
				annotation = "gitlab.com/project-id"
			}
			out = append(out, problem(g, ref, annotation, "gitlab-pipelines-forbidden",
				fmt.Sprintf("GitLab %s does not let the token read the pipelines of %s (403)", s.host, p.Path),
				"give the token's user the role Reporter in the project or its group, and see that CI/CD is enabled there; it is tried again every hour"))
		}
	}
	slices.SortFunc(out, catalog.Problem.Compare)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = out
}

// permitted takes those out of the errors that are no fault of the source, and gives the projects that they are of. When
// nothing at all may be read, that is a fault.
func permitted(failed map[*claimed]error, of int) (errs []error, refused []*claimed) {
	for p, err := range failed {
		if no := (*forbiddenError)(nil); errors.As(err, &no) {
			refused = append(refused, p)
		}
	}
	slices.SortFunc(refused, func(a, b *claimed) int { return strings.Compare(a.Path, b.Path) })
	for p, err := range failed {
		if len(refused) == of || !slices.Contains(refused, p) {
			errs = append(errs, fmt.Errorf("project %s: %w", p.Path, err))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs, refused
}
