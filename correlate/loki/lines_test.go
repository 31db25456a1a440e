package loki_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
)

func TestManyLinesGoInSeveralRequestsAndOldOnesHoldNewOnesNotBack(t *testing.T) {
	s := &store{oldest: noon.Add(2 * time.Second)}
	to := sink(t, s, "shop", 0)
	var lines []correlate.Line
	for i := range 5 { // of 400 KiB, so that two fit into a request
		lines = append(lines, correlate.Line{Time: noon.Add(time.Duration(i) * time.Second), Labels: []correlate.Label{{Name: "kind", Value: "job_log"}}, Text: strings.Repeat("x", 400<<10)})
	}
	err := to.SendLines(t.Context(), lines)
	var se *exporter.SendError
	if !errors.As(err, &se) || !se.Rejected {
		t.Errorf("two lines are too old, and the error is %v", err)
	}
	if len(s.lines) != 3 || len(s.tenants) != 3 {
		t.Errorf("%d lines arrived in %d requests, want the 3 that are not too old in 3", len(s.lines), len(s.tenants))
	}
	s.oldest, s.status = time.Time{}, 429
	if err := to.SendLines(t.Context(), lines); !errors.As(err, &se) || se.Rejected || len(s.tenants) != 4 {
		t.Errorf("a rate limit gives %v after %d requests; want an error that is no rejection, and no further request", err, len(s.tenants)-3)
	}
}
