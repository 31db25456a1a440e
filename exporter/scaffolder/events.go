package scaffolder

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// task is what is read of a task; parameters, secrets and the user are never decoded.
type task struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"createdAt"`
	Heartbeat string    `json:"lastHeartbeatAt"`
	Spec      struct {
		TemplateInfo struct {
			EntityRef string `json:"entityRef"`
		} `json:"templateInfo"`
	} `json:"spec"`
}

func (t task) template() catalog.Ref {
	r, err := catalog.ParseRef(t.Spec.TemplateInfo.EntityRef, "template")
	if err != nil {
		return catalog.Ref{}
	}
	return r
}

func (t task) dryRun() bool { return t.template() == catalog.NewRef("template", "", "dry-run") }

func (t task) terminal() bool { return t.result() != "" }

// result is what the status of a task alone says; "" while it is not finished. A failure that no event explains is an
// error: nobody knows whose.
func (t task) result() exporter.Result {
	switch t.Status {
	case "completed":
		return exporter.ResultSuccess
	case "failed":
		return exporter.ResultError
	case "cancelled":
		return exporter.ResultCancellation
	case "skipped":
		return exporter.ResultSkip
	}
	return ""
}

// lastSign is the latest time at which the task is known to have been alive.
func (t task) lastSign(events []event) time.Time {
	last := t.CreatedAt
	if at, err := time.Parse(time.RFC3339, t.Heartbeat); err == nil && at.After(last) {
		last = at
	}
	for _, e := range events {
		if e.CreatedAt.After(last) {
			last = e.CreatedAt
		}
	}
	return last
}

// event is what is read of a task's event. The message is used for its fixed parts only and is not kept.
type event struct {
	ID        int64     `json:"id"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"createdAt"`
	Body      struct {
		Message string          `json:"message"`
		StepID  stepID          `json:"stepId"`
		Status  string          `json:"status"`
		Error   json.RawMessage `json:"error"`
		Output  json.RawMessage `json:"output"` // of a completion
	} `json:"body"`
}

// stepID is a step's id; "" for the number 0, which Backstage writes when a task is cancelled before its first step.
type stepID string

// UnmarshalJSON takes strings, and anything else for no step.
func (s *stepID) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = ""
	}
	*s = stepID(text)
	return nil
}

// The messages of Backstage that carry what no field does.
const (
	startMessage = "Starting up task with "      // followed by the number of steps
	endMessage   = "Run completed with status: " // followed by the status
)

func (e event) starts() bool {
	return e.Body.StepID == "" && strings.HasPrefix(e.Body.Message, startMessage)
}

func (e event) cancels() bool { return e.Type == "cancelled" }

// cancelsStep tells whether a step failed because its task was cancelled.
func (e event) cancelsStep(task string) bool {
	return e.Body.Status == "cancelled" || e.Body.Status == "failed" && strings.Contains(e.Body.Message, " of task "+task+" has been cancelled")
}

// attempts cuts the events of a task into its attempts. A new one begins after a completion, where the task was put back
// into the queue ("recovered": by a retry, or after the loss of a worker), and at a second start message. A cancellation that
// is still there was not undone by a retry: it holds for what follows.
func attempts(events []event) [][]event {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.ID, b.ID) })
	var out [][]event
	var cur []event
	for _, e := range events {
		again := e.Type == "recovered" || e.starts() && slices.ContainsFunc(cur, event.starts)
		if len(cur) > 0 && again && !slices.ContainsFunc(cur, event.cancels) {
			out, cur = append(out, cur), nil
		}
		cur = append(cur, e)
		if e.Type == "completion" {
			out, cur = append(out, cur), nil
		}
	}
	if len(cur) > 0 {
		out = append(out, cur)
	}
	return out
}

// outcome tells how an attempt ended; "" when it did not, as far as its events tell. Backstage deletes the events
// "completion" and "cancelled" of an attempt when the task is retried: then its steps tell.
func (t task) outcome(events []event, last bool) exporter.Result {
	end := events[len(events)-1]
	if end.Type != "completion" {
		if last {
			return ""
		}
		return t.outcomeOfSteps(events)
	}
	if slices.ContainsFunc(events, event.cancels) {
		return exporter.ResultCancellation
	}
	failed := len(end.Body.Error) > 0 && string(end.Body.Error) != "null"
	switch status, _ := strings.CutPrefix(end.Body.Message, endMessage); {
	case status == "cancelled":
		return exporter.ResultCancellation
	case status == "failed", failed:
		return exporter.ResultFailure
	case status == "completed":
		return exporter.ResultSuccess
	case last && t.terminal(): // the worker was lost, or the task was given up as stale
		return t.result()
	}
	return exporter.ResultError
}

// outcomeOfSteps is the outcome of an attempt that was retried: every step was heard of, and the last one that was heard of
// has ended. Anything else was cut off with its worker, and never finished.
func (t task) outcomeOfSteps(events []event) exporter.Result {
	want, heard, latest := 0, map[stepID]bool{}, ""
	failed, cancelled := false, false
	for _, e := range events {
		if e.starts() {
			n, _, _ := strings.Cut(strings.TrimPrefix(e.Body.Message, startMessage), " ")
			want, _ = strconv.Atoi(n)
		}
		if e.Body.StepID == "" || e.Body.Status == "" {
			continue
		}
		heard[e.Body.StepID], latest = true, e.Body.Status
		switch {
		case e.cancelsStep(t.ID):
			cancelled = true
		case e.Body.Status == "failed":
			failed = true
		}
	}
	if want == 0 || len(heard) < want || latest == "processing" {
		return ""
	}
	for _, s := range t.steps(events, "", time.Time{}) {
		cancelled = cancelled || s.result == exporter.ResultError // cancelled before it did anything
	}
	switch {
	case cancelled:
		return exporter.ResultCancellation
	case failed:
		return exporter.ResultFailure
	}
	return exporter.ResultSuccess
}

type step struct {
	id              stepID
	started, ended  time.Time
	result          exporter.Result
	failed, cancels bool
}

// steps rebuilds the steps of one attempt, in the order in which they were first heard of. whole is how the attempt ended.
func (t task) steps(events []event, whole exporter.Result, end time.Time) []*step {
	var out []*step
	for _, e := range events {
		if e.Body.StepID == "" || e.Body.Status == "" {
			continue
		}
		i := slices.IndexFunc(out, func(s *step) bool { return s.id == e.Body.StepID })
		if i < 0 {
			out, i = append(out, &step{id: e.Body.StepID}), len(out)
		}
		s := out[i]
		switch e.Body.Status {
		case "processing":
			if s.started.IsZero() {
				s.started = e.CreatedAt
			}
			continue
		case "completed":
			s.result = exporter.ResultSuccess
		case "skipped":
			s.result = exporter.ResultSkip
		case "failed":
			s.failed = true
		case "cancelled":
		default:
			continue
		}
		s.cancels = s.cancels || e.cancelsStep(t.ID)
		if s.ended.IsZero() || !s.failed {
			s.ended = e.CreatedAt
		}
	}
	for _, s := range out {
		switch {
		case s.cancels:
			s.result = exporter.ResultCancellation
		case s.failed:
			s.result = exporter.ResultFailure
		case s.result != "":
		case whole == exporter.ResultCancellation:
			s.result, s.ended = exporter.ResultCancellation, end
		default: // begun, and the task ended without a word about it
			s.result, s.ended = exporter.ResultError, end
		}
	}
	return out
}

// normalise makes a step id fit for a label: lower case, other characters as "-", 63 bytes at most.
func normalise(id stepID) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, string(id))
	return s[:min(len(s), 63)]
}
