package gitlab

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/upstream"
)

const summaryRoute = "/projects/:id/pipelines/:id/test_report_summary"

// tested adds a pipeline whose job leaves a JUnit report.
func (w *world) tested(tests map[string]int) *fakegitlab.Pipeline {
	p := w.add("failed")
	p.Jobs[0].Artifacts, p.Jobs[0].Tests = map[string]int{"junit": 100}, tests
	return p
}

// testCases are the counted test cases by result.
func (w *world) testCases() map[string]float64 {
	out := map[string]float64{}
	for name, n := range w.measured() {
		if result, ok := strings.CutPrefix(name, "test_cases acme/checkout "); ok {
			out[result] = n
		}
	}
	return out
}

func TestTestCasesAreCountedOncePerPipelineHoweverItIsHeardOf(t *testing.T) {
	for _, webhooks := range []bool{false, true} {
		w := newWorld(t)
		w.sync()
		from := w.now
		w.fake.Requests()
		w.tested(map[string]int{"success": 40, "failed": 2, "skipped": 1})
		w.add("success") // without a report
		w.pass(5 * time.Minute)
		if webhooks {
			for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
				w.send(h)
			}
			w.later()
		}
		asked := 0
		for range 4 {
			w.sync()
			asked += w.fake.Requests()[summaryRoute]
			w.open()
			w.pass(time.Minute)
		}
		want := map[string]float64{"success": 40, "failed": 2, "skipped": 1, "error": 0}
		if diff := cmp.Diff(want, w.testCases()); diff != "" || asked != 1 {
			t.Errorf("webhooks %v: with %d summaries that were read, want one, test cases (-want +got):\n%s", webhooks, asked, diff)
		}
		p := w.project.Pipelines[0]
		again := w.attempt(p, "build", w.now, "success")
		again.Artifacts, again.Tests = p.Jobs[0].Artifacts, map[string]int{"success": 42, "error": 3}
		w.pass(5 * time.Minute)
		w.sync()
		if diff := cmp.Diff(want, w.testCases()); diff != "" {
			t.Errorf("webhooks %v: test cases after a retry (-want +got):\n%s", webhooks, diff)
		}
	}
}

func TestOfHistoryOnlyTheLatestSummaryIsRead(t *testing.T) {
	w := newWorld(t)
	for n := range 30 {
		w.tested(map[string]int{"success": 100 + n})
		w.pass(10 * time.Minute)
	}
	w.pass(time.Hour)
	w.sync()
	if n := w.fake.Requests()[summaryRoute]; n != 1 {
		t.Errorf("%d summaries were read, want one", n)
	}
	w.pass(time.Minute)
	w.tested(map[string]int{"success": 1})
	w.pass(5 * time.Minute)
	w.sync()
	if diff := cmp.Diff(map[string]float64{"success": 130, "failed": 0, "skipped": 0, "error": 0}, w.testCases()); diff != "" {
		t.Errorf("test cases (-want +got):\n%s", diff)
	}
}

func TestASummaryThatCannotBeReadStopsNothing(t *testing.T) {
	counted := map[string]float64{"success": 3, "failed": 0, "skipped": 0, "error": 0}
	for _, c := range []struct {
		name     string
		err      error
		readings int // while it lasts, ten minutes apart
		asked    int // in them
		want     map[string]float64
	}{
		{"GitLab fails at it for some time", &upstream.StatusError{Code: 500}, 3, 3, counted},
		{"it is gone", &upstream.StatusError{Code: 404}, 3, 1, map[string]float64{}},
		{"it is refused", &upstream.StatusError{Code: 400}, 3, 1, map[string]float64{}},
		{"the connection breaks for hours", errors.New("connection reset"), 18, 18, counted},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.sync()
			w.tested(map[string]int{"success": 3})
			asked := 0
			w.api.breaks = func(path string) error {
				if !strings.HasSuffix(path, "/test_report_summary") {
					return nil
				}
				asked++
				return c.err
			}
			for range c.readings {
				w.pass(10 * time.Minute)
				w.sync()
			}
			w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
			if asked != c.asked {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
			w.api.breaks = nil
			w.pass(10 * time.Minute)
			w.open()
			w.sync()
			if diff := cmp.Diff(c.want, w.testCases()); diff != "" {
				t.Errorf("test cases (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASummaryThatGitLabFailsAtIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.sync()
	w.tested(map[string]int{"success": 3})
	asked := 0
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		if strings.HasSuffix(r.URL.Path, "/test_report_summary") {
			asked++
			rw.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	}
	w.pass(5 * time.Minute)
	for range 60 {
		w.sync()
		w.pass(2 * time.Minute)
	}
	if asked != reportTries {
		t.Errorf("asked %d times, want %d", asked, reportTries)
	}
	w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
}

func TestTheRecordedSummaryIsRead(t *testing.T) {
	b, err := os.ReadFile(recordings(t, "gitlab4j", "pipeline-test-report-summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s summary
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if s.Total == nil || s.Total.Success == nil || *s.Total.Success != 3351 || *s.Total.Failed != 0 || *s.Total.Skipped != 12 || *s.Total.Error != 0 {
		t.Errorf("read %+v", s.Total)
	}
}

func TestSummariesThatWaitDoNotGrowWithoutEnd(t *testing.T) {
	w := newWorld(t)
	r := &reading{follower: w.source.follower(42)}
	ended := job{ID: 1, Status: "failed", Artifacts: []artifact{{Type: "junit"}}}
	for id := range int64(maxReports + 10) {
		r.wantReport(pipeline{ID: id + 1}, []job{ended}, []finish{{at: w.now}})
	}
	if len(r.Reports) != maxReports || r.Reports[10] != nil || r.Reports[11] == nil {
		t.Errorf("%d summaries wait, want the latest %d", len(r.Reports), maxReports)
	}
}
