package slo

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Kind says what an indicator counts. Every kind comes down to the same two base series, the rates of bad and of all
// events; what differs is what an event is, and how its queries are made.
type Kind string

// The kinds of indicators.
const (
	KindEvents          Kind = "events"           // the file's own queries of bad and of all events
	KindHistogram       Kind = "histogram"        // observations at or below a threshold, in classic buckets
	KindNativeHistogram Kind = "native-histogram" // the same in a native histogram
	KindProbe           Kind = "probe"            // samples of a gauge that is 1 or 0
	KindFreshness       Kind = "freshness"        // minutes in which a timestamp is not too old
	KindThroughput      Kind = "throughput"       // slices of time in which enough happens
	KindTimeSlice       Kind = "time-slice"       // slices of time whose error ratio is not too high
)

// A kindOf is what the compiler knows of a kind.
type kindOf struct {
	unit    string // what one event is
	meaning string
	needs   []string // keys of the indicator file that it needs, beside name, title and objective
	takes   []string // keys that it may have
	// queries gives the indicator's queries for a threshold as Prometheus prints it ("" where there is none), with
	// $selector and $window. The errors may lack what the total has: that is none.
	queries func(i Indicator, threshold string, idle NoTraffic) (errs, total string, err error)
}

var kinds = map[Kind]kindOf{
	KindEvents: {
		"an event that the queries count", "Events by two queries of the file: bad ones and all.",
		[]string{"errors", "total"},
		[]string{"threshold"},
		Indicator.eventQueries,
	},
	KindHistogram: {
		"an observation", "Observations of a classic histogram; good at or below the threshold. The threshold must be the edge of a bucket: otherwise there is no total, and `SLOMetricAbsent` says so. Where `buckets` lists the edges, another threshold is refused when rules are made, or, with `interpolate: true`, the events of its bucket are taken to lie evenly in it.",
		[]string{"metric", "threshold"},
		[]string{"matchers", "buckets", "interpolate"},
		Indicator.histogramQueries,
	},
	KindNativeHistogram: {
		"an observation", "Observations of a native histogram; good at or below the threshold, which may be any number: Prometheus interpolates in the bucket.",
		[]string{"metric", "threshold"},
		[]string{"matchers"},
		Indicator.nativeQueries,
	},
	KindProbe: {
		"a sample of one series", "Samples of a gauge: 1 is good and 0 is bad, as of `probe_success` and `up`.",
		[]string{"metric"},
		[]string{"matchers"},
		Indicator.probeQueries,
	},
	KindFreshness: {
		"a minute", "Minutes in which the newest of the metric's Unix timestamps, in seconds, is not older than the threshold. A timestamp of 0 is none.",
		[]string{"metric", "threshold"},
		[]string{"matchers"},
		Indicator.freshnessQueries,
	},
	KindThroughput: {
		"a slice of time", "Slices of time in which a counter grows by at least the threshold per second. A slice is 5 minutes, or with `slice: 1m` one minute, which needs scrapes every 15 seconds.",
		[]string{"metric", "threshold"},
		[]string{"matchers", "slice"},
		Indicator.throughputQueries,
	},
	KindTimeSlice: {
		"a slice of time", "Slices of time whose own error ratio, of the file's queries over `$slice`, is at most the threshold (0.05 is 5 %). A slice is 5 minutes, or with `slice: 1m` one minute, which needs scrapes every 15 seconds. A slice without events is left out, or counts as `no-traffic` says.",
		[]string{"errors", "total", "threshold"},
		[]string{"slice"},
		Indicator.sliceQueries,
	},
}

// countsTime tells whether the events are samples or slices of time, which are counted over the base window and not
// taken from an increase. They are to be there all the time, so that none may count as bad.
func (k Kind) countsTime() bool {
	return k == KindProbe || k == KindFreshness || k == KindThroughput || k == KindTimeSlice
}

// CountsEvents tells whether the total of an indicator of this kind is traffic: requests, calls, runs.
func (k Kind) CountsEvents() bool { return !k.countsTime() }

// keys are the keys that an indicator has set, by the name in the file.
func (i Indicator) keys() map[string]bool {
	out := map[string]bool{}
	for name, set := range map[string]bool{
		"errors": i.Errors != "", "total": i.Total != "", "threshold": i.Threshold != "", "metric": i.Metric != "", "matchers": i.Matchers != "",
		"buckets": len(i.Buckets) > 0, "interpolate": i.Interpolate, "slice": i.Slice != "",
	} {
		if set {
			out[name] = true
		}
	}
	return out
}

// check says what is wrong with the indicator's keys.
func (i Indicator) check() error {
	k, ok := kinds[i.kind()]
	if !ok {
		return fmt.Errorf("there is no kind %q; the kinds are %v", i.Kind, slices.Sorted(maps.Keys(kinds)))
	}
	set := i.keys()
	for _, name := range k.needs {
		if !set[name] {
			return fmt.Errorf("the kind %s needs %s", i.kind(), name)
		}
		delete(set, name)
	}
	for _, name := range k.takes {
		delete(set, name)
	}
	if len(set) > 0 {
		return fmt.Errorf("the kind %s has no %s", i.kind(), strings.Join(slices.Sorted(maps.Keys(set)), ", "))
	}
	if i.Slice != "" && i.Slice != "1m" && i.Slice != "5m" {
		return fmt.Errorf("the slice is %q: it must be 1m or 5m", i.Slice)
	}
	if i.Interpolate && len(i.Buckets) == 0 {
		return errors.New("interpolate needs the edges in buckets")
	}
	_, err := i.edges()
	return err
}

func (i Indicator) kind() Kind { return cmp.Or(i.Kind, KindEvents) }

// series is the metric's selector; suffix is that of a histogram's part, more are matchers.
func (i Indicator) series(suffix string, more ...string) string {
	if i.Matchers != "" {
		more = append([]string{i.Matchers}, more...)
	}
	return i.Metric + suffix + "{" + strings.Join(append([]string{"$selector"}, more...), ",") + "}"
}

func (i Indicator) eventQueries(threshold string, _ NoTraffic) (errs, total string, err error) {
	r := strings.NewReplacer("$threshold", edge(threshold), "$seconds", threshold)
	return r.Replace(i.Errors), r.Replace(i.Total), nil
}

// edge is what matches a bucket's edge in the label le, inside a quoted regular expression: Prometheus 3 stores "1.0" where 2
// stores what was scraped, as "1".
func edge(threshold string) string {
	if threshold == "" || strings.Contains(threshold, ".") {
		return strings.ReplaceAll(threshold, ".", `\\.`)
	}
	return threshold + `(\\.0)?`
}
