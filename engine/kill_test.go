package engine

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childStore is the variable that makes TestAStoreSurvivesAKill the process that is killed; childBase gives its base time.
const (
	childStore = "SIGHTLINE_ENGINE_TEST_STORE"
	childBase  = "SIGHTLINE_ENGINE_TEST_BASE"
)

// appendUntilKilled serves the store and appends one sample after the other, number n at n ms after a time that all
// processes on the store know; it says when each is in.
func appendUntilKilled(path string) error {
	e, err := Open(Options{Path: path})
	if err != nil {
		return err
	}
	base, err := strconv.ParseInt(os.Getenv(childBase), 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	got, err := e.Query(ctx, "count_over_time(n[1h])", time.Now().Add(time.Minute))
	if err != nil {
		return err
	}
	n := 0
	if len(got) > 0 {
		n = int(got[0].Value)
	}
	fmt.Println("serving", httptest.NewServer(e.QueryHandler()).URL, n)
	if err := e.SetRules(map[string][]byte{"a": []byte("groups: [{name: g, interval: 10ms, rules: [{record: r, expr: 'count_over_time(n[1h])'}]}]")}); err != nil {
		return err
	}
	go e.Run(ctx)
	for {
		n++
		if err := e.Append(ctx, []Sample{{Labels: map[string]string{"__name__": "n"}, Value: float64(n), Time: time.UnixMilli(base + int64(n))}}); err != nil {
			return err
		}
		fmt.Println("appended", n)
		if n%50 == 0 {
			if got, err := e.Query(ctx, "last_over_time(r[1h])", time.Now().Add(time.Minute)); err != nil {
				return err
			} else if len(got) > 0 {
				fmt.Println("a rule has written")
			}
		}
	}
}

func TestAStoreSurvivesAKill(t *testing.T) {
	if path := os.Getenv(childStore); path != "" {
		t.Fatal(appendUntilKilled(path))
	}
	t.Setenv(childBase, strconv.FormatInt(time.Now().Add(-time.Minute).UnixMilli(), 10))
	path, want := t.TempDir(), 0
	for round := range 4 {
		// At odd moments of the writing, with a few hundred samples each time.
		want = killed(t, path, want, 300+37*round)
	}
	e := open(t, func(o *Options) { o.Path = path })
	end := time.Now().Add(time.Minute)
	got := values(t, e, "count_over_time(n[1h])", end)
	if n := int(got["{}"]); n < want { // more is right: the process was ahead of what was read of its output
		t.Errorf("%d samples after the last start, %d were acknowledged", n, want)
	}
	// Each sample is the one before plus one: none is lost in the middle, none is there twice.
	for expr, v := range map[string]float64{"max_over_time(n[1h]) - count_over_time(n[1h])": 0, "min_over_time(n[1h])": 1, "sum_over_time(n[1h]) - (count_over_time(n[1h]) * (count_over_time(n[1h]) + 1) / 2)": 0} {
		if got := values(t, e, expr, end); len(got) != 1 || got["{}"] != v {
			t.Errorf("%s is %v, want %v", expr, got, v)
		}
	}
	if got := values(t, e, "count_over_time(r[1h]) > 0", end); len(got) != 1 {
		t.Error("no rule has written anything")
	}
}

// killed starts a process on the store, which must hold want samples at least, lets it append some, and a rule write, and
// kills it with SIGKILL. It gives the number of samples that are acknowledged then.
func killed(t *testing.T, path string, want, some int) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAStoreSurvivesAKill$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childStore+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	n, first, last, ruled := 0, "", "", false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if rest, ok := strings.CutPrefix(last, "serving "); ok {
			var url string
			if _, err := fmt.Sscan(rest, &url, &n); err != nil {
				t.Fatal(err)
			}
			if n < want {
				t.Errorf("%d samples after a start, %d were acknowledged", n, want)
			}
			first = url
		}
		ruled = ruled || last == "a rule has written"
		if _, err := fmt.Sscanf(last, "appended %d", &n); err == nil && n >= want+some && ruled {
			if first == "" {
				t.Error("it did not say where it serves")
			}
			return n // and the deferred Kill
		}
	}
	t.Fatalf("the process ended by itself: %s", last)
	return 0
}
