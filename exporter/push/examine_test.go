package push_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/upstream"
)

// examine gives the level of each finding about a server and the last hint.
func examine(t *testing.T, h http.Handler, by func(*upstream.Client) upstream.Findings) (levels []upstream.Level, hint string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range by(c) {
		levels, hint = append(levels, f.Level), f.Hint
	}
	return levels, hint
}

func TestExamineRemoteWriteAsksAPrometheusForNothing(t *testing.T) {
	e, err := engine.Open(engine.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	tenant := ""
	got, hint := examine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant = r.Header.Get("X-Scope-OrgID")
		e.RemoteWriteHandler().ServeHTTP(w, r)
	}), func(c *upstream.Client) upstream.Findings { return push.ExamineRemoteWrite(t.Context(), c, "platform") })
	if d := cmp.Diff([]upstream.Level{upstream.LevelOK, upstream.LevelOK}, got); d != "" || tenant != "platform" {
		t.Errorf("hint %q, tenant %q, findings (-want +got):\n%s", hint, tenant, d)
	}
}

func TestExamineRemoteWriteTellsAReceiverThatIsTooOld(t *testing.T) {
	got, hint := examine(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "unsupported", http.StatusUnsupportedMediaType)
	}), func(c *upstream.Client) upstream.Findings { return push.ExamineRemoteWrite(t.Context(), c, "") })
	if d := cmp.Diff([]upstream.Level{upstream.LevelError}, got); d != "" || hint != "remote write 2.0 is needed, as Prometheus 3 and Mimir take it" {
		t.Errorf("hint %q, findings (-want +got):\n%s", hint, d)
	}
}

func TestExamineOTLPSendsNoMetric(t *testing.T) {
	got, hint := examine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		req := &collector.ExportMetricsServiceRequest{}
		if err != nil || proto.Unmarshal(b, req) != nil || len(req.ResourceMetrics) > 0 || r.URL.Path != "/v1/metrics" {
			t.Errorf("%s: %q, %v", r.URL.Path, b, err)
		}
	}), func(c *upstream.Client) upstream.Findings { return push.ExamineOTLP(t.Context(), c) })
	if d := cmp.Diff([]upstream.Level{upstream.LevelOK, upstream.LevelOK}, got); d != "" {
		t.Errorf("hint %q, findings (-want +got):\n%s", hint, d)
	}
	if _, hint := examine(t, http.NotFoundHandler(), func(c *upstream.Client) upstream.Findings { return push.ExamineOTLP(t.Context(), c) }); hint == "" {
		t.Error("an address that takes no metrics has no hint")
	}
}
