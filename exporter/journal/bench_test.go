package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// childPath names the environment variable that makes of the test binary a process that opens a journal and reports.
const childPath = "SIGHTLINE_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if stage := os.Getenv(killAt); stage != "" {
			dieAt(stage, path)
		}
		child(path)
	}
	os.Exit(m.Run())
}

// child opens a journal as a start of the program does, and prints what that took.
func child(path string) {
	at := time.Now()
	j, err := Open(path, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	o := opened{Seconds: time.Since(at).Seconds(), CPU: cpu().Seconds(), Runs: total(j)}
	runtime.GC()
	o.HeapMB, o.PeakMB = heapMB(), peakMB()
	_ = json.NewEncoder(os.Stdout).Encode(o)
	os.Exit(0)
}

type opened struct {
	Seconds, CPU   float64
	HeapMB, PeakMB float64 // PeakMB includes the pages of the file that were read; 0 where the system does not tell
	Runs           uint64
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapMB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// peakMB is the largest size that the process had in memory.
func peakMB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb float64
	_, _ = fmt.Sscan(rest, &kb)
	return kb * 1024 / 1e6
}

// pipelineOf makes a finished pipeline of ten jobs of one of many projects, with what is measured beside runs.
func pipelineOf(n int) (runs []exporter.Run, seen []exporter.Observation) {
	project := n % 200
	entity := catalog.NewRef("component", "", fmt.Sprintf("service-%03d", project))
	at := day.Add(time.Duration(n) * time.Second)
	p := run(fmt.Sprintf("%d/pipeline/%d", project, 1_000_000+n), exporter.ResultSuccess, exporter.AttemptFirst, at)
	p.Entity, p.Pipeline, p.Created, p.Started = entity, fmt.Sprintf("acme/team-%02d/service-%03d", project%20, project), at.Add(-2*time.Minute), at.Add(-time.Minute)
	p.Name, p.URL = p.Pipeline, fmt.Sprintf("https://gitlab.example.com/%s/-/pipelines/%d", p.Pipeline, n)
	runs = append(runs, p)
	for i := range 10 {
		j := p
		j.ID.Key, j.Parent, j.Level, j.Attempt = fmt.Sprintf("%d/job/%d", project, 50_000_000+10*n+i), p.ID, exporter.LevelTask, ""
		j.Name = fmt.Sprintf("test-job-%d", i)
		runs = append(runs, j)
		seen = append(seen, exporter.Observation{
			ID: j.ID, Kind: exporter.RunnerWait, Entity: entity, Owner: p.Owner, Labels: []string{"docker"}, Value: float64(n % 20), At: at,
		})
	}
	for kind, labels := range map[exporter.ObservationKind][]string{exporter.Coverage: {p.Pipeline, p.RefKind}, exporter.Deployments: {"production", "success"}, exporter.LeadTime: {"production", "total"}} {
		seen = append(seen, exporter.Observation{ID: p.ID, Kind: kind, Entity: entity, Owner: p.Owner, Labels: labels, Value: 0.5, At: at})
	}
	return runs, seen
}

// ingest commits pipelines from eight sources at once, so many in a batch.
func ingest(b *testing.B, j *Journal, from, pipelines, batched int, observed bool) {
	b.Helper()
	var wg sync.WaitGroup
	for source := range 8 {
		wg.Go(func() {
			for n := from + batched*source; n < from+pipelines; n += 8 * batched {
				batch := exporter.Batch{Cursor: fmt.Sprint("c", source), Position: fmt.Sprint(n)}
				for i := n; i < min(n+batched, from+pipelines); i++ {
					runs, seen := pipelineOf(i)
					batch.Runs = append(batch.Runs, runs...)
					if observed {
						batch.Seen = append(batch.Seen, seen...)
					}
				}
				if err := j.Commit(context.Background(), batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkIngest takes 110,000 runs, and 130,000 observations beside them, through the journal on disk into metrics, with a
// scrape in between and at the end.
func BenchmarkIngest(b *testing.B) {
	const pipelines = 10_000
	for _, c := range []struct {
		name     string
		observed bool
	}{{"runs", false}, {"runs and observations", true}} {
		b.Run(c.name, func(b *testing.B) {
			var took, used time.Duration
			var allocs uint64
			for b.Loop() {
				j, err := Open(filepath.Join(b.TempDir(), "journal"), Options{})
				if err != nil {
					b.Fatal(err)
				}
				reg := prometheus.NewRegistry()
				reg.MustRegister(exporter.NewCollector(j))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				at, cpuAt := time.Now(), cpu()
				for half := range 2 {
					ingest(b, j, half*pipelines/2, pipelines/2, 10, c.observed)
					if _, err := reg.Gather(); err != nil {
						b.Fatal(err)
					}
				}
				took, used = took+time.Since(at), used+cpu()-cpuAt
				runtime.ReadMemStats(&after)
				allocs += after.Mallocs - before.Mallocs
				if n := total(j); n != 11*pipelines {
					b.Fatalf("counted %d runs, want %d", n, 11*pipelines)
				}
				if err := j.Close(); err != nil {
					b.Fatal(err)
				}
			}
			n := float64(b.N * 11 * pipelines)
			b.ReportMetric(n/took.Seconds(), "runs/s")
			b.ReportMetric(n/used.Seconds(), "runs/cpu-s")
			b.ReportMetric(float64(allocs)/n, "allocs/run")
		})
	}
}

// BenchmarkAMillionJobs has a million finished jobs in the journal, starts it in a process of its own, drops their records as
// the daily compaction does, and counts another quarter of a million.
func BenchmarkAMillionJobs(b *testing.B) {
	const pipelines = 100_000
	b.Run("a quarter, with observations", func(b *testing.B) { millionObserved(b, pipelines/4) })
	b.Run("runs alone", func(b *testing.B) { million(b, pipelines) })
}

// millionObserved is of the size alone: what is measured beside runs has records of its own, which the daily compaction drops
// with those of jobs, but for lead times.
func millionObserved(b *testing.B, pipelines int) {
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "journal")
		j, err := Open(path, Options{Now: func() time.Time { return day }})
		if err != nil {
			b.Fatal(err)
		}
		ingest(b, j, 0, pipelines, 100, true)
		b.ReportMetric(sizeMB(b, path), "MB-file")
		dropped, err := j.Compact(b.Context(), day.Add(time.Duration(pipelines)*time.Second))
		if want := (10 + 10 + 1) * pipelines; err != nil || dropped != want { // jobs, runner waits, deployments
			b.Fatalf("compaction dropped %d records, want %d: %v", dropped, want, err)
		}
		ingest(b, j, pipelines, pipelines/4, 100, true)
		b.ReportMetric(sizeMB(b, path), "MB-file-compacted")
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func million(b *testing.B, pipelines int) {
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "journal")
		now := day
		j, err := Open(path, Options{Now: func() time.Time { return now }})
		if err != nil {
			b.Fatal(err)
		}
		ingest(b, j, 0, pipelines, 100, false)
		b.ReportMetric(sizeMB(b, path), "MB-file")
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		o := start(b, path)
		if o.Runs != uint64(11*pipelines) {
			b.Fatalf("%d runs after the start, want %d", o.Runs, 11*pipelines)
		}
		b.ReportMetric(o.Seconds, "s-start")
		b.ReportMetric(o.CPU, "cpu-s-start")
		b.ReportMetric(o.HeapMB, "MB-heap")
		b.ReportMetric(o.PeakMB, "MB-rss")

		if j, err = Open(path, Options{Now: func() time.Time { return now }}); err != nil {
			b.Fatal(err)
		}
		dropped, err := j.Compact(context.Background(), day.Add(time.Duration(pipelines)*time.Second))
		if err != nil || dropped != 10*pipelines {
			b.Fatalf("compaction dropped %d records, want %d: %v", dropped, 10*pipelines, err)
		}
		ingest(b, j, pipelines, pipelines/4, 100, false) // in the space that became free
		b.ReportMetric(sizeMB(b, path), "MB-file-compacted")
		if n := total(j); n != uint64(11*(pipelines+pipelines/4)) {
			b.Fatalf("counted %d runs, want %d", n, 11*(pipelines+pipelines/4))
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func sizeMB(b *testing.B, path string) float64 {
	b.Helper()
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(st.Size()) / 1e6
}

// start opens a journal in a process of its own.
func start(b *testing.B, path string) (o opened) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(out, &o); err != nil {
		b.Fatal(err)
	}
	return o
}
