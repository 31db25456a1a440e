package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// backstage answers as a Backstage with the recorded catalog does, and from a time on with one failed task.
type backstage struct {
	entities []byte
	listed   atomic.Int32           // times that the tasks were asked for
	since    atomic.Pointer[string] // JSON of the task; nil: there is none
	events   atomic.Pointer[string]
}

const taskID = "0b7e3a52-5f3d-4a0e-9a43-0c1d5b6f7a81"

func (b *backstage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	task := b.since.Load()
	switch path := r.URL.Path; {
	case path == "/api/catalog/entities/by-query":
		fmt.Fprintf(w, `{"items":%s,"totalItems":45,"pageInfo":{}}`, b.entities)
	case path == "/api/scaffolder/v2/tasks" && task == nil:
		fmt.Fprint(w, `{"tasks":[]}`)
		b.listed.Add(1)
	case path == "/api/scaffolder/v2/tasks":
		fmt.Fprintf(w, `{"tasks":[%s]}`, *task)
	case path == "/api/scaffolder/v2/tasks/"+taskID && task != nil:
		fmt.Fprint(w, *task)
	case path == "/api/scaffolder/v2/tasks/"+taskID+"/events" && task != nil:
		fmt.Fprint(w, *b.events.Load())
	default:
		http.NotFound(w, r)
	}
}

// fail makes the task: one step succeeds, one fails, one never runs.
func (b *backstage) fail(start time.Time) {
	id := 0
	event := func(kind, after, body string) string {
		id++
		d, _ := time.ParseDuration(after)
		return fmt.Sprintf(`{"id":%d,"taskId":%q,"type":%q,"createdAt":%q,"body":%s}`, id, taskID, kind, start.Add(d).UTC().Format("2006-01-02T15:04:05.000Z"), body)
	}
	events := "[" + strings.Join([]string{
		event("log", "100ms", `{"message":"Starting up task with 3 steps"}`),
		event("log", "200ms", `{"message":"Beginning step Say hello","stepId":"hello","status":"processing"}`),
		event("log", "300ms", `{"message":"Finished step Say hello","stepId":"hello","status":"completed"}`),
		event("log", "400ms", `{"message":"Beginning step Rename","stepId":"rename","status":"processing"}`),
		event("log", "700ms", `{"message":"Error: no such file","stepId":"rename","status":"failed"}`),
		event("log", "800ms", `{"message":"Skipping step never because a previous step failed","stepId":"never","status":"skipped"}`),
		event("completion", "900ms", `{"message":"Run completed with status: failed","error":{"name":"Error","message":"no such file"}}`),
	}, ",") + "]"
	b.events.Store(&events)
	task := fmt.Sprintf(`{"id":%q,"status":"failed","createdAt":%q,"lastHeartbeatAt":%q,"spec":{"templateInfo":{"entityRef":"template:default/broken-template"}}}`,
		taskID, start.UTC().Format("2006-01-02T15:04:05.000Z"), start.UTC().Format("2006-01-02T15:04:05.000Z"))
	b.since.Store(&task)
}

const lokiConfig = `auth_enabled: false
analytics: {reporting_enabled: false}
server: {http_listen_address: 127.0.0.1, http_listen_port: %[1]s, grpc_listen_address: 127.0.0.1, grpc_listen_port: %[2]s}
common:
  instance_addr: 127.0.0.1
  path_prefix: %[3]s
  replication_factor: 1
  ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: %[3]s/chunks, rules_directory: %[3]s/rules}}
schema_config:
  configs: [{from: "2024-01-01", store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
limits_config: {allow_structured_metadata: true}
ingester: {lifecycler: {min_ready_duration: 0s, final_sleep: 0s}}
memberlist: {bind_addr: ["127.0.0.1"]}
`

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// serving starts `sightline serve` and gives its base URL.
func serving(t *testing.T, conf string) (*process, string) {
	t.Helper()
	p := start(t, os.Getenv("SIGHTLINE_BIN"), "serve", "--config", conf)
	listening := regexp.MustCompile(`msg=listening url=(\S+)`)
	var base string
	eventually(t, time.Minute, func() error {
		b, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		m := listening.FindSubmatch(b)
		if m == nil {
			return fmt.Errorf("sightline does not listen yet")
		}
		base = string(m[1])
		return nil
	})
	return p, base
}

// metric gives the value of the one series that begins like this, "" when there is none.
func metric(base, series string) (string, error) {
	body, err := get(base + "/metrics")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(body)) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", nil
}

