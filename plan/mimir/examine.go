package mimir

import (
	"context"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// Examine asks a ruler for the rules of the tenant. Nothing is written, so whether that is allowed is not known.
func Examine(ctx context.Context, c *upstream.Client, o Options) (out upstream.Findings) {
	namespaces, err := New(c, &plan.Plan{}, o).read(ctx, "")
	if err != nil {
		out.Failed("read the rules", err, "check ruler.url, which ends in /config/v1/rules for Mimir and /api/v1/rules for Cortex, and ruler.tenant")
		return out
	}
	ours := 0
	for name := range namespaces {
		if _, ok := pathOf(name); ok {
			ours++
		}
	}
	out.OK("the ruler answers: namespaces of rules: %d, of which %d Sightline's", len(namespaces), ours)
	out.Clock(c)
	return out
}
