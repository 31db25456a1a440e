// Package remote answers PromQL by any API that is compatible with Prometheus's: Prometheus, Mimir, Thanos,
// VictoriaMetrics.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/upstream"
)

// Options say where the store is.
type Options struct {
	URL       string        // what stands before /api/v1
	TokenFile string        // bearer token, read at each call; "" sends none
	CAFile    string        // PEM of an authority to trust beside the system's
	Tenant    string        // value of X-Scope-OrgID; "" sends none
	Timeout   time.Duration // of one query; default 30s
}

// A Client is an engine.Querier. Its errors carry a hint (see engine.Error) where the store is out of reach or refuses
// everything; bad PromQL has none. Safe for concurrent use.
type Client struct {
	api     v1.API
	raw     doer
	shown   string
	timeout time.Duration
}

var _ engine.Querier = (*Client)(nil)

// New makes a client; it asks nothing yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("store URL %q: not a http or https URL", o.URL)
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	// The store is told the same limit and answers in time; the client's own is for a store that does not.
	h, err := upstream.NewHTTPClient(upstream.Options{TokenFile: o.TokenFile, CAFile: o.CAFile, Timeout: o.Timeout + 5*time.Second})
	if err != nil {
		return nil, fmt.Errorf("reach the store at %s: %w", u.Redacted(), err)
	}
	client, err := api.NewClient(api.Config{Address: o.URL, Client: h})
	if err != nil {
		return nil, fmt.Errorf("reach the store at %s: %w", u.Redacted(), err)
	}
	raw := doer{client, o.Tenant}
	return &Client{v1.NewAPI(raw), raw, u.Redacted(), o.Timeout}, nil
}

// Address is the store's URL, as it may be shown.
func (c *Client) Address() string { return c.shown }

// Query answers an instant query as engine.Engine does.
func (c *Client) Query(ctx context.Context, expr string, at time.Time) ([]engine.Sample, error) {
	value, warnings, _, err := c.api.Query(ctx, expr, at, v1.WithTimeout(c.timeout))
	if err != nil {
		return nil, c.queryError(ctx, expr, err)
	}
	engine.Warn(ctx, warnings...)
	switch v := value.(type) {
	case *model.Scalar:
		return []engine.Sample{{Labels: map[string]string{}, Value: float64(v.Value), Time: v.Timestamp.Time().UTC()}}, nil
	case model.Vector:
		out := make([]engine.Sample, len(v))
		for i, s := range v {
			if s.Histogram != nil {
				return nil, fmt.Errorf("query %q: %w", expr, engine.ErrHistogram)
			}
			out[i] = engine.Sample{Labels: labelMap(s.Metric), Value: float64(s.Value), Time: s.Timestamp.Time().UTC()}
		}
		sortByLabels(out, func(s engine.Sample) map[string]string { return s.Labels })
		return out, nil
	case nil:
		return nil, c.queryError(ctx, expr, errNoResult)
	}
	return nil, fmt.Errorf("query %q: the result is a %s, not a vector", expr, value.Type())
}

// QueryRange answers a range query as engine.Engine does.
func (c *Client) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]engine.Series, error) {
	if err := engine.CheckRange(from, to, step); err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	value, warnings, _, err := c.api.QueryRange(ctx, expr, v1.Range{Start: from, End: to, Step: step}, v1.WithTimeout(c.timeout))
	if err != nil {
		return nil, c.queryError(ctx, expr, err)
	}
	engine.Warn(ctx, warnings...)
	m, ok := value.(model.Matrix)
	if !ok {
		return nil, c.queryError(ctx, expr, errNoResult)
	}
	out := make([]engine.Series, len(m))
	for i, s := range m {
		if len(s.Histograms) > 0 {
			return nil, fmt.Errorf("query %q: %w", expr, engine.ErrHistogram)
		}
		out[i] = engine.Series{Labels: labelMap(s.Metric), Points: make([]engine.Point, len(s.Values))}
		for j, p := range s.Values {
			out[i].Points[j] = engine.Point{Time: p.Timestamp.Time().UTC(), Value: float64(p.Value)}
		}
	}
	sortByLabels(out, func(s engine.Series) map[string]string { return s.Labels })
	return out, nil
}

