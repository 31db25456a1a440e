package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/enginetest"
	"github.com/sightline-dev/sightline/engine/remote"
)

var end = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

func embedded(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	o.Path, o.Now = t.TempDir(), func() time.Time { return end.Add(time.Second) }
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func client(t *testing.T, h http.Handler, change func(*remote.Options)) *remote.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	o := remote.Options{URL: srv.URL + "/prometheus/"}
	if change != nil {
		change(&o)
	}
	c, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// below serves a handler under a prefix, as Mimir does.
func below(h http.Handler) http.Handler { return http.StripPrefix("/prometheus", h) }

func TestEmbeddedAndRemoteStoresAnswerAlike(t *testing.T) {
	e := embedded(t, engine.Options{})
	if err := e.Append(t.Context(), enginetest.Samples(end)); err != nil {
		t.Fatal(err)
	}
	// The API asks the real clock for now; the embedded engine has its own.
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if strings.HasSuffix(r.URL.Path, "/query") && r.Form.Get("time") == "" {
			r.Form.Set("time", fmt.Sprint(end.Unix()+1))
		}
		e.QueryHandler().ServeHTTP(w, r)
	})
	t.Run("embedded", func(t *testing.T) { enginetest.TestQuerier(t, e, end) })
	t.Run("remote", func(t *testing.T) { enginetest.TestQuerier(t, client(t, below(api), nil), end) })
	t.Run("remote without POST", func(t *testing.T) {
		enginetest.TestQuerier(t, client(t, below(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			api(w, r)
		})), nil), end)
	})
}

func TestANativeHistogramIsRefusedByBoth(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: ".", NativeHistogramBucketFactor: 1.1})
	reg.MustRegister(h)
	h.Observe(1)
	e := embedded(t, engine.Options{Gatherer: reg, NativeHistograms: true})
	if err := e.Collect(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]engine.Querier{"embedded": e, "remote": client(t, below(e.QueryHandler()), nil)} {
		if got, err := q.Query(t.Context(), "h", end); !errors.Is(err, engine.ErrHistogram) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if got, err := q.QueryRange(t.Context(), "h", end, end, time.Minute); !errors.Is(err, engine.ErrHistogram) {
			t.Errorf("%s, range: %v, %v", name, got, err)
		}
	}
}

