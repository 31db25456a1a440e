package upstream

import (
	"context"
	"net/http"
)

// Do sends a request of any method and gives the body of the answer. Attempts and waits are those of GetJSON, so what is
// sent must do no harm when it arrives twice; only a GET follows redirects. The header and the body may be nil.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (answer []byte, err error) {
	_, err = c.retry(ctx, path, &call{method: method, header: header, body: body, take: func(_ string, _ http.Header, b []byte) error {
		answer = b
		return nil
	}})
	return answer, err
}

// BaseURL is the address that paths are added to; it holds no credentials.
func (c *Client) BaseURL() string { return c.base.String() }
