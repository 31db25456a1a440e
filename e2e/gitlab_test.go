package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
)

// TestGitLabRunsAreCountedOnceThroughKills runs the real program beside a simulated GitLab whose pipelines keep finishing,
// kills it with -9 again and again, and compares its counters with what finished. What lay behind the first start must
// not have been an increase.
func TestGitLabRunsAreCountedOnceThroughKills(t *testing.T) {
	demand(t)
	const projects, history, jobs = 4, 30, 3
	gl := &fakegitlab.Server{Now: time.Now, Token: "glpat-e2e"}
	gl.Generate(fakegitlab.Size{Projects: projects, Branches: 1, Pipelines: history, Jobs: jobs}, time.Now())
	srv := httptest.NewServer(gl)
	defer srv.Close()

	dir := t.TempDir()
	var entities strings.Builder
	entities.WriteString("apiVersion: backstage.io/v1alpha1\nkind: Group\nmetadata: {name: pay}\nspec: {type: team, children: []}\n")
	for i, p := range gl.Projects {
		fmt.Fprintf(&entities, "---\napiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: c%d\n  annotations: {gitlab.com/project-slug: %s}\nspec: {type: service, lifecycle: production, owner: pay}\n", i, p.Path)
	}
	write(t, filepath.Join(dir, "catalog-info.yaml"), entities.String())
	write(t, filepath.Join(dir, "token"), "glpat-e2e\n")
	addr := freeAddr(t)
	conf := write(t, filepath.Join(dir, "sightline.yaml"), fmt.Sprintf(`
catalog: {files: [%q], platform_owner: "group:default/pay"}
sources: {gitlab: [{url: %q, token_file: %q, webhook_secret_files: [%q], poll: 1s, calls_per_hour: 100000}]}
store: {path: %q}
server: {listen: %q}
`, filepath.Join(dir, "catalog-info.yaml"), srv.URL, filepath.Join(dir, "token"), write(t, filepath.Join(dir, "hook"), "hook-e2e\n"), filepath.Join(dir, "data"), addr))
	hook := func(h fakegitlab.Hook) { // it may be lost: the program is being killed
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/webhooks/gitlab", bytes.NewReader(h.Body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Gitlab-Token": {"hook-e2e"}, "X-Gitlab-Event": {h.Event}, "Idempotency-Key": {h.Key}}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("a webhook was answered %s", resp.Status)
			}
		}
	}

	counted := func() (pipelines, jobs float64, err error) {
		families, err := metrics("http://" + addr + "/metrics")
		if err != nil {
			return 0, 0, err
		}
		for name, into := range map[string]*float64{"cicd_pipeline_runs_total": &pipelines, "cicd_pipeline_task_runs_total": &jobs} {
			if f := families[name]; f != nil {
				for _, m := range f {
					if m.labels["owner"] != "group:default/pay" || !strings.HasPrefix(m.labels["entity"], "component:default/c") {
						return 0, 0, fmt.Errorf("%s has owner %q and entity %q", name, m.labels["owner"], m.labels["entity"])
					}
					*into += m.value
				}
			}
		}
		return pipelines, jobs, nil
	}
	p := start(t, os.Getenv("SIGHTLINE_BIN"), "serve", "--config", conf)
	want := float64(projects * history)
	until := func(limit time.Duration) {
		t.Helper()
		eventually(t, limit, func() error {
			p, j, err := counted()
			if err == nil && (p != want || j != want*jobs) {
				err = fmt.Errorf("counted %g pipelines and %g jobs, want %g and %g", p, j, want, want*jobs)
			}
			return err
		})
	}
	until(60 * time.Second)
	eventually(t, 90*time.Second, func() error { // the embedded Prometheus has read the counters
		n, err := value(addr, `sum(cicd_pipeline_runs_total)`)
		if err == nil && n != want {
			err = fmt.Errorf("the embedded Prometheus has %g runs, want %g", n, want)
		}
		return err
	})
	inStore := func(limit time.Duration) { // each run counts at its time, and once
		t.Helper()
		eventually(t, limit, func() error {
			n, err := value(addr, `sum(increase(cicd_pipeline_runs_total[35d] anchored))`)
			if err == nil && n != want {
				err = fmt.Errorf("the embedded Prometheus counts %g runs in 35 days, want %g", n, want)
			}
			return err
		})
	}
	inStore(30 * time.Second)
	if v, err := value(addr, `max(increase(cicd_pipeline_runs_total[5m])) or vector(0)`); err != nil || v != 0 {
		t.Errorf("what lay behind the first start is an increase of %g in the last five minutes (%v)", v, err)
	}

	random := rand.New(rand.NewPCG(1, 9))
	for range 5 {
		for range 20 {
			gl.Lock()
			project := gl.Projects[random.IntN(projects)]
			run := gl.AddFinished(project, "main", time.Now().Add(-3*time.Minute), jobs, random)
			run.Updated = time.Now()
			var hooks []fakegitlab.Hook
			if random.IntN(2) == 0 {
				alone := *project
				alone.Pipelines = []*fakegitlab.Pipeline{run}
				hooks = gl.Hooks(&alone, run.Created.Add(-time.Second), time.Now())
			}
			gl.Unlock()
			for _, h := range hooks {
				hook(h)
			}
			want++
			time.Sleep(time.Duration(random.IntN(80)) * time.Millisecond)
		}
		p.cmd.Process.Signal(syscall.SIGKILL)
		<-p.done
		p = start(t, os.Getenv("SIGHTLINE_BIN"), "serve", "--config", conf)
	}
	until(60 * time.Second)
	time.Sleep(3 * time.Second) // a second count would show within the next polls
	until(time.Second)
	inStore(90 * time.Second)
	if got := gl.Requests(); got["/projects/:id/pipelines"] == 0 {
		t.Errorf("requests %v", got)
	}

	// A token that is refused, and then works again.
	gl.Lock()
	gl.Token = "another"
	gl.Unlock()
	eventually(t, 30*time.Second, func() error {
		families, err := metrics("http://" + addr + "/metrics")
		if err == nil && (len(families["sightline_source_up"]) != 1 || families["sightline_source_up"][0].value != 0) {
			err = fmt.Errorf("sightline_source_up is %v with a token that is refused", families["sightline_source_up"])
		}
		return err
	})
	until(time.Second)
	write(t, filepath.Join(dir, "token"), "another\n")
	gl.Lock()
	run := gl.AddFinished(gl.Projects[0], "main", time.Now().Add(-3*time.Minute), jobs, random)
	run.Updated = time.Now()
	gl.Unlock()
	want++
	until(60 * time.Second)
}

// value asks the embedded Prometheus for the one value of a query.
func value(addr, query string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := getJSON("http://"+addr+"/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s has %d results", query, len(answer.Data.Result))
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// sample is one sample of a family.
type sample struct {
	labels map[string]string
	value  float64
}

// metrics reads counters and gauges of a text exposition.
func metrics(url string) (map[string][]sample, error) {
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, err
	}
	out := map[string][]sample{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			s := sample{labels: map[string]string{}, value: m.GetCounter().GetValue() + m.GetGauge().GetValue()}
			for _, l := range m.GetLabel() {
				s.labels[l.GetName()] = l.GetValue()
			}
			out[name] = append(out[name], s)
		}
	}
	return out, nil
}