func TestAlertsComeFromTheAPIOrTheirSeries(t *testing.T) {
	e := embedded(t, engine.Options{})
	rules := `groups: [{name: g, rules: [
		{alert: B, expr: vector(7), labels: {owner: b}, annotations: {summary: "s"}},
		{alert: A, expr: vector(8), for: 1h, labels: {owner: a}}]}]`
	if err := e.SetRules(map[string][]byte{"a": []byte(rules)}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := e.Evaluate(t.Context(), end.Add(time.Duration(i-1)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	since := end.Add(-time.Minute)
	// Only a running rule manager writes the series of alerts, so they are written here as it does.
	if err := e.Append(t.Context(), []engine.Sample{
		{Labels: map[string]string{"__name__": "ALERTS", "alertname": "A", "owner": "a", "alertstate": "pending"}, Value: 1, Time: end},
		{Labels: map[string]string{"__name__": "ALERTS_FOR_STATE", "alertname": "A", "owner": "a"}, Value: float64(since.Unix()), Time: end},
		{Labels: map[string]string{"__name__": "ALERTS", "alertname": "B", "owner": "b", "alertstate": "firing"}, Value: 1, Time: end},
		{Labels: map[string]string{"__name__": "ALERTS_FOR_STATE", "alertname": "B", "owner": "b"}, Value: float64(since.Unix()), Time: end},
	}); err != nil {
		t.Fatal(err)
	}
	a, b := map[string]string{"alertname": "A", "owner": "a"}, map[string]string{"alertname": "B", "owner": "b"}
	whole := []engine.Alert{
		{Name: "A", Labels: a, Annotations: map[string]string{}, State: "pending", ActiveAt: since, Value: 8},
		{Name: "B", Labels: b, Annotations: map[string]string{"summary": "s"}, State: "firing", ActiveAt: since, Value: 7},
	}
	series := []engine.Alert{
		{Name: "A", Labels: a, Annotations: map[string]string{}, State: "pending", ActiveAt: since, Value: 1},
		{Name: "B", Labels: b, Annotations: map[string]string{}, State: "firing", ActiveAt: since, Value: 1},
	}
	atEnd := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/alerts") {
			http.NotFound(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		r.Form.Set("time", fmt.Sprint(end.Unix()))
		e.QueryHandler().ServeHTTP(w, r)
	})
	for name, test := range map[string]struct {
		h    http.Handler
		want []engine.Alert
	}{"API": {e.QueryHandler(), whole}, "series": {atEnd, series}} {
		got, err := client(t, below(test.h), nil).Alerts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheTokenIsReadAnewAndTheTenantIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var seen []string
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization")+" "+r.Header.Get("X-Scope-OrgID")+" "+r.FormValue("timeout"))
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store b is down"]}`)
	}), func(o *remote.Options) { o.TokenFile, o.Tenant, o.Timeout = file, "t1", 7*time.Second })
	if _, err := c.Query(t.Context(), "m", end); err == nil || !strings.Contains(err.Error(), "token_file") {
		t.Errorf("a missing token file: %v", err)
	}
	ctx, warnings := engine.WithWarnings(t.Context())
	for _, token := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Query(ctx, "m", end); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"Bearer one t1 7s", "Bearer two t1 7s"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"store b is down"}, warnings.List()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestATokenDoesNotFollowARedirectToAnotherHost(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	defer other.Close()
	c := client(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect), nil)
	if _, err := c.Query(t.Context(), "m", end); err == nil {
		t.Error("no error")
	}
}

func TestWhatIsWrongWithTheStoreIsSaidWithAHint(t *testing.T) {
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, body) }
	}
	for name, test := range map[string]struct {
		h         http.Handler
		err, hint string
	}{
		"a wrong token":   {answer(401, `{"status":"error","error":"no org id"}`), "401 Unauthorized: no org id", "store.token_file"},
		"a weak token":    {answer(403, "no"), "403 Forbidden", "store.tenant"},
		"a wrong path":    {answer(404, "404 page not found"), "404 Not Found", "before /api/v1"},
		"garbage":         {answer(200, "<html>"), "bad_response", "not Prometheus's"},
		"another API":     {answer(200, `{"status":"success"}`), "no result", "not Prometheus's"},
		"a store in need": {answer(503, "busy"), "503", "runs"},
		"a query timeout": {answer(422, `{"status":"error","errorType":"timeout","error":"query timed out"}`), "query timed out", "too busy"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, test.h, nil)
			_, err := c.Query(t.Context(), "m", end)
			check(t, err, test.err, test.hint)
			_, err = c.QueryRange(t.Context(), "m", end, end, time.Minute)
			check(t, err, test.err, test.hint)
		})
	}
	t.Run("a store that is down", func(t *testing.T) {
		srv := httptest.NewServer(answer(200, ""))
		srv.Close()
		c, err := remote.New(remote.Options{URL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Query(t.Context(), "m", end)
		check(t, err, "connection refused", "runs")
		_, err = c.Alerts(t.Context())
		check(t, err, "connection refused", "runs")
	})
	t.Run("a caller who goes away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		slow := make(chan struct{})
		c := client(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(); <-slow }), nil)
		defer close(slow)
		if _, err := c.Query(ctx, "m", end); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func check(t *testing.T, err error, want, hint string) {
	t.Helper()
	var h interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &h) || !strings.Contains(h.Hint(), hint) {
		t.Errorf("got %v (%v), want %q with the hint %q", err, h, want, hint)
	}
}
