package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// This file holds the rows about how changes get to production, and about how long people wait on the way. Their events are
// rare, so their panels show 30 days, whatever time the board shows: Grafana gives their $__range the length of timeFrom.

const (
	deliveryTime = "30d"
	toProduction = `environment_tier="production"`
	noDeployment = "No deployment"
)

// grown is by how much a counter grew in the panel's time, by labels; "" makes one series.
func (s scope) grown(by, counter string, more ...string) string {
	return sumBy(by) + " (increase(" + s.of(counter, more...) + "[$__range]))"
}

// quantileOf is a quantile of a histogram in the panel's time.
func (s scope) quantileOf(quantile, by, histogram string, more ...string) string {
	return "histogram_quantile(" + quantile + ", " + sumBy(withBucket(by)) + " (rate(" + s.of(histogram+"_bucket", more...) + "[$__range])))"
}

// dailyQuantile is a quantile of a histogram on each day of a graph.
func (s scope) dailyQuantile(quantile, by, histogram string, more ...string) string {
	return "histogram_quantile(" + quantile + ", " + sumBy(withBucket(by)) + " (rate(" + s.of(histogram+"_bucket", more...) + "[$__rate_interval])))"
}

// perDay is by how much a counter grows a day.
func (s scope) perDay(by, counter string, more ...string) string {
	return sumBy(by) + " (rate(" + s.of(counter, more...) + "[$__rate_interval])) * 86400"
}

func sumBy(by string) string {
	if by == "" {
		return "sum"
	}
	return "sum by (" + by + ")"
}

func withBucket(by string) string {
	if by == "" {
		return "le"
	}
	return "le, " + by
}

// deployed is the number of successful deployments to production.
func (s scope) deployed(by string) string {
	return s.grown(by, "sightline_deployments_total", toProduction, `result="success"`)
}

// ofDeployments is a share of the successful deployments to production; nothing where there was none.
func (s scope) ofDeployments(by, counter string) string {
	return s.grown(by, counter, toProduction) + " / (" + s.deployed(by) + " > 0)"
}

// failRateSteps are DORA's: up to 5 % is what the best have.
func failRateSteps() *dashboard.ThresholdsConfig { return steps(green, 0.05, orange, 0.3, red) }

// waitSteps tell a wait that keeps people at a thing from one that makes them turn to another.
func waitSteps() *dashboard.ThresholdsConfig { return steps(green, 600.0, orange, 3600.0, red) }

