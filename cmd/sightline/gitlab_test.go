package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/upstream"
)

func TestEachSightlineHasASubscriptionOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	read := make(chan struct{})
	backstage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		mu.Unlock()
		if r.Method == http.MethodGet {
			select {
			case read <- struct{}{}:
			case <-r.Context().Done():
			}
			<-r.Context().Done()
		}
	}))
	defer backstage.Close()
	for _, at := range []string{"", "https://sightline.example.com", "https://sightline.staging.example.com"} {
		c := &config.Config{
			Catalog: config.Catalog{Backstage: &config.Backstage{URL: backstage.URL}}, Server: config.Server{URL: at},
			Sources: config.Sources{GitLab: []config.GitLab{{URL: "https://gitlab.example.com", BackstageEvents: true}}},
		}
		var o server.Options
		if err := addGitLab(&o, c, upstream.NewPool()); err != nil {
			t.Fatal(err)
		}
		if o.Webhooks != nil {
			t.Error("there are no secrets, and /webhooks/gitlab is served")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			o.Events(ctx, nil, nil)
		}()
		<-read
		cancel()
		<-done
	}
	mu.Lock()
	defer mu.Unlock()
	const path = "/api/events/bus/v1/subscriptions/"
	want := []string{"PUT " + path + "sightline", "GET " + path + "sightline/events"}
	if diff := cmp.Diff(want, asked[:2]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	slices.Sort(asked)
	if n := len(slices.Compact(asked)); n != 6 {
		t.Errorf("%d different addresses were asked, want 6: %v", n, asked)
	}
}
