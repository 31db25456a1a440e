package backstage

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sightline-dev/sightline/catalog"
)

// recording gives what a real Backstage answered.
func recording(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var recordings = []string{
	"otel-prometheus-9464", "otel-recommended-9464", "otel-js-2x", "otel-js-1x", "otel-js-1x-api-version-mismatch", "promclient-7007",
	"backstage-1.45-otel-js-2x", "backstage-1.45-promclient",
}

func mustDecode(t testing.TB, body []byte) *reading {
	t.Helper()
	r, err := decode(body, names{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// total adds up what the series of a family count, by plugin and the first dimensions joined by spaces.
func total(r *reading, f family, dims int) map[string]float64 {
	out := map[string]float64{}
	for k, s := range r.series {
		if k.family != f {
			continue
		}
		v := s.value
		if s.hist != nil {
			v = float64(s.hist.count)
		}
		out[strings.TrimSpace(k.plugin+" "+strings.Join(k.dims[:dims], " "))] += v
	}
	return out
}

func rulesOf(problems []catalog.Problem) []string {
	out := []string{}
	for _, p := range problems {
		out = append(out, p.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestEveryGenerationBecomesTheSameFamilies(t *testing.T) {
	type counts = map[string]float64
	tests := []struct {
		file      string
		requests  counts // by plugin
		runs      counts // of scheduled tasks
		tasks     counts // of the scaffolder
		processed float64
		problems  []string
	}{
		{
			"otel-prometheus-9464",
			counts{"unknown": 20, "auth": 8, "catalog": 49, "events": 44, "scaffolder": 37},
			counts{"events event-bus-cleanup success": 30, "scaffolder close_stale_tasks success": 2},
			counts{"scaffolder template:default/go-service success": 2, "scaffolder template:default/broken-template failure": 1, "scaffolder template:default/slow-template failure": 1},
			1141,
			[]string{ruleBuckets},
		},
		{
			"otel-recommended-9464",
			counts{"unknown": 6, "auth": 4, "catalog": 20, "events": 17, "proxy": 3, "scaffolder": 8},
			counts{"events event-bus-cleanup success": 4, "scaffolder close_stale_tasks success": 1},
			counts{"scaffolder template:default/go-service success": 3, "scaffolder template:default/broken-template failure": 1},
			184,
			[]string{},
		},
		{
			"otel-js-2x",
			counts{"unknown": 6, "catalog": 5, "events": 6, "scaffolder": 6},
			counts{"unknown event-bus-cleanup success": 1, "unknown close_stale_tasks success": 1},
			counts{"scaffolder template:default/go-service success": 1, "scaffolder template:default/broken-template failure": 1},
			82,
			[]string{ruleBuckets, ruleRepeated},
		},
		{
			"otel-js-1x",
			counts{"unknown": 30},
			counts{"unknown event-bus-cleanup success": 2},
			counts{"scaffolder template:default/go-service success": 1, "scaffolder template:default/broken-template failure": 1},
			84,
			[]string{ruleBuckets, ruleRoutes},
		},
		{"otel-js-1x-api-version-mismatch", counts{"unknown": 29}, counts{}, counts{}, 0, []string{ruleMissing, ruleRoutes}},
		{
			"promclient-7007",
			counts{},
			counts{},
			counts{"scaffolder template:default/go-service success": 2, "scaffolder template:default/broken-template failure": 1, "scaffolder template:default/slow-template failure": 1},
			1146,
			[]string{rulePromClient},
		},
		{
			"backstage-1.45-otel-js-2x",
			counts{"unknown": 6, "auth": 5, "catalog": 12, "scaffolder": 8},
			counts{},
			counts{"scaffolder template:default/go-service success": 2, "scaffolder template:default/broken-template failure": 1, "scaffolder template:default/slow-template failure": 1},
			204,
			[]string{ruleBuckets, ruleUser},
		},
		{
			"backstage-1.45-promclient",
			counts{},
			counts{},
			counts{"scaffolder template:default/go-service success": 2, "scaffolder template:default/broken-template failure": 1, "scaffolder template:default/slow-template failure": 1},
			204,
			[]string{rulePromClient, ruleUser},
		},
	}
	if len(tests) != len(recordings) {
		t.Errorf("%d recordings are tested, of %d", len(tests), len(recordings))
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			r := mustDecode(t, recording(t, tt.file))
			var processed float64
			for _, n := range total(r, catalogProcessed, 0) {
				processed += n
			}
			found := problems([]*replica{{label: "a", last: r}}, catalog.Ref{}, false)
			for what, d := range map[string]string{
				"requests":         cmp.Diff(tt.requests, total(r, httpDuration, 0)),
				"task runs":        cmp.Diff(tt.runs, total(r, taskRuns, 2)),
				"scaffolder tasks": cmp.Diff(tt.tasks, total(r, scaffolderDuration, 2)),
				"processed":        cmp.Diff(tt.processed, processed),
				"problems":         cmp.Diff(tt.problems, rulesOf(found)),
			} {
				if d != "" {
					t.Errorf("%s (-want +got):\n%s", what, d)
				}
			}
			for k := range r.series {
				if slices.ContainsFunc(k.dims[:], func(s string) bool { return strings.Contains(s, "user:") }) {
					t.Errorf("%v holds a user", k)
				}
			}
		})
	}
}

func TestMillisecondsBecomeSeconds(t *testing.T) {
	for _, file := range []string{"otel-js-2x", "otel-js-1x", "backstage-1.45-otel-js-2x"} {
		r := mustDecode(t, recording(t, file))
		want := []float64{0, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
		var sum, most float64
		for k, s := range r.series {
			if k.family != httpDuration {
				continue
			}
			if d := cmp.Diff(want, s.hist.bounds); d != "" {
				t.Errorf("%s: bounds (-want +got):\n%s", file, d)
			}
			sum, most = sum+s.hist.sum, math.Max(most, s.hist.sum/float64(s.hist.count))
		}
		if sum <= 0 || most > 60 {
			t.Errorf("%s: requests took %v s in all, on average up to %v s", file, sum, most)
		}
	}
}

// page is a small exposition, sound unless a test breaks it.
const page = `# HELP http_server_request_duration Duration of HTTP server requests.
# TYPE http_server_request_duration histogram
http_server_request_duration_bucket{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200",le="0.1"} 3
http_server_request_duration_bucket{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200",le="+Inf"} 4
http_server_request_duration_sum{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200"} 1.5
http_server_request_duration_count{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200"} 4
# TYPE catalog_entities_count gauge
catalog_entities_count{kind="component"} 12
# TYPE catalog_relations_count gauge
catalog_relations_count -1
`

func TestWhatIsNotAnExpositionIsAnError(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"nothing", "", "no metric"},
		{"a page of HTML", "<!doctype html>\n<title>Backstage</title>\n", "neither"},
		{"JSON", `{"status": "ok"}`, "neither"},
		{"another program's metrics", "# TYPE go_goroutines gauge\ngo_goroutines 5\n", "neither metrics of Backstage"},
		{"an answer that was cut off", page[:len(page)-5], "not in Prometheus"},
		{"a value that is no number", strings.Replace(page, "} 12", "} twelve", 1), "line 8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := decode([]byte(tt.body), names{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestASeriesThatIsNotSoundIsLeftOut(t *testing.T) {
	if r := mustDecode(t, []byte(page)); len(r.broken) > 0 || len(r.series) != 2 {
		t.Fatalf("the sound page has %d series, broken %v", len(r.series), r.broken)
	}
	const http = "http_server_request_duration"
	tests := []struct{ name, old, new, broken string }{
		{"buckets that shrink", `le="+Inf"} 4`, `le="0.2"} 2`, http},
		{"a bucket above the count", `le="0.1"} 3`, `le="0.1"} 9`, http},
		{"a count that is not a number", `_count{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200"} 4`, `_count{http_request_method="GET",http_route="/api/catalog/entities",http_response_status_code="200"} NaN`, http},
		{"an infinite sum", "} 1.5", "} +Inf", http},
		{"the same bucket twice", `le="+Inf"} 4`, `le="0.1"} 4`, http},
		{"a counter where a gauge is due", "catalog_entities_count gauge", "catalog_entities_count counter", "catalog_entities_count"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := strings.Replace(page, tt.old, tt.new, 1)
			if body == page {
				t.Fatal("nothing is broken")
			}
			r := mustDecode(t, []byte(body))
			if d := cmp.Diff([]string{tt.broken}, r.broken); d != "" {
				t.Errorf("broken (-want +got):\n%s", d)
			}
			if len(r.series) != 1 {
				t.Errorf("%d series, want the other alone", len(r.series))
			}
		})
	}
}

func TestRequestsThatAreHeldOpenAreTold(t *testing.T) {
	got := total(mustDecode(t, recording(t, "otel-prometheus-9464")), httpDuration, 3)
	streaming := map[string]float64{}
	for k, n := range got {
		if strings.HasSuffix(k, "true") {
			streaming[k] = n
		}
	}
	if d := cmp.Diff(map[string]float64{"events GET 202 true": 5, "scaffolder GET 200 true": 3}, streaming); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestNamesThatPluginsMakeUpAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("# TYPE backend_tasks_task_runs_started gauge\n")
	for i := range 300 {
		b.WriteString(`backend_tasks_task_runs_started{taskId="` + string([]rune{'t', rune('g' + i%19), rune('g' + i/19)}) + `",otel_scope_name="backstage-plugin-search"} 1` + "\n")
	}
	n := names{}
	first, err := decode([]byte(b.String()), n)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(total(first, taskLastStart, 1)); !first.capped || got != maxNames+1 {
		t.Errorf("%d tasks, capped %v; want %d and the word for it", got, first.capped, maxNames+1)
	}
	second, err := decode([]byte(b.String()), n)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(total(first, taskLastStart, 1), total(second, taskLastStart, 1)); d != "" {
		t.Errorf("the names changed between readings (-first +second):\n%s", d)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(page))
	for _, name := range []string{"otel-js-2x", "promclient-7007"} {
		b := recording(f, name)
		f.Add(b[:min(len(b), 6000)])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode(body, names{})
		if err != nil {
			return
		}
		for k, s := range r.series {
			m := newMetric(k, s, "a:1", belonging{})
			if m.Desc() == nil || s.hist != nil && len(s.hist.bounds) != len(s.hist.counts) {
				t.Errorf("%v has no sound metric", k)
			}
		}
		problems([]*replica{{label: "a:1", last: r}}, catalog.Ref{}, true)
	})
}

// BenchmarkDecode prints what reading the largest recording costs, against a plain parse of the same bytes by
// prometheus/common. It is below 1, because what is not needed is not parsed.
func BenchmarkDecode(b *testing.B) {
	body := recording(b, "otel-prometheus-9464")
	var ours, floor time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := decode(body, names{}); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		p := expfmt.NewTextParser(model.UTF8Validation)
		if _, err := p.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
	}
	b.ReportMetric(0, "ns/op") // of both; the ratio is what counts
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/decode")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "x-of-plain-parse")
}
