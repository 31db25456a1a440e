package gitlab

import (
	"cmp"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// quiet is how long no attempt may follow before a pipeline counts as finished. It is also the longest pause between
// one attempt's end and the next one's queueing that is taken for GitLab's own work and not for a person's.
const quiet = 10 * time.Second

// An attempt is one row of a pipeline's jobs: each retry of a job is an attempt of its own, and so is a bridge.
type attempt struct {
	id                         int64
	name                       string
	created, started, finished time.Time // zero where it never happened
	queued                     *float64  // seconds from pending to started; nil where GitLab gives none
	status, reason             string
	allowFailure               bool
	coverage                   *float64 // percent
}

// An interval is the time in which an attempt kept its pipeline busy.
type interval struct {
	attempt
	begin, end time.Time // end is zero while it lasts
	retry      bool      // an earlier attempt of the same name exists
}

// A finish is a time at which every attempt made by then was terminal.
type finish struct {
	at       time.Time
	kind     exporter.Attempt
	result   exporter.Result
	started  time.Time // of the first attempt that ran since the previous finish; zero when none ran
	duration *float64  // seconds in which at least one attempt ran since the previous finish; nil when none ran
	coverage *float64  // percent; nil when no job has one
}

// finishes computes the finishes of a pipeline from its attempts alone, so that every way of learning about them gives
// the same. An attempt keeps the pipeline busy from when it was queued (started less queued_duration) to its end; one
// that has not ended, or never ran, from when it was made. Manual jobs that nobody has played, and skipped ones, do
// not count. Where nothing is busy for more than ten seconds, the pipeline has finished. What begins after that with a
// further attempt of the same job is a rerun, else a job that was played: the pipeline was continued.
//
// now is GitLab's time: the last ten seconds before it are not judged. settled says that nothing is left to wait for.
func finishes(attempts []attempt, now time.Time) (out []finish, settled bool) {
	ivs := intervals(attempts)
	settled = true
	var cluster []interval
	var end time.Time
	flush := func() {
		if len(cluster) > 0 {
			out = append(out, conclude(cluster, ivs, end, len(out) == 0))
			cluster = nil
		}
	}
	for _, iv := range ivs {
		if len(cluster) > 0 && iv.begin.Sub(end) > quiet {
			flush()
		}
		if iv.end.IsZero() { // still busy: nothing can be said of what begins later
			return out, false
		}
		if len(cluster) == 0 || iv.end.After(end) {
			end = iv.end
		}
		cluster = append(cluster, iv)
	}
	if len(cluster) > 0 && now.Sub(end) <= quiet {
		return out, false
	}
	flush()
	return out, settled
}

// intervals sorts the attempts that count by their begin.
func intervals(attempts []attempt) []interval {
	first := map[string]int64{}
	for _, a := range attempts {
		if id, ok := first[a.name]; !ok || a.id < id {
			first[a.name] = a.id
		}
	}
	var out []interval
	for _, a := range attempts {
		if a.status == "skipped" || a.status == "manual" {
			continue
		}
		iv := interval{attempt: a, begin: a.created, retry: a.id != first[a.name]}
		if terminal(a.status) {
			iv.end = latest(a.finished, a.started, a.created)
			switch {
			case a.started.IsZero():
			case a.queued != nil:
				iv.begin = latest(a.started.Add(-time.Duration(max(*a.queued, 0)*float64(time.Second))), a.created)
			default: // GitLab did not say how long it waited: it waited since the attempt before it
				for _, b := range attempts {
					if b.id != a.id && !b.finished.IsZero() && !b.finished.After(a.started) {
						iv.begin = latest(iv.begin, b.finished)
					}
				}
			}
			if iv.end.Before(iv.begin) {
				iv.begin = iv.end
			}
		}
		out = append(out, iv)
	}
	slices.SortFunc(out, func(a, b interval) int { return cmp.Or(a.begin.Compare(b.begin), cmp.Compare(a.id, b.id)) })
	return out
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// conclude makes the finish at the end of a cluster of intervals.
func conclude(cluster, all []interval, at time.Time, first bool) finish {
	f := finish{at: at, kind: exporter.AttemptFirst}
	if !first {
		f.kind = exporter.AttemptContinued
		if cluster[0].retry {
			f.kind = exporter.AttemptRerun
		}
	}
	var ran []interval
	for _, iv := range cluster {
		if !iv.started.IsZero() {
			iv.begin = iv.started
			ran = append(ran, iv)
		}
	}
	if len(ran) > 0 {
		slices.SortFunc(ran, func(a, b interval) int { return a.begin.Compare(b.begin) })
		f.started = ran[0].begin
		var busy time.Duration
		from, to := ran[0].begin, ran[0].end
		for _, iv := range ran[1:] {
			if iv.begin.After(to) {
				busy += to.Sub(from)
				from, to = iv.begin, iv.end
			} else if iv.end.After(to) {
				to = iv.end
			}
		}
		seconds := (busy + to.Sub(from)).Seconds()
		f.duration = &seconds
	}
	newest := map[string]interval{}
	for _, iv := range all {
		if have, ok := newest[iv.name]; !iv.begin.After(at) && (!ok || have.id < iv.id) {
			newest[iv.name] = iv
		}
	}
	f.coverage = meanCoverage(newest)
	f.result = exporter.ResultSuccess
	for _, iv := range newest {
		if r := resultOf(iv.status, iv.reason); severity[r] > severity[f.result] && (!iv.allowFailure || r == exporter.ResultCancellation) {
			f.result = r
		}
	}
	return f
}

// severity orders results: the worst job decides about its pipeline.
var severity = map[exporter.Result]int{
	exporter.ResultSuccess: 1, exporter.ResultCancellation: 2, exporter.ResultError: 3, exporter.ResultTimeout: 4, exporter.ResultFailure: 5,
}
