package grafana

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sightline-dev/sightline/upstream"
)

// needed are the permissions without which no dashboard is written, and teamsToo those that make teams see their folders.
var (
	needed   = []string{"dashboards:create", "dashboards:write", "folders:create"}
	teamsToo = []string{"teams:read", "folders.permissions:read", "folders.permissions:write"}
)

// Examine asks a Grafana for its version and whether the token may write dashboards and folders. The client's base URL is
// Grafana's own.
func Examine(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	var health struct{ Version, Database string }
	if _, err := c.GetJSON(ctx, "/api/health", &health); err != nil {
		out.Failed("ask for its health", err, "check that Grafana runs and that grafana.url is right")
		return out
	}
	if health.Database != "" && health.Database != "ok" {
		out.Error("mend Grafana's database", "its database is %s", health.Database)
	}
	out.OK("Grafana %s answers", health.Version)
	out.Clock(c)
	var may map[string][]string
	_, err := c.GetJSON(ctx, "/api/access-control/user/permissions", &may)
	var status *upstream.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		var org struct{ Name string }
		if _, err := c.GetJSON(ctx, "/api/org", &org); err != nil {
			out.Failed("use the token", err, "check grafana.token_file")
			return out
		}
		out.Skip("", "the token is valid; this Grafana does not tell what it may do")
		return out
	}
	if err != nil {
		out.Failed("ask what the token may do", err, "check grafana.token_file")
		return out
	}
	lacking := func(names []string) string {
		var out []string
		for _, n := range names {
			if _, ok := may[n]; !ok {
				out = append(out, n)
			}
		}
		return strings.Join(out, ", ")
	}
	if l := lacking(needed); l != "" {
		out.Error("give the service account the role Editor", "the token may not write dashboards: it lacks %s", l)
		return out
	}
	out.OK("the token may write dashboards and folders")
	if l := lacking(teamsToo); l != "" {
		out.Warn("give the service account the role Admin, or these permissions: without them teams may not edit what is in their folders", "the token may not give teams their folders: it lacks %s", l)
	}
	return out
}
