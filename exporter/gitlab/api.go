package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// API asks one GitLab. GetJSON decodes the answer to a GET of the path, which begins with /api/v4 and may end in a query,
// and gives the headers of the answer. upstream.Client is one.
type API interface {
	GetJSON(ctx context.Context, path string, into any) (http.Header, error)
}

// A stamp is a time as GitLab writes it; the zero stamp stands for null.
type stamp struct{ time.Time }

var stampLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700"}

// UnmarshalJSON reads ISO 8601 and the two older forms; null and "" are the zero time.
func (s *stamp) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("read time %.40q: %w", b, err)
	}
	if text == nil || *text == "" {
		s.Time = time.Time{}
		return nil
	}
	for _, layout := range stampLayouts {
		if t, err := time.Parse(layout, *text); err == nil {
			s.Time = t.UTC()
			return nil
		}
	}
	return fmt.Errorf("%.60q is not a time that GitLab writes", *text)
}

// project is what is read of a project.
type project struct {
	ID            int64  `json:"id"`
	Path          string `json:"path_with_namespace"`
	DefaultBranch string `json:"default_branch"`
	Archived      bool   `json:"archived,omitempty"`
}

// pipeline is a row of the list of pipelines.
type pipeline struct {
	ID      int64  `json:"id"`
	Status  string `json:"status"`
	Source  string `json:"source"`
	Ref     string `json:"ref"`
	SHA     string `json:"sha,omitempty"`
	Name    string `json:"name,omitempty"` // null unless workflow:name is set
	Created stamp  `json:"created_at"`
	Updated stamp  `json:"updated_at"`
	WebURL  string `json:"web_url"`
}

// job is a row of a list of jobs or bridges. What may be null is a pointer: nil is not zero.
type job struct {
	ID           int64      `json:"id"`
	Name         string     `json:"name"`
	Status       string     `json:"status"`
	Tag          bool       `json:"tag"`
	AllowFailure bool       `json:"allow_failure"`
	Reason       string     `json:"failure_reason"`
	Created      stamp      `json:"created_at"`
	Started      stamp      `json:"started_at"`
	Finished     stamp      `json:"finished_at"`
	Duration     *float64   `json:"duration"`
	Queued       *float64   `json:"queued_duration"`
	Coverage     *float64   `json:"coverage"` // percent
	Tags         []string   `json:"tag_list"`
	Artifacts    []artifact `json:"artifacts"`
	WebURL       string     `json:"web_url"`
	Commit       struct {
		Committed stamp `json:"committed_date"`
	} `json:"commit"`
	Pipeline struct {
		ID     int64  `json:"id"`
		Source string `json:"source"`
	} `json:"pipeline"`
	Downstream *struct { // what a bridge started
		ID      int64 `json:"id"`
		Project int64 `json:"project_id"`
	} `json:"downstream_pipeline"`
}

func (j *job) attempt() attempt {
	return attempt{j.ID, j.Name, j.Created.Time, j.Started.Time, j.Finished.Time, j.Queued, j.Status, j.Reason, j.AllowFailure, j.Coverage}
}

// A list is what a path for a list answers. null is none: taken for an empty one, it would hide what there is.
type list[T any] []T

// UnmarshalJSON reads everything but null.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return errors.New("null is no list")
	}
	return json.Unmarshal(b, (*[]T)(l))
}

const pageSize = 100

// pages asks for one page after the other, as long as the answer names a next one and take says so. The path has a query.
// end tells that the list was read to its end.
func pages[T any](ctx context.Context, api API, path string, clock *clock, take func(rows []T) (more bool)) (end bool, err error) {
	for asked := map[string]bool{}; !asked[path]; {
		asked[path] = true
		var rows list[T]
		header, err := api.GetJSON(ctx, path, &rows)
		if err != nil {
			return false, err
		}
		clock.set(header)
		more := take(rows)
		next := nextPage(path, header)
		if next == "" || len(rows) == 0 {
			return true, nil
		}
		if !more {
			return false, nil
		}
		path = next
	}
	return false, fmt.Errorf("page after page of %.80s: the upstream names a page as its own successor", path)
}

// nextPage is the path of the next page; "" at the end. Keyset lists give a Link only, offset lists x-next-page too.
func nextPage(path string, h http.Header) string {
	base, query, _ := strings.Cut(path, "?")
	if n := h.Get("X-Next-Page"); n != "" {
		q, err := url.ParseQuery(query)
		if err != nil {
			return ""
		}
		q.Set("page", n)
		return base + "?" + q.Encode()
	}
	for _, link := range h.Values("Link") {
		for part := range strings.SplitSeq(link, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(part), ";")
			if !ok || !strings.Contains(params, `rel="next"`) {
				continue
			}
			u, err := url.Parse(strings.Trim(target, "<> "))
			if err != nil || u.RawQuery == "" {
				return ""
			}
			return base + "?" + u.RawQuery // the address itself may be another name of the host
		}
	}
	return ""
}

func projectPath(id int64) string { return fmt.Sprintf("/api/v4/projects/%d", id) }
