package slo

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQueriesOfDocumentsBecomeRatesOfEvents(t *testing.T) {
	tests := []struct {
		name, query, want, err string
	}{
		{"a sum of rates stays as it is", `sum(rate(req{code=~"5.."}[{{.window}}]))`, `sum(rate(req{code=~"5.."}[$window]))`, ""},
		{"spaces around the placeholder do not matter", "\n sum(rate(req[ {{ .window }} ]))\n", `sum(rate(req[$window]))`, ""},
		{"increase counts per window and becomes a rate", `sum(increase(a[{{.window}}])) + sum(increase(b[{{.window}}]))`, `sum(rate(a[$window])) + sum(rate(b[$window]))`, ""},
		{"a difference of two sums, as of a latency", `sum(rate(c[{{.window}}])) - sum(rate(b{le="0.3"}[{{.window}}]))`, `sum(rate(c[$window])) - sum(rate(b{le="0.3"}[$window]))`, ""},
		{"a sum with 0 in place of nothing", `sum(rate(a[{{.window}}])) or vector(0)`, `sum(rate(a[$window])) or vector(0)`, ""},
		{"a join with an info metric", `sum(rate(a[{{.window}}]) * on (pod) group_left (team) pod_info)`, `sum(rate(a[$window]) * on (pod) group_left (team) pod_info)`, ""},
		{"a scaled sum", `sum(rate(a[{{.window}}])) / 1000`, `sum(rate(a[$window])) / 1000`, ""},
		{"an increase beside one in a string", `sum(increase(increase_total{a="increase(b[5m])"}[{{.window}}]))`, `sum(rate(increase_total{a="increase(b[5m])"}[$window]))`, ""},
		{"a fixed range", `sum(rate(a[5m]))`, "", "lacks the range"},
		{"a maximum is no sum", `max(rate(a[{{.window}}]))`, "", "no sum of rates"},
		{"an average over time is no rate", `sum(avg_over_time(a[{{.window}}]))`, "", "no sum of rates"},
		{"a filtered sum", `sum(rate(a[{{.window}}])) > 0`, "", "no sum of rates"},
		{"a quotient of two sums", `sum(rate(a[{{.window}}])) / sum(rate(b[{{.window}}]))`, "", "no sum of rates"},
		{"a subquery", `sum(rate(a[{{.window}}:1m]))`, "", "no sum of rates"},
		{"an offset", `sum(rate(a[{{.window}}] offset 1h))`, "", "no sum of rates"},
		{"the window in a metric's name", `job:errors:rate{{.window}}`, "", "whole range of a selector"},
		{"another template expression", `sum(rate(a{s="{{.service}}"}[{{.window}}]))`, "", "template expression"},
		{"broken PromQL", `sum(rate(a[{{.window}}])`, "", "does not parse"},
		{"nothing", " ", "", "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := eventRate(tt.query)
			checkQuery(t, got, err, tt.want, tt.err)
		})
	}
}

func checkQuery(t *testing.T, got string, err error, want, wantErr string) {
	t.Helper()
	switch {
	case wantErr == "" && err != nil:
		t.Errorf("got error %v", err)
	case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
		t.Errorf("got %q, error %v, want an error with %q", got, err, wantErr)
	case got != want:
		t.Error(cmp.Diff(want, got))
	}
}

func TestPlainCountersBecomeRates(t *testing.T) {
	tests := []struct {
		name, query, want, err string
	}{
		{"a sum of a counter", `sum(req_total{code=~"2.."})`, `sum(rate(req_total{code=~"2.."}[$window]))`, ""},
		{"two counters", `sum by (x) (a_total) + sum by (x) (b_total)`, `sum by (x) (rate(a_total[$window])) + sum by (x) (rate(b_total[$window]))`, ""},
		{"a query that has the window already", `sum(increase(a_total[{{.window}}]))`, `sum(rate(a_total[$window]))`, ""},
		{"a fixed range", `sum(rate(a_total[5m]))`, "", "no sum of counters"},
		{"a quotient", `sum(a_total) / sum(b_total)`, "", "no sum of counters"},
		{"a counter of another time", `sum(a_total offset 1h)`, "", "no sum of counters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := counterRate(tt.query)
			checkQuery(t, got, err, tt.want, tt.err)
		})
	}
}

func TestRatiosAreSplitIntoTheirCounts(t *testing.T) {
	tests := []struct {
		name, query string
		success     bool
		want, err   string
	}{
		{"bad of all", `sum(rate(bad[{{.window}}])) / sum(rate(all[{{.window}}]))`, false, `sum(rate(bad[$window])) | sum(rate(all[$window]))`, ""},
		{"one minus good of all", `1 - (sum(increase(good[{{.window}}])) / sum(increase(all[{{.window}}])))`, false, `(sum(rate(all[$window]))) - ((sum(rate(good[$window]))) or 0 * (sum(rate(all[$window])))) | sum(rate(all[$window]))`, ""},
		{"good of all, said to be success", `sum(rate(good[{{.window}}])) / sum(rate(all[{{.window}}]))`, true, `(sum(rate(all[$window]))) - ((sum(rate(good[$window]))) or 0 * (sum(rate(all[$window])))) | sum(rate(all[$window]))`, ""},
		{"one minus a mean over time, of samples", `1 - avg_over_time(probe_success[{{.window}}])`, false, `sum(count_over_time(probe_success[$window]) - sum_over_time(probe_success[$window])) / 300 | sum(count_over_time(probe_success[$window])) / 300`, ""},
		{"a mean of means has no counts", `1 - avg(avg_over_time(probe_success[{{.window}}]))`, false, "", "no quotient"},
		{"a quotient of something else", `avg_over_time(a[{{.window}}]) / avg_over_time(b[{{.window}}])`, false, "", "the upper part"},
		{"a quotient matched on labels", `sum by (a) (rate(x[{{.window}}])) / on (a) sum by (a, b) (rate(y[{{.window}}]))`, false, "", "no quotient"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := countsOfRatio(tt.query, tt.success)
			got := ""
			if err == nil {
				got = c.errors + " | " + c.total
			}
			checkQuery(t, got, err, tt.want, tt.err)
		})
	}
}
