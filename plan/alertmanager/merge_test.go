package alertmanager

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/common/model"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
)

var update = flag.Bool("update", false, "write the golden files anew")

// generated is what a small catalog compiles to; with a platform, unowned alerts have a receiver.
func generated(t testing.TB, platform bool, more ...string) []byte {
	t.Helper()
	group := func(name string, annotations ...string) *catalog.Entity {
		e := &catalog.Entity{Ref: catalog.NewRef("group", "", name), Name: name, Annotations: map[string]string{}}
		for i := 0; i < len(annotations); i += 2 {
			e.Annotations[catalog.Prefix+annotations[i]] = annotations[i+1]
		}
		return e
	}
	entities := []*catalog.Entity{
		group("team-pay", "receiver.slack", "#pay", "receiver.pagerduty", "pay-key", "office-hours", "Mon-Fri 08:00-18:00 Europe/Zurich"),
		group("team-shop", "receiver.email", "shop@example.com"),
		group("platform"),
	}
	if platform {
		entities[2] = group("platform", "receiver.slack", "#platform")
	}
	for _, name := range more {
		entities = append(entities, group(name, "receiver.slack", "#"+name))
	}
	for _, e := range slices.Clone(entities) {
		entities = append(entities, &catalog.Entity{Ref: catalog.NewRef("component", "", "of-"+e.Name), Owner: e.Ref})
	}
	g, problems := catalog.NewGraph(entities, catalog.NewRef("group", "", "platform"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, _ := alerts.Build(g, alerts.Options{Slack: alerts.Slack{APIURLFile: "/run/slack"}, Email: alerts.Email{Smarthost: "mail:587", From: "slo@example.com"}})
	return c.YAML()
}

const plainFile = `route:
  receiver: ops
  routes:
    - matchers: [team="db"]
      receiver: db
    - receiver: sightline-fallback
receivers:
  - name: ops
  - name: db
  - name: sightline-fallback
`

// Each file of testdata is a user's file and what becomes of it.
func TestMerge(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) < 3 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			golden, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			user, gen := golden.Files[0].Data, generated(t, !strings.Contains(path, "without_platform"))
			got, err := Merge(user, gen)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				golden.Files = []txtar.File{golden.Files[0], {Name: "merged.yml", Data: got}}
				if err := os.WriteFile(path, txtar.Format(golden), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(golden.Files[1].Data), string(got)); d != "" {
				t.Errorf("merged (-want +got):\n%s", d)
			}
			if err := Prove(user, gen, got); err != nil {
				t.Errorf("proof: %v", err)
			}
			if plain, err := Strip(got); err != nil || !bytes.Equal(plain, user) {
				t.Errorf("what is not Sightline's changed: %v\n%s", err, cmp.Diff(string(user), string(plain)))
			}
			if again, err := Merge(got, gen); err != nil || !bytes.Equal(again, got) {
				t.Errorf("merging twice is not merging once: %v\n%s", err, cmp.Diff(string(got), string(again)))
			}
			other, err := Merge(got, generated(t, true, "team-new"))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := Merge(other, gen); err != nil || !bytes.Equal(back, got) {
				t.Errorf("the way back from another catalog does not lead here: %v\n%s", err, cmp.Diff(string(got), string(back)))
			}
			if inverse, err := generatedOf(got, gen); err != nil || !bytes.Equal(inverse, gen) {
				t.Errorf("the generated part is not read back: %v\n%s", err, cmp.Diff(string(gen), string(inverse)))
			}
			sameAsAlertmanager(t, user, got)
		})
	}
}

// sameAsAlertmanager holds our reading of routes to Alertmanager's own, on all label sets that the proof looks at.
func sameAsAlertmanager(t *testing.T, files ...[]byte) {
	t.Helper()
	var trees []*route
	var theirs []*dispatch.Route
	for _, f := range files {
		loaded, err := config.Load(string(f))
		if err != nil {
			t.Fatalf("Alertmanager refuses the file: %v\n%s", err, f)
		}
		theirs = append(theirs, dispatch.NewRoute(loaded.Route, nil))
		r, err := newRoute(f)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, r)
	}
	n := 0
	check := func(set labelSet) {
		n++
		labels := model.LabelSet{}
		for k, v := range set {
			labels[model.LabelName(k)] = model.LabelValue(v)
		}
		for i := range files {
			var want []string
			for _, r := range theirs[i].Match(labels) {
				want = append(want, r.RouteOpts.Receiver)
			}
			if d := cmp.Diff(want, receivers(trees[i].match(set))); d != "" {
				t.Errorf("file %d, %s (-Alertmanager +ours):\n%s", i, set, d)
			}
		}
	}
	for set := range candidates(trees...) {
		check(set)
	}
	for _, tree := range trees {
		for _, set := range ownerAlerts(tree) {
			check(set)
		}
	}
	if n < 10 {
		t.Errorf("only %d label sets", n)
	}
}

