// Package config reads Sightline's one configuration file. Config is what users write; unknown keys and bad values are
// errors that name the line and say what to write instead. Secrets stand in files that the configuration names.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/lithammer/fuzzysearch/fuzzy"
	"go.yaml.in/yaml/v3"
)

// A Config is the whole file. The zero value of every optional section means "off"; Load fills in the defaults.
type Config struct {
	Catalog      Catalog           `yaml:"catalog" doc:"Where the software catalog comes from: backstage or files, not both."`
	Environments map[string]string `yaml:"environments,omitempty" doc:"PromQL matchers that are added to selectors, by environment name."`
	SLO          SLO               `yaml:"slo,omitempty" doc:"Defaults of objectives."`
	Sources      Sources           `yaml:"sources,omitempty" doc:"Systems whose work is counted."`
	Store        Store             `yaml:"store,omitempty" doc:"Embedded Prometheus (path), or an existing Prometheus-compatible API (url)."`
	Alertmanager Alertmanager      `yaml:"alertmanager,omitempty" doc:"Where alerts go, and what generated receivers need."`
	Ruler        Ruler             `yaml:"ruler,omitempty" doc:"Mimir's or Cortex' ruler, to which apply writes rules."`
	Files        Files             `yaml:"files,omitempty" doc:"Folder to which apply writes everything, as generate does."`
	Grafana      Grafana           `yaml:"grafana,omitempty" doc:"Grafana that apply writes the dashboards to."`
	Kubernetes   Kubernetes        `yaml:"kubernetes,omitempty" doc:"Kubernetes namespace that apply writes to."`
	Server       Server            `yaml:"server,omitempty" doc:"The HTTP listener."`
	Metrics      Metrics           `yaml:"metrics,omitempty" doc:"Where Sightline's metrics are pushed to, beside /metrics."`
	Logs         Logs              `yaml:"logs,omitempty" doc:"Loki, which gets a line of every finished run, and is asked for lines."`
	Traces       Traces            `yaml:"traces,omitempty" doc:"The trace store, which gets a span of every run that was executed, and is asked for traces."`
	Apply        string            `yaml:"apply,omitempty" doc:"continuous: serve applies the catalog to every target (files, ruler, alertmanager.file, kubernetes, grafana) when it changes, and looks for drift every ten minutes." example:"off"`
}

// Catalog says where the catalog comes from.
type Catalog struct {
	Backstage     *Backstage `yaml:"backstage,omitempty" doc:"Backstage's catalog API."`
	Files         []string   `yaml:"files,omitempty" doc:"catalog-info.yaml files: paths, folders or globs." example:"[catalog-info.yaml]"`
	PlatformOwner string     `yaml:"platform_owner,omitempty" doc:"Group that owns what has no valid owner." example:"group:default/platform"`
}

