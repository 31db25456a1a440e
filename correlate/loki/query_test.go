package loki_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/upstream"
)

func reader(t *testing.T, timeout time.Duration, h http.HandlerFunc) *loki.Reader {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1, Timeout: timeout, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return loki.NewReader(client, "shop")
}

// A log is a Loki with lines in two streams: it answers with the newest within the range, up to the limit.
type log struct {
	times    []time.Time
	requests int
	broken   int // from this request on; 0: never
	warning  string
}

func (l *log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.requests++
	if l.broken > 0 && l.requests >= l.broken {
		http.Error(w, "too many outstanding requests", http.StatusBadRequest)
		return
	}
	q := r.URL.Query()
	bound := func(name string) int64 { n, _ := strconv.ParseInt(q.Get(name), 10, 64); return n }
	limit := int(bound("limit"))
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	streams := []stream{{Stream: map[string]string{"level": "error"}}, {Stream: map[string]string{"level": "warn"}}}
	taken := 0
	for i, at := range slices.Backward(l.times) {
		if ns := at.UnixNano(); ns >= bound("start") && ns < bound("end") && taken < limit {
			streams[i%2].Values = append(streams[i%2].Values, [2]string{strconv.FormatInt(ns, 10), fmt.Sprint("line ", i)})
			taken++
		}
	}
	answer := map[string]any{"status": "success", "data": map[string]any{"resultType": "streams", "result": streams}}
	if l.warning != "" {
		answer["warnings"] = []string{l.warning}
	}
	json.NewEncoder(w).Encode(answer)
}

func match(name, op, value string) correlate.Matcher {
	return correlate.Matcher{Name: name, Op: op, Value: value}
}

var anything = correlate.LineQuery{Index: []correlate.Matcher{match("owner", "=", "group:default/payments")}, From: noon, To: noon.Add(time.Hour)}

