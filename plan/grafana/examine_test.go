package grafana

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

func TestExamineFindsWhatATokenMayNotDo(t *testing.T) {
	const health, permissions, org = "/api/health", "/api/access-control/user/permissions", "/api/org"
	const editor = `{"dashboards:create":["folders:*"],"dashboards:write":["*"],"folders:create":["*"]`
	tests := map[string]struct {
		answers map[string]string
		want    []upstream.Level
	}{
		"an admin's":                       {map[string]string{health: `{"version":"12.3.0","database":"ok"}`, permissions: editor + `,"teams:read":["*"],"folders.permissions:read":["*"],"folders.permissions:write":["*"]}`}, []upstream.Level{"ok", "ok"}},
		"an editor's":                      {map[string]string{health: `{"version":"12.3.0","database":"ok"}`, permissions: editor + `}`}, []upstream.Level{"ok", "ok", "warning"}},
		"a viewer's":                       {map[string]string{health: `{"version":"12.3.0"}`, permissions: `{"dashboards:read":["*"]}`}, []upstream.Level{"ok", "error"}},
		"a wrong one":                      {map[string]string{health: `{"version":"12.3.0"}`, permissions: "401"}, []upstream.Level{"ok", "error"}},
		"a Grafana that tells nothing":     {map[string]string{health: `{"version":"8.0.0"}`, org: `{"name":"Main"}`}, []upstream.Level{"ok", "skipped"}},
		"a wrong one, which tells nothing": {map[string]string{health: `{"version":"8.0.0"}`}, []upstream.Level{"ok", "error"}},
		"a Grafana with a broken database": {map[string]string{health: `{"version":"12.3.0","database":"failing"}`, permissions: editor + `}`}, []upstream.Level{"error", "ok", "ok", "warning"}},
		"what is no Grafana":               {nil, []upstream.Level{"error"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil // another test has the clock
				switch body := tt.answers[r.URL.Path]; body {
				case "":
					http.NotFound(w, r)
				case "401":
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.Write([]byte(body))
				}
			}))
			defer srv.Close()
			c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			var got []upstream.Level
			for _, f := range Examine(t.Context(), c) {
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
