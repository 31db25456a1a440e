package gitlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// fakeBus is Backstage's event bus: it gives each event once, ten at a time, holds a reading that finds nothing, and knows
// no subscription that was not made.
type fakeBus struct {
	mu     sync.Mutex
	events []string
	read   map[string]int // events that a subscription has read
	away   bool
	more   chan struct{} // closed at the next event
	asked  int
}

func newFakeBus() *fakeBus { return &fakeBus{read: map[string]int{}, more: make(chan struct{})} }

func (b *fakeBus) publish(payloads ...[]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range payloads {
		b.events = append(b.events, string(p))
	}
	close(b.more)
	b.more = make(chan struct{})
}

// set changes the bus while others use it.
func (b *fakeBus) set(change func(*fakeBus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

func (b *fakeBus) Do(_ context.Context, method, path string, _ http.Header, body []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.away {
		return nil, &upstream.StatusError{Code: http.StatusServiceUnavailable}
	}
	if method != http.MethodPut || string(body) != `{"topics":["gitlab"]}` {
		return nil, &upstream.StatusError{Code: http.StatusBadRequest}
	}
	if _, ok := b.read[path]; !ok {
		b.read[path] = len(b.events)
	}
	return nil, nil
}

func (b *fakeBus) Get(ctx context.Context, path string, _ http.Header) ([]byte, http.Header, error) {
	b.mu.Lock()
	b.asked++
	id, more := strings.TrimSuffix(path, "/events"), b.more
	at, ok := b.read[id]
	switch {
	case b.away:
		b.mu.Unlock()
		return nil, nil, &upstream.StatusError{Code: http.StatusServiceUnavailable}
	case !ok:
		b.mu.Unlock()
		return nil, nil, &upstream.StatusError{Code: http.StatusNotFound}
	case at == len(b.events):
		b.mu.Unlock()
		select {
		case <-more:
		case <-time.After(BusHold):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		return nil, nil, nil
	}
	defer b.mu.Unlock()
	batch := b.events[at:min(at+10, len(b.events))]
	b.read[id] = at + len(batch)
	var answer struct {
		Events []any `json:"events"`
	}
	for _, e := range batch {
		answer.Events = append(answer.Events, map[string]any{"topic": "gitlab", "payload": json.RawMessage(e)})
	}
	body, err := json.Marshal(answer)
	return body, nil, err
}

// follow runs a subscription until stop is called.
func follow(t *testing.T, o SubscriptionOptions) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	o.ID = "sightline"
	wg.Go(func() { NewSubscription(o).Run(ctx) })
	synctest.Wait()
	return func() {
		cancel()
		wg.Wait()
	}
}

// hooks are the bodies of the webhooks of what happened since a time.
func (w *world) hooks(from time.Time) (out [][]byte) {
	for _, h := range w.fake.Hooks(w.project, from.Add(-time.Second), w.now) {
		out = append(out, h.Body)
	}
	return out
}

func TestWebhooksFromBackstagesEventBusCountAPipelineOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, bus := newWorld(t), newFakeBus()
		w.sync()
		stop := follow(t, SubscriptionOptions{Bus: bus, Sources: []*Source{w.source}, Only: true, To: w.journal})
		defer stop()
		from := w.now
		p := w.add("success")
		for range 9 {
			w.attempt(p, "job", w.now, "success")
		}
		w.pass(2 * time.Minute)
		bodies := w.hooks(from)
		bus.publish(bodies...)
		bus.publish(bodies...) // GitLab or Backstage sends all of them again
		time.Sleep(2 * busPause)
		synctest.Wait()
		if err := w.nudge(); err != nil {
			t.Fatal(err)
		}
		w.later()
		if p, j := w.total(); p != 1 || j != 10 {
			t.Errorf("counted %d pipelines and %d jobs, want 1 and 10", p, j)
		}
		if bus.read["/api/events/bus/v1/subscriptions/sightline"] != len(bus.events) || len(bus.events) <= 10 {
			t.Errorf("%v of %d events were read", bus.read, len(bus.events))
		}
	})
}

