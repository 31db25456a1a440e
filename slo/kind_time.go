package slo

import (
	"cmp"
	"strings"
)

// The kinds of this file count samples or slices of time. Their base window is always five minutes, which hold as many
// of them whenever the window ends, so that each is seen by five evaluations a minute apart and by one each five minutes.
// Thus a count in the base window ÷ 300 is a rate; over other windows only the quotient of two of them has a meaning.

func (i Indicator) probeQueries(_ string, idle NoTraffic) (errs, total string, err error) {
	errs, total = probesOf(i.series(""), idle)
	return errs, total, nil
}

// probesOf counts the samples of a series. Where nothing is bad, it is one bad sample a minute.
func probesOf(series string, idle NoTraffic) (errs, total string) {
	count := "count_over_time(" + series + "[$window])"
	errs = "sum(" + count + " - sum_over_time(" + series + "[$window])) / 300"
	total = "sum(" + count + ") / 300"
	if idle == NoTrafficBad {
		errs, total = "("+errs+") or vector(1 / 60)", "("+total+") or vector(1 / 60)"
	}
	return errs, total
}

func (i Indicator) freshnessQueries(threshold string, idle NoTraffic) (errs, total string, err error) {
	errs, total = staleMinutes(i.series(""), threshold, idle)
	return errs, total, nil
}

func staleMinutes(series, threshold string, idle NoTraffic) (errs, total string) {
	return slicesOf("1m", "time() - max("+series+" > 0) > bool "+threshold, "", idle)
}

func (i Indicator) throughputQueries(threshold string, idle NoTraffic) (errs, total string, err error) {
	errs, total = slowSlices(i.series(""), threshold, cmp.Or(i.Slice, "5m"), idle)
	return errs, total, nil
}

func slowSlices(series, threshold, slice string, idle NoTraffic) (errs, total string) {
	return slicesOf(slice, "sum(rate("+series+"["+slice+"])) < bool "+threshold, "", idle)
}

func (i Indicator) sliceQueries(threshold string, idle NoTraffic) (errs, total string, err error) {
	slice := cmp.Or(i.Slice, "5m")
	r := strings.NewReplacer("$slice", slice)
	errs, total = badSlices(r.Replace(i.Errors), r.Replace(i.Total), threshold, slice, idle)
	return errs, total, nil
}

// badSlices counts slices by the ratio of bad and all in each.
func badSlices(bad, all, threshold, slice string, idle NoTraffic) (errs, total string) {
	over := "((" + bad + ") or 0 * (" + all + ")) / ((" + all + ") > 0) > bool " + threshold
	return slicesOf(slice, over, "0 * ("+all+")", idle)
}

// slicesOf counts the slices in which bad is 1, and those in which it is 1 or 0. Where it is neither, the slice is left
// out, or bad, or good where there is "none", an expression that is then 0.
func slicesOf(slice, bad, none string, idle NoTraffic) (errs, total string) {
	switch {
	case idle == NoTrafficBad:
		bad = "(" + bad + ") or vector(1)"
	case idle == NoTrafficGood && none != "":
		bad = "(" + bad + ") or " + none
	}
	over := "((" + bad + ")[$window:" + slice + "]) / 300"
	return "sum_over_time" + over, "count_over_time" + over
}
