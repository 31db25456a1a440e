package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const cortexConfig = `
auth_enabled: true
server: {http_listen_address: 127.0.0.1, http_listen_port: HTTP, grpc_listen_address: 127.0.0.1, grpc_listen_port: GRPC}
memberlist: {bind_addr: ["127.0.0.1"]}
distributor: {shard_by_all_labels: true, ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
ingester: {lifecycler: {address: 127.0.0.1, min_ready_duration: 0s, final_sleep: 0s, num_tokens: 32, ring: {kvstore: {store: inmemory}, replication_factor: 1}}}
blocks_storage: {tsdb: {dir: DIR/tsdb}, bucket_store: {sync_dir: DIR/sync}, backend: filesystem, filesystem: {dir: DIR/blocks}}
compactor: {data_dir: DIR/compactor, sharding_ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
store_gateway: {sharding_ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
frontend_worker: {frontend_address: "127.0.0.1:GRPC", match_max_concurrent: true}
ruler: {enable_api: true, rule_path: DIR/rules-tmp, evaluation_interval: 2s, poll_interval: 2s, ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}}
ruler_storage: {backend: filesystem, filesystem: {dir: DIR/rulestore}}
alertmanager: {external_url: "http://127.0.0.1:HTTP/alertmanager", data_dir: DIR/am, cluster: {listen_address: ""}}
alertmanager_storage: {backend: filesystem, filesystem: {dir: DIR/amstore}}
`

