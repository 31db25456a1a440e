package remote_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAServerSaysOfItself(t *testing.T) {
	mux := http.NewServeMux()
	for path, data := range map[string]string{
		"/api/v1/features":              `{"promql": {"anchored": true}}`,
		"/api/v1/status/runtimeinfo":    `{"storageRetention": "15d or 10GiB"}`,
		"/api/v1/label/__name__/values": `["a_total", "b"]`,
		"/api/v1/metadata":              `{"a_total": [{"type": "counter"}], "b": [{"type": "gauge"}, {"type": "counter"}], "c": [{"type": "unknown"}], "d": []}`,
	} {
		mux.HandleFunc("/prometheus"+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"status":"success","data":%s}`, data) })
	}
	c := client(t, mux, nil)
	if anchored, err := c.Anchored(t.Context()); !anchored || err != nil {
		t.Errorf("anchored %v, %v", anchored, err)
	}
	if keep := c.Retention(t.Context()); keep != 15*24*time.Hour {
		t.Errorf("retention %s", keep)
	}
	names, err := c.MetricNames(t.Context())
	if d := cmp.Diff([]string{"a_total", "b"}, names); d != "" || err != nil {
		t.Errorf("%v, names (-want +got):\n%s", err, d)
	}
	types, err := c.Types(t.Context())
	if d := cmp.Diff(map[string]string{"a_total": "counter"}, types); d != "" || err != nil {
		t.Errorf("%v, types (-want +got):\n%s", err, d)
	}
}

func TestAServerThatDoesNotSaySoKnowsNothing(t *testing.T) {
	c := client(t, http.NotFoundHandler(), nil)
	if anchored, err := c.Anchored(t.Context()); anchored || err != nil {
		t.Errorf("anchored %v, %v", anchored, err)
	}
	if keep := c.Retention(t.Context()); keep != 0 {
		t.Errorf("retention %s", keep)
	}
	if types, err := c.Types(t.Context()); len(types) != 0 || err != nil {
		t.Errorf("types %v, %v", types, err)
	}
}
