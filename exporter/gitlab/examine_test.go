package gitlab

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// answers is a GitLab in which all is well, by path with its query; a status stands for an error.
func answers() map[string]string {
	return map[string]string{
		"/api/v4/metadata":                              `{"version":"18.5.1-ee"}`,
		"/api/v4/personal_access_tokens/self":           `{"name":"sightline","scopes":["read_api"],"active":true,"revoked":false,"expires_at":"2026-06-30"}`,
		"/api/v4/projects/shop%2Fcheckout":              `{"id":1,"path_with_namespace":"shop/checkout"}`,
		"/api/v4/projects/2":                            `{"id":2,"path_with_namespace":"shop/cart"}`,
		"/api/v4/projects/1/pipelines?per_page=1":       `[]`,
		"/api/v4/projects/2/pipelines?per_page=1":       `[]`,
		"/api/v4/projects/1/hooks?per_page=100":         `[{"id":7,"url":"https://other.example.com/hook"},{"id":8,"url":"https://sightline.example.com/webhooks/gitlab","pipeline_events":true,"job_events":true,"alert_status":"executable"}]`,
		"/api/v4/projects/2/hooks?per_page=100":         `[{"id":9,"url":"https://sightline.example.com/webhooks/gitlab","pipeline_events":true,"job_events":true,"alert_status":"executable"}]`,
		"/api/v4/projects/1/hooks/8/events?per_page=20": `[{"response_status":"200"}]`,
		"/api/v4/projects/2/hooks/9/events?per_page=20": `404`,
		"/api/v4/groups/shop%2Fall/projects?simple=true&include_subgroups=true&archived=false&per_page=1": `[]`,
	}
}

