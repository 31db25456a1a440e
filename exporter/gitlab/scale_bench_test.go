package gitlab

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/gitlab/fakegitlab"
	"github.com/sightline-dev/sightline/exporter/journal"
	"github.com/sightline-dev/sightline/upstream"
)

// childURL and childProjects name the environment variables that make of the test binary an exporter of a simulated GitLab,
// which reads it once and reports.
const childURL, childProjects, childJournal = "SIGHTLINE_TEST_GITLAB", "SIGHTLINE_TEST_PROJECTS", "SIGHTLINE_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		if err := child(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An exported is what an exporter of a process of its own came to.
type exported struct {
	Pipelines, Jobs uint64
	Series          int
	Seconds, CPU    float64 // of the first reading
	ScrapeCPU       float64
	Raw, Gzip       float64 // MB
	PeakMB          float64 // largest size in memory, with pages of the journal; 0 where the system does not tell
	ReadMB          float64 // the same before the scrapes
}

func child(url string) error {
	n, err := strconv.Atoi(os.Getenv(childProjects))
	if err != nil {
		return err
	}
	g := graphOfProjects(n)
	debug.SetGCPercent(75) // as cmd/sightline sets it
	j, err := journal.Open(os.Getenv(childJournal), journal.Options{})
	if err != nil {
		return err
	}
	client, err := upstream.New(upstream.Options{BaseURL: url})
	if err != nil {
		return err
	}
	s, err := New(client, Options{URL: url, First: true})
	if err != nil {
		return err
	}
	at, used := time.Now(), cpu()
	if err := s.Sync(context.Background(), g, j); err != nil {
		return err
	}
	if err := j.Settle(context.Background(), s.Name(), s.Host()); err != nil {
		return err
	}
	r := exported{Seconds: time.Since(at).Seconds(), CPU: (cpu() - used).Seconds(), ReadMB: peakMB()}
	reg := prometheus.NewRegistry()
	reg.MustRegister(exporter.NewCollector(j))
	const scrapes = 5
	used = cpu()
	for range scrapes {
		c, err := scrape(reg)
		if err != nil {
			return err
		}
		r.Series, r.Raw, r.Gzip = c.series, float64(c.raw)/1e6, float64(c.packed)/1e6
	}
	r.ScrapeCPU = (cpu() - used).Seconds() / scrapes
	r.PeakMB = peakMB()
	r.Pipelines, r.Jobs = counted(j)
	return json.NewEncoder(os.Stdout).Encode(r)
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

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

// counted is the number of pipelines and jobs that can be seen in metrics.
func counted(from exporter.TallySource) (pipelines, jobs uint64) {
	for _, t := range from.Snapshot().Tallies {
		switch {
		case t.Key.Measure != exporter.MeasureRuns:
		case t.Key.Level == exporter.LevelTask:
			jobs += t.Count
		default:
			pipelines += t.Count
		}
	}
	return pipelines, jobs
}

type scraped struct{ series, raw, packed int }

// scrape writes what /metrics answers.
func scrape(from prometheus.Gatherer) (s scraped, err error) {
	families, err := from.Gather()
	if err != nil {
		return s, err
	}
	zip := gzip.NewWriter(counter{&s.packed})
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(io.MultiWriter(counter{&s.raw}, zip), f); err != nil {
			return s, err
		}
		s.series += len(f.GetMetric())
	}
	return s, zip.Close()
}

// graphOfProjects is a catalog with a component for each project that Generate makes.
func graphOfProjects(n int) *catalog.Graph {
	var entities []*catalog.Entity
	for i := range n {
		slug := fmt.Sprintf("acme/team-%02d/service-%04d", i%20, i)
		entities = append(entities, component(strings.ReplaceAll(slug, "/", "-"), map[string]string{"gitlab.com/project-slug": slug}))
	}
	g, _ := catalog.NewGraph(entities, catalog.NewRef("group", "", "platform")) // that the owner is missing does not matter
	return g
}

