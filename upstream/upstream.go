// Package upstream is the one HTTP client for everything remote: a token from a file, a hard budget of calls, limits on
// time and size, patience with a server that is busy, and metrics about all of it. Neither an error nor a metric holds a
// token or the query of a call.
package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options are set by code from the configuration.
type Options struct {
	Name         string        // what the upstream is, for the metrics, such as "gitlab"; default the host
	BaseURL      string        // http or https, without credentials; proxies come from the environment (HTTPS_PROXY, NO_PROXY)
	TokenFile    string        // read at each call, so that a new token is taken over; "" sends none
	TokenHeader  string        // header that carries the bare token, such as "PRIVATE-TOKEN"; default "Authorization: Bearer"
	CAFile       string        // PEM of an authority to trust beside the system's
	CallsPerHour int           // never more in any 60 minutes, retries and redirects included; 0: no limit
	Timeout      time.Duration // of one attempt, waiting for the budget not included; default 30s
	MaxBytes     int64         // of one answer; default 64 MiB
	Tries        uint          // attempts at one call; default 4
	Metrics      *Metrics      // may be nil

	Transport http.RoundTripper // carries the requests instead of a connection with CAFile; nil makes one
}

// maxRedirects bounds the redirects of one call.
const maxRedirects = 5

// A Client talks to one upstream. Its budget and the upstream's wishes to wait live as long as the client: make one per
// upstream and keep it. Safe for concurrent use.
type Client struct {
	opts      Options
	base      *url.URL
	transport http.RoundTripper // without http.Client, whose redirects would carry the token along and show in errors
	gate      *gate
	meter     meter
	heard     heard
}

// New makes a client.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.BaseURL, "/"))
	switch {
	case err != nil:
		return nil, errors.New("the URL is malformed")
	case base.User != nil:
		return nil, fmt.Errorf("the URL of %s holds a user or password: use token_file", base.Host)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, fmt.Errorf("%q is not a URL that begins with https://", o.BaseURL)
	case o.CallsPerHour < 0:
		return nil, fmt.Errorf("%d calls per hour are not a budget", o.CallsPerHour)
	}
	base.RawQuery, base.Fragment = "", ""
	if o.Name == "" {
		o.Name = base.Hostname()
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Tries == 0 {
		o.Tries = 4
	}
	if o.Transport == nil {
		if o.Transport, err = newTransport(o.CAFile); err != nil {
			return nil, err
		}
	}
	c := &Client{opts: o, base: base, transport: o.Transport, gate: newGate(o.CallsPerHour)}
	c.meter = o.Metrics.meter(o.Name, base.Hostname(), c.gate)
	return c, nil
}

// Host is the upstream's host without port.
func (c *Client) Host() string { return c.base.Hostname() }

// GetJSON asks for a path, which may end in a query, and decodes the answer. Busy answers (429, 5xx), broken connections
// and answers that take too long are tried again, later and later; other answers are errors at once. Every attempt waits
// for the budget and for the upstream's own Retry-After and RateLimit-Reset; when ctx ends before that wait would, GetJSON
// returns a *WaitError at once.
func (c *Client) GetJSON(ctx context.Context, path string, into any) (http.Header, error) {
	return c.getJSON(ctx, path, nil, into)
}

// GetJSONWith is GetJSON with a header that the upstream needs, such as a tenant.
func (c *Client) GetJSONWith(ctx context.Context, path string, header http.Header, into any) error {
	_, err := c.getJSON(ctx, path, header, into)
	return err
}

func (c *Client) getJSON(ctx context.Context, path string, header http.Header, into any) (http.Header, error) {
	return c.retry(ctx, path, &call{method: http.MethodGet, header: header, take: func(shown string, h http.Header, body []byte) error {
		if err := json.Unmarshal(body, into); err != nil {
			return &ContentError{shown, strings.Contains(h.Get("Content-Type"), "html"), err}
		}
		return nil
	}})
}

// Get asks for a path as GetJSON does and gives the body as it is, with the answer's header. The header that is sent holds
// what the upstream needs, such as Accept or a tenant; nil sends none.
func (c *Client) Get(ctx context.Context, path string, header http.Header) (body []byte, answered http.Header, err error) {
	answered, err = c.retry(ctx, path, &call{method: http.MethodGet, header: header, take: func(_ string, _ http.Header, b []byte) error {
		body = b
		return nil
	}})
	return body, answered, err
}

// Post sends a body to a path and gives the body of the answer. The header holds Content-Type, and what else the upstream
// needs. Attempts and waits are those of GetJSON, so what is sent must do no harm when it arrives twice; redirects are not followed.
func (c *Client) Post(ctx context.Context, path string, header http.Header, body []byte) (answer []byte, err error) {
	_, err = c.retry(ctx, path, &call{method: http.MethodPost, header: header, body: body, take: func(_ string, _ http.Header, b []byte) error {
		answer = b
		return nil
	}})
	return answer, err
}

