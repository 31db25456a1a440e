package gitlab

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

type answered []byte

func (a answered) Post(context.Context, string, http.Header, []byte) ([]byte, error) { return a, nil }

// FuzzGraphQL checks that no answer but one that knows the project, and lists nothing unseen, says that nothing moved.
func FuzzGraphQL(f *testing.F) {
	f.Add([]byte(`{"data":{"q0":{"id":"gid://gitlab/Project/7","pipelines":{"nodes":[{"id":"gid://gitlab/Ci::Pipeline/3","updatedAt":"2026-01-02T03:04:05Z"}]}}}}`))
	f.Add([]byte(`{"data":{"q0":{"id":"gid://gitlab/Project/7","pipelines":{"nodes":[]}}}}`))
	f.Add([]byte(`{"data":{"q0":null},"errors":[{"message":"Query has complexity of 400, which exceeds max complexity of 250"}]}`))
	f.Add([]byte(`{"data":{"q0":{"id":"","pipelines":{"nodes":[{"id":"","updatedAt":null}]}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		quiet, err := askQuiet(t.Context(), answered(b), []question{{7, "shop/checkout", at.Add(-time.Hour), map[int64]time.Time{3: at}}})
		if err != nil || len(quiet) == 0 {
			return
		}
		var said struct {
			Data map[string]struct {
				ID        string
				Pipelines struct {
					Nodes []struct {
						ID        string
						UpdatedAt stamp
					}
				}
			}
		}
		if err := json.Unmarshal(b, &said); err != nil {
			t.Fatalf("not read: %v", err)
		}
		if said.Data["q0"].ID != "gid://gitlab/Project/7" {
			t.Errorf("an answer about %q says that project 7 has not moved", said.Data["q0"].ID)
		}
		for _, n := range said.Data["q0"].Pipelines.Nodes {
			if id, err := strconv.Atoi(n.ID[strings.LastIndexByte(n.ID, '/')+1:]); err != nil || id != 3 || n.UpdatedAt.Unix() != at.Unix() {
				t.Errorf("pipeline %q of %v was not seen, and nothing moved", n.ID, n.UpdatedAt)
			}
		}
	})
}

// FuzzDeployments checks that a list of deployments of any content is refused or can be told the end of each.
func FuzzDeployments(f *testing.F) {
	f.Add([]byte(`[{"id":1,"sha":"a","status":"success","updated_at":"2026-01-02T03:04:05Z","environment":{"id":2,"name":"production","tier":"production"},"deployable":{"finished_at":null,"pipeline":{"id":4}}}]`))
	f.Add([]byte(`[{"id":1,"status":"failed","updated_at":null,"environment":{"id":2,"name":"review/x"},"deployable":null}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rows list[deployment]
		if json.Unmarshal(b, &rows) != nil {
			return
		}
		for i := range rows {
			d := &rows[i]
			if d.Deployable != nil && !d.Deployable.Finished.IsZero() && d.ended() != d.Deployable.Finished.Time {
				t.Errorf("deployment %d ended at %v, its job at %v", d.ID, d.ended(), d.Deployable.Finished)
			}
			if tier := guessTier(d.Environment.Name); tier == "" {
				t.Errorf("environment %q is of no tier", d.Environment.Name)
			}
		}
	})
}
