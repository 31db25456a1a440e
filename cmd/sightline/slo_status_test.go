package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// shop is a catalog with three objectives.
const shop = `
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: payments}
spec: {type: team, children: []}
---
apiVersion: backstage.io/v1alpha1
kind: System
metadata: {name: shop}
spec: {owner: payments}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: checkout, annotations: {sightline.dev/objective.availability: "99.9", sightline.dev/objective.latency: "off", sightline.dev/runbook: "https://runbooks.example.com/checkout"}}
spec: {type: service, lifecycle: experimental, owner: payments, system: shop}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: ledger, annotations: {sightline.dev/objective.availability: "99.5", sightline.dev/window: calendar-month}}
spec: {type: service, lifecycle: experimental, owner: payments, system: shop}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: search, annotations: {sightline.dev/objective.availability: "99"}}
spec: {type: service, lifecycle: experimental, owner: payments}
`

// serveShop runs the real server on the shop. The budget of checkout has fallen to 42 %, that of ledger is overspent
// while it burns, and search has no data. It wants the token "secret" where that is asked for.
func serveShop(t *testing.T, token bool) (url, tokenFile string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "catalog-info.yaml")
	tokenFile = filepath.Join(dir, "token")
	for name, text := range map[string]string{file: shop, tokenFile: "secret\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &config.Config{Catalog: config.Catalog{Files: []string{file}}}
	ctx, stop := context.WithCancel(context.Background())
	started, done := make(chan string, 1), make(chan error, 1)
	o := server.Options{
		Compile: compiler(func() (*config.Config, error) { return c, nil }, upstream.NewPool()), Listen: "127.0.0.1:0", Path: filepath.Join(dir, "data"),
		Logger: slog.New(slog.DiscardHandler), NeedAuth: token, Version: "test",
		Warm: func(ctx context.Context, e *engine.Engine) error { return e.Append(ctx, shopSeries(time.Now())) },
	}
	if token {
		o.Auth = auth.Options{TokenFiles: []string{tokenFile}}
	}
	go func() {
		done <- serve(ctx, environment{stderr: &bytes.Buffer{}, env: func(string) string { return "" }}, o, func(url string) { started <- url })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	select {
	case url = <-started:
	case err := <-done:
		done <- nil
		t.Fatalf("serve: %v", err)
	}
	return url, tokenFile
}

// shopSeries are what the rules have recorded up to a time.
func shopSeries(now time.Time) (out []engine.Sample) {
	series := func(name, entity string, at time.Time, v float64, more map[string]string) {
		l := map[string]string{
			"__name__": name, "entity": "component:default/" + entity, "owner": "group:default/payments", "sloth_id": "component.default." + entity + "-availability",
			"sloth_service": "component.default." + entity, "sloth_slo": "availability",
		}
		if entity != "search" {
			l["system"] = "system:default/shop"
		}
		for k, v := range more {
			l[k] = v
		}
		out = append(out, engine.Sample{Labels: l, Time: at, Value: v})
	}
	for i := 50; i > 0; i-- {
		series(slo.SeriesBudgetRemaining, "checkout", now.Add(-time.Duration(i)*time.Minute), 0.42+float64(i-1)*0.01, nil)
	}
	series(slo.SeriesErrorRatio+"1h", "checkout", now.Add(-time.Minute), 0.0005, nil)
	series(slo.SeriesBudgetRemaining, "ledger", now.Add(-time.Minute), -0.1, nil)
	series(slo.SeriesErrorRatio+"1h", "ledger", now.Add(-time.Minute), 0.05, nil)
	series(slo.SeriesErrorRatio+"_month", "ledger", now.Add(-time.Minute), 0.0055, map[string]string{"sloth_window": "calendar-month"})
	for entity, target := range map[string]string{"checkout": "99.9", "ledger": "99.5", "search": "99"} {
		series(slo.SeriesInfo, entity, now.Add(-time.Minute), 1, map[string]string{"sloth_objective": target})
		series(slo.SeriesPeriodDays, entity, now.Add(-time.Minute), 30, nil)
	}
	return out
}

// sightline runs a command line and gives what it wrote.
func sightline(t *testing.T, vars map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), environment{nil, &out, &err, func(name string) string { return vars[name] }, nil}, args)
	return code, out.String(), err.String()
}

