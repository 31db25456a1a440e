package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	backstageToken = "sightline-e2e-static-token" // of the kit's lib.sh
	platformOwner  = "group:default/platform"
	patience       = 4 * time.Minute // on a busy machine Backstage takes minutes to take its catalog in
)

// A portal is a real Backstage. It knows how the tasks that it was given have to end.
type portal struct {
	t     *testing.T
	url   string
	port  string
	gauge string // port of its metrics
	env   []string
	truth map[string]int // by "template result attempt"
	down  bool
	open  map[string]time.Time // tasks that wait, and since when it is known
}

func newPortal(t *testing.T) *portal {
	t.Helper()
	demand(t, "npm")
	dir := os.Getenv("BACKSTAGE_WORKDIR")
	if dir == "" {
		t.Fatal("BACKSTAGE_WORKDIR is not set: e2e/run.sh sets it")
	}
	p := &portal{t: t, port: port(t), gauge: port(t), truth: map[string]int{}, open: map[string]time.Time{}}
	p.url = "http://localhost:" + p.port // as Backstage knows itself: the issuer of its tokens
	p.env = append(os.Environ(), "WORKDIR="+dir, "BACKSTAGE_PORT="+p.port, "METRICS_PORT="+p.gauge, "PGPORT="+port(t),
		"SIGHTLINE_TOKEN="+backstageToken, "OTEL_TRACES_EXPORTER=none")
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "backend.log"))
			t.Logf("last output of Backstage:\n%s", b[max(0, len(b)-4000):])
		}
		p.script("down.sh")
	})
	return p
}

func port(t *testing.T) string {
	_, port, _ := net.SplitHostPort(freeAddr(t))
	return port
}

func (p *portal) script(name string) {
	p.t.Helper()
	cmd := exec.Command("backstage/" + name)
	cmd.Env = p.env
	out := filepath.Join(p.t.TempDir(), name+".log") // a file, because what the script starts keeps it open
	f, err := os.Create(out)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		b, _ := os.ReadFile(out)
		p.t.Fatalf("%s: %v\n%s", name, err, b)
	}
}

// call asks Backstage and decodes its answer.
func (p *portal) call(method, path, token string, body, into any) {
	p.t.Helper()
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			p.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, &b)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		p.t.Fatalf("%s %s: %s %v %s", method, path, resp.Status, err, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		p.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
}

// task makes a scaffolder task, of which the end is known, and gives its id.
func (p *portal) task(template string, values map[string]any, end string) string {
	p.t.Helper()
	var made struct{ ID string }
	p.call("POST", "/api/scaffolder/v2/tasks", backstageToken, map[string]any{"templateRef": "template:default/" + template, "values": values}, &made)
	p.truth[template+" "+end+" first"]++
	return made.ID
}

func (p *portal) succeeding() string {
	return p.task("go-service", map[string]any{"name": "svc", "owner": "team-payments"}, "success")
}

func (p *portal) failing() string {
	return p.task("broken-template", map[string]any{"name": "x"}, "failure")
}

// slow makes a task that is to be cancelled.
func (p *portal) slow() string { return p.task("slow-template", map[string]any{}, "cancellation") }

func (p *portal) cancel(id string) {
	p.t.Helper()
	var answer struct{ Status string }
	p.call("POST", "/api/scaffolder/v2/tasks/"+id+"/cancel", backstageToken, map[string]any{}, &answer)
}

// nudge makes another task when one waits for long: Backstage's worker misses a task that is made just when it goes to
// sleep, and wakes up with the next one.
func (p *portal) nudge() {
	p.t.Helper()
	var list struct{ Tasks []struct{ ID string } }
	p.call("GET", "/api/scaffolder/v2/tasks?status=open&limit=100", backstageToken, nil, &list)
	for _, task := range list.Tasks {
		since, known := p.open[task.ID]
		switch {
		case !known:
			p.open[task.ID] = time.Now()
		case time.Since(since) > 10*time.Second:
			p.open[task.ID] = time.Now()
			p.failing()
			return
		}
	}
}

