package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightline-dev/sightline/exporter"
)

// traced opens a journal where the trace of a run begins with "t", followed by the last character of its id.
func traced(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path, Options{Now: func() time.Time { return day }, Trace: func(r *exporter.Run) (id [16]byte, ok bool) {
		copy(id[:], "t"+r.ID.Key[len(r.ID.Key)-1:])
		return id, !strings.HasSuffix(r.ID.Key, "0")
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// exemplars gives the value and the beginning of the trace of each exemplar, by family and by bucket.
func exemplars(t *testing.T, j *Journal) map[string]string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(exporter.NewCollector(j))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	note := func(where string, e *dto.Exemplar) {
		if e != nil {
			out[where] = e.GetLabel()[0].GetName() + "=" + e.GetLabel()[0].GetValue()[:4] + " " + e.GetTimestamp().AsTime().Sub(day).String()
		}
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			note(f.GetName(), m.GetCounter().GetExemplar())
			for _, b := range m.GetHistogram().GetBucket() {
				note(fmt.Sprint(f.GetName(), " ", b.GetUpperBound()), b.GetExemplar())
			}
		}
	}
	return out
}

func TestTheLatestRunOfEachBucketIsItsExemplarAndNeverWrittenToTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := traced(t, path)
	at := func(key string, seconds float64, minutes int) exporter.Run {
		r := run(key, exporter.ResultSuccess, exporter.AttemptFirst, day.Add(time.Duration(minutes)*time.Minute))
		r.Duration = &seconds
		return r
	}
	commit(t, j, exporter.Batch{History: true, Cursor: "h", Position: "1", Runs: []exporter.Run{at("1/pipeline/9", 30, 0)}})
	if got := exemplars(t, j); len(got) != 0 {
		t.Errorf("history has exemplars: %v", got)
	}
	commit(t, j, exporter.Batch{Cursor: "h", Position: "2", Runs: []exporter.Run{
		at("1/pipeline/2", 30, 2), at("1/pipeline/1", 40, 1), // the earlier one comes later
		at("1/pipeline/3", 400, 3),
		at("1/pipeline/4", 1e6, 4),
		at("1/pipeline/10", 30, 5), // has no trace
	}})
	want := map[string]string{
		"cicd_pipeline_runs_total":                "trace_id=7434 4m0s",
		"cicd_pipeline_run_duration_seconds 60":   "trace_id=7432 2m0s",
		"cicd_pipeline_run_duration_seconds 600":  "trace_id=7433 3m0s",
		"cicd_pipeline_run_duration_seconds +Inf": "trace_id=7434 4m0s",
	}
	if diff := cmp.Diff(want, exemplars(t, j)); diff != "" {
		t.Errorf("exemplars (-want +got):\n%s", diff)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{"t2", "t3", "t4"} {
		if bytes.Contains(b, append([]byte(trace), make([]byte, 14)...)) {
			t.Errorf("the trace %s is in the file", trace)
		}
	}
	j = traced(t, path)
	if got := exemplars(t, j); len(got) != 0 {
		t.Errorf("after a restart there are exemplars: %v", got)
	}
	commit(t, j, exporter.Batch{Runs: []exporter.Run{at("1/pipeline/5", 30, 6)}})
	if got := exemplars(t, j)["cicd_pipeline_run_duration_seconds 60"]; got != "trace_id=7435 6m0s" {
		t.Errorf("the next run after a restart: %q", got)
	}
}
