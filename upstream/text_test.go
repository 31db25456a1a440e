package upstream

import (
	"net/http"
	"testing"
	"testing/synctest"
)

func TestATextIsGivenAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
		page := func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept"); got != "text/plain" {
				t.Errorf("Accept is %q", got)
			}
			w.Write([]byte("up 1\n"))
		}
		c := client(t, answers(busy, page), Options{})
		if got, err := c.GetText(t.Context(), "/metrics"); err != nil || string(got) != "up 1\n" {
			t.Errorf("%q, %v", got, err)
		}
		c = client(t, page, Options{MaxBytes: 3})
		if got, err := c.GetText(t.Context(), "/metrics"); err == nil {
			t.Errorf("an answer that is too large gives %q", got)
		}
	})
}
