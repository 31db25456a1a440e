package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A fake is Grafana's HTTP API as far as this package uses it, with what a real Grafana 9.3 was seen to answer, row by row:
// conditional saves, titles that are used once in a folder, folders that take everything with them, lists of permissions
// that are replaced. It takes no request whose body has keys that the API does not document, and no overwrite.
type fake struct {
	t       *testing.T
	url     string
	counts  bool // GET /folders/{uid}/counts, from Grafana 10
	fault   func(r *http.Request, n int) (code int, body string)
	before  func(r *http.Request) // called before an answer, without the lock
	mu      sync.Mutex
	boards  map[string]*fakeBoard
	folders map[string]*fakeFolder
	panels  map[string]string // library panel to folder
	teams   map[string]int64
	calls   []string
	seen    map[string]int
}

type fakeBoard struct {
	model       map[string]any
	folder      string
	version     int
	provisioned bool
	newer       bool
}

type fakeFolder struct {
	title string
	acl   []map[string]any
}

func newFake(t *testing.T) *fake {
	f := &fake{
		t: t, counts: true, boards: map[string]*fakeBoard{}, folders: map[string]*fakeFolder{},
		panels: map[string]string{}, teams: map[string]int64{}, seen: map[string]int{},
	}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// writes are the calls so far that change something, and forgets them.
func (f *fake) writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, c := range f.calls {
		if !strings.HasPrefix(c, "GET ") {
			out = append(out, c)
		}
	}
	f.calls = nil
	return out
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.before != nil {
		f.before(r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.Path
	f.seen[key]++
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if f.fault != nil {
		if code, text := f.fault(r, f.seen[key]); code != 0 {
			w.WriteHeader(code)
			io.WriteString(w, text)
			return
		}
	}
	if r.Header.Get("Authorization") != "Bearer glsa_test" {
		answer(w, 401, object{"message": "invalid API key"})
		return
	}
	code, out := f.answer(r, body)
	note := key
	if r.Method == "POST" && r.URL.Path == "/api/dashboards/db" {
		var cmd struct{ Dashboard struct{ UID string } }
		json.Unmarshal(body, &cmd)
		note += " " + cmd.Dashboard.UID
	}
	f.calls = append(f.calls, fmt.Sprintf("%s %d", note, code))
	answer(w, code, out)
}

type object = map[string]any

func answer(w http.ResponseWriter, code int, body any) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body)
}

// strict decodes a body whose keys must all be known.
func (f *fake) strict(r *http.Request, body []byte, into any) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		f.t.Errorf("%s %s: body %s: %v", r.Method, r.URL.Path, body, err)
	}
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		f.t.Errorf("%s %s: Content-Type %q", r.Method, r.URL.Path, ct)
	}
}

var (
	folderPath = regexp.MustCompile(`^/api/folders/([\w-]+)(/permissions|/counts)?$`)
	boardPath  = regexp.MustCompile(`^/api/dashboards/uid/([\w-]+)$`)
	uidForm    = regexp.MustCompile(`^[\w-]{1,40}$`)
)

func (f *fake) answer(r *http.Request, body []byte) (int, any) {
	for k := range r.URL.Query() {
		if !slices.Contains([]string{"type", "tag", "limit", "page", "folderUIDs", "name", "folderFilterUIDs", "perPage"}, k) {
			f.t.Errorf("%s %s has the parameter %q", r.Method, r.URL.Path, k)
		}
	}
	if m := boardPath.FindStringSubmatch(r.URL.Path); m != nil {
		return f.board(r, m[1])
	}
	if m := folderPath.FindStringSubmatch(r.URL.Path); m != nil {
		return f.folder(r, body, m[1], m[2])
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /api/search":
		return f.search(r)
	case "POST /api/folders":
		var cmd struct{ UID, Title string }
		f.strict(r, body, &cmd)
		if !uidForm.MatchString(cmd.UID) {
			return 400, object{"message": "uid contains illegal characters"}
		}
		if f.folders[cmd.UID] != nil {
			return 412, object{"status": "version-mismatch", "message": "The folder has been changed by someone else"}
		}
		for _, other := range f.folders {
			if strings.EqualFold(other.title, cmd.Title) {
				return 409, object{"message": "a folder with the same name already exists"}
			}
		}
		f.folders[cmd.UID] = &fakeFolder{title: cmd.Title, acl: []map[string]any{
			{"userId": 7, "permission": 4}, {"role": "Viewer", "permission": 1}, {"role": "Editor", "permission": 2},
		}}
		return 200, object{"id": 1, "uid": cmd.UID, "title": cmd.Title, "version": 1}
	case "POST /api/dashboards/db":
		return f.save(r, body)
	case "GET /api/teams/search":
		teams := []any{}
		if name := r.URL.Query().Get("name"); f.teams[name] != 0 {
			teams = append(teams, object{"id": f.teams[name], "name": name})
		}
		return 200, object{"totalCount": len(teams), "teams": teams, "page": 1, "perPage": 1000}
	case "GET /api/library-elements":
		var elements []any
		for uid, folder := range f.panels {
			elements = append(elements, object{"uid": uid, "folderUid": folder})
		}
		return 200, object{"result": object{"totalCount": len(elements), "elements": elements, "page": 1, "perPage": 100}}
	}
	return 404, object{"message": "Not found"}
}

