package catalog

import "strings"

// Grammar is the grammar of the annotation values, in EBNF.
const Grammar = `objective = percent [ "@" threshold ] | "off" ;
percent   = digits [ "." digits ] ;                  (* 1 <= percent < 100 *)
threshold = digits [ "." digits ] ( "ms" | "s" | "m" | "h" | "d" ) | digits [ "." digits ] ;
window    = digits "d" | digits "w"                                          (* at least 7d *)
          | "calendar-week" | "calendar-month" | "calendar-quarter" ;
indicator = lower { lower | digit | "_" | "-" } ;    (* at most 40 characters *)
selector  = matcher { "," matcher } ;
matcher   = label ( "=" | "!=" | "=~" | "!~" ) string ;
hours     = days clock "-" clock [ zone ] ;
days      = day [ "-" day ] { "," day [ "-" day ] } ;
` + compositeGrammar

// An Annotation describes one key of Sightline's annotations.
type Annotation struct {
	Key     string // after the prefix, e.g. "objective.<indicator>"
	On      string // the kinds it may stand on: "entity", "entity, system, group" or "group, user"
	Example string
	Meaning string
}

const (
	onEntity    = "entity"                // everything but groups, users and locations
	onInherited = "entity, system, group" // the same, and a group or system hands it down
	onOwner     = "group, user"
	onWhole     = "system, group"
)

// AnnotationTable lists all keys that Parse knows, in the order of the documentation.
func AnnotationTable() []Annotation {
	return []Annotation{
		{"profile", onEntity, `http-service`, "which set of indicators applies; the default depends on kind and spec.type"},
		{"objective.<indicator>", onInherited, `"99.9", "99@300ms", "95@10m", "off"`, "target in percent, and for threshold indicators the threshold; off removes a default"},
		{"composite.<name>", onWhole, `"99.9 weighted availability", "worst-of latency"`, "an objective made of others: of every entity of the system, or that the group owns, or of those that are named; see docs/composites.md"},
		{"window", onInherited, `"30d", "calendar-month"`, "budget window of all objectives, at least 7d; calendar weeks, months and quarters are those of slo.timezone in the configuration"},
		{"window.<indicator>", onInherited, `28d`, "budget window of one objective"},
		{"selector", onEntity, `job="checkout",namespace="shop"`, "Prometheus label matchers that find the entity's series, without braces"},
		{"selector.<indicator>", onEntity, `job="checkout-worker"`, "the matchers of one indicator"},
		{"environment", onInherited, `production`, "which environment's matchers (from the configuration) are added; default production"},
		{"tier", onInherited, `"1"`, "\"1\" to \"4\": default targets, severity, paging hours"},
		{"no-traffic", onEntity, `ignore`, "what a window without events means: ignore, good, or bad (bad only for probe, freshness, throughput and time-slice indicators)"},
		{"min-events", onEntity, `"50"`, "fewest events in the long window before an alert may fire"},
		{"alerting", onInherited, `page`, "highest severity of all alerts: page, ticket or off"},
		{"alerting.<indicator>", onInherited, `ticket`, "highest severity of the alerts of one indicator"},
		{"runbook", onEntity, `https://runbooks.example.com/checkout`, "URL that goes on alerts, dashboards and the Backstage tab"},
		{"slo-ref", onEntity, `./slo.yaml`, "OpenSLO v1, sloth prometheus/v1 or Pyrra v1alpha1 document beside catalog-info.yaml"},
		{"slo", onEntity, `{$text: ./slo.yaml}`, "the same document, put in place by Backstage"},
		{"pipelines", onEntity, `all`, "which pipelines of a shared project are this entity's: all, or a name pattern such as deploy-*"},
		{"receiver.<kind>", onOwner, `"#team-pay"`, "where the team's alerts go, for the kinds slack, msteams, pagerduty, opsgenie, email and webhook: a channel, an address or the name of a secret, never a secret"},
		{"office-hours", onOwner, `Mon-Fri 08:00-18:00 Europe/Zurich`, "when tickets may notify"},
	}
}

// ForeignAnnotationTable lists the keys of other tools that Sightline reads. A key that ends in * stands for all that begin
// so.
func ForeignAnnotationTable() []Annotation {
	return []Annotation{
		{"gitlab.com/project-slug", onEntity, `shop/checkout`, "the GitLab project whose pipelines are the entity's"},
		{"gitlab.com/project-id", onEntity, `"4711"`, "the same by its id, which survives a move; it comes before the slug"},
		{"gitlab.com/instance", onEntity, `gitlab.example.com`, "the host of that project, where there are several"},
		{"backstage.io/kubernetes-id", onEntity, `checkout`, "the name in Kubernetes, for default selectors and joins with its metrics"},
		{"backstage.io/kubernetes-namespace", onEntity, `shop`, "kept, not used yet"},
		{"backstage.io/source-location", onEntity, `url:https://gitlab.example.com/shop/checkout/`, "where the entity's repository is"},
		{"backstage.io/orphan", onEntity, `"true"`, "kept, not used yet"},
		{"pagerduty.com/*", "any", `PCHECKOUT`, "kept, not used yet; pagerduty.com/integration-key is a secret and is dropped while loading"},
		{"opsgenie.com/*", "any", `checkout`, "kept, not used yet"},
	}
}

// KeepsAnnotation tells whether Sightline reads the annotation: its own prefix and the foreign keys of the contract.
// Loaders drop all others. PagerDuty's integration key is a secret and is dropped too.
func KeepsAnnotation(key string) bool {
	if strings.HasPrefix(key, Prefix) {
		return true
	}
	switch key {
	case "gitlab.com/project-slug", "gitlab.com/project-id", "gitlab.com/instance", "backstage.io/kubernetes-id",
		"backstage.io/kubernetes-namespace", "backstage.io/source-location", "backstage.io/orphan":
		return true
	case "pagerduty.com/integration-key":
		return false
	}
	return strings.HasPrefix(key, "pagerduty.com/") || strings.HasPrefix(key, "opsgenie.com/")
}
