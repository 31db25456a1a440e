package grafana

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
)

var (
	payments = catalog.Ref{Kind: "group", Namespace: "default", Name: "payments"}
	finders  = catalog.Ref{Kind: "group", Namespace: "default", Name: "search"}
)

// dashboard is a planned board whose uid and title are made from a name.
func dashboard(name string, owner catalog.Ref, text string) plan.Artifact {
	return plan.Artifact{Kind: plan.KindDashboard, Path: "dashboards/" + name + ".json", Owner: owner, Body: fmt.Appendf(nil,
		"{\n \"uid\": \"sl-component-%s\",\n \"title\": %q,\n \"tags\": [\n  \"sightline\"\n ],\n \"schemaVersion\": 42,\n \"panels\": [\n  {\n   \"title\": %q,\n   \"type\": \"text\",\n   \"id\": 1\n  }\n ]\n}\n", name, name, text)}
}

func planOf(artifacts ...plan.Artifact) *plan.Plan { return &plan.Plan{Artifacts: artifacts} }

func token(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func target(t *testing.T, f *fake, p *plan.Plan) *Target {
	t.Helper()
	g, err := New(Options{URL: f.url, TokenFile: token(t, "glsa_test")}, p)
	if err != nil {
		t.Fatal(err)
	}
	g.first = time.Millisecond
	return g
}

func apply(t *testing.T, f *fake, p *plan.Plan) plan.Applied {
	t.Helper()
	done, err := plan.Apply(t.Context(), target(t, f, p), p, plan.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// holds compares what Grafana holds: "folder title/board uid: text of its panel".
func holds(t *testing.T, f *fake, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []string
	for uid, b := range f.boards {
		text := ""
		if panels, _ := b.model["panels"].([]any); len(panels) > 0 {
			text, _ = panels[0].(object)["title"].(string)
		}
		title := b.folder
		if folder := f.folders[b.folder]; folder != nil {
			title = folder.title
		}
		got = append(got, fmt.Sprintf("%s/%s: %s", title, uid, text))
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Grafana holds (-want +got):\n%s", d)
	}
}

func TestApplyMakesFoldersAndBoardsAndThenWritesNothing(t *testing.T) {
	f := newFake(t)
	p := planOf(dashboard("checkout", payments, "one"), dashboard("find", finders, "one"), dashboard("lost", catalog.Ref{}, "one"))
	apply(t, f, p)
	holds(t, f, "Sightline: no owner/sl-component-lost: one", "group:default/payments/sl-component-checkout: one", "group:default/search/sl-component-find: one")

	f.writes()
	done := apply(t, f, p)
	if w := f.writes(); len(w) > 0 || !done.Diff.Empty() {
		t.Errorf("the second apply wrote %q and saw %+v", w, done.Diff)
	}

	p = planOf(dashboard("checkout", payments, "two"), dashboard("find", finders, "one"), dashboard("lost", catalog.Ref{}, "one"))
	done = apply(t, f, p)
	if d := cmp.Diff([]string{"POST /api/dashboards/db sl-component-checkout 200"}, f.writes()); d != "" {
		t.Errorf("writes (-want +got):\n%s", d)
	}
	if u := done.Diff.Changed[0].Unified; !strings.Contains(u, "-   \"title\": \"one\",\n+   \"title\": \"two\",\n") || strings.Count(u, "\n-")+strings.Count(u, "\n+") != 4 {
		t.Errorf("the diff is more or less than the changed line:\n%s", u)
	}
	if v := f.boards["sl-component-checkout"].version; v != 2 {
		t.Errorf("version %d after two saves", v)
	}
}

func TestBoardsThatAreNoLongerPlannedGoWithTheirEmptyFolder(t *testing.T) {
	for _, counts := range []bool{true, false} { // Grafana 10 and later, and 9
		f := newFake(t)
		f.counts = counts
		apply(t, f, planOf(dashboard("checkout", payments, ""), dashboard("cart", payments, ""), dashboard("find", finders, "")))
		apply(t, f, planOf(dashboard("checkout", payments, "")))
		holds(t, f, "group:default/payments/sl-component-checkout: ")
		if len(f.folders) != 1 {
			t.Errorf("folders: %v", f.folders)
		}
		apply(t, f, planOf(dashboard("checkout", finders, "")))
		holds(t, f, "group:default/search/sl-component-checkout: ")
		if len(f.folders) != 1 {
			t.Errorf("the folder that a board moved away from stays: %v", f.folders)
		}
	}
}

func TestWhatIsNotSightlinesStays(t *testing.T) {
	foreign := func(title string, tags ...any) map[string]any {
		return object{"title": title, "tags": tags, "panels": []any{object{"title": "by hand"}}}
	}
	ours := folderUID(payments)
	for _, c := range []struct {
		sentence string
		prepare  func(f *fake)
		plan     *plan.Plan
		want     []string
		foreign  bool
	}{
		{"a board with another uid and our tag stays", func(f *fake) {
			f.boards["mine"] = &fakeBoard{model: foreign("mine", "sightline"), version: 1}
		}, planOf(), []string{"/mine: by hand"}, false},
		{"a board with our uid's form and no tag stays", func(f *fake) {
			f.boards["sl-mine"] = &fakeBoard{model: foreign("mine"), version: 1}
		}, planOf(), []string{"/sl-mine: by hand"}, false},
		{"a board that is in the way by its uid stays", func(f *fake) {
			f.boards["sl-component-checkout"] = &fakeBoard{model: foreign("mine"), version: 1}
		}, planOf(dashboard("checkout", payments, "")), []string{"/sl-component-checkout: by hand"}, true},
		{"a board that is in the way by its title stays", func(f *fake) {
			f.folders[ours] = &fakeFolder{title: payments.String()}
			f.boards["mine"] = &fakeBoard{model: foreign("checkout", "sightline"), folder: ours, version: 1}
		}, planOf(dashboard("checkout", payments, "")), []string{"group:default/payments/mine: by hand"}, true},
		{"a board from a file stays", func(f *fake) {
			f.boards["sl-component-checkout"] = &fakeBoard{model: foreign("checkout", "sightline"), version: 1, provisioned: true}
		}, planOf(dashboard("checkout", payments, "")), []string{"/sl-component-checkout: by hand"}, true},
		{"a board from a file that is not planned stays", func(f *fake) {
			f.boards["sl-component-checkout"] = &fakeBoard{model: foreign("checkout", "sightline"), version: 1, provisioned: true}
		}, planOf(), []string{"/sl-component-checkout: by hand"}, false},
		{"a board in schema v2 is not overwritten with an older one", func(f *fake) {
			f.folders[ours] = &fakeFolder{title: payments.String()}
			f.boards["sl-component-checkout"] = &fakeBoard{model: foreign("checkout", "sightline"), folder: ours, version: 1, newer: true}
		}, planOf(dashboard("checkout", payments, "")), []string{"group:default/payments/sl-component-checkout: by hand"}, true},
		{"a folder with our title and another uid is not used", func(f *fake) {
			f.folders["mine"] = &fakeFolder{title: payments.String()}
		}, planOf(dashboard("checkout", payments, "")), nil, true},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFake(t)
			c.prepare(f)
			folders := len(f.folders)
			done := apply(t, f, c.plan)
			holds(t, f, c.want...)
			if got := len(done.Failed) == 1 && errors.Is(done.Failed[0].Err, plan.ErrForeign); got != c.foreign {
				t.Errorf("failed: %v", done.Failed)
			}
			if len(f.folders) < folders {
				t.Errorf("folders: %v", f.folders)
			}
		})
	}
}

func TestFoldersThatHoldForeignThingsStay(t *testing.T) {
	for name, put := range map[string]func(f *fake, folder string){
		"a board": func(f *fake, folder string) {
			f.boards["mine"] = &fakeBoard{model: object{"title": "x"}, folder: folder}
		},
		"a library panel": func(f *fake, folder string) { f.panels["mine"] = folder },
		"another's title": func(f *fake, folder string) { f.folders[folder].title = "Payments!" },
		"nothing":         nil,
	} {
		for _, counts := range []bool{true, false} {
			f := newFake(t)
			f.counts = counts
			apply(t, f, planOf(dashboard("checkout", payments, ""), dashboard("find", finders, "")))
			if put != nil {
				put(f, folderUID(payments))
			}
			apply(t, f, planOf(dashboard("find", finders, "")))
			if stays := f.folders[folderUID(payments)] != nil; stays != (put != nil) {
				t.Errorf("with %s: the folder stays: %v", name, stays)
			}
			if f.boards["sl-component-checkout"] != nil {
				t.Errorf("with %s: our board stays", name)
			}
		}
	}
}

func TestAnEmptyFolderThatAnInterruptedApplyLeftIsRemoved(t *testing.T) {
	f := newFake(t)
	p := planOf(dashboard("find", finders, ""))
	apply(t, f, planOf(dashboard("checkout", payments, ""), dashboard("find", finders, "")))
	f.fault = func(r *http.Request, _ int) (int, string) {
		if r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/api/folders/") {
			return 403, `{"message": "You'll need additional permissions"}`
		}
		return 0, ""
	}
	if done := apply(t, f, p); len(done.Failed) != 1 {
		t.Errorf("failed: %v", done.Failed)
	}
	f.fault = nil
	done := apply(t, f, p)
	if len(done.Diff.Removed) != 1 || len(f.folders) != 1 || done.Diff.Removed[0].Artifact.Owner != payments {
		t.Errorf("removed %v, folders %v", done.Diff.Removed, f.folders)
	}
}

