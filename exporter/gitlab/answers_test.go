package gitlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

func response(code int, body string, header ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i+1 < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(code)
	_, _ = w.WriteString(body)
	return w.Result()
}

// nullable are the fields of jobs and pipelines that GitLab's schemas allow to be null, or leave out, of one that has ended.
var nullable = []string{
	"coverage", "erased_at", "user", "commit", "runner", "artifacts_expire_at", "queued_duration", "tag_list", "project", "archived", "web_url", "artifacts",
	"sha", "iid", "failure_reason",
}

// TestWhateverGitLabAnswersEveryRunIsCountedOnce lets every third call of the first ten minutes go wrong in one way, while
// pipelines run, and compares the counters with what happened.
func TestWhateverGitLabAnswersEveryRunIsCountedOnce(t *testing.T) {
	always := func(code int, body string, header ...string) roundTrip {
		return func(*http.Request) (*http.Response, error) { return response(code, body, header...), nil }
	}
	for _, c := range []struct {
		name  string
		fault roundTrip
		skew  time.Duration // of GitLab's clock
	}{
		{"429 with Retry-After", always(429, `{"message":{"error":"Too many requests"}}`, "Retry-After", "7"), 0},
		{"429 without a header", always(429, "Retry later"), 0},
		{"500", always(500, "<html>500</html>"), 0},
		{"502 and 503", always(503, "", "Retry-After", "Mon, 02 Jan 1995 15:04:05 GMT"), 0},
		{"an expired token", always(401, `{"error":"invalid_token","error_description":"Token is expired."}`), 0},
		{"half an answer", always(200, `[{"id":1000001,"status":"succ`, "Content-Type", "application/json"), 0},
		{"other types", always(200, `[{"id":"1000001","created_at":17}]`, "Content-Type", "application/json"), 0},
		{"an object for a list", always(200, `{"message":"maintenance"}`, "Content-Type", "application/json"), 0},
		{"null", always(200, `null`, "Content-Type", "application/json"), 0},
		{"a broken connection", func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") }, 0},
		{"slow answers", func(*http.Request) (*http.Response, error) {
			time.Sleep(25 * time.Second) // of the test's clock
			return nil, nil
		}, 0},
		{"answers that never come", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 0},
		{"a clock that is seven hours ahead", nil, 7 * time.Hour},
		{"a clock that is seven hours behind", nil, -7 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &fakegitlab.Server{Now: func() time.Time { return time.Now().Add(c.skew) }}
				fake.Generate(fakegitlab.Size{Projects: 3, Branches: 1, Pipelines: 4, Jobs: 3}, fake.Now())
				start := time.Now()
				random := rand.New(rand.NewPCG(5, 5))
				for i := range 60 {
					fake.AddRunning(fake.Projects[i%3], "main", fake.Now().Add(time.Duration(i)*10*time.Second), 3, random)
				}
				n := 0
				ctx, cancel := context.WithCancel(context.Background())
				turn := make(chan struct{}, 1)
				f := newFollowing(t, ctx, fake, 36_000, nil, func(r *http.Request) (*http.Response, error) {
					turn <- struct{}{}
					n++
					hit := n%3 == 0 && time.Since(start) < 10*time.Minute && c.fault != nil
					<-turn
					if !hit {
						return nil, nil
					}
					return c.fault(r)
				})
				time.Sleep(90 * time.Minute) // of the test's clock
				synctest.Wait()
				p, j := counted(f.journal)
				if p != 72 || j != 216 {
					t.Errorf("counted %d pipelines and %d jobs, want 72 and 216; answers %v", p, j, f.codes)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// TestNullsAndMissingTotalsChangeNothing takes everything out of the answers that GitLab may leave out: nullable fields, totals
// and page numbers, as of lists of more than ten thousand rows, so that only links lead on.
func TestNullsAndMissingTotalsChangeNothing(t *testing.T) {
	w := many(t, fakegitlab.Size{Projects: 1, Branches: 1, Pipelines: 250, Jobs: 2})
	w.fake.Break = func(r *http.Request, rw http.ResponseWriter) bool {
		if strings.HasSuffix(r.URL.Path, "/jobs") || strings.HasSuffix(r.URL.Path, "/pipelines") {
			serve := w.fake.Break
			w.fake.Break = nil
			w.fake.Unlock()
			rec := httptest.NewRecorder()
			w.fake.ServeHTTP(rec, r)
			w.fake.Lock()
			w.fake.Break = serve
			var rows []map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &rows); err != nil {
				t.Error(err)
			}
			for i, row := range rows {
				for n, field := range nullable {
					if _, ok := row[field]; ok {
						row[field] = nil
						if (i+n)%2 == 0 {
							delete(row, field)
						}
					}
				}
			}
			for name, values := range rec.Header() {
				if !strings.HasPrefix(name, "X-") {
					rw.Header()[name] = values
				}
			}
			body, err := json.Marshal(rows)
			if err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(rw, bytes.NewReader(body))
			return true
		}
		return false
	}
	w.sync()
	if p, j := w.total(); p != 250 || j != 500 {
		t.Errorf("counted %d pipelines and %d jobs, want 250 and 500", p, j)
	}
}
