package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// Ends are the beginning and the end of an answer that may be long.
type Ends struct {
	Head, Tail []byte
	Left       int64 // bytes between Head and Tail that were read and not kept; 0: there is no Tail, and Head is the whole
	Cut        bool  // MaxBytes were read, and the answer is longer
}

// GetEnds asks for a path as Get does, and keeps of the answer its first and last bytes only: at most head and tail of them, whatever its
// length. It reads no more than MaxBytes.
func (c *Client) GetEnds(ctx context.Context, path string, head, tail int) (Ends, error) {
	var ends Ends
	_, err := c.retry(ctx, path, &call{
		method: http.MethodGet, header: http.Header{"Accept": {"text/plain"}},
		read: func(r io.Reader) (_ []byte, err error) {
			ends, err = readEnds(io.LimitReader(r, c.opts.MaxBytes+1), head, tail, c.opts.MaxBytes)
			return nil, err
		},
		take: func(string, http.Header, []byte) error { return nil },
	})
	if err != nil {
		return Ends{}, err
	}
	return ends, nil
}

func readEnds(r io.Reader, head, tail int, limit int64) (Ends, error) {
	var e Ends
	whole := make([]byte, 0, min(head+tail, 64<<10)) // the first head+tail bytes
	ring := []byte(nil)                              // the last bytes after the first head+tail
	at, total := 0, int64(0)
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		b := buf[:n]
		if over := total - limit; over > 0 {
			e.Cut, b = true, b[:max(0, len(b)-int(over))]
		}
		if room := head + tail - len(whole); room > 0 {
			k := min(room, len(b))
			whole, b = append(whole, b[:k]...), b[k:]
		}
		if len(b) > 0 && ring == nil {
			ring = append(make([]byte, 0, tail), whole[head:]...)
		}
		for len(b) > 0 && tail > 0 {
			k := copy(ring[at:], b)
			at, b, e.Left = (at+k)%tail, b[k:], e.Left+int64(k)
		}
		e.Left += int64(len(b)) // without a tail
		if errors.Is(err, io.EOF) || e.Cut {
			break
		}
		if err != nil {
			return Ends{}, err
		}
	}
	if e.Left == 0 {
		e.Head = whole
		return e, nil
	}
	e.Head = whole[:head]
	if tail > 0 {
		e.Tail = append(append(make([]byte, 0, tail), ring[at:]...), ring[:at]...)
	}
	return e, nil
}
