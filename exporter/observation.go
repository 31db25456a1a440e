package exporter

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// LevelObservation is the level of tallies that are made of Observations. No Run has it.
const LevelObservation Level = "observation"

// An ObservationKind names the metric family that an Observation goes to.
type ObservationKind string

// The kinds of observations; Kinds has the family of each.
const (
	Deployments       ObservationKind = "deployments"        // a deployment that ended
	DeploymentsFailed ObservationKind = "deployments_failed" // a deployment that turned out to have failed in service
	DeploymentsRework ObservationKind = "deployments_rework" // a deployment that was not planned, because of an incident
	RecoveryTime      ObservationKind = "recovery_time"
	LeadTime          ObservationKind = "lead_time"
	FirstFeedback     ObservationKind = "first_feedback"
	LostTime          ObservationKind = "lost_time"
	TaskFailures      ObservationKind = "task_failures"
	TaskRetries       ObservationKind = "task_retries"
	FlakyTasks        ObservationKind = "flaky_tasks"
	TestCases         ObservationKind = "test_cases"
	Coverage          ObservationKind = "coverage"
	ArtifactSize      ObservationKind = "artifact_size"
	RunnerWait        ObservationKind = "runner_wait"
	Journey           ObservationKind = "journey"
)

// A kind is the family of an ObservationKind, of which the labels are only those after source, owner, entity and system.
type kind struct {
	Family
	bounds []float64 // histograms only
}

var day = 86400.0

var kinds = map[ObservationKind]kind{
	Deployments: {Family{
		"sightline_deployments_total", "Deployments that ended, by the tier of their environment.", "counter",
		[]string{"environment_tier", "result"},
	}, nil},
	DeploymentsFailed: {Family{
		"sightline_deployments_failed_total", "Successful deployments that failed in service, each once, by what showed it: rollback, fix or incident (DORA change fail rate, with sightline_deployments_total).", "counter",
		[]string{"environment_tier", "cause"},
	}, nil},
	DeploymentsRework: {Family{
		"sightline_deployments_rework_total", "Unplanned deployments that mend an earlier one: rollback or fix (DORA deployment rework rate, with sightline_deployments_total).", "counter",
		[]string{"environment_tier", "cause"},
	}, nil},
	RecoveryTime: {Family{
		"sightline_deployment_recovery_seconds", "Time from the failure that a deployment caused to the deployment that mends it, or the end of the alert (DORA failed deployment recovery time).", "histogram",
		[]string{"environment_tier"},
	}, []float64{300, 900, 3600, 4 * 3600, day, 7 * day}},
	LeadTime: {Family{
		"sightline_change_lead_time_seconds", "Time of a change from commit to deployment, whole (part total) and in its parts coding, review and deploy (DORA change lead time).", "histogram",
		[]string{"environment_tier", "part"},
	}, []float64{3600, 4 * 3600, day, 2 * day, 7 * day, 30 * day}},
	FirstFeedback: {Family{
		"sightline_first_feedback_seconds", "Time until the first finished pipeline of a merge request (since it was opened) or of a commit (since its pipeline was made).", "histogram",
		[]string{"of"},
	}, []float64{300, 900, 3600}},
	LostTime: {Family{
		"sightline_pipeline_lost_seconds_total", "Time of attempts at jobs that were retried (cause retry), and time that jobs waited for a runner (cause queue).", "counter",
		[]string{"cause"},
	}, nil},
	TaskFailures: {Family{
		"sightline_task_failures_total", "Failed jobs by the system's own reason.", "counter",
		[]string{"cicd_pipeline_name", "reason"},
	}, nil},
	TaskRetries: {Family{
		"sightline_task_retries_total", "Attempts at jobs after the first of the same name in the same pipeline.", "counter",
		[]string{"cicd_pipeline_name", "cicd_pipeline_task_name"},
	}, nil},
	FlakyTasks: {Family{
		"sightline_flaky_tasks_total", "Jobs of which one attempt failed and another one passed for the same commit, in one pipeline or in several, once per job name and commit.", "counter",
		[]string{"cicd_pipeline_name", "cicd_pipeline_task_name"},
	}, nil},
	TestCases: {Family{
		"sightline_test_cases_total", "Test cases in the report summaries of finished pipelines, by result: success, failed, error or skipped.", "counter",
		[]string{"cicd_pipeline_name", "result"},
	}, nil},
	Coverage: {Family{
		"sightline_pipeline_coverage_ratio", "Test coverage of the latest finished pipeline that has one, between 0 and 1.", "gauge",
		[]string{"cicd_pipeline_name", "ref_kind"},
	}, nil},
	ArtifactSize: {Family{
		"sightline_artifact_bytes_total", "Size of the artifacts that finished jobs made, their logs left out.", "counter",
		[]string{"cicd_pipeline_name"},
	}, nil},
	RunnerWait: {Family{
		"sightline_runner_wait_seconds", "Time that jobs waited for a runner until they started, by the set of tags that they asked for.", "histogram",
		[]string{"tags"},
	}, []float64{30, 300}},
	Journey: {Family{
		"sightline_journey_seconds", "Time from the creation of a scaffolder task to a milestone of the GitLab project that it made: project, first_pipeline, first_green, first_deployment. The entity is the template, the owner that of what was made.", "histogram",
		[]string{"template", "milestone"},
	}, []float64{60, 300, 900, 3600, 4 * 3600, day, 7 * day}},
}

