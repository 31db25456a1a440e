package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

func TestACheckThatDoesNotEndStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		checks := []check{
			{name: "stuck", run: func(context.Context) upstream.Findings { <-over; return nil }},
			{name: "slow", run: func(ctx context.Context) (out upstream.Findings) {
				<-ctx.Done()
				out.Failed("ask", ctx.Err(), "")
				return out
			}},
			{name: "quick", run: func(context.Context) (out upstream.Findings) { out.OK("well"); return out }},
		}
		began := time.Now()
		var said [][]string
		got := runChecks(t.Context(), checks, 30*time.Second, func(_ int, waiting []string) { said = append(said, waiting) })
		want := []checked{
			{"stuck", "", upstream.Finding{Level: upstream.LevelError, Message: "it took longer than 30s"}},
			{"slow", "", upstream.Finding{Level: upstream.LevelError, Message: "ask: context deadline exceeded"}},
			{"quick", "", upstream.Finding{Level: upstream.LevelOK, Message: "well"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if took := time.Since(began); took != 31*time.Second {
			t.Errorf("it took %s", took)
		}
		if diff := cmp.Diff([][]string{{"stuck", "slow", "quick"}, {"stuck", "slow"}, {"stuck"}}, said); diff != "" {
			t.Errorf("progress (-want +got)\n%s", diff)
		}
	})
}

func TestTheExitCodeOfDoctorTellsProblemsFromSilence(t *testing.T) {
	bad := []checked{{Finding: upstream.Finding{Level: upstream.LevelError}}}
	answers := func(yes bool) func() bool { return func() bool { return yes } }
	tests := map[string]struct {
		checks []check
		found  []checked
		want   int
	}{
		"nothing is wrong":                {[]check{{answered: answers(false)}}, []checked{{Finding: upstream.Finding{Level: upstream.LevelWarning}}}, exitOK},
		"a file is wrong":                 {[]check{{}}, bad, exitProblems},
		"one of two systems has answered": {[]check{{answered: answers(false)}, {answered: answers(true)}}, bad, exitProblems},
		"neither of two systems answered": {[]check{{}, {answered: answers(false)}, {answered: answers(false)}}, bad, exitUpstream},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var exit exitError
			errors.As(doctorExit(tt.checks, tt.found), &exit)
			if exit.code != tt.want {
				t.Errorf("got %d, want %d", exit.code, tt.want)
			}
		})
	}
}