func TestExamineFindsWhatIsWrongWithAGitLab(t *testing.T) {
	// bad is what is not well where one thing is broken, as "level: message".
	tests := map[string]struct {
		answers map[string]string
		header  map[string]string
		opts    func(*ExamineOptions)
		empty   bool // no entity names a project
		bad     []string
	}{
		"all is well": {},
		"it is old": {
			answers: map[string]string{"/api/v4/metadata": `{"version":"15.8.0"}`},
			bad:     []string{"warning: GitLab 15.8.0 is older than 15.9, and needs many more calls to read jobs"},
		},
		"it is too old for /metadata": {
			answers: map[string]string{"/api/v4/metadata": "404", "/api/v4/version": `{"version":"16.11.2"}`},
			bad:     []string{"warning: GitLab 16.11.2 is older than 17.0 and does not list child pipelines"},
		},
		"it is something else": {
			answers: map[string]string{"/api/v4/metadata": `{}`},
			bad:     []string{`warning: its version "" is not one of GitLab's`},
		},
		"there is no token": {
			opts: func(o *ExamineOptions) { o.Token = false },
			bad:  []string{"warning: sources.gitlab[0].token_file is not set: only public projects can be read"},
		},
		"the token is wrong": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": "401"},
			bad:     []string{"error: check the token: URL/api/v4/personal_access_tokens/self answered 401 Unauthorized"},
		},
		"the token does not tell": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": "404"},
			bad:     []string{"skipped: the token does not tell its scopes (404)"},
		},
		"the token has the wrong scopes": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": `{"name":"x","scopes":["read_repository","read_user"],"active":true}`},
			bad:     []string{`error: the token "x" has the scopes read_repository, read_user: it cannot read pipelines`},
		},
		"the token may do too much": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": `{"name":"x","scopes":["api"],"active":true,"expires_at":"2026-06-30"}`},
			bad:     []string{`warning: the token "x" may do more than is needed, with the scopes api`},
		},
		"the token expires soon": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": `{"name":"x","scopes":["read_api"],"active":true,"expires_at":"2026-03-10"}`},
			bad:     []string{"warning: the token expires on 2026-03-10, in 9 days"},
		},
		"the token is revoked": {
			answers: map[string]string{"/api/v4/personal_access_tokens/self": `{"name":"x","scopes":["read_api"],"active":false,"revoked":true}`},
			bad:     []string{`error: the token "x" is revoked or expired`},
		},
		"the budget is larger than GitLab's": {
			header: map[string]string{"RateLimit-Limit": "10", "RateLimit-Remaining": "9"},
			bad:    []string{"warning: it allows 10 calls a minute, fewer than the 3600 an hour of calls_per_hour"},
		},
		"somebody else uses the token": {
			header: map[string]string{"RateLimit-Limit": "600", "RateLimit-Remaining": "3"},
			bad:    []string{"warning: 3 of 600 calls a minute are left to this token"},
		},
		"a project is not there": {
			answers: map[string]string{"/api/v4/projects/shop%2Fcheckout": "404"},
			bad:     []string{"error: 1 project does not exist, or may not be read: shop/checkout"},
		},
		"a project has no CI/CD": {
			answers: map[string]string{"/api/v4/projects/2/pipelines?per_page=1": "403"},
			bad:     []string{"warning: the pipelines of 1 project cannot be read: shop/cart"},
		},
		"a project is archived": {
			answers: map[string]string{"/api/v4/projects/2": `{"id":2,"path_with_namespace":"shop/cart","archived":true}`},
			bad:     []string{"warning: 1 project is archived: shop/cart"},
		},
		"a project breaks": {
			answers: map[string]string{"/api/v4/projects/2": `500`},
			bad:     []string{"error: ask for 1 project (2): URL/api/v4/projects/2 answered 500 Internal Server Error"},
		},
		"a group may not be read": {
			answers: map[string]string{"/api/v4/groups/shop%2Fall/projects?simple=true&include_subgroups=true&archived=false&per_page=1": "404"},
			bad:     []string{"error: read the group shop/all: URL/api/v4/groups/shop%2Fall/projects answered 404 Not Found"},
		},
		"no entity names a project": {
			empty: true, opts: func(o *ExamineOptions) { o.Groups = nil },
			bad: []string{"warning: no entity of the catalog names a project of this GitLab: nothing will be counted"},
		},
		"no webhooks are expected": {
			opts: func(o *ExamineOptions) { o.Hooks = false },
			bad:  []string{"skipped: no webhooks are expected: pipelines are found by polling"},
		},
		"the webhooks may not be seen": {
			answers: map[string]string{"/api/v4/projects/1/hooks?per_page=100": "403"},
			bad:     []string{"skipped: the webhooks of 1 project may not be seen with this token"},
		},
		"a webhook goes elsewhere": {
			answers: map[string]string{"/api/v4/projects/1/hooks?per_page=100": `[{"id":7,"url":"https://old.example.com/webhooks/gitlab"}]`},
			bad:     []string{"warning: 1 project has no webhook to https://sightline.example.com/webhooks/gitlab: shop/checkout"},
		},
		"any address will do where ours is not known": {
			answers: map[string]string{"/api/v4/projects/1/hooks?per_page=100": `[{"id":8,"url":"https://old.example.com/webhooks/gitlab","pipeline_events":true,"job_events":true}]`},
			opts:    func(o *ExamineOptions) { o.HookURL = "" },
		},
		"a webhook leaves jobs out": {
			answers: map[string]string{"/api/v4/projects/1/hooks?per_page=100": `[{"id":8,"url":"https://sightline.example.com/webhooks/gitlab","pipeline_events":true}]`},
			bad:     []string{"warning: a webhook leaves out pipeline or job events: shop/checkout"},
		},
		"a webhook was switched off": {
			answers: map[string]string{"/api/v4/projects/1/hooks?per_page=100": `[{"id":8,"url":"https://sightline.example.com/webhooks/gitlab","pipeline_events":true,"job_events":true,"alert_status":"disabled"}]`},
			bad:     []string{"error: GitLab has switched webhooks off after failures: shop/checkout"},
		},
		"deliveries fail": {
			answers: map[string]string{"/api/v4/projects/1/hooks/8/events?per_page=20": `[{"response_status":"200"},{"response_status":"401"},{"response_status":"internal error"}]`},
			bad:     []string{`error: 2 of the last 3 deliveries of shop/checkout failed, the last one with "401"`},
		},
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("glpat-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			table := answers()
			maps.Copy(table, tt.answers)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for k, v := range tt.header {
					w.Header().Set(k, v)
				}
				body, ok := table[r.URL.RequestURI()]
				switch {
				case r.Header.Get("PRIVATE-TOKEN") != "glpat-secret" && r.Header.Get("Authorization") != "Bearer glpat-secret":
					w.WriteHeader(http.StatusUnauthorized)
				case !ok:
					t.Errorf("asked for %s", r.URL.RequestURI())
					w.WriteHeader(http.StatusNotFound)
				case len(body) == 3:
					var code int
					fmt.Sscan(body, &code)
					w.WriteHeader(code)
				default:
					w.Write([]byte(body))
				}
			}))
			defer srv.Close()
			client, err := upstream.New(upstream.Options{BaseURL: srv.URL, TokenFile: token, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			o := ExamineOptions{
				Name: "sources.gitlab[0]", URL: srv.URL, Groups: []string{"shop/all"}, First: true, CallsPerHour: 3600, Token: true, Hooks: true,
				HookURL: "https://sightline.example.com/webhooks/gitlab", HookPath: "/webhooks/gitlab", Now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			}
			if tt.opts != nil {
				tt.opts(&o)
			}
			entities := []*catalog.Entity{
				{Ref: catalog.NewRef("component", "", "checkout"), Annotations: map[string]string{"gitlab.com/project-slug": "shop/checkout"}},
				{Ref: catalog.NewRef("component", "", "cart"), Annotations: map[string]string{"gitlab.com/project-id": "2"}},
			}
			if tt.empty {
				entities = nil
			}
			g, _ := catalog.NewGraph(entities, catalog.Ref{})
			var bad []string
			for _, f := range Examine(t.Context(), client, g, o) {
				if f.Level != upstream.LevelOK {
					bad = append(bad, string(f.Level)+": "+strings.ReplaceAll(f.Message, srv.URL, "URL"))
				}
			}
			if diff := cmp.Diff(tt.bad, bad); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestExamineAsksNothingMoreOfAGitLabThatDoesNotAnswer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := catalog.NewGraph(nil, catalog.Ref{})
	found := Examine(t.Context(), client, g, ExamineOptions{Name: "sources.gitlab[0]", URL: srv.URL, Token: true})
	if len(found) != 1 || found[0].Level != upstream.LevelError || found[0].Hint != "check that GitLab runs and that sources.gitlab[0].url is right" {
		t.Errorf("got %v", found)
	}
}

func TestExamineAsksNoMoreProjectsThanItMay(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v4/metadata":
			w.Write([]byte(`{"version":"18.5.1"}`))
		case strings.HasSuffix(r.URL.Path, "/pipelines"):
			w.Write([]byte(`[]`))
		default:
			asked++
			fmt.Fprintf(w, `{"id":%d}`, asked)
		}
	}))
	defer srv.Close()
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	var entities []*catalog.Entity
	for i := range 9 {
		entities = append(entities, &catalog.Entity{Ref: catalog.NewRef("component", "", fmt.Sprint("c", i)), Annotations: map[string]string{"gitlab.com/project-slug": fmt.Sprint("a/p", i)}})
	}
	g, _ := catalog.NewGraph(entities, catalog.Ref{})
	found := Examine(t.Context(), client, g, ExamineOptions{URL: srv.URL, First: true, Projects: 1})
	said := false
	for _, f := range found {
		said = said || f.Message == "1 of 9 projects were asked for, and can be read"
	}
	if asked != 1 || !said {
		t.Errorf("%d projects were asked for: %v", asked, found)
	}
}
