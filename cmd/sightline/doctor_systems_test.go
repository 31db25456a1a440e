package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/config"
)

// A system is another one that doctor examines.
type system struct {
	answers map[string]string // body by path; anything else is 404
	tls     bool
	refusal string // body of its 401
	conf    func(t *testing.T, c *config.Config, srv *httptest.Server, tokenFile string)
}

var examined = map[string]system{
	"ruler": {
		answers: map[string]string{"/prometheus/config/v1/rules": "sightline/component.default.checkout: []\nother: []\n"},
		refusal: "no org id",
		conf: func(_ *testing.T, c *config.Config, srv *httptest.Server, tokenFile string) {
			c.Ruler = config.Ruler{URL: srv.URL + "/prometheus/config/v1/rules", TokenFile: tokenFile}
		},
	},
	"prometheus": {
		answers: map[string]string{
			"/api/v1/status/buildinfo":   `{"status":"success","data":{"version":"3.16.0"}}`,
			"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"40d"}}`,
			"/api/v1/status/flags":       `{"status":"success","data":{"web.enable-lifecycle":"true"}}`,
			"/api/v1/query":              `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		},
		refusal: "Unauthorized",
		conf: func(_ *testing.T, c *config.Config, srv *httptest.Server, _ string) {
			c.Files = config.Files{Dir: ".", PrometheusURL: srv.URL}
		},
	},
	"traces": {
		answers: map[string]string{"/api/echo": "echo\n"},
		conf: func(_ *testing.T, c *config.Config, srv *httptest.Server, tokenFile string) {
			c.Traces = config.Traces{Query: srv.URL, TokenFile: tokenFile}
		},
	},
	"traces of a Tempo": {
		answers: map[string]string{"/api/echo": "echo\n"},
		conf: func(_ *testing.T, c *config.Config, srv *httptest.Server, tokenFile string) {
			c.Traces = config.Traces{Query: srv.URL, TokenFile: tokenFile, Store: "tempo"}
		},
	},
	"kubernetes": {
		answers: map[string]string{
			"/api/v1/namespaces/monitoring/configmaps":                             `{"kind":"ConfigMapList","apiVersion":"v1","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"board"}}]}`,
			"/api/v1/namespaces/monitoring/secrets":                                `{"kind":"SecretList","apiVersion":"v1","items":[]}`,
			"/apis/monitoring.coreos.com/v1/namespaces/monitoring/prometheusrules": `{"kind":"PrometheusRuleList","apiVersion":"monitoring.coreos.com/v1","items":[]}`,
		},
		tls:     true, // else no token is sent
		refusal: `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","message":"Unauthorized","code":401}`,
		conf: func(t *testing.T, c *config.Config, srv *httptest.Server, tokenFile string) {
			certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
			b, err := json.Marshal(map[string]any{
				"apiVersion": "v1", "kind": "Config", "current-context": "c",
				"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": srv.URL, "certificate-authority-data": certificate}}},
				"users":    []any{map[string]any{"name": "u", "user": map[string]any{"tokenFile": tokenFile}}},
				"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			c.Kubernetes = config.Kubernetes{Namespace: "monitoring", Kubeconfig: file(t, "kubeconfig", string(b))}
		},
	},
}

