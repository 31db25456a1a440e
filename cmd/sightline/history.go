package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/slo"
)

// historyFlags say of which objectives, of which time and from where a history is read.
type historyFlags struct {
	conf, prometheus, tokenFile, tenant string
	entity, indicator                   string
	from, to, since                     string
}

func (f *historyFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.conf, "config", "", "configuration file, the one that serve takes (optional)")
	flags.StringVar(&f.prometheus, "prometheus", "", "Prometheus-compatible API to read from, what stands before /api/v1 (default: store.url of --config, or the server that runs with it)")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with a bearer token for it")
	flags.StringVar(&f.tenant, "tenant", "", "its X-Scope-OrgID")
	flags.StringVar(&f.entity, "entity", "", "only the objectives of this entity, such as checkout or component:default/checkout")
	flags.StringVar(&f.indicator, "indicator", "", "only this indicator, such as availability")
	flags.StringVar(&f.since, "since", "", "how far back, such as 30d (default: the window of the objective)")
	flags.StringVar(&f.from, "from", "", "begin, such as 2026-05-01 or 2026-05-01T10:00:00Z, instead of --since")
	flags.StringVar(&f.to, "to", "", "end (default: now)")
}

// A past is what histories are read from.
type past struct {
	client     *remote.Client
	rules      slo.RuleOptions
	objectives []slo.Objective
	zone       *time.Location
	from, to   time.Time     // from is zero where each objective has its window's length
	retention  time.Duration // 0: not known
}

// errNeedsStore is a usage error of what has no store to read from.
func errNeedsStore(command string) error {
	return hintError{fmt.Errorf("%s needs a Prometheus to read from", command), "use --prometheus http://prometheus:9090, or --config FILE with a store"}
}

// open reads the catalog and finds the store.
func (f *historyFlags) open(ctx context.Context, command string, paths []string) (*past, error) {
	if len(paths) == 0 && f.conf == "" {
		return nil, hintError{fmt.Errorf("%s needs a PATH", command), "name catalog-info.yaml files, or --config FILE for the catalog that a configuration names"}
	}
	c, err := loadConfig(f.conf, paths)
	if err != nil {
		return nil, err
	}
	opts, err := compileOptions(c, false)
	if err != nil {
		return nil, err
	}
	p := &past{zone: opts.SLO.Zone}
	if err := f.times(p, time.Now().Truncate(time.Minute)); err != nil {
		return nil, err
	}
	o, err := f.store(c, command)
	if err != nil {
		return nil, err
	}
	if p.client, err = remote.New(o); err != nil {
		return nil, hintError{err, "write it like http://prometheus:9090"}
	}
	_, objectives, err := compile(ctx, c, false)
	if err != nil {
		return nil, err
	}
	if p.objectives, err = f.pick(objectives); err != nil {
		return nil, err
	}
	anchored, err := p.client.Anchored(ctx)
	if err != nil {
		return nil, f.unreachable(err)
	}
	p.rules.Anchored = anchored
	p.retention = p.client.Retention(ctx)
	return p, nil
}

func (f *historyFlags) unreachable(err error) error {
	if f.prometheus != "" {
		err = hintError{err, "check that it runs, and that --prometheus is what stands before /api/v1"}
	}
	return exitError{exitUpstream, err}
}

// store says where the samples are: at --prometheus, at store.url, or at the server that runs by the configuration.
func (f *historyFlags) store(c *config.Config, command string) (remote.Options, error) {
	o := remote.Options{URL: f.prometheus, TokenFile: f.tokenFile, Tenant: f.tenant, Timeout: 2 * time.Minute}
	switch {
	case f.prometheus != "":
	case f.conf == "":
		return o, errNeedsStore(command)
	case c.Store.URL != "":
		o.URL, o.CAFile = c.Store.URL, c.Store.CAFile
		if o.TokenFile == "" {
			o.TokenFile = c.Store.TokenFile
		}
		if o.Tenant == "" {
			o.Tenant = c.Store.Tenant
		}
	case c.Server.Listen != "": // its query API is that of the embedded Prometheus
		o.URL = "http://" + c.Server.Listen
		if c.Server.WebConfigFile != "" {
			o.URL = "https://" + c.Server.Listen
		}
	default:
		return o, errNeedsStore(command)
	}
	return o, nil
}

// times reads --from, --to and --since.
func (f *historyFlags) times(p *past, now time.Time) error {
	at := func(flag, text string) (time.Time, error) {
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
			if t, err := time.ParseInLocation(layout, text, p.zone); err == nil {
				return t.Truncate(time.Minute), nil
			}
		}
		return time.Time{}, hintError{fmt.Errorf("--%s: %q is not a time", flag, text), "write 2026-05-01 or 2026-05-01T10:00:00Z"}
	}
	var err error
	if p.to = now; f.to != "" {
		if p.to, err = at("to", f.to); err != nil {
			return err
		}
	}
	switch {
	case f.from != "" && f.since != "":
		return hintError{errors.New("--from and --since cannot be used together"), "leave one of them out"}
	case f.from != "":
		if p.from, err = at("from", f.from); err != nil {
			return err
		}
	case f.since != "":
		d, err := model.ParseDuration(f.since)
		if err != nil || time.Duration(d) < time.Hour {
			return hintError{fmt.Errorf("--since: %q is not a length of time of an hour or more", f.since), "write it like 30d"}
		}
		p.from = p.to.Add(-time.Duration(d))
	}
	if !p.from.IsZero() && p.to.Sub(p.from) < time.Hour {
		return hintError{fmt.Errorf("from %s to %s is less than an hour", p.from.Format(time.RFC3339), p.to.Format(time.RFC3339)), "let --to be later than --from"}
	}
	return nil
}

