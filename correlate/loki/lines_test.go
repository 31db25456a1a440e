package loki_test

import (
	"errors"
	"strconv"
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
	for i := range 5 { // of 200 KiB, so that two fit into a request
		lines = append(lines, correlate.Line{Time: noon.Add(time.Duration(i) * time.Second), Labels: []correlate.Label{{Name: "kind", Value: "job_log"}}, Text: strings.Repeat("x", 200<<10)})
	}
	sent, err := to.SendLines(t.Context(), lines)
	var se *exporter.SendError
	if !errors.As(err, &se) || !se.Rejected || sent != 5 {
		t.Errorf("two lines are too old, and %d are answered for with the error %v", sent, err)
	}
	if len(s.lines) != 3 || len(s.tenants) != 3 {
		t.Errorf("%d lines arrived in %d requests, want the 3 that are not too old in 3", len(s.lines), len(s.tenants))
	}
}

func TestAStoreThatIsBusyIsSentTheRestLater(t *testing.T) {
	s := &store{busyAfter: 2}
	to := sink(t, s, "", 0)
	var lines []correlate.Line
	for i := range 10_000 { // of little text and much metadata, which counts, too
		lines = append(lines, correlate.Line{
			Time: noon.Add(time.Duration(i)), Labels: []correlate.Label{{Name: "kind", Value: "job_log"}}, Text: strconv.Itoa(i),
			Metadata: []correlate.Label{{Name: "entity", Value: strings.Repeat("e", 250)}},
		})
	}
	sent, err := to.SendLines(t.Context(), lines)
	var se *exporter.SendError
	if !errors.As(err, &se) || se.Rejected || sent != len(s.lines) || sent == 0 {
		t.Fatalf("%d lines are answered for and %d arrived, with the error %v; want some, and no rejection", sent, len(s.lines), err)
	}
	if sent > 2*(512<<10)/256 {
		t.Errorf("two requests hold %d lines of 256 bytes, more than 512 KiB each", sent)
	}
	s.busyAfter = 0
	if more, err := to.SendLines(t.Context(), lines[sent:]); err != nil || sent+more != len(lines) || len(s.lines) != len(lines) {
		t.Errorf("then %d lines with the error %v, and %d arrived; want the rest", more, err, len(s.lines))
	}
}