// explain shows what Backstage says of a task when the test fails.
func (p *portal) explain(id string) {
	p.t.Helper()
	p.t.Cleanup(func() {
		if !p.t.Failed() || p.down {
			return
		}
		req, err := http.NewRequest("GET", p.url+"/api/scaffolder/v2/tasks/"+id+"/events", nil)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+backstageToken)
		if resp, err := client.Do(req); err == nil {
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			p.t.Logf("events of task %s:\n%s", id, b)
		}
	})
}

// status waits until a task has the status.
func (p *portal) status(id, want string) {
	p.t.Helper()
	eventually(p.t, patience, func() error {
		var task struct{ Status string }
		p.call("GET", "/api/scaffolder/v2/tasks/"+id, backstageToken, nil, &task)
		if task.Status != want {
			p.nudge()
			return fmt.Errorf("task %s is %s, want %s", id, task.Status, want)
		}
		return nil
	})
}

// A watcher is a running `sightline serve` beside a Backstage.
type watcher struct {
	*process
	t    *testing.T
	conf string
	url  string
}

var listening = regexp.MustCompile(`msg=listening url=(\S+)`)

// watch starts `sightline serve` on a port of its choice, with its data in dir.
func watch(t *testing.T, portal, token, dir string) *watcher {
	t.Helper()
	secret := write(t, filepath.Join(dir, "token"), token)
	api := write(t, filepath.Join(dir, "api-token"), "the-api-token")
	w := &watcher{t: t, conf: write(t, filepath.Join(dir, "sightline.yaml"), fmt.Sprintf(`
catalog: {backstage: {url: %q, token_file: %q, refresh: 1s}, platform_owner: %q}
sources: {scaffolder: {poll: 1s}}
store: {path: %q}
server: {listen: "127.0.0.1:0", auth: {backstage: true, token_files: [%q]}}
`, portal, secret, platformOwner, filepath.Join(dir, "data"), api))}
	w.start()
	return w
}

func (w *watcher) start() {
	w.t.Helper()
	w.process = start(w.t, os.Getenv("SIGHTLINE_BIN"), "serve", "--config", w.conf)
	eventually(w.t, patience, func() error {
		m := listening.FindStringSubmatch(w.output())
		if m == nil {
			select {
			case <-w.done:
				w.t.Fatalf("sightline ended:\n%s", w.output())
			default:
			}
			return fmt.Errorf("sightline does not listen: %s", w.output())
		}
		w.url = m[1]
		return nil
	})
}

func (w *watcher) output() string {
	b, _ := os.ReadFile(w.log)
	return string(b)
}

// ready waits until /-/ready answers 200.
func (w *watcher) ready() {
	w.t.Helper()
	eventually(w.t, patience, func() error { _, err := get(w.url + "/-/ready"); return err })
}

// waitsFor waits until /-/ready answers 503 with a reason that holds the text, and the log holds it too.
func (w *watcher) waitsFor(reason string) {
	w.t.Helper()
	eventually(w.t, patience, func() error {
		code, body := w.api("/-/ready", "the-api-token")
		if code != http.StatusServiceUnavailable || !strings.Contains(string(body), reason) || !strings.Contains(w.output(), reason) {
			return fmt.Errorf("/-/ready: %d %s, want 503 and %q here and in the log:\n%s", code, body, reason, w.output())
		}
		return nil
	})
}

// kill ends the process at once, as a crash does.
func (w *watcher) kill() {
	w.t.Helper()
	w.cmd.Process.Kill()
	<-w.done
}

