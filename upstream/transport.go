package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// NewHTTPClient makes a client for libraries that speak an upstream's protocol themselves. Of the options it keeps
// TokenFile, TokenHeader, CAFile, Timeout and MaxBytes as a Client does; it tries once. It follows no redirect to another host, which
// would be given the token.
func NewHTTPClient(o Options) (*http.Client, error) {
	transport, err := newTransport(o.CAFile)
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	return &http.Client{
		Timeout: o.Timeout, Transport: &roundTripper{transport, o},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) > 5 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}, nil
}

type roundTripper struct {
	http.RoundTripper
	opts Options
}

// RoundTrip adds the token and limits the answer.
func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "sightline")
	if _, err := t.opts.authorize(req); err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, t.opts.MaxBytes)
	}
	return resp, err
}

// authorize puts the token on the request and returns it.
func (o *Options) authorize(req *http.Request) (string, error) {
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	req.Header.Set("User-Agent", "sightline")
	if o.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read token_file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return "", fmt.Errorf("token_file %s is empty", o.TokenFile)
	case o.TokenHeader == "":
		req.Header.Set("Authorization", "Bearer "+token)
	default:
		req.Header.Set(o.TokenHeader, token)
	}
	return token, nil
}

// newTransport makes a transport that also trusts the authorities in a PEM file; "" names none.
func newTransport(caFile string) (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no certificate", caFile)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport, nil
}
