package server

import (
	"context"
	"net/http"
	"testing"
)

func TestAPageOfAnotherSiteChangesNothing(t *testing.T) {
	url, _, _ := run(t, Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	for _, c := range []struct {
		name, path string
		header     http.Header
		want       int
	}{
		{"a program reloads", "/-/reload", nil, http.StatusOK},
		{"our own page", "/-/reload", http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusOK},
		{"another site", "/-/reload?force=true", http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"a sister site, to which the cookie goes", "/-/reload", http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		{"another site that writes samples", "/api/v1/write", http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"an old browser", "/-/reload", http.Header{"Origin": {"https://elsewhere.example"}}, http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = c.header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.want)
		}
	}
}
