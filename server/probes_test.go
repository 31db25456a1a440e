package server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/server/auth"
)

// ask sends a request with a token and gives the status and the body.
func ask(t *testing.T, method, url, token string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

func guarded(t *testing.T, o Options) Options {
	o.NeedAuth, o.Auth = true, auth.Options{TokenFiles: []string{write(t, filepath.Join(t.TempDir(), "tokens"), "s3cret\n")}}
	o.Path = t.TempDir()
	return o
}

func TestAProbeTellsAnybodyTheStateAndWhyOnlyThoseWhoMayRead(t *testing.T) {
	failing := Options{
		Compile: func(context.Context) (*Compiled, error) { return nil, errors.New("backstage.internal says no") },
		Retry:   func(error) bool { return true },
	}
	url, s, _ := run(t, guarded(t, failing))
	_ = s.Reload(t.Context())
	for token, why := range map[string]bool{"": false, "wrong": false, "s3cret": true} {
		code, body := ask(t, http.MethodGet, url+"/-/ready", token, nil)
		if code != http.StatusServiceUnavailable || !strings.Contains(strings.ToLower(body), "not ready: the catalog has not been loaded") || strings.Contains(body, "backstage.internal") != why {
			t.Errorf("with the token %q: %d %s; want the reason: %v", token, code, body, why)
		}
	}
}

func TestMetricsHaveAListenerOfTheirOwnWhereOneIsNamed(t *testing.T) {
	o := guarded(t, Options{MetricsListen: "127.0.0.1:0", Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	url, s, _ := run(t, o)
	if s.MetricsURL() == url {
		t.Fatal("metrics have no listener of their own")
	}
	for at, want := range map[string]int{
		s.MetricsURL() + "/metrics": 200, s.MetricsURL() + "/-/ready": 200, s.MetricsURL() + "/-/healthy": 200, s.MetricsURL() + "/api/v1/owners": 404, s.MetricsURL() + "/": 404,
		url + "/metrics": 401, url + "/-/ready": 200, url + "/-/healthy": 200, url + "/api/v1/owners": 401,
	} {
		if code, body := ask(t, http.MethodGet, at, "", nil); code != want {
			t.Errorf("%s: %d, want %d: %.100s", at, code, want, body)
		}
	}
	if code, _ := ask(t, http.MethodGet, url+"/metrics", "s3cret", nil); code != 404 {
		t.Errorf("metrics are still beside everything else: %d", code)
	}
}

func TestARemoteWriteIsOfBoundedLength(t *testing.T) {
	url, _, _ := run(t, guarded(t, Options{Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }}))
	code, body := ask(t, http.MethodPost, url+"/api/v1/write", "s3cret", make([]byte, maxWrite+1))
	if code/100 != 4 || !strings.Contains(body, "too large") {
		t.Errorf("a body of more than 8 MiB: %d %.200s", code, body)
	}
}
