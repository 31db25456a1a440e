package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/sightline-dev/sightline/engine/enginetest"
	"github.com/sightline-dev/sightline/engine/remote"
)

func TestARealPrometheusAnswersLikeTheEmbeddedOne(t *testing.T) {
	demand(t, "prometheus")
	addr := freeAddr(t)
	url := "http://" + addr
	start(t, "prometheus", "--config.file="+write(t, filepath.Join(t.TempDir(), "prometheus.yml"), "{}\n"), "--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address="+addr, "--web.enable-remote-write-receiver")
	ready(t, url+"/-/ready")
	end := time.Now().Truncate(time.Minute)
	var req prompb.WriteRequest
	for _, s := range enginetest.Samples(end) {
		series := prompb.TimeSeries{Samples: []prompb.Sample{{Value: s.Value, Timestamp: s.Time.UnixMilli()}}}
		for _, name := range []string{"__name__", "a", "b", "z"} {
			if v, ok := s.Labels[name]; ok {
				series.Labels = append(series.Labels, prompb.Label{Name: name, Value: v})
			}
		}
		req.Timeseries = append(req.Timeseries, series)
	}
	body, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatal(resp.Status)
	}
	q, err := remote.New(remote.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		got, err := q.Query(t.Context(), "count(enginetest_value)", time.Time{})
		if err == nil && (len(got) != 1 || got[0].Value != 3) {
			err = fmt.Errorf("got %v", got)
		}
		return err
	})
	enginetest.TestQuerier(t, q, end)
	if alerts, err := q.Alerts(t.Context()); err != nil || len(alerts) != 0 {
		t.Errorf("alerts: %v, %v", alerts, err)
	}
}
