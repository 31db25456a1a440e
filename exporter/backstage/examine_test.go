package backstage

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

// examineAll examines endpoints that answer with the bodies, one each, and gives what is not well as "level: message".
// Addresses are written A, B, ...
func examineAll(t *testing.T, bodies ...string) (bad []string, all upstream.Findings) {
	t.Helper()
	var urls, names []string
	for _, b := range bodies {
		stub := serve(t, b)
		urls, names = append(urls, stub.url), append(names, stub.host)
	}
	s, err := New(Options{URLs: urls})
	if err != nil {
		t.Fatal(err)
	}
	all, answered := s.Examine(t.Context())
	if !answered {
		t.Error("nothing is said to have answered")
	}
	for i := range all {
		for j, n := range names {
			all[i].Message = strings.ReplaceAll(all[i].Message, n, string(rune('A'+j)))
		}
		if f := all[i]; f.Level != upstream.LevelOK {
			bad = append(bad, string(f.Level)+": "+f.Message)
			if f.Hint == "" {
				t.Errorf("%q has no hint", f.Message)
			}
		}
	}
	return bad, all
}

func TestExamineTellsTheTrapsOfEachRecording(t *testing.T) {
	tests := map[string]struct {
		made string
		bad  []string
	}{
		"otel-prometheus-9464": {"A: made by OpenTelemetry SDK 3.1.0, HTTP durations in seconds", []string{
			"warning: A: metrics of database calls are 30 % of 520 kB at each scrape",
			"warning: Backstage A: no bucket between 0 and 5 seconds in backend_tasks_task_runs_duration, catalog_processing_duration, catalog_processors_duration, catalog_processing_queue_delay, catalog_stitching_duration, catalog_stitching_queue_delay, scaffolder_task_duration: no latency objective can be measured",
		}},
		"otel-recommended-9464": {"A: made by OpenTelemetry SDK 3.1.0, HTTP durations in seconds", nil},
		"otel-js-2x": {"A: made by OpenTelemetry SDK 2.2.0, HTTP durations in milliseconds of the older conventions (converted here)", []string{
			"warning: A does not tell the plugin of scheduled tasks: they count for the plugin unknown",
			"warning: Backstage A: no bucket between 0 and 5 seconds in backend_tasks_task_runs_duration, catalog_processing_duration, catalog_processors_duration, catalog_processing_queue_delay, scaffolder_task_duration: no latency objective can be measured",
			"warning: Backstage A: the exposition is not valid, because it repeats backend_tasks_task_runs_count_total, backend_tasks_task_runs_duration, backend_tasks_task_runs_started, backend_tasks_task_runs_completed: other readers may refuse it",
		}},
		"otel-js-1x": {"A: made by OpenTelemetry SDK 1.30.1, HTTP durations in milliseconds of the older conventions (converted here)", []string{
			"warning: A does not tell the plugin of scheduled tasks: they count for the plugin unknown",
			"warning: Backstage A: no bucket between 0 and 5 seconds in backend_tasks_task_runs_duration, catalog_processing_duration, catalog_processors_duration, catalog_processing_queue_delay, scaffolder_task_duration: no latency objective can be measured",
			"warning: Backstage A: HTTP routes do not tell the plugin; its requests count as the plugin unknown",
		}},
		"otel-js-1x-api-version-mismatch": {"A: made by OpenTelemetry SDK 1.30.1, HTTP durations in milliseconds of the older conventions (converted here)", []string{
			"warning: Backstage A: there are HTTP metrics, but none of Backstage's own: its meters do not reach the SDK",
			"warning: Backstage A: HTTP routes do not tell the plugin; its requests count as the plugin unknown",
		}},
		"promclient-7007": {"A: made by prom-client", []string{
			"warning: A has no metrics of HTTP requests: plugins have neither rate, errors nor latency",
			"warning: Backstage A: Backstage's own metrics come from prom-client, which is deprecated and has no histograms of the catalog",
		}},
		"backstage-1.45-otel-js-2x": {"A: made by OpenTelemetry SDK 2.2.0, HTTP durations in milliseconds of the older conventions (converted here)", []string{
			"warning: A has no metrics of scheduled tasks (backend_tasks_*)",
			"warning: Backstage A: no bucket between 0 and 5 seconds in catalog_processing_duration, catalog_processors_duration, catalog_processing_queue_delay, catalog_stitching_duration, catalog_stitching_queue_delay, scaffolder_task_duration: no latency objective can be measured",
			"warning: Backstage A: scaffolder metrics carry the label user, which is personal data; it is dropped here",
		}},
		"backstage-1.45-promclient": {"A: made by prom-client", []string{
			"warning: A has no metrics of HTTP requests: plugins have neither rate, errors nor latency",
			"warning: Backstage A: Backstage's own metrics come from prom-client, which is deprecated and has no histograms of the catalog",
			"warning: Backstage A: scaffolder metrics carry the label user, which is personal data; it is dropped here",
		}},
	}
	if len(tests) != len(recordings) {
		t.Errorf("%d recordings are tested, of %d", len(tests), len(recordings))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bad, found := examineAll(t, string(recording(t, name)))
			if diff := cmp.Diff(tt.bad, bad); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !slices.ContainsFunc(found, func(f upstream.Finding) bool { return f.Level == upstream.LevelOK && f.Message == tt.made }) {
				t.Errorf("no finding says %q: %v", tt.made, found)
			}
		})
	}
}