// waited runs a task while the store is away, kills sightline, has the store started at addr, and starts sightline again.
// It returns the id of the task's trace, and the base URL of sightline, when nothing waits any more.
func waited(t *testing.T, sink, config, addr string, startStore func()) (trace, base string) {
	entities, err := os.ReadFile("../catalog/backstage/testdata/entities.json")
	if err != nil {
		t.Fatal(err)
	}
	portal := &backstage{entities: entities}
	srv := httptest.NewServer(portal)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	conf := write(t, filepath.Join(dir, "sightline.yaml"), fmt.Sprintf(`catalog: {backstage: {url: %q}, platform_owner: "group:default/team-platform"}
sources: {scaffolder: {poll: 1s}}
store: {path: %q}
server: {listen: "127.0.0.1:0"}
%s
`, srv.URL, filepath.Join(dir, "data"), fmt.Sprintf(config, addr)))
	p, base := serving(t, conf)
	eventually(t, time.Minute, func() error {
		if portal.listed.Load() == 0 {
			return fmt.Errorf("the tasks were not asked for")
		}
		return nil
	})
	portal.fail(time.Now())
	wait := func(want string) {
		t.Helper()
		eventually(t, 2*time.Minute, func() error {
			if n, err := metric(base, fmt.Sprintf("sightline_outbox_runs{sink=%q}", sink)); err != nil || n != want {
				return fmt.Errorf("%q runs wait, want %s (%v)", n, want, err)
			}
			return nil
		})
	}
	wait("4")
	p.cmd.Process.Kill()
	<-p.done
	startStore()
	_, base = serving(t, conf)
	wait("0")
	digest := sha256.Sum256([]byte("scaffolder\x00127.0.0.1\x00" + taskID))
	return fmt.Sprintf("%x", digest[:16]), base
}