// BenchmarkFirstExport reads a whole GitLab over HTTP in a process of its own, and scrapes it.
func BenchmarkFirstExport(b *testing.B) {
	for _, size := range []fakegitlab.Size{
		{Projects: 100, Branches: 20, Pipelines: 20, Jobs: 10},
		{Projects: 1000, Branches: 1, Pipelines: 20, Jobs: 10},
	} {
		b.Run(fmt.Sprintf("%d projects, %d pipelines of %d jobs each", size.Projects, size.Pipelines, size.Jobs), func(b *testing.B) {
			fake := &fakegitlab.Server{Now: time.Now}
			fake.Generate(size, time.Now())
			var calls atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				fake.ServeHTTP(w, r)
			}))
			defer srv.Close()
			var r exported
			for b.Loop() {
				calls.Store(0)
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), childURL+"="+srv.URL, fmt.Sprint(childProjects, "=", size.Projects), childJournal+"="+filepath.Join(b.TempDir(), "journal"))
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				if err := json.Unmarshal(out, &r); err != nil {
					b.Fatal(err)
				}
			}
			if p := uint64(size.Projects * size.Pipelines); r.Pipelines != p || r.Jobs != p*uint64(size.Jobs) {
				b.Fatalf("counted %d pipelines and %d jobs, want %d and %d", r.Pipelines, r.Jobs, p, p*uint64(size.Jobs))
			}
			b.ReportMetric(float64(calls.Load())/float64(size.Projects), "calls/project")
			b.ReportMetric(float64(r.Pipelines), "pipelines")
			b.ReportMetric(float64(r.Jobs), "jobs")
			b.ReportMetric(float64(r.Series), "series")
			b.ReportMetric(r.CPU, "cpu-s")
			b.ReportMetric(r.ReadMB, "MB-rss")
			b.ReportMetric(r.PeakMB, "MB-rss-scraped")
			b.ReportMetric(r.ScrapeCPU, "cpu-s/scrape")
			b.ReportMetric(r.Raw, "MB/scrape")
			b.ReportMetric(r.Gzip, "MB-gzip/scrape")
		})
	}
}

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A following is the exporter as it ships, beside a simulated GitLab without a network, in a test's clock.
type following struct {
	fake    *fakegitlab.Server
	source  *Source
	journal *journal.Journal
	codes   map[int]int // answers by status
	calls   []time.Time
}

// newFollowing begins to follow; it ends with the context. What fault gives, if not nil, is taken for GitLab's answer.
func newFollowing(t testing.TB, ctx context.Context, fake *fakegitlab.Server, callsPerHour int, to func(*journal.Journal) exporter.Sink, fault roundTrip) *following {
	f := &following{fake: fake, codes: map[int]int{}}
	var mu sync.Mutex
	client, err := upstream.New(upstream.Options{BaseURL: "https://gitlab.example.com", CallsPerHour: callsPerHour, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if fault != nil {
			if resp, err := fault(r); resp != nil || err != nil {
				return resp, err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		w := httptest.NewRecorder()
		fake.ServeHTTP(w, r)
		f.codes[w.Code]++
		f.calls = append(f.calls, time.Now())
		return w.Result(), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	if f.source, err = New(client, Options{URL: "https://gitlab.example.com", First: true}); err != nil {
		t.Fatal(err)
	}
	if f.journal, err = journal.Open(filepath.Join(memory(t), "journal"), journal.Options{}); err != nil {
		t.Fatal(err)
	}
	g := graphOfProjects(len(fake.Projects))
	sink := exporter.Sink(f.journal)
	if to != nil {
		sink = to(f.journal)
	}
	var done sync.WaitGroup
	done.Go(func() {
		_ = exporter.Follow(ctx, f.source, exporter.FollowOptions{Graph: func() *catalog.Graph { return g }, Sink: sink})
	})
	go func() {
		<-ctx.Done()
		done.Wait()
		f.journal.Close()
	}()
	return f
}

// memory is a folder in memory, where there is one: in a simulated clock the disk is not what is measured.
func memory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "sightline-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mostIn is the largest number of calls within any such time.
func (f *following) mostIn(d time.Duration) (most int) {
	first := 0
	for i, at := range f.calls {
		for !f.calls[first].After(at.Add(-d)) {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// BenchmarkDefaults follows a GitLab with the budget as shipped, 3,600 calls an hour, also one that allows 300 a minute. It
// prints, in the seconds of a simulated clock, what can be seen after a minute and when all of it can.
func BenchmarkDefaults(b *testing.B) {
	for _, c := range []struct {
		name  string
		size  fakegitlab.Size
		limit int // of the server, a minute
	}{
		{"100 projects", fakegitlab.Size{Projects: 100, Branches: 20, Pipelines: 20, Jobs: 10}, 0},
		{"1000 projects", fakegitlab.Size{Projects: 1000, Branches: 1, Pipelines: 20, Jobs: 1}, 0},
		{"100 projects, 300 calls a minute allowed", fakegitlab.Size{Projects: 100, Branches: 1, Pipelines: 20, Jobs: 10}, 300},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				bubble(b, func(b testing.TB, report func(float64, string)) {
					fake := &fakegitlab.Server{Now: time.Now, Limit: c.limit}
					fake.Generate(c.size, time.Now())
					ctx, cancel := context.WithCancel(context.Background())
					start := time.Now()
					f := newFollowing(b, ctx, fake, 3600, nil, nil)
					all := 0.0
					for second := 1; second <= 60 || all == 0 && second < 3*3600; second++ {
						time.Sleep(time.Second) // of the simulated clock
						synctest.Wait()
						done, _ := f.source.Backfilled()
						if done == c.size.Projects && all == 0 {
							all = time.Since(start).Seconds()
						}
						if second == 60 {
							p, _ := counted(f.journal)
							report(float64(p), "pipelines-in-a-minute")
							report(float64(done), "projects-in-a-minute")
						}
					}
					report(all, "simulated-s-to-all")
					time.Sleep(10 * time.Minute)
					synctest.Wait()
					p, jobs := counted(f.journal)
					if want := uint64(c.size.Projects * c.size.Pipelines); p != want || jobs != want*uint64(c.size.Jobs) {
						b.Errorf("counted %d pipelines and %d jobs, want %d and %d", p, jobs, want, want*uint64(c.size.Jobs))
					}
					report(float64(f.mostIn(time.Hour)), "calls/hour")
					report(float64(f.codes[http.StatusTooManyRequests]), "429s")
					if n := f.mostIn(time.Hour); n > 3600 {
						b.Errorf("%d calls in an hour", n)
					}
					cancel()
					synctest.Wait()
				})
			}
		})
	}
}

// bubble runs f in a simulated clock. What f reports is printed.
func bubble(b *testing.B, f func(b testing.TB, report func(float64, string))) {
	b.Helper()
	metrics := map[string]float64{}
	failed := false
	testing.Init()
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "bubble", F: func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, func(v float64, unit string) { metrics[unit] = v }) })
		failed = t.Failed()
	}}})
	if !ok || failed {
		b.Fail()
	}
	for unit, v := range metrics {
		b.ReportMetric(v, unit)
	}
}

