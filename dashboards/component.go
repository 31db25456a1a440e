package dashboards

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// openObjectives is how many objectives of a component are shown at once; the rows of the others start collapsed.
const openObjectives = 3

// component is the board of one entity that has objectives, of whatever kind the entity is.
func (c *compiler) component(r catalog.Ref) *draft {
	objectives := c.byEntity[r]
	e := c.graph.Entity(r) // nil when the entity is not in the catalog
	first := objectives[0]
	owner, system := first.Owner, first.System
	label := r.Name
	if e != nil {
		label = e.Label()
	}
	d := &draft{
		uid: ComponentUID(r), title: r.String(), path: "dashboards/components/" + r.Dotted() + ".json", owner: owner, from: "now-24h",
		description: describe(strings.ToUpper(r.Kind[:1])+r.Kind[1:]+" "+label, e, owner),
		tags: slices.Concat([]string{"sightline", "sightline-component", SelectorTag(r)},
			refTag("owner", owner), refTag("system", system), refTag("component", r)),
		links: []dashboard.DashboardLink{platformLink()}, annotations: annotations(r, objectives),
	}
	if first.Tier != "" {
		d.tags = append(d.tags, "tier:"+first.Tier)
	}
	if !owner.IsZero() {
		d.links = append(d.links, ownerLink(owner))
	}
	if system.Kind == "system" && c.graph.Entity(system) != nil && nameable(system) {
		d.links = append(d.links, link("System", system.String(), "/d/"+SystemUID(system)))
	}
	d.links = append(d.links, c.entityLink(r)...)
	for _, o := range objectives {
		if url, ok := webURL(o.Runbook); ok {
			d.links = append(d.links, external("Runbook", "question", "What to do when an alert fires", url))
			break
		}
	}
	if url, ok := sourceURL(e); ok {
		d.links = append(d.links, external("Source", "doc", "The source code and the declaration of the entity", url))
	}

	s := forEntity(r)
	l := &d.layout
	l.row("State now", false)
	l.line(4, at(8, lowestBudgetStat(s)), at(8, burnStat("Highest burn rate", s, objectives, nil)), at(8, statistic{
		title: "Alerts firing", unit: units.Short, thresholds: countSteps(),
		description: "Number of SLO alerts of this entity that fire now, of any severity.",
		expr:        orZero("count(" + maxBy("alertname, severity, sloth_id", s.alerts()) + ")"),
	}.panel()))
	errors := errorsGraph("Error rate", objectives)
	if traffic, ok := trafficGraph("Traffic", objectives); ok {
		l.line(8, at(8, errors), at(8, traffic), at(8, c.alertsTable(s)))
	} else {
		l.line(8, at(12, errors), at(12, c.alertsTable(s)))
	}
	for i, o := range objectives {
		l.row(objectiveTitle(o), i >= openObjectives)
		l.line(8, objectiveRow(o)...)
	}
	if r.Kind == "template" {
		l.row("Scaffolder tasks", false)
		l.line(8, at(12, scaffolderRunsGraph(s)), at(12, scaffolderDurationGraph(s)))
		l.goldenPath(s)
	} else {
		l.row("Pipelines", false)
		l.line(8, at(12, pipelineRunsGraph(s)), at(12, pipelineDurationGraph(s)))
		l.delivery(s, nil)
		l.feedback(s)
	}
	return d
}

// errorsGraph shows the share of bad events of each objective. An objective on pipelines or tasks has too few events for
// minutes, so its share is that of a day.
func errorsGraph(title string, objectives []*slo.Objective) *dashboard.Panel {
	g := graph{
		title: title, unit: units.PercentUnit, min: cog.ToPtr(0.0), noValue: "No events",
		description: "Share of bad events, in percent, per objective and over the time that the legend names. Of a latency objective, bad events are those that were too slow.",
	}
	for _, o := range objectives {
		_, window := windowsOf(o)
		g.queries = append(g.queries, query{forID(o.ID()).errors("sloth_id", window), o.Indicator + ", " + window})
	}
	if len(objectives) == 1 {
		if budget := objectives[0].Target.Budget(); budget > 0 {
			g.thresholds = steps(green, budget, red)
			g.description += " The dashed line is what the objective allows."
		}
	}
	return g.panel()
}

