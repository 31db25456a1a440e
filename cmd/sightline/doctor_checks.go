package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/correlate/jaeger"
	"github.com/sightline-dev/sightline/correlate/loki"
	"github.com/sightline-dev/sightline/correlate/otlp"
	"github.com/sightline-dev/sightline/correlate/tempo"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/exporter/backstage"
	"github.com/sightline-dev/sightline/exporter/gitlab"
	"github.com/sightline-dev/sightline/exporter/push"
	"github.com/sightline-dev/sightline/exporter/scaffolder"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/plan/alertmanager"
	"github.com/sightline-dev/sightline/plan/grafana"
	"github.com/sightline-dev/sightline/plan/mimir"
	"github.com/sightline-dev/sightline/server/auth"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// askTimeout bounds one call of a check.
const askTimeout = 10 * time.Second

// A doctor makes the checks of one configuration.
type doctor struct {
	config   *config.Config
	file     string
	alone    bool // there is no configuration, only metrics endpoints
	projects int
	timeout  time.Duration
	now      func() time.Time

	once    sync.Once
	catalog readCatalog
}

// A readCatalog is the catalog, read and compiled once for all checks that want to know of it.
type readCatalog struct {
	graph      *catalog.Graph // empty where it could not be read
	plan       *plan.Plan
	objectives []slo.Objective
	err        error
}

// client makes a client for one check: a call is made once, so that what is broken shows.
func (d *doctor) client(o upstream.Options) (*upstream.Client, error) {
	o.Tries, o.Timeout = 1, askTimeout
	return upstream.New(o)
}

// remoteCheck makes a check of another system by a client of it.
func (d *doctor) remoteCheck(name, at string, o upstream.Options, run func(context.Context, *upstream.Client) upstream.Findings) (check, error) {
	o.BaseURL = at
	c, err := d.client(o)
	if err != nil {
		return check{}, fmt.Errorf("%s: %w", name, err)
	}
	return check{name, shown(at), func(ctx context.Context) upstream.Findings { return run(ctx, c) }, c.Answered}, nil
}