var commonLabels = []string{"source", "owner", "entity", "system"}

// closedLabels have few values that Sightline chooses; the values of all others are capped.
var closedLabels = map[string]bool{"environment_tier": true, "result": true, "cause": true, "part": true, "of": true, "milestone": true, "ref_kind": true}

// Kinds gives the metric family of each kind of observation, by name of the family.
func Kinds() []Family {
	var out []Family
	for _, k := range kinds {
		f := k.Family
		f.Labels = slices.Concat(commonLabels, f.Labels)
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// An Observation is one thing that was measured beside runs: a deployment, the lead time of a change. Its ID and Kind
// together count once, for ever; what is OfTask once for each set of Labels. For a counter the value is added, for a
// histogram it is one sample (in the unit of the family, mostly seconds), and for a gauge the value with the latest At stands.
type Observation struct {
	ID      RunID
	Kind    ObservationKind
	Entity  catalog.Ref // zero: nobody claims it
	Owner   catalog.Ref // the owner that the entity had at the time
	System  catalog.Ref
	Labels  []string // the values of the kind's own labels, in its order
	Value   float64
	At      time.Time // when it happened
	From    time.Time // nothing with the ID is older, and it is the same however often it comes again; zero: At is
	OfTask  bool      // counts with the task of the same ID in the same batch, if that counts; it needs no record of its own
	Declare bool      // makes the series exist, at 0 if it is a counter, and counts nothing; needs no ID
}

// Check says why the observation can't be counted.
func (o *Observation) Check() error {
	k, ok := kinds[o.Kind]
	switch {
	case !ok:
		return fmt.Errorf("observation %q is of no known kind: %q", o.ID, o.Kind)
	case len(o.Labels) != len(k.Labels):
		return fmt.Errorf("observation %q of kind %q has %d label values; want %d", o.ID, o.Kind, len(o.Labels), len(k.Labels))
	case o.ID.Source == "" || (o.ID.Key == "" && !o.Declare) || strings.ContainsRune(o.ID.String(), 0):
		return fmt.Errorf("observation %q has no proper id", o.ID)
	case math.IsNaN(o.Value) || math.IsInf(o.Value, 0) || (o.Value < 0 && k.Type == "counter"):
		return fmt.Errorf("observation %q of kind %q has the value %v", o.ID, o.Kind, o.Value)
	}
	return nil
}

// ComesAgain tells that no time says whether it may have been counted: a commit can be deployed again, and a job fail and pass
// again for it, after years. Its record is kept for ever.
func (o *Observation) ComesAgain() bool { return slices.Contains(comingAgain, o.Kind) }

var comingAgain = []ObservationKind{LeadTime, FlakyTasks}

// Counted gives the time before which a record of it that is gone means that it was counted, and until when the record is
// needed for that.
func (o *Observation) Counted() (from, until time.Time) {
	if o.From.IsZero() {
		return o.At, o.At
	}
	if o.From.After(o.At) { // somebody's clock was wrong
		return o.From, o.From
	}
	return o.From, o.At
}

// Repeatable tells that taking it once more changes nothing: of a gauge the latest value stands.
func (o *Observation) Repeatable() bool { return kinds[o.Kind].Type == "gauge" }

// Key gives the series that the observation goes to. The function name caps the values that users make up, by label.
func (o *Observation) Key(name func(label, value string) string) TallyKey {
	values := slices.Clone(o.Labels)
	for i, label := range kinds[o.Kind].Labels {
		if !closedLabels[label] {
			values[i] = name(label, values[i])
		}
		values[i] = strings.Map(func(r rune) rune {
			if r < ' ' {
				return ' '
			}
			return r
		}, values[i])
	}
	return TallyKey{
		Level: LevelObservation, Measure: Measure(o.Kind), Source: o.ID.Source,
		Owner: o.Owner.String(), Entity: o.Entity.String(), System: o.System.String(), Values: strings.Join(values, valueSeparator),
	}
}

const valueSeparator = "\x1f"

// Take counts an observation of the tally's key.
func (t *Tally) Take(o *Observation) {
	switch {
	case o.Declare:
	case kinds[o.Kind].Type == "histogram":
		t.Observe(o.Value)
	case kinds[o.Kind].Type == "counter":
		t.Count++
		t.Sum += o.Value
	case t.Count == 0 || !o.At.Before(t.Latest):
		t.Count, t.Sum, t.Latest = 1, o.Value, o.At
	}
}

// Names gives the values that users made up, by label.
func (k TallyKey) Names() map[string]string {
	out := map[string]string{}
	values := strings.Split(k.Values, valueSeparator)
	for i, label := range kinds[ObservationKind(k.Measure)].Labels {
		if !closedLabels[label] && i < len(values) {
			out[label] = values[i]
		}
	}
	return out
}
