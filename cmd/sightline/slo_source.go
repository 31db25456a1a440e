package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/upstream"
)

// The variables that say where to ask when no flag does.
const (
	envURL        = "SIGHTLINE_URL"
	envPrometheus = "SIGHTLINE_PROMETHEUS_URL"
	envTokenFile  = "SIGHTLINE_TOKEN_FILE"
)

// sloFlags say where the objectives are asked for: a running Sightline, or a Prometheus-compatible API with its series.
type sloFlags struct {
	conf, server, prometheus  string
	tokenFile, tenant, caFile string
	asked                     string // what names the place in hints, such as "--server"
	owner, entity, system     string
	indicator                 string
}

const sloFlagsHelp = `Where to ask is said by --server, the address of a running Sightline, or by --prometheus, that of a Prometheus-compatible
API with the series of its rules; else by --config, the file that serve takes; else by the variables SIGHTLINE_URL or
SIGHTLINE_PROMETHEUS_URL, and SIGHTLINE_TOKEN_FILE.`

func (f *sloFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.server, "server", "", "address of a running Sightline")
	flags.StringVar(&f.prometheus, "prometheus", "", "address of a Prometheus-compatible API, what stands before /api/v1")
	flags.StringVar(&f.conf, "config", "", "configuration file, the one that serve takes")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with a token, sent as Authorization: Bearer")
	flags.StringVar(&f.tenant, "tenant", "", "tenant of --prometheus (X-Scope-OrgID)")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file of an authority to trust beside the system's")
	flags.StringVar(&f.owner, "owner", "", "only this owner's objectives, as group:default/payments or payments")
	flags.StringVar(&f.entity, "entity", "", "only this entity's, as component:default/checkout or checkout")
	flags.StringVar(&f.system, "system", "", "only those of the entities of a system")
	flags.StringVar(&f.indicator, "indicator", "", "only of this indicator, such as availability")
}

// filter reads the flags that pick objectives.
func (f *sloFlags) filter() (out api.SLOFilter, err error) {
	for _, r := range []struct {
		flag, text, kind string
		into             *catalog.Ref
	}{{"owner", f.owner, "group", &out.Owner}, {"entity", f.entity, "component", &out.Entity}, {"system", f.system, "system", &out.System}} {
		if r.text == "" {
			continue
		}
		if *r.into, err = catalog.ParseRef(r.text, r.kind); err != nil {
			return out, hintError{fmt.Errorf("--%s: %w", r.flag, err), "write it like " + r.kind + ":default/payments"}
		}
	}
	out.Indicator = strings.ReplaceAll(f.indicator, "-", "_")
	return out, nil
}

// resolve decides where to ask. store prefers the store of a configuration to the server that it makes.
func (f *sloFlags) resolve(env environment, store bool) error {
	switch {
	case f.server != "" && f.prometheus != "":
		return hintError{errors.New("--server and --prometheus name two places to ask"), "keep one of them"}
	case f.server != "":
		f.asked = "--server"
	case f.prometheus != "":
		f.asked = "--prometheus"
	case f.conf != "":
		c, err := config.Load(f.conf)
		if err != nil {
			return err
		}
		return f.fromConfig(c, store)
	case env.env(envURL) != "":
		f.server, f.asked = env.env(envURL), envURL
	case env.env(envPrometheus) != "":
		f.prometheus, f.asked = env.env(envPrometheus), envPrometheus
	default:
		return hintError{errors.New("nothing says where the objectives are"), "use --server URL, --prometheus URL or --config FILE, or set " + envURL}
	}
	if f.tokenFile == "" {
		f.tokenFile = env.env(envTokenFile)
	}
	return nil
}

