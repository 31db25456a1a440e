package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const secret = "glpat-very-secret"

// inMemory answers requests by a handler without a network, so that a test's simulated time can pass.
type inMemory struct{ http.Handler }

func (h inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// client makes a client whose requests go to the handler.
func client(t *testing.T, h http.HandlerFunc, o Options) *Client {
	t.Helper()
	if o.BaseURL == "" {
		o.BaseURL = "https://gitlab.example.com/root"
	}
	o.Transport = inMemory{h}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answers gives one answer after the other, the last one for ever.
func answers(of ...http.HandlerFunc) http.HandlerFunc {
	i := -1
	return func(w http.ResponseWriter, r *http.Request) {
		i = min(i+1, len(of)-1)
		of[i](w, r)
	}
}

func answer(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

var fine = answer(200, `{"n":7}`)

type number struct{ N int }

func TestABusyUpstreamIsAskedAgainWhenItWishes(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().UTC().Add(d).Format(http.TimeFormat) }
	unix := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	tests := []struct {
		name      string
		first     func() http.HandlerFunc
		from, til time.Duration // when the second request arrives
	}{
		{"429 that says nothing: back-off with jitter", func() http.HandlerFunc { return answer(429, "") }, time.Second / 2, 3 * time.Second / 2},
		{"502: back-off with jitter", func() http.HandlerFunc { return answer(502, "<html>") }, time.Second / 2, 3 * time.Second / 2},
		{"429 with seconds", func() http.HandlerFunc { return answer(429, "", "Retry-After", "90") }, 90 * time.Second, 90 * time.Second},
		{"429 with a date", func() http.HandlerFunc { return answer(429, "", "Retry-After", at(5*time.Minute)) }, 5 * time.Minute, 5 * time.Minute},
		{"503 with a date of a clock that is an hour ahead", func() http.HandlerFunc {
			return answer(503, "", "Retry-After", at(time.Hour+5*time.Minute), "Date", at(time.Hour))
		}, 5 * time.Minute, 5 * time.Minute},
		{"429 with a date that has passed", func() http.HandlerFunc { return answer(429, "", "Retry-After", at(-time.Hour)) }, time.Second / 2, 3 * time.Second / 2},
		{"429 with a wish beyond reason: an hour", func() http.HandlerFunc { return answer(429, "", "Retry-After", "99999999999999") }, time.Hour, time.Hour},
		{"429 with GitLab's reset", func() http.HandlerFunc {
			return answer(429, "", "RateLimit-Remaining", "0", "RateLimit-Reset", unix(40*time.Second))
		}, 40 * time.Second, 40 * time.Second},
		{"429 with both: the later", func() http.HandlerFunc {
			return answer(429, "", "Retry-After", "10", "RateLimit-Remaining", "0", "RateLimit-Reset", unix(40*time.Second))
		}, 40 * time.Second, 40 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var second time.Duration
				c := client(t, answers(tt.first(), func(w http.ResponseWriter, r *http.Request) { second = time.Since(start); fine(w, r) }), Options{})
				var got number
				if _, err := c.GetJSON(t.Context(), "/x", &got); err != nil || got.N != 7 {
					t.Fatalf("got %v, error %v", got, err)
				}
				if second < tt.from || second > tt.til {
					t.Errorf("asked again after %v, want %v to %v", second, tt.from, tt.til)
				}
			})
		})
	}
}

func TestTheNextCallWaitsForTheResetWhenNoneIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reset := time.Now().Add(50 * time.Second)
		c := client(t, answers(answer(200, "{}", "RateLimit-Remaining", "0", "RateLimit-Reset", fmt.Sprint(reset.Unix())), fine), Options{})
		for range 2 {
			if _, err := c.GetJSON(t.Context(), "/x", &number{}); err != nil {
				t.Fatal(err)
			}
		}
		if late := time.Since(reset); late < 0 || late > time.Second {
			t.Errorf("the second call came %v after the reset", late)
		}
	})
}

func TestACallThatWouldWaitTooLongFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, fine, Options{CallsPerHour: 1})
		if _, err := c.GetJSON(t.Context(), "/x", &number{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.GetJSON(ctx, "/x", &number{})
		var wait *WaitError
		if !errors.As(err, &wait) || !wait.Budget || time.Since(start) > 0 {
			t.Errorf("got %v after %v, want a WaitError at once", err, time.Since(start))
		}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		if _, err := c.GetJSON(ctx, "/x", &number{}); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the end of the wait with its context", err, time.Since(start))
		}
		start = time.Now()
		if _, err := c.GetJSON(t.Context(), "/x", &number{}); err != nil || time.Since(start) < 59*time.Minute {
			t.Errorf("got %v after %v, want the call in the next hour", err, time.Since(start))
		}
	})
}