func TestABoardWithAnOutdatedUIDMakesRoom(t *testing.T) {
	f := newFake(t)
	apply(t, f, planOf(dashboard("checkout", payments, "old")))
	f.boards["sl-old-checkout"] = f.boards["sl-component-checkout"]
	f.boards["sl-old-checkout"].model["uid"] = "sl-old-checkout"
	delete(f.boards, "sl-component-checkout")
	if done := apply(t, f, planOf(dashboard("checkout", payments, "new"))); len(done.Failed) > 0 {
		t.Fatal(done.Failed)
	}
	holds(t, f, "group:default/payments/sl-component-checkout: new")
}

func TestTeamsMayEditTheirFolder(t *testing.T) {
	standard := []map[string]any{{"userId": float64(7), "permission": 4}, {"role": "Viewer", "permission": 1}, {"role": "Editor", "permission": 2}}
	other := catalog.Ref{Kind: "group", Namespace: "other", Name: "payments"}
	for _, c := range []struct {
		sentence string
		owner    catalog.Ref
		teams    map[string]int64
		want     map[string]any
	}{
		{"a team of the owner's name", payments, map[string]int64{"payments": 3}, map[string]any{"teamId": int64(3), "permission": 2}},
		{"a team of the whole reference before it", payments, map[string]int64{"payments": 3, "group:default/payments": 4}, map[string]any{"teamId": int64(4), "permission": 2}},
		{"no team", payments, map[string]int64{"pay": 3}, nil},
		{"another namespace's owner is not the team of the bare name", other, map[string]int64{"payments": 3}, nil},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFake(t)
			f.teams = c.teams
			apply(t, f, planOf(dashboard("checkout", c.owner, ""), dashboard("cart", c.owner, "")))
			want := slices.Clone(standard)
			if c.want != nil {
				want = append(want, c.want)
			}
			if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(f.folders[folderUID(c.owner)].acl)); d != "" {
				t.Errorf("permissions (-want +got):\n%s", d)
			}
			n := 0
			for _, w := range f.writes() {
				if strings.Contains(w, "/permissions") {
					n++
				}
			}
			if (n == 1) != (c.want != nil) {
				t.Errorf("permissions were written %d times", n)
			}
		})
	}
	t.Run("a token that may not read teams is a note", func(t *testing.T) {
		f := newFake(t)
		f.fault = func(r *http.Request, _ int) (int, string) {
			if r.URL.Path == "/api/teams/search" {
				return 403, `{"accessErrorId": "ACE1", "message": "You'll need additional permissions", "title": "Access denied"}`
			}
			return 0, ""
		}
		p := planOf(dashboard("checkout", payments, ""))
		g := target(t, f, p)
		if done, err := plan.Apply(t.Context(), g, p, plan.ApplyOptions{}); err != nil || len(done.Failed) > 0 {
			t.Fatal(done.Failed, err)
		}
		if n := g.Notes(); len(n) != 1 || !strings.Contains(n[0], "teams:read") {
			t.Errorf("notes: %q", n)
		}
	})
}

