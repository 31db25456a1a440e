package gitlab

import (
	"net/http"
	"sync/atomic"
	"time"
)

// A clock tells GitLab's time, by what its answers say, so that times of its rows can be compared with "now".
// Safe for concurrent use.
type clock struct {
	local  func() time.Time
	offset atomic.Int64
}

// set takes the time of an answer over. A header without Date changes nothing.
func (c *clock) set(h http.Header) {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	c.offset.Store(int64(t.Sub(c.local())))
}

// now is GitLab's time, up to a second late.
func (c *clock) now() time.Time { return c.local().Add(time.Duration(c.offset.Load())).UTC() }