// checks lists what the configuration asks for, in the order of the report.
func (d *doctor) checks() ([]check, error) {
	c := d.config
	if d.alone {
		k, err := d.metricsCheck()
		return []check{k}, err
	}
	out := []check{{"config", d.file, func(context.Context) upstream.Findings { return d.configuration() }, nil}}
	var errs []error
	add := func(k check, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		out = append(out, k)
	}
	if b := c.Catalog.Backstage; b != nil {
		add(d.remoteCheck("catalog", b.URL, upstream.Options{Name: "backstage", TokenFile: b.TokenFile, CAFile: b.CAFile}, d.backstageCatalog))
		if c.Sources.Scaffolder != nil {
			add(d.remoteCheck("scaffolder", b.URL, upstream.Options{Name: "backstage", TokenFile: b.TokenFile, CAFile: b.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings { return scaffolder.Examine(ctx, c) }))
		}
		if slices.ContainsFunc(c.Sources.GitLab, func(g config.GitLab) bool { return g.BackstageEvents }) {
			add(d.remoteCheck("events", b.URL, upstream.Options{Name: "backstage", TokenFile: b.TokenFile, CAFile: b.CAFile}, gitlab.ExamineBus))
		}
	} else {
		add(check{"catalog", strings.Join(c.Catalog.Files, ", "), d.fileCatalog, nil}, nil)
	}
	if c.Sources.Backstage != nil {
		add(d.metricsCheck())
	}
	for i := range c.Sources.GitLab {
		add(d.gitlabCheck(i))
	}
	add(d.storeCheck())
	if f := c.Files; f.PrometheusURL != "" {
		add(d.remoteCheck("prometheus", f.PrometheusURL, upstream.Options{}, func(ctx context.Context, client *upstream.Client) upstream.Findings {
			o := d.storeOptions("files.prometheus_url")
			o.Reload, o.Open = true, true
			return remote.Examine(ctx, client, o)
		}))
	}
	if r := c.Ruler; r.URL != "" {
		add(d.remoteCheck("ruler", r.URL, upstream.Options{TokenFile: r.TokenFile, CAFile: r.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings {
			return mimir.Examine(ctx, c, mimir.Options{Tenant: r.Tenant})
		}))
	}
	if k := c.Kubernetes; k.Namespace != "" {
		add(d.kubernetesCheck(), nil)
	}
	if a := c.Alertmanager; a.URL != "" {
		add(d.remoteCheck("alertmanager", a.URL, upstream.Options{}, d.alertmanager))
	}
	if m := c.Metrics; m.OTLP != "" {
		add(d.remoteCheck("metrics", m.OTLP, upstream.Options{TokenFile: m.TokenFile, CAFile: m.CAFile}, push.ExamineOTLP))
	}
	if w := c.Metrics.RemoteWrite; w.URL != "" {
		add(d.remoteCheck("metrics", w.URL, upstream.Options{TokenFile: w.TokenFile, CAFile: w.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings {
			return push.ExamineRemoteWrite(ctx, c, w.Tenant)
		}))
	}
	if l := c.Logs; l.URL != "" {
		add(d.remoteCheck("logs", l.URL, upstream.Options{TokenFile: l.TokenFile, CAFile: l.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings {
			return loki.Examine(ctx, c, l.Tenant)
		}))
	}
	if t := c.Traces; t.OTLP != "" {
		add(d.remoteCheck("traces", t.OTLP, upstream.Options{TokenFile: t.TokenFile, CAFile: t.CAFile}, otlp.Examine))
	}
	if t := c.Traces; t.Query != "" {
		add(d.remoteCheck("traces", t.Query, upstream.Options{TokenFile: t.TokenFile, CAFile: t.CAFile}, d.traceStore))
	}
	if g := c.Grafana; g.URL != "" {
		add(d.remoteCheck("grafana", g.URL, upstream.Options{TokenFile: g.TokenFile, CAFile: g.CAFile}, grafana.Examine))
	}
	return out, errors.Join(errs...)
}

// configuration checks what the file says, and the files that it names. That it can be read is known.
func (d *doctor) configuration() (out upstream.Findings) {
	c := d.config
	out.OK("the file is valid")
	type named struct{ key, path string }
	var files []named
	add := func(key, path string) {
		if path != "" {
			files = append(files, named{key, path})
		}
	}
	if b := c.Catalog.Backstage; b != nil {
		add("catalog.backstage.token_file", b.TokenFile)
		add("catalog.backstage.ca_file", b.CAFile)
	}
	for i, g := range c.Sources.GitLab {
		add(fmt.Sprintf("sources.gitlab[%d].token_file", i), g.TokenFile)
		add(fmt.Sprintf("sources.gitlab[%d].ca_file", i), g.CAFile)
		for _, f := range g.WebhookSecretFiles {
			add(fmt.Sprintf("sources.gitlab[%d].webhook_secret_files", i), f)
		}
	}
	for _, s := range []struct{ key, token, ca string }{
		{"store", c.Store.TokenFile, c.Store.CAFile},
		{"ruler", c.Ruler.TokenFile, c.Ruler.CAFile},
		{"grafana", c.Grafana.TokenFile, c.Grafana.CAFile},
		{"logs", c.Logs.TokenFile, c.Logs.CAFile},
		{"traces", c.Traces.TokenFile, c.Traces.CAFile},
		{"metrics", c.Metrics.TokenFile, c.Metrics.CAFile},
		{"metrics.remote_write", c.Metrics.RemoteWrite.TokenFile, c.Metrics.RemoteWrite.CAFile},
	} {
		add(s.key+".token_file", s.token)
		add(s.key+".ca_file", s.ca)
	}
	add("server.web_config_file", c.Server.WebConfigFile)
	for _, f := range c.Server.Auth.TokenFiles {
		add("server.auth.token_files", f)
	}
	good := 0
	for _, f := range files {
		info, err := os.Stat(f.path)
		if err == nil {
			_, err = os.ReadFile(f.path)
		}
		var wrong *fs.PathError
		switch {
		case errors.As(err, &wrong):
			out.Error("name a file that this user may read", "%s: %s: %s", f.key, f.path, wrong.Err)
		case err != nil:
			out.Failed(f.key, err, "name a file that this user may read")
		case info.Size() == 0:
			out.Error("write into it what it is to hold", "%s: %s is empty", f.key, f.path)
		case info.Mode().Perm()&0o002 != 0:
			out.Warn("chmod o-w "+f.path, "%s: everybody may change %s", f.key, f.path)
		default:
			good++
		}
	}
	if good > 0 {
		out.OK("%s that it names can be read", plural(good, "file"))
	}
	if c.Catalog.PlatformOwner == "" {
		out.Warn(`name the platform team, as in "group:default/platform"`, "catalog.platform_owner is not set: what has no valid owner belongs to nobody")
	}
	if s := c.Server; s.WebConfigFile == "" {
		if err := auth.CheckListener(s.Listen, len(s.Auth.TokenFiles) > 0 || s.Auth.Backstage, s.Auth.AllowOpen); err != nil {
			out.Failed("serve does not start", err, "")
		}
	}
	if c.Server.URL == "" {
		out.Warn("set it to the address that people open in a browser", "server.url is not set: alerts and dashboards cannot link to Sightline")
	}
	switch {
	case c.Store.URL == "" && c.Alertmanager.URL == "":
		out.Warn("set alertmanager.url", "alerts are evaluated and sent nowhere")
	case c.Store.URL != "" && c.Alertmanager.URL != "" && c.Alertmanager.File == "":
		out.Warn("let the Prometheus at store.url send alerts, and leave alertmanager.url out", "alertmanager.url has no effect beside store.url")
	}
	if c.Sources.Backstage != nil && c.Sources.Scaffolder == nil {
		out.Warn("add `scaffolder: {}` to sources, with catalog.backstage", "scaffolder tasks are taken from Backstage's metrics, which count a task once per failing step and take cancellations for failures")
	}
	return out
}

// read gives the catalog, which the first check that wants it reads.
func (d *doctor) read() *readCatalog {
	d.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d.timeout) // not that of one check: others wait for it too
		defer cancel()
		r := &d.catalog
		r.graph, _ = catalog.NewGraph(nil, catalog.Ref{})
		r.plan = &plan.Plan{}
		lib, err := library(d.config)
		if err != nil {
			r.err = err
			return
		}
		if r.err = d.ping(ctx); r.err != nil {
			return
		}
		g, problems, err := loadCatalog(ctx, d.config, upstream.NewPool())
		if err != nil {
			r.err = err
			return
		}
		opts, err := compileOptions(d.config, false)
		if err != nil {
			r.err = err
			return
		}
		p, objectives, err := plan.Compile(ctx, g, lib, problems, opts)
		if err != nil {
			r.err = err
			return
		}
		addRetention(d.config, p, objectives)
		addExpired(p, objectives)
		*r = readCatalog{graph: g, plan: p, objectives: objectives}
	})
	return &d.catalog
}

// ping asks Backstage for nothing, once: loading is patient, and other checks wait for it.
func (d *doctor) ping(ctx context.Context) error {
	b := d.config.Catalog.Backstage
	if b == nil {
		return nil
	}
	c, err := d.client(backstageOptions(b))
	if err != nil {
		return err
	}
	var none struct{}
	_, err = c.GetJSON(ctx, "/api/catalog/entities/by-query?limit=0", &none)
	return err
}

func (d *doctor) fileCatalog(context.Context) (out upstream.Findings) {
	r := d.read()
	if r.err != nil {
		out.Failed("read the catalog", r.err, "")
		return out
	}
	r.say(&out, d.file)
	return out
}

func (d *doctor) backstageCatalog(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	var none struct{}
	if _, err := c.GetJSON(ctx, "/api/catalog/entities/by-query?limit=0", &none); err != nil {
		out.Failed("ask for the catalog", err, "check that Backstage runs and that catalog.backstage.url is right")
	}
	failed := len(out) > 0
	out.Clock(c)
	if d.config.Catalog.Backstage.TokenFile == "" {
		out.Warn("make a static token under backend.auth.externalAccess, with accessRestrictions to the plugins catalog and scaffolder", "catalog.backstage.token_file is not set")
	}
	if failed {
		return out
	}
	r := d.read()
	if r.err != nil {
		out.Failed("read the catalog", r.err, "")
		return out
	}
	r.say(&out, d.file)
	return out
}

// say reports what the catalog holds, and what of it nobody owns; file is the configuration.
func (r *readCatalog) say(out *upstream.Findings, file string) {
	kinds := map[string]int{}
	var unowned []string
	things := 0
	for e := range r.graph.Entities() {
		kinds[e.Ref.Kind]++
		if e.Ref.Kind == "group" || e.Ref.Kind == "user" || e.Ref.Kind == "location" || e.Ref.Kind == "domain" {
			continue
		}
		things++
		if r.graph.Ownership(e.Ref).Unowned {
			unowned = append(unowned, e.Ref.String())
		}
	}
	out.OK("%d entities: %s, %s, %s, %s", r.graph.Len(), plural(kinds["component"], "component"), plural(kinds["system"], "system"), plural(kinds["group"], "group"), plural(kinds["user"], "user"))
	if n := len(unowned); n > 0 {
		more := ""
		if n > 3 {
			more = fmt.Sprintf(" and %d more", n-3)
		}
		owner := "nobody"
		if o := r.graph.PlatformOwner(); !o.IsZero() {
			owner = o.String()
		}
		out.Warn("set spec.owner to a group or user that is in the catalog", "%d of %d entities (%d %%) have no valid owner and belong to %s: %s%s", n, things, (100*n+things-1)/things, owner, strings.Join(unowned[:min(3, n)], ", "), more)
	} else {
		out.OK("everything has a valid owner")
	}
	bad := map[catalog.Severity]int{}
	for _, p := range r.plan.Problems {
		bad[p.Severity]++
	}
	defaulted := 0
	for i := range r.objectives {
		if r.objectives[i].Defaulted {
			defaulted++
		}
	}
	if len(r.objectives) == 0 {
		out.Warn("annotate a component with sightline.dev/objective.availability", "there is no objective")
	} else {
		out.OK("%s, %d of them by default", plural(len(r.objectives), "objective"), defaulted)
	}
	hint := "`sightline lint --config " + file + "` lists them"
	switch {
	case bad[catalog.SeverityError] > 0:
		out.Error(hint, "%s and %s in the annotations", plural(bad[catalog.SeverityError], "error"), plural(bad[catalog.SeverityWarning], "warning"))
	case bad[catalog.SeverityWarning] > 0:
		out.Warn(hint, "%s in the annotations", plural(bad[catalog.SeverityWarning], "warning"))
	}
}

func (d *doctor) metricsCheck() (check, error) {
	m := d.config.Sources.Backstage
	s, err := backstage.New(backstage.Options{URLs: m.MetricsURLs, Timeout: askTimeout})
	if err != nil {
		return check{}, fmt.Errorf("sources.backstage: %w", err)
	}
	var answered atomic.Bool
	return check{"backstage", strings.Join(m.MetricsURLs, ", "), func(ctx context.Context) upstream.Findings {
		found, any := s.Examine(ctx)
		answered.Store(any)
		return found
	}, answered.Load}, nil
}

func (d *doctor) gitlabCheck(i int) (check, error) {
	g := d.config.Sources.GitLab[i]
	o := gitlab.ExamineOptions{
		Name: fmt.Sprintf("sources.gitlab[%d]", i), URL: g.URL, Groups: g.Groups, First: i == 0, CallsPerHour: g.CallsPerHour, Token: g.TokenFile != "",
		Hooks: len(g.WebhookSecretFiles) > 0, HookPath: "/webhooks/gitlab", Projects: d.projects, Now: d.now(),
	}
	if u := strings.TrimRight(d.config.Server.URL, "/"); u != "" {
		o.HookURL = u + o.HookPath
	}
	if g.BackstageEvents { // GitLab may know Backstage by another address
		o.Hooks, o.HookPath, o.HookURL = true, "/api/events/http/gitlab", ""
	}
	return d.remoteCheck("gitlab", g.URL, upstream.Options{Name: "gitlab", TokenFile: g.TokenFile, CAFile: g.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings {
		r := d.read()
		out := gitlab.Examine(ctx, c, r.graph, o)
		if r.err != nil {
			out.Skip("", "projects were not asked for, because the catalog cannot be read")
		}
		return out
	})
}

// storeOptions say what the store has to hold.
func (d *doctor) storeOptions(key string) remote.ExamineOptions {
	r := d.read()
	o := remote.ExamineOptions{Key: key, Objectives: len(r.objectives)}
	var of *slo.Objective
	if o.Window, of = longestWindow(r.objectives); of != nil {
		o.WindowOf = of.Entity.String() + " " + of.Indicator
	}
	return o
}

func (d *doctor) storeCheck() (check, error) {
	st := d.config.Store
	if st.URL == "" {
		return check{"store", st.Path, d.embeddedStore, nil}, nil
	}
	return d.remoteCheck("store", st.URL, upstream.Options{TokenFile: st.TokenFile, CAFile: st.CAFile}, func(ctx context.Context, c *upstream.Client) upstream.Findings {
		o := d.storeOptions("store.url")
		o.Tenant = st.Tenant
		out := remote.Examine(ctx, c, o)
		if c.Answered() {
			d.examineReality(ctx, &out, remote.Options{URL: st.URL, TokenFile: st.TokenFile, CAFile: st.CAFile, Tenant: st.Tenant, Timeout: askTimeout})
		}
		return out
	})
}

func (d *doctor) embeddedStore(ctx context.Context) (out upstream.Findings) {
	st := d.config.Store
	switch info, err := os.Stat(st.Path); {
	case errors.Is(err, fs.ErrNotExist):
		out.OK("the folder does not exist yet; serve makes it")
	case err != nil:
		out.Failed("look at the folder", err, "set store.path to a folder that this process may write to")
	case !info.IsDir():
		out.Error("set store.path to a folder", "it is not a folder")
	default:
		out.OK("the folder is there")
	}
	keep := time.Duration(st.Retention)
	o := d.storeOptions("store.retention")
	switch {
	case o.Window > keep:
		out.Error("set store.retention to more than "+config.Duration(o.Window).String(), "samples are kept for %s, less than the window of %s, %s: budgets are wrong", st.Retention, o.WindowOf, config.Duration(o.Window))
	case o.Window > 0:
		out.OK("samples are kept for %s; the longest window is %s", st.Retention, config.Duration(o.Window))
	}
	d.scrapeTargets(ctx, &out)
	return out
}

// scrapeTargets asks each target for its metrics, as the embedded Prometheus does.
func (d *doctor) scrapeTargets(ctx context.Context, out *upstream.Findings) {
	type target struct{ job, address string }
	var all []target
	for _, j := range d.config.Store.Scrape {
		for _, t := range j.Targets {
			all = append(all, target{j.Job, t})
		}
	}
	errs := make([]error, len(all))
	places := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			c, err := d.client(upstream.Options{BaseURL: "http://" + t.address})
			if err == nil {
				_, err = c.GetText(ctx, "/metrics")
			}
			errs[i] = err
		})
	}
	wg.Wait()
	good := 0
	for i, err := range errs {
		if err == nil {
			good++
			continue
		}
		out.Failed(fmt.Sprintf("scrape %s of the job %s", all[i].address, all[i].job), err, "check that it runs and serves /metrics, or take it out of store.scrape")
	}
	if good > 0 {
		out.OK("%d of %s answer", good, plural(len(all), "scrape target"))
	}
}

