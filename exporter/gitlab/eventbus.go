package gitlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// A Bus asks a Backstage. Do and Get are those of upstream.Client, which must wait longer for an answer than the event bus
// holds a reading.
type Bus interface {
	Get(ctx context.Context, path string, header http.Header) (body []byte, answered http.Header, err error)
	Do(ctx context.Context, method, path string, header http.Header, body []byte) (answer []byte, err error)
}

const (
	// BusHold is how long Backstage's event bus holds a reading that finds nothing.
	BusHold = 55 * time.Second
	// busTopic is where Backstage puts what it receives at /api/events/http/gitlab.
	busTopic = "gitlab"
	// busPause is the least time between two readings that found nothing.
	busPause = time.Second
)

// SubscriptionOptions are the settings of a Subscription.
type SubscriptionOptions struct {
	Bus     Bus
	ID      string // of the subscription, one for each Sightline: those that share one share its events
	Sources []*Source
	Only    bool // there is no other GitLab than the one source, so whatever address a webhook names is its own
	To      exporter.Sink
	Count   *exporter.WebhookMetrics // may be nil
	Logger  *slog.Logger
}

// A Subscription takes GitLab's webhooks from the event bus of a Backstage, which received them. As with a Receiver they
// may come twice, late, in any order, or not at all, and tell only what is to be read.
//
// The bus gives a batch once: reading is acknowledging. So nothing more is read before the journal has all that was, and
// what a crash loses between the two, at most ten events, is found by polling. Backstage keeps events for a day, ten thousand
// at most unless they are younger than ten minutes, and a subscription its place when either side restarts.
type Subscription struct{ opts SubscriptionOptions }

// NewSubscription makes a Subscription. Nothing is asked yet.
func NewSubscription(o SubscriptionOptions) *Subscription {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Subscription{o}
}

// Run subscribes and reads until ctx ends. A Backstage that is away is asked again, later and later up to a minute.
func (s *Subscription) Run(ctx context.Context) {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.MaxInterval, policy.Multiplier = time.Second, time.Minute, 2
	subscribed, failing := false, false
	for ctx.Err() == nil {
		if !subscribed {
			if err := s.subscribe(ctx); err != nil {
				if !failing && ctx.Err() == nil {
					s.opts.Logger.Warn("GitLab's webhooks cannot be taken from Backstage's event bus; pipelines are found by polling", "error", err, "hint", busHint(err))
				}
				failing = true
				sleep(ctx, policy.NextBackOff())
				continue
			}
			subscribed = true
		}
		began := time.Now()
		events, err := s.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // the subscription may be gone, with a Backstage that was away for long
			subscribed = false
			if !failing {
				s.opts.Logger.Warn("Backstage's event bus does not answer; pipelines are found by polling", "error", err)
			}
			failing = true
			sleep(ctx, policy.NextBackOff())
			continue
		}
		policy.Reset()
		if failing {
			s.opts.Logger.Info("GitLab's webhooks come from Backstage's event bus again")
			failing = false
		}
		for _, payload := range events {
			s.take(ctx, payload)
		}
		if len(events) == 0 {
			sleep(ctx, busPause-time.Since(began))
		}
	}
}

// ExamineBus asks Backstage's event bus for a subscription that nobody has, and so takes no event from anybody.
func ExamineBus(ctx context.Context, c *upstream.Client) (out upstream.Findings) {
	_, _, err := c.Get(ctx, "/api/events/bus/v1/subscriptions/sightline-doctor/events", nil)
	var status *upstream.StatusError
	switch {
	case err == nil, errors.As(err, &status) && status.Code == http.StatusNotFound && status.Message != "":
		out.OK("the event bus answers")
	default: // a Backstage without the plugin answers 404 without a word
		out.Error(busHint(err), "ask the event bus: %s", err)
	}
	return out
}

func busHint(err error) string {
	switch {
	case isStatus(err, http.StatusNotFound):
		return "install @backstage/plugin-events-backend"
	case isStatus(err, http.StatusForbidden), isStatus(err, http.StatusUnauthorized):
		return "allow the plugin events in the accessRestrictions of the token"
	}
	return "check that Backstage runs"
}

func (s *Subscription) path() string {
	return "/api/events/bus/v1/subscriptions/" + url.PathEscape(s.opts.ID)
}

// subscribe makes the subscription, which begins with what is published from then on. One that is there keeps its place.
func (s *Subscription) subscribe(ctx context.Context) error {
	_, err := s.opts.Bus.Do(ctx, http.MethodPut, s.path(), http.Header{"Content-Type": {"application/json"}}, []byte(`{"topics":["`+busTopic+`"]}`))
	if err != nil {
		return fmt.Errorf("subscribe to Backstage's events: %w", err)
	}
	return nil
}

// read gives the payloads that are new; none when the bus has held the reading for as long as it does.
func (s *Subscription) read(ctx context.Context) ([]json.RawMessage, error) {
	body, _, err := s.opts.Bus.Get(ctx, s.path()+"/events", nil)
	if err != nil {
		return nil, fmt.Errorf("read Backstage's events: %w", err)
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil, nil
	}
	var answer struct {
		Events []struct {
			Topic   string          `json:"topic"`
			Payload json.RawMessage `json:"payload"`
		} `json:"events"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read Backstage's events: %w", err)
	}
	var out []json.RawMessage
	for _, e := range answer.Events {
		if e.Topic == busTopic {
			out = append(out, e.Payload)
		}
	}
	return out, nil
}

// take stores what a payload tells of. It returns when the journal has it, or ctx ended.
func (s *Subscription) take(ctx context.Context, payload json.RawMessage) {
	src := s.sourceOf(payload)
	if src == nil {
		s.opts.Count.Count("gitlab", exporter.WebhookIgnored)
		return
	}
	policy := backoff.NewExponentialBackOff()
	policy.MaxInterval = time.Minute
	for first := true; ; first = false {
		result, err := src.hook(ctx, s.opts.To, delivery{body: payload}) // the bus drops headers: what is repeated shows by its content
		if err == nil || result == exporter.WebhookRefused {
			s.opts.Count.Count("gitlab", result)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if first {
			s.opts.Count.Count("gitlab", exporter.WebhookFailed)
			s.opts.Logger.Error("a webhook from Backstage's event bus was not stored; trying again", "source", "gitlab", "host", src.host, "error", err)
		}
		sleep(ctx, policy.NextBackOff())
	}
}

// sourceOf finds the GitLab that a payload comes from, by the address of its project.
func (s *Subscription) sourceOf(payload json.RawMessage) *Source {
	if s.opts.Only {
		return s.opts.Sources[0]
	}
	var p struct {
		Project struct {
			URL string `json:"web_url"`
		} `json:"project"`
		Repository struct {
			URL string `json:"homepage"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(payload, &p); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
		return nil
	}
	for _, address := range []string{p.Project.URL, p.Repository.URL} {
		if address == "" {
			continue
		}
		for _, src := range s.opts.Sources {
			if strings.EqualFold(hostOf(address), src.host) {
				return src
			}
		}
	}
	return nil
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
