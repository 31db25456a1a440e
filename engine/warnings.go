package engine

import (
	"context"
	"slices"
	"sync"
)

// Warnings collects what a store says about answers that are no errors but may be incomplete or not what was meant, as
// when one of several stores behind a query front end is down. Safe for concurrent use.
type Warnings struct {
	mu   sync.Mutex
	list []string
}

// maxWarnings bounds what is kept; the first ones say enough.
const maxWarnings = 10

type warningsKey struct{}

// WithWarnings gives a context whose queries note their warnings.
func WithWarnings(ctx context.Context) (context.Context, *Warnings) {
	w := &Warnings{}
	return context.WithValue(ctx, warningsKey{}, w), w
}

// List gives each warning once, in the order in which they came; at most ten.
func (w *Warnings) List() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// Warn notes warnings for the caller of a query, if the context was made by WithWarnings. Queriers call it.
func Warn(ctx context.Context, warnings ...string) {
	w, ok := ctx.Value(warningsKey{}).(*Warnings)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range warnings {
		if len(w.list) < maxWarnings && !slices.Contains(w.list, s) {
			w.list = append(w.list, s)
		}
	}
}
