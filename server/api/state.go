// Package api is the HTTP API of Sightline, version 1, and the read model that it shares with the web UI. The process
// gives a State; a Reader makes of it what both show: who owns what, how much budget is left, what fires. A value that
// does not exist is null, never 0 and never NaN.
package api

import (
	"context"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/server/changes"
	"github.com/sightline-dev/sightline/slo"
)

// A State is what the running process knows. Every method is cheap (it returns what is in memory; Alerts may ask the
// store) and may be called by many goroutines at once. The slices are shared: nobody changes them.
type State interface {
	Graph() *catalog.Graph                             // never nil; empty before the first load
	Objectives() []Objective                           // sorted by entity, then indicator
	Problems() []catalog.Problem                       // sorted by Problem.Compare
	Querier() engine.Querier                           // nil: there is no store
	Alerts(ctx context.Context) ([]Alert, error)       // pending and firing
	Runs(entity catalog.Ref, limit int) []exporter.Run // newest first, pipelines and tasks of scaffolder, not their jobs
	Logs() correlate.LogStore                          // nil: there is none
	Traces() correlate.TraceStore                      // nil: there is none
	Sources() []SourceStatus                           // sorted by name, then host
	Notices() []string                                 // what is wrong with the catalog as a whole, one sentence each
	Simulated() bool                                   // the platform shown is a simulation
	Version() string
}

// An Objective is a service level objective, compiled: the values that the read model needs of slo.Objective.
type Objective struct {
	ID        string // label sloth_id
	Entity    catalog.Ref
	Owner     catalog.Ref
	System    catalog.Ref // zero: none
	Indicator string
	Title     string
	Target    string        // percent as the user wrote it, e.g. "99.9"
	Threshold string        // Prometheus-ready; "" when there is none
	Window    string        // "30d", "calendar-month"
	Length    time.Duration // of the window; a calendar month counts as 30 days, a quarter as 90
	Tier      string
	Runbook   string
	Defaulted bool // nobody asked for it: the silver path
	Source    string

	SLO     *slo.Objective   // what leaves minutes out; nil: nothing does
	Changes []changes.Change // of what it asks for, oldest first
}

// An Alert is one alert of the store. It has the fields of engine.Alert, so that Alert(a) converts one.
type Alert struct {
	Name                string
	Labels, Annotations map[string]string
	State               string // pending or firing
	ActiveAt            time.Time
	Value               float64
}

// A SourceStatus says how a source stands.
type SourceStatus struct {
	Name        string
	Host        string
	Up          bool
	LastSuccess time.Time // zero: never
	LastError   string    // "" when the last attempt was good
	Progress    string    // of a long first read, in words; "" otherwise
}