func file(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// broken answers everything that the system answers with one body.
func (s system) broken(body string) system {
	s.answers = maps.Clone(s.answers)
	for path := range s.answers {
		s.answers[path] = body
	}
	return s
}

// without answers 404 for the paths with a prefix.
func (s system) without(prefix string) system {
	s.answers = maps.Clone(s.answers)
	maps.DeleteFunc(s.answers, func(path, _ string) bool { return strings.HasPrefix(path, prefix) })
	return s
}

func (s system) serve(t *testing.T, token string) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != "" && r.Header.Get("Authorization") != "Bearer "+token {
			if strings.HasPrefix(s.refusal, "{") {
				w.Header().Set("Content-Type", "application/json")
			}
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, s.refusal)
			return
		}
		body, ok := s.answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		fmt.Fprint(w, body)
	}))
	if s.tls {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

// page is what a proxy with a login answers.
const page = "<!doctype html><html><body>Sign in</body></html>"

func TestWhatDoctorSaysOfASystem(t *testing.T) {
	const (
		rulerURL = "check ruler.url, which ends in /config/v1/rules for Mimir and /api/v1/rules for Cortex"
		storeURL = "files.prometheus_url is what stands before /api/v1; Mimir's ends in /prometheus"
		queryURL = "traces.query is the address of the HTTP API, mostly port 3200 of a Tempo and 16686 of a Jaeger"
		queryRun = "check that it runs, and traces.query: the address of the HTTP API of a Tempo (mostly port 3200) or Jaeger (16686)"
		cluster  = "what answers is not the API of a Kubernetes: check the server that kubernetes.kubeconfig names"
		clock    = "ok: its clock agrees with ours"
	)
	same := func(s system) system { return s }
	other := func(s system) system { return s.without("/") }
	garbage := func(s system) system { return s.broken(`{"a":`) }
	login := func(s system) system { return s.broken(page) }
	for _, tt := range []struct {
		system, is string
		change     func(system) system
		wants      string // the token that it wants; Sightline has "right"
		away       bool
		say        []string
	}{
		{"ruler", "well", same, "right", false, []string{"ok: the ruler answers: namespaces of rules: 2, of which 1 Sightline's", clock}},
		{"ruler", "of another token", same, "other", false, []string{"error: read the rules: URL/prometheus/config/v1/rules answered 401 Unauthorized: no org id | the token in TOKEN is wrong or expired"}},
		{"ruler", "garbage", garbage, "", false, []string{"error: read the rules: the answer of URL/prometheus/config/v1/rules is not the rules of a tenant: yaml: line 1: did not find expected node content | " + rulerURL + ", and ruler.tenant"}},
		{"ruler", "a web page", login, "", false, []string{"error: read the rules: the answer of URL/prometheus/config/v1/rules is not the rules of a tenant | this is a web page, as of a login or a proxy: " + rulerURL}},
		{"ruler", "another server", other, "", false, []string{"error: read the rules: URL/prometheus/config/v1/rules answered 404 Not Found: 404 page not found | " + rulerURL + ", and ruler.tenant"}},
		{"ruler", "away", same, "", true, []string{"error: read the rules: ask URL/prometheus/config/v1/rules: dial tcp HOST: connect: connection refused | " + rulerURL + ", and ruler.tenant"}},

		{"prometheus", "well", same, "", false, []string{"ok: Prometheus 3.16.0 answers", clock, "ok: it loads rules when it is told (--web.enable-lifecycle)", "ok: it keeps samples for 40d"}},
		{"prometheus", "of a token", same, "right", false, []string{"error: ask for the version: URL/api/v1/status/buildinfo answered 401 Unauthorized: Unauthorized | let Sightline reach it where it wants no credentials: files.prometheus_url is sent none"}},
		{"prometheus", "garbage", garbage, "", false, []string{"error: ask for the version: the answer of URL/api/v1/status/buildinfo is not the JSON that is expected: unexpected end of JSON input | " + storeURL}},
		{"prometheus", "a web page", login, "", false, []string{"error: ask for the version: the answer of URL/api/v1/status/buildinfo is not the JSON that is expected: invalid character '<' looking for beginning of value | this is a web page, as of a login or a proxy: check the URL"}},
		{"prometheus", "another server", other, "", false, []string{"error: ask for the version: URL/api/v1/status/buildinfo answered 404 Not Found: 404 page not found | " + storeURL}},
		{"prometheus", "away", same, "", true, []string{"error: ask for the version: ask URL/api/v1/status/buildinfo: dial tcp HOST: connect: connection refused | " + storeURL}},
		{"prometheus", "one that is not told of its flags", func(s system) system { return s.without("/api/v1/status/flags") }, "", false, []string{"ok: Prometheus 3.16.0 answers", clock, "ok: it keeps samples for 40d"}},

		{"traces", "well", same, "right", false, []string{"ok: Tempo answers", clock}},
		{"traces", "of another token", same, "other", false, []string{"error: ask what it is: list Jaeger's services: URL/api/v3/services answered 401 Unauthorized | the token in TOKEN is wrong or expired"}},
		{"traces", "garbage", garbage, "", false, []string{"error: what answers is not Jaeger or Tempo | " + queryURL}},
		{"traces", "a web page", login, "", false, []string{"error: what answers is not Jaeger or Tempo | " + queryURL}},
		{"traces", "away", same, "", true, []string{"error: ask what it is: list Jaeger's services: ask URL/api/v3/services: dial tcp HOST: connect: connection refused | " + queryRun}},

		{"traces of a Tempo", "well", same, "right", false, []string{"ok: Tempo answers", clock}},
		{"traces of a Tempo", "of another token", same, "other", false, []string{"error: ask what it is: ask for Tempo: URL/api/echo answered 401 Unauthorized | the token in TOKEN is wrong or expired"}},
		{"traces of a Tempo", "garbage", garbage, "", false, []string{"error: what answers is not Tempo | " + queryURL}},
		{"traces of a Tempo", "another server", other, "", false, []string{"error: what answers is not Tempo | " + queryURL}},
		{"traces of a Tempo", "away", same, "", true, []string{"error: ask what it is: ask for Tempo: ask URL/api/echo: dial tcp HOST: connect: connection refused | " + queryRun}},

		{"kubernetes", "well", same, "right", false, []string{"ok: the cluster answers: objects of Sightline's in the namespace: 1"}},
		{"kubernetes", "without the Prometheus operator", func(s system) system { return s.without("/apis/") }, "right", false, []string{"ok: the cluster answers: objects of Sightline's in the namespace: 1", "error: the cluster has no PrometheusRule, so rules cannot be applied | install the Prometheus operator, or its custom resource definitions"}},
		{"kubernetes", "of another token", same, "other", false, []string{"error: read the objects of the namespace: list configmaps: Unauthorized | the credentials are wrong or expired: check the kubeconfig"}},
		{"kubernetes", "garbage", garbage, "", false, []string{"error: read the objects of the namespace: list configmaps: couldn't get version/kind; json parse error: unexpected end of JSON input | " + cluster}},
		{"kubernetes", "a web page", login, "", false, []string{"error: read the objects of the namespace: list configmaps: serializer for text/html; charset=utf-8 doesn't exist | " + cluster}},
		{"kubernetes", "another server", other, "", false, []string{"error: read the objects of the namespace: list configmaps: the server could not find the requested resource | " + cluster}},
		{"kubernetes", "away", same, "", true, []string{"error: read the objects of the namespace: list configmaps: URL: dial tcp HOST: connect: connection refused | check that the cluster runs, and the server that kubernetes.kubeconfig names"}},
	} {
		t.Run(tt.system+" "+tt.is, func(t *testing.T) {
			srv := tt.change(examined[tt.system]).serve(t, tt.wants)
			token := file(t, "token", "right")
			c := &config.Config{Catalog: config.Catalog{Files: []string{file(t, "catalog.yaml", "")}}}
			examined[tt.system].conf(t, c, srv, token)
			if tt.away {
				srv.Close()
			}
			d := &doctor{config: c, file: "sightline.yaml", timeout: time.Minute, now: time.Now}
			checks, err := d.checks()
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(tt.system, " ")
			var said []string
			for _, k := range checks {
				if k.name != name {
					continue
				}
				for _, f := range k.run(t.Context()) {
					line := string(f.Level) + ": " + f.Message
					if f.Hint != "" {
						line += " | " + f.Hint
					}
					said = append(said, strings.NewReplacer(srv.URL, "URL", srv.Listener.Addr().String(), "HOST", token, "TOKEN").Replace(line))
				}
				if k.answered() == tt.away {
					t.Errorf("it has answered: %v", k.answered())
				}
			}
			if diff := cmp.Diff(tt.say, said); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestDoctorNamesTheFileThatListsTheProblems(t *testing.T) {
	catalog := file(t, "catalog.yaml", "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: shop, annotations: {sightline.dev/objective.availability: '99,9'}}\nspec: {type: service, lifecycle: production}\n")
	d := &doctor{config: &config.Config{Catalog: config.Catalog{Files: []string{catalog}}}, file: "deploy/sightline.yaml", timeout: time.Minute, now: time.Now}
	for _, f := range d.fileCatalog(t.Context()) {
		if f.Hint == "`sightline lint --config deploy/sightline.yaml` lists them" {
			return
		}
	}
	t.Error("no hint says how to list the problems of the annotations")
}
