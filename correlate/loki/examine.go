package loki

import (
	"context"
	"net/http"

	"github.com/sightline-dev/sightline/upstream"
)

// Examine asks a Loki for the labels of the last hours, as somebody who reads lines does. Nothing is written.
func Examine(ctx context.Context, c *upstream.Client, tenant string) (out upstream.Findings) {
	header := http.Header{}
	if tenant != "" {
		header.Set("X-Scope-OrgID", tenant)
	}
	var answer struct{ Status string }
	switch err := c.GetJSONWith(ctx, "/loki/api/v1/labels", header, &answer); {
	case err != nil:
		out.Failed("ask for labels", err, "check that Loki runs, that logs.url is what stands before /loki/api/v1, and logs.tenant")
		return out
	case answer.Status != "success":
		out.Error("check that logs.url is a Loki", "its answer is not one of Loki's")
		return out
	}
	out.OK("Loki answers")
	out.Clock(c)
	return out
}