// BenchmarkBusyGitLab lets 360 pipelines of ten jobs run through in two minutes, with webhooks and without. It prints
// how long after a webhook came its news was in the metrics, in seconds of a simulated clock: work takes no time there, waiting does.
// A pipeline that has ended counts when no retry can follow any more, which takes ten seconds by definition.
func BenchmarkBusyGitLab(b *testing.B) {
	for _, c := range []struct {
		hooked       bool
		callsPerHour int
	}{{true, 36_000}, {false, 36_000}} {
		b.Run(fmt.Sprintf("webhooks %v, %d calls an hour", c.hooked, c.callsPerHour), func(b *testing.B) {
			for b.Loop() {
				bubble(b, func(b testing.TB, report func(float64, string)) { busy(b, report, c.hooked, c.callsPerHour) })
			}
		})
	}
}

// news notes when runs were committed.
type news struct {
	*journal.Journal
	mu       sync.Mutex
	active   map[string]time.Time
	finished map[string]time.Time
}

// Commit implements exporter.Sink.
func (n *news) Commit(ctx context.Context, batch exporter.Batch) error {
	err := n.Journal.Commit(ctx, batch)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range batch.Runs {
		into := n.active
		if r.State == exporter.StateFinished {
			into = n.finished
		}
		if _, ok := into[r.ID.Key]; !ok {
			into[r.ID.Key] = time.Now()
		}
	}
	return err
}

