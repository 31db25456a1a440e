package slo_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

// A traffic is what happens in each minute, and how it is seen: by counters of pods, scraped now and then.
type traffic struct {
	bad, total  []float64     // events of the minutes that end at 0, 1, …
	base        float64       // what the counters have counted before
	pods        []pod         // one that is always there, where there are none
	errorsFrom  int           // the error series exist from this minute on
	errorsUntil int           // and until this one; 0: for good
	every       time.Duration // between scrapes
	late        time.Duration // every other scrape is so late
	missing     int           // each such scrape fails; 0: none
}

// A pod takes a share of the traffic from a minute until another. It counts from 0 again at the minutes in restarts.
type pod struct {
	share       float64
	from, until int
	restarts    []int
}

// cumulate gives the running sums of events: out[m] is what has happened until minute m.
func cumulate(events []float64) []float64 {
	out := make([]float64, len(events))
	for m := 1; m < len(events); m++ {
		out[m] = out[m-1] + events[m]
	}
	return out
}

// until is a running sum at a time between minutes.
func until(sums []float64, at time.Time) float64 {
	m := at.Sub(start).Minutes()
	i := min(max(int(m), 0), len(sums)-1)
	j := min(i+1, len(sums)-1)
	return sums[i] + (sums[j]-sums[i])*(m-float64(i))
}

// scrape adds the counters of requests to a timeline.
func (tr *traffic) scrape(h *timeline) {
	pods := tr.pods
	if len(pods) == 0 {
		pods = []pod{{share: 1, until: len(tr.total)}}
	}
	bad, total := cumulate(tr.bad), cumulate(tr.total)
	for i, p := range pods {
		for _, code := range []string{"200", "500"} {
			n := 0
			counter := func(now time.Time) float64 {
				if n++; tr.missing > 0 && n%tr.missing == 0 {
					return missing
				}
				seen := now
				if now.Before(at(p.from)) || now.After(at(p.until)) {
					return missing
				}
				if code == "500" && (now.Before(at(tr.errorsFrom)) || tr.errorsUntil > 0 && now.After(at(tr.errorsUntil))) {
					return missing
				}
				base, since := tr.base, at(p.from)
				if code == "500" && tr.errorsFrom > p.from {
					since = at(tr.errorsFrom)
				}
				for _, r := range p.restarts {
					if !seen.Before(at(r)) {
						base, since = 0, at(r)
					}
				}
				count := func(now time.Time) float64 {
					if code == "500" {
						return until(bad, now)
					}
					return until(total, now) - until(bad, now)
				}
				return base + p.share*(count(seen)-count(since))
			}
			from, step := start, tr.every
			if tr.late == 0 {
				h.scrape(fmt.Sprintf(`req_total{job="a",code=%q,pod="%d"}`, code, i), from, at(len(tr.total)), step, counter)
				continue
			}
			// Every other scrape comes late: two series of half as many samples make one.
			one := newTrack(fmt.Sprintf(`req_total{job="a",code=%q,pod="%d"}`, code, i))
			for k, now := 0, from; now.Before(at(len(tr.total))); k, now = k+1, now.Add(step) {
				moment := now
				if k%2 == 1 {
					moment = now.Add(tr.late)
				}
				if v := counter(moment); !math.IsNaN(v) {
					one.points = append(one.points, floatSample{moment.UnixMilli(), v})
				}
			}
			h.add(one)
		}
	}
}

// ratio is the share of bad events of the last minutes before a minute.
func (tr *traffic) ratio(m, length int) float64 {
	bad, total := 0.0, 0.0
	for i := max(1, m-length+1); i <= m; i++ {
		bad, total = bad+tr.bad[i], total+tr.total[i]
	}
	if total == 0 {
		return 0
	}
	return bad / total
}

// burns gives the minutes, of those from a minute on, in which a pair of the severity burns, as counted: both windows are
// sums of events, cut at the beginning.
func (tr *traffic) burns(t testing.TB, o slo.Objective, severity slo.Severity, from int) []int {
	t.Helper()
	bad, total := cumulate(tr.bad), cumulate(tr.total)
	ratio := func(m, length int) float64 {
		since := max(0, m-length)
		if total[m] == total[since] {
			return 0
		}
		return (bad[m] - bad[since]) / (total[m] - total[since])
	}
	var out []int
	for _, p := range o.Window.BurnPairs() {
		if p.Severity != severity {
			continue
		}
		threshold := thresholdOf(t, p, o)
		short, long := int(inMinutes(t, p.Short)), int(inMinutes(t, p.Long))
		for m := from; m < len(bad); m++ {
			if ratio(m, short) > threshold && ratio(m, long) > threshold && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	slices.Sort(out)
	return out
}
