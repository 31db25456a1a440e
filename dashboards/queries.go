package dashboards

import (
	"strings"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// The recorded series of the rules. Results of a query are always aggregated by what identifies a row: while an owner
// changes, the old and the new series overlap for some minutes.
const (
	seriesRemaining = slo.SeriesBudgetRemaining
	seriesBurn      = slo.SeriesCurrentBurnRate
	seriesObjective = slo.SeriesObjective
	seriesError     = slo.SeriesErrorRatio // followed by the window
	seriesInfo      = slo.SeriesInfo
)

// burnWindows are the windows of the burn alerts, short to long.
var burnWindows = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}

// runBurnWindows are those in which an objective on pipelines or tasks usually has an event at all.
var runBurnWindows = []string{"6h", "1d", "3d"}

// countsRuns tells whether an objective counts pipelines or tasks, of which there are a few a day, and not requests.
func countsRuns(o *slo.Objective) bool { return strings.Contains(o.TotalQuery, "cicd_pipeline_") }

// windowsOf are the windows to show the burn rate of an objective over, and the shortest to show its errors over.
func windowsOf(o *slo.Objective) (burn []string, errors string) {
	if countsRuns(o) {
		return runBurnWindows, "1d"
	}
	return burnWindows, "5m"
}

// A scope is a list of PromQL matchers, without braces.
type scope string

func equals(label, value string) scope { return scope(label + "=" + quote(value)) }

// forOwner follows the variable of the owner board.
const forOwner scope = `owner="$owner"`

// everything that is Sightline's: rules made by hand with sloth have no entity.
const everything scope = `entity!=""`

func forEntity(r catalog.Ref) scope { return equals("entity", r.String()) }
func forSystem(r catalog.Ref) scope { return equals("system", r.String()) }
func forID(id string) scope         { return equals("sloth_id", id) }

// of writes a selector of the series, with more matchers after those of the scope.
func (s scope) of(series string, more ...string) string {
	parts := make([]string, 0, 1+len(more))
	if s != "" {
		parts = append(parts, string(s))
	}
	return series + "{" + strings.Join(append(parts, more...), ",") + "}"
}

// maxBy makes one series per combination of the labels.
func maxBy(labels, expr string) string { return "max by (" + labels + ") (" + expr + ")" }

func (s scope) remaining(by string) string { return maxBy(by, s.of(seriesRemaining)) }
func (s scope) burn(by string) string      { return maxBy(by, s.of(seriesBurn)) }
func (s scope) objective(by string) string { return maxBy(by, s.of(seriesObjective)) }
func (s scope) errors(by, window string) string {
	return maxBy(by, s.of(seriesError+window))
}

// sli is the share of good events over the budget window. It is computed back from the budget, since the name of the
// recorded series differs with the length of the window: 1 - spent share of the budget * budget.
func (s scope) sli(by string) string {
	return "1 - (1 - " + s.remaining(by) + ") * (1 - " + s.objective(by) + ")"
}

// burnOver is the burn rate over one window: error ratio divided by the error budget.
func (s scope) burnOver(by, window string) string {
	return s.errors(by, window) + " / (1 - " + s.objective(by) + ")"
}

// orZero shows 0 where nothing matched; only for counts of what is normally not there.
func orZero(expr string) string { return "(" + expr + ") or vector(0)" }

func (s scope) count() string { return orZero("count(" + maxBy("sloth_id", s.of(seriesInfo)) + ")") }
func (s scope) exhausted() string {
	return orZero("count(" + s.remaining("sloth_id") + " <= 0)")
}

func (s scope) firing(severity string) string {
	return orZero("count(" + maxBy("alertname, sloth_id", s.alerts("severity="+quote(severity))) + ")")
}

func (s scope) alerts(more ...string) string {
	return s.of("ALERTS", append([]string{`alertname=~"SLO.*"`, `alertstate="firing"`}, more...)...)
}

// Sources of runs: everything but the scaffolder is a pipeline.
const (
	pipelines  = `source!="scaffolder"`
	scaffolder = `source="scaffolder"`
	// countable leaves out what success ratios leave out.
	countable = `cicd_pipeline_result!~"cancellation|skip"`
	// firstAttempt leaves out reruns, so that a retried pipeline counts once, by its first finish.
	firstAttempt = `attempt!~"rerun|continued"`
)

// success is the share of successful runs over the shown time; NaN or nothing when there was no run.
func (s scope) success(by, source string) string {
	sum := "sum"
	if by != "" {
		sum = "sum by (" + by + ")"
	}
	total := s.of("cicd_pipeline_runs_total", source, countable, firstAttempt)
	good := s.of("cicd_pipeline_runs_total", source, `cicd_pipeline_result="success"`, firstAttempt)
	return sum + " (increase(" + good + "[$__range])) / " + sum + " (increase(" + total + "[$__range]))"
}

// runs counts the runs of the shown time.
func (s scope) runs(by, source string) string {
	return "sum by (" + by + ") (increase(" + s.of("cicd_pipeline_runs_total", source) + "[$__range]))"
}

// runsPerHour is the rate of finished runs by result.
func (s scope) runsPerHour(source string) string {
	return "sum by (cicd_pipeline_result) (rate(" + s.of("cicd_pipeline_runs_total", source) + "[$__rate_interval])) * 3600"
}

// duration is a quantile of the run durations (state executing) or queue times (state pending).
func (s scope) duration(quantile, by, source, state string) string {
	labels := "le"
	if by != "" {
		labels += ", " + by
	}
	return "histogram_quantile(" + quantile + ", sum by (" + labels + ") (rate(" +
		s.of("cicd_pipeline_run_duration_seconds_bucket", source, "cicd_pipeline_run_state="+quote(state)) + "[$__rate_interval])))"
}

// info is exactly one sightline_entity_info per entity, also while lifecycle, tier or owner change.
func (s scope) info() string { return "topk by (entity) (1, " + s.of("sightline_entity_info") + ")" }
