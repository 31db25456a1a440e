package slo

import (
	"fmt"
	"math/big"
	"strings"
)

// edges reads the buckets: numbers that rise.
func (i Indicator) edges() ([]*big.Rat, error) {
	var out []*big.Rat
	for _, b := range i.Buckets {
		if strings.Trim(b, "0123456789.") != "" {
			return nil, fmt.Errorf("the bucket %q is not a number such as 0.5", b)
		}
		r, ok := new(big.Rat).SetString(b)
		if !ok {
			return nil, fmt.Errorf("the bucket %q is not a number such as 0.5", b)
		}
		if len(out) > 0 && out[len(out)-1].Cmp(r) >= 0 {
			return nil, fmt.Errorf("the bucket %s is not above the one before it", b)
		}
		out = append(out, r)
	}
	return out, nil
}

// histogramQueries counts observations at or below the threshold in classic buckets. The total needs the threshold's
// bucket to be there: without one, each observation would be taken for a good one.
func (i Indicator) histogramQueries(threshold string, _ NoTraffic) (errs, total string, err error) {
	bucket := func(le string) string {
		return "sum(rate(" + i.series("_bucket", `le=~"`+edge(le)+`"`) + "[$window]))"
	}
	good := bucket(threshold)
	edges, err := i.edges()
	if err != nil {
		return "", "", err
	}
	if len(edges) > 0 {
		at, ok := new(big.Rat).SetString(threshold)
		if !ok {
			return "", "", fmt.Errorf("the threshold %s is not a number", threshold)
		}
		n := 0
		for n < len(edges) && edges[n].Cmp(at) < 0 {
			n++
		}
		switch {
		case n == len(edges):
			return "", "", fmt.Errorf("the threshold %s is above the last bucket, which ends at %s", threshold, i.Buckets[n-1])
		case edges[n].Cmp(at) == 0:
			good = bucket(decimal(edges[n]))
		case !i.Interpolate && n == 0:
			return "", "", fmt.Errorf("no bucket ends at the threshold %s; the first ends at %s", threshold, i.Buckets[0])
		case !i.Interpolate:
			return "", "", fmt.Errorf("no bucket ends at the threshold %s; the nearest end at %s and %s", threshold, i.Buckets[n-1], i.Buckets[n])
		case n == 0:
			good = bucket(decimal(edges[0])) + " * " + decimal(at.Quo(at, edges[0]))
		default:
			low, high := edges[n-1], edges[n]
			share := at.Quo(at.Sub(at, low), new(big.Rat).Sub(high, low))
			below := bucket(decimal(low))
			good = "(" + below + " + (" + bucket(decimal(high)) + " - " + below + ") * " + decimal(share) + ")"
		}
	}
	count := "sum(rate(" + i.series("_count") + "[$window]))"
	errs, total = slowOf(count, good)
	return errs, total, nil
}

func slowOf(count, good string) (errs, total string) {
	return count + " - " + good, count + " and " + good
}

// nativeQueries does so in a native histogram. Without observations the fraction is NaN, which the comparison drops.
func (i Indicator) nativeQueries(threshold string, _ NoTraffic) (errs, total string, err error) {
	errs, total = slowNative("sum(rate("+i.series("")+"[$window]))", threshold)
	return errs, total, nil
}

func slowNative(all, threshold string) (errs, total string) {
	return "histogram_count(" + all + ") * (1 - histogram_fraction(-Inf, " + threshold + ", " + all + ")) >= 0", "histogram_count(" + all + ")"
}