func (f *fake) search(r *http.Request) (int, any) {
	q := r.URL.Query()
	var hits []any
	if kind := q.Get("type"); kind == "" || kind == "dash-folder" {
		for _, uid := range slices.Sorted(maps.Keys(f.folders)) {
			if q.Get("tag") == "" && !q.Has("folderUIDs") {
				hits = append(hits, object{"uid": uid, "title": f.folders[uid].title, "type": "dash-folder", "tags": []any{}})
			}
		}
	}
	if kind := q.Get("type"); kind == "" || kind == "dash-db" {
		for _, uid := range slices.Sorted(maps.Keys(f.boards)) {
			b := f.boards[uid]
			if tag := q.Get("tag"); tag != "" && !slices.Contains(tags(b.model), tag) {
				continue
			}
			if q.Has("folderUIDs") && f.counts && b.folder != q.Get("folderUIDs") { // Grafana 9 ignores it
				continue
			}
			hits = append(hits, object{"uid": uid, "title": b.model["title"], "tags": b.model["tags"], "type": "dash-db", "folderUid": b.folder})
		}
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit > 5000 {
		return 422, object{"message": "Limit is above maximum allowed (5000), use page parameter to access hits beyond limit"}
	}
	page, _ := strconv.Atoi(q.Get("page"))
	from := min(len(hits), (page-1)*limit)
	return 200, append([]any{}, hits[from:min(len(hits), from+limit)]...)
}

func (f *fake) board(r *http.Request, uid string) (int, any) {
	b := f.boards[uid]
	if b == nil {
		return 404, object{"message": "Dashboard not found"}
	}
	switch r.Method {
	case "GET":
		if b.newer {
			return 406, object{"message": "dashboard api version not supported, use /apis/dashboard.grafana.app/v2beta1 instead"}
		}
		model := maps.Clone(b.model)
		model["id"], model["version"] = 12, b.version
		meta := object{"version": b.version, "provisioned": b.provisioned, "folderUid": b.folder}
		if folder := f.folders[b.folder]; folder != nil {
			meta["folderTitle"] = folder.title
		}
		return 200, object{"meta": meta, "dashboard": model}
	case "DELETE":
		if b.provisioned {
			return 400, object{"message": "provisioned dashboard cannot be deleted"}
		}
		delete(f.boards, uid)
		return 200, object{"id": 12, "title": b.model["title"], "message": "Dashboard deleted"}
	}
	return 405, nil
}

func (f *fake) save(r *http.Request, body []byte) (int, any) {
	var cmd struct {
		Dashboard map[string]any `json:"dashboard"`
		FolderUID string         `json:"folderUid"`
		Message   string         `json:"message"`
		Overwrite bool           `json:"overwrite"`
		UpdatedAt string         `json:"UpdatedAt"` // the client always sends it
	}
	f.strict(r, body, &cmd)
	if cmd.Overwrite {
		f.t.Error("a save overwrites")
	}
	uid, _ := cmd.Dashboard["uid"].(string)
	title, _ := cmd.Dashboard["title"].(string)
	_, id := cmd.Dashboard["id"]
	switch {
	case title == "":
		return 400, object{"status": "empty-name", "message": "Dashboard title cannot be empty"}
	case !uidForm.MatchString(uid):
		return 400, object{"message": "uid contains illegal characters"}
	case id:
		return 404, object{"message": "Dashboard not found"}
	case cmd.FolderUID != "" && f.folders[cmd.FolderUID] == nil:
		return 400, object{"message": "Folder not found"}
	}
	old := f.boards[uid]
	if old != nil && old.provisioned {
		return 400, object{"message": "Cannot save provisioned dashboard"}
	}
	if old != nil {
		if v, _ := cmd.Dashboard["version"].(float64); int(v) != old.version {
			return 412, object{"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
		}
	}
	for other, b := range f.boards {
		if other != uid && b.folder == cmd.FolderUID && b.model["title"] == title {
			return 412, object{"status": "name-exists", "message": "A dashboard with the same name in the folder already exists"}
		}
	}
	b := &fakeBoard{model: cmd.Dashboard, folder: cmd.FolderUID, version: 1}
	if old != nil {
		b.version = old.version + 1
	}
	delete(b.model, "version")
	f.boards[uid] = b
	return 200, object{"id": 12, "slug": "x", "status": "success", "uid": uid, "url": "/d/" + uid, "title": title, "version": b.version}
}

func (f *fake) folder(r *http.Request, body []byte, uid, part string) (int, any) {
	folder := f.folders[uid]
	if folder == nil {
		return 404, object{"message": "folder not found", "status": "not-found"}
	}
	switch r.Method + part {
	case "GET":
		return 200, object{"uid": uid, "title": folder.title, "version": 1}
	case "GET/counts":
		if !f.counts {
			return 404, object{"message": "Not found"}
		}
		n := object{"folder": 0, "dashboard": 0, "librarypanel": 0, "alertrule": 0}
		for _, b := range f.boards {
			if b.folder == uid {
				n["dashboard"] = n["dashboard"].(int) + 1
			}
		}
		return 200, n
	case "GET/permissions":
		return 200, folder.acl
	case "POST/permissions":
		var cmd struct {
			Items []struct {
				UserID, TeamID int64
				Role           string
				Permission     int
			}
		}
		f.strict(r, body, &cmd)
		folder.acl = []map[string]any{}
		for _, i := range cmd.Items {
			e := map[string]any{"permission": i.Permission}
			if i.UserID != 0 {
				e["userId"] = i.UserID
			}
			if i.TeamID != 0 {
				e["teamId"] = i.TeamID
			}
			if i.Role != "" {
				e["role"] = i.Role
			}
			folder.acl = append(folder.acl, e)
		}
		return 200, object{"message": "Dashboard permissions updated"}
	case "DELETE":
		delete(f.folders, uid)
		for b, board := range f.boards {
			if board.folder == uid {
				delete(f.boards, b)
			}
		}
		return 200, object{"message": "Folder deleted", "title": folder.title, "id": 1}
	}
	return 405, nil
}

func serve(t *testing.T, h http.Handler) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}