// startCortex runs a Cortex with tenants and gives its base URL.
func startCortex(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	httpAddr, grpcAddr := freeAddr(t), freeAddr(t)
	port := func(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }
	conf := strings.NewReplacer("HTTP", port(httpAddr), "GRPC", port(grpcAddr), "DIR", dir).Replace(strings.ReplaceAll(cortexConfig, "http_", "\x00"))
	writeFile(t, dir, "cortex.yml", strings.ReplaceAll(conf, "\x00", "http_"))
	if err := os.Mkdir(filepath.Join(dir, "rules-tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, "cortex", "-config.file="+filepath.Join(dir, "cortex.yml"))
	eventually(t, time.Minute, func() error {
		_, err := get("http://" + httpAddr + "/ready")
		return err
	})
	return "http://" + httpAddr
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// asTenant asks a Cortex in the name of a tenant.
func asTenant(t *testing.T, tenant, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Scope-OrgID", tenant)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const applyCatalog = `apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: checkout
  annotations: {sightline.dev/objective.availability: "TARGET"}
spec: {type: service, lifecycle: production, owner: team-pay}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: team-pay, annotations: {sightline.dev/receiver.slack: "#pay"}}
spec: {type: team, children: []}
`

const groupAlone = `apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: team-pay}
spec: {type: team, children: []}
`

func TestApplyWritesToARealRuler(t *testing.T) {
	demand(t, "cortex")
	cortex := startCortex(t)
	rules := cortex + "/api/v1/rules"
	if code, body := asTenant(t, "shop", http.MethodPost, rules+"/kubernetes", "name: others\nrules: [{record: a, expr: up}]\n"); code != http.StatusAccepted {
		t.Fatal(code, body)
	}
	dir := t.TempDir()
	first := writeFile(t, dir, "c.yaml", strings.Replace(applyCatalog, "TARGET", "99.9", 1))
	changed := writeFile(t, dir, "changed.yaml", strings.Replace(applyCatalog, "TARGET", "99.5", 1))
	alone := writeFile(t, dir, "alone.yaml", groupAlone)
	conf := writeFile(t, dir, "s.yaml", fmt.Sprintf("catalog: {files: [%s]}\nruler: {url: %s, tenant: shop}\n", first, rules))
	apply := func(catalog, want string) {
		t.Helper()
		if out, _ := sightline(t, 0, "apply", "--config", conf, "--catalog", catalog, "--yes"); !strings.Contains(out, want) {
			t.Errorf("apply of %s says\n%swant %q", filepath.Base(catalog), out, want)
		}
		sightline(t, 0, "diff", "--config", conf, "--catalog", catalog, "--target", "ruler", "--exit-code")
	}
	apply(first, ": 2 added, 0 changed, 0 removed")
	apply(first, ": 0 added, 0 changed, 0 removed")
	sightline(t, 1, "diff", "--config", conf, "--catalog", changed, "--target", "ruler", "--exit-code")
	apply(changed, ": 0 added, 1 changed, 0 removed")
	if code, body := asTenant(t, "shop", http.MethodGet, rules, ""); code != http.StatusOK || !strings.Contains(body, "sightline/default/team-pay/component.default.checkout:") || !strings.Contains(body, "kubernetes:") {
		t.Errorf("the tenant has %d %s", code, body)
	}
	if code, _ := asTenant(t, "other", http.MethodGet, rules, ""); code != http.StatusNotFound {
		t.Errorf("another tenant has rules: %d", code)
	}
	eventually(t, time.Minute, func() error { // the ruler evaluates them
		code, body := asTenant(t, "shop", http.MethodGet, cortex+"/prometheus/api/v1/rules", "")
		if code != http.StatusOK || !strings.Contains(body, "SLOErrorBudgetBurn") {
			return fmt.Errorf("%d %.300s", code, body)
		}
		return nil
	})
	apply(alone, ": 0 added, 0 changed, 1 removed")
	if _, body := asTenant(t, "shop", http.MethodGet, rules, ""); strings.Contains(body, "checkout") || !strings.Contains(body, "kubernetes:") {
		t.Errorf("after the component is gone the tenant has %s", body)
	}
}

func TestApplyMergesIntoARealAlertmanager(t *testing.T) {
	demand(t, "alertmanager", "amtool")
	dir := t.TempDir()
	file := writeFile(t, dir, "alertmanager.yml", `# ours
route:
  receiver: ops
  routes:
    - matchers: [team="db"]
      receiver: ops
    - receiver: sightline-fallback
receivers:
  - name: ops
  - name: sightline-fallback
`)
	addr := freeAddr(t)
	start(t, "alertmanager", "--config.file="+file, "--storage.path="+dir, "--web.listen-address="+addr, "--cluster.listen-address=")
	eventually(t, time.Minute, func() error {
		_, err := get("http://" + addr + "/-/ready")
		return err
	})
	catalog := writeFile(t, dir, "c.yaml", strings.Replace(applyCatalog, "TARGET", "99.9", 1))
	conf := writeFile(t, dir, "s.yaml", fmt.Sprintf("catalog: {files: [%s]}\nalertmanager: {url: http://%s, file: %s}\n", catalog, addr, file))
	sightline(t, 0, "apply", "--config", conf, "--yes")
	loaded := func() string {
		t.Helper()
		body, err := get("http://" + addr + "/api/v2/status")
		if err != nil {
			t.Fatal(err)
		}
		var status struct{ Config struct{ Original string } }
		if err := json.Unmarshal(body, &status); err != nil {
			t.Fatal(err)
		}
		return status.Config.Original
	}
	if !strings.Contains(loaded(), "sightline/group:default/team-pay") {
		t.Errorf("Alertmanager did not load the merged file:\n%s", loaded())
	}
	for want, labels := range map[string]string{"sightline/group:default/team-pay": "owner=group:default/team-pay", "ops": "team=db", "sightline-fallback": "app=x"} {
		runTool(t, "amtool", "config", "routes", "test", "--config.file="+file, "--verify.receivers="+want, labels)
	}

	// What Alertmanager does not load is put back: here a template of the user's that is not there any more.
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := "templates: ['" + dir + "/[.tmpl']\n" + string(before)
	writeFile(t, dir, "alertmanager.yml", broken)
	other := writeFile(t, dir, "other.yaml", strings.Replace(strings.Replace(applyCatalog, "TARGET", "99.9", 1), "#pay", "#other", 1))
	_, stderr := sightline(t, 1, "apply", "--config", conf, "--catalog", other, "--yes")
	if !strings.Contains(stderr, "so the old one is back") {
		t.Errorf("apply says %s", stderr)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != broken {
		t.Errorf("the file is not what it was: %v\n%s", err, now)
	}
	if got := loaded(); !strings.Contains(got, "team-pay") {
		t.Errorf("Alertmanager lost its configuration:\n%s", got)
	}
}
