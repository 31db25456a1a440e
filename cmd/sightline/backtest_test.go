package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sightline-dev/sightline/engine"
)

// pastBegin is when the counters of the command past begin.
var pastBegin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// pastStore is the command past NAME: it starts a Prometheus whose URL is $NAME. For eight days from pastBegin on it knows a service "checkout" that serves
// from 300 to 1,500 requests a minute; from noon of the fifth day on a fifth of them fail for half an hour, and one hour
// of the seventh has no samples.
func pastStore(ts *testscript.TestScript, _ bool, args []string) {
	dir := filepath.Join(ts.MkAbs("."), "tsdb")
	good, bad, byEdge := counter("200", ""), counter("500", ""), counter("", "0.5")
	var ok, failed, fast float64
	for m := range 8 * 1440 {
		events := math.Round(300 * (3 + 2*math.Sin(float64(m)*2*math.Pi/1440)))
		wrong := 0.0
		if at := m - 4*1440 - 720; at >= 0 && at < 30 {
			wrong = math.Round(events / 5)
		} else if m%200 == 0 {
			wrong = 1
		}
		ok, failed, fast = ok+events-wrong, failed+wrong, fast+math.Round(events*0.97)
		if at := m - 6*1440; at >= 0 && at < 60 {
			continue
		}
		for s, v := range map[*engine.Series]float64{&good: ok, &bad: failed, &byEdge: fast} {
			s.Points = append(s.Points, engine.Point{Time: pastBegin.Add(time.Duration(m) * time.Minute), Value: v})
		}
	}
	ts.Check(engine.WriteBlock(context.Background(), dir, []engine.Series{good, bad, byEdge}))
	e, err := engine.Open(engine.Options{Path: dir, Retention: 10 * 365 * 24 * time.Hour})
	ts.Check(err)
	srv := httptest.NewServer(e.QueryHandler())
	ts.Defer(func() {
		srv.Close()
		e.Close()
	})
	ts.Setenv(args[0], srv.URL)
}

// liveStore is the command live NAME: it starts a Prometheus whose URL is $NAME and which has scraped the service "checkout" each
// minute until now, and whose rules are of an objective that no catalog has.
func liveStore(ts *testscript.TestScript, _ bool, args []string) {
	e, err := engine.Open(engine.Options{Path: filepath.Join(ts.MkAbs("."), "live")})
	ts.Check(err)
	var samples []engine.Sample
	now := time.Now().Truncate(time.Second)
	for m := -10; m <= 0; m++ {
		at := now.Add(time.Duration(m) * time.Minute)
		for _, s := range []engine.Series{counter("200", ""), counter("", "0.5"), counter("", "+Inf")} {
			samples = append(samples, engine.Sample{Labels: s.Labels, Value: float64(100 + m), Time: at})
		}
		samples = append(samples, engine.Sample{Labels: map[string]string{"__name__": "slo:objective:ratio", "sloth_id": "component.default.gone-availability", "entity": "component:default/gone", "sloth_slo": "availability"}, Value: 0.99, Time: at})
	}
	ts.Check(e.Append(context.Background(), samples))
	srv := httptest.NewServer(e.QueryHandler())
	ts.Defer(func() {
		srv.Close()
		e.Close()
	})
	ts.Setenv(args[0], srv.URL)
}

func counter(code, le string) engine.Series {
	name := "http_server_request_duration_seconds_count"
	if le != "" {
		name = "http_server_request_duration_seconds_bucket"
	}
	l := map[string]string{"__name__": name, "service_name": "checkout", "instance": "a:8080"}
	if code != "" {
		l["http_response_status_code"] = code
	}
	if le != "" {
		l["le"] = le
	}
	return engine.Series{Labels: l}
}

// wellformed FILE fails unless the file is well-formed XML, as SVG must be, and loads nothing from elsewhere.
func wellformed(ts *testscript.TestScript, _ bool, args []string) {
	body := ts.ReadFile(args[0])
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict = true
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
	}
	for _, from := range []string{"<script", "<link", "<img", "src=", "@import", "url("} {
		if strings.Contains(body, from) {
			ts.Fatalf("%s holds %s", args[0], from)
		}
	}
}

func TestLengthsAndCountsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{59 * time.Minute: "59 min", 3 * time.Hour: "3h 00m", 50 * time.Hour: "2d 2h"} {
		if got := shownLength(d); got != want {
			t.Errorf("%s is shown as %q, want %q", d, got, want)
		}
	}
	for n, want := range map[float64]string{999: "999", 12345: "12.3 k", 4.31e7: "43.1 M", 2.5e9: "2.5 G"} {
		if got := shownCount(n); got != want {
			t.Errorf("%g is shown as %q, want %q", n, got, want)
		}
	}
}
