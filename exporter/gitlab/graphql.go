package gitlab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/exporter"
)

// A poster is an API that GraphQL can be asked of, too. upstream.Client is one.
type poster interface {
	Post(ctx context.Context, path string, header http.Header, body []byte) ([]byte, error)
}

const (
	// quietBatch is how many projects one query asks about: 25 have a complexity of about 160, of 250 that are allowed.
	quietBatch = 25
	// quietRows is how many changed pipelines of a project the query asks for; as many mean that something moved.
	quietRows = 5
	// restAfter is how long a project may be taken for quiet before its list of pipelines is read again all the same,
	// because GraphQL gives times in whole seconds only.
	restAfter = time.Hour
	// graphOffFor is how long GraphQL is left alone after it failed.
	graphOffFor = time.Hour
)

// graph is what is known of GitLab's GraphQL API. Sync alone uses it.
type graph struct {
	size     int // projects in a query; 0: quietBatch
	least    int // projects that are worth a query; 0: two, as one is asked as cheaply by REST
	offUntil time.Time
}

// quiet asks by GraphQL, many projects in one call, which of them have no pipeline that has changed since it was read.
// GraphQL only answers that question: what did change is read by REST, as it is where GraphQL is not to be had. A project of
// which it says nothing certain is not among the quiet ones.
func (s *Source) quiet(ctx context.Context, ids []int64, projects map[int64]*claimed, to exporter.Sink) map[int64]bool {
	api, ok := s.api.(poster)
	now := s.opts.Now()
	if !ok || now.Before(s.graph.offUntil) {
		return nil
	}
	var ask []question
	for _, id := range ids {
		if q, ok := s.follower(id).question(projects[id].Path, now, to); ok {
			ask = append(ask, q)
		}
	}
	if len(ask) < cmp.Or(s.graph.least, 2) {
		return nil
	}
	if s.graph.size == 0 {
		s.graph.size = quietBatch
	}
	out := map[int64]bool{}
	var mu sync.Mutex
	var failed error
	var group errgroup.Group
	group.SetLimit(s.opts.Workers)
	for size := s.graph.size; len(ask) > 0; {
		batch := ask[:min(size, len(ask))]
		ask = ask[len(batch):]
		group.Go(func() error {
			answer, err := askQuiet(ctx, api, batch)
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			for _, id := range answer {
				out[id] = true
			}
			return nil
		})
	}
	_ = group.Wait() // no function gives an error
	if failed == nil || ctx.Err() != nil {
		return out
	}
	if tooMuch := (*complexityError)(nil); errors.As(failed, &tooMuch) && s.graph.size > 2 {
		s.graph.size /= 2
		return out
	}
	s.graph.offUntil = now.Add(graphOffFor)
	s.opts.Logger.Info("GraphQL of this GitLab is of no use; each project is asked by REST", "source", "gitlab", "host", s.host, "again_in", graphOffFor, "error", failed)
	return out
}

// A question is whether a project is quiet.
type question struct {
	id    int64
	path  string
	since time.Time
	seen  map[int64]time.Time
}

// question makes the question about a project; false where it has to be read by REST.
func (f *follower) question(path string, now time.Time, to exporter.Sink) (question, bool) {
	if !f.busy.TryLock() { // webhooks are being read, which must not hold the other projects up
		return question{}, false
	}
	defer f.busy.Unlock()
	text, ok := to.Position(f.cursor)
	if !ok || f.failures > 0 || now.Sub(f.listed) > restAfter || path == "" {
		return question{}, false
	}
	var p position
	if json.Unmarshal([]byte(text), &p) != nil || !p.Floor.IsZero() {
		return question{}, false
	}
	seen := map[int64]time.Time{}
	maps.Copy(seen, p.Children.Seen) // GraphQL's list may have child pipelines, too
	maps.Copy(seen, p.Seen)
	return question{f.project.ID, path, p.Since.Add(-overlap), seen}, f.project.ID > 0
}

// A complexityError is GitLab's refusal of a query that costs too much.
type complexityError struct{ message string }

func (e *complexityError) Error() string { return e.message }

func askQuiet(ctx context.Context, api poster, batch []question) (quiet []int64, err error) {
	var params, fields strings.Builder
	variables := map[string]string{}
	for i, q := range batch {
		n := strconv.Itoa(i)
		fmt.Fprintf(&params, "$p%s:ID!,$t%s:Time!,", n, n)
		fmt.Fprintf(&fields, " q%s:project(fullPath:$p%s){id pipelines(first:%d,updatedAfter:$t%s){nodes{id updatedAt}}}", n, n, quietRows, n)
		variables["p"+n], variables["t"+n] = q.path, q.since.UTC().Format(time.RFC3339Nano)
	}
	body, err := json.Marshal(map[string]any{"query": "query(" + strings.TrimSuffix(params.String(), ",") + "){" + fields.String() + "}", "variables": variables})
	if err != nil {
		return nil, fmt.Errorf("write query: %w", err)
	}
	text, err := api.Post(ctx, "/api/graphql", http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data   map[string]*moved
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("read the answer of GraphQL: %w", err)
	}
	if len(answer.Errors) > 0 {
		message := answer.Errors[0].Message
		if low := strings.ToLower(message); strings.Contains(low, "complexity") || strings.Contains(low, "timeout") || strings.Contains(low, "timed out") {
			return nil, &complexityError{message}
		}
		return nil, fmt.Errorf("GraphQL: %.200s", message)
	}
	for i, q := range batch {
		if answer.Data["q"+strconv.Itoa(i)].quiet(q) {
			quiet = append(quiet, q.id)
		}
	}
	return quiet, nil
}

// moved is what a query says of one project: its pipelines that changed.
type moved struct {
	ID        string
	Pipelines *struct {
		Nodes []struct {
			ID        string
			UpdatedAt stamp
		}
	}
}

// quiet tells that a project has no change but those that were read.
func (m *moved) quiet(q question) bool {
	if m == nil || m.ID != "gid://gitlab/Project/"+strconv.FormatInt(q.id, 10) || m.Pipelines == nil || len(m.Pipelines.Nodes) >= quietRows {
		return false
	}
	for _, n := range m.Pipelines.Nodes {
		id, err := strconv.ParseInt(n.ID[strings.LastIndexByte(n.ID, '/')+1:], 10, 64)
		seen, ok := q.seen[id]
		if err != nil || !ok || seen.Unix() != n.UpdatedAt.Unix() {
			return false
		}
	}
	return true
}
