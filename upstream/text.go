package upstream

import (
	"context"
	"net/http"
)

// GetText asks for a path as GetJSON does, of a server that speaks a text format such as Prometheus' own, and gives the
// body as it is.
func (c *Client) GetText(ctx context.Context, path string) (text []byte, err error) {
	_, err = c.retry(ctx, path, &call{method: http.MethodGet, header: http.Header{"Accept": {"text/plain"}}, take: func(_ string, _ http.Header, body []byte) error {
		text = body
		return nil
	}})
	return text, err
}
