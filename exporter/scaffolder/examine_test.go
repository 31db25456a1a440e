package scaffolder

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

// table answers paths with JSON; a path that is not there is forbidden.
type table map[string]string

func (a table) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	body, ok := a[path]
	if !ok {
		return nil, &upstream.StatusError{Code: http.StatusForbidden, URL: "http://backstage" + path}
	}
	return nil, json.Unmarshal([]byte(body), into)
}

func TestExamineTellsWhetherTasksAndEventsMayBeRead(t *testing.T) {
	const list, events = "/api/scaffolder/v2/tasks?limit=1&offset=0&order=desc:created_at", "/api/scaffolder/v2/tasks/a/events"
	const one = `{"tasks":[{"id":"a","createdAt":"2026-01-01T00:00:00Z","status":"completed"}],"totalTasks":12}`
	tests := map[string]struct {
		api  table
		want []upstream.Level
	}{
		"all is well":           {table{list: one, events: `[]`}, []upstream.Level{upstream.LevelOK, upstream.LevelOK}},
		"there is no task":      {table{list: `{"tasks":[],"totalTasks":0}`}, []upstream.Level{upstream.LevelOK}},
		"nothing may be read":   {table{}, []upstream.Level{upstream.LevelError}},
		"no events may be read": {table{list: one}, []upstream.Level{upstream.LevelOK, upstream.LevelError}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []upstream.Level
			for _, f := range Examine(t.Context(), tt.api) {
				got = append(got, f.Level)
				if f.Level == upstream.LevelError && f.Hint == "" {
					t.Errorf("%q has no hint", f.Message)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