func busy(b testing.TB, report func(float64, string), hooked bool, callsPerHour int) {
	const pipelines, jobs = 360, 10
	random := rand.New(rand.NewPCG(3, 3))
	fake := &fakegitlab.Server{Now: time.Now}
	fake.Generate(fakegitlab.Size{Projects: 20, Branches: 1, Pipelines: 5, Jobs: jobs}, time.Now())
	secretFile := tokenFile(b, secret)
	ctx, cancel := context.WithCancel(context.Background())
	n := &news{active: map[string]time.Time{}, finished: map[string]time.Time{}}
	f := newFollowing(b, ctx, fake, callsPerHour, func(j *journal.Journal) exporter.Sink { n.Journal = j; return n }, nil)
	time.Sleep(10 * time.Second) // of the simulated clock
	synctest.Wait()
	before := len(f.calls)
	start := time.Now()
	fake.Lock()
	for i := range pipelines {
		fake.AddRunning(fake.Projects[random.IntN(20)], "main", start.Add(time.Duration(i)*time.Second/3), jobs, random)
	}
	fake.Unlock()
	began, ended, jobEnded := map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	if hooked {
		r := NewReceiver(n, nil, Hooked{f.source, []string{secretFile}})
		var all []fakegitlab.Hook
		for _, p := range fake.Projects {
			all = append(all, fake.Hooks(p, start.Add(-time.Second), start.Add(10*time.Minute))...)
		}
		var senders sync.WaitGroup
		for _, h := range all {
			senders.Go(func() {
				time.Sleep(time.Until(h.At))
				req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/gitlab", strings.NewReader(string(h.Body)))
				req.Header = http.Header{"X-Gitlab-Token": {secret}, "X-Gitlab-Event": {h.Event}, "Idempotency-Key": {h.Key}}
				w := httptest.NewRecorder()
				if r.ServeHTTP(w, req); w.Code != http.StatusOK {
					b.Errorf("%s answered %d", h.Event, w.Code)
				}
				m, ok, _ := readHook(h.Event, h.Body)
				n.mu.Lock()
				defer n.mu.Unlock()
				id := fmt.Sprintf("%d/pipeline/%d", m.Project, m.Pipeline.ID)
				switch {
				case ok && m.ended != nil:
					jobEnded[fmt.Sprintf("%d/job/%d", m.Project, m.ended.ID)] = h.At
				case !ok || h.Event != "Pipeline Hook":
				case terminal(m.Pipeline.Status):
					ended[id] = h.At
				case began[id].IsZero():
					began[id] = h.At
				}
			})
		}
		senders.Wait()
		report(float64(len(all)), "webhooks")
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	report(float64(len(f.calls)-before), "calls")
	p, j := counted(f.journal)
	report(float64(p)-100, "pipelines")
	report(float64(j)-1000, "jobs")
	if p != 100+pipelines || j != 1000+pipelines*jobs {
		b.Errorf("counted %d pipelines and %d jobs, want %d and %d", p, j, 100+pipelines, 1000+pipelines*jobs)
	}
	longest := func(from, to map[string]time.Time) (most time.Duration) {
		for id, at := range from {
			most = max(most, to[id].Sub(at))
		}
		return most
	}
	if hooked {
		report(longest(began, n.active).Seconds(), "s-webhook-to-active")
		report(longest(jobEnded, n.finished).Seconds(), "s-webhook-to-job-counted")
		report(float64(len(jobEnded)), "jobs-told")
		report(longest(ended, n.finished).Seconds(), "s-webhook-to-counted")
	}
	cancel()
	synctest.Wait()
}

// BenchmarkWebhooks takes the webhooks of one pipeline of ten jobs, without polling, and prints the calls that they cost.
func BenchmarkWebhooks(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.sync()
		from := w.now
		w.fake.AddRunning(w.project, "main", w.now, 10, rand.New(rand.NewPCG(3, 3)))
		w.pass(5 * time.Minute)
		hooks := w.fake.Hooks(w.project, from.Add(-time.Second), w.now)
		w.api.calls = 0
		for _, h := range hooks {
			w.now = h.At
			if code := w.send(h); code != http.StatusOK {
				b.Fatalf("%s answered %d", h.Event, code)
			}
			if err := w.nudge(); err != nil {
				b.Fatal(err)
			}
		}
		w.pass(settleDelay)
		if err := w.source.SyncNudged(context.Background(), w.graph, w.journal); err != nil {
			b.Fatal(err)
		}
		if p, j := w.total(); p != 1 || j != 10 {
			b.Fatalf("counted %d pipelines and %d jobs, want 1 and 10", p, j)
		}
		b.ReportMetric(float64(len(hooks)), "webhooks")
		b.ReportMetric(float64(w.api.calls), "calls")
	}
}

// BenchmarkWebhookFlood sends the webhooks of 20,000 pipelines as fast as 1,000 connections can. Each is answered when it is
// stored.
func BenchmarkWebhookFlood(b *testing.B) {
	const webhooks = 20_000
	for b.Loop() {
		w := newWorld(b)
		w.sync()
		r := NewReceiver(w.journal, nil, Hooked{w.source, []string{tokenFile(b, secret)}})
		var next atomic.Int64
		var senders sync.WaitGroup
		at, used := time.Now(), cpu()
		for range 1000 {
			senders.Go(func() {
				for n := next.Add(1); n <= webhooks; n = next.Add(1) {
					body := fmt.Sprintf(`{"object_kind":"pipeline","project":{"id":42},"object_attributes":{"id":%d,"status":"running"}}`, n)
					req := httptest.NewRequest(http.MethodPost, "/webhooks/gitlab", strings.NewReader(body))
					req.Header.Set("X-Gitlab-Token", secret)
					rec := httptest.NewRecorder()
					if r.ServeHTTP(rec, req); rec.Code != http.StatusOK {
						b.Errorf("answered %d", rec.Code)
					}
					if _, ok := w.journal.Position(w.source.markPrefix() + "42/" + strconv.FormatInt(n, 10)); !ok {
						b.Error("answered before it was stored")
					}
				}
			})
		}
		senders.Wait()
		b.ReportMetric(webhooks/time.Since(at).Seconds(), "webhooks/s")
		b.ReportMetric(webhooks/(cpu()-used).Seconds(), "webhooks/cpu-s")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
	}
}