func (d *doctor) kubernetesCheck() check {
	k := d.config.Kubernetes
	var answered atomic.Bool
	return check{"kubernetes", k.Namespace, func(ctx context.Context) upstream.Findings {
		t, err := cluster(d.config)
		if err != nil {
			var out upstream.Findings
			out.Failed("reach it", err, "set kubernetes.kubeconfig, or run in a pod with a service account")
			return out
		}
		out, answers := t.Examine(ctx)
		answered.Store(answers)
		return out
	}, answered.Load}
}

func (d *doctor) alertmanager(ctx context.Context, c *upstream.Client) upstream.Findings {
	var generated []byte
	for _, a := range d.read().plan.Artifacts {
		if a.Kind == plan.KindAlertmanager {
			generated = a.Body
		}
	}
	return alertmanager.Examine(ctx, c, generated)
}

func (d *doctor) traceStore(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	candidates := map[string]correlate.Candidate{"Tempo": tempo.New(c), "Jaeger": jaeger.New(c)}
	names := []string{"Jaeger", "Tempo"}
	if want := d.config.Traces.Store; want != "" {
		names = []string{strings.ToUpper(want[:1]) + want[1:]}
	}
	var failed error // of the first: it is the same server
	for _, name := range names {
		ok, err := candidates[name].Recognizes(ctx)
		if ok {
			out.OK("%s answers", name)
			out.Clock(c)
			return out
		}
		failed = cmp.Or(failed, err)
	}
	if failed != nil {
		out.Failed("ask what it is", failed, "check that it runs, and traces.query: the address of the HTTP API of a Tempo (mostly port 3200) or Jaeger (16686)")
		return out
	}
	out.Error("traces.query is the address of the HTTP API, mostly port 3200 of a Tempo and 16686 of a Jaeger", "what answers is not %s", strings.Join(names, " or "))
	return out
}
