package dashboards

import (
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// openComponents is how many components of a system are shown at once; the rows of the others start collapsed, and
// Grafana runs their queries only when they are opened.
const openComponents = 2

// system is the board of one system: its objectives, then a row of rate and errors per component, callers first.
func (c *compiler) system(e *catalog.Entity) *draft {
	owner := c.graph.Owner(e.Ref)
	d := &draft{
		uid: SystemUID(e.Ref), title: e.Ref.String(), path: "dashboards/systems/" + e.Ref.Namespace + "." + e.Ref.Name + ".json", owner: owner, from: "now-24h",
		description: describe("System "+e.Label(), e, owner),
		tags: slices.Concat([]string{"sightline", "sightline-system", SelectorTag(e.Ref)},
			refTag("owner", owner), refTag("system", e.Ref)),
		links: []dashboard.DashboardLink{platformLink()},
	}
	if !owner.IsZero() {
		d.links = append(d.links, ownerLink(owner))
	}
	d.links = append(d.links, c.entityLink(e.Ref)...)
	if source, ok := sourceURL(e); ok {
		d.links = append(d.links, external("Source", "doc", "Where the system is declared", source))
	}
	s := forSystem(e.Ref)
	l := &d.layout
	l.row("Service level objectives", false)
	l.line(4, at(4, objectivesStat(s)), at(5, lowestBudgetStat(s)), at(5, highestBurnStat(s)), at(5, pagesStat(s)), at(5, ticketsStat(s)))
	l.line(9, at(24, c.objectivesTable(s)))
	templates := false
	var shown int
	for _, m := range dataFlowOrder(c.members[e.Ref]) {
		if !c.hasBoard(m.Ref) {
			continue
		}
		templates = templates || m.Ref.Kind == "template"
		l.row(m.Label()+" ("+m.Ref.String()+")", shown >= openComponents)
		shown++
		open := cog.ToPtr(dataLink("Open the board of "+m.Ref.String(), "/d/"+ComponentUID(m.Ref)))
		l.line(8, c.redRow(m.Ref, open)...)
	}
	l.row("Pipelines", false)
	l.line(8, at(12, pipelineRunsGraph(s)), at(12, pipelineDurationGraph(s)))
	l.delivery(s, c.deliveryTable(s))
	l.feedback(s)
	if templates {
		l.row("Scaffolder tasks", false)
		l.line(8, at(12, scaffolderRunsGraph(s)), at(12, scaffolderDurationGraph(s)))
	}
	return d
}

// systemsLink lists the system boards; nothing where there is none.
func (c *compiler) systemsLink() []dashboard.DashboardLink {
	if len(c.systems) == 0 {
		return nil
	}
	return []dashboard.DashboardLink{dropdown("Systems", "One board per system", "sightline", "sightline-system")}
}

// redRow shows one component: budget and burn, rate, errors.
func (c *compiler) redRow(r catalog.Ref, open *dashboard.DashboardLink) []cell {
	s := forEntity(r)
	label := r.String()
	budget := statistic{
		title: "Budget left: " + label, unit: units.PercentUnit, thresholds: budgetSteps(), decimals: cog.ToPtr(1.0), link: open,
		description: "The smallest share of an error budget, in percent, that is left. Click to open the board.",
		expr:        "min(" + s.remaining("sloth_id") + ")",
	}.panel()
	burn := burnStat("Burn rate: "+label, s, c.byEntity[r], open)
	errors := errorsGraph("Errors: "+label, c.byEntity[r])
	traffic, ok := trafficGraph("Rate: "+label, c.byEntity[r])
	if !ok {
		return []cell{at(4, budget, burn), at(20, errors)}
	}
	return []cell{at(4, budget, burn), at(10, traffic), at(10, errors)}
}

// trafficGraph shows the rate of all events behind the objectives; false when none has a query for it. Objectives that
// count the same events share a line. Pipelines and tasks are left out: a few a day make no rate per second.
func trafficGraph(title string, objectives []*slo.Objective) (*dashboard.Panel, bool) {
	var queries []query
	for _, o := range objectives {
		if o.TotalQuery == "" || countsRuns(o) || !o.Kind.CountsEvents() {
			continue
		}
		expr := "sum(" + strings.ReplaceAll(o.TotalQuery, "$window", "$__rate_interval") + ")"
		if slices.ContainsFunc(queries, func(q query) bool { return q.expr == expr }) {
			continue
		}
		queries = append(queries, query{expr, "events, " + o.Indicator})
	}
	if len(queries) == 0 {
		return nil, false
	}
	return graph{
		title: title, unit: units.CountsPerSecond, min: cog.ToPtr(0.0), noValue: "No metrics match the selector",
		description: "Events per second that the objectives count, good and bad.", queries: queries,
	}.panel(), true
}

// dataFlowOrder sorts callers before what they depend on, and by ref where neither depends on the other. In a cycle the
// smallest ref comes first.
func dataFlowOrder(members []*catalog.Entity) []*catalog.Entity {
	callers := map[catalog.Ref]int{} // not yet placed entities that depend on the key
	for _, m := range members {
		callers[m.Ref] += 0
	}
	for _, m := range members {
		for _, dep := range uniqueDeps(m) {
			if _, ok := callers[dep]; ok {
				callers[dep]++
			}
		}
	}
	rest := slices.Clone(members) // sorted by Ref
	out := make([]*catalog.Entity, 0, len(rest))
	for len(rest) > 0 {
		i := max(0, slices.IndexFunc(rest, func(m *catalog.Entity) bool { return callers[m.Ref] == 0 }))
		next := rest[i]
		rest = slices.Delete(rest, i, i+1)
		out = append(out, next)
		for _, dep := range uniqueDeps(next) {
			callers[dep]--
		}
	}
	return out
}

// uniqueDeps are what an entity depends on, itself and repetitions left out.
func uniqueDeps(e *catalog.Entity) []catalog.Ref {
	deps := slices.Clone(e.DependsOn)
	slices.SortFunc(deps, catalog.Ref.Compare)
	return slices.DeleteFunc(slices.Compact(deps), func(r catalog.Ref) bool { return r == e.Ref })
}

// describe is the description of a board.
func describe(what string, e *catalog.Entity, owner catalog.Ref) string {
	var b strings.Builder
	b.WriteString(what)
	if !owner.IsZero() {
		b.WriteString(", owned by " + owner.String())
	}
	b.WriteString(". ")
	if e != nil && e.Description != "" {
		b.WriteString(strings.TrimSuffix(strings.Join(strings.Fields(e.Description), " "), ".") + ". ")
	}
	b.WriteString("Generated by Sightline; changes are overwritten.")
	return b.String()
}

// sourceURL is where an entity is declared, if that can be opened in a browser.
func sourceURL(e *catalog.Entity) (string, bool) {
	if e == nil {
		return "", false
	}
	return webURL(strings.TrimPrefix(e.Annotations["backstage.io/source-location"], "url:"))
}

func webURL(s string) (string, bool) {
	ok := strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
	return s, ok && !strings.ContainsAny(s, " \t\r\n\"<>")
}