func TestStatusIsTheSameFromAServerAndFromItsPrometheus(t *testing.T) {
	url, token := serveShop(t, true)
	want := `STATE      OWNER     ENTITY    INDICATOR     TARGET  WINDOW          ATTAINED  BUDGET LEFT  BURN 1H  TREND
breaching  payments  ledger    availability   99.5%  calendar-month   99.450%       -10.0%    10.00                 ▁
no_data    payments  search    availability     99%  30d                    -            -        -
ok         payments  checkout  availability   99.9%  30d              99.942%        42.0%     0.50                 ▄
`
	conf := filepath.Join(t.TempDir(), "sightline.yaml")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf("catalog: {files: [x.yaml]}\nserver: {url: %s, auth: {token_files: [%s]}}\n", url, token)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		vars map[string]string
		args []string
	}{
		"a server":                         {nil, []string{"--server", url, "--token-file", token}},
		"a Prometheus":                     {nil, []string{"--prometheus", url, "--token-file", token}},
		"the environment":                  {map[string]string{"SIGHTLINE_URL": url + "/", "SIGHTLINE_TOKEN_FILE": token}, nil},
		"a Prometheus in the environment":  {map[string]string{"SIGHTLINE_PROMETHEUS_URL": url + "/", "SIGHTLINE_TOKEN_FILE": token}, nil},
		"the configuration":                {map[string]string{"SIGHTLINE_URL": "http://127.0.0.1:1"}, []string{"--config", conf}},
		"filters that pick all":            {nil, []string{"--server", url, "--token-file", token, "--owner", "payments", "--indicator", "availability"}},
		"a flag is nearer than a variable": {map[string]string{"SIGHTLINE_URL": "http://127.0.0.1:1"}, []string{"--prometheus", url, "--token-file", token}},
	} {
		code, out, stderr := sightline(t, tt.vars, append([]string{"slo", "status"}, tt.args...)...)
		if diff := cmp.Diff(want, out); diff != "" || code != 0 {
			t.Errorf("%s: exit code %d, %s(-want +got)\n%s", name, code, stderr, diff)
		}
	}
}

