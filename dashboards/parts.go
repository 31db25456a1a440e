package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// This file holds the panels that several boards show, each for the scope of its board.

// noObjective is what panels of budgets say where there is no objective, or none with data yet.
const noObjective = "No objective with data"

func objectivesStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Objectives", description: "Number of service level objectives that have rules.",
		expr: s.count(), unit: units.Short, thresholds: plainSteps(),
	}.panel()
}

func lowestBudgetStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Lowest budget remaining", unit: units.PercentUnit, thresholds: budgetSteps(), decimals: cog.ToPtr(1.0), noValue: noObjective,
		description: "The smallest share of an error budget, in percent, that is left in its window. Below 0 the objective is missed.",
		expr:        "min(" + s.remaining("sloth_id") + ")",
	}.panel()
}

func exhaustedStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Budgets exhausted", unit: units.Short, thresholds: countSteps(),
		description: "Number of objectives that have no error budget left in their window.", expr: s.exhausted(),
	}.panel()
}

func highestBurnStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Highest burn rate", unit: units.Short, thresholds: burnSteps(), decimals: cog.ToPtr(2.0), noValue: "No events",
		description: "How many times as fast as allowed the fastest budget burns now. At 1 a budget lasts exactly its window.",
		expr:        "max(" + s.burn("sloth_id") + ")",
	}.panel()
}

func pagesStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Pages firing", unit: units.Short, thresholds: countSteps(),
		description: "Number of SLO alerts of severity page that fire now.", expr: s.firing("page"),
	}.panel()
}

func ticketsStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Tickets firing", unit: units.Short, thresholds: steps(green, 1.0, orange),
		description: "Number of SLO alerts of severity ticket that fire now.", expr: s.firing("ticket"),
	}.panel()
}

func pipelineSuccessStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Pipeline success", unit: units.PercentUnit, thresholds: ratioSteps(), decimals: cog.ToPtr(1.0), noValue: "No runs",
		description: "Share of pipelines, in percent, that succeeded at their first finish in the shown time. Cancelled and skipped ones do not count.",
		expr:        s.success("", pipelines),
	}.panel()
}

func scaffolderSuccessStat(s scope) *dashboard.Panel {
	return statistic{
		title: "Scaffolder success", unit: units.PercentUnit, thresholds: ratioSteps(), decimals: cog.ToPtr(1.0), noValue: "No tasks",
		description: "Share of scaffolder tasks, in percent, that succeeded in the shown time. Cancelled ones do not count.",
		expr:        s.success("", scaffolder),
	}.panel()
}

// objectivesTable shows one objective per row.
func (c *compiler) objectivesTable(s scope) *dashboard.Panel {
	const by = "entity, sloth_slo"
	return grid{
		title:       "Service level objectives",
		description: "All objectives with the state of their error budgets, worst first. Shares are in percent; a burn rate of 1 spends a budget in exactly its window.",
		columns: []column{
			{label: "entity", name: "Entity", links: c.entityLinks()},
			{label: "sloth_slo", name: "Objective"},
			{expr: s.objective(by), name: "Target", unit: units.PercentUnit, decimals: 2, width: 110},
			{expr: s.sli(by), name: "SLI", unit: units.PercentUnit, decimals: 3, width: 110},
			{expr: s.remaining(by), name: "Budget remaining", unit: units.PercentUnit, decimals: 1, thresholds: budgetSteps(), gauge: true, width: 260},
			{expr: s.burn(by), name: "Burn rate", unit: units.Short, decimals: 2, thresholds: burnSteps(), width: 110},
		},
		sortBy: "Budget remaining", noValue: noObjective,
	}.panel()
}

func (c *compiler) alertsTable(s scope) *dashboard.Panel {
	return grid{
		title:       "Firing alerts",
		description: "SLO alerts that fire now, pages first.",
		columns: []column{
			{label: "alertname", name: "Alert"},
			{label: "severity", name: "Severity", width: 100},
			{label: "entity", name: "Entity", links: c.entityLinks()},
			{label: "sloth_slo", name: "Objective"},
			{expr: maxBy("alertname, severity, entity, sloth_slo", s.alerts())},
		},
		sortBy: "Severity", noValue: "Nothing fires",
	}.panel()
}

func pipelineRunsGraph(s scope) *dashboard.Panel {
	return resultColours(graph{
		title: "Pipelines per hour by result", unit: units.Short, bars: true, interval: "10m", min: cog.ToPtr(0.0), noValue: "No pipelines",
		description: "Finished pipelines per hour, every finish counted, by result.",
		queries:     []query{{s.runsPerHour(pipelines), "{{cicd_pipeline_result}}"}},
	}.panel())
}

func scaffolderRunsGraph(s scope) *dashboard.Panel {
	return resultColours(graph{
		title: "Scaffolder tasks per hour by result", unit: units.Short, bars: true, interval: "10m", min: cog.ToPtr(0.0), noValue: "No tasks",
		description: "Finished scaffolder tasks per hour, by result.",
		queries:     []query{{s.runsPerHour(scaffolder), "{{cicd_pipeline_result}}"}},
	}.panel())
}

func pipelineDurationGraph(s scope) *dashboard.Panel {
	return graph{
		title: "Pipeline duration and queue time", unit: units.Seconds, interval: "10m", min: cog.ToPtr(0.0), noValue: "No pipelines",
		description: "Median and 95th percentile, in seconds, of how long pipelines ran, and of how long they waited for a runner.",
		queries: []query{
			{s.duration("0.5", "", pipelines, "executing"), "run, median"},
			{s.duration("0.95", "", pipelines, "executing"), "run, 95 %"},
			{s.duration("0.95", "", pipelines, "pending"), "queue, 95 %"},
		},
	}.panel()
}

func scaffolderDurationGraph(s scope) *dashboard.Panel {
	return graph{
		title: "Scaffolder task duration", unit: units.Seconds, interval: "10m", min: cog.ToPtr(0.0), noValue: "No tasks",
		description: "Median and 95th percentile, in seconds, of how long scaffolder tasks ran.",
		queries: []query{
			{s.duration("0.5", "", scaffolder, "executing"), "median"},
			{s.duration("0.95", "", scaffolder, "executing"), "95 %"},
		},
	}.panel()
}

// runsTable shows what ran in the shown time, with its success.
func runsTable(s scope, title, description, source, what, noValue string) *dashboard.Panel {
	by := "entity, cicd_pipeline_name"
	return grid{
		title: title, description: description,
		columns: []column{
			{label: "entity", name: "Entity"},
			{label: "cicd_pipeline_name", name: what},
			{expr: s.runs(by, source) + " > 0", name: "Runs", unit: units.Short, width: 90},
			{expr: s.success(by, source), name: "Success", unit: units.PercentUnit, decimals: 1, thresholds: ratioSteps(), width: 110},
		},
		sortBy: "Runs", descending: true, noValue: noValue,
	}.panel()
}