func (f *sloFlags) fromConfig(c *config.Config, store bool) error {
	if st := c.Store; store && st.URL != "" {
		f.prometheus, f.asked, f.tenant = st.URL, "store.url", st.Tenant
		f.tokenFile, f.caFile = st.TokenFile, st.CAFile
		return nil
	}
	f.server, f.asked = c.Server.URL, "server.url"
	if f.server == "" {
		scheme := "http"
		if c.Server.WebConfigFile != "" {
			scheme = "https"
		}
		f.server, f.asked = scheme+"://"+c.Server.Listen, "server.listen"
	}
	if f.tokenFile != "" || len(c.Server.Auth.TokenFiles) == 0 {
		return nil
	}
	f.tokenFile = c.Server.Auth.TokenFiles[0]
	b, err := os.ReadFile(f.tokenFile)
	if err != nil {
		return hintError{fmt.Errorf("read the server's token: %w", err), "name a file with your own token by --token-file"}
	}
	if bytes.ContainsAny(bytes.TrimSpace(b), "\n#") {
		return hintError{fmt.Errorf("%s holds more than one token", f.tokenFile), "name a file with yours alone by --token-file"}
	}
	return nil
}

// A slosSource gives objectives and where they stand.
type slosSource func(ctx context.Context, f api.SLOFilter, points int) (api.AllSLOList, error)

// source makes what answers; resolve has been called.
func (f *sloFlags) source() (slosSource, error) {
	if f.prometheus != "" {
		c, err := f.querier()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, filter api.SLOFilter, points int) (api.AllSLOList, error) {
			state, err := newSeriesState(ctx, c)
			if err != nil {
				return api.AllSLOList{}, f.failed(err)
			}
			return api.NewReader(state, time.Now).Snapshot(ctx).AllSLOs(ctx, filter, 0, len(state.objectives), points), nil
		}, nil
	}
	client, err := upstream.New(upstream.Options{Name: "sightline", BaseURL: f.server, TokenFile: f.tokenFile, CAFile: f.caFile, Timeout: storeTimeout, Tries: readTries})
	if err != nil {
		return nil, hintError{fmt.Errorf("%s: %w", f.asked, err), "write it like http://127.0.0.1:9469"}
	}
	return func(ctx context.Context, filter api.SLOFilter, points int) (api.AllSLOList, error) {
		query := url.Values{"points": {strconv.Itoa(points)}}
		for name, value := range map[string]string{"owner": filter.Owner.String(), "entity": filter.Entity.String(), "system": filter.System.String(), "indicator": filter.Indicator} {
			if value != "" {
				query.Set(name, value)
			}
		}
		var all api.AllSLOList
		for {
			query.Set("offset", strconv.Itoa(len(all.Items)))
			var page api.AllSLOList
			if err := client.GetJSONWith(ctx, "/api/v1/slos?"+query.Encode(), nil, &page); err != nil {
				return all, f.failed(err)
			}
			page.Items = append(all.Items, page.Items...)
			grew := len(page.Items) > len(all.Items)
			if all = page; !grew || len(all.Items) >= all.Total {
				return all, nil
			}
		}
	}, nil
}

// storeTimeout is longer than a server waits for its store.
const storeTimeout = 45 * time.Second

// querier makes what answers PromQL: the Prometheus, or the query API of a Sightline with an embedded one.
func (f *sloFlags) querier() (*remote.Client, error) {
	at := f.prometheus
	if at == "" {
		at = f.server
	}
	c, err := remote.New(remote.Options{URL: strings.TrimRight(at, "/"), TokenFile: f.tokenFile, CAFile: f.caFile, Tenant: f.tenant, Timeout: storeTimeout})
	if err != nil {
		return nil, hintError{fmt.Errorf("%s: %w", f.asked, err), "write it like http://127.0.0.1:9090"}
	}
	return c, nil
}

// failed makes an error of the place that was asked one that says what to do about it.
func (f *sloFlags) failed(err error) error {
	hint := "check that it runs and that " + f.asked + " is right"
	var status *upstream.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusUnauthorized, http.StatusForbidden:
			hint = "name a file with a token that may read this by --token-file"
		case http.StatusNotFound:
			hint = f.asked + " is what stands before /api/v1; an older Sightline has not this resource"
		}
	} else if e := new(engine.Error); !errors.As(err, &e) && hintOf(err) != "" {
		hint = hintOf(err)
	}
	return exitError{exitUpstream, hintError{err, hint}}
}

// completeSLOFlags offers values to the shell.
func completeSLOFlags(cmd *cobra.Command, formats ...string) {
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}
