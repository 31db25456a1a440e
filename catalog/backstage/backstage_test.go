package backstage

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// fakeBackstage serves recorded entities in pages, as the real one does: without fields repeated it would send whole
// entities, and without limit its own page size, so both are demanded on every page.
func fakeBackstage(t *testing.T, entities []json.RawMessage, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("fields") == "" || q.Get("limit") == "" {
			t.Errorf("fields and limit are not repeated: %s", r.URL.RawQuery)
		}
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"name":"AuthenticationError","message":"Illegal token"}}`)
			return
		}
		from, _ := strconv.Atoi(q.Get("cursor"))
		to := min(from+size, len(entities))
		info := map[string]string{}
		if to < len(entities) {
			info["nextCursor"] = strconv.Itoa(to)
		}
		json.NewEncoder(w).Encode(map[string]any{"items": entities[from:to], "totalItems": len(entities), "pageInfo": info})
	}
}

func recorded(t *testing.T) []json.RawMessage {
	t.Helper()
	b, err := os.ReadFile("testdata/entities.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []json.RawMessage
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func load(t *testing.T, h http.Handler, token string) ([]*catalog.Entity, error) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{BaseURL: server.URL, TokenFile: file, Tries: 2})
	if err != nil {
		t.Fatal(err)
	}
	entities, _, err := Load(t.Context(), c)
	return entities, err
}

func TestARecordedCatalogArrivesWholeInAnyPageSize(t *testing.T) {
	all := recorded(t)
	want, err := load(t, fakeBackstage(t, all, 1000), "good")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 45} {
		got, err := load(t, fakeBackstage(t, all, size), "good")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || len(got) < 30 {
			t.Errorf("pages of %d: %d entities, want %d", size, len(got), len(want))
		}
	}
	g, problems := catalog.NewGraph(want, catalog.NewRef("group", "", "platform"))
	if len(problems) != 1 || problems[0].Rule != "owner-missing" {
		t.Errorf("problems: %v, want the one of the group that is gone", problems)
	}
	owned, disbanded := 0, 0
	for e := range g.Entities() {
		o := g.Ownership(e.Ref)
		if e.Ref.Kind == "component" && !o.Unowned {
			owned++
		}
		if strings.Contains(o.Reason, "group:default/team-disbanded does not exist") {
			disbanded++
		}
	}
	if owned == 0 || disbanded == 0 {
		t.Errorf("%d owned components and %d of a group that is gone, want some of both", owned, disbanded)
	}
}

func TestWhatIsNoCatalogIsAnError(t *testing.T) {
	answer := func(code int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, body) })
	}
	tests := []struct {
		name  string
		h     http.Handler
		token string
		want  string
	}{
		{"a wrong token", fakeBackstage(t, recorded(t), 10), "bad", "401 Unauthorized: Illegal token"},
		{"garbage", answer(200, "<html>"), "good", "not the JSON"},
		{"another API", answer(200, "{}"), "good", "no totalItems"},
		{"a Backstage that starts", answer(404, ""), "good", "404"},
		{"an empty catalog", fakeBackstage(t, nil, 10), "good", ErrEmpty.Error()},
		{"pages in a circle", answer(200, `{"items":[{"kind":"Group","metadata":{"name":"a"}}],"totalItems":9,"pageInfo":{"nextCursor":"x"}}`), "good", "circle"},
		{"a server that is down", answer(503, ""), "good", "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.h, tt.token)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
	_, err := load(t, fakeBackstage(t, recorded(t), 10), "bad")
	var status *upstream.StatusError
	if !errors.As(err, &status) || !strings.Contains(status.Hint(), "is wrong or expired") {
		t.Errorf("a wrong token gives %v without the hint", err)
	}
}
