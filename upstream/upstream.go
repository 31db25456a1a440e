// Package upstream is the one HTTP client for everything remote: a bearer token from a file, limits on time and size,
// and patience with a server that is busy.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options are set by code from the configuration.
type Options struct {
	BaseURL   string
	TokenFile string        // read at each call, so that a new token is taken over; "" sends none
	CAFile    string        // PEM of an authority to trust beside the system's
	Timeout   time.Duration // of one attempt; default 30s
	MaxBytes  int64         // of one answer; default 64 MiB
	Tries     uint          // attempts at one call; default 4
}

// A Client talks to one upstream. Safe for concurrent use.
type Client struct {
	opts Options
	base *url.URL
	http *http.Client
}

// A StatusError is an answer other than 2xx.
type StatusError struct {
	Code    int
	URL     string // without query and credentials
	Message string // what the upstream says, shortened
}

// Error names the address, the status and what the upstream said.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Hint says what to do about the usual mistakes.
func (e *StatusError) Hint() string {
	switch e.Code {
	case http.StatusUnauthorized:
		return "the token is missing, wrong or expired: check token_file"
	case http.StatusForbidden:
		return "the token may not read this: check its scope or access restrictions"
	case http.StatusNotFound:
		return "check the URL; a Backstage that is still starting answers 404 too"
	}
	return ""
}

// New makes a client.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.BaseURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("read URL: %w", err)
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
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &Client{o, base, &http.Client{Transport: transport, Timeout: o.Timeout}}, nil
}

// Host is the upstream's host without port.
func (c *Client) Host() string { return c.base.Hostname() }

// GetJSON asks for a path, which may end in a query, and decodes the answer. Busy answers (429, 5xx) and broken connections are tried again,
// later and later, not before the upstream's Retry-After; other answers are errors at once.
func (c *Client) GetJSON(ctx context.Context, path string, into any) (http.Header, error) {
	return backoff.Retry(ctx, func() (http.Header, error) { return c.once(ctx, path, into) }, backoff.WithMaxTries(c.opts.Tries))
}

func (c *Client) once(ctx context.Context, path string, into any) (http.Header, error) {
	shown, query, _ := strings.Cut(c.base.String()+path, "?")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, shown, nil)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	req.URL.RawQuery = query
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "sightline")
	if c.opts.TokenFile != "" {
		token, err := os.ReadFile(c.opts.TokenFile)
		if err != nil {
			return nil, backoff.Permanent(fmt.Errorf("read token_file: %w", err))
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the query
		}
		return nil, fmt.Errorf("ask %s: %w", shown, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.opts.MaxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", shown, err)
	case int64(len(body)) > c.opts.MaxBytes:
		return nil, backoff.Permanent(fmt.Errorf("the answer of %s is larger than %d bytes", shown, c.opts.MaxBytes))
	case resp.StatusCode/100 != 2:
		failed := &StatusError{resp.StatusCode, shown, message(body)}
		if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
			return nil, backoff.Permanent(failed)
		}
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
			return nil, errors.Join(failed, backoff.RetryAfter(s))
		}
		return nil, failed
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, backoff.Permanent(fmt.Errorf("the answer of %s is not the JSON that is expected: %w", shown, err))
	}
	return resp.Header, nil
}

// message takes the upstream's own words out of an error body.
func message(body []byte) string {
	var m struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(body, &m) == nil && m.Error.Message != "" {
		return m.Error.Message
	}
	return ""
}