func TestAGateHoldsADeploymentBack(t *testing.T) {
	url, _ := serveShop(t, false)
	tests := map[string]struct {
		args string
		code int
		want []string // in stderr
	}{
		"an objective meets it":                         {"--entity checkout --gate budget>10%,burn<2", 0, []string{"the gate budget>10%,burn<2 is met by 1 objective\n"}},
		"one does not, and what to do is said":          {"--entity checkout --gate budget>50%", 1, []string{"component:default/checkout availability: budget left 42%, wanted budget>50%", "hint: deploy only what", "runbook: https://runbooks.example.com/checkout"}},
		"one burns":                                     {"--system shop --gate burn<2", 1, []string{"component:default/ledger availability: burn rate 10, wanted burn<2", "end the incident"}},
		"no data is a failure":                          {"--entity search --gate budget>10%", 1, []string{"component:default/search availability: no data", "--gate-allow-no-data"}},
		"no data passes where that is said":             {"--entity search --gate budget>10% --gate-allow-no-data", 0, []string{"is met by 1 objective"}},
		"nothing at all is a failure":                   {"--entity nothing --gate budget>10%", 1, []string{"no objective matches"}},
		"nothing at all passes where that is said":      {"--entity nothing --gate budget>10% --gate-allow-no-data", 0, []string{"is met by 0 objectives"}},
		"a filter picks by system":                      {"--system shop --gate budget>-20%", 0, []string{"is met by 2 objectives"}},
		"a gate that cannot be read is wrong usage":     {"--gate budget>10", 2, []string{`write "budget>10%"`}},
		"an empty gate is wrong usage, not no gate":     {"--gate=", 2, []string{"is no condition"}},
		"a permission without a gate is wrong usage":    {"--gate-allow-no-data", 2, []string{"has no effect without --gate"}},
		"two places to ask are one too many":            {"--prometheus http://127.0.0.1:1", 2, []string{"two places"}},
		"an owner that cannot be one is wrong usage":    {"--owner a:b:c/d/e", 2, []string{"--owner"}},
		"an owner whose name is unknown picks nothing":  {"--owner nobody --gate burn<2", 1, []string{"no objective matches"}},
		"an indicator may be written as in annotations": {"--indicator availability --entity checkout --gate burn<2", 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := sightline(t, nil, append([]string{"slo", "status", "--server", url}, strings.Fields(tt.args)...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is not in %s", want, stderr)
				}
			}
		})
	}

	code, out, _ := sightline(t, nil, "slo", "status", "--server", url, "--entity", "ledger", "--format", "json", "--gate", "budget>0%")
	var got struct {
		Items []struct{ Status string }
		Gate  struct {
			Passed   bool
			Failures []struct{ ID string }
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || got.Gate.Passed || len(got.Items) != 1 || got.Items[0].Status != "breaching" || got.Gate.Failures[0].ID != "component.default.ledger-availability" {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}

func TestStatusTellsSilenceFromABadBudget(t *testing.T) {
	url, _ := serveShop(t, true)
	down := httptest.NewServer(nil)
	down.Close()
	stale := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"items":[{"entity":"component:default/checkout","budget_remaining":1}],"total":1,"store_error":"the store is away"}`)
	}))
	t.Cleanup(stale.Close)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"nobody is there":           {[]string{"--prometheus", down.URL}, "check that it runs and that --prometheus is right"},
		"no Sightline is there":     {[]string{"--server", down.URL}, "check that it runs and that --server is right"},
		"the token is missing":      {[]string{"--server", url}, "--token-file"},
		"a Prometheus wants one":    {[]string{"--prometheus", url}, "--token-file"},
		"the figures are old":       {[]string{"--server", stale.URL, "--gate", "budget>10%"}, "the store is away"},
		"it is no URL":              {[]string{"--server", "localhost:9469"}, "write it like http"},
		"it is no Prometheus's URL": {[]string{"--prometheus", "localhost:9090"}, "write it like http"},
	} {
		code, _, stderr := sightline(t, nil, append([]string{"slo", "status"}, tt.args...)...)
		want := exitUpstream
		if strings.Contains(name, "URL") {
			want = exitUsage
		}
		if code != want || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q: %s", name, code, want, tt.want, stderr)
		}
	}
	if code, _, stderr := sightline(t, nil, "slo", "status"); code != exitUsage || !strings.Contains(stderr, "SIGHTLINE_URL") {
		t.Errorf("nowhere to ask: exit code %d: %s", code, stderr)
	}
}

func TestANarrowTerminalShowsWhatMattersMost(t *testing.T) {
	half, fast := 0.5, 14.4
	slos := []api.SLO{{
		Entity: catalog.NewRef("component", "shop", "checkout-with-a-long-name"), Owner: catalog.NewRef("group", "", "payments"), Indicator: "availability", Target: "99.9", Window: "30d",
		Status: api.StatusBurning, SLI: &half, BudgetRemaining: &half, BurnRates: []api.BurnRate{{Window: "5m"}, {Window: "1h", Rate: &fast}},
		Series: []api.Point{{Value: &half}, {}, {Value: &fast}},
	}}
	for width, want := range map[int]string{
		0: `STATE    OWNER     ENTITY                          INDICATOR     TARGET  WINDOW  ATTAINED  BUDGET LEFT  BURN 1H  TREND
burning  payments  shop/checkout-with-a-long-name  availability   99.9%  30d      50.000%        50.0%    14.40               ▅ █
`,
		120: `STATE    OWNER     ENTITY                          INDICATOR     TARGET  WINDOW  ATTAINED  BUDGET LEFT  BURN 1H
burning  payments  shop/checkout-with-a-long-name  availability   99.9%  30d      50.000%        50.0%    14.40
`,
		80: `STATE    ENTITY             INDICATOR     TARGET  ATTAINED  BUDGET LEFT  BURN 1H
burning  shop/checkout-wi…  availability   99.9%   50.000%        50.0%    14.40
`,
	} {
		var out bytes.Buffer
		printStatus(&out, slos, style{}, width)
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%d columns (-want +got)\n%s", width, diff)
		}
	}
	var out bytes.Buffer
	printStatus(&out, slos, style{colour: true}, 0)
	if !strings.Contains(out.String(), "\x1b[31;1mburning\x1b[0m") {
		t.Errorf("what burns is not red: %q", out.String())
	}
}

func TestTheGateJobEndsAsTheGateSays(t *testing.T) {
	b, err := os.ReadFile("../../ci/gitlab/sightline-gate.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Variables map[string]string
		Job       struct {
			BeforeScript []string `yaml:"before_script"`
			Script       []string
		} `yaml:"sightline-gate"`
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	script := strings.Join(append(file.Job.BeforeScript, file.Job.Script...), "\n")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // TestMain makes this binary the program under this name
	if err := os.Symlink(exe, filepath.Join(bin, "sightline")); err != nil {
		t.Fatal(err)
	}
	url, token := serveShop(t, true)
	tests := map[string]struct {
		vars map[string]string
		code int
		want string
	}{
		"enough budget":                      {map[string]string{"SIGHTLINE_ENTITY": "component:default/checkout"}, 0, "is met by 1 objective"},
		"too little budget":                  {map[string]string{"SIGHTLINE_ENTITY": "checkout", "SIGHTLINE_GATE": "budget>50%"}, 1, "budget left 42%, wanted budget>50%"},
		"a system":                           {map[string]string{"SIGHTLINE_SYSTEM": "shop"}, 1, "component:default/ledger availability"},
		"an owner and an indicator":          {map[string]string{"SIGHTLINE_OWNER": "payments", "SIGHTLINE_INDICATOR": "availability", "SIGHTLINE_NO_DATA": "pass", "SIGHTLINE_GATE": "budget>=-10%"}, 0, "is met by 3 objectives"},
		"no data":                            {map[string]string{"SIGHTLINE_ENTITY": "search"}, 1, "no data"},
		"no data, which may be":              {map[string]string{"SIGHTLINE_ENTITY": "search", "SIGHTLINE_NO_DATA": "pass"}, 0, "is met by 1 objective"},
		"no data, which may be, misspelt":    {map[string]string{"SIGHTLINE_ENTITY": "search", "SIGHTLINE_NO_DATA": "yes"}, 2, "neither fail nor pass"},
		"nobody's objectives":                {nil, 2, "set SIGHTLINE_ENTITY"},
		"a reason to skip it":                {map[string]string{"SIGHTLINE_SKIP": "the fix of incident 7; $(exit 3)"}, 0, "the gate is skipped: the fix of incident 7; $(exit 3)"},
		"a Sightline that is away":           {map[string]string{"SIGHTLINE_ENTITY": "checkout", "SIGHTLINE_URL": "http://127.0.0.1:1"}, 3, "check that it runs"},
		"a Sightline that may be away":       {map[string]string{"SIGHTLINE_ENTITY": "checkout", "SIGHTLINE_URL": "http://127.0.0.1:1", "SIGHTLINE_UNREACHABLE": "pass"}, 0, "the gate is open"},
		"a bad budget opens no gate by that": {map[string]string{"SIGHTLINE_ENTITY": "ledger", "SIGHTLINE_UNREACHABLE": "pass"}, 1, "budget left -10%"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "SIGHTLINE_URL=" + url, "SIGHTLINE_TOKEN_FILE=" + token}
			for _, vars := range []map[string]string{file.Variables, tt.vars} {
				for name, value := range vars {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
			}
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("exit code %d (%v), want %d and %q:\n%s", code, err, tt.code, tt.want, out)
			}
		})
	}
}