func TestWhatCannotBeUsedIsAnErrorThatHelps(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name       string
		h          http.HandlerFunc
		want, hint string
		requests   int
	}{
		{"a wrong token", answer(401, `{"message":"401 Unauthorized"}`), "https://gitlab.example.com/root/x answered 401 Unauthorized: 401 Unauthorized", "is wrong or expired", 1},
		{"no permission", answer(403, `{"error":"insufficient_scope","error_description":"needs read_api"}`), "403 Forbidden: needs read_api", "scope", 1},
		{"Backstage's words", answer(400, `{"error":{"name":"InputError","message":"bad filter"}}`), "400 Bad Request: bad filter", "", 1},
		{"words that are no text", answer(400, `{"message":{"name":["is missing"]}}`), `400 Bad Request: {"name":["is missing"]}`, "", 1},
		{"words that repeat the token", answer(400, `{"error":"bad\n`+secret+`"}`), "400 Bad Request: bad [token]", "", 1},
		{"always busy", answer(429, ""), "429 Too Many Requests", "calls_per_hour", 3},
		{"always down", answer(503, ""), "503 Service Unavailable", "", 3},
		{"truncated JSON", answer(200, `{"n":`), "not the JSON that is expected: unexpected end", "", 1},
		{"garbage", answer(200, "\x00\xff"), "not the JSON that is expected", "", 1},
		{"a login page", answer(200, "<html>", "Content-Type", "text/html; charset=utf-8"), "not the JSON that is expected", "web page", 1},
		{"another type", answer(200, `{"n":"seven"}`), "not the JSON that is expected", "", 1},
		{"too large", answer(200, `{"s":"`+strings.Repeat("x", 2000)+`"}`), "larger than 1000 bytes", "", 1},
		{"too slow", slow, "no whole answer within 20s", "", 3},
		{"a redirect without end", answer(302, "", "Location", "/root/x?private_token="+secret), "redirects more than 5 times", "", 6},
		{"a redirect without a target", answer(301, ""), "301 Moved Permanently", "", 1},
		{"a redirect to another host", answer(301, "", "Location", "https://evil.example.com/?t="+secret), "redirects to https://evil.example.com", "configuration", 1},
		{"a redirect away from TLS", answer(301, "", "Location", "http://gitlab.example.com/root/x"), "redirects to http://gitlab.example.com", "configuration", 1},
		{"a redirect to another port", answer(301, "", "Location", "https://gitlab.example.com:8443/"), "redirects to https://gitlab.example.com:8443", "", 1},
		{"a redirect to nonsense", answer(301, "", "Location", "https://%zz"), "malformed", "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := tokenFile(t, secret)
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				c := client(t, func(w http.ResponseWriter, r *http.Request) { requests++; tt.h(w, r) },
					Options{TokenFile: file, Timeout: 20 * time.Second, MaxBytes: 1000, Tries: 3})
				_, err := c.GetJSON(t.Context(), "/x?job_token="+secret, &number{})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got error %v, want %q", err, tt.want)
				}
				if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "_token=") {
					t.Errorf("the error holds the token or the query: %v", err)
				}
				var hint interface{ Hint() string }
				if tt.hint != "" && (!errors.As(err, &hint) || !strings.Contains(hint.Hint(), tt.hint)) {
					t.Errorf("%v has no hint about %q", err, tt.hint)
				}
				if requests != tt.requests {
					t.Errorf("%d requests, want %d", requests, tt.requests)
				}
			})
		})
	}
}

func TestARedirectOnTheSameHostIsFollowedWithTheToken(t *testing.T) {
	var got []string
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+"?"+r.URL.RawQuery+" "+r.Header.Get("Private-Token")+r.Header.Get("Authorization"))
		if r.URL.Path == "/root/api/v4/projects/old" {
			answer(301, "", "Location", "/root/api/v4/projects/7?simple=true")(w, r)
			return
		}
		fine(w, r)
	}, Options{TokenFile: tokenFile(t, secret), TokenHeader: "PRIVATE-TOKEN"})
	var n number
	if _, err := c.GetJSON(t.Context(), "/api/v4/projects/old?simple=true", &n); err != nil || n.N != 7 {
		t.Fatalf("got %v, error %v", n, err)
	}
	want := []string{"/root/api/v4/projects/old?simple=true " + secret, "/root/api/v4/projects/7?simple=true " + secret}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got requests %q, want %q", got, want)
	}
}

