package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	refs "github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/dashboards"
)

// catalogs are the catalogs whose generated files must hold on real servers: arguments of `sightline generate`.
func catalogs(t *testing.T) map[string][]string {
	recorded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entities, err := os.ReadFile("../catalog/backstage/testdata/entities.json")
		if err != nil || r.URL.Path != "/api/catalog/entities/by-query" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"items":%s,"totalItems":45,"pageInfo":{}}`, entities)
	}))
	t.Cleanup(recorded.Close)
	conf := write(t, filepath.Join(t.TempDir(), "recorded.yaml"), fmt.Sprintf("catalog: {backstage: {url: %q}, platform_owner: 'group:default/team-platform'}\n", recorded.URL))
	kinds := t.TempDir()
	write(t, filepath.Join(kinds, "catalog-info.yaml"), `apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: shop, annotations: {sightline.dev/no-traffic: bad}}
spec: {type: every-kind, lifecycle: production, owner: platform}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: store, annotations: {sightline.dev/window: calendar-month, sightline.dev/window.latency: calendar-week, sightline.dev/window.reachable: calendar-quarter}}
spec: {type: every-kind, lifecycle: production, owner: platform}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: platform}
spec: {type: team, children: []}
`)
	library, err := filepath.Abs("../slo/testdata/kinds")
	if err != nil {
		t.Fatal(err)
	}
	all := write(t, filepath.Join(kinds, "sightline.yaml"), fmt.Sprintf("catalog: {files: [%q], platform_owner: 'group:default/platform'}\nslo: {library: %q, timezone: Europe/Zurich}\n", filepath.Join(kinds, "catalog-info.yaml"), library))
	return map[string][]string{
		"every kind of indicator and window": {"--config", all},
		"the demo's catalog":                 {"--catalog", "../simulate/platform"},
		"the recorded Backstage catalog":     {"--config", conf},
	}
}

var interval = regexp.MustCompile(`(?m)^    interval: .*$`)

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct{ Record, Alert, Expr string }
	}
}

func filesBelow(t *testing.T, dir, suffix string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("no %s below %s", suffix, dir)
	}
	return out
}

func TestGeneratedFilesHoldOnRealServers(t *testing.T) {
	demand(t, "prometheus", "promtool", "amtool")
	for name, args := range catalogs(t) {
		for _, mode := range []string{"exact", "sloth"} {
			t.Run(name+", "+mode+" rules", func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out")
				generate := append([]string{"generate", "--rules", mode, "--out", out, "--fail-on", "never"}, args...)
				sightline(t, 0, generate...)

				again := filepath.Join(t.TempDir(), "again")
				sightline(t, 0, append([]string{"generate", "--rules", mode, "--out", again, "--fail-on", "never"}, args...)...)
				if d := cmp.Diff(snapshot(t, out), snapshot(t, again)); d != "" {
					t.Errorf("two runs differ (-first +second):\n%s", d)
				}

				rules := filesBelow(t, filepath.Join(out, "rules"), ".yaml")
				runTool(t, "promtool", append([]string{"check", "rules"}, rules...)...)
				runTool(t, "amtool", "check-config", filepath.Join(out, "alertmanager", "alertmanager.yml"))
				for _, f := range filesBelow(t, filepath.Join(out, "dashboards"), ".json") {
					body, err := os.ReadFile(f)
					if err != nil {
						t.Fatal(err)
					}
					for _, finding := range dashboards.LintJSON(f, body) {
						t.Errorf("%v", finding)
					}
				}
				evaluate(t, "prometheus", rules)
			})
		}
	}
}

// The oldest Prometheus that the rules are for is Debian 12's.
func TestRulesHoldOnPrometheus242(t *testing.T) {
	demand(t)
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("Prometheus 2.42 comes from Debian's package, and this system has no apt-get; on Debian and Ubuntu, as in CI, this test runs")
	}
	demand(t, "prometheus-2.42", "promtool-2.42")
	for name, args := range catalogs(t) {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			sightline(t, 0, append([]string{"generate", "--out", out, "--fail-on", "never"}, args...)...)
			rules := filesBelow(t, filepath.Join(out, "rules"), ".yaml")
			runTool(t, "promtool-2.42", append([]string{"check", "rules"}, rules...)...)
			evaluate(t, "prometheus-2.42", rules)
		})
	}
}

// evaluate loads the rules into a real Prometheus and waits until each has been evaluated without error.
func evaluate(t *testing.T, server string, rules []string) {
	t.Helper()
	want := 0
	for _, f := range rules {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var rf ruleFile
		if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(&rf); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if strings.Contains(string(b), "\n---") {
			t.Errorf("%s holds more than one document", f)
		}
		for _, g := range rf.Groups {
			want += len(g.Rules)
		}
	}
	// Prometheus spreads groups over their interval, which is up to five minutes: it is shortened, the rules are as generated.
	addr, dir := freeAddr(t), t.TempDir()
	for i, f := range rules {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "rules", fmt.Sprintf("%d.yaml", i)), interval.ReplaceAllString(string(b), "    interval: 5s"))
	}
	conf := write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf("global: {scrape_interval: 15s, evaluation_interval: 5s}\nrule_files: [%q]\n", filepath.Join(dir, "rules", "*.yaml")))
	start(t, server, "--config.file", conf, "--storage.tsdb.path", filepath.Join(dir, "tsdb"), "--web.listen-address", addr)
	ready(t, "http://"+addr+"/-/ready")
	eventually(t, 2*time.Minute, func() error {
		var answer struct {
			Data struct {
				Groups []struct {
					Name  string
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := getJSON("http://"+addr+"/api/v1/rules", &answer); err != nil {
			return err
		}
		loaded, unknown := 0, 0
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				loaded++
				switch r.Health {
				case "ok":
				case "unknown":
					unknown++
				default:
					t.Fatalf("group %s, rule %s: %s: %s", g.Name, r.Name, r.Health, r.LastError)
				}
			}
		}
		if loaded != want {
			t.Fatalf("Prometheus loaded %d rules, the files hold %d", loaded, want)
		}
		if unknown > 0 {
			return fmt.Errorf("%d of %d rules have not been evaluated yet", unknown, loaded)
		}
		t.Logf("%d rules, all healthy", loaded)
		return nil
	})
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range filesBelow(t, dir, "") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = string(b)
	}
	return out
}

func TestOneAlertPerOwnerReachesItsReceiver(t *testing.T) {
	demand(t, "alertmanager", "amtool")
	received := make(chan string, 1000)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n struct {
			Receiver string
			Alerts   []struct{ Labels map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("read notification: %v", err)
		}
		for _, a := range n.Alerts {
			received <- strings.TrimPrefix(r.URL.Path, "/") + " got " + a.Labels["owner"]
		}
	}))
	defer sink.Close()

	const teams = 25
	dir := t.TempDir()
	secretFile := func(group, name string) string {
		return filepath.Join(dir, "secrets", refs.Slug(refs.NewRef("group", "", group), 63)+"-"+name)
	}
	write(t, secretFile("platform", "hook"), sink.URL+"/platform")
	var catalog strings.Builder
	catalog.WriteString("apiVersion: backstage.io/v1alpha1\nkind: Group\nmetadata: {name: platform, annotations: {sightline.dev/receiver.webhook: hook}}\nspec: {type: team, children: []}\n")
	want := map[string]bool{"platform got group:default/platform": true, "platform got group:default/gone": true}
	for i := range teams {
		fmt.Fprintf(&catalog, "---\napiVersion: backstage.io/v1alpha1\nkind: Group\nmetadata: {name: team-%d, annotations: {sightline.dev/receiver.webhook: hook}}\nspec: {type: team, children: []}\n", i)
		write(t, secretFile(fmt.Sprintf("team-%d", i), "hook"), fmt.Sprintf("%s/team-%d", sink.URL, i))
		fmt.Fprintf(&catalog, "---\napiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: svc-%d, annotations: {sightline.dev/objective.availability: '99.9'}}\nspec: {type: service, lifecycle: production, owner: team-%d}\n", i, i)
		want[fmt.Sprintf("team-%d got group:default/team-%d", i, i)] = true
	}
	catalogFile := write(t, filepath.Join(dir, "catalog.yaml"), catalog.String())
	conf := write(t, filepath.Join(dir, "sightline.yaml"), fmt.Sprintf("catalog: {files: [%q], platform_owner: 'group:default/platform'}\nalertmanager: {receivers: {secrets_dir: %q}}\n", catalogFile, filepath.Join(dir, "secrets")))
	out := filepath.Join(dir, "out")
	sightline(t, 0, "generate", "--config", conf, "--out", out)

	am := filepath.Join(out, "alertmanager", "alertmanager.yml")
	runTool(t, "amtool", "check-config", am)
	for i := range teams {
		tree := runTool(t, "amtool", "config", "routes", "test", "--config.file", am, fmt.Sprintf("owner=group:default/team-%d", i), "severity=page", "alertname=SLOErrorBudgetBurn")
		if !strings.Contains(tree, fmt.Sprintf("team-%d", i)) {
			t.Errorf("amtool routes team-%d to %s", i, tree)
		}
	}

	// Notifications are wanted within the test's time, so the waiting times are shortened; the tree stays as generated.
	body, err := os.ReadFile(am)
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	start(t, "alertmanager", "--config.file", write(t, filepath.Join(dir, "am.yml"), shortWaits(string(body))), "--storage.path", filepath.Join(dir, "am"),
		"--web.listen-address", addr, "--cluster.listen-address=")
	ready(t, "http://"+addr+"/-/ready")
	type alert struct {
		Labels map[string]string `json:"labels"`
	}
	var alerts []alert
	for k := range want {
		_, owner, _ := strings.Cut(k, " got ")
		alerts = append(alerts, alert{map[string]string{"alertname": "SLOErrorBudgetBurn", "owner": owner, "severity": "page", "sloth_id": "x-" + owner}})
	}
	b, err := json.Marshal(alerts)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post("http://"+addr+"/api/v2/alerts", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := map[string]bool{}
	deadline := time.After(60 * time.Second)
	for len(got) < len(want) {
		select {
		case s := <-received:
			got[s] = true
		case <-deadline:
			t.Fatalf("after a minute (-want +got):\n%s", cmp.Diff(want, got))
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("notifications (-want +got):\n%s", d)
	}
}

func shortWaits(config string) string {
	lines := strings.Split(config, "\n")
	for i, l := range lines {
		if key, _, ok := strings.Cut(l, "group_wait:"); ok {
			lines[i] = key + "group_wait: 100ms"
		}
		if key, _, ok := strings.Cut(l, "group_interval:"); ok {
			lines[i] = key + "group_interval: 1s"
		}
	}
	return strings.Join(lines, "\n")
}