// Backstage is one Backstage backend.
type Backstage struct {
	URL       string   `yaml:"url" doc:"Base URL of the backend." example:"http://localhost:7007"`
	TokenFile string   `yaml:"token_file,omitempty" doc:"File with the bearer token." example:"/run/secrets/backstage"`
	CAFile    string   `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
	Refresh   Duration `yaml:"refresh,omitempty" doc:"How often the catalog is read." example:"60s"`
}

// SLO holds defaults of objectives.
type SLO struct {
	Library   string            `yaml:"library,omitempty" doc:"Folder with indicator files that extend or replace the built-in ones."`
	Window    string            `yaml:"window,omitempty" doc:"Default budget window." example:"30d"`
	Timezone  string            `yaml:"timezone,omitempty" doc:"Time zone of calendar windows, by its IANA name." example:"Europe/Zurich"`
	Selectors map[string]string `yaml:"selectors,omitempty" doc:"Default selector by profile; $name, $namespace and $kubernetes_id are replaced."`

	Exclusions []string `yaml:"exclusions,omitempty" doc:"Files of maintenance windows and budget corrections: paths or globs." example:"[exclusions/*.yaml]"`
}

// Sources lists the systems whose work is counted.
type Sources struct {
	Backstage  *BackstageMetrics `yaml:"backstage,omitempty" doc:"Backstage's own metrics."`
	Scaffolder *Scaffolder       `yaml:"scaffolder,omitempty" doc:"Scaffolder tasks of the same Backstage."`
	GitLab     []GitLab          `yaml:"gitlab,omitempty" doc:"One entry per GitLab host."`
}

// BackstageMetrics names Backstage's metrics endpoints.
type BackstageMetrics struct {
	MetricsURLs []string `yaml:"metrics_urls" doc:"Metrics endpoints, one per replica; dns+http://name:port/path stands for every address of name." example:"[http://localhost:9464/metrics]"`
	Poll        Duration `yaml:"poll,omitempty" doc:"How often they are read." example:"30s"`
}

// Scaffolder follows scaffolder tasks.
type Scaffolder struct {
	Poll Duration `yaml:"poll,omitempty" doc:"How often tasks are read." example:"15s"`
}

// GitLab is one GitLab host.
type GitLab struct {
	URL          string   `yaml:"url" doc:"Base URL, with a relative URL root where there is one." example:"https://gitlab.example.com"`
	TokenFile    string   `yaml:"token_file,omitempty" doc:"File with a token of scope read_api." example:"/run/secrets/gitlab"`
	CAFile       string   `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
	Poll         Duration `yaml:"poll,omitempty" doc:"Shortest time between two cycles; a cycle stretches to fit calls_per_hour." example:"30s"`
	CallsPerHour int      `yaml:"calls_per_hour,omitempty" doc:"Hard budget of API calls." example:"3600"`
	Backfill     Duration `yaml:"backfill,omitempty" doc:"How far back the first start reads." example:"30d"`

	FailureWindow Duration `yaml:"failure_window,omitempty" doc:"How long after a deployment to production a rollback, a fix or an alert of severity page is put down to it." example:"24h"`

	WebhookSecretFiles []string `yaml:"webhook_secret_files,omitempty" doc:"Files with the secret tokens or signing secrets of webhooks at /webhooks/gitlab, one each; all are active."`
	BackstageEvents    bool     `yaml:"backstage_events,omitempty" doc:"Take the webhooks that GitLab sends to Backstage (/api/events/http/gitlab) from Backstage's event bus."`
	Groups             []string `yaml:"groups,omitempty" doc:"Groups (full path or id) whose projects are read too where no entity names them; each is reported, and counts for the platform owner."`
}

// Store is where metrics live.
type Store struct {
	Path      string      `yaml:"path,omitempty" doc:"Folder of the embedded Prometheus and of the journal." example:"./data"`
	Retention Duration    `yaml:"retention,omitempty" doc:"How long the embedded Prometheus keeps samples; longer than the longest window." example:"40d"`
	Scrape    []ScrapeJob `yaml:"scrape,omitempty" doc:"Targets that the embedded Prometheus scrapes."`
	URL       string      `yaml:"url,omitempty" doc:"A Prometheus-compatible API to use instead of the embedded Prometheus: what stands before /api/v1." example:"http://prometheus:9090"`
	TokenFile string      `yaml:"token_file,omitempty" doc:"File with a bearer token for url."`
	CAFile    string      `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust for url."`
	Tenant    string      `yaml:"tenant,omitempty" doc:"Value of X-Scope-OrgID, as Mimir wants it."`
}

// ScrapeJob is a list of static targets.
type ScrapeJob struct {
	Job      string   `yaml:"job" doc:"Value of the label job." example:"shop"`
	Targets  []string `yaml:"targets" doc:"host:port of each target." example:"[localhost:8080]"`
	Interval Duration `yaml:"interval,omitempty" doc:"Scrape interval." example:"30s"`
}

// Alertmanager says where alerts go.
type Alertmanager struct {
	URL       string    `yaml:"url,omitempty" doc:"Alertmanager that the embedded Prometheus notifies, and that apply tells to load file." example:"http://alertmanager:9093"`
	File      string    `yaml:"file,omitempty" doc:"alertmanager.yml into which apply merges receivers and routes, below the route with the receiver sightline-fallback." example:"/etc/alertmanager/alertmanager.yml"`
	Receivers Receivers `yaml:"receivers,omitempty" doc:"What generated receivers need."`
}