func TestATraceReachesJaegerThroughDowntimeAndAKill(t *testing.T) {
	demand(t, "all-in-one")
	otlp, query, admin := freeAddr(t), freeAddr(t), freeAddr(t)
	trace, _ := waited(t, "otlp", `traces: {otlp: "http://%s"}`, otlp, func() {
		start(t, "all-in-one", "--collector.otlp.http.host-port", otlp, "--collector.otlp.grpc.host-port", freeAddr(t), "--collector.http-server.host-port", freeAddr(t),
			"--collector.grpc-server.host-port", freeAddr(t), "--query.http-server.host-port", query, "--query.grpc-server.host-port", freeAddr(t), "--admin.http.host-port", admin)
		ready(t, "http://"+admin)
	})
	var got []string
	eventually(t, time.Minute, func() error {
		var err error
		got, err = jaegerTrace("http://"+query, trace)
		return err
	})
	want := []string{
		"RUN broken-template < , group:default/team-runtime broken-template error=true 800ms",
		"hello < RUN broken-template, group:default/team-runtime broken-template error= 100ms",
		"rename < RUN broken-template, group:default/team-runtime broken-template error=true 300ms",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLinesReachLokiThroughDowntimeAndAKill(t *testing.T) {
	demand(t, "loki")
	addr, dir := freeAddr(t), t.TempDir()
	trace, _ := waited(t, "loki", `logs: {url: "http://%s"}`, addr, func() {
		conf := write(t, filepath.Join(dir, "loki.yaml"), fmt.Sprintf(lokiConfig, portOf(addr), port(t), filepath.Join(dir, "loki")))
		start(t, "loki", "-config.file="+conf)
		ready(t, "http://"+addr+"/ready")
	})
	var got []string
	q := url.Values{"query": {fmt.Sprintf(`{owner="group:default/team-runtime"} | trace_id=%q`, trace)}, "direction": {"forward"}}
	eventually(t, time.Minute, func() error {
		var answer struct {
			Data struct {
				Result []struct {
					Stream map[string]string
					Values [][]json.RawMessage
				}
			}
		}
		if err := getJSON("http://"+addr+"/loki/api/v1/query_range?"+q.Encode(), &answer); err != nil {
			return err
		}
		got = nil
		for _, s := range answer.Data.Result {
			for _, v := range s.Values {
				var line string
				if err := json.Unmarshal(v[1], &line); err != nil {
					return err
				}
				line, _, _ = strings.Cut(line, " url=")
				got = append(got, s.Stream["level"]+" "+s.Stream["service_name"]+" "+line)
			}
		}
		if len(got) < 10 { // of the sink and, a little later, of the task's own log
			return fmt.Errorf("%d lines", len(got))
		}
		return nil
	})
	slices.Sort(got)
	want := []string{
		`error broken-template msg="scaffolder task finished" result=failure pipeline=broken-template attempt=first queued=100ms duration=800ms`,
		`error broken-template msg="step finished" result=failure pipeline=broken-template task=rename attempt=first duration=300ms`,
		`info broken-template Beginning step Rename`,
		`info broken-template Beginning step Say hello`,
		`info broken-template Error: no such file`,
		`info broken-template Finished step Say hello`,
		`info broken-template Skipping step never because a previous step failed`,
		`info broken-template Starting up task with 3 steps`,
		`info broken-template msg="step finished" result=success pipeline=broken-template task=hello attempt=first duration=100ms`,
		`info broken-template msg="step never ran" result=skip pipeline=broken-template task=never attempt=first`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The trace and its lines come back as one tree from the real stores, each started after Sightline had counted the task.
func TestATraceIsReadBackWithItsLogLines(t *testing.T) {
	demand(t, "all-in-one", "loki")
	otlp, query, admin, logs, dir := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t), t.TempDir()
	stores := fmt.Sprintf("traces: {otlp: \"http://%%s\", query: \"http://%s\"}\nlogs: {url: \"http://%s\"}", query, logs)
	trace, base := waited(t, "otlp", stores, otlp, func() {
		start(t, "all-in-one", "--collector.otlp.http.host-port", otlp, "--collector.otlp.grpc.host-port", freeAddr(t), "--collector.http-server.host-port", freeAddr(t),
			"--collector.grpc-server.host-port", freeAddr(t), "--query.http-server.host-port", query, "--query.grpc-server.host-port", freeAddr(t), "--admin.http.host-port", admin)
		ready(t, "http://"+admin)
		conf := write(t, filepath.Join(dir, "loki.yaml"), fmt.Sprintf(lokiConfig, portOf(logs), port(t), filepath.Join(dir, "loki")))
		start(t, "loki", "-config.file="+conf)
		ready(t, "http://"+logs+"/ready")
	})
	conf := write(t, filepath.Join(dir, "read.yaml"), "catalog: {files: [catalog]}\n"+fmt.Sprintf(stores, otlp))
	var got string
	eventually(t, time.Minute, func() error {
		got, _ = sightline(t, 0, "trace", trace, "--config", conf)
		if n := strings.Count(got, " info ") + strings.Count(got, " error "); n < 10 {
			return fmt.Errorf("%d lines:\n%s", n, got)
		}
		return nil
	})
	got = regexp.MustCompile(` \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\d\d:\d\d:\d\d | url=\S+`).ReplaceAllString(got, "")
	want := "trace " + trace + ` · 3 spans · 800ms ·
└─ RUN broken-template  800ms  failure  broken-template  group:default/team-runtime
   │  info Starting up task with 3 steps
   │  info Skipping step never because a previous step failed
   │  info msg="step never ran" result=skip pipeline=broken-template task=never attempt=first
   │  error msg="scaffolder task finished" result=failure pipeline=broken-template attempt=first queued=100ms duration=800ms
   ├─ hello  100ms  success  broken-template  group:default/team-runtime
   │     info Beginning step Say hello
   │     info Finished step Say hello
   │     info msg="step finished" result=success pipeline=broken-template task=hello attempt=first duration=100ms
   └─ rename  300ms  failure  broken-template  group:default/team-runtime
         info Beginning step Rename
         error msg="step finished" result=failure pipeline=broken-template task=rename attempt=first duration=300ms
         info Error: no such file
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	sightline(t, 1, "trace", strings.Repeat("1", 32), "--config", conf)

	// The owner's timeline has the task once, and below it in time the line of the step that failed, with the same trace.
	var happened struct {
		Items []struct {
			Kind, Title, Outcome string
			TraceID              string `json:"trace_id"`
		}
		Missing []any
	}
	for _, path := range []string{"owners/group/default/team-runtime", "entities/template/default/broken-template"} {
		if err := getJSON(base+"/api/v1/"+path+"/timeline", &happened); err != nil {
			t.Fatal(err)
		}
		events := []string{}
		for _, e := range happened.Items {
			title, _, _ := strings.Cut(e.Title, " url=")
			events = append(events, strings.Join([]string{e.Kind, title, e.Outcome, e.TraceID}, " "))
		}
		want := []string{
			"run broken-template failure " + trace,
			`log msg="step finished" result=failure pipeline=broken-template task=rename attempt=first duration=300ms error ` + trace,
		}
		if d := cmp.Diff(want, events); d != "" || len(happened.Missing) > 0 {
			t.Errorf("%s: missing %v (-want +got):\n%s", path, happened.Missing, d)
		}
	}
}

// jaegerTrace gives a line for each span of a trace: its name, its parent's, owner, service, and length; sorted.
func jaegerTrace(base, id string) ([]string, error) {
	type tag struct {
		Key   string
		Value any
	}
	var answer struct {
		Data []struct {
			Spans []struct {
				SpanID, OperationName, ProcessID string
				Duration                         int // microseconds
				References                       []struct{ RefType, SpanID string }
				Tags                             []tag
			}
			Processes map[string]struct {
				ServiceName string
				Tags        []tag
			}
		}
	}
	if err := getJSON(base+"/api/traces/"+id, &answer); err != nil {
		return nil, err
	}
	if len(answer.Data) != 1 || len(answer.Data[0].Spans) < 3 {
		return nil, fmt.Errorf("%d traces", len(answer.Data))
	}
	value := func(tags []tag, key string) string {
		for _, t := range tags {
			if t.Key == key {
				return fmt.Sprint(t.Value)
			}
		}
		return ""
	}
	names := map[string]string{}
	for _, s := range answer.Data[0].Spans {
		names[s.SpanID] = s.OperationName
	}
	var out []string
	for _, s := range answer.Data[0].Spans {
		parent := ""
		for _, r := range s.References {
			if r.RefType == "CHILD_OF" {
				parent = names[r.SpanID]
			}
		}
		p := answer.Data[0].Processes[s.ProcessID]
		out = append(out, fmt.Sprintf("%s < %s, %s %s error=%s %s", s.OperationName, parent, value(p.Tags, "owner"), p.ServiceName, value(s.Tags, "error"), time.Duration(s.Duration)*time.Microsecond))
	}
	slices.Sort(out)
	return out, nil
}
