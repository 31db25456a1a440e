package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Anchored tells whether the server knows the modifier "anchored". One that has no list of features does not say: false.
func (c *Client) Anchored(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.raw.URL("/api/v1/features", nil).String(), http.NoBody)
	if err != nil {
		return false, err
	}
	_, body, err := c.raw.Do(ctx, req)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, c.wrap(ctx, err)
	}
	var answer struct {
		Data map[string]map[string]bool
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, c.wrap(ctx, fmt.Errorf("the list of features is not Prometheus's: %w", err))
	}
	return answer.Data["promql"]["anchored"], nil
}

// Retention is how long the server says that it keeps samples; 0 where it does not say, or keeps them up to a size only.
func (c *Client) Retention(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	info, err := c.api.Runtimeinfo(ctx)
	if err != nil {
		return 0
	}
	keep, _ := retentionOf(info.StorageRetention)
	return keep
}
