package upstream

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"
)

func TestTheEndsOfAnAnswerAreKeptWhateverItsLengthAndPieces(t *testing.T) {
	text := make([]byte, 300<<10)
	for i := range text {
		text[i] = byte(rand.IntN(256))
	}
	for _, length := range []int{0, 1, 99, 100, 101, 140, 150, 151, 249, 250, 251, 1000, 40 << 10, 300 << 10} {
		for _, ends := range [][2]int{{100, 50}, {100, 0}, {0, 50}} {
			for name, r := range map[string]io.Reader{"whole": bytes.NewReader(text[:length]), "in halves": iotest.HalfReader(bytes.NewReader(text[:length])), "last with EOF": iotest.DataErrReader(bytes.NewReader(text[:length]))} {
				head, tail := ends[0], ends[1]
				got, err := readEnds(r, head, tail, 1<<20)
				want := Ends{Head: text[:length]}
				if length > head+tail {
					want = Ends{Head: text[:head], Tail: text[length-tail : length], Left: int64(length - head - tail)}
				}
				if err != nil || !bytes.Equal(got.Head, want.Head) || !bytes.Equal(got.Tail, want.Tail) || got.Left != want.Left || got.Cut {
					t.Errorf("%d bytes %s, ends %v: %d + %d bytes, %d left out, cut %v, %v", length, name, ends, len(got.Head), len(got.Tail), got.Left, got.Cut, err)
				}
			}
		}
	}
	got, err := readEnds(bytes.NewReader(text), 10, 10, 1000)
	if err != nil || !got.Cut || !bytes.Equal(got.Tail, text[990:1000]) || got.Left != 980 {
		t.Errorf("beyond the limit: tail is the last of what was read: %v, %d left out, cut %v, %v", bytes.Equal(got.Tail, text[990:1000]), got.Left, got.Cut, err)
	}
}

func TestGetEndsTriesAgainAndGivesOtherAnswersAsErrors(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked++; {
		case r.URL.Path == "/gone":
			http.Error(w, `{"message":"404 Not Found"}`, http.StatusNotFound)
		case asked == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			io.WriteString(w, "0123456789")
		}
	}))
	t.Cleanup(srv.Close)
	c, err := New(Options{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GetEnds(t.Context(), "/log", 2, 3)
	if err != nil || string(got.Head) != "01" || string(got.Tail) != "789" || got.Left != 5 {
		t.Errorf("ends %q and %q, %d left out, %v", got.Head, got.Tail, got.Left, err)
	}
	if _, err := c.GetEnds(t.Context(), "/gone", 2, 3); err == nil {
		t.Error("a log that is gone is no error")
	}
}
