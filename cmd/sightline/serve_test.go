package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A standIn answers as Backstage's catalog and scaffolder do, and knows how many tasks ended in which way.
type standIn struct {
	mu       sync.Mutex
	tasks    []map[string]any // newest first
	truth    map[string]int
	growing  bool   // each request finds more tasks finished than the one before
	garbage  string // requests whose path holds it are answered with it
	requests int
	at       int           // the request, counted from 1, at which
	reached  chan struct{} // this is closed
}

// finish adds a task that ended. The caller holds mu.
func (s *standIn) finish() {
	n := len(s.tasks)
	status, result := "completed", "success"
	if n%3 == 0 {
		status, result = "failed", "failure"
	}
	s.truth[result]++
	s.tasks = append([]map[string]any{{
		"id": fmt.Sprintf("task-%d", n), "status": status, "createdAt": time.Now().UTC().Format(time.RFC3339Nano), "lastHeartbeatAt": time.Now().UTC().Format(time.RFC3339Nano),
		"spec": map[string]any{"templateInfo": map[string]string{"entityRef": "template:default/service"}},
	}}, s.tasks...)
}

func (s *standIn) events(id string) any {
	for _, t := range s.tasks {
		if t["id"] == id {
			return []any{
				map[string]any{"id": 1, "type": "log", "createdAt": t["createdAt"], "body": map[string]any{"message": "Starting up task with 1 steps"}},
				map[string]any{"id": 2, "type": "log", "createdAt": t["createdAt"], "body": map[string]any{"message": "Finished step A", "stepId": "a", "status": "completed"}},
				map[string]any{"id": 3, "type": "completion", "createdAt": t["createdAt"], "body": map[string]any{"message": "Run completed with status: " + t["status"].(string)}},
			}
		}
	}
	return []any{}
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.garbage != "" && strings.Contains(r.URL.Path, s.garbage) {
		io.WriteString(w, "<html>a proxy's page</html>")
		return
	}
	const entity = `{"kind":%q,"metadata":{"name":%q},"spec":{"type":"service"},"relations":[{"type":"ownedBy","targetRef":"group:default/payments"}]}`
	id, events := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/scaffolder/v2/tasks/"), "/events")
	switch {
	case r.URL.Path == "/api/catalog/entities/by-query":
		fmt.Fprintf(w, `{"items":[`+entity+`,`+entity+`],"totalItems":2,"pageInfo":{}}`, "Template", "service", "Group", "payments")
		return
	case events:
		json.NewEncoder(w).Encode(s.events(id))
	case r.URL.Query().Has("status"):
		io.WriteString(w, `{"tasks":[],"totalTasks":0}`)
	case r.URL.Path == "/api/scaffolder/v2/tasks":
		if s.growing {
			s.finish()
		}
		var offset int
		fmt.Sscan(r.URL.Query().Get("offset"), &offset)
		page := s.tasks[min(offset, len(s.tasks)):min(offset+100, len(s.tasks))]
		json.NewEncoder(w).Encode(map[string]any{"tasks": append([]map[string]any{}, page...), "totalTasks": len(s.tasks)})
	default:
		http.NotFound(w, r)
		return
	}
	if s.requests++; s.requests == s.at {
		close(s.reached)
	}
}

// after gives a channel that is closed at the nth request from now on that is about tasks.
func (s *standIn) after(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.at, s.reached = 0, n, make(chan struct{})
	return s.reached
}

func (s *standIn) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// results is the truth.
func (s *standIn) results() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for k, n := range s.truth {
		out[k] = n
	}
	return out
}

// A served is the program running `serve` as a process of its own.
type served struct {
	t    *testing.T
	conf string
	cmd  *exec.Cmd
	log  *logBuffer
	url  string
	done chan struct{}
}