func TestExamineFindsThatBothRegistriesAreRead(t *testing.T) {
	bad, _ := examineAll(t, string(recording(t, "otel-recommended-9464")), string(recording(t, "promclient-7007")))
	want := "warning: Backstage B: both of Backstage's registries are read; what prom-client repeats is left out"
	if !slices.Contains(bad, want) {
		t.Errorf("got %q, want %q among them", bad, want)
	}
}

// counting is an exposition whose counters stand at n.
func counting(n int) string {
	return fmt.Sprintf("# TYPE http_server_request_duration histogram\nhttp_server_request_duration_bucket{http_route=\"/api/catalog/x\",le=\"1\"} %d\n"+
		"http_server_request_duration_bucket{http_route=\"/api/catalog/x\",le=\"+Inf\"} %d\nhttp_server_request_duration_sum{http_route=\"/api/catalog/x\"} 1\nhttp_server_request_duration_count{http_route=\"/api/catalog/x\"} %d\n"+
		"# TYPE catalog_entities_count gauge\ncatalog_entities_count{kind=\"component\"} %d\n# TYPE backend_tasks_task_runs_count_total counter\n"+
		"backend_tasks_task_runs_count_total{taskId=\"x\",result=\"completed\",otel_scope_name=\"backstage-plugin-catalog\"} %d\n", n, n, n, n, n)
}

func TestExamineFindsALoadBalancerByCountersThatFall(t *testing.T) {
	for name, tt := range map[string]struct {
		second int
		want   []string
	}{
		"two replicas answer in turn": {3, []string{"error: A: backstage_plugin_http_request_duration_seconds, backstage_plugin_task_runs_total went down between two readings: several replicas stand behind this address"}},
		"one replica goes on":         {12, nil},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if calls++; calls == 1 {
					fmt.Fprint(w, counting(10))
					return
				}
				fmt.Fprint(w, counting(tt.second))
			}))
			defer srv.Close()
			s, err := New(Options{URLs: []string{srv.URL + "/metrics"}})
			if err != nil {
				t.Fatal(err)
			}
			found, _ := s.Examine(t.Context())
			var bad []string
			for _, f := range found {
				if f.Level != upstream.LevelOK {
					bad = append(bad, string(f.Level)+": "+strings.ReplaceAll(f.Message, strings.TrimPrefix(srv.URL, "http://"), "A"))
				}
			}
			if diff := cmp.Diff(tt.want, bad); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestExamineTellsWhatDoesNotAnswerFromWhatAnswersBadly(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	address := srv.URL
	answers := func() (upstream.Findings, bool) {
		s, err := New(Options{URLs: []string{address + "/metrics"}})
		if err != nil {
			t.Fatal(err)
		}
		return s.Examine(t.Context())
	}
	if found, answered := answers(); !answered || len(found) != 1 || found[0].Level != upstream.LevelError {
		t.Errorf("a 404: got %v, answered %t", found, answered)
	}
	srv.Close()
	if found, answered := answers(); answered || len(found) != 1 || found[0].Level != upstream.LevelError {
		t.Errorf("nobody there: got %v, answered %t", found, answered)
	}
}
