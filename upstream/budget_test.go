package upstream

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// Fifty callers ask as fast as they may for five hours, while the upstream is busy or wishes a pause now and then.
func TestTheBudgetIsNeverExceededInAnyHour(t *testing.T) {
	for _, budget := range []int{1, 7, 60, 1000} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var calls []time.Time
				random := rand.New(rand.NewPCG(1, uint64(budget)))
				c := client(t, func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					calls = append(calls, time.Now())
					switch random.IntN(100) {
					case 0:
						answer(429, "", "Retry-After", fmt.Sprint(random.IntN(300)))(w, r)
					case 1, 2, 3:
						answer(502, "")(w, r)
					case 4, 5, 6:
						answer(301, "", "Location", "/root/y")(w, r)
					default:
						fine(w, r)
					}
				}, Options{CallsPerHour: budget})
				const hours = 5
				end := time.Now().Add(hours * time.Hour)
				var callers sync.WaitGroup
				for range 50 {
					callers.Go(func() {
						for time.Now().Before(end) {
							c.GetJSON(t.Context(), "/x", &number{})
						}
					})
				}
				callers.Wait()
				first := 0
				for i, at := range calls {
					for !calls[first].After(at.Add(-time.Hour)) {
						first++
					}
					if n := i - first + 1; n > budget {
						t.Fatalf("%d calls in the hour before %v, want at most %d", n, at, budget)
					}
				}
				used := slices.IndexFunc(calls, func(at time.Time) bool { return at.After(end) })
				if used < 0 {
					used = len(calls)
				}
				if budget > 7 && used < hours*budget/3 {
					t.Errorf("%d calls in %d hours, want a good part of %d an hour", used, hours, budget)
				}
			})
		})
	}
}

func TestWaitingIsVisibleInMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, m := prometheus.NewPedanticRegistry(), NewMetrics()
		reg.MustRegister(m)
		c := client(t, answers(fine, fine, answer(502, ""), fine), Options{Name: "gitlab", CallsPerHour: 20, Metrics: m})
		expect := func(want string, families ...Family) {
			t.Helper()
			var names []string
			for _, f := range families {
				want = fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", f.Name, f.Help, f.Name, f.Type) + want
				names = append(names, f.Name)
			}
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
				t.Error(err)
			}
		}
		get := func() {
			if _, err := c.GetJSON(t.Context(), "/x", &number{}); err != nil {
				t.Error(err)
			}
		}
		expect("sightline_upstream_budget_remaining{host=\"gitlab.example.com\",upstream=\"gitlab\"} 2\n", remaining)
		get()
		get()
		expect("sightline_upstream_budget_remaining{host=\"gitlab.example.com\",upstream=\"gitlab\"} 0\n", remaining)
		var done sync.WaitGroup
		done.Go(get)
		synctest.Wait()
		expect("sightline_upstream_waiting_calls{host=\"gitlab.example.com\",reason=\"budget\",upstream=\"gitlab\"} 1\n", waiting)
		done.Wait()
		expect("sightline_upstream_waiting_calls{host=\"gitlab.example.com\",reason=\"budget\",upstream=\"gitlab\"} 0\n", waiting)
		expect(`sightline_upstream_requests_total{code="200",host="gitlab.example.com",upstream="gitlab"} 3
sightline_upstream_requests_total{code="502",host="gitlab.example.com",upstream="gitlab"} 1
`, requests)
		if got := testutil.ToFloat64(m.throttled.WithLabelValues("gitlab", "gitlab.example.com", "budget")); got < 300 || got > 400 {
			t.Errorf("throttled for %v s by the budget, want two steps of 19 an hour", got)
		}
		if got := testutil.ToFloat64(m.throttled.WithLabelValues("gitlab", "gitlab.example.com", "backoff")); got < .5 || got > 1.5 {
			t.Errorf("back-off of %v s", got)
		}
		if found, err := testutil.GatherAndLint(reg); err != nil || len(found) > 0 {
			t.Errorf("lint: %v %v", found, err)
		}
	})
}

func TestEveryFamilyIsCollected(t *testing.T) {
	reg, m := prometheus.NewRegistry(), NewMetrics()
	reg.MustRegister(m)
	c := client(t, fine, Options{CallsPerHour: 5, Metrics: m})
	c.GetJSON(t.Context(), "/x", &number{})
	c.meter.wait("budget")()
	got, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Families() {
		i := slices.IndexFunc(got, func(g *dto.MetricFamily) bool { return g.GetName() == f.Name })
		if i < 0 {
			t.Errorf("%s is documented and not collected", f.Name)
			continue
		}
		var labels []string
		for _, l := range got[i].GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		want := slices.Sorted(slices.Values(f.Labels))
		if !slices.Equal(labels, want) || strings.ToLower(got[i].GetType().String()) != f.Type {
			t.Errorf("%s is a %v of %v, want %s of %v", f.Name, got[i].GetType(), labels, f.Type, want)
		}
	}
	if len(got) != len(Families()) {
		t.Errorf("%d families are collected, want %d", len(got), len(Families()))
	}
}

func TestAPoolGivesOneClientForEqualOptions(t *testing.T) {
	p := NewPool()
	get := func(o Options) *Client {
		t.Helper()
		c, err := p.Client(o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := get(Options{BaseURL: "https://a.example.com", CallsPerHour: 9})
	if again := get(Options{BaseURL: "https://a.example.com", CallsPerHour: 9}); again != a {
		t.Error("equal options give two clients")
	}
	if other := get(Options{BaseURL: "https://a.example.com", CallsPerHour: 10}); other == a {
		t.Error("another budget gives the old client")
	}
	if got := testutil.CollectAndCount(p, remaining.Name); got != 1 {
		t.Errorf("%d budgets of one host are shown, want the last one", got)
	}
	if _, err := p.Client(Options{}); err == nil {
		t.Error("no error without a URL")
	}
}