// pick gives the objectives that the flags ask for.
func (f *historyFlags) pick(all []slo.Objective) ([]slo.Objective, error) {
	indicator := strings.ReplaceAll(f.indicator, "-", "_")
	var out []slo.Objective
	var names []string
	all = slices.DeleteFunc(slices.Clone(all), func(o slo.Objective) bool { return o.Composite != nil }) // it has no events of its own
	for _, o := range all {
		names = append(names, o.Entity.String()+" "+o.Indicator)
		if f.entity != "" && f.entity != o.Entity.Name && f.entity != o.Entity.String() || indicator != "" && indicator != o.Indicator {
			continue
		}
		out = append(out, o)
	}
	if len(all) == 0 {
		return nil, hintError{errors.New("the catalog has no objective"), "annotate a component with sightline.dev/objective.availability"}
	}
	if len(out) == 0 {
		slices.Sort(names)
		more := ""
		if n := len(names) - 5; n > 0 {
			more, names = fmt.Sprintf(" and %d more", n), names[:5]
		}
		return nil, hintError{errors.New("no objective is of this entity and indicator"), "there are " + strings.Join(names, ", ") + more}
	}
	return out, nil
}

// warmUp is the longest window of a burn pair, which is read as well so that the first minutes are judged as any others.
const warmUp = 3 * 24 * time.Hour

// history reads the base series of an objective, a day at a time. from is where the range begins, after the warm-up.
func (p *past) history(ctx context.Context, o *slo.Objective, say func(day, days int)) (h slo.History, from time.Time, err error) {
	if from = p.from; from.IsZero() {
		from = p.to.Add(-o.Window.Length())
	}
	h.Start = from.Add(-warmUp)
	n := int(p.to.Sub(h.Start)/time.Minute) + 1
	h.Errors, h.Total = make([]float64, n), make([]float64, n)
	for i := range n {
		h.Errors[i], h.Total[i] = math.NaN(), math.NaN()
	}
	errs, total := o.BaseQueries(p.rules)
	const day = 24 * 60
	for at := 0; at < n; at += day {
		say(at/day+1, (n+day-1)/day)
		begin, end := h.Start.Add(time.Duration(at)*time.Minute), h.Start.Add(time.Duration(min(at+day, n)-1)*time.Minute)
		g, ctx := errgroup.WithContext(ctx)
		for expr, into := range map[string][]float64{errs: h.Errors, total: h.Total} {
			g.Go(func() error {
				series, err := p.client.QueryRange(ctx, expr, begin, end, time.Minute)
				if err != nil {
					return err
				}
				for _, s := range series {
					for _, point := range s.Points {
						i := int(point.Time.Sub(h.Start) / time.Minute)
						if math.IsNaN(into[i]) {
							into[i] = 0
						}
						into[i] += point.Value
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return h, from, err
		}
	}
	return h, from, nil
}

// A replayed is an objective with what its history says.
type replayed struct {
	objective *slo.Objective
	slo.Replay
	notes []string // what the figures lack
}

// replay reads each objective's history and replays it for the targets that candidates gives.
func (p *past) replay(ctx context.Context, bar *progress, candidates func(*slo.Objective) []slo.Target) ([]replayed, error) {
	var out []replayed
	for i := range p.objectives {
		o := &p.objectives[i]
		h, from, err := p.history(ctx, o, func(day, days int) {
			bar.say("sightline: %s %s (%d of %d): reading day %d of %d", o.Entity, o.Indicator, i+1, len(p.objectives), day, days)
		})
		if err != nil {
			bar.done()
			return nil, err
		}
		r := replayed{o, slo.Backtest(o, h, candidates(o), slo.BacktestOptions{From: from, Zone: p.zone}), nil}
		r.notes = p.notes(&r, h, from)
		out = append(out, r)
	}
	bar.done()
	return out, nil
}

// notes says what of the range is not there.
func (p *past) notes(r *replayed, h slo.History, from time.Time) (out []string) {
	first := slices.IndexFunc(h.Total, func(v float64) bool { return !math.IsNaN(v) })
	if first < 0 {
		return []string{"there are no data: the query of all events has no result"}
	}
	if p.retention > 0 && time.Since(from) > p.retention {
		out = append(out, fmt.Sprintf("the server keeps samples for %s, and the range begins %s ago", model.Duration(p.retention), model.Duration(time.Since(from).Round(time.Hour))))
	}
	missing, where := r.Missing, ""
	if begin := h.Start.Add(time.Duration(first) * time.Minute); begin.After(from.Add(time.Hour)) {
		missing, where = missing-int(begin.Sub(from)/time.Minute), " after that"
		out = append(out, fmt.Sprintf("there are no data before %s", begin.In(p.zone).Format("2006-01-02 15:04")))
	}
	if missing > 0 {
		out = append(out, fmt.Sprintf("%s without data%s", plural(missing, "minute"), where))
	}
	if p.to.Sub(from) < r.objective.Window.Length() {
		out = append(out, fmt.Sprintf("the range is shorter than the window of %s, of which only its part is judged", r.objective.Window))
	}
	return out
}

// objectiveName is how an objective is named to people.
func objectiveName(o *slo.Objective) string { return o.Entity.String() + " " + o.Indicator }

// entityKey is an objective's annotation.
func entityKey(o *slo.Objective) string {
	return catalog.Prefix + "objective." + strings.ReplaceAll(o.Indicator, "_", "-")
}