// Ruler is one tenant of Mimir's or Cortex' ruler.
type Ruler struct {
	URL       string `yaml:"url,omitempty" doc:"The ruler's configuration API: what stands before /{namespace}. Cortex has it at /api/v1/rules." example:"http://mimir:8080/prometheus/config/v1/rules"`
	Tenant    string `yaml:"tenant,omitempty" doc:"Value of X-Scope-OrgID." example:"platform"`
	TokenFile string `yaml:"token_file,omitempty" doc:"File with a bearer token for url."`
	CAFile    string `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
	MaxGroups int    `yaml:"max_groups,omitempty" doc:"Rule groups that the tenant may have (ruler_max_rule_groups_per_tenant), checked before anything is written; 0 is not checked." example:"70"`
	MaxRules  int    `yaml:"max_rules_per_group,omitempty" doc:"Rules that a group may have (ruler_max_rules_per_rule_group), checked before a group is written; 0 is not checked." example:"20"`
}

// Files is a folder for generated files.
type Files struct {
	Dir           string `yaml:"dir,omitempty" doc:"The folder." example:"/etc/prometheus/sightline"`
	PrometheusURL string `yaml:"prometheus_url,omitempty" doc:"Prometheus that loads the rules; it is told by POST to /-/reload." example:"http://prometheus:9090"`
}

// Receivers holds what generated receivers need besides the teams' annotations.
type Receivers struct {
	Slack      *Slack `yaml:"slack,omitempty" doc:"Slack."`
	Email      *Email `yaml:"email,omitempty" doc:"E-mail."`
	SecretsDir string `yaml:"secrets_dir,omitempty" doc:"Folder on the Alertmanager host that holds the teams' secrets, each in a file SLUG-NAME of the owner's slug and the secret's name, so that a team reaches its own only." example:"/etc/alertmanager/secrets"`
}

// Slack is the platform's Slack app.
type Slack struct {
	APIURLFile string `yaml:"api_url_file" doc:"File on the Alertmanager host with the webhook URL." example:"/etc/alertmanager/secrets/slack"`
}

// Email is the platform's mail server.
type Email struct {
	Smarthost string `yaml:"smarthost" doc:"host:port of the mail server." example:"mail:587"`
	From      string `yaml:"from" doc:"Sender." example:"slo@example.com"`
}

// Grafana is where dashboards are.
type Grafana struct {
	URL       string `yaml:"url,omitempty" doc:"Base URL." example:"http://grafana:3000"`
	TokenFile string `yaml:"token_file,omitempty" doc:"File with a service account's token, of the role Editor or more." example:"/run/secrets/grafana"`
	CAFile    string `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
}

// Kubernetes is a namespace that rules, dashboards and Alertmanager's configuration are applied to, as objects.
type Kubernetes struct {
	Namespace  string            `yaml:"namespace,omitempty" doc:"The namespace." example:"monitoring"`
	Kubeconfig string            `yaml:"kubeconfig,omitempty" doc:"kubeconfig file; in a pod the service account is used, elsewhere KUBECONFIG or ~/.kube/config."`
	Labels     map[string]string `yaml:"labels,omitempty" doc:"Further labels of every object, such as those that a ruleSelector wants."`
}

// Metrics is where the metrics of /metrics are pushed to.
type Metrics struct {
	Interval    Duration    `yaml:"interval,omitempty" doc:"Time between two pushes." example:"30s"`
	OTLP        string      `yaml:"otlp,omitempty" doc:"OTLP/HTTP endpoint, to which /v1/metrics is added." example:"http://collector:4318"`
	TokenFile   string      `yaml:"token_file,omitempty" doc:"File with a bearer token for otlp."`
	CAFile      string      `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust for otlp."`
	RemoteWrite RemoteWrite `yaml:"remote_write,omitempty" doc:"Prometheus remote write 2.0."`
}