func TestLinesAreReadPageAfterPageAndEachOnce(t *testing.T) {
	each := func(n int, step time.Duration) []time.Time {
		var out []time.Time
		for i := range n {
			out = append(out, noon.Add(time.Duration(i)*step))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		log      log
		limit    int
		from, to int // numbers of the first and last line
		requests int
		partial  string
	}{
		{"a few lines are one page", log{times: each(3, time.Second)}, 0, 0, 2, 1, ""},
		{"no lines are none", log{}, 0, 0, -1, 1, ""},
		{"exactly the limit is whole", log{times: each(100, time.Second)}, 100, 0, 99, 1, ""},
		{"one more than the limit leaves out the oldest, and says so", log{times: each(101, time.Second)}, 100, 1, 100, 1, "only the newest 100 lines"},
		{"many lines are several pages", log{times: each(2500, time.Second)}, 3000, 0, 2499, 3, ""},
		{"lines of one nanosecond across two pages stand once", log{times: slices.Concat(each(20, time.Second), slices.Repeat([]time.Time{noon.Add(time.Minute)}, 995), each(10, 0))}, 3000, 0, 1024, 2, ""},
		{"what Loki warns of is said", log{times: each(3, time.Second), warning: "results are truncated"}, 0, 0, 2, 1, "Loki says: results are truncated"},
		{"a later page that fails leaves the newer lines", log{times: each(2500, time.Second), broken: 3}, 3000, 501, 2499, 3, "too many outstanding requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			slices.SortFunc(c.log.times, time.Time.Compare)
			q := anything
			q.Limit = c.limit
			got, err := reader(t, 0, c.log.ServeHTTP).Lines(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var lines, want []string
			for _, l := range got.Items {
				lines = append(lines, l.Text)
			}
			for i := c.from; i <= c.to; i++ {
				want = append(want, fmt.Sprint("line ", i))
			}
			if !slices.IsSortedFunc(got.Items, func(a, b correlate.Line) int { return a.Time.Compare(b.Time) }) {
				t.Error("the lines are not in the order of time")
			}
			slices.Sort(lines)
			slices.Sort(want)
			if d := cmp.Diff(want, lines); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if c.log.requests != c.requests || !strings.Contains(got.Partial, c.partial) || (got.Partial == "") != (c.partial == "") {
				t.Errorf("%d requests, partial %q; want %d, %q", c.log.requests, got.Partial, c.requests, c.partial)
			}
		})
	}
}

func TestMoreLinesOfOneNanosecondThanAPageEndTheReadingAndAreSaid(t *testing.T) {
	l := &log{times: slices.Repeat([]time.Time{noon.Add(time.Minute)}, 2500)}
	q := anything
	q.Limit = 4000
	got, err := reader(t, 0, l.ServeHTTP).Lines(t.Context(), q)
	if err != nil || len(got.Items) < 1000 || !strings.Contains(got.Partial, "more lines at 2026-03-01T12:01:00Z") || l.requests > 4 {
		t.Errorf("%d lines in %d requests, partial %q, error %v", len(got.Items), l.requests, got.Partial, err)
	}
}

func TestAQueryIsBuiltOfMatchers(t *testing.T) {
	for _, c := range []struct {
		name string
		q    correlate.LineQuery
		want string // of the query, or of the error
	}{
		{"index labels and metadata", correlate.LineQuery{
			Index: []correlate.Matcher{match("service_name", "=~", "checkout|ledger"), match("level", "!=", "info")}, Filter: []correlate.Matcher{match("trace_id", "=", "df4c")},
		}, `{service_name=~"checkout|ledger", level!="info"} | trace_id="df4c"`},
		{"a value that would be a query", correlate.LineQuery{Index: []correlate.Matcher{match("owner", "=", "a\"} or {b=~\".+\\")}}, `{owner="a\"} or {b=~\".+\\"}`},
		{"a value with a line break", correlate.LineQuery{Index: []correlate.Matcher{match("owner", "=", "a\nb")}}, `{owner="a\nb"}`},
		{"a name that would be a query", correlate.LineQuery{Index: []correlate.Matcher{match(`a="b"} | x`, "=", "c")}}, "is no matcher"},
		{"an operator that is none", correlate.LineQuery{Index: []correlate.Matcher{match("a", "or", "c")}}, "is no matcher"},
		{"an expression that is none", correlate.LineQuery{Index: []correlate.Matcher{match("a", "=~", "(")}}, "matcher of a"},
		{"no index label", correlate.LineQuery{Filter: []correlate.Matcher{match("a", "=", "b")}}, "without a matcher of an index label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.From, c.q.To = noon, noon.Add(time.Hour)
			got := ""
			_, err := reader(t, 0, func(w http.ResponseWriter, r *http.Request) {
				got = r.URL.Query().Get("query")
				if r.Header.Get("X-Scope-OrgID") != "shop" || r.URL.Path != "/loki/api/v1/query_range" {
					t.Errorf("%s of tenant %q", r.URL.Path, r.Header.Get("X-Scope-OrgID"))
				}
				fmt.Fprint(w, `{"status":"success","data":{"resultType":"streams","result":[]}}`)
			}).Lines(t.Context(), c.q)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhatIsNoAnswerOfLokiIsAnError(t *testing.T) {
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
	}
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		timeout time.Duration
		want    string
	}{
		{"a page", say("<html>"), 0, "not the JSON"},
		{"another result", say(`{"status":"success","data":{"resultType":"matrix","result":[]}}`), 0, `result type "matrix"`},
		{"an entry without text", say(`{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["1"]]}]}}`), 0, "without a time or text"},
		{"a time that is none", say(`{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["noon","x"]]}]}}`), 0, `"noon" is no time`},
		{"an answer that is too large", say(strings.Repeat(" ", 1<<20+1)), 0, "larger than"},
		{"a silent Loki", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 30 * time.Millisecond, "no whole answer within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := reader(t, c.timeout, c.answer).Lines(t.Context(), anything); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	t.Run("a caller that went away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := reader(t, 0, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }).Lines(ctx, anything)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
}
