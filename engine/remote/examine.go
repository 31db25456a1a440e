package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sightline-dev/sightline/upstream"
)

// ExamineOptions say what a store is to be examined for.
type ExamineOptions struct {
	Key        string        // of the configuration, for hints, such as "store.url"
	Tenant     string        // value of X-Scope-OrgID; "" sends none
	Window     time.Duration // the longest window of an objective; 0: there is none
	WindowOf   string        // the objective that has it
	Objectives int           // how many the store should evaluate; 0 is not checked
	Reload     bool          // apply asks it to load files, by POST to /-/reload
	Open       bool          // the configuration has no credentials for it
}

// Examine asks a Prometheus-compatible API what it is, how long it keeps samples, whether it answers queries, and whether
// it evaluates Sightline's rules. The client's base URL is what stands before /api/v1.
func Examine(ctx context.Context, c *upstream.Client, o ExamineOptions) (out upstream.Findings) {
	e := examination{c, o}
	if !e.build(ctx, &out) {
		return out
	}
	out.Clock(c)
	e.retention(ctx, &out)
	e.rules(ctx, &out)
	return out
}

type examination struct {
	client *upstream.Client
	opts   ExamineOptions
}

// get asks for the data of one API.
func (e *examination) get(ctx context.Context, path string, into any) error {
	header := http.Header{}
	if e.opts.Tenant != "" {
		header.Set("X-Scope-OrgID", e.opts.Tenant)
	}
	var answer struct {
		Status string
		Error  string
		Data   json.RawMessage
	}
	if err := e.client.GetJSONWith(ctx, path, header, &answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("the answer is not Prometheus's: %s", cmp.Or(answer.Error, "it has no status"))
	}
	return json.Unmarshal(answer.Data, into)
}

// missing tells whether the server has no such API, as Mimir and Thanos have not all of Prometheus's.
func missing(err error) bool {
	var status *upstream.StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusMethodNotAllowed || status.Code == http.StatusNotImplemented)
}

// build says what answers; false: nothing that can be asked further.
func (e *examination) build(ctx context.Context, out *upstream.Findings) bool {
	var b struct {
		Version     string
		Application string
	}
	err := e.get(ctx, "/api/v1/status/buildinfo", &b)
	if err == nil {
		out.OK("%s answers", strings.TrimSpace(cmp.Or(b.Application, "Prometheus")+" "+b.Version))
		return true
	}
	var probe any
	if missing(err) && e.get(ctx, "/api/v1/query?query=vector(1)", &probe) == nil {
		out.OK("a Prometheus-compatible API answers")
		return true
	}
	var status *upstream.StatusError
	if e.opts.Open && errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		out.Error("let Sightline reach it where it wants no credentials: "+e.opts.Key+" is sent none", "ask for the version: %s", err)
		return false
	}
	out.Failed("ask for the version", err, e.opts.Key+" is what stands before /api/v1; Mimir's ends in /prometheus")
	return false
}

// defaultRetention is Prometheus's own, where no flag and no size is set.
const defaultRetention = 15 * 24 * time.Hour

func (e *examination) retention(ctx context.Context, out *upstream.Findings) {
	var runtime struct{ StorageRetention string }
	if err := e.get(ctx, "/api/v1/status/runtimeinfo", &runtime); err != nil && !missing(err) {
		out.Failed("ask how long samples are kept", err, "")
		return
	}
	var flags map[string]string
	if err := e.get(ctx, "/api/v1/status/flags", &flags); err != nil && !missing(err) {
		out.Failed("ask for the flags", err, "")
		return
	}
	if e.opts.Reload && flags != nil {
		if flags["web.enable-lifecycle"] == "true" {
			out.OK("it loads rules when it is told (--web.enable-lifecycle)")
		} else {
			out.Error("start it with --web.enable-lifecycle", "it cannot be told to load rules")
		}
	}
	said := cmp.Or(runtime.StorageRetention, flags["storage.tsdb.retention.time"])
	if said == "" {
		out.Skip(fmt.Sprintf("see to it that samples are kept for %s or more", days(e.opts.Window)), "it does not tell how long samples are kept")
		return
	}
	keep, size := retentionOf(said)
	if keep == 0 && size == "" {
		keep = defaultRetention
	}
	switch {
	case keep == 0:
		out.Skip(fmt.Sprintf("see to it that samples are kept for %s or more", days(e.opts.Window)), "it keeps samples up to a size of %s, for however long that is", size)
	case e.opts.Window == 0:
		out.OK("it keeps samples for %s", days(keep))
	case keep < e.opts.Window:
		out.Error(fmt.Sprintf("set --storage.tsdb.retention.time to more than %s, or name the store that keeps them (Mimir, Thanos) in %s", days(e.opts.Window), e.opts.Key),
			"it keeps samples for %s, less than the window of %s, %s: budgets are wrong", days(keep), e.opts.WindowOf, days(e.opts.Window))
	case size != "":
		out.Warn("see to it that the size suffices", "it keeps samples for %s, or up to a size of %s; the longest window is %s", days(keep), size, days(e.opts.Window))
	default:
		out.OK("it keeps samples for %s; the longest window is %s", days(keep), days(e.opts.Window))
	}
}

// retentionOf reads what Prometheus says, such as "15d", "15d or 10GiB", "10GiB" or "0s".
func retentionOf(said string) (keep time.Duration, size string) {
	for part := range strings.SplitSeq(said, " or ") {
		if d, err := model.ParseDuration(strings.TrimSpace(part)); err == nil {
			keep = time.Duration(d)
		} else {
			size = strings.TrimSpace(part)
		}
	}
	return keep, size
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}

// count answers a query whose result is one number; 0 where it has no result.
func (e *examination) count(ctx context.Context, expr string) (float64, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := e.get(ctx, "/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return 0, err
	}
	if len(data.Result) == 0 {
		return 0, nil
	}
	text, _ := data.Result[0].Value[1].(string)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("the answer to %s is no number", expr)
	}
	return n, nil
}

func (e *examination) rules(ctx context.Context, out *upstream.Findings) {
	if e.opts.Objectives == 0 {
		return
	}
	n, err := e.count(ctx, `count(group by (sloth_id) (slo:objective:ratio))`)
	if err != nil {
		out.Failed("ask for the objectives that it evaluates", err, "")
		return
	}
	switch {
	case n == 0:
		out.Error("load the rules: `sightline apply`, or the files of `sightline generate`", "it evaluates none of %d objectives", e.opts.Objectives)
	case int(n) < e.opts.Objectives:
		out.Warn("load the newest rules: `sightline apply`, or the files of `sightline generate`", "it evaluates %d objectives of %d", int(n), e.opts.Objectives)
	default:
		out.OK("it evaluates %d objectives", int(n))
	}
	owners, err := e.count(ctx, `count(sightline_entity_info)`)
	switch {
	case err != nil:
		out.Failed("ask for sightline_entity_info", err, "")
	case owners == 0:
		out.Warn("let it scrape Sightline's /metrics", "it has no sightline_entity_info: Sightline itself is not scraped")
	default:
		out.OK("it scrapes Sightline: %d entities", int(owners))
	}
}
