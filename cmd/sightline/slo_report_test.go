package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// storeOfOctober serves the series of three days, of which the second has 25 hours: ten events a second of checkout, of which
// 1500 were bad on the second day and 300 on the third. A name is hostile.
func storeOfOctober(t *testing.T) (url string) {
	t.Helper()
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	from, to := time.Date(2025, 10, 25, 0, 0, 0, 0, zurich), time.Date(2025, 10, 28, 0, 0, 0, 0, zurich)
	e, err := engine.Open(engine.Options{Path: t.TempDir(), Retention: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	const entity, owner, hostile = "component:default/checkout", "group:default/payments", "a|b <script>"
	ids := map[string]string{"entity": entity, "sloth_id": "component.default.checkout-availability", "sloth_service": "component.default.checkout", "sloth_slo": "availability"}
	with := func(labels map[string]string, more ...string) map[string]string {
		out := map[string]string{}
		for k, v := range labels {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	var samples []engine.Sample
	add := func(at time.Time, v float64, labels map[string]string) {
		samples = append(samples, engine.Sample{Labels: labels, Time: at, Value: v})
	}
	incident := time.Date(2025, 10, 26, 10, 0, 0, 0, zurich)
	late := time.Date(2025, 10, 27, 23, 58, 0, 0, zurich)
	for at := from.Add(5 * time.Minute); !at.After(to); at = at.Add(5 * time.Minute) {
		bad, runs, deployments := 0.0, 0.0, 0.0
		if at.After(incident) && !at.After(incident.Add(25*time.Minute)) || at.Equal(to) { // the last sample holds what was just before midnight
			bad = 1
		}
		if at.After(incident.Add(-time.Hour)) {
			runs, deployments = 2, 1
		}
		add(at, 10, with(ids, "__name__", slo.SeriesTotalPeriod))
		add(at, bad, with(ids, "__name__", slo.SeriesErrorsPeriod))
		add(at, runs, map[string]string{"__name__": "cicd_pipeline_runs_total", "entity": entity, "owner": owner, "cicd_pipeline_name": hostile, "cicd_pipeline_result": "failure"})
		add(at, deployments, map[string]string{"__name__": "sightline_deployments_total", "entity": entity, "owner": owner, "environment_tier": "production", "result": "success"})
	}
	for i := range 30 {
		add(incident.Add(time.Duration(i+1)*time.Minute), 1, with(ids, "__name__", "ALERTS", "alertname", "SLOErrorBudgetBurn", "alertstate", "firing", "severity", "page", "owner", owner))
	}
	for _, service := range []string{"checkout", "ledger"} { // ledger has no events
		l := with(ids, "owner", owner, "entity", "component:default/"+service, "sloth_service", "component.default."+service, "sloth_id", "component.default."+service+"-availability")
		add(late, 30, with(l, "__name__", slo.SeriesPeriodDays))
		add(late, 1, with(l, "__name__", slo.SeriesInfo, "sloth_objective", "99.9"))
	}
	slices.SortStableFunc(samples, func(a, b engine.Sample) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	if err := e.Append(t.Context(), samples); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e.QueryHandler())
	t.Cleanup(srv.Close)
	return srv.URL
}

const reportOfOctober = `# Error budgets of group:default/payments

2025-10-25 to 2025-10-27 (Europe/Zurich): 2 objectives, 0 missed, 1 without data.

| entity | indicator | target | attained | budget spent | left | by day |
|---|---|---:|---:|---:|---:|---|
| component:default/checkout | availability | 99.9% | 99.932% | 68.5% | 31.5% | ▁█▂ |
| component:default/ledger | availability | 99.9% | – | – | – |  |

## 2025-10-26

| entity | indicator | budget spent |
|---|---|---:|
| component:default/checkout | availability | 57.1% |

Alerts:

* 10:00 SLOErrorBudgetBurn (page) component:default/checkout availability, 30m

Deployments:

* component:default/checkout: 1 to production, success

Pipelines:

* component:default/checkout: 2 of a\|b \<script\>, failure

## 2025-10-27

| entity | indicator | budget spent |
|---|---|---:|
| component:default/checkout | availability | 11.4% |

No alert, deployment or pipeline is known of this day.

The budget is that of the period: (1 − target) × all its events. The days add up to what is spent. Maintenance and corrections are not known to a Prometheus: all minutes count here. With --server or --config they are left out.
`

func TestAReportSaysWhenABudgetWasSpentAndWhatHappenedThen(t *testing.T) {
	url := storeOfOctober(t)
	command := func(more ...string) (code int, stdout, stderr string) {
		return sightline(t, nil, append([]string{"slo", "report", "--prometheus", url, "--owner", "payments", "--from", "2025-10-25", "--to", "2025-10-27", "--timezone", "Europe/Zurich"}, more...)...)
	}
	code, out, stderr := command()
	if diff := gocmp.Diff(reportOfOctober, out); diff != "" || code != 0 {
		t.Errorf("exit code %d, %s (-want +got)\n%s", code, stderr, diff)
	}

	file := filepath.Join(t.TempDir(), "report.html")
	if code, out, stderr = command("--format", "html", "--output", file); code != 0 || out != "" {
		t.Fatalf("exit code %d: %s%s", code, out, stderr)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"68.5%", "57.1%", `style="height:100.0%"`, "2 of a|b &lt;script&gt;, failure", "10:00 SLOErrorBudgetBurn", "1500 of 900000 events bad"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%s is not in the page:\n%s", want, page)
		}
	}
	if strings.Contains(string(page), "<script>") {
		t.Error("a name became a part of the page")
	}

	if code, out, stderr = command("--format", "csv"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(lines) != 7 {
		t.Fatalf("%v: %d lines, want a head and three days of two objectives:\n%s", err, len(lines), out)
	}
	sum := 0.0
	for _, l := range lines[1:4] {
		v, err := strconv.ParseFloat(l[8], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	var doc struct {
		Objectives []struct {
			Spent  *float64 `json:"budget_spent"`
			Events float64
		}
	}
	if code, out, stderr = command("--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Objectives) != 2 || *doc.Objectives[0].Spent != sum || doc.Objectives[0].Events != 73*3600*10 || doc.Objectives[1].Spent != nil {
		t.Errorf("%v: the days of the CSV add up to %v: %s", err, sum, out)
	}
	if code, out, _ = command("--worst-days", "0"); code != 0 || strings.Contains(out, "## ") {
		t.Errorf("exit code %d, and no day was asked for: %s", code, out)
	}
}

func TestAReportLeavesOutWhatDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"catalog-info.yaml": shop,
		"exclusions.yaml":   "kind: correction\nentity: component:default/checkout\nfrom: 2025-10-26T10:00:00+01:00\nto: 2025-10-26T10:10:00+01:00\nby: user:default/anna\nreason: a load test\n",
		"sightline.yaml":    "catalog: {files: [" + filepath.Join(dir, "catalog-info.yaml") + "]}\nslo: {timezone: Europe/Zurich, exclusions: [" + filepath.Join(dir, "exclusions.yaml") + "]}\nstore: {url: " + storeOfOctober(t) + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, stderr := sightline(t, nil, "slo", "report", "--config", filepath.Join(dir, "sightline.yaml"), "--owner", "payments", "--from", "2025-10-25", "--to", "2025-10-27", "--format", "json")
	var doc struct {
		Objectives []struct{ Errors, Events float64 }
		Exclusions []struct {
			Reason     string
			Objectives []string
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	// The samples of 10:05 to 10:20 can hold an event of these minutes; that of 10:25 is the fifth bad one, and one is of the 27th.
	if o := doc.Objectives[0]; o.Errors != 600 || o.Events != 73*3600*10-4*3000 {
		t.Errorf("%v of %v events are bad", o.Errors, o.Events)
	}
	if len(doc.Exclusions) != 1 || doc.Exclusions[0].Reason != "a load test" || len(doc.Exclusions[0].Objectives) != 1 {
		t.Errorf("left out: %+v", doc.Exclusions)
	}
}

func TestAPeriodIsNamedInSeveralWays(t *testing.T) {
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 17, 0, 0, 0, zurich)
	for name, tt := range map[string]struct{ period, from, to, want string }{
		"a month":           {"2026-10", "", "", "2026-10-01T00:00:00+02:00 2026-11-01T00:00:00+01:00"},
		"a quarter":         {"2026-Q4", "", "", "2026-10-01T00:00:00+02:00 2027-01-01T00:00:00+01:00"},
		"a year":            {"2024", "", "", "2024-01-01T00:00:00+01:00 2025-01-01T00:00:00+01:00"},
		"nothing":           {"", "", "", "2026-11-01T00:00:00+01:00 2026-12-01T00:00:00+01:00"},
		"days":              {"", "2026-10-24", "2026-10-25", "2026-10-24T00:00:00+02:00 2026-10-26T00:00:00+01:00"},
		"a first day":       {"", "2026-11-20", "", "2026-11-20T00:00:00+01:00 2026-11-26T00:00:00+01:00"},
		"a month too many":  {"2026-13", "", "", `error: --period: "2026-13" is not a period`},
		"a quarter of five": {"2026-Q5", "", "", `error: --period: "2026-Q5" is not a period`},
		"a last day alone":  {"", "", "2026-10-25", "error: --to without --from"},
		"days backwards":    {"", "2026-10-25", "2026-10-24", "error: --to 2026-10-24 is before --from 2026-10-25"},
		"no day":            {"", "25.10.2026", "", `error: --from: "25.10.2026" is not a day`},
		"too many days":     {"", "2020-01-01", "2026-01-01", "error: the report is longer than a year"},
	} {
		from, to, err := reportPeriod(tt.period, tt.from, tt.to, now)
		got := from.Format(time.RFC3339) + " " + to.Format(time.RFC3339)
		if err != nil {
			got = "error: " + err.Error()
			if hintOf(err) == "" {
				t.Errorf("%s: the error has no hint", name)
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	for name, args := range map[string][]string{
		"nobody":            {"--server", "http://127.0.0.1:1"},
		"no such time zone": {"--owner", "payments", "--timezone", "Mars/Base"},
		"a period to come":  {"--owner", "payments", "--period", "2999-01"},
		"no such format":    {"--owner", "payments", "--format", "pdf"},
		"two periods":       {"--owner", "payments", "--period", "2025-01", "--from", "2025-01-01"},
	} {
		if code, _, stderr := sightline(t, nil, append([]string{"slo", "report"}, args...)...); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
	}
	if code, _, stderr := sightline(t, nil, "slo", "report", "--owner", "payments", "--prometheus", "http://127.0.0.1:1"); code != exitUpstream {
		t.Errorf("nobody answers: exit code %d: %s", code, stderr)
	}
}
