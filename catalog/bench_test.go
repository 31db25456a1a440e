//go:build unix

package catalog_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/catalog/backstage"
	"github.com/sightline-dev/sightline/catalog/files"
	"github.com/sightline-dev/sightline/upstream"
)

// serveEnv makes the test binary the catalog server of the benchmark, so that making the catalog costs the loader nothing.
const serveEnv = "CATALOG_BENCH_SERVE"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(serveEnv)); err == nil {
		server := httptest.NewServer(synthetic(n))
		fmt.Println(server.URL)
		io.Copy(io.Discard, os.Stdin) // until the parent is gone
		return
	}
	os.Exit(m.Run())
}

// synthetic serves n entities: a component each, of 1,000 teams and 2,000 systems, with the annotations of a usual catalog.
func synthetic(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		to := min(from+limit, n)
		fmt.Fprint(w, `{"items":[`)
		for i := from; i < to; i++ {
			if i > from {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, `{"kind":"Component","metadata":{"namespace":"default","name":"service-%d","title":"Service %d","description":"The service number %d of the shop, which does one thing well.","annotations":{`+
				`"backstage.io/managed-by-location":"url:https://gitlab.example.com/shop/service-%d/-/blob/main/catalog-info.yaml","backstage.io/managed-by-origin-location":"url:https://gitlab.example.com/shop/service-%d/-/blob/main/catalog-info.yaml",`+
				`"backstage.io/source-location":"url:https://gitlab.example.com/shop/service-%d/-/tree/main/","backstage.io/techdocs-ref":"dir:.","gitlab.com/project-slug":"shop/service-%d","backstage.io/kubernetes-id":"service-%d",`+
				`"sightline.dev/objective.availability":"99.9","sightline.dev/selector":"job=\"service-%d\""}},"spec":{"type":"service","lifecycle":"production"},"relations":[`+
				`{"type":"consumesApi","targetRef":"api:default/api-%d"},{"type":"dependsOn","targetRef":"resource:default/db-%d"},{"type":"ownedBy","targetRef":"group:default/team-%d"},{"type":"partOf","targetRef":"system:default/system-%d"}]}`,
				i, i, i, i, i, i, i, i, i, i%5000, i%5000, i%1000, i%2000)
		}
		next := ""
		if to < n {
			next = strconv.Itoa(to)
		}
		fmt.Fprintf(w, `],"totalItems":%d,"pageInfo":{"nextCursor":%q}}`, n, next)
	}
}

// A cost is what a piece of work took.
type cost struct{ cpu, peak float64 } // seconds, and MiB beyond what was there before

// measure runs work and watches this process.
func measure(work func()) cost {
	cpu := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	heap := func() float64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		metrics.Read(s)
		return float64(s[0].Value.Uint64()+s[1].Value.Uint64()+s[2].Value.Uint64()) / (1 << 20)
	}
	runtime.GC()
	before, start := heap(), cpu()
	peak, stop, stopped := before, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			peak = max(peak, heap())
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	work()
	took := cpu() - start
	close(stop)
	<-stopped
	return cost{took, peak - before}
}

func report(b *testing.B, entities int, load, floor cost) {
	b.ReportMetric(load.cpu, "cpu-s")
	b.ReportMetric(load.peak, "peak-MiB")
	b.ReportMetric(load.cpu/floor.cpu, "x-floor-cpu")
	b.ReportMetric(float64(entities)/load.cpu, "entities/cpu-s")
	b.ReportMetric(0, "ns/op")
}

// The floor reads the same pages into structs of the same fields and keeps nothing.
func BenchmarkLoadBackstage(b *testing.B) {
	const n = 100_000
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+strconv.Itoa(n))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { stdin.Close(); cmd.Wait() }()
	base, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	base = strings.TrimSpace(base)
	client, err := upstream.New(upstream.Options{BaseURL: base})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		floor := measure(func() {
			for cursor := "0"; cursor != ""; {
				var page struct {
					Items []struct {
						Kind     string
						Metadata struct {
							Name, Namespace, Title, Description string
							Annotations                         map[string]string
						}
						Spec      struct{ Type, Lifecycle string }
						Relations []struct{ Type, TargetRef string }
					}
					PageInfo struct{ NextCursor string }
				}
				resp, err := http.Get(base + "/?limit=500&cursor=" + cursor)
				if err != nil {
					b.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					b.Fatal(err)
				}
				if err := json.Unmarshal(body, &page); err != nil {
					b.Fatal(err)
				}
				cursor = page.PageInfo.NextCursor
			}
		})
		var g *catalog.Graph
		load := measure(func() {
			entities, _, err := backstage.Load(b.Context(), client)
			if err != nil {
				b.Fatal(err)
			}
			g, _ = catalog.NewGraph(entities, catalog.NewRef("group", "", "platform"))
		})
		if g.Len() != n {
			b.Fatalf("%d entities, want %d", g.Len(), n)
		}
		report(b, n, load, floor)
		if load.cpu > 60 || load.peak > 400 {
			b.Errorf("%d entities took %.1f s of CPU and %.0f MiB, want at most 60 s and 400 MiB", n, load.cpu, load.peak)
		}
	}
}

// The floor decodes the same files into YAML nodes and keeps nothing.
func BenchmarkLoadFiles(b *testing.B) {
	const n, perFile = 20_000, 10
	dir := b.TempDir()
	var names []string
	for f := range n / perFile {
		var text strings.Builder
		for i := f * perFile; i < (f+1)*perFile; i++ {
			fmt.Fprintf(&text, "---\napiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: service-%d\n  title: Service %d\n  description: The service number %d of the shop, which does one thing well.\n  annotations:\n"+
				"    backstage.io/techdocs-ref: dir:.\n    gitlab.com/project-slug: shop/service-%d\n    backstage.io/kubernetes-id: service-%d\n    sightline.dev/objective.availability: \"99.9\"\n    sightline.dev/selector: job=\"service-%d\"\n"+
				"spec:\n  type: service\n  lifecycle: production\n  owner: team-%d\n  system: system-%d\n  consumesApis: [api-%d]\n  dependsOn: [resource:db-%d]\n", i, i, i, i, i, i, i%1000, i%2000, i%5000, i%5000)
		}
		name := filepath.Join(dir, fmt.Sprintf("catalog-%d.yaml", f))
		if err := os.WriteFile(name, []byte(text.String()), 0o644); err != nil {
			b.Fatal(err)
		}
		names = append(names, name)
	}
	for b.Loop() {
		floor := measure(func() {
			for _, name := range names {
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				dec := yaml.NewDecoder(f)
				for {
					var doc yaml.Node
					if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				f.Close()
			}
		})
		var g *catalog.Graph
		load := measure(func() {
			found, err := files.Load(b.Context(), []string{dir})
			if err != nil {
				b.Fatal(err)
			}
			g, _ = catalog.NewGraph(found.Entities, catalog.NewRef("group", "", "platform"))
		})
		if g.Len() != n {
			b.Fatalf("%d entities, want %d", g.Len(), n)
		}
		report(b, n, load, floor)
	}
}