// RemoteWrite is a receiver of Prometheus remote write 2.0.
type RemoteWrite struct {
	URL       string            `yaml:"url,omitempty" doc:"Where samples are posted to." example:"http://mimir:8080/api/v1/push"`
	TokenFile string            `yaml:"token_file,omitempty" doc:"File with a bearer token for url."`
	CAFile    string            `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
	Tenant    string            `yaml:"tenant,omitempty" doc:"Value of X-Scope-OrgID."`
	Labels    map[string]string `yaml:"labels,omitempty" doc:"Labels that are added to every series." example:"{job: sightline}"`
}

// Logs is where the lines of runs go.
type Logs struct {
	URL       string `yaml:"url,omitempty" doc:"Loki's base URL, to which /loki/api/v1 is added." example:"http://loki:3100"`
	Tenant    string `yaml:"tenant,omitempty" doc:"Value of X-Scope-OrgID." example:"platform"`
	TokenFile string `yaml:"token_file,omitempty" doc:"File with a bearer token for url."`
	CAFile    string `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`

	JobLogs     string   `yaml:"job_logs,omitempty" doc:"Which logs of GitLab jobs and scaffolder tasks are sent too: failed, all or off." example:"failed"`
	JobLogLimit Bytes    `yaml:"job_log_limit,omitempty" doc:"Longest log; of a longer one the beginning and the end are sent." example:"1MiB"`
	Mask        []string `yaml:"mask,omitempty" doc:"Regular expressions of what is masked in these logs, beside well-known tokens, passwords and keys." example:"['CUST-[0-9]+']"`
}

// Traces is where the spans of runs go, and where traces are read.
type Traces struct {
	OTLP      string `yaml:"otlp,omitempty" doc:"OTLP/HTTP endpoint, to which /v1/traces is added." example:"http://tempo:4318"`
	TokenFile string `yaml:"token_file,omitempty" doc:"File with a bearer token for otlp and query."`
	CAFile    string `yaml:"ca_file,omitempty" doc:"PEM file of a certificate authority to trust."`
	Query     string `yaml:"query,omitempty" doc:"Tempo's or Jaeger's query API." example:"http://tempo:3200"`
	Store     string `yaml:"store,omitempty" doc:"What answers at query: tempo or jaeger; found out by asking when left out." example:"tempo"`
}

// Server is the HTTP listener.
type Server struct {
	Listen        string `yaml:"listen,omitempty" doc:"Address of the listener." example:"127.0.0.1:9469"`
	MetricsListen string `yaml:"metrics_listen,omitempty" doc:"Address of a listener of their own for /metrics and the probes, which need no authentication; without it they are on listen." example:"127.0.0.1:9470"`
	URL           string `yaml:"url,omitempty" doc:"Address under which people reach the UI, used in alerts." example:"https://sightline.example.com"`
	WebConfigFile string `yaml:"web_config_file,omitempty" doc:"exporter-toolkit web configuration (TLS, basic auth)."`
	Auth          Auth   `yaml:"auth,omitempty" doc:"Who may read."`
}

// Auth says who may read.
type Auth struct {
	Backstage  bool     `yaml:"backstage,omitempty" doc:"Accept Backstage's user tokens."`
	TokenFiles []string `yaml:"token_files,omitempty" doc:"Files with static tokens, one a line."`
	AllowOpen  bool     `yaml:"allow_open,omitempty" doc:"Serve without authentication on a listener that is not loopback."`
}

// A Duration is a time.Duration that also reads days, as in "30d".
type Duration time.Duration

var durationPart = regexp.MustCompile(`^(\d+)([dw])`)

// ParseDuration reads Go's durations and days and weeks, as in "30d" or "1d12h".
func ParseDuration(s string) (Duration, error) {
	rest, total := s, time.Duration(0)
	for {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("%q is too long", s)
		}
		unit := 24 * time.Hour
		if m[2] == "w" {
			unit *= 7
		}
		total += time.Duration(n) * unit
		rest = rest[len(m[0]):]
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration like \"30s\", \"5m\" or \"30d\"", s)
		}
		total += d
	}
	if total < 0 || s == "" {
		return 0, fmt.Errorf("%q is not a duration like \"30s\", \"5m\" or \"30d\"", s)
	}
	return Duration(total), nil
}

// UnmarshalYAML reads the text form.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = v
	return nil
}

// String gives whole days as "30d" and the rest in Go's form.
func (d Duration) String() string {
	if t := time.Duration(d); t > 0 && t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	return time.Duration(d).String()
}

// Bytes is a number of bytes, as in "512KiB" or "1MiB".
type Bytes int64

// UnmarshalYAML reads a number with or without a unit.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	v, err := units.ParseBase2Bytes(n.Value)
	if err != nil {
		plain, plainErr := strconv.ParseInt(n.Value, 10, 64)
		if plainErr != nil {
			return fmt.Errorf("line %d: %q is not a size like \"512KiB\" or \"1MiB\"", n.Line, n.Value)
		}
		v = units.Base2Bytes(plain)
	}
	*b = Bytes(v)
	return nil
}

// An Error is a mistake in the file, with a hint what to do.
type Error struct {
	File string
	Msg  string
	Hint string
}

// Error gives the message without the hint.
func (e *Error) Error() string { return e.File + ": " + e.Msg }

// Load reads and checks a file.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{File: path, Msg: "read configuration: " + errorText(err), Hint: "write one with `sightline explain config > sightline.yaml`"}
	}
	return Parse(path, b)
}

func errorText(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse reads and checks the text of a file; name is used in messages.
func Parse(name string, b []byte) (*Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{name, "the file is empty", "`sightline explain config` prints a commented example"}
		}
		return nil, decodeError(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &Error{name, "the file holds more than one YAML document", "keep one document"}
	}
	c.setDefaults()
	if err := c.check(name); err != nil {
		return nil, err
	}
	return &c, nil
}

var labelName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]*$`)

