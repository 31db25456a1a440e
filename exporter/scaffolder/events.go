package scaffolder

import (
	"encoding/json"
	"slices"
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

func (t task) terminal() bool {
	return t.Status == "completed" || t.Status == "failed" || t.Status == "cancelled"
}

// event is what is read of a task's event. The message is used for its two fixed beginnings only and is not kept.
type event struct {
	ID        int64     `json:"id"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"createdAt"`
	Body      struct {
		Message string          `json:"message"`
		StepID  string          `json:"stepId"`
		Status  string          `json:"status"`
		Error   json.RawMessage `json:"error"`
	} `json:"body"`
}

const startMessage = "Starting up task with "

// attempts cuts the events of a task into its attempts: a new one begins after a completion, and at a start message
// (Backstage deletes the completion of an attempt when the task is retried).
func attempts(events []event) [][]event {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b event) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	var out [][]event
	var cur []event
	for _, e := range events {
		if len(cur) > 0 && strings.HasPrefix(e.Body.Message, startMessage) && e.Body.StepID == "" {
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

type step struct {
	id              string
	started, ended  time.Time
	result          exporter.Result
	failed, cancels bool
}

// steps rebuilds the steps of one attempt, in the order in which they were first heard of.
func steps(events []event, end time.Time) []*step {
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
			s.cancels = true
		default:
			continue
		}
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
		case s.result == "": // begun, and the task ended without a word about it
			s.result, s.ended = exporter.ResultError, end
		}
	}
	return out
}

// normalise makes a step id fit for a label: lower case, other characters as "-", 63 bytes at most.
func normalise(id string) string {
	id = strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, id)
	return id[:min(len(id), 63)]
}
