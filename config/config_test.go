package config

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const valid = `
catalog:
  backstage: {url: "http://localhost:7007", token_file: /run/secrets/backstage, refresh: 60s}
  platform_owner: group:default/platform
environments: {production: 'cluster="prod"'}
sources:
  backstage: {metrics_urls: [http://localhost:9464/metrics]}
  scaffolder: {}
  gitlab:
    - {url: https://gitlab.example.com, token_file: /run/secrets/gitlab, webhook_secret_files: [/run/secrets/hook], groups: [], poll: 30s, calls_per_hour: 3600, backfill: 30d, failure_window: 24h}
store: {path: ./data, retention: 40d, scrape: [{job: shop, targets: [localhost:8080]}]}
alertmanager: {url: http://alertmanager:9093, receivers: {slack: {api_url_file: /etc/alertmanager/secrets/slack}, email: {smarthost: mail:587, from: slo@example.com}}}
ruler: {url: http://mimir:8080/prometheus/config/v1/rules, tenant: platform, max_groups: 70}
files: {dir: /etc/prometheus/sightline, prometheus_url: http://prometheus:9090}
logs: {url: http://loki:3100, tenant: ""}
traces: {otlp: http://tempo:4318, query: http://tempo:3200}
grafana: {url: http://grafana:3000, token_file: /run/secrets/grafana}
apply: off                                                      # or continuous
server: {listen: 127.0.0.1:9469, auth: {backstage: true, token_files: []}}
`

func TestParseReadsAFullFileAndFillsInDefaults(t *testing.T) {
	c, err := Parse("sightline.yaml", []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	if c.Logs.JobLogs != "failed" || c.Logs.JobLogLimit != 1<<20 {
		t.Errorf("job logs %q up to %d, want those of failed jobs up to 1 MiB", c.Logs.JobLogs, c.Logs.JobLogLimit)
	}
	got := []any{c.Sources.GitLab[0].Backfill, c.Sources.Scaffolder.Poll, c.Store.Scrape[0].Interval, c.SLO.Window}
	want := []any{Duration(30 * 24 * time.Hour), Duration(15 * time.Second), Duration(30 * time.Second), "30d"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("values (-want +got):\n%s", d)
	}
}

func TestParseRefusesMistakesWithAHint(t *testing.T) {
	tests := []struct{ name, old, new, msg, hint string }{
		{"a misspelt key", "platform_owner:", "platform_ownr:", `line 4: unknown key "platform_ownr"`, `did you mean "platform_owner"?`},
		{"a bad duration", "refresh: 60s", "refresh: soon", `"soon" is not a duration`, "explain config"},
		{"a URL with credentials", "https://gitlab.example.com", "https://me:pw@gitlab.example.com", "holds credentials", "token_file"},
		{"a URL without scheme", "http://grafana:3000", "grafana", "not an http or https URL", "https://host:port"},
		{"files beside backstage", "platform_owner: group", "files: [a]\n  platform_owner: group", "both set", "keep one"},
		{"scraping by somebody else's Prometheus", "store: {path: ./data,", "store: {url: http://p:9090,", "scrape needs the embedded", "let the Prometheus"},
		{"a token for no URL", "store: {path: ./data,", "store: {tenant: t,", "belong to url", "set store.url"},
		{"a target with a scheme", "localhost:8080]", "http://localhost:8080]", "not host:port", "without a scheme"},
		{"a ruler without a URL", "url: http://mimir:8080/prometheus/config/v1/rules, ", "", "ruler: url is missing", "http://mimir"},
		{"a negative limit", "max_groups: 70", "max_groups: -1", "ruler: a limit is negative", "0"},
		{"a Prometheus without a folder", "dir: /etc/prometheus/sightline, ", "", "files: dir is missing", "rule_files"},
		{"a tenant without a Loki", "logs: {url: http://loki:3100, tenant: \"\"}", "logs: {tenant: shop}", "logs: url is missing", "http://loki:3100"},
		{"a token for no trace store", "traces: {otlp: http://tempo:4318, query: http://tempo:3200}", "traces: {token_file: /run/secrets/tempo}", "neither otlp nor query", "http://tempo:3200"},
		{"an unknown trace store", "query: http://tempo:3200", "query: http://zipkin:9411, store: zipkin", "not tempo or jaeger", "asks the server"},
		{"a kind of no trace store", "query: http://tempo:3200", "store: jaeger", "query, which is not set", "leave store out"},
		{"a trace store without scheme", "otlp: http://tempo:4318", "otlp: tempo:4318", "traces.otlp", "https://host:port"},
		{"an unknown kind of job logs", "tenant: \"\"}", "job_logs: some}", `"some" is not failed, all or off`, "failed"},
		{"a size that is none", "tenant: \"\"}", "job_log_limit: big}", `"big" is not a size`, "explain config"},
		{"a log that is too long", "tenant: \"\"}", "job_log_limit: 1GiB}", "between 1KiB and 64MiB", "1MiB"},
		{"a rule that masks everything", "tenant: \"\"}", "mask: ['a*']}", "matches the empty text", "RE2"},
		{"a rule that is none", "tenant: \"\"}", "mask: ['(']}", `"(" is no regular expression`, "RE2"},
		{"job logs without a Loki", "logs: {url: http://loki:3100, tenant: \"\"}", "logs: {job_logs: all}", "logs: url is missing", "http://loki:3100"},
		{"a token for no OTLP", "traces: {otlp", "metrics: {token_file: /run/secrets/otlp}\ntraces: {otlp", "belong to otlp", "remote_write has keys"},
		{"a tenant for no remote write", "traces: {otlp", "metrics: {remote_write: {tenant: shop}}\ntraces: {otlp", "metrics.remote_write: url is missing", "/api/v1/push"},
		{"a label with a dash", "traces: {otlp", "metrics: {remote_write: {url: 'http://mimir', labels: {my-job: a}}}\ntraces: {otlp", `"my-job" is no name of a label`, "underscores"},
		{"pushes without a pause", "traces: {otlp", "metrics: {interval: 10ms}\ntraces: {otlp", "at least 1s", "default is 30s"},
		{"an OTLP endpoint without scheme", "traces: {otlp", "metrics: {otlp: 'collector:4318'}\ntraces: {otlp", "metrics.otlp", "https://host:port"},
		{"one GitLab host on two ports", "- {url: https://gitlab.example.com,", "- {url: 'https://GitLab.example.com:8443'}\n    - {url: https://gitlab.example.com,", "listed twice", "whatever its port"},
		{"samples kept for less than the window", "retention: 40d", "retention: 10d", "longer than slo.window, which is 30d", "leave it out for 40d"},
		{"a time zone that there is not", "traces: {otlp", "slo: {timezone: Mars}\ntraces: {otlp", `there is no time zone "Mars"`, "Europe/Zurich"},
		{"a default window that there is not", "traces: {otlp", "slo: {window: calendar-year}\ntraces: {otlp", `slo.window: "calendar-year" is not a window`, "calendar-month"},
		{"a default window of hours", "traces: {otlp", "slo: {window: 240h}\ntraces: {otlp", `slo.window: "240h" is not a window`, "30d"},
		{"two documents", "grafana: {", "---\ngrafana: {", "more than one YAML document", "keep one"},
		{"a listener without port", "listen: 127.0.0.1:9469", "listen: localhost", "not host:port", "127.0.0.1:9469"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(valid, tt.old, tt.new, 1)
			if text == valid {
				t.Fatal("the test changes nothing")
			}
			_, err := Parse("sightline.yaml", []byte(text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got error %v, want a *config.Error", err)
			}
			if !strings.Contains(e.Error(), tt.msg) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %q with hint %q, want %q with %q", e.Error(), e.Hint, tt.msg, tt.hint)
			}
		})
	}
}