// logBuffer takes the output of a process, which may be read at the same time.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newServed(t *testing.T, backstage string) *served {
	t.Helper()
	dir := t.TempDir()
	s := &served{t: t, conf: filepath.Join(dir, "sightline.yaml")}
	conf := fmt.Sprintf("catalog: {backstage: {url: %q, refresh: 1s}, platform_owner: 'group:default/payments'}\nsources: {scaffolder: {poll: 1s}}\nstore: {path: %q}\nserver: {listen: '127.0.0.1:0'}\n", backstage, filepath.Join(dir, "data"))
	if err := os.WriteFile(s.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

var listening = regexp.MustCompile(`msg=listening url=(\S+)`)

func (s *served) start() {
	s.t.Helper()
	s.cmd, s.log, s.done = exec.Command("sightline", "serve", "--config", s.conf), &logBuffer{}, make(chan struct{})
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		close(done)
	}(s.cmd, s.done)
	s.t.Cleanup(s.kill)
	s.until("sightline listens", func() bool {
		m := listening.FindStringSubmatch(s.log.String())
		if m != nil {
			s.url = m[1]
		}
		return m != nil
	})
}

// kill ends the process at once, as a crash does.
func (s *served) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

func (s *served) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited for a minute until %s; the log:\n%s", what, s.log)
		}
	}
}

// metric gives the sum of a metric by the values of a label.
func (s *served) metric(name, by string) map[string]int {
	s.t.Helper()
	resp, err := http.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]int{}
	for _, m := range families[name].GetMetric() {
		for _, l := range m.Label {
			if v := int(m.GetCounter().GetValue() + m.GetGauge().GetValue()); l.GetName() == by && v > 0 {
				out[l.GetValue()] += v
			}
		}
	}
	return out
}

func (s *served) counts(want map[string]int) {
	s.t.Helper()
	var got map[string]int
	s.until("the counters are "+fmt.Sprint(want), func() bool {
		got = s.metric("cicd_pipeline_runs_total", "cicd_pipeline_result")
		n := 0
		for result, k := range got {
			if n += k; k > want[result] {
				s.t.Fatalf("counted more than there was (-want +got):\n%s", cmp.Diff(want, got))
			}
		}
		return cmp.Equal(want, got)
	})
}

func TestACrashOfServeLosesNoTaskAndDoublesNone(t *testing.T) {
	backstage := &standIn{truth: map[string]int{}, growing: true}
	for range 130 {
		backstage.finish()
	}
	web := httptest.NewServer(backstage)
	defer web.Close()
	s := newServed(t, web.URL)
	for round := range 5 {
		requests := 1 + rand.IntN(12)
		if round == 0 {
			requests += 95 // around the end of the first page of history
		}
		reached := backstage.after(requests)
		s.start()
		select {
		case <-reached:
		case <-time.After(time.Minute):
			t.Fatalf("the scaffolder is not read; the log:\n%s", s.log)
		}
		time.Sleep(time.Duration(rand.IntN(15000)) * time.Microsecond) // any instant will do, also one of a commit
		s.kill()
	}
	s.start()
	backstage.set(func() { backstage.growing = false })
	s.counts(backstage.results())
}

func TestGarbageFromTheScaffolderLeavesTheCountersAndSaysSo(t *testing.T) {
	backstage := &standIn{truth: map[string]int{}}
	web := httptest.NewServer(backstage)
	defer web.Close()
	backstage.finish()
	s := newServed(t, web.URL)
	s.start()
	s.counts(backstage.results())
	for _, path := range []string{"/scaffolder/v2/tasks", "/events"} {
		want := backstage.results()
		backstage.set(func() {
			backstage.garbage = path
			backstage.finish()
			backstage.finish()
		})
		down := func() bool { return s.metric("sightline_source_up", "source")["scaffolder"] == 0 }
		s.until("the source is down for "+path, down)
		if d := cmp.Diff(want, s.metric("cicd_pipeline_runs_total", "cicd_pipeline_result")); d != "" {
			t.Errorf("counters with garbage from %s (-want +got):\n%s", path, d)
		}
		s.until("the log says what is wrong", func() bool { // the metric comes first
			log := s.log.String()
			return strings.Contains(log, "source was not read completely") && strings.Contains(log, "is not the JSON that is expected")
		})
		resp, err := http.Get(s.url + "/-/ready")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("/-/ready: %s, although the last good state is there", resp.Status)
		}
		backstage.set(func() { backstage.garbage = "" })
		s.until("the source is up again", func() bool { return !down() })
		s.counts(backstage.results())
	}
}