// A call is what is asked of the upstream, and what is done with a 2xx answer.
type call struct {
	method string
	header http.Header
	body   []byte
	read   func(io.Reader) ([]byte, error) // of a 2xx answer, instead of reading the whole of it; may be nil
	take   func(shown string, h http.Header, body []byte) error
}

func (c *Client) retry(ctx context.Context, path string, what *call) (http.Header, error) {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.Multiplier = time.Second, 2
	return backoff.Retry(ctx, func() (http.Header, error) { return c.follow(ctx, path, what) },
		backoff.WithBackOff(policy), backoff.WithMaxTries(c.opts.Tries), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(_ error, wait time.Duration) { c.meter.throttled("backoff", wait) }))
}

// follow makes one attempt, through redirects on the same host: a GitLab project that moved answers with one.
func (c *Client) follow(ctx context.Context, path string, what *call) (http.Header, error) {
	path, query, _ := strings.Cut(path, "?")
	target, err := url.Parse(c.base.String() + path)
	if err != nil {
		return nil, backoff.Permanent(fmt.Errorf("%s%s is not an address", c.base, path))
	}
	target.RawQuery = query
	for range maxRedirects + 1 {
		header, next, err := c.once(ctx, target, what)
		if err != nil || next == nil {
			return header, err
		}
		target = next
	}
	return nil, backoff.Permanent(fmt.Errorf("%s%s redirects more than %d times", c.base, path, maxRedirects))
}

// once sends one request; next is where it is redirected to.
func (c *Client) once(ctx context.Context, target *url.URL, what *call) (h http.Header, next *url.URL, err error) {
	shown := address(target)
	if err := c.gate.wait(ctx, c.meter); err != nil {
		return nil, nil, backoff.Permanent(fmt.Errorf("ask %s: %w", shown, err))
	}
	attempt, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(attempt, what.method, target.String(), bytes.NewReader(what.body))
	if err != nil {
		return nil, nil, backoff.Permanent(fmt.Errorf("%s is not an address", shown))
	}
	maps.Copy(req.Header, what.header)
	token, err := c.opts.authorize(req)
	if err != nil {
		return nil, nil, backoff.Permanent(err)
	}
	start := time.Now()
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		c.meter.answered("error", time.Since(start))
		return nil, nil, c.broken(ctx, "ask", shown, err)
	}
	defer resp.Body.Close()
	c.heard.answer(resp.Header, start, time.Now())
	read := func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, c.opts.MaxBytes+1)) }
	if what.read != nil && resp.StatusCode/100 == 2 {
		read = what.read
	}
	body, err := read(resp.Body)
	c.meter.answered(strconv.Itoa(resp.StatusCode), time.Since(start))
	if until, ok := pause(resp, time.Now()); ok {
		c.gate.pause(until)
	}
	switch {
	case err != nil:
		return nil, nil, c.broken(ctx, "read the answer of", shown, err)
	case int64(len(body)) > c.opts.MaxBytes:
		return nil, nil, backoff.Permanent(fmt.Errorf("the answer of %s is larger than %d bytes", shown, c.opts.MaxBytes))
	case resp.StatusCode/100 == 3 && resp.Header.Get("Location") != "":
		next, err := c.redirect(target, resp.Header.Get("Location"))
		if err == nil && what.method != http.MethodGet {
			err = &RedirectError{shown, next.Scheme + "://" + next.Host}
		}
		if err != nil {
			return nil, nil, backoff.Permanent(err)
		}
		return nil, next, nil
	case resp.StatusCode/100 != 2:
		failed := &StatusError{resp.StatusCode, c.opts.Name, c.opts.TokenFile, shown, message(resp.Header.Get("Content-Type"), body, token)}
		if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
			return nil, nil, backoff.Permanent(failed)
		}
		return nil, nil, failed
	}
	if err := what.take(shown, resp.Header, body); err != nil {
		return nil, nil, backoff.Permanent(err)
	}
	return resp.Header, nil, nil
}

// redirect finds where a redirect leads. Another host, or the same one without TLS, would get the token: that is refused.
func (c *Client) redirect(from *url.URL, location string) (*url.URL, error) {
	next, err := from.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("%s redirects to an address that is malformed", address(from))
	}
	if next.Host != c.base.Host || next.Scheme != from.Scheme && next.Scheme != "https" {
		return nil, &RedirectError{address(from), next.Scheme + "://" + next.Host}
	}
	next.User = nil
	return next, nil
}

// broken is the error of a connection that failed. When it is ctx that ended, that is the error.
func (c *Client) broken(ctx context.Context, doing, shown string, err error) error {
	switch {
	case ctx.Err() != nil:
		return backoff.Permanent(fmt.Errorf("%s %s: %w", doing, shown, context.Cause(ctx)))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: no whole answer within %s", doing, shown, c.opts.Timeout)
	}
	return fmt.Errorf("%s %s: %w", doing, shown, err)
}

// address is a URL as it may be shown: without query, fragment and credentials.
func address(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }
