package server

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/server/api"
)

// ready says why the server is not ready. Once it was, it stays so: what fails later leaves the last good state, which is
// worth being shown, and stands in the metrics.
func (s *Server) ready(ctx context.Context) *unready {
	if s.store.readied.Load() {
		return nil
	}
	if !s.current.Load().loaded {
		if why := s.notices(); len(why) > 0 { // none where it was loaded a moment ago
			return &unready{"the catalog has not been loaded", why[0]}
		}
	}
	if err := s.store.check(ctx); err != nil {
		return &unready{"the store does not answer", "the store does not answer: " + explain(err)}
	}
	s.store.readied.Store(true)
	return nil
}

// An unready says why a server is not ready: what does not work, and what was said of it.
type unready struct{ state, why string }

func (u *unready) Error() string { return u.why }

// A storeWatch asks the store now and then whether it answers.
type storeWatch struct {
	querier engine.Querier
	metrics *metrics
	now     func() time.Time
	readied atomic.Bool

	mu  sync.Mutex
	at  time.Time // of the last check
	err error
}

const (
	storeCheckAge   = 5 * time.Second // how long one check serves, so that probes do not become load
	storeCheckLimit = 5 * time.Second
	storeCheckEvery = 30 * time.Second
)

func newStoreWatch(q engine.Querier, m *metrics, now func() time.Time) *storeWatch {
	return &storeWatch{querier: q, metrics: m, now: now}
}

func (w *storeWatch) check(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.now(); w.at.IsZero() || now.Sub(w.at) >= storeCheckAge {
		limited, cancel := context.WithTimeout(ctx, storeCheckLimit)
		defer cancel()
		_, err := w.querier.Query(limited, "vector(1)", time.Time{})
		if err != nil && ctx.Err() != nil {
			return err
		}
		w.at, w.err = now, err
		if err == nil {
			w.metrics.storeUp.Set(1)
		} else {
			w.metrics.storeUp.Set(0)
		}
	}
	return w.err
}

// run checks until ctx ends.
func (w *storeWatch) run(ctx context.Context) {
	tick := time.NewTicker(storeCheckEvery)
	defer tick.Stop()
	for {
		w.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// elsewhere answers what only an embedded store could.
func (s *Server) elsewhere() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		api.WriteError(w, api.Error{
			Title: "Not found", Status: http.StatusNotFound, Detail: "Sightline has no store of its own here", Hint: "ask the store at " + s.opts.Remote.Address(),
		})
	})
}
