package scaffolder

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
)

func TestAProjectIsFoundAmongTheOutputsOfATask(t *testing.T) {
	tests := map[string]struct{ output, host, path string }{
		"as remoteUrl":                  {`{"remoteUrl":"https://gitlab.example.com/shop/api/cart.git","links":[{"url":"https://gitlab.example.com/other/one"}]}`, "gitlab.example.com", "shop/api/cart"},
		"as a link":                     {`{"links":[{"title":"Catalog","icon":"catalog","entityRef":"component:default/cart"},{"url":"https://gitlab.example.com/shop/cart"}]}`, "gitlab.example.com", "shop/cart"},
		"below a relative root":         {`{"remoteUrl":"https://example.org/gitlab/shop/cart"}`, "example.org", "shop/cart"},
		"outside the relative root":     {`{"remoteUrl":"https://example.org/shop/cart"}`, "", ""},
		"on another host":               {`{"remoteUrl":"https://github.com/shop/cart"}`, "", ""},
		"a merge request is no project": {`{"links":[{"url":"https://gitlab.example.com/shop/cart/-/merge_requests/4"}]}`, "", ""},
		"a group is no project":         {`{"links":[{"url":"https://gitlab.example.com/shop"}]}`, "", ""},
		"what is of another shape":      {`{"remoteUrl":4,"links":"none"}`, "", ""},
		"nothing":                       {``, "", ""},
	}
	s := &Source{}
	s.Follow("https://gitlab.example.com:8443", "https://example.org/gitlab/")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if host, path := s.projectOf(json.RawMessage(tt.output)); host != tt.host || path != tt.path {
				t.Errorf("got %q on %q, want %q on %q", path, host, tt.path, tt.host)
			}
		})
	}
}

func TestWhatATaskMadeIsLeftForTheSourceOfItsHost(t *testing.T) {
	const tasks = "/api/scaffolder/v2/tasks"
	const list, open = tasks + "?limit=100&offset=0&order=desc:created_at", tasks + "?limit=100&offset=0&order=desc:created_at&status=open&status=processing"
	task := func(id, status string) string {
		return `{"id":"` + id + `","status":"` + status + `","createdAt":"2026-01-01T00:00:00Z","lastHeartbeatAt":"2026-01-01T00:01:00Z","spec":{"templateInfo":{"entityRef":"template:default/go-service"}}}`
	}
	completion := func(status string) string {
		return `[{"id":1,"type":"log","createdAt":"2026-01-01T00:00:01Z","body":{"message":"Starting up task with 1 steps"}},` +
			`{"id":2,"type":"completion","createdAt":"2026-01-01T00:01:00Z","body":{"message":"Run completed with status: ` + status + `","output":{"remoteUrl":"https://gitlab.example.com/shop/cart"}}}]`
	}
	api := table{
		list: `{"tasks":[` + task("good", "completed") + `,` + task("bad", "failed") + `]}`, open: `{"tasks":[]}`,
		tasks + "/good/events": completion("completed"), tasks + "/bad/events": completion("failed"),
	}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal.db"), journal.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	s, err := New(api, "https://backstage.example.com", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	s.Follow("https://gitlab.example.com")
	owner := catalog.NewRef("group", "", "portal")
	template := catalog.NewRef("template", "", "go-service")
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: owner}, {Ref: template, Owner: owner}}, catalog.Ref{})
	for range 2 { // the second time it is known
		if err := s.Sync(t.Context(), g, j); err != nil {
			t.Fatal(err)
		}
	}
	var got []exporter.Made
	for _, text := range j.Positions(exporter.MadePrefix("gitlab.example.com")) {
		var m exporter.Made
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	want := []exporter.Made{{Task: "good", Template: "go-service", Entity: template, Owner: owner, Path: "shop/cart", Created: begin, Ended: begin.Add(time.Minute)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if since, ok := j.Position(exporter.MadeReady); !ok || since != "2026-01-02T00:00:00Z" {
		t.Errorf("news begins at %q", since)
	}
}

func TestTheRecordedTaskNamesItsProject(t *testing.T) {
	b, err := os.ReadFile("testdata/task-ok-events.json")
	if err != nil {
		t.Fatal(err)
	}
	var events []event
	if err := json.Unmarshal(b, &events); err != nil {
		t.Fatal(err)
	}
	s := &Source{}
	s.Follow("https://gitlab.acme.example")
	if host, path := s.projectOf(events[len(events)-1].Body.Output); host != "gitlab.acme.example" || path != "acme/svc-two" {
		t.Errorf("got %q on %q", path, host)
	}
}
