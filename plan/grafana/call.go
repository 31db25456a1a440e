package grafana

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// tries is how often one call is made at most.
const tries = 4

// An Error is an answer of Grafana's that is not what was asked for.
type Error struct {
	Code    int
	Call    string // method and path
	Status  string // Grafana's own word for what is wrong, such as version-mismatch
	Message string
	wait    time.Duration
}

// Error says what was asked and what came back.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.Call, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Hint says what to do about the usual mistakes.
func (e *Error) Hint() string {
	switch {
	case e.Code == http.StatusUnauthorized:
		return "the token is missing, wrong or expired: check grafana.token_file"
	case e.Code == http.StatusForbidden:
		return "give the service account the role Editor, and Admin or teams:read, folders.permissions:read and folders.permissions:write for team permissions"
	case e.Code/100 == 3, e.Code == http.StatusOK:
		return "this is not Grafana's API but a page, as of a login or a proxy: check grafana.url"
	case e.Code == http.StatusNotFound:
		return "check grafana.url: it is what stands before /api"
	}
	return ""
}

func isCode(err error, codes ...int) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(codes, e.Code)
}

// call makes a call, and again later while Grafana is busy or out of reach. All calls may be repeated: a save says which
// version it replaces, and the rest is the same when done twice.
func call[T any](ctx context.Context, t *Target, ask func() (T, error)) (T, error) {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.Multiplier = t.first, 2
	return backoff.Retry(ctx, func() (T, error) {
		got, err := ask()
		var e *Error
		var broken *brokenError
		var late *url.Error
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return got, backoff.Permanent(context.Cause(ctx))
		case errors.As(err, &broken):
			return got, broken
		case errors.As(err, &late) && late.Timeout():
			return got, &brokenError{late.Op + " " + late.URL, errors.New("no whole answer in time")}
		case !errors.As(err, &e):
			return got, backoff.Permanent(err)
		case e.Code != http.StatusTooManyRequests && e.Code < 500:
			return got, backoff.Permanent(error(e))
		}
		if e.wait > 0 {
			// Waited for here because the library's own error for it would hide Grafana's.
			select {
			case <-ctx.Done():
				return got, backoff.Permanent(context.Cause(ctx))
			case <-time.After(min(e.wait, time.Minute)):
			}
		}
		return got, e
	}, backoff.WithBackOff(policy), backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(0))
}

// brokenError is a connection that failed or took too long.
type brokenError struct {
	Call string
	err  error
}

// Error names the call.
func (e *brokenError) Error() string { return e.Call + ": " + e.err.Error() }

// Unwrap gives what went wrong.
func (e *brokenError) Unwrap() error { return e.err }

// Hint says where to look.
func (e *brokenError) Hint() string { return "check that Grafana runs and that grafana.url is right" }

// answers turns what is not a JSON answer with 2xx into an Error, whatever the client's table of statuses says: Grafana
// answers with others too, and proxies before it with pages.
type answers struct{ http.RoundTripper }

// RoundTrip reads the whole answer.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	var body []byte
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
	}
	shown := req.Method + " " + req.URL.Path
	var file *fs.PathError // of the token; its errno is a net.Error too
	if errors.As(err, &file) {
		return nil, err
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &brokenError{shown, err}
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 && json.Valid(body) {
		resp.Header.Set("Content-Type", "application/json")
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	}
	e := &Error{Code: resp.StatusCode, Call: shown}
	var said struct{ Message, Status string }
	switch {
	case json.Unmarshal(body, &said) == nil:
		e.Message, e.Status = strings.Join(strings.Fields(said.Message), " "), said.Status
		if r := []rune(e.Message); len(r) > 200 {
			e.Message = string(r[:200]) + "…"
		}
	case resp.StatusCode/100 == 2:
		e.Message = "the answer is not JSON"
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.wait = time.Duration(s) * time.Second
	}
	return nil, e
}
