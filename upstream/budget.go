package upstream

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxPause bounds what an upstream can ask for, so that a wrong clock does not stop Sightline for ever.
const maxPause = time.Hour

// A gate lets a call through when the budget allows it and the upstream has not asked to wait. Safe for concurrent use.
type gate struct {
	budget *rate.Limiter // nil: no limit

	mu    sync.Mutex
	until time.Time // the upstream asked for no call before
}

// newGate makes a gate. A tenth of the budget may be used at once (the burst b); the rest comes at the steady rate
// (N+1-b) per hour and a second, so that any 60 minutes see at most b + rate·3600s < N+1 calls.
func newGate(callsPerHour int) *gate {
	if callsPerHour == 0 {
		return &gate{}
	}
	burst := max(1, callsPerHour/10)
	perSecond := float64(callsPerHour+1-burst) / (time.Hour + time.Second).Seconds()
	return &gate{budget: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// pause keeps calls back until then. A shorter wish does not end a longer one.
func (g *gate) pause(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until = until
	}
}

func (g *gate) paused() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.until)
}

// remaining is the number of calls that may be made now without waiting for the budget.
func (g *gate) remaining() float64 { return math.Floor(max(0, g.budget.Tokens())) }

// wait returns when a call may be made, and takes it out of the budget.
func (g *gate) wait(ctx context.Context, m meter) error {
	for {
		if d := g.paused(); d > 0 {
			if err := sleep(ctx, d, m, "upstream"); err != nil {
				return err
			}
			continue
		}
		if g.budget == nil {
			return ctx.Err()
		}
		r := g.budget.Reserve()
		d := r.Delay()
		if d == 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, d, m, "budget"); err != nil {
			r.Cancel()
			return err
		}
		if g.paused() <= 0 {
			return nil
		}
		// What was reserved before the pause is lost: calls saved up during a pause would break the budget after it.
	}
}

// sleep waits for d, or returns a WaitError when ctx ends before.
func sleep(ctx context.Context, d time.Duration, m meter, reason string) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return &WaitError{d, reason == "budget"}
	}
	defer m.wait(reason)()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pause reads until when an answer asks for no more calls: Retry-After on 429 and 503, in seconds or as a date, and
// RateLimit-Remaining: 0 with RateLimit-Reset on any answer, as a Unix time (GitLab) or in seconds. Times are taken
// relative to the answer's own Date, so that the two clocks need not agree. At most an hour.
func pause(resp *http.Response, now time.Time) (time.Time, bool) {
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		theirs = now
	}
	var wait time.Duration
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		after := resp.Header.Get("Retry-After")
		if s, err := strconv.ParseInt(after, 10, 64); err == nil {
			wait = seconds(s)
		} else if at, err := http.ParseTime(after); err == nil {
			wait = at.Sub(theirs)
		}
	}
	if resp.Header.Get("RateLimit-Remaining") == "0" {
		if s, err := strconv.ParseInt(resp.Header.Get("RateLimit-Reset"), 10, 64); err == nil {
			if s > 1e8 { // no interval lasts three years: a Unix time
				s -= theirs.Unix()
			}
			wait = max(wait, seconds(s))
		}
	}
	return now.Add(min(wait, maxPause)), wait > 0
}

// seconds is a duration that does not overflow.
func seconds(s int64) time.Duration { return time.Duration(min(max(s, 0), 1e6)) * time.Second }
