package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheSkewOfAClockIsTheLeastThatItsDateAllows(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	tests := map[string]struct {
		date, asked, now float64
		want             time.Duration
	}{
		"the date lies between call and answer":         {date: 1, asked: 0.5, now: 1.5},
		"the date was cut to the second of the call":    {date: 0, asked: 0.9, now: 0.95},
		"the clock is ahead":                            {date: 30, asked: 0, now: 1, want: 29 * time.Second},
		"the clock is behind":                           {date: -31, asked: 0, now: 1, want: -30 * time.Second},
		"an answer that takes long is no clock's fault": {date: 0, asked: 0.5, now: 25},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := skewOf(at(tt.date), at(tt.asked), at(tt.now)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFindingsSayHowFarTheClocksDiffer(t *testing.T) {
	tests := map[string]struct {
		ahead time.Duration
		want  Level
	}{
		"not at all":       {0, LevelOK},
		"a little behind":  {-30 * time.Second, LevelWarning},
		"by hours, behind": {-3 * time.Hour, LevelError},
		"by hours, ahead":  {3 * time.Hour, LevelError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer srv.Close()
			c, err := New(Options{BaseURL: srv.URL, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			var before, after Findings
			if before.Clock(c); len(before) > 0 || c.Answered() {
				t.Errorf("before the first answer: %v, answered %t", before, c.Answered())
			}
			if _, _, err := c.Get(t.Context(), "/", nil); err == nil {
				t.Fatal("401 is no error")
			}
			if after.Clock(c); len(after) != 1 || after[0].Level != tt.want || !c.Answered() {
				t.Errorf("got %v, answered %t, want the level %s", after, c.Answered(), tt.want)
			}
		})
	}
}

func TestAFailedCheckHasTheHintOfItsErrorOrAnother(t *testing.T) {
	var got Findings
	got.Failed("read tokens", &StatusError{Code: 401, URL: "http://gitlab.example.com/api"}, "check the URL")
	got.Failed("read tokens", &StatusError{Code: 404, URL: "http://gitlab.example.com/api", Upstream: "gitlab"}, "check gitlab.url")
	got.Failed("read rules", &StatusError{Code: 404, URL: "http://mimir.example.com"}, "check ruler.url")
	got.Failed("read rules", &StatusError{Code: 404, URL: "http://mimir.example.com"}, "")
	got.Failed("read tokens", errors.New("broken\npipe"), "check the URL")
	_, err := os.ReadFile("nowhere")
	got.Failed("read tokens", err, "check the URL")
	want := Findings{
		{LevelError, "read tokens: http://gitlab.example.com/api answered 401 Unauthorized", "it wants credentials, and none were sent: set token_file"},
		{LevelError, "read tokens: http://gitlab.example.com/api answered 404 Not Found", "check the URL; what its token may not see is 404 for a GitLab, too"},
		{LevelError, "read rules: http://mimir.example.com answered 404 Not Found", "check ruler.url"},
		{LevelError, "read rules: http://mimir.example.com answered 404 Not Found", "check the URL"},
		{LevelError, "read tokens: broken; pipe", "check the URL"},
		{LevelError, "read tokens: open nowhere: no such file or directory", "name a file that this process may read"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