// delivery is the row of DORA's five metrics, with a table below them where it is not nil.
func (l *layout) delivery(s scope, table *dashboard.Panel) {
	l.row("Delivery (DORA)", true)
	lead := func(title, quantile, words string) *dashboard.Panel {
		return statistic{
			title: title, unit: units.Seconds, thresholds: plainSteps(), decimals: cog.ToPtr(1.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: words + " of the time, in seconds, from a commit to its deployment to production (DORA: change lead time).",
			expr:        s.quantileOf(quantile, "", "sightline_change_lead_time_seconds", toProduction, `part="total"`),
		}.panel()
	}
	l.line(4,
		at(4, statistic{
			title: "Deployments per day", unit: units.Short, thresholds: plainSteps(), decimals: cog.ToPtr(2.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: "Successful deployments to production per day (DORA: deployment frequency).",
			expr:        "sum(rate(" + s.of("sightline_deployments_total", toProduction, `result="success"`) + "[$__range])) * 86400",
		}.panel()),
		at(4, lead("Lead time, median", "0.5", "Median")),
		at(4, lead("Lead time, 90 %", "0.9", "90th percentile")),
		at(4, statistic{
			title: "Change fail rate", unit: units.PercentUnit, thresholds: failRateSteps(), decimals: cog.ToPtr(1.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: "Share of successful deployments to production, in percent, that a rollback, a fix or an incident showed to have failed (DORA: change fail rate).",
			expr:        s.ofDeployments("", "sightline_deployments_failed_total"),
		}.panel()),
		at(4, statistic{
			title: "Recovery time, median", unit: units.Seconds, thresholds: plainSteps(), decimals: cog.ToPtr(1.0), noValue: "No failure", timeFrom: deliveryTime,
			description: "Median of the time, in seconds, from the failure that a deployment caused to what mended it (DORA: failed deployment recovery time).",
			expr:        s.quantileOf("0.5", "", "sightline_deployment_recovery_seconds", toProduction),
		}.panel()),
		at(4, statistic{
			title: "Rework rate", unit: units.PercentUnit, thresholds: plainSteps(), decimals: cog.ToPtr(1.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: "Share of successful deployments to production, in percent, that only mend an earlier one (DORA: deployment rework rate).",
			expr:        s.ofDeployments("", "sightline_deployments_rework_total"),
		}.panel()))
	l.line(8,
		at(12, resultColours(graph{
			title: "Deployments to production per day by result", unit: units.Short, bars: true, interval: "1d", min: cog.ToPtr(0.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: "Deployments to production that ended, per day, by result.",
			queries:     []query{{s.perDay("result", "sightline_deployments_total", toProduction), "{{result}}"}},
		}.panel())),
		at(12, graph{
			title: "Lead time and its parts", unit: units.Seconds, interval: "1d", min: cog.ToPtr(0.0), noValue: noDeployment, timeFrom: deliveryTime,
			description: "Median, in seconds, of the whole lead time of each day and of its parts: coding until the merge request was opened, review until the merge, deploy until production. Medians of parts do not add up to that of the whole.",
			queries: []query{
				{s.dailyQuantile("0.5", "part", "sightline_change_lead_time_seconds", toProduction), "{{part}}, median"},
				{s.dailyQuantile("0.9", "", "sightline_change_lead_time_seconds", toProduction, `part="total"`), "total, 90 %"},
			},
		}.panel()))
	if table != nil {
		l.line(8, at(gridWidth, table))
	}
}

// deliveryTable shows how each entity delivers.
func (c *compiler) deliveryTable(s scope) *dashboard.Panel {
	return grid{
		title:       "Delivery per entity",
		description: "What was deployed to production in 30 days, how often it failed, and how old changes were.",
		columns: []column{
			{label: "entity", name: "Entity", links: c.entityLinks()},
			{expr: s.deployed("entity") + " > 0", name: "Deployments", unit: units.Short, width: 120},
			{expr: s.ofDeployments("entity", "sightline_deployments_failed_total"), name: "Change fail rate", unit: units.PercentUnit, decimals: 1, thresholds: failRateSteps(), width: 140},
			{expr: s.quantileOf("0.5", "entity", "sightline_change_lead_time_seconds", toProduction, `part="total"`) + " >= 0", name: "Lead time, median", unit: units.Seconds, decimals: 1, width: 160},
			{expr: s.ofDeployments("entity", "sightline_deployments_rework_total"), name: "Rework rate", unit: units.PercentUnit, decimals: 1, width: 120},
		},
		sortBy: "Deployments", descending: true, noValue: noDeployment, timeFrom: deliveryTime,
	}.panel()
}

// feedback is the row of what people wait for, and of what makes them wait.
func (l *layout) feedback(s scope) {
	const none = "No pipeline"
	l.row("Feedback loops", true)
	lost := func(title, cause, words string) *dashboard.Panel {
		return statistic{
			title: title, unit: units.Seconds, thresholds: plainSteps(), decimals: cog.ToPtr(1.0), noValue: none, timeFrom: deliveryTime,
			description: words, expr: s.grown("", "sightline_pipeline_lost_seconds_total", "cause="+quote(cause)),
		}.panel()
	}
	l.line(4,
		at(4, statistic{
			title: "First feedback, median", unit: units.Seconds, thresholds: waitSteps(), decimals: cog.ToPtr(1.0), noValue: none, timeFrom: deliveryTime,
			description: "Median of the time, in seconds, from the making of a commit's pipeline to its first result.",
			expr:        s.quantileOf("0.5", "", "sightline_first_feedback_seconds", `of="commit"`),
		}.panel()),
		at(4, statistic{
			title: "Runner wait, 90 %", unit: units.Seconds, thresholds: waitSteps(), decimals: cog.ToPtr(1.0), noValue: none, timeFrom: deliveryTime,
			description: "90th percentile of the time, in seconds, that a job waited for a runner.",
			expr:        s.quantileOf("0.9", "", "sightline_runner_wait_seconds"),
		}.panel()),
		at(4, lost("Time lost to queues", "queue", "Time, in seconds, that jobs waited for a runner, all jobs together.")),
		at(4, lost("Time lost to retries", "retry", "Time, in seconds, of the attempts at jobs that were retried, all jobs together.")),
		at(4, statistic{
			title: "Failed test cases", unit: units.PercentUnit, thresholds: plainSteps(), decimals: cog.ToPtr(2.0), noValue: "No test report", timeFrom: deliveryTime,
			description: "Share of test cases, in percent, that failed or had an error. Skipped ones do not count.",
			expr: s.grown("", "sightline_test_cases_total", `result=~"failed|error"`) +
				" / (" + s.grown("", "sightline_test_cases_total", `result!="skipped"`) + " > 0)",
		}.panel()),
		at(4, statistic{
			title: "Test coverage", unit: units.PercentUnit, thresholds: plainSteps(), decimals: cog.ToPtr(1.0), noValue: "No coverage",
			description: "Test coverage, in percent, of the latest pipelines of default branches, the mean of all entities.",
			expr:        "avg(" + maxBy("entity", s.of("sightline_pipeline_coverage_ratio", `ref_kind="default"`)) + ")",
		}.panel()))
	l.line(8,
		at(12, graph{
			title: "First feedback", unit: units.Seconds, interval: "1d", min: cog.ToPtr(0.0), noValue: none, timeFrom: deliveryTime,
			description: "Median, in seconds and per day, of the time until the first result: of commits since their pipeline was made, of merge requests since they were opened.",
			queries:     []query{{s.dailyQuantile("0.5", "of", "sightline_first_feedback_seconds"), "{{of}}"}},
		}.panel()),
		at(12, graph{
			title: "Time lost per day", unit: units.Seconds, bars: true, interval: "1d", min: cog.ToPtr(0.0), noValue: none, timeFrom: deliveryTime,
			description: "Time, in seconds per day, that jobs waited for a runner (queue) and that attempts took that were retried (retry).",
			queries:     []query{{s.perDay("cause", "sightline_pipeline_lost_seconds_total"), "{{cause}}"}},
		}.panel()))
	l.line(8,
		at(12, grid{
			title:       "Flaky jobs",
			description: "Jobs of which one attempt failed and another one passed for the same commit, in 30 days, and how often jobs of the name were retried.",
			columns: []column{
				{label: "entity", name: "Entity"},
				{label: "cicd_pipeline_task_name", name: "Job"},
				{expr: s.grown("entity, cicd_pipeline_task_name", "sightline_flaky_tasks_total") + " > 0", name: "Flaky", unit: units.Short, width: 90},
				{expr: s.grown("entity, cicd_pipeline_task_name", "sightline_task_retries_total") + " > 0", name: "Retries", unit: units.Short, width: 90},
			},
			sortBy: "Flaky", descending: true, noValue: "No flaky job", timeFrom: deliveryTime,
		}.panel()),
		at(12, graph{
			title: "Failed jobs per day by reason", unit: units.Short, bars: true, interval: "1d", min: cog.ToPtr(0.0), noValue: "No failed job", timeFrom: deliveryTime,
			description: "Failed jobs per day, by the reason that the CI system gives.",
			queries:     []query{{s.perDay("reason", "sightline_task_failures_total"), "{{reason}}"}},
		}.panel()))
}

// goldenPath is the row of what people get from templates, and when.
func (l *layout) goldenPath(s scope) {
	const none = "No project was made"
	made := s.grown("template", "sightline_journey_seconds_count", `milestone="project"`) + " > 0"
	median := func(milestone string) string {
		return s.quantileOf("0.5", "template", "sightline_journey_seconds", "milestone="+quote(milestone)) + " >= 0" // which drops NaN, and with it the rows of templates that nobody used
	}
	l.row("Golden path", true)
	l.line(8,
		at(14, grid{
			title:       "From template to production",
			description: "Projects that scaffolder tasks made in 30 days, the median time, in seconds, from the task to each milestone, and the share, in percent, that has been deployed.",
			columns: []column{
				{label: "template", name: "Template"},
				{expr: made, name: "Projects", unit: units.Short, width: 90},
				{expr: median("first_pipeline"), name: "First pipeline", unit: units.Seconds, decimals: 1, width: 120},
				{expr: median("first_green"), name: "First green", unit: units.Seconds, decimals: 1, width: 110},
				{expr: median("first_deployment"), name: "First deployment", unit: units.Seconds, decimals: 1, width: 140},
				{
					expr: s.grown("template", "sightline_journey_seconds_count", `milestone="first_deployment"`) + " / (" + made + ")",
					name: "Deployed", unit: units.PercentUnit, decimals: 0, width: 90,
				},
			},
			sortBy: "Projects", descending: true, noValue: none, timeFrom: deliveryTime,
		}.panel()),
		at(10, graph{
			title: "Time to the first green pipeline and deployment", unit: units.Seconds, interval: "1d", min: cog.ToPtr(0.0), noValue: none, timeFrom: deliveryTime,
			description: "Median, in seconds and per day, of the time from a scaffolder task to milestones of the project that it made.",
			queries:     []query{{s.dailyQuantile("0.5", "milestone", "sightline_journey_seconds", `milestone=~"first_green|first_deployment"`), "{{milestone}}"}},
		}.panel()))
}
