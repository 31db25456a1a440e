package scaffolder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

var errCutOff = errors.New("cut off")

// A portal is a scaffolder that behaves as the recorded one: it writes and deletes the same events, and answers the same
// requests. It knows the truth: how often tasks finished, and how.
type portal struct {
	now   time.Time
	tasks []*work
	event int64
	calls []string
	fail  int // the call, counted from 1, that is cut off
	// silent makes 404 come without a word, as from a Backstage whose plugins are not up
	silent bool
}

// work is one task of a portal.
type work struct {
	id        string
	status    string
	created   time.Time
	heartbeat time.Time
	events    []map[string]any
	ended     []end // one for each finish
	cancelled bool
}

type end struct {
	result exporter.Result
	at     time.Time
}

func (p *portal) advance(d time.Duration) { p.now = p.now.Add(d) }

func (p *portal) log(w *work, kind, step, status, message string) map[string]any {
	p.event++
	body := map[string]any{"message": message}
	if step != "" {
		body["stepId"], body["status"] = step, status
	}
	e := map[string]any{"id": p.event, "taskId": w.id, "type": kind, "createdAt": p.now.Format(time.RFC3339Nano), "body": body}
	w.events = append(w.events, e)
	return body
}

func (p *portal) create() *work {
	w := &work{id: fmt.Sprintf("task-%03d", len(p.tasks)), status: "open", created: p.now}
	p.tasks = append(p.tasks, w)
	return w
}

// begin gives a waiting task to a worker.
func (p *portal) begin(w *work) {
	w.status, w.heartbeat = "processing", p.now
	p.log(w, "log", "", "", "Starting up task with 2 steps")
	p.log(w, "log", "a", "processing", "Beginning step A")
}

// finish ends an executing task; when it was cancelled, that is how it ends.
func (p *portal) finish(w *work, result exporter.Result) {
	if w.cancelled {
		result = exporter.ResultCancellation
	}
	failed := true
	switch result {
	case exporter.ResultSuccess:
		failed = false
		p.log(w, "log", "a", "completed", "Finished step A")
		p.log(w, "log", "b", "processing", "Beginning step B")
		p.log(w, "log", "b", "completed", "Finished step B")
	case exporter.ResultFailure:
		p.log(w, "log", "a", "failed", "Error: no")
		p.log(w, "log", "b", "processing", "Beginning step B")
		p.log(w, "log", "b", "failed", "Error: no again")
	case exporter.ResultCancellation:
		p.log(w, "log", "a", "failed", "Error: Step a (A) of task "+w.id+" has been cancelled.")
		p.log(w, "log", "b", "skipped", "Skipping step b because a previous step failed")
	}
	p.complete(w, failed, result)
}

func (p *portal) complete(w *work, failed bool, result exporter.Result) {
	w.status = "completed"
	if failed {
		w.status = "failed"
	}
	body := p.log(w, "completion", "", "", "Run completed with status: "+w.status)
	if failed {
		body["error"] = map[string]string{"name": "Error", "message": "no"}
	}
	w.ended = append(w.ended, end{result, p.now})
}

// lose gives up an executing task whose worker does not answer any more.
func (p *portal) lose(w *work) {
	w.status = "failed"
	p.log(w, "completion", "", "", "The task was cancelled because the task worker lost connection to the task broker")
	result := exporter.ResultError
	if w.cancelled {
		result = exporter.ResultCancellation
	}
	w.ended = append(w.ended, end{result, p.now})
}

// requeue puts an executing task back, because its worker was lost: that is no finish.
func (p *portal) requeue(w *work) {
	w.status, w.heartbeat = "open", p.now
	p.log(w, "recovered", "", "", "")
}

func (p *portal) cancel(w *work) {
	if w.cancelled || w.terminal() {
		return
	}
	w.cancelled = true
	body := p.log(w, "cancelled", "a", "cancelled", "Step a has been cancelled.")
	if w.status == "open" {
		body["stepId"] = 0
	}
}

func (p *portal) retry(w *work) {
	w.status, w.heartbeat, w.cancelled = "open", p.now, false
	w.events = slices.DeleteFunc(w.events, func(e map[string]any) bool { return e["type"] == "completion" || e["type"] == "cancelled" })
	p.log(w, "recovered", "", "", "")
}

func (p *portal) remove(w *work) {
	p.tasks[slices.Index(p.tasks, w)] = &work{id: w.id, status: "deleted", ended: w.ended}
}

func (w *work) terminal() bool { return w.status == "completed" || w.status == "failed" }

func (w *work) answer() map[string]any {
	t := map[string]any{
		"id": w.id, "status": w.status, "createdAt": w.created.Format(time.RFC3339Nano),
		"spec": map[string]any{"templateInfo": map[string]string{"entityRef": "template:default/service"}},
	}
	if !w.heartbeat.IsZero() {
		t["lastHeartbeatAt"] = w.heartbeat.Format(time.RFC3339Nano)
	}
	return t
}

// GetJSON answers as Backstage does.
func (p *portal) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	p.calls = append(p.calls, path)
	if len(p.calls) == p.fail {
		return nil, errCutOff
	}
	var answer any
	u, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(u.Path, "/api/scaffolder/v2/tasks"), "/"), "/")
	if id == "" {
		q := u.Query()
		limit, _ := strconv.Atoi(q.Get("limit"))
		offset, _ := strconv.Atoi(q.Get("offset"))
		list := []map[string]any{}
		for _, w := range slices.Backward(p.tasks) {
			if w.status == "deleted" || len(q["status"]) > 0 && !slices.Contains(q["status"], w.status) {
				continue
			}
			list = append(list, w.answer())
		}
		total := len(list)
		list = list[min(offset, total):min(offset+limit, total)]
		answer = map[string]any{"tasks": list, "totalTasks": total}
	} else {
		i := slices.IndexFunc(p.tasks, func(w *work) bool { return w.id == id && w.status != "deleted" })
		switch {
		case i < 0:
			missing := &upstream.StatusError{Code: http.StatusNotFound, URL: path, Message: "No task with id '" + id + "' found"}
			if p.silent {
				missing.Message = ""
			}
			return nil, missing
		case rest == "events":
			answer = p.tasks[i].events
		default:
			answer = p.tasks[i].answer()
		}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return nil, json.Unmarshal(b, into)
}

// truth counts the finishes, told apart by result and attempt, and how many tasks are not finished.
func (p *portal) truth() (finished map[string]int, active int) {
	finished = map[string]int{}
	for _, w := range p.tasks {
		if w.status == "open" || w.status == "processing" {
			active++
		}
		for n, e := range w.ended {
			attempt := "first"
			if n > 0 {
				attempt = "rerun"
			}
			finished[string(e.result)+" "+attempt]++
		}
	}
	return finished, active
}
