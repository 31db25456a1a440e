package gitlab

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/upstream"
)

// taped answers what a simulated GitLab answered once, so that only the reading is measured.
type taped struct {
	answers map[string]answer
	calls   int
}

type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (t *taped) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	t.calls++
	a, ok := t.answers[key(path)]
	if !ok || a.code != http.StatusOK {
		return nil, &upstream.StatusError{Code: http.StatusNotFound, URL: path}
	}
	return a.header, json.Unmarshal(a.body, into)
}

// key leaves out what depends on the time of the reading.
func key(path string) string {
	base, query, _ := strings.Cut(path, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return path
	}
	q.Del("updated_after")
	return base + "?" + q.Encode()
}

// taper records what is answered.
type taper struct {
	*direct
	to *taped
}

func (t *taper) GetJSON(ctx context.Context, path string, into any) (http.Header, error) {
	w := httptest.NewRecorder()
	t.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
	t.to.answers[key(path)] = answer{w.Code, w.Header(), w.Body.Bytes()}
	return t.to.GetJSON(ctx, path, into)
}

// BenchmarkFirstReading reads 100 projects with 2,000 pipelines and 20,000 jobs into a journal on disk. Its ratio is to a
// floor of the same run: decoding the same answers into the same rows, and counting nothing. It prints the calls per project
// of the first reading and of an idle one, and what a scrape of the result costs.
func BenchmarkFirstReading(b *testing.B) {
	w := many(b, fakegitlab.Size{Projects: 100, Branches: 20, Pipelines: 20, Jobs: 10})
	tape := &taped{answers: map[string]answer{}}
	start := func(api API, path string) (*Source, *journal.Journal) {
		j, err := journal.Open(path, journal.Options{Now: func() time.Time { return w.now }})
		if err != nil {
			b.Fatal(err)
		}
		s, err := New(api, Options{URL: "https://gitlab.example.com", First: true, Now: func() time.Time { return w.now }, Workers: 1})
		if err != nil {
			b.Fatal(err)
		}
		return s, j
	}
	sync := func(s *Source, j *journal.Journal) {
		if err := s.Sync(context.Background(), w.graph, j); err != nil {
			b.Fatal(err)
		}
	}
	s, j := start(&taper{w.api, tape}, filepath.Join(b.TempDir(), "tape.db"))
	sync(s, j)
	j.Close()

	var ours, floor time.Duration
	var first, idle, idleGraph int
	for range b.N {
		tape.calls = 0
		s, j := start(tape, filepath.Join(b.TempDir(), "journal.db"))
		at := time.Now()
		sync(s, j)
		ours += time.Since(at)
		first = tape.calls
		w.journal.Close()
		w.journal = j
		if p, n := w.total(); p != 2000 || n != 20000 {
			b.Fatalf("counted %d pipelines and %d jobs", p, n)
		}
		at = time.Now()
		for k, a := range tape.answers {
			switch path, _, _ := strings.Cut(k, "?"); {
			case strings.HasSuffix(path, "/jobs"):
				err := json.Unmarshal(a.body, &[]job{})
				if err != nil {
					b.Fatal(err)
				}
			case strings.HasSuffix(path, "/pipelines"):
				if err := json.Unmarshal(a.body, &[]pipeline{}); err != nil {
					b.Fatal(err)
				}
			}
		}
		floor += time.Since(at)
		b.StopTimer()
		w.api.calls = 0
		w.pass(time.Minute)
		s.api = w.api
		sync(s, j)
		idle = w.api.calls
		w.api.calls = 0
		w.pass(time.Minute)
		s.api = graphAPI{w.api}
		sync(s, j)
		idleGraph = w.api.calls
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-decoding")
	b.ReportMetric(float64(first)/100, "calls/project")
	b.ReportMetric(float64(idle)/100, "idle-calls/project")
	b.ReportMetric(float64(idleGraph)/100, "idle-calls/project-by-graphql")

	reg := prometheus.NewRegistry()
	reg.MustRegister(exporter.NewCollector(w.journal))
	at := time.Now()
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	bytes, packed := 0, 0
	zip := gzip.NewWriter(counter{&packed})
	for _, f := range families {
		n := bytes
		if _, err := expfmt.MetricFamilyToText(io.MultiWriter(counter{&bytes}, zip), f); err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %d series, %d bytes", f.GetName(), len(f.GetMetric()), bytes-n)
	}
	if err := zip.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(at).Seconds(), "s/scrape")
	b.ReportMetric(float64(bytes)/1e6, "MB/scrape")
	b.ReportMetric(float64(packed)/1e6, "MB-gzip/scrape")
}

type counter struct{ n *int }

func (c counter) Write(p []byte) (int, error) {
	*c.n += len(p)
	return len(p), nil
}
