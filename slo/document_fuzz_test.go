package slo

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sightline-dev/sightline/catalog"
)

// filled puts values into a document, each as a quoted scalar.
func filled(document string, values ...string) []byte {
	for _, v := range values {
		document = strings.Replace(document, "?", string(appendQuoted(nil, strings.ReplaceAll(v, "?", "!"))), 1)
	}
	return []byte(document)
}

// readsWell checks that what is read gives rules that Prometheus reads, and that whatever is not read is said.
func readsWell(t *testing.T, body []byte) {
	t.Helper()
	slos, problems := readDocument(catalog.NewRef("component", "", "checkout"), body)
	if len(slos)+len(problems) == 0 {
		t.Errorf("neither an objective nor a problem of\n%s", body)
	}
	for _, s := range slos {
		checkRules(t, s)
		for _, idle := range []NoTraffic{NoTrafficIgnore, NoTrafficGood, NoTrafficBad} {
			errs, total := s.counts.queries(idle)
			for _, q := range []string{errs, total} {
				if _, err := parser.ParseExpr(strings.ReplaceAll(q, windowMark, "5m")); err != nil || !strings.Contains(q, windowMark) {
					t.Errorf("%s: %v", q, err)
				}
			}
		}
	}
	for _, p := range problems {
		if p.Message == "" || p.Rule == "" {
			t.Errorf("a problem without message or rule: %+v", p)
		}
	}
}

func FuzzSlothDocument(f *testing.F) {
	f.Add("requests", "99.9", "sum(rate(bad[{{.window}}]))", "sum(rate(all[{{.window}}]))")
	f.Add("latency", "99", `sum(rate(x_count[{{.window}}])) - sum(rate(x_bucket{le="1"}[{{.window}}]))`, "sum(rate(x_count[{{.window}}]))")
	f.Add("probes", "99", "sum(count_over_time(up[{{.window}}]) - sum_over_time(up[{{.window}}]))", "sum(count_over_time(up[{{.window}}]))")
	f.Add("slices", "90", "sum_over_time((x > bool 1)[{{.window}}:5m])", "count_over_time((x > bool 1)[{{.window}}:5m])")
	f.Fuzz(func(t *testing.T, name, objective, errs, total string) {
		readsWell(t, filled(`{version: prometheus/v1, service: checkout, slos: [
  {name: ?, objective: ?, sli: {events: {error_query: ?, total_query: ?}}},
  {name: raw, objective: 99, sli: {raw: {error_ratio_query: ?}}}]}`, name, objective, errs, total, "("+errs+") / ("+total+")"))
	})
}

func FuzzOpenSLODocument(f *testing.F) {
	f.Add("a_total", "b_total", "1M", "2026-01-01 00:00:00", "Europe/Zurich", "0.95", "5m", "lte", "1")
	f.Add(`sum(rate(a{le="0.5"}[{{.window}}]))`, "sum(rate(b[{{.window}}]))", "3M", "2026-04-01 00:00:00", "UTC", "1", "1m", "gt", "0.5")
	f.Fuzz(func(t *testing.T, good, total, window, start, zone, slice, length, op, value string) {
		const head = "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: a}\nspec:\n  service: checkout\n"
		readsWell(t, filled(head+`  budgetingMethod: Timeslices
  timeWindow: [{duration: ?, isRolling: false, calendar: {startTime: ?, timeZone: ?}}]
  indicator: {metadata: {name: a}, spec: {ratioMetric: {counter: true, good: {metricSource: {type: Prometheus, spec: {query: ?}}}, total: {metricSource: {type: Prometheus, spec: {query: ?}}}}}}
  objectives: [{target: 0.99, timeSliceTarget: `+plainOr(slice, "0.9")+`, timeSliceWindow: ?}]
`, window, start, zone, good, total, length))
		readsWell(t, filled(head+`  budgetingMethod: Occurrences
  indicator: {metadata: {name: a}, spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: ?}}}}}
  objectives: [{target: 0.99, op: ?, value: `+plainOr(value, "1")+`}]
`, good, op))
		readsWell(t, filled(head+`  budgetingMethod: Occurrences
  indicator: {metadata: {name: a}, spec: {ratioMetric: {counter: false, rawType: success, raw: {metricSource: {type: Prometheus, spec: {query: ?}}}}}}
  objectives: [{target: 0.99}]
`, "("+good+") / ("+total+")"))
	})
}

// plainOr is a number as it stands, or another one.
func plainOr(number, other string) string {
	if plainDecimal.MatchString(number) {
		return number
	}
	return other
}

func FuzzPyrraDocument(f *testing.F) {
	f.Add("99.9", "4w", `errors_total{code=~"5.."}`, "requests_total", `x_bucket{le="1"}`, "250ms")
	f.Fuzz(func(t *testing.T, target, window, errs, total, bucket, latency string) {
		for _, indicator := range []string{
			`{ratio: {errors: {metric: ?}, total: {metric: ?}}}`, `{latency: {success: {metric: ?}, total: {metric: ?}}}`,
			`{latencyNative: {latency: ?, total: {metric: ?}}}`, `{bool_gauge: {metric: ?}}`,
		} {
			values := map[byte][]string{'r': {errs, total}, 'l': {bucket, total}, 'b': {errs}}[indicator[1]]
			if strings.HasPrefix(indicator, "{latencyNative") {
				values[0] = latency
			}
			readsWell(t, filled("apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: a}\nspec: {target: ?, window: ?, indicator: "+indicator+"}\n", append([]string{target, window}, values...)...))
		}
	})
}
