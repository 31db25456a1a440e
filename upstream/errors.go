package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// A StatusError is an answer other than 2xx.
type StatusError struct {
	Code      int
	Upstream  string // the client's Name
	TokenFile string // that the token sent is in; "": none was sent
	URL       string // without query and credentials
	Message   string // what the upstream says, shortened
}

// Error names the address, the status and what the upstream said.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// checkURL is the hint where nothing is known that is nearer.
const checkURL = "check the URL"

// Hint says what to do about the usual mistakes.
func (e *StatusError) Hint() string {
	switch e.Code {
	case http.StatusUnauthorized:
		if e.TokenFile == "" {
			return "it wants credentials, and none were sent: set token_file"
		}
		return "the token in " + e.TokenFile + " is wrong or expired"
	case http.StatusForbidden:
		return "the token may not read this: check its scope or access restrictions"
	case http.StatusNotFound:
		switch e.Upstream {
		case "backstage":
			return "check the URL; a Backstage that is still starting answers 404 too"
		case "gitlab":
			return "check the URL; what its token may not see is 404 for a GitLab, too"
		}
		return checkURL
	case http.StatusProxyAuthRequired:
		return "the proxy wants credentials: set HTTPS_PROXY, or name the host in NO_PROXY"
	case http.StatusTooManyRequests:
		return "the upstream allows fewer calls: lower calls_per_hour or raise its limit"
	}
	return ""
}

// A ContentError is a 2xx answer that is not the JSON that was asked for.
type ContentError struct {
	URL  string // without query and credentials
	HTML bool
	err  error
}

// Error names the address and what is wrong.
func (e *ContentError) Error() string {
	return fmt.Sprintf("the answer of %s is not the JSON that is expected: %v", e.URL, e.err)
}

// Unwrap gives the decoder's error.
func (e *ContentError) Unwrap() error { return e.err }

// Hint says where a page instead of data usually comes from.
func (e *ContentError) Hint() string {
	if e.HTML {
		return "this is a web page, as of a login or a proxy: check the URL"
	}
	return ""
}

// A RedirectError is a redirect to another host, or away from TLS. It is not followed, because the token would go there.
type RedirectError struct {
	URL string // without query and credentials
	To  string // scheme and host
}

// Error says from where to where.
func (e *RedirectError) Error() string { return e.URL + " redirects to " + e.To }

// Hint says what to do.
func (e *RedirectError) Hint() string {
	return "if that is where it lives now, write the new address into the configuration; if it is a login, check the token"
}

// A WaitError is a call that could not be made before its context's deadline.
type WaitError struct {
	Wait   time.Duration // until the call may be made
	Budget bool          // the budget of calls is used up; otherwise the upstream asked to wait
}

// Error says for how long one would have to wait, and why.
func (e *WaitError) Error() string {
	why := "the upstream asked to wait"
	if e.Budget {
		why = "the budget of calls per hour is used up"
	}
	return fmt.Sprintf("%s; the next call may be made in %s, which is too late", why, e.Wait.Round(time.Second))
}

// message takes the upstream's own words out of an error body: Backstage's {"error":{"message"}}, GitLab's {"message"} and
// {"error","error_description"}, or plain text. It is one short line and never holds the token.
func message(contentType string, body []byte, token string) string {
	var m struct {
		Error       json.RawMessage `json:"error"`
		Message     json.RawMessage `json:"message"`
		Description string          `json:"error_description"`
	}
	var inner struct{ Message string }
	out := ""
	switch err := json.Unmarshal(body, &m); {
	case err != nil && strings.HasPrefix(contentType, "text/plain"):
		out = string(body)
	case err != nil:
		return ""
	case json.Unmarshal(m.Error, &inner) == nil && inner.Message != "":
		out = inner.Message
	case json.Unmarshal(m.Message, &out) == nil && out != "":
	case m.Description != "":
		out = m.Description
	case json.Unmarshal(m.Error, &out) == nil && out != "":
	case len(m.Message) > 0:
		out = string(m.Message)
	}
	if token != "" {
		out = strings.ReplaceAll(out, token, "[token]")
	}
	out = strings.Join(strings.FieldsFunc(out, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(out); len(r) > 200 {
		out = string(r[:200]) + "…"
	}
	return out
}
