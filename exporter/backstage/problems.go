package backstage

import (
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
)

// The rules of the problems with Backstage's metrics.
const (
	ruleBuckets    = "backstage-buckets"
	ruleMissing    = "backstage-metrics-missing"
	ruleRepeated   = "backstage-exposition"
	ruleUser       = "backstage-user-label"
	ruleBoth       = "backstage-both-registries"
	ruleRoutes     = "backstage-routes"
	rulePromClient = "backstage-prom-client"
	ruleNames      = "backstage-names"
	ruleBroken     = "backstage-broken-series"
)

// bothRegistries tells whether the metrics of Backstage's own come from OpenTelemetry and from prom-client at once.
func bothRegistries(replicas []*replica) bool {
	otel, promClient := false, false
	for _, r := range replicas {
		if r.last != nil && r.last.own {
			promClient = promClient || r.last.promClient
			otel = otel || r.last.otel
		}
	}
	return otel && promClient
}

// problems checks the last good readings. One problem names all replicas that have it.
func problems(replicas []*replica, owner catalog.Ref, both bool) []catalog.Problem {
	type finding struct {
		catalog.Problem
		where []string
	}
	found := map[string]*finding{}
	add := func(r *replica, severity catalog.Severity, rule, message, hint string) {
		f := found[rule+message]
		if f == nil {
			f = &finding{Problem: catalog.Problem{Severity: severity, Owner: owner, Rule: rule, Message: message, Hint: hint}}
			found[rule+message] = f
		}
		f.where = append(f.where, r.label)
	}
	for _, r := range replicas {
		l := r.last
		if l == nil {
			continue
		}
		own := slices.DeleteFunc(slices.Clone(l.coarse), func(name string) bool { return strings.HasPrefix(name, "http_") })
		if len(own) > 0 {
			add(r, catalog.SeverityWarning, ruleBuckets, "no bucket between 0 and 5 seconds in "+strings.Join(own, ", ")+": no latency objective can be measured",
				"give the OpenTelemetry SDK a view with explicit buckets for these metrics")
		}
		if l.http && !l.own {
			add(r, catalog.SeverityWarning, ruleMissing, "there are HTTP metrics, but none of Backstage's own: its meters do not reach the SDK",
				"let the SDK and Backstage use one version of @opentelemetry/api (see `npm ls @opentelemetry/api`)")
		}
		if len(l.repeated) > 0 {
			add(r, catalog.SeverityWarning, ruleRepeated, "the exposition is not valid, because it repeats "+strings.Join(l.repeated, ", ")+": other readers may refuse it",
				"use @opentelemetry/exporter-prometheus 0.301 or later")
		}
		if l.user {
			add(r, catalog.SeverityWarning, ruleUser, "scaffolder metrics carry the label user, which is personal data; it is dropped here",
				"drop it wherever else these metrics are scraped, or upgrade plugin-scaffolder-backend to 4.2 or later")
		}
		if both && l.own && l.promClient {
			add(r, catalog.SeverityWarning, ruleBoth, "both of Backstage's registries are read; what prom-client repeats is left out",
				"take the prom-client endpoint out of sources.backstage.metrics_urls, and scrape only one of them elsewhere")
		} else if l.promClient {
			add(r, catalog.SeverityInfo, rulePromClient, "Backstage's own metrics come from prom-client, which is deprecated and has no histograms of the catalog",
				"load OpenTelemetry with a Prometheus exporter and read that endpoint")
		}
		if l.noPlugin {
			add(r, catalog.SeverityWarning, ruleRoutes, "HTTP routes do not tell the plugin; its requests count as the plugin "+unknownPlugin,
				"upgrade @opentelemetry/sdk-node to 0.208 or later")
		}
		if l.capped {
			add(r, catalog.SeverityWarning, ruleNames, "there are too many plugins, tasks, templates or results; those beyond the first 200 count as other", "")
		}
		if len(l.broken) > 0 {
			add(r, catalog.SeverityWarning, ruleBroken, "series of "+strings.Join(l.broken, ", ")+" are not sound and left out", "")
		}
	}
	var out []catalog.Problem
	for _, f := range found {
		f.Message = "Backstage " + strings.Join(f.where, ", ") + ": " + f.Message
		out = append(out, f.Problem)
	}
	slices.SortFunc(out, catalog.Problem.Compare)
	return out
}
