package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	grafanaregexp "github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	webv1 "github.com/prometheus/prometheus/web/api/v1"
)

// scrapeReload is how soon the scrape manager takes up the list of targets.
const scrapeReload = model.Duration(time.Second)

type targetSets = map[string][]*targetgroup.Group

// scrapeTimeout is the longest that a target may take to answer.
const scrapeTimeout = 10 * time.Second

// configSource is what a Prometheus configuration needs of us.
type configSource struct {
	ScrapeConfigs []scrapeSource `json:"scrape_configs,omitempty"`
}

type scrapeSource struct {
	JobName        string         `json:"job_name"`
	ScrapeInterval model.Duration `json:"scrape_interval"`
	ScrapeTimeout  model.Duration `json:"scrape_timeout"`
}

// parts makes the configuration of the scrape manager and the notifier, and what they have instead of discovery.
func parts(opts Options) (cfg *config.Config, alertmanagers, scrapes targetSets, err error) {
	alertmanagers, scrapes = targetSets{}, targetSets{}
	var source configSource
	for _, job := range opts.Scrape {
		switch {
		case job.Job == "":
			return nil, nil, nil, errors.New("a scrape job has no name")
		case scrapes[job.Job] != nil:
			return nil, nil, nil, fmt.Errorf("two scrape jobs are named %q", job.Job)
		}
		interval := job.Interval
		if interval <= 0 {
			interval = opts.ScrapeInterval
		}
		source.ScrapeConfigs = append(source.ScrapeConfigs, scrapeSource{job.Job, model.Duration(interval), model.Duration(min(interval, scrapeTimeout))})
		group := &targetgroup.Group{Source: job.Job}
		for _, target := range job.Targets {
			set, err := targetLabels(target)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("scrape job %s: target %w", job.Job, err)
			}
			group.Targets = append(group.Targets, set)
		}
		scrapes[job.Job] = []*targetgroup.Group{group}
	}
	// The scrape manager takes only a configuration that went through config.Load; JSON is YAML.
	text, err := json.Marshal(source)
	if err != nil {
		return nil, nil, nil, err
	}
	cfg, err = config.Load(string(text), opts.Logger)
	if err != nil {
		return nil, nil, nil, err
	}
	cfg.GlobalConfig.ExternalLabels = labels.FromMap(opts.ExternalLabels)
	for _, raw := range opts.Alertmanagers {
		u, err := baseURL(raw)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("alertmanager %w", err)
		}
		am := config.DefaultAlertmanagerConfig
		am.Scheme, am.PathPrefix = u.Scheme, strings.TrimSuffix(u.Path, "/")
		if u.User != nil {
			password, _ := u.User.Password()
			am.HTTPClientConfig.BasicAuth = &promconfig.BasicAuth{Username: u.User.Username(), Password: promconfig.Secret(password)}
		}
		key := fmt.Sprintf("config-%d", len(cfg.AlertingConfig.AlertmanagerConfigs))
		cfg.AlertingConfig.AlertmanagerConfigs = append(cfg.AlertingConfig.AlertmanagerConfigs, &am)
		alertmanagers[key] = []*targetgroup.Group{{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(hostPort(u))}}, Source: key}}
	}
	return cfg, alertmanagers, scrapes, nil
}

func targetLabels(target string) (model.LabelSet, error) {
	if !strings.Contains(target, "://") {
		if strings.Contains(target, "/") {
			return nil, fmt.Errorf("%q: write a whole URL or host:port", target)
		}
		return model.LabelSet{model.AddressLabel: model.LabelValue(target)}, nil
	}
	u, err := baseURL(target)
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		return nil, errors.New("with a user in its URL: not supported")
	}
	set := model.LabelSet{model.AddressLabel: model.LabelValue(hostPort(u)), model.SchemeLabel: model.LabelValue(u.Scheme)}
	if u.Path != "" && u.Path != "/" {
		set[model.MetricsPathLabel] = model.LabelValue(u.Path)
	}
	for name, values := range u.Query() {
		if !model.LegacyValidation.IsValidLabelName(name) || len(values) != 1 {
			return nil, fmt.Errorf("%q: query parameter %q: not supported", target, name)
		}
		set[model.LabelName(model.ParamLabelPrefix+name)] = model.LabelValue(values[0])
	}
	return set, nil
}

func baseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q: not a http or https URL", raw)
	}
	return u, nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return u.Host + ":443"
	}
	return u.Host + ":80"
}

// served are the paths below /api/v1 that QueryHandler answers: what reads, and says nothing about the process.
var served = regexp.MustCompile(`^/(query|query_range|query_exemplars|format_query|parse_query|series|labels|label/[^/]+/values|` +
	`metadata|rules|alerts|alertmanagers|targets|targets/metadata|features|status/buildinfo)$`)

// prometheusVersion is the version that the embedded library is of; Grafana chooses the features it uses by it.
const prometheusVersion = "3.10.0"

// QueryHandler serves the reading part of Prometheus's HTTP API below /api/v1, so that Grafana and other clients can
// use the engine as a Prometheus. It has no authentication: the caller adds it.
func (e *Engine) QueryHandler() http.Handler { return e.guard(e.query) }

func (e *Engine) newQueryHandler(cfg *config.Config, external *url.URL) http.Handler {
	registry := features.NewRegistry()
	parser.RegisterFeatures(registry)
	log := e.log.With("component", "query-api")
	api := webv1.NewAPI(
		e.promql, e.db, nil, nil, e.db,
		func(context.Context) webv1.ScrapePoolsRetriever { return e.scraper },
		func(context.Context) webv1.TargetRetriever { return e.scraper },
		func(context.Context) webv1.AlertmanagerRetriever { return e.notifier },
		func() config.Config { return *cfg },
		map[string]string{},
		webv1.GlobalURLOptions{ListenAddress: external.Host, Host: external.Host, Scheme: external.Scheme},
		func(f http.HandlerFunc) http.HandlerFunc { return f },
		nil, "", false, // no administration
		log,
		func(context.Context) webv1.RulesRetriever { return ruleView{e} },
		0, 0, 0, false, // remote read is not served
		grafanaregexp.MustCompile(`^$`), // no other origin
		func() (webv1.RuntimeInfo, error) { return webv1.RuntimeInfo{}, errors.New("not served") },
		&webv1.PrometheusVersion{Version: prometheusVersion},
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		e.reg, prometheus.NewRegistry(),
		nil,
		false, nil, // remote write has a handler of its own
		false, false, false, false,
		5*time.Minute,
		false, false,
		nil,
		registry,
		webv1.OpenAPIOptions{ExternalURL: external.String(), Version: prometheusVersion},
	)
	router := route.New()
	api.Register(router)
	inner := http.StripPrefix("/api/v1", router)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.Path, "/api/v1")
		if !ok || !served.MatchString(path) {
			http.NotFound(w, r)
			return
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions:
			inner.ServeHTTP(w, r)
		default:
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		}
	})
}