var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found in type config\.(\w+)`)

func decodeError(name string, err error) error {
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		e := &Error{File: name, Msg: fmt.Sprintf("line %s: unknown key %q", m[1], m[2]), Hint: "`sightline explain config` lists the keys"}
		if near := nearest(m[2], keysOf(m[3])); near != "" {
			e.Hint = fmt.Sprintf("did you mean %q?", near)
		} else if keys := keysOf(m[3]); len(keys) > 0 {
			e.Hint = "known keys here: " + strings.Join(keys, ", ")
		}
		return e
	}
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	msg = strings.ReplaceAll(strings.TrimPrefix(msg, "unmarshal errors:\n"), "\n", ";")
	return &Error{name, strings.TrimSpace(msg), "`sightline explain config` prints a commented example"}
}

func (c *Config) setDefaults() {
	def := func(d *Duration, v time.Duration) {
		if *d == 0 {
			*d = Duration(v)
		}
	}
	if c.Catalog.Backstage != nil {
		def(&c.Catalog.Backstage.Refresh, time.Minute)
	}
	if c.Sources.Backstage != nil {
		def(&c.Sources.Backstage.Poll, 30*time.Second)
	}
	if c.Sources.Scaffolder != nil {
		def(&c.Sources.Scaffolder.Poll, 15*time.Second)
	}
	for i := range c.Sources.GitLab {
		g := &c.Sources.GitLab[i]
		def(&g.Poll, 30*time.Second)
		def(&g.Backfill, 30*24*time.Hour)
		def(&g.FailureWindow, 24*time.Hour)
		if g.CallsPerHour == 0 {
			g.CallsPerHour = 3600
		}
	}
	if c.Store.Path == "" {
		c.Store.Path = "./data"
	}
	def(&c.Store.Retention, 40*24*time.Hour)
	for i := range c.Store.Scrape {
		def(&c.Store.Scrape[i].Interval, 30*time.Second)
	}
	if c.Logs.JobLogs == "" {
		c.Logs.JobLogs = "failed"
	}
	if c.Logs.JobLogLimit == 0 {
		c.Logs.JobLogLimit = 1 << 20
	}
	def(&c.Metrics.Interval, 30*time.Second)
	if c.SLO.Window == "" {
		c.SLO.Window = "30d"
	}
	if c.Alertmanager.Receivers.SecretsDir == "" {
		c.Alertmanager.Receivers.SecretsDir = "/etc/alertmanager/secrets"
	}
	if c.Server.Listen == "" {
		c.Server.Listen = "127.0.0.1:9469"
	}
}

func (c *Config) check(name string) error {
	bad := func(msg, hint string) error { return &Error{name, msg, hint} }
	checkURL := func(key, s string) error {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return bad(fmt.Sprintf("%s: %q is not an http or https URL", key, s), "write it like https://host:port")
		}
		if u.User != nil {
			return bad(key+": the URL holds credentials", "put the token into a file and name it with token_file")
		}
		return nil
	}
	switch {
	case c.Catalog.Backstage == nil && len(c.Catalog.Files) == 0:
		return bad("catalog: neither backstage nor files is set", "name a Backstage: `catalog: {backstage: {url: http://localhost:7007}}`, or files: `catalog: {files: [\"catalog/**/*.yaml\"]}`")
	case c.Apply != "" && c.Apply != "off" && c.Apply != "continuous":
		return bad(fmt.Sprintf("apply: %q is not off or continuous", c.Apply), "write apply: off")
	case c.Catalog.Backstage != nil && len(c.Catalog.Files) > 0:
		return bad("catalog: backstage and files are both set", "keep one of them")
	case c.Sources.Scaffolder != nil && c.Catalog.Backstage == nil:
		return bad("sources.scaffolder: there is no catalog.backstage to ask", "set catalog.backstage, or remove sources.scaffolder")
	case c.Server.Auth.Backstage && c.Catalog.Backstage == nil:
		return bad("server.auth.backstage: there is no catalog.backstage to trust", "set catalog.backstage, or use token_files")
	case c.Metrics.OTLP == "" && (c.Metrics.TokenFile != "" || c.Metrics.CAFile != ""):
		return bad("metrics: token_file and ca_file belong to otlp, which is not set", "write otlp like http://collector:4318; remote_write has keys of its own")
	case c.Metrics.RemoteWrite.URL == "" && (c.Metrics.RemoteWrite.TokenFile != "" || c.Metrics.RemoteWrite.CAFile != "" || c.Metrics.RemoteWrite.Tenant != "" || len(c.Metrics.RemoteWrite.Labels) > 0):
		return bad("metrics.remote_write: url is missing", "write it like http://mimir:8080/api/v1/push")
	case time.Duration(c.Metrics.Interval) < time.Second:
		return bad("metrics.interval: must be at least 1s", "the default is 30s")
	case c.Logs.URL == "" && !reflect.DeepEqual(c.Logs, Logs{JobLogs: "failed", JobLogLimit: 1 << 20}):
		return bad("logs: url is missing", "write it like http://loki:3100")
	case c.Traces.OTLP == "" && c.Traces.Query == "" && (c.Traces.TokenFile != "" || c.Traces.CAFile != ""):
		return bad("traces: neither otlp nor query is set", "write otlp like http://tempo:4318, query like http://tempo:3200")
	case c.Traces.Store != "" && c.Traces.Store != "tempo" && c.Traces.Store != "jaeger":
		return bad(fmt.Sprintf("traces.store: %q is not tempo or jaeger", c.Traces.Store), "leave it out: Sightline asks the server which it is")
	case c.Traces.Store != "" && c.Traces.Query == "":
		return bad("traces: store says what answers at query, which is not set", "write query like http://tempo:3200, or leave store out")
	}
	switch {
	case c.Ruler.URL == "" && c.Ruler != Ruler{}:
		return bad("ruler: url is missing", "write it like http://mimir:8080/prometheus/config/v1/rules")
	case c.Ruler.MaxGroups < 0 || c.Ruler.MaxRules < 0:
		return bad("ruler: a limit is negative", "write 0, or leave it out, where there is no limit")
	case c.Files.Dir == "" && c.Files.PrometheusURL != "":
		return bad("files: dir is missing", "name the folder that Prometheus' rule_files read")
	}
	for name := range c.Metrics.RemoteWrite.Labels {
		if !labelName.MatchString(name) {
			return bad(fmt.Sprintf("metrics.remote_write.labels: %q is no name of a label", name), "use letters, digits and underscores, as in cluster")
		}
	}
	if j := c.Logs.JobLogs; j != "failed" && j != "all" && j != "off" {
		return bad(fmt.Sprintf("logs.job_logs: %q is not failed, all or off", j), "leave it out for failed")
	}
	if c.Logs.JobLogLimit < 1<<10 || c.Logs.JobLogLimit > 64<<20 {
		return bad("logs.job_log_limit: must be between 1KiB and 64MiB", "leave it out for 1MiB")
	}
	for _, x := range c.Logs.Mask {
		if re, err := regexp.Compile(x); err != nil || re.MatchString("") {
			return bad(fmt.Sprintf("logs.mask: %q is no regular expression, or matches the empty text", x), "write it in Go's syntax (RE2), as in 'CUST-[0-9]+'")
		}
	}
	type namedURL struct{ key, url string }
	urls := []namedURL{{"store.url", c.Store.URL}, {"alertmanager.url", c.Alertmanager.URL}, {"ruler.url", c.Ruler.URL}, {"files.prometheus_url", c.Files.PrometheusURL}, {"grafana.url", c.Grafana.URL}, {"server.url", c.Server.URL}, {"logs.url", c.Logs.URL}, {"traces.otlp", c.Traces.OTLP}, {"traces.query", c.Traces.Query}, {"metrics.otlp", c.Metrics.OTLP}, {"metrics.remote_write.url", c.Metrics.RemoteWrite.URL}}
	if b := c.Catalog.Backstage; b != nil {
		if b.URL == "" {
			return bad("catalog.backstage: url is missing", "write it like http://localhost:7007")
		}
		urls = append(urls, namedURL{"catalog.backstage.url", b.URL})
	}
	seen := map[string]bool{}
	for i, g := range c.Sources.GitLab {
		key := fmt.Sprintf("sources.gitlab[%d]", i)
		if g.URL == "" {
			return bad(key+": url is missing", "write it like https://gitlab.example.com")
		}
		if g.CallsPerHour < 1 {
			return bad(key+": calls_per_hour must be at least 1", "the default is 3600")
		}
		if g.BackstageEvents && c.Catalog.Backstage == nil {
			return bad(key+": backstage_events is set, but there is no catalog.backstage to ask", "set catalog.backstage, or let GitLab send its webhooks to Sightline, with webhook_secret_files")
		}
		urls = append(urls, namedURL{key + ".url", g.URL})
		if u, err := url.Parse(g.URL); err == nil {
			host := strings.ToLower(u.Hostname()) // what runs are told apart by
			if seen[host] {
				return bad(key+": the host "+host+" is listed twice", "keep one entry per host, whatever its port and path")
			}
			seen[host] = true
		}
	}
	if m := c.Sources.Backstage; m != nil {
		if len(m.MetricsURLs) == 0 {
			return bad("sources.backstage: metrics_urls is empty", "list Backstage's metrics endpoints, as in [http://localhost:9464/metrics]")
		}
		for _, u := range m.MetricsURLs {
			urls = append(urls, namedURL{"sources.backstage.metrics_urls", strings.TrimPrefix(u, "dns+")})
		}
	}
	for _, u := range urls {
		if u.url == "" {
			continue
		}
		if err := checkURL(u.key, u.url); err != nil {
			return err
		}
	}
	if !window.MatchString(c.SLO.Window) {
		return bad(fmt.Sprintf("slo.window: %q is not a window", c.SLO.Window), "write days, at least 7d, such as 30d, or calendar-week, calendar-month or calendar-quarter")
	}
	if _, err := time.LoadLocation(c.SLO.Timezone); err != nil || c.SLO.Timezone == "Local" {
		return bad(fmt.Sprintf("slo.timezone: there is no time zone %q", c.SLO.Timezone), "write an IANA name such as Europe/Zurich")
	}
	if keep := time.Duration(c.Store.Retention); c.Store.URL == "" && keep < windowOf(c.SLO.Window) {
		return bad(fmt.Sprintf("store.retention: samples must be kept longer than slo.window, which is %s", c.SLO.Window), "leave it out for 40d, or set it to more than the longest window of any objective")
	}
	jobs := map[string]bool{}
	for i, j := range c.Store.Scrape {
		if j.Job == "" || len(j.Targets) == 0 {
			return bad(fmt.Sprintf("store.scrape[%d]: job and targets are needed", i), "write {job: shop, targets: [localhost:8080]}")
		}
		if jobs[j.Job] {
			return bad(fmt.Sprintf("store.scrape[%d]: the job %q is listed twice", i, j.Job), "put all targets of a job into one entry")
		}
		jobs[j.Job] = true
		for _, t := range j.Targets {
			if _, _, err := net.SplitHostPort(t); err != nil {
				return bad(fmt.Sprintf("store.scrape[%d]: %q is not host:port", i, t), "write it like localhost:8080, without a scheme")
			}
		}
	}
	if c.Store.URL != "" && len(c.Store.Scrape) > 0 {
		return bad("store: scrape needs the embedded Prometheus, but url is set", "let the Prometheus at store.url scrape these targets")
	}
	if c.Store.URL == "" && (c.Store.TokenFile != "" || c.Store.CAFile != "" || c.Store.Tenant != "") {
		return bad("store: token_file, ca_file and tenant belong to url, which is not set", "set store.url, or leave them out")
	}
	if m := c.Server.MetricsListen; m != "" {
		if _, _, err := net.SplitHostPort(m); err != nil || m == c.Server.Listen && !strings.HasSuffix(m, ":0") {
			return bad(fmt.Sprintf("server.metrics_listen: %q is not a host:port of its own", m), "write it like 127.0.0.1:9470, or leave it out")
		}
	}
	if _, _, err := net.SplitHostPort(c.Server.Listen); err != nil {
		return bad(fmt.Sprintf("server.listen: %q is not host:port", c.Server.Listen), "write it like 127.0.0.1:9469 or :9469")
	}
	return nil
}