func TestExampleParsesAndNamesEveryKey(t *testing.T) {
	example := Example()
	walk(func(name string, fields []field) {
		for _, f := range fields {
			if f.doc == "" {
				t.Errorf("%s.%s has no doc", name, f.key)
			}
			if !strings.Contains(example, f.key+":") {
				t.Errorf("the example lacks %s", f.key)
			}
		}
	})
	if _, err := Parse("example.yaml", []byte(example)); err != nil {
		t.Errorf("the example does not load as it stands: %v\n%s", err, example)
	}
	// The example shows alternatives side by side; with all keys in use but those of one side it must load.
	one := regexp.MustCompile(`(?m)^( *)#(\S)`).ReplaceAllString(example, "$1$2")
	one = strings.Replace(one, "  files: [catalog-info.yaml]\n", "", 1)
	one = strings.Replace(one, "  url: http://prometheus:9090\n", "", 1)
	if _, err := Parse("example.yaml", []byte(one)); err != nil {
		t.Errorf("the example does not load: %v\n%s", err, one)
	}
}

func TestRestartNeededNamesWhatAReloadDoesNotTakeOver(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           []string
	}{
		{"nothing changed", "", "", nil},
		{"what is compiled", "production: 'cluster=", "production: 'zone=", nil},
		{"the folder of the store", "path: ./data", "path: ./elsewhere", []string{"store"}},
		{"the listener", "listen: 127.0.0.1:9469", "listen: 127.0.0.1:1", []string{"server"}},
		{"a source", "poll: 30s", "poll: 31s", []string{"sources"}},
		{"the log store", "http://loki:3100", "http://loki:1", []string{"logs"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			started, err := Parse("sightline.yaml", []byte(valid))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse("sightline.yaml", []byte(strings.Replace(valid, tt.old, tt.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, c.RestartNeeded(started)); d != "" {
				t.Errorf("keys (-want +got):\n%s", d)
			}
		})
	}
}

func TestPublishedSchemaIsUpToDate(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const path = "../docs/config.schema.json"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("run `make docs` (-want +got):\n%s", d)
	}
}

func TestTheEventBusNeedsABackstage(t *testing.T) {
	_, err := Parse("sightline.yaml", []byte("catalog: {files: [a]}\nsources: {gitlab: [{url: https://gitlab.example.com, backstage_events: true}]}\n"))
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Msg, "sources.gitlab[0]: backstage_events is set") || !strings.Contains(e.Hint, "webhook_secret_files") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte("catalog: {files: [a]}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("f", b)
		if (c == nil) == (err == nil) {
			t.Errorf("got config %v and error %v", c, err)
		}
	})
}