// burnStat shows how fast the fastest budget burns: now, or over a day where all objectives count pipelines or tasks.
func burnStat(title string, s scope, objectives []*slo.Objective, open *dashboard.DashboardLink) *dashboard.Panel {
	expr, when := "max("+s.burn("sloth_id")+")", "now (over five minutes)"
	if !slices.ContainsFunc(objectives, func(o *slo.Objective) bool { return !countsRuns(o) }) {
		expr, when = "max("+s.burnOver("sloth_id", "1d")+")", "over the last day"
	}
	description := "How many times as fast as allowed the fastest budget burns " + when + ". At 1 a budget lasts exactly its window."
	if open != nil {
		description += " Click to open the board."
	}
	return statistic{
		title: title, unit: units.Short, thresholds: burnSteps(), decimals: cog.ToPtr(2.0), noValue: "No events", link: open,
		description: description, expr: expr,
	}.panel()
}

// objectiveRow is the detail of one objective: what is left, how it went down, how fast it burns.
func objectiveRow(o *slo.Objective) []cell {
	s := forID(o.ID())
	const by = "sloth_id"
	name := o.Indicator
	budget := statistic{
		title: "Budget remaining: " + name, unit: units.PercentUnit, thresholds: budgetSteps(), decimals: cog.ToPtr(2.0),
		description: "Share of the error budget, in percent, that is left in the window. Below 0 the objective is missed.", expr: s.remaining(by),
	}.panel()
	sli := statistic{
		title: "SLI: " + name, unit: units.PercentUnit, thresholds: targetSteps(o), decimals: cog.ToPtr(3.0),
		description: "Share of good events, in percent, over " + windowText(o.Window) + ". Green from the target on.", expr: s.sli(by),
	}.panel()
	burnDown := graph{
		title: "Budget burn-down: " + name, unit: units.PercentUnit, thresholds: budgetSteps(), max: cog.ToPtr(1.0), timeFrom: windowLength(o.Window),
		description: "Share of the error budget, in percent, that was left over time. It shows the whole window, whatever time the board shows.",
		queries:     []query{{s.remaining(by), "budget remaining"}},
	}.panel()
	windows, _ := windowsOf(o)
	queries := make([]query, 0, len(windows))
	for _, w := range windows {
		queries = append(queries, query{s.burnOver(by, w), w})
	}
	burn := graph{
		title: "Burn rates: " + name, unit: units.Short, thresholds: burnSteps(), min: cog.ToPtr(0.0), noValue: "No events",
		description: "How many times as fast as allowed the budget burns, over each window. At 1 the budget lasts exactly its window.",
		queries:     queries,
	}.panel()
	return []cell{at(4, budget, sli), at(10, burnDown), at(10, burn)}
}

// targetSteps is green from the objective's target on.
func targetSteps(o *slo.Objective) *dashboard.ThresholdsConfig {
	target, err := strconv.ParseFloat(o.Target.Ratio(), 64)
	if err != nil || o.Target.IsZero() {
		return plainSteps()
	}
	return steps(red, target, green)
}

// objectiveTitle names an objective and its window, as in "Availability over 30 days". The target stands in the data:
// the row would otherwise change its name with it.
func objectiveTitle(o *slo.Objective) string {
	title := o.Title
	if title == "" {
		title = o.Indicator
	}
	return title + " (" + o.Indicator + "), over " + windowText(o.Window)
}

func windowText(w slo.Window) string {
	if w.Calendar != "" {
		return "the calendar " + w.Calendar
	}
	return fmt.Sprintf("%d days", w.Days)
}

// windowLength is the longest that a budget window gets, as a Grafana duration; "" where the window is not set.
func windowLength(w slo.Window) string {
	switch w.Calendar {
	case "week":
		return "7d"
	case "month":
		return "31d"
	case "quarter":
		return "92d"
	}
	if w.Days <= 0 {
		return ""
	}
	return fmt.Sprintf("%dd", w.Days)
}