func TestASubscriptionKeepsItsPlaceThroughRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, bus := newWorld(t), newFakeBus()
		w.sync()
		stop := follow(t, SubscriptionOptions{Bus: bus, Sources: []*Source{w.source}, Only: true, To: w.journal})
		stop()
		from := w.now
		w.add("failed")
		w.pass(5 * time.Minute)
		bus.publish(w.hooks(from)...) // while Sightline is away
		bus.set(func(b *fakeBus) { b.away = true })
		stop = follow(t, SubscriptionOptions{Bus: bus, Sources: []*Source{w.source}, Only: true, To: w.journal})
		defer stop()
		time.Sleep(time.Hour) // of the test's clock
		if bus.set(func(b *fakeBus) {
			if b.asked > 90 {
				t.Errorf("Backstage was asked %d times in an hour of its absence", b.asked)
			}
			b.away = false
		}); len(w.journal.Positions(w.source.markPrefix())) != 0 {
			t.Fatal("a mark came from nowhere")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := w.nudge(); err != nil {
			t.Fatal(err)
		}
		w.later()
		w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
	})
}

func TestASubscriptionThatBackstageForgotIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, bus := newWorld(t), newFakeBus()
		w.sync()
		var log bytes.Buffer
		stop := follow(t, SubscriptionOptions{Bus: bus, Sources: []*Source{w.source}, Only: true, To: w.journal, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer stop()
		bus.set(func(b *fakeBus) { clear(b.read) })
		time.Sleep(2 * BusHold)
		from := w.now
		w.add("failed")
		w.pass(5 * time.Minute)
		bus.publish(w.hooks(from)...)
		synctest.Wait()
		if len(w.journal.Positions(w.source.markPrefix())) != 1 {
			t.Error("the webhook was not stored")
		}
		if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "event bus again") {
			t.Errorf("the log says %s", said)
		}
	})
}

// brokenSink takes nothing while it is broken.
type brokenSink struct {
	exporter.Sink
	mu     sync.Mutex
	broken bool
}

func (s *brokenSink) Commit(ctx context.Context, b exporter.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errors.New("the disk is full")
	}
	return s.Sink.Commit(ctx, b)
}

func TestWhatTheJournalDoesNotTakeIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, bus := newWorld(t), newFakeBus()
		w.sync()
		to := &brokenSink{Sink: w.journal, broken: true}
		stop := follow(t, SubscriptionOptions{Bus: bus, Sources: []*Source{w.source}, Only: true, To: to})
		defer stop()
		from := w.now
		w.add("failed")
		w.pass(5 * time.Minute)
		bodies := w.hooks(from)
		bus.publish(bodies...)
		time.Sleep(10 * time.Minute)
		for range 20 {
			bus.publish(bodies[0])
		}
		time.Sleep(10 * time.Minute)
		if n := bus.read["/api/events/bus/v1/subscriptions/sightline"]; n > 10 {
			t.Errorf("%d events were read, and so acknowledged, while the journal took none", n)
		}
		to.mu.Lock()
		to.broken = false
		to.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := w.nudge(); err != nil {
			t.Fatal(err)
		}
		w.later()
		w.want(map[string]uint64{"job build failure": 1, "first failure": 1})
	})
}

func TestAnIdleBusIsAskedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := newFakeBus()
		stop := follow(t, SubscriptionOptions{Bus: bus})
		defer stop()
		time.Sleep(time.Hour)
		bus.set(func(b *fakeBus) {
			if b.asked < 60 || b.asked > 70 {
				t.Errorf("%d calls in an idle hour", b.asked)
			}
		})
	})
}

// hastyBus answers every reading at once, and with nothing, as behind a proxy that does not hold it.
type hastyBus struct{ asked int }

func (b *hastyBus) Do(context.Context, string, string, http.Header, []byte) ([]byte, error) {
	return nil, nil
}

