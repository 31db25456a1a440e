package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// besideGitLab runs another Sightline beside the portal and a simulated GitLab, which it polls once an hour: what it counts
// in between came from GitLab to Backstage, and from Backstage's event bus to it.
func besideGitLab(t *testing.T, p *portal) {
	t.Helper()
	const history, jobs = 3, 2
	gl := &fakegitlab.Server{Now: time.Now, Token: "glpat-e2e"}
	gl.Generate(fakegitlab.Size{Projects: 1, Branches: 1, Pipelines: history, Jobs: jobs}, time.Now())
	project := gl.Projects[0]
	project.Path = "acme/kept-worker" // as an entity of the portal names it
	srv := httptest.NewServer(gl)
	defer srv.Close()

	dir := t.TempDir()
	w := &watcher{t: t, conf: write(t, filepath.Join(dir, "sightline.yaml"), fmt.Sprintf(`
catalog: {backstage: {url: %q, token_file: %q}, platform_owner: %q}
sources:
  backstage: {metrics_urls: ["http://127.0.0.1:%s/metrics"]}
  scaffolder: {}
  gitlab: [{url: %q, token_file: %q, backstage_events: true, poll: 1h, calls_per_hour: 100000}]
store: {path: %q}
server: {listen: "127.0.0.1:0", auth: {token_files: [%q]}}
`, p.url, write(t, filepath.Join(dir, "token"), backstageToken), platformOwner, p.gauge, srv.URL, write(t, filepath.Join(dir, "gitlab"), "glpat-e2e"),
		filepath.Join(dir, "data"), write(t, filepath.Join(dir, "api-token"), "the-api-token")))}
	w.start()
	w.ready()
	counted := func(want int) error {
		metrics, err := w.family("cicd_pipeline_runs_total")
		n := 0
		for _, m := range metrics {
			if label(m, "source") == "gitlab" && label(m, "entity") == "component:default/kept-worker" && label(m, "owner") == "group:default/team-runtime" {
				n += int(m.Counter.GetValue())
			}
		}
		if err == nil && n != want {
			err = fmt.Errorf("%d pipelines of kept-worker are counted, want %d", n, want)
		}
		return err
	}
	eventually(t, patience, func() error { return counted(history) })

	gl.Lock()
	run := gl.AddFinished(project, "main", time.Now().Add(-3*time.Minute), jobs, rand.New(rand.NewPCG(1, 9)))
	run.Updated = time.Now()
	alone := *project
	alone.Pipelines = []*fakegitlab.Pipeline{run}
	hooks := gl.Hooks(&alone, run.Created.Add(-time.Second), time.Now())
	gl.Unlock()
	deliver := func() {
		for _, h := range hooks {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/api/events/http/gitlab", bytes.NewReader(h.Body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "X-Gitlab-Event": {h.Event}, "Idempotency-Key": {h.Key}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("Backstage answers a webhook with %s", resp.Status)
			}
		}
	}
	var last time.Time
	eventually(t, patience, func() error {
		if time.Since(last) > 10*time.Second { // again, so that one before the subscription does no harm; it counts once
			deliver()
			last = time.Now()
		}
		return counted(history + 1)
	})

	out, err := exec.Command(os.Getenv("SIGHTLINE_BIN"), "doctor", "--config", w.conf, "--format", "json", "--timeout", "1m").Output()
	var found []struct{ Check, Status, Message string }
	if json.Unmarshal(out, &found) != nil {
		t.Fatalf("doctor: %v: %s", err, out)
	}
	checks, unowned := map[string]string{}, ""
	for _, f := range found {
		t.Logf("doctor: %s %s: %s", f.Check, f.Status, f.Message)
		if was := checks[f.Check]; was == "" || f.Status == "error" || f.Status == "warning" && was == "ok" {
			checks[f.Check] = f.Status
		}
		if strings.Contains(f.Message, "have no valid owner") {
			unowned = f.Message
		}
	}
	if !strings.Contains(unowned, "component:default/ghost-exporter") {
		t.Errorf("doctor says of what nobody owns: %q", unowned)
	}
	for _, check := range []string{"scaffolder", "events", "backstage"} {
		if checks[check] != "ok" {
			t.Errorf("doctor finds %s: %s, want ok", check, checks[check])
		}
	}
	if d := cmp.Diff("error", checks["catalog"]); d != "" {
		t.Errorf("doctor on the catalog, which has a faulty annotation (-want +got):\n%s", d)
	}
	w.stop()
}
