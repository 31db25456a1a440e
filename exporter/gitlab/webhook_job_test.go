package gitlab

import (
	"fmt"
	"testing"
	"time"
)

func TestAJobCountsWithItsOwnWebhookAndItsMeasuresFollow(t *testing.T) {
	w := newWorld(t)
	w.sync()
	from := w.now
	p := w.add("success")
	slow := w.attempt(p, "slow", w.now, "success")
	slow.Finished = slow.Finished.Add(10 * time.Minute)
	w.api.calls = 0
	end := w.now.Add(5 * time.Minute)
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), end) { // as from Backstage's event bus, to which anybody may send
		if _, err := w.source.hook(t.Context(), w.journal, delivery{body: h.Body}); err != nil {
			t.Fatal(err)
		}
	}
	if w.source.hooks.hasEnded(42) {
		t.Error("a job counts of which nobody knows who told")
	}
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), end) {
		w.now = h.At
		w.send(h)
		if err := w.nudge(); err != nil {
			t.Fatal(err)
		}
	}
	w.want(map[string]uint64{"job build success": 1})
	if w.api.calls > 0 {
		t.Errorf("a job that a webhook told of cost %d calls", w.api.calls)
	}
	w.pass(20 * time.Minute)
	w.sync()
	w.want(map[string]uint64{"job build success": 1, "job slow success": 1, "first success": 1})
	w.wantMeasured()
}

func TestAWebhookThatLeavesSomethingOpenDoesNotCountItsJob(t *testing.T) {
	const whole = `{"build_id":7,"build_name":"build","build_status":"failed","build_failure_reason":"script_failure","build_finished_at":"2026-01-01 10:00:00 UTC","pipeline_id":1,"commit":{"name":null}}`
	if readEndedJob([]byte(whole)) == nil {
		t.Fatal("a job of which all is told does not count")
	}
	for name, body := range map[string]string{
		"the reason of the failure":       `{"build_id":7,"build_name":"build","build_status":"failed","build_failure_reason":"unknown_failure","build_finished_at":"2026-01-01 10:00:00 UTC","pipeline_id":1,"commit":{"name":null}}`,
		"the name of the pipeline":        `{"build_id":7,"build_name":"build","build_status":"success","build_finished_at":"2026-01-01 10:00:00 UTC","pipeline_id":1,"commit":{}}`,
		"when it ended":                   `{"build_id":7,"build_name":"build","build_status":"success","build_finished_at":null,"pipeline_id":1,"commit":{"name":null}}`,
		"how long it ran":                 `{"build_id":7,"build_name":"build","build_status":"success","build_started_at":"2026-01-01 09:59:00 UTC","build_finished_at":"2026-01-01 10:00:00 UTC","pipeline_id":1,"commit":{"name":null}}`,
		"anything, by a duration in text": `{"build_id":7,"build_name":"build","build_status":"success","build_duration":"9","build_finished_at":"2026-01-01 10:00:00 UTC","pipeline_id":1,"commit":{"name":null}}`,
	} {
		if j := readEndedJob([]byte(body)); j != nil {
			t.Errorf("without %s it counts as %s", name, fmt.Sprintf("%+v", j.job))
		}
	}
}
