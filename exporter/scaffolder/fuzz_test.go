package scaffolder

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// FuzzEvents checks that a task's events of any content give attempts whose steps have ended one way or other, and no
// duration below zero.
func FuzzEvents(f *testing.F) {
	f.Add("completed", []byte(`[{"id":1,"type":"log","createdAt":"2026-01-02T03:04:05Z","body":{"message":"Starting up task with 1 steps"}},{"id":2,"type":"log","createdAt":"2026-01-02T03:04:06Z","body":{"stepId":"a","status":"processing"}},{"id":3,"type":"log","createdAt":"2026-01-02T03:04:07Z","body":{"stepId":"a","status":"completed"}},{"id":4,"type":"completion","createdAt":"2026-01-02T03:04:08Z","body":{"message":"Run completed with status: completed"}}]`))
	f.Add("cancelled", []byte(`[{"id":2,"type":"cancelled","body":{"stepId":0}},{"id":1,"type":"log","body":{"stepId":"a","status":"failed","message":"step of task t has been cancelled"}},{"id":3,"type":"completion","body":{"error":{}}}]`))
	f.Add("failed", []byte(`[{"id":1,"type":"recovered"},{"id":1,"type":"recovered"},{"id":5,"type":"completion","body":{"error":null}},{"id":4,"type":"log","body":{"stepId":"b","status":"processing"}}]`))
	f.Fuzz(func(t *testing.T, status string, b []byte) {
		var events []event
		if json.Unmarshal(b, &events) != nil {
			return
		}
		source, err := New(nil, "http://backstage.example.com", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		c := &reading{Source: source}
		task := task{ID: "t", Status: status}
		all := attempts(events)
		heard := 0
		for n, of := range all {
			heard += len(of)
			result := task.outcome(of, n == len(all)-1)
			if result == "" {
				continue
			}
			for _, r := range c.attempt(task, of, result, n > 0, n) {
				if r.State != exporter.StateFinished || r.Result == "" {
					t.Errorf("attempt %d gives %+v", n, r)
				}
				if r.Duration != nil && *r.Duration < 0 {
					t.Errorf("attempt %d took %g seconds", n, *r.Duration)
				}
			}
		}
		if heard != len(events) {
			t.Errorf("%d of %d events are in attempts", heard, len(events))
		}
	})
}
