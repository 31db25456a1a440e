package alertmanager

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/upstream"
)

// A loadedRoute is as much of a route as tells where alerts go.
type loadedRoute struct {
	Receiver string        `yaml:"receiver"`
	Routes   []loadedRoute `yaml:"routes"`
}

// A loadedConfig is as much of a configuration of Alertmanager as tells where alerts go.
type loadedConfig struct {
	Route     loadedRoute `yaml:"route"`
	Receivers []struct {
		Name string `yaml:"name"`
	} `yaml:"receivers"`
}

// own are the receivers of Sightline's that alerts are routed to.
func (c *loadedConfig) own() map[string]bool {
	defined, out := map[string]bool{}, map[string]bool{}
	for _, r := range c.Receivers {
		defined[r.Name] = true
	}
	var walk func(loadedRoute)
	walk = func(r loadedRoute) {
		if strings.HasPrefix(r.Receiver, prefix) && defined[r.Receiver] {
			out[r.Receiver] = true
		}
		for _, below := range r.Routes {
			walk(below)
		}
	}
	walk(c.Route)
	return out
}

// Examine asks an Alertmanager what it has loaded, and looks for the receivers and routes of generated, the configuration
// that the plan holds; nil: none is wanted.
func Examine(ctx context.Context, c *upstream.Client, generated []byte) (out upstream.Findings) {
	var status struct {
		Cluster     struct{ Status string }
		VersionInfo struct{ Version string }
		Config      struct{ Original string }
	}
	if _, err := c.GetJSON(ctx, "/api/v2/status", &status); err != nil {
		out.Failed("ask for its status", err, "check that Alertmanager runs and that alertmanager.url is right")
		return out
	}
	out.OK("Alertmanager %s answers", cmp.Or(status.VersionInfo.Version, "of unknown version"))
	out.Clock(c)
	if status.Cluster.Status != "" && status.Cluster.Status != "ready" && status.Cluster.Status != "disabled" {
		out.Warn("check --cluster.peer, and that the replicas reach each other", "its cluster is %s: alerts may be sent twice, or late", status.Cluster.Status)
	}
	var loaded, wanted loadedConfig
	if err := yaml.Unmarshal([]byte(status.Config.Original), &loaded); err != nil || loaded.Route.Receiver == "" {
		out.Error("check that alertmanager.url is an Alertmanager", "the configuration that it says to have loaded has no route")
		return out
	}
	if err := yaml.Unmarshal(generated, &wanted); err != nil {
		out.Failed("read what was generated", err, "")
		return out
	}
	want, have := wanted.own(), loaded.own()
	if len(want) == 0 {
		return out
	}
	var missing []string
	for name := range want {
		if !have[name] {
			missing = append(missing, strings.TrimPrefix(name, prefix))
		}
	}
	slices.Sort(missing)
	const hint = "load it: `sightline apply` with alertmanager.file, or the alertmanager.yml of `sightline generate`"
	switch {
	case len(missing) == len(want):
		out.Error(hint, "none of the %d receivers and routes for owners is loaded: their alerts go to %s", len(want), loaded.Route.Receiver)
	case len(missing) > 3:
		out.Error(hint, "%d of %d receivers and routes for owners are not loaded, such as %s", len(missing), len(want), missing[0])
	case len(missing) > 0:
		out.Error(hint, "%d of %d receivers and routes for owners are not loaded: %s", len(missing), len(want), strings.Join(missing, ", "))
	default:
		out.OK("the receivers and routes of all owners are loaded (%d)", len(want))
	}
	return out
}