// Alerts gives the active alerts, sorted by labels. A store without /api/v1/alerts is asked for the series ALERTS
// instead; these carry no annotations.
func (c *Client) Alerts(ctx context.Context) ([]engine.Alert, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := c.api.Alerts(ctx)
	var status *upstream.StatusError
	if errors.As(err, &status) && slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, status.Code) {
		return c.alertSeries(ctx)
	}
	if err != nil {
		return nil, c.wrap(ctx, err)
	}
	var out []engine.Alert
	for _, a := range found.Alerts {
		if a.State == v1.AlertStateInactive {
			continue
		}
		v, err := strconv.ParseFloat(a.Value, 64)
		if err != nil {
			return nil, fmt.Errorf("alerts of the store at %s: value %q is no number", c.shown, a.Value)
		}
		out = append(out, engine.Alert{
			Name: string(a.Labels[model.AlertNameLabel]), Labels: labelMap(a.Labels), Annotations: labelMap(a.Annotations),
			State: string(a.State), ActiveAt: a.ActiveAt.UTC(), Value: v,
		})
	}
	sortByLabels(out, func(a engine.Alert) map[string]string { return a.Labels })
	return out, nil
}

func (c *Client) alertSeries(ctx context.Context) ([]engine.Alert, error) {
	active, err := c.Query(ctx, "ALERTS", time.Time{})
	if err != nil {
		return nil, err
	}
	since, err := c.Query(ctx, "ALERTS_FOR_STATE", time.Time{})
	if err != nil {
		return nil, err
	}
	activeAt := map[string]time.Time{}
	for _, s := range since {
		delete(s.Labels, model.MetricNameLabel)
		activeAt[labels.FromMap(s.Labels).String()] = time.Unix(int64(s.Value), 0).UTC()
	}
	var out []engine.Alert
	for _, s := range active {
		state := s.Labels["alertstate"]
		delete(s.Labels, model.MetricNameLabel)
		delete(s.Labels, "alertstate")
		out = append(out, engine.Alert{
			Name: s.Labels[model.AlertNameLabel], Labels: s.Labels, Annotations: map[string]string{},
			State: state, ActiveAt: activeAt[labels.FromMap(s.Labels).String()], Value: s.Value,
		})
	}
	sortByLabels(out, func(a engine.Alert) map[string]string { return a.Labels })
	return out, nil
}

var errNoResult = errors.New("the answer holds no result")

// queryError names the query where it is to blame, else the store.
func (c *Client) queryError(ctx context.Context, expr string, err error) error {
	var e *v1.Error
	// A string result is what the library has no type for.
	if errors.As(err, &e) && (e.Type == v1.ErrBadData || e.Type == v1.ErrExec || strings.HasPrefix(e.Msg, "unexpected value type")) {
		return fmt.Errorf("query %q: %s", expr, e.Msg)
	}
	return c.wrap(ctx, err)
}

// wrap names the store and says what can be done.
func (c *Client) wrap(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the query
	}
	hint := "check that the store runs and that store.url is right"
	var status *upstream.StatusError
	var e *v1.Error
	switch {
	case errors.As(err, &status):
		switch status.Code {
		case http.StatusUnauthorized:
			hint = "the token is missing, wrong or expired: check store.token_file"
		case http.StatusForbidden:
			hint = "the token may not read this: check store.token_file and store.tenant"
		case http.StatusNotFound:
			hint = "store.url is what stands before /api/v1; Mimir's ends in /prometheus"
		}
	case errors.As(err, &e) && e.Type == v1.ErrTimeout, errors.Is(err, context.DeadlineExceeded):
		hint = "the store is too busy for the query"
	case errors.As(err, &e), errors.Is(err, errNoResult):
		hint = "the answer is not Prometheus's: store.url is what stands before /api/v1"
	}
	return engine.NewError("ask the store at "+c.shown, hint, err)
}

// A doer adds the tenant and keeps the status of answers that are not Prometheus's own errors.
type doer struct {
	api.Client
	tenant string
}

// Do does one request.
func (d doer) Do(ctx context.Context, req *http.Request) (*http.Response, []byte, error) {
	if d.tenant != "" {
		req.Header.Set("X-Scope-OrgID", d.tenant)
	}
	resp, body, err := d.Client.Do(ctx, req)
	if err != nil || resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnprocessableEntity {
		return resp, body, err
	}
	shown := *req.URL
	shown.RawQuery, shown.User = "", nil
	var said struct{ Error string }
	message := ""
	if json.Unmarshal(body, &said) == nil {
		message = said.Error
	}
	return resp, body, &upstream.StatusError{Code: resp.StatusCode, URL: shown.String(), Message: message}
}

func labelMap[M ~map[model.LabelName]model.LabelValue](m M) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[string(k)] = string(v)
	}
	return out
}

func sortByLabels[T any](list []T, of func(T) map[string]string) {
	type keyed struct {
		key  labels.Labels
		item T
	}
	sorted := make([]keyed, len(list))
	for i, item := range list {
		sorted[i] = keyed{labels.FromMap(of(item)), item}
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int { return labels.Compare(a.key, b.key) })
	for i, s := range sorted {
		list[i] = s.item
	}
}