func TestSearchReadsAllPages(t *testing.T) {
	f := newFake(t)
	var all []plan.Artifact
	for i := range 7 {
		all = append(all, dashboard(fmt.Sprint("c", i), payments, ""))
	}
	apply(t, f, planOf(all...))
	for _, size := range []int64{1, 3, 7, 8} {
		g := target(t, f, planOf(all...))
		g.page = size
		held, err := g.Held(t.Context())
		if err != nil || len(held) != 7 {
			t.Errorf("pages of %d: %d boards, %v", size, len(held), err)
		}
	}
}

func TestABoardInAnotherFolderIsMovedBack(t *testing.T) {
	f := newFake(t)
	p := planOf(dashboard("checkout", payments, ""))
	apply(t, f, p)
	f.folders["elsewhere"] = &fakeFolder{title: "Elsewhere"}
	f.boards["sl-component-checkout"].folder = "elsewhere"
	done := apply(t, f, p)
	holds(t, f, "group:default/payments/sl-component-checkout: ")
	if len(done.Diff.Changed) != 1 || !strings.Contains(done.Diff.Changed[0].Unified, `-in the folder "Elsewhere" (elsewhere)`) {
		t.Errorf("diff: %+v", done.Diff)
	}
	if f.folders["elsewhere"] == nil {
		t.Error("the other folder is gone")
	}
}