func TestOwnersReachTheirReceiversInAlertmanagersOwnRouting(t *testing.T) {
	gen := generated(t, true)
	merged, err := Merge([]byte(plainFile), gen)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(string(merged))
	if err != nil {
		t.Fatal(err)
	}
	tree := dispatch.NewRoute(loaded.Route, nil)
	for _, test := range []struct{ owner, severity, want string }{
		{"group:default/team-pay", "page", "sightline/group:default/team-pay/page"},
		{"group:default/team-pay", "ticket", "sightline/group:default/team-pay"},
		{"group:default/team-shop", "page", "sightline/group:default/team-shop"},
		{"group:default/unheard-of", "ticket", "sightline/group:default/platform"},
		{"dba", "page", "sightline-fallback"},
		{"", "page", "sightline-fallback"},
	} {
		routes := tree.Match(model.LabelSet{"owner": model.LabelValue(test.owner), "severity": model.LabelValue(test.severity)})
		if len(routes) != 1 || routes[0].RouteOpts.Receiver != test.want {
			t.Errorf("%+v reaches %v", test, routes)
		}
	}
}

func TestFilesThatCannotTakeRoutesAreRefusedWithAHint(t *testing.T) {
	for name, test := range map[string]struct{ from, to, want string }{
		"no marker route":          {"    - receiver: sightline-fallback\n", "", "no route has the receiver"},
		"two marker routes":        {"    - receiver: sightline-fallback\n", "    - receiver: sightline-fallback\n      continue: true\n    - receiver: sightline-fallback\n", "2 routes have the receiver"},
		"the marker on top":        {"receiver: ops\n  routes:\n    - matchers: [team=\"db\"]\n      receiver: db\n    - receiver: sightline-fallback", "receiver: sightline-fallback", "the topmost route"},
		"routes below the marker":  {"- receiver: sightline-fallback\n", "- receiver: sightline-fallback\n      routes: [{receiver: db}]\n", "has routes of its own"},
		"a marker in one line":     {"- receiver: sightline-fallback", "- {receiver: sightline-fallback}", "written in one line"},
		"receivers in one line":    {"receivers:\n  - name: ops\n  - name: db\n  - name: sightline-fallback\n", "receivers: [{name: ops}, {name: db}, {name: sightline-fallback}]\n", "cannot add to receivers"},
		"a name that is ours":      {"- name: ops", "- name: sightline/mine\n  - name: ops", "bears a name that is Sightline's"},
		"a beginning without end":  {"receivers:\n", "receivers:\n" + Begin + "\n", "is missing"},
		"an end without beginning": {"receivers:\n", "receivers:\n" + End + "\n", "without"},
		"an empty file":            {plainFile, "", "is empty"},
		"two documents":            {"receivers:\n  - name: ops", "---\nreceivers:\n  - name: ops", "more than one"},
	} {
		_, err := Merge([]byte(strings.Replace(plainFile, test.from, test.to, 1)), generated(t, true))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
			continue
		}
		if h, ok := err.(*MergeError); !ok || h.Hint() == "" {
			t.Errorf("%s: no hint", name)
		}
	}
}

func TestProofRefuses(t *testing.T) {
	gen := generated(t, true)
	for name, test := range map[string]struct {
		user, merged func(string) string
		want         string
	}{
		"a route before the marker that takes owners' pages": {
			user: func(s string) string { return strings.Replace(s, `[team="db"]`, `[severity="page"]`, 1) },
			want: "would not reach sightline/group:default/platform: the route on line 4 takes them to db",
		},
		"a marker that does not get them": {
			user: func(s string) string {
				return strings.Replace(s, "receiver: sightline-fallback", "receiver: sightline-fallback\n      matchers: [team=\"x\"]", 1)
			},
			want: "would not reach",
		},
		"a merge that sends others' alerts elsewhere": {
			merged: func(s string) string { return strings.Replace(s, `owner=~"(group|user):.+"`, `owner!="x"`, 1) },
			want:   "not Sightline's would go elsewhere",
		},
		"a merge that loses a user's route": {
			merged: func(s string) string { return strings.Replace(s, `team="db"`, `team="bd"`, 1) },
			want:   `{team="bd"} reached sightline-fallback and would reach db`,
		},
	} {
		user := plainFile
		if test.user != nil {
			user = test.user(user)
		}
		merged, err := Merge([]byte(user), gen)
		if err != nil {
			t.Fatal(err)
		}
		if test.merged != nil {
			merged = []byte(test.merged(string(merged)))
		}
		if err := Prove([]byte(user), gen, merged); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func FuzzMerge(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		golden, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range golden.Files {
			f.Add(file.Data)
		}
	}
	gen := generated(f, true)
	f.Fuzz(func(t *testing.T, user []byte) {
		merged, err := Merge(user, gen)
		if err != nil {
			return
		}
		again, err := Merge(merged, gen)
		if err != nil || !bytes.Equal(again, merged) {
			t.Fatalf("merging twice: %v\n%s", err, cmp.Diff(string(merged), string(again)))
		}
		before, err1 := Strip(user)
		after, err2 := Strip(merged)
		if err1 != nil || err2 != nil || !bytes.Equal(bytes.TrimSuffix(before, []byte("\n")), bytes.TrimSuffix(after, []byte("\n"))) {
			t.Fatalf("a part of the user's is lost: %v %v\n%s", err1, err2, cmp.Diff(string(before), string(after)))
		}
	})
}
