package catalog

// An ObjectiveSetting is the value of one objective.<indicator> annotation.
type ObjectiveSetting struct {
	Percent   string // as written, e.g. "99.9"; "" when Off
	Threshold string // Prometheus-ready: seconds for durations ("0.3" for 300ms), the number otherwise; "" when there is none
	Off       bool
}

// Settings are the parsed sightline.dev annotations of one entity. Maps are keyed by the indicator in "_" form
// ("pod_ready" for "pod-ready"). What was not set, or was set to a bad value (a Problem then), is empty.
type Settings struct {
	Profile     string
	Objectives  map[string]ObjectiveSetting
	Composites  map[string]CompositeSetting
	Window      string            // canonical: "30d" ("4w" becomes "28d"), "calendar-month", …
	Windows     map[string]string // by indicator
	Selector    string            // canonical PromQL matchers without braces, e.g. job="checkout",namespace="shop"
	Selectors   map[string]string
	Environment string
	Tier        string // "1" to "4"
	NoTraffic   string // ignore, good, bad
	MinEvents   int
	Alerting    string // page, ticket, off
	Alertings   map[string]string
	Runbook     string
	SLORef      string
	SLOInline   string            // sightline.dev/slo: the document itself, substituted by Backstage
	Pipelines   string            // "all" or a name pattern (glob)
	Receivers   map[string]string // of a group: kind (slack, msteams, pagerduty, opsgenie, email, webhook) to value
	OfficeHours string            // of a group, as written (validated)
}