func TestAChangeMadeMeanwhileIsAConflict(t *testing.T) {
	f := newFake(t)
	apply(t, f, planOf(dashboard("checkout", payments, "one"), dashboard("cart", payments, "one"), dashboard("find", finders, "one")))
	p := planOf(dashboard("checkout", payments, "two"), dashboard("find", finders, "one"))
	g := target(t, f, p)
	if _, err := g.Held(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"sl-component-checkout", "sl-component-cart"} {
		f.boards[uid].version++
		f.boards[uid].model["panels"] = []any{object{"title": "by hand"}}
	}
	if err := g.Put(t.Context(), p.Artifacts[0]); !errors.Is(err, plan.ErrConflict) {
		t.Errorf("put: %v", err)
	}
	for path, uid := range g.paths {
		if uid != "sl-component-cart" {
			continue
		}
		if err := g.Remove(t.Context(), plan.Artifact{Path: path}); !errors.Is(err, plan.ErrConflict) {
			t.Errorf("remove: %v", err)
		}
	}
	holds(t, f, "group:default/payments/sl-component-cart: by hand", "group:default/payments/sl-component-checkout: by hand", "group:default/search/sl-component-find: one")
	if done := apply(t, f, p); len(done.Failed) > 0 {
		t.Error(done.Failed)
	}
	holds(t, f, "group:default/payments/sl-component-checkout: two", "group:default/search/sl-component-find: one")
}

