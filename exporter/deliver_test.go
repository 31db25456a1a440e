package exporter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// box is an outbox in memory.
type box struct {
	mu      sync.Mutex
	unsent  []Unsent
	arrived chan struct{}
}

func boxOf(keys ...string) *box {
	b := &box{}
	for _, k := range keys {
		b.unsent = append(b.unsent, Unsent{k, Run{ID: RunID{Source: "gitlab", Key: k}}})
	}
	return b
}

func (b *box) Waiting(_ string, limit int) ([]Unsent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.unsent[:min(limit, len(b.unsent))]), nil
}

func (b *box) Sent(_ context.Context, _ string, keys []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsent = slices.DeleteFunc(b.unsent, func(u Unsent) bool { return slices.Contains(keys, u.Key) })
	return nil
}
func (b *box) Arrived(string) <-chan struct{} { return b.arrived }

// sender writes down when it was asked for what, and what it answered.
type sender struct {
	answer func(keys []string, call int) (int, error)
	start  time.Time
	log    []string
}

func (*sender) Name() string { return "loki" }

func (s *sender) Send(_ context.Context, runs []Run) (int, error) {
	var keys []string
	for _, r := range runs {
		keys = append(keys, r.ID.Key)
	}
	n, err := s.answer(keys, len(s.log))
	s.log = append(s.log, fmt.Sprintf("%s %s: %d %v", time.Since(s.start).Round(time.Second), strings.Join(keys, ""), n, err))
	return n, err
}

// deliver runs Deliver for an hour of the test's clock and gives the log of the sender and the metrics.
func deliver(t *testing.T, b *box, o DeliverOptions, answer func([]string, int) (int, error), meanwhile ...func()) (log []string, metrics string) {
	synctest.Test(t, func(t *testing.T) {
		b.arrived = make(chan struct{}, 1)
		o.Outbox, o.Metrics = b, NewSinkMetrics(prometheus.NewRegistry())
		s := &sender{answer: answer, start: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, f := range meanwhile {
			go f()
		}
		if err := Deliver(ctx, s, o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Deliver: %v", err)
		}
		log = s.log
		metrics = fmt.Sprintf("sent %v, refused %v, errors %v", testutil.ToFloat64(o.Metrics.sent), testutil.ToFloat64(o.Metrics.refused), testutil.ToFloat64(o.Metrics.errors))
	})
	return log, metrics
}

func TestDeliver(t *testing.T) {
	busy := errors.New("busy")
	rejected := &SendError{Err: errors.New("bad"), Rejected: true}
	for _, c := range []struct {
		name    string
		answer  func(keys []string, call int) (int, error)
		log     []string // the first ones
		left    int
		metrics string
	}{
		{
			"everything is taken, batch by batch",
			func([]string, int) (int, error) { return 0, nil },
			[]string{"0s abcd: 0 <nil>", "0s ef: 0 <nil>"},
			0, "sent 6, refused 0, errors 0",
		},
		{
			"a store that is away for a moment is asked again, and the runs are sent in order",
			func(_ []string, call int) (int, error) {
				if call < 2 {
					return 0, busy
				}
				return 0, nil
			},
			[]string{"0s abcd: 0 busy", "1s abcd: 0 busy", "3s abcd: 0 <nil>", "3s ef: 0 <nil>"},
			0, "sent 6, refused 0, errors 2",
		},
		{
			"a run that is rejected is found, refused and given up",
			func(keys []string, _ int) (int, error) {
				if slices.Contains(keys, "c") {
					return 0, rejected
				}
				return 0, nil
			},
			[]string{"0s abcd: 0 bad", "0s ab: 0 <nil>", "0s cd: 0 bad", "0s c: 0 bad", "0s d: 0 <nil>", "0s ef: 0 <nil>"},
			0, "sent 5, refused 1, errors 0",
		},
		{
			"runs that the store refused while it took the others are not sent again",
			func(keys []string, _ int) (int, error) { return len(keys) / 4, nil },
			[]string{"0s abcd: 1 <nil>", "0s ef: 0 <nil>"},
			0, "sent 5, refused 1, errors 0",
		},
		{
			"a panic gives up the run at fault",
			func(keys []string, _ int) (int, error) {
				if slices.Contains(keys, "a") {
					panic("no")
				}
				return 0, nil
			},
			[]string{"0s b: 0 <nil>", "0s cd: 0 <nil>", "0s ef: 0 <nil>"},
			0, "sent 5, refused 1, errors 0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := boxOf("a", "b", "c", "d", "e", "f")
			log, metrics := deliver(t, b, DeliverOptions{Batch: 4}, c.answer)
			if d := cmp.Diff(c.log, log); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if len(b.unsent) != c.left || metrics != c.metrics {
				t.Errorf("%d left, %s; want %d, %s", len(b.unsent), metrics, c.left, c.metrics)
			}
		})
	}
}

func TestAStoreThatStaysAwayIsAskedSeldomAndLosesNothing(t *testing.T) {
	b := boxOf("a")
	log, _ := deliver(t, b, DeliverOptions{}, func([]string, int) (int, error) { return 0, errors.New("away") })
	if len(log) < 15 || len(log) > 25 || len(b.unsent) != 1 {
		t.Errorf("asked %d times in an hour, %d left; want about 20 and 1:\n%s", len(log), len(b.unsent), strings.Join(log, "\n"))
	}
}

func TestARunIsSentWhenItArrives(t *testing.T) {
	b := boxOf()
	late := boxOf("a").unsent
	log, _ := deliver(t, b, DeliverOptions{}, func(keys []string, call int) (int, error) { return 0, nil }, func() {
		time.Sleep(time.Minute) // of the test's clock
		b.mu.Lock()
		b.unsent = late
		b.mu.Unlock()
		b.arrived <- struct{}{}
	})
	if d := cmp.Diff([]string{"1m0s a: 0 <nil>"}, log); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestARunThatCannotBeReadIsGivenUp(t *testing.T) {
	b := boxOf("a", "b")
	b.unsent[0].Run = Run{}
	log, metrics := deliver(t, b, DeliverOptions{}, func([]string, int) (int, error) { return 0, nil })
	if d := cmp.Diff([]string{"0s b: 0 <nil>"}, log); d != "" || metrics != "sent 1, refused 1, errors 0" || len(b.unsent) != 0 {
		t.Errorf("%s, %d left (-want +got):\n%s", metrics, len(b.unsent), d)
	}
}

func TestAnAnswerSaysWhetherAnotherAttemptIsWorthIt(t *testing.T) {
	for status, rejected := range map[int]bool{400: true, 413: true, 422: true, 401: false, 404: false, 429: false, 500: false, 503: false} {
		if got := HTTPSendError(errors.New("x"), status).Rejected; got != rejected {
			t.Errorf("%d: rejected %v, want %v", status, got, rejected)
		}
	}
}