// api asks Sightline's API with a bearer token.
func (w *watcher) api(path, token string) (int, []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// family gives the series of one metric.
func (w *watcher) family(name string) ([]*dto.Metric, error) {
	b, err := get(w.url + "/metrics")
	if err != nil {
		return nil, err
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return families[name].GetMetric(), nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// runs gives the counters of tasks that are not zero: "template result attempt".
func (w *watcher) runs() (map[string]int, error) {
	metrics, err := w.family("cicd_pipeline_runs_total")
	out := map[string]int{}
	for _, m := range metrics {
		if n := int(m.Counter.GetValue()); n > 0 {
			out[label(m, "cicd_pipeline_name")+" "+label(m, "cicd_pipeline_result")+" "+label(m, "attempt")] += n
		}
	}
	return out, err
}

// counts waits until the counters are what Backstage's tasks came to.
func (w *watcher) counts(p *portal) {
	w.t.Helper()
	eventually(w.t, patience, func() error {
		got, err := w.runs()
		if err != nil {
			return err
		}
		if d := cmp.Diff(p.truth, got); d != "" {
			if !p.down {
				p.nudge()
			}
			return fmt.Errorf("counters (-want +got):\n%s", d)
		}
		return nil
	})
}

func (w *watcher) sourceUp() (float64, error) {
	metrics, err := w.family("sightline_source_up")
	if err != nil || len(metrics) != 1 {
		return 0, fmt.Errorf("%d series of sightline_source_up: %v", len(metrics), err)
	}
	return metrics[0].Gauge.GetValue(), nil
}

func TestBesideARealBackstage(t *testing.T) {
	p := newPortal(t)
	dir := t.TempDir()
	first := watch(t, p.url, "a wrong token", dir)

	t.Log("it waits for Backstage and the right token, and says so")
	{
		first.waitsFor("connection refused")
		p.script("up.sh")
		first.waitsFor("401")
		write(t, filepath.Join(dir, "token"), backstageToken)
		first.ready()
	}

	t.Log("entities arrive with their owners")
	{
		want := map[string]int{"api": 2, "component": 14, "domain": 2, "group": 7, "resource": 3, "system": 3, "template": 4, "user": 5}
		owners := map[string]string{}
		eventually(t, patience, func() error {
			metrics, err := first.family("sightline_entity_info")
			if err != nil {
				return err
			}
			kinds := map[string]int{}
			clear(owners)
			for _, m := range metrics {
				kind, _, _ := strings.Cut(label(m, "entity"), ":")
				kinds[kind]++
				owners[label(m, "entity")] = label(m, "owner")
			}
			if d := cmp.Diff(want, kinds); d != "" {
				return fmt.Errorf("entities by kind (-want +got):\n%s", d)
			}
			return nil
		})
		for entity, want := range map[string]string{
			"component:default/payment-gateway": "group:default/team-payments", // named "team-payments"
			"component:default/ledger":          "group:default/team-payments", // named by its whole reference
			"component:default/catalog-linter":  "user:default/dana.ops",
			"component:default/ghost-exporter":  platformOwner, // names a group that is gone
			"template:default/go-service":       "group:default/team-portal",
		} {
			if owners[entity] != want {
				t.Errorf("owner of %s is %s, want %s", entity, owners[entity], want)
			}
		}
		code, body := first.api("/api/v1/problems", "the-api-token")
		if code != http.StatusOK || !strings.Contains(string(body), "group:default/team-disbanded") {
			t.Errorf("no problem says that the owner of ghost-exporter is gone: %d %s", code, body)
		}
	}

	t.Log("each task counts once")
	{
		eventually(t, patience, func() error { // what is made from then on is news
			up, err := first.sourceUp()
			if err == nil && up != 1 {
				err = fmt.Errorf("sightline_source_up is %v, want 1", up)
			}
			return err
		})
		first.counts(p)
		failed, slow := p.failing(), p.slow()
		p.task("double-fail", map[string]any{}, "failure")
		p.failing()
		p.succeeding()
		p.status(slow, "processing")
		p.cancel(slow)
		p.status(slow, "failed") // which is what Backstage says of it
		p.status(failed, "failed")
		first.counts(p)
		p.explain(failed)
		var again struct{ ID string }
		p.call("POST", "/api/scaffolder/v2/tasks/"+failed+"/retry", backstageToken, map[string]any{}, &again)
		p.truth["broken-template failure rerun"]++
		first.counts(p)
		metrics, err := first.family("cicd_pipeline_task_runs_total")
		if err != nil {
			t.Fatal(err)
		}
		steps := map[string]int{}
		for _, m := range metrics {
			if label(m, "cicd_pipeline_name") == "double-fail" && m.Counter.GetValue() > 0 {
				steps[label(m, "cicd_pipeline_task_name")+" "+label(m, "cicd_pipeline_task_run_result")] = int(m.Counter.GetValue())
			}
		}
		if d := cmp.Diff(map[string]int{"a failure": 1, "b failure": 1, "c success": 1}, steps); d != "" {
			t.Errorf("steps of the task with two failures (-want +got):\n%s", d)
		}
	}

	t.Log("a task that is cancelled while it waits is no failure")
	{
		var slow []string
		for range 4 { // one more than the kit runs at a time
			slow = append(slow, p.slow())
		}
		for _, id := range slices.Backward(slow) {
			p.cancel(id)
		}
		first.counts(p)
	}

	t.Log("what a first start finds is in the past, where it happened, and pages nobody")
	{
		second := watch(t, p.url, backstageToken, t.TempDir())
		second.ready()
		second.counts(p)
		total := 0
		for _, n := range p.truth {
			total += n
		}
		first.increase(total)
		second.increase(total)
		if code, body := second.query(`ALERTS{severity="page"}`); code != http.StatusOK || !strings.Contains(string(body), `"result":[]`) {
			t.Errorf("pages after a first start: %d %s", code, body)
		}
		p.failing()
		second.counts(p)
		first.counts(p)
	}

	t.Log("users of Backstage may read, broken tokens may not")
	{
		var guest struct {
			BackstageIdentity struct{ Token string }
		}
		p.call("GET", "/api/auth/guest/refresh", "", nil, &guest)
		token := guest.BackstageIdentity.Token
		if code, body := first.api("/api/v1/owners", token); code != http.StatusOK {
			t.Errorf("a guest's token: %d %s", code, body)
		}
		dot := strings.LastIndex(token, ".")
		signature := []byte(token[dot+1:])
		slices.Reverse(signature)
		for _, broken := range []string{"", "nonsense", token[:dot+1] + string(signature), token + "x", backstageToken} {
			if code, _ := first.api("/api/v1/owners", broken); code != http.StatusUnauthorized {
				t.Errorf("token %.12q...: %d, want 401", broken, code)
			}
		}
	}

	t.Log("webhooks of GitLab come through the event bus, and doctor finds what is there")
	besideGitLab(t, p)

	t.Log("a crash neither loses nor doubles")
	{
		for range 5 {
			var last string
			for range 3 {
				p.failing()
				last = p.succeeding()
			}
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // any instant will do
			first.kill()
			p.status(last, "completed")
			first.start()
		}
		first.ready()
		first.counts(p)
	}

	t.Log("without Backstage the last good state stays")
	{
		p.script("down.sh")
		p.down = true
		eventually(t, patience, func() error {
			up, err := first.sourceUp()
			if err == nil && up != 0 {
				err = fmt.Errorf("sightline_source_up is %v", up)
			}
			return err
		})
		first.ready()
		first.counts(p)
		metrics, err := first.family("sightline_entity_info")
		if err != nil || len(metrics) != 40 {
			t.Errorf("%d entities (%v), want 40", len(metrics), err)
		}
		eventually(t, patience, func() error {
			if !strings.Contains(first.output(), "the last good one stays") {
				return errors.New("the log does not say that the last good catalog stays")
			}
			return nil
		})
	}
}

// query asks the embedded Prometheus.
func (w *watcher) query(expr string) (int, []byte) {
	w.t.Helper()
	return w.api("/api/v1/query?query="+url.QueryEscape(expr), "the-api-token")
}

// increase waits until the embedded Prometheus has seen the counters of tasks grow by so much.
func (w *watcher) increase(want int) {
	w.t.Helper()
	const expr = "sum(max_over_time(cicd_pipeline_runs_total[1h]) - min_over_time(cicd_pipeline_runs_total[1h]))"
	eventually(w.t, patience, func() error {
		code, body := w.query(expr)
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		if err := json.Unmarshal(body, &answer); err != nil || code != http.StatusOK || len(answer.Data.Result) != 1 {
			return fmt.Errorf("query: %d %s", code, body)
		}
		if got := answer.Data.Result[0].Value[1]; got != fmt.Sprint(want) {
			return fmt.Errorf("the counters grew by %v, want %d", got, want)
		}
		return nil
	})
}
