package api

import (
	"math"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A Number is a figure that may not exist. NaN and infinities do not.
type Number = *float64

func number(v float64) Number {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Status says where an objective stands.
type Status string

// The statuses, worst first.
const (
	StatusBreaching Status = "breaching" // the budget is spent
	StatusBurning   Status = "burning"   // an alert fires
	StatusLow       Status = "low"       // less than a quarter of the budget is left
	StatusOK        Status = "ok"
	StatusNoData    Status = "no_data" // the store has no value
)

// An OwnerSummary is one row of the list of owners.
type OwnerSummary struct {
	Ref          catalog.Ref `json:"ref" doc:"Full reference of the group or user."`
	Title        string      `json:"title" doc:"Title, or name where there is no title."`
	Unowned      int         `json:"unowned" doc:"Entities that belong here only because they have no valid owner of their own."`
	Components   int         `json:"components" doc:"Components owned."`
	Entities     int         `json:"entities" doc:"Entities owned, of all kinds, without the owner itself."`
	SLOs         int         `json:"slos" doc:"Objectives of all entities owned."`
	Breaching    int         `json:"breaching" doc:"Objectives whose budget is spent."`
	NoData       int         `json:"no_data" doc:"Objectives that the store has no value for."`
	WorstBudget  Number      `json:"worst_budget" doc:"Smallest share of a budget that is left, 1 is all; null when no objective has a value."`
	FiringAlerts int         `json:"firing_alerts" doc:"Alerts that fire."`
	Problems     int         `json:"problems" doc:"Problems of the entities owned."`
}

// An OwnerSLOList holds the objectives of all that an owner owns.
type OwnerSLOList struct {
	Owner         catalog.Ref `json:"owner" doc:"Whose objectives these are."`
	Time          time.Time   `json:"time" doc:"When the current values were read."`
	Items         []SLO       `json:"items"`
	Issues        []Issue     `json:"problem_list" doc:"Problems of the entities owned."`
	StoreError    string      `json:"store_error" doc:"Why values are missing or as old as time says; empty when the store answered."`
	StoreWarnings []string    `json:"store_warnings" doc:"What the store says about values that may be incomplete."`
}

// An OwnerList is the answer of /owners.
type OwnerList struct {
	Items []OwnerSummary `json:"items"`
	Total int            `json:"total" doc:"Owners that match, on all pages."`
}

// An Owner is one owner with all that it owns.
type Owner struct {
	OwnerSummary
	Parent catalog.Ref     `json:"parent" doc:"Parent group; empty when there is none."`
	Owns   []EntitySummary `json:"owns" doc:"Entities owned."`
	Alerts []FiringAlert   `json:"alerts"`
	Runs   []Run           `json:"runs" doc:"Newest pipelines and scaffolder tasks."`
	Issues []Issue         `json:"problem_list" doc:"Problems of the entities owned."`

	Delivery Delivery `json:"delivery" doc:"How changes got to production in the last 30 days."`
}

// An EntitySummary is one row of the list of an owner's entities.
type EntitySummary struct {
	Ref          catalog.Ref `json:"ref"`
	Title        string      `json:"title"`
	Type         string      `json:"type"`
	Lifecycle    string      `json:"lifecycle"`
	SLOs         int         `json:"slos"`
	WorstBudget  Number      `json:"worst_budget" doc:"Smallest share of a budget that is left; null when no objective has a value."`
	FiringAlerts int         `json:"firing_alerts"`
}

// An Entity is one entity of the catalog.
type Entity struct {
	EntitySummary
	Description   string        `json:"description"`
	Owner         catalog.Ref   `json:"owner" doc:"Effective owner; empty when there is none at all."`
	Unowned       bool          `json:"unowned" doc:"The entity has no valid owner of its own."`
	UnownedReason string        `json:"unowned_reason" doc:"Why it is unowned, in words."`
	System        catalog.Ref   `json:"system" doc:"Empty when there is none."`
	Domain        catalog.Ref   `json:"domain" doc:"Empty when there is none."`
	Alerts        []FiringAlert `json:"alerts"`
	Runs          []Run         `json:"runs" doc:"Newest pipelines and scaffolder tasks."`
	Issues        []Issue       `json:"problem_list"`

	Delivery Delivery `json:"delivery" doc:"How changes of the entity, or of all in the system, got to production in the last 30 days."`
}

// An SLOList is the answer of /entities/…/slos.
type SLOList struct {
	Entity catalog.Ref `json:"entity" doc:"Whose objectives these are."`
	Time   time.Time   `json:"time" doc:"When the current values were read."`
	Items  []SLO       `json:"items"`
	Issues []Issue     `json:"problem_list"`

	StoreError    string   `json:"store_error" doc:"Why values are missing or as old as time says; empty when the store answered."`
	StoreWarnings []string `json:"store_warnings" doc:"What the store says about values that may be incomplete."`
}

// An SLO is one objective and where it stands.
type SLO struct {
	ID                     string        `json:"id" doc:"Label sloth_id of its series."`
	Entity                 catalog.Ref   `json:"entity"`
	Owner                  catalog.Ref   `json:"owner"`
	System                 catalog.Ref   `json:"system" doc:"Empty when there is none."`
	Indicator              string        `json:"indicator"`
	Title                  string        `json:"title"`
	Target                 string        `json:"target" doc:"Percent, as written."`
	Objective              Number        `json:"objective" doc:"The target as a ratio."`
	Threshold              string        `json:"threshold" doc:"Seconds for durations; empty when the indicator has none."`
	Window                 string        `json:"window"`
	Status                 Status        `json:"status" doc:"breaching, burning, low, ok or no_data."`
	SLI                    Number        `json:"sli" doc:"Share of good events over the window; null without data."`
	BudgetRemaining        Number        `json:"budget_remaining" doc:"Share of the budget that is left: 1 is all, negative is overspent; null without data."`
	BudgetMinutes          Number        `json:"budget_minutes" doc:"The whole budget as minutes of a total outage at even traffic."`
	BudgetRemainingMinutes Number        `json:"budget_remaining_minutes" doc:"What is left of it, likewise."`
	BurnRates              []BurnRate    `json:"burn_rates"`
	Alerts                 []FiringAlert `json:"alerts"`
	Series                 []Point       `json:"series" doc:"Budget that was left over time; asked points at most."`
	Defaulted              bool          `json:"defaulted" doc:"Nobody asked for this objective; it comes from the profile."`
	NoData                 bool          `json:"no_data"`
	Tier                   string        `json:"tier"`
	Runbook                string        `json:"runbook"`
	Source                 string        `json:"source" doc:"What asked for it: annotation, profile or a document."`

	Exclusions []Exclusion `json:"exclusions" doc:"Maintenance and corrections: minutes that count neither as good nor as bad."`
	Excluded   []Span      `json:"excluded" doc:"What they leave out of the time of series, or of the window where there are none; at most 200 stretches, the newest."`
	Changes    []Change    `json:"changes" doc:"What was changed in the objective, newest first."`
}

// A BurnRate is how fast the budget burns: 1 spends exactly all of it in one window.
type BurnRate struct {
	Window string `json:"window"`
	Rate   Number `json:"rate" doc:"null without data."`
}

// A Point is the share of the budget that was left at a time.
type Point struct {
	Time  time.Time `json:"time"`
	Value Number    `json:"value"`
}

// A FiringAlert is an alert that is pending or fires.
type FiringAlert struct {
	Name      string      `json:"name"`
	State     string      `json:"state" doc:"pending or firing."`
	Severity  string      `json:"severity"`
	Entity    catalog.Ref `json:"entity"`
	Owner     catalog.Ref `json:"owner"`
	SLO       string      `json:"slo" doc:"Label sloth_id; empty for other alerts."`
	Summary   string      `json:"summary"`
	Runbook   string      `json:"runbook"`
	Since     *time.Time  `json:"since"`
	Indicator string      `json:"indicator" doc:"Label sloth_slo."`
}

// A Run is one unit of work of the platform for an entity.
type Run struct {
	ID       string      `json:"id"`
	Source   string      `json:"source"`
	Entity   catalog.Ref `json:"entity"`
	Name     string      `json:"name"`
	RefKind  string      `json:"ref_kind"`
	State    string      `json:"state"`
	Result   string      `json:"result" doc:"Empty while it is not finished."`
	Reason   string      `json:"reason"`
	Created  *time.Time  `json:"created"`
	Started  *time.Time  `json:"started"`
	Finished *time.Time  `json:"finished"`
	Duration Number      `json:"duration_seconds" doc:"The system's own figure; null where it gave none."`
	URL      string      `json:"url"`
}

// An Issue is a problem in the catalog.
type Issue struct {
	Severity   string      `json:"severity"`
	Entity     catalog.Ref `json:"entity"`
	Owner      catalog.Ref `json:"owner"`
	Annotation string      `json:"annotation"`
	File       string      `json:"file"`
	Line       int         `json:"line"`
	Column     int         `json:"column"`
	Message    string      `json:"message"`
	Hint       string      `json:"hint"`
	Rule       string      `json:"rule"`
}

// A ProblemList is the answer of /problems.
type ProblemList struct {
	Items []Issue `json:"items"`
	Total int     `json:"total" doc:"Problems that match, on all pages."`
}

// An Error is an RFC 9457 problem document.
type Error struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty" doc:"What to do about it."`
}