var window = regexp.MustCompile(`^(([7-9]|[1-9]\d{1,2})d|calendar-(week|month|quarter))$`)

// windowOf is the length of a budget window; that of one which the calendar sets is its longest.
func windowOf(s string) time.Duration {
	const day = 24 * time.Hour
	switch s {
	case "calendar-week":
		return 7 * day
	case "calendar-month":
		return 31 * day
	case "calendar-quarter":
		return 92 * day
	}
	d, err := ParseDuration(s)
	if err != nil {
		return 0 // what compiles the objectives says so
	}
	return time.Duration(d)
}

// RestartNeeded lists the keys whose values differ from those of the configuration that a process started with, and that
// a reload does not take over.
func (c *Config) RestartNeeded(started *Config) []string {
	var out []string
	differ := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			out = append(out, key)
		}
	}
	a, b := c.Server, started.Server
	a.URL, b.URL = "", "" // compiled into rules and boards
	differ("catalog.backstage", c.Catalog.Backstage, started.Catalog.Backstage)
	differ("sources", c.Sources, started.Sources)
	differ("store", c.Store, started.Store)
	differ("alertmanager.url", c.Alertmanager.URL, started.Alertmanager.URL)
	differ("server", a, b)
	differ("logs", c.Logs, started.Logs)
	differ("metrics", c.Metrics, started.Metrics)
	differ("traces", c.Traces, started.Traces)
	return out
}

// nearest finds the candidate with the smallest edit distance, at most a third of its length.
func nearest(s string, candidates []string) string {
	best, bestD := "", 1<<30
	for _, c := range candidates {
		if d := fuzzy.LevenshteinDistance(s, c); d < bestD && d <= max(1, len(c)/3) {
			best, bestD = c, d
		}
	}
	return best
}

func keysOf(typeName string) []string {
	var keys []string
	walk(func(name string, fields []field) {
		if name == typeName {
			for _, f := range fields {
				keys = append(keys, f.key)
			}
		}
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}
