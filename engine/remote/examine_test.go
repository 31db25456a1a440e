package remote

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

func TestExamineFindsWhatIsWrongWithAStore(t *testing.T) {
	const day = 24 * time.Hour
	const count, entities = "count(group by (sloth_id) (slo:objective:ratio))", "count(sightline_entity_info)"
	// well is a Prometheus in order, by path, and by query.
	well := map[string]string{
		"/api/v1/status/buildinfo":   `{"status":"success","data":{"version":"3.14.0"}}`,
		"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"40d"}}`,
		"/api/v1/status/flags":       `{"status":"success","data":{"storage.tsdb.retention.time":"40d","web.enable-lifecycle":"false"}}`,
		count:                        `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"12"]}]}}`,
		entities:                     `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"40"]}]}}`,
		"vector(1)":                  `{"status":"success","data":{"resultType":"vector","result":[]}}`,
	}
	const none = `{"status":"success","data":{"resultType":"vector","result":[]}}`
	tests := map[string]struct {
		change map[string]string
		opts   func(*ExamineOptions)
		bad    []string
	}{
		"all is well": {},
		"nothing of Prometheus's is there": {
			change: map[string]string{"/api/v1/status/buildinfo": "", "vector(1)": ""},
			bad:    []string{"error: ask for the version: URL/api/v1/status/buildinfo answered 404 Not Found"},
		},
		"it is a web page": {
			change: map[string]string{"/api/v1/status/buildinfo": `{}`},
			bad:    []string{"error: ask for the version: the answer is not Prometheus's: it has no status"},
		},
		"it tells neither version nor retention": {
			change: map[string]string{"/api/v1/status/buildinfo": "", "/api/v1/status/runtimeinfo": "", "/api/v1/status/flags": ""},
			bad:    []string{"skipped: it does not tell how long samples are kept"},
		},
		"it keeps samples for too short": {
			change: map[string]string{"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"15d"}}`},
			bad:    []string{"error: it keeps samples for 15d, less than the window of component:default/cart availability, 30d: budgets are wrong"},
		},
		"only the flag tells": {
			change: map[string]string{"/api/v1/status/runtimeinfo": "", "/api/v1/status/flags": `{"status":"success","data":{"storage.tsdb.retention.time":"2w"}}`},
			bad:    []string{"error: it keeps samples for 14d, less than the window of component:default/cart availability, 30d: budgets are wrong"},
		},
		"the flag stands for Prometheus's default": {
			change: map[string]string{"/api/v1/status/runtimeinfo": "", "/api/v1/status/flags": `{"status":"success","data":{"storage.tsdb.retention.time":"0s"}}`},
			bad:    []string{"error: it keeps samples for 15d, less than the window of component:default/cart availability, 30d: budgets are wrong"},
		},
		"it keeps samples by size too": {
			change: map[string]string{"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"90d or 10GiB"}}`},
			bad:    []string{"warning: it keeps samples for 90d, or up to a size of 10GiB; the longest window is 30d"},
		},
		"it keeps samples by size alone": {
			change: map[string]string{"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"10GiB"}}`},
			bad:    []string{"skipped: it keeps samples up to a size of 10GiB, for however long that is"},
		},
		"it cannot be told to load rules": {
			opts: func(o *ExamineOptions) { o.Reload = true },
			bad:  []string{"error: it cannot be told to load rules"},
		},
		"it has no rules": {
			change: map[string]string{count: none},
			bad:    []string{"error: it evaluates none of 12 objectives"},
		},
		"it has old rules": {
			opts: func(o *ExamineOptions) { o.Objectives = 13 },
			bad:  []string{"warning: it evaluates 12 objectives of 13"},
		},
		"it does not scrape Sightline": {
			change: map[string]string{entities: none},
			bad:    []string{"warning: it has no sightline_entity_info: Sightline itself is not scraped"},
		},
		"it answers no queries": {
			change: map[string]string{count: `{"status":"error","error":"too busy"}`},
			bad:    []string{"error: ask for the objectives that it evaluates: the answer is not Prometheus's: too busy"},
		},
		"nothing is wanted of it": {
			change: map[string]string{count: none, entities: none, "/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"1d"}}`},
			opts:   func(o *ExamineOptions) { o.Objectives, o.Window = 0, 0 },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			table := maps.Clone(well)
			maps.Copy(table, tt.change)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				key := r.URL.Path
				if q := r.URL.Query().Get("query"); q != "" {
					key = q
				}
				if r.Header.Get("X-Scope-OrgID") != "platform" {
					t.Errorf("%s: the tenant is %q", key, r.Header.Get("X-Scope-OrgID"))
				}
				if table[key] == "" {
					http.NotFound(w, r)
					return
				}
				w.Write([]byte(table[key]))
			}))
			defer srv.Close()
			c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			o := ExamineOptions{Key: "store.url", Tenant: "platform", Window: 30 * day, WindowOf: "component:default/cart availability", Objectives: 12}
			if tt.opts != nil {
				tt.opts(&o)
			}
			var bad []string
			for _, f := range Examine(t.Context(), c, o) {
				if f.Level != upstream.LevelOK {
					bad = append(bad, string(f.Level)+": "+strings.ReplaceAll(f.Message, srv.URL, "URL"))
				}
				if f.Level == upstream.LevelError && f.Hint == "" && name != "it answers no queries" {
					t.Errorf("%q has no hint", f.Message)
				}
			}
			for i := range bad {
				bad[i] = strings.TrimSuffix(bad[i], ": 404 page not found")
			}
			if diff := cmp.Diff(tt.bad, bad); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