func TestANewTokenIsTakenOver(t *testing.T) {
	file := tokenFile(t, "old")
	var got string
	c := client(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization"); fine(w, r) }, Options{TokenFile: file})
	for _, token := range []string{"old", "new"} {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetJSON(t.Context(), "/x", &number{}); err != nil || got != "Bearer "+token {
			t.Errorf("sent %q (error %v), want the token %q", got, err, token)
		}
	}
	for _, broken := range []func() error{func() error { return os.WriteFile(file, []byte("\n"), 0o600) }, func() error { return os.Remove(file) }} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		got = "not asked"
		if _, err := c.GetJSON(t.Context(), "/x", &number{}); err == nil || got != "not asked" {
			t.Errorf("an empty or missing token file: error %v, sent %q", err, got)
		}
	}
}

// A cut connection and a name that is not there need a real server.
func TestABrokenConnectionIsTriedAgain(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"n":`)
	}
	server := httptest.NewServer(answers(cut, fine))
	defer server.Close()
	c, err := New(Options{BaseURL: server.URL + "/", Tries: 2})
	if err != nil {
		t.Fatal(err)
	}
	var n number
	if _, err := c.GetJSON(t.Context(), "/x", &n); err != nil || n.N != 7 {
		t.Errorf("got %v, error %v", n, err)
	}
	server.Close()
	_, err = c.GetJSON(t.Context(), "/x?token="+secret, &n)
	if err == nil || !strings.Contains(err.Error(), "ask http://127.0.0.1") || strings.Contains(err.Error(), secret) {
		t.Errorf("a server that is gone: %v", err)
	}
}

func TestAURLThatCannotBeOneIsRefused(t *testing.T) {
	for _, raw := range []string{"", "gitlab.example.com", "ftp://gitlab.example.com", "https://", "https://user:" + secret + "@gitlab.example.com", "https://" + secret + ":%zz@h"} {
		if _, err := New(Options{BaseURL: raw}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: error %v", raw, err)
		}
	}
	if _, err := New(Options{BaseURL: "https://h", CallsPerHour: -1}); err == nil {
		t.Error("a budget below zero is taken")
	}
	if _, err := New(Options{BaseURL: "https://h", CAFile: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a ca_file that does not exist is taken")
	}
}

// The proxy settings of a process are read once, so each case is a process of its own.
func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	if base := os.Getenv("UPSTREAM_TEST_BASE"); base != "" {
		c, err := New(Options{BaseURL: base, Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		var n number
		if _, err := c.GetJSON(t.Context(), "/x", &n); err != nil || n.N != 7 {
			t.Fatalf("got %v, error %v", n, err)
		}
		return
	}
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String(); fine(w, r) }))
	defer proxy.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheProxyOfTheEnvironmentIsUsed$")
	cmd.Env = append(os.Environ(), "UPSTREAM_TEST_BASE=http://gitlab.invalid", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if asked != "http://gitlab.invalid/x" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

func TestPostSendsAgainUntilItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		see := func(h http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got = append(got, strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("X-Scope-OrgID"), r.Header.Get("Authorization"), string(b)}, " "))
				h(w, r)
			}
		}
		c := client(t, answers(see(answer(503, "", "Retry-After", "30")), see(answer(200, "thanks"))), Options{TokenFile: tokenFile(t, secret)})
		start := time.Now()
		b, err := c.Post(t.Context(), "/push", http.Header{"Content-Type": {"text/x"}, "X-Scope-Orgid": {"shop"}}, []byte("hello"))
		if err != nil || string(b) != "thanks" || time.Since(start) < 30*time.Second {
			t.Errorf("answer %q after %v, error %v", b, time.Since(start), err)
		}
		want := "POST /root/push text/x shop Bearer " + secret + " hello"
		if len(got) != 2 || got[0] != want || got[1] != want {
			t.Errorf("requests %q, want twice %q", got, want)
		}
	})
}

func TestPostGivesUpOnARefusalAndOnARedirect(t *testing.T) {
	var status *StatusError
	c := client(t, answer(400, "entry too far\n behind "+secret, "Content-Type", "text/plain; charset=utf-8"), Options{TokenFile: tokenFile(t, secret)})
	if _, err := c.Post(t.Context(), "/push", nil, nil); !errors.As(err, &status) || status.Code != 400 || status.Message != "entry too far behind [token]" {
		t.Errorf("a refusal: %v", err)
	}
	var redirect *RedirectError
	c = client(t, answer(307, "", "Location", "/root/login"), Options{})
	if _, err := c.Post(t.Context(), "/push", nil, nil); !errors.As(err, &redirect) {
		t.Errorf("a redirect: %v", err)
	}
}