func (b *hastyBus) Get(context.Context, string, http.Header) ([]byte, http.Header, error) {
	b.asked++
	return nil, nil, nil
}

func TestABusThatHoldsNothingIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &hastyBus{}
		stop := follow(t, SubscriptionOptions{Bus: bus})
		time.Sleep(time.Minute)
		stop()
		if bus.asked < 55 || bus.asked > 65 {
			t.Errorf("%d calls in a minute", bus.asked)
		}
	})
}

func TestAWebhookFromTheBusGoesToTheGitLabThatItNames(t *testing.T) {
	source := func(url string) *Source {
		s, err := New(nil, Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := source("https://gitlab.example.com"), source("https://git.example.org:8443/root")
	s := NewSubscription(SubscriptionOptions{Sources: []*Source{a, b}})
	tests := map[string]struct {
		payload string
		want    *Source
	}{
		"a pipeline's":         {`{"object_kind":"pipeline","project":{"id":1,"web_url":"https://git.example.org:8443/root/a/b"}}`, b},
		"an older job's":       {`{"object_kind":"build","project_id":1,"repository":{"homepage":"https://gitlab.example.com/a/b"}}`, a},
		"another GitLab's":     {`{"project":{"web_url":"https://gitlab.com/a/b"}}`, nil},
		"one without address":  {`{"object_kind":"build","project_id":1}`, nil},
		"one of another shape": {`{"project":"x","repository":{"homepage":"https://gitlab.example.com/a/b"}}`, a},
		"no object":            {`[1]`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := s.sourceOf(json.RawMessage(tt.payload)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
	if got := NewSubscription(SubscriptionOptions{Sources: []*Source{a}, Only: true}).sourceOf(json.RawMessage(`{}`)); got != a {
		t.Error("the only GitLab gets what names none")
	}
}

// The recorded bus answers as the fake one does: 201 to a subscription, 200 with events, 202 and nothing.
func TestTheRecordedEventBusIsUnderstood(t *testing.T) {
	recorded, err := os.ReadFile("testdata/bus-read.json")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch len(asked) {
		case 1:
			w.WriteHeader(http.StatusCreated)
		case 2:
			w.Write(recorded)
		default:
			w.Header().Set("Backstage-Events-Notify-Timeout", "55000")
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer srv.Close()
	client, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSubscription(SubscriptionOptions{Bus: client, ID: "sightline/a"})
	if err := s.subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := s.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || !strings.Contains(string(first[0]), `"object_kind":"pipeline"`) || len(second) != 0 {
		t.Errorf("read %s, then %s", first, second)
	}
	const path = "/api/events/bus/v1/subscriptions/sightline/a"
	if diff := cmp.Diff([]string{"PUT " + path, "GET " + path + "/events", "GET " + path + "/events"}, asked); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestExamineBusTellsAMissingPluginFromAMissingSubscription(t *testing.T) {
	tests := map[string]struct {
		code int
		body string
		want upstream.Level
		hint string
	}{
		"the plugin is there":     {404, `{"error":{"name":"NotFoundError","message":"Subscription with ID 'sightline-doctor' not found"}}`, upstream.LevelOK, ""},
		"there is no such plugin": {404, "", upstream.LevelError, "install"},
		"the token is for others": {403, `{"error":{"name":"NotAllowedError","message":"restricted"}}`, upstream.LevelError, "accessRestrictions"},
		"Backstage is broken":     {500, "", upstream.LevelError, "check that Backstage runs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.code)
				w.Write([]byte(tt.body))
			}))
			defer srv.Close()
			c, err := upstream.New(upstream.Options{BaseURL: srv.URL, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			got := ExamineBus(t.Context(), c)
			if len(got) != 1 || got[0].Level != tt.want || !strings.Contains(got[0].Hint, tt.hint) {
				t.Errorf("got %v", got)
			}
		})
	}
}
