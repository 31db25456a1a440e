package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startServe runs `sightline serve` in the process and gives its base URL.
func startServe(t *testing.T, conf string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sightline.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, stderr := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, environment{nil, io.Discard, stderr, os.Getenv, nil}, []string{"serve", "--config", file})
		stderr.Close()
	}()
	var log strings.Builder
	address := make(chan string, 1)
	go func() {
		listening := regexp.MustCompile(`msg=listening url=(\S+)`)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			log.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		close(address)
	}()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != 0 {
			t.Errorf("serve ended with %d", c)
		}
	})
	url, ok := <-address
	if !ok {
		t.Fatalf("serve did not start:\n%s", log.String())
	}
	return url
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", url, resp.StatusCode, err, b)
	}
	return string(b)
}

func TestServeShowsTheMetricsOfBackstagesPlugins(t *testing.T) {
	f, err := os.Open("../../exporter/backstage/testdata/otel-prometheus-9464.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	recording, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	backstage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
			w.Write(recording)
		case <-r.Context().Done():
		}
	}))
	defer backstage.Close()
	dir := t.TempDir()
	entities := `apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: catalog}
spec: {type: backstage-plugin, lifecycle: production, owner: portal, system: developer-portal}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: portal}
spec: {type: team, children: []}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: platform}
spec: {type: team, children: []}
`
	if err := os.WriteFile(filepath.Join(dir, "catalog-info.yaml"), []byte(entities), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startServe(t, fmt.Sprintf(`catalog: {files: [%q], platform_owner: "group:default/platform"}
sources: {backstage: {metrics_urls: [%q], poll: 20ms}}
store: {path: %q}
server: {listen: "127.0.0.1:0"}
`, filepath.Join(dir, "catalog-info.yaml"), backstage.URL+"/metrics", filepath.Join(dir, "data")))
	<-asked
	<-asked // the second reading begins when the first has been published

	metrics := fetch(t, url+"/metrics")
	replica := strings.TrimPrefix(backstage.URL, "http://")
	for _, want := range []string{
		`backstage_plugin_http_request_duration_seconds_count{code="200",entity="component:default/catalog",method="GET",owner="group:default/portal",plugin="catalog",replica="` + replica + `",streaming="false",system="system:default/developer-portal"}`,
		`backstage_plugin_task_runs_total{entity="",owner="group:default/platform",plugin="events",replica="` + replica + `",result="success",system="",task="event-bus-cleanup"} 30`,
		`backstage_scaffolder_task_duration_seconds_count`,
		`sightline_source_up{host="127.0.0.1",source="backstage"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	var list struct {
		Items []struct{ Rule, Owner, Message, Hint string }
	}
	body := fetch(t, url+"/api/v1/problems?owner=group:default/platform&severity=warning")
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Rule != "backstage-buckets" || !strings.Contains(list.Items[0].Message, replica) || list.Items[0].Hint == "" {
		t.Errorf("the platform owner's problems are %s, want the useless buckets of %s", body, replica)
	}
	if page := fetch(t, url+"/problems"); !strings.Contains(page, "no bucket between 0 and 5 seconds") {
		t.Error("the page of problems does not show it")
	}
}
