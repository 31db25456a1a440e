package upstream

import (
	"net/http"
	"sync"
	"time"
)

// heard is what is known of an upstream from its answers, whatever their status. Safe for concurrent use.
type heard struct {
	mu       sync.Mutex
	answered bool
	dated    bool
	skew     time.Duration
}

func (h *heard) answer(header http.Header, asked, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = true
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		h.dated = true
		h.skew = skewOf(date, asked, now)
	}
}

// skewOf is how far a clock is ahead of ours that said date between two of our times. The date has whole seconds, so any
// time within a second of it may be meant: what is closest to ours is taken.
func skewOf(date, asked, now time.Time) time.Duration {
	switch {
	case date.After(now):
		return date.Sub(now)
	case date.Add(time.Second).Before(asked):
		return date.Add(time.Second).Sub(asked)
	}
	return 0
}

// Answered tells whether the upstream has answered a call, with whatever status.
func (c *Client) Answered() bool {
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	return c.heard.answered
}

// Skew is how far the upstream's clock is ahead of ours at the least, as of its last answer with a Date.
func (c *Client) Skew() (skew time.Duration, known bool) {
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	return c.heard.skew, c.heard.dated
}