func TestTwoApplyAtOnce(t *testing.T) {
	f := newFake(t)
	var all []plan.Artifact
	for i := range 20 {
		all = append(all, dashboard(fmt.Sprint("c", i), []catalog.Ref{payments, finders}[i%2], "x"))
	}
	p := planOf(all...)
	targets := []*Target{target(t, f, p), target(t, f, p)}
	// Both have read the empty Grafana before either writes.
	var read, wait sync.WaitGroup
	read.Add(2)
	for _, g := range targets {
		wait.Go(func() {
			held, err := g.Held(t.Context())
			read.Done()
			read.Wait()
			if err != nil || len(held) > 0 {
				t.Error(len(held), err)
			}
			for _, a := range p.Artifacts {
				if err := g.Put(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if len(f.boards) != 20 || len(f.folders) != 2 {
		t.Errorf("%d boards in %d folders", len(f.boards), len(f.folders))
	}
	for uid, b := range f.boards {
		if b.version != 1 {
			t.Errorf("%s was saved %d times", uid, b.version)
		}
	}
}

func TestFaults(t *testing.T) {
	hint := func(err error) string {
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			return h.Hint()
		}
		return ""
	}
	for _, c := range []struct {
		sentence       string
		code           int
		body           string
		times          int // that each call fails
		message, hints string
	}{
		{"a wrong token", 401, `{"message": "invalid API key"}`, 99, "GET /api/search answered 401 Unauthorized: invalid API key", "token_file"},
		{"a token without rights", 403, `{"accessErrorId": "A", "message": "You'll need additional permissions", "title": "Access denied"}`, 99, "403 Forbidden: You'll need", "Editor"},
		{"an address that is not Grafana's", 404, "404 page not found", 99, "404 Not Found", "/api"},
		{"the page of a login", 200, "<html>", 99, "not JSON", "login"},
		{"a redirect to a login", 302, "", 99, "302 Found", "login"},
		{"a broken Grafana", 500, `{"message": "Internal"}`, 99, "500 Internal Server Error: Internal", ""},
		{"a Grafana that is busy for a while", 429, "", 2, "", ""},
		{"a Grafana that starts", 503, "<html>", 3, "", ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFake(t)
			f.fault = func(_ *http.Request, n int) (int, string) {
				if n <= c.times {
					return c.code, c.body
				}
				return 0, ""
			}
			_, err := target(t, f, planOf()).Held(t.Context())
			if c.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(hint(err), c.hints) || strings.Contains(err.Error(), "glsa_test") {
				t.Errorf("error %v, hint %q", err, hint(err))
			}
		})
	}
	t.Run("a token file that is gone is not tried again", func(t *testing.T) {
		f := newFake(t)
		h, err := New(Options{URL: f.url, TokenFile: filepath.Join(t.TempDir(), "none")}, planOf())
		if err != nil {
			t.Fatal(err)
		}
		h.first = time.Hour
		if _, err := h.Held(t.Context()); err == nil || !strings.Contains(err.Error(), "token_file") {
			t.Error(err)
		}
	})
	t.Run("a slow Grafana ends with the context", func(t *testing.T) {
		f := newFake(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.before = func(r *http.Request) { cancel(); <-r.Context().Done() }
		if _, err := target(t, f, planOf()).Held(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("a slow Grafana ends with the time for one call", func(t *testing.T) {
		f := newFake(t)
		f.before = func(r *http.Request) { <-r.Context().Done() }
		g, err := New(Options{URL: f.url, TokenFile: token(t, "glsa_test"), Timeout: time.Millisecond}, planOf())
		if err != nil {
			t.Fatal(err)
		}
		g.first = time.Millisecond
		if _, err := g.Held(t.Context()); err == nil || !strings.Contains(hint(err), "grafana.url") {
			t.Error(err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		g, err := New(Options{URL: "http://127.0.0.1:1", TokenFile: token(t, "glsa_test")}, planOf())
		if err != nil {
			t.Fatal(err)
		}
		g.first = time.Millisecond
		if _, err := g.Held(t.Context()); err == nil || !strings.Contains(hint(err), "grafana.url") {
			t.Error(err)
		}
	})
}

// An apply that breaks off at any of its writes is carried on by the next one, and none loses the board that is foreign.
func TestApplyConvergesAfterAFaultAtEachWrite(t *testing.T) {
	before := planOf(dashboard("a", payments, "one"), dashboard("b", payments, "one"), dashboard("c", finders, "one"), dashboard("d", finders, "one"))
	after := planOf(dashboard("a", payments, "two"), dashboard("b", finders, "one"), dashboard("e", catalog.Ref{}, "one"))
	want := []string{"/mine: ", "Sightline: no owner/sl-component-e: one", "group:default/payments/sl-component-a: two", "group:default/search/sl-component-b: one"}
	broken := 0
	for at := 1; ; at++ {
		f := newFake(t)
		f.teams["search"] = 5
		apply(t, f, before)
		f.boards["mine"] = &fakeBoard{model: object{"title": "mine", "tags": []any{"sightline"}}, version: 1}
		n := 0
		f.fault = func(r *http.Request, _ int) (int, string) {
			if r.Method != "GET" {
				n++
			}
			if n >= at { // from here on everything fails, as when the process is killed
				return 500, `{"message": "down"}`
			}
			return 0, ""
		}
		_, err := plan.Apply(t.Context(), target(t, f, after), after, plan.ApplyOptions{})
		f.fault = nil
		if n < at {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		broken++
		if done := apply(t, f, after); len(done.Failed) > 0 {
			t.Errorf("after a fault at write %d: %v", at, done.Failed)
		}
		holds(t, f, want...)
		f.writes()
		if done := apply(t, f, after); !done.Diff.Empty() || len(f.writes()) > 0 {
			t.Errorf("after a fault at write %d the third apply still has to do: %+v", at, done.Diff)
		}
	}
	if broken < 5 {
		t.Errorf("only %d writes were broken", broken)
	}
}

// An answer that is lost is no conflict: the save is found to have arrived.
func TestASaveWhoseAnswerIsLostIsDone(t *testing.T) {
	f := newFake(t)
	p := planOf(dashboard("a", payments, "one"))
	apply(t, f, p)
	p = planOf(dashboard("a", payments, "two"))
	lost := false
	srv := f.url
	proxy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" && !lost {
			lost = true
			f.ServeHTTP(discard{}, r)
			w.WriteHeader(502)
			return
		}
		f.ServeHTTP(w, r)
	})
	f.url = serve(t, proxy)
	if done := apply(t, f, p); len(done.Failed) > 0 || !lost {
		t.Error(done.Failed, lost)
	}
	f.url = srv
	if v := f.boards["sl-component-a"].version; v != 2 {
		t.Errorf("version %d", v)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for url, want := range map[string]string{
		"grafana.example.com":                 "https://",
		"ftp://grafana.example.com":           "https://",
		"https://admin:x@grafana.example.com": "token_file",
	} {
		if _, err := New(Options{URL: url}, planOf()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "admin") {
			t.Errorf("%s: %v", url, err)
		}
	}
	a := dashboard("a", payments, "")
	a.Body = []byte(strings.Replace(string(a.Body), `"sightline"`, `"other"`, 1))
	if _, err := New(Options{URL: "http://localhost"}, planOf(a)); err == nil {
		t.Error("a board without the mark is accepted")
	}
}

func TestFoldersOfOwners(t *testing.T) {
	uids := map[string]bool{}
	for _, owner := range []catalog.Ref{payments, finders, {}, {Kind: "user", Namespace: "default", Name: "payments"}, {Kind: "group", Namespace: "default", Name: strings.Repeat("long-", 20)}} {
		uid := folderUID(owner)
		if got, ok := folderOwner(uid, folderTitle(owner)); !ok || got != owner || !uidForm.MatchString(uid) {
			t.Errorf("%v: folder %s is that of %v, %v", owner, uid, got, ok)
		}
		if _, ok := folderOwner(uid, "renamed"); ok {
			t.Errorf("the renamed folder %s is ours", uid)
		}
		uids[uid] = true
	}
	if len(slices.Collect(maps.Keys(uids))) != 5 {
		t.Errorf("uids: %v", uids)
	}
}
