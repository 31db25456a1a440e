package simulate

import (
	"math"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A service is the traffic of one component.
type service struct {
	entity    *catalog.Entity
	peak      float64 // requests a second at the busiest time of a weekday
	errors    float64 // share of requests that fail on an ordinary day
	slow      float64 // share of requests that are slow on an ordinary day
	nightly   float64 // share of the peak that is left at night
	incidents []incident
}

// An incident makes a share of requests fail or be slow, on one day of a cycle of days or once.
type incident struct {
	everyDays, onDay int           // of a cycle, by days since 1970
	at               time.Duration // since midnight UTC
	from             time.Time     // of one that happens once; everyDays is 0 then
	lasts            time.Duration
	failing, slowing float64
}

func (i incident) active(t time.Time) bool {
	start := i.from
	if i.everyDays > 0 {
		day := t.UTC().Truncate(24 * time.Hour)
		if int(day.Unix()/86400)%i.everyDays != i.onDay {
			return false
		}
		start = day.Add(i.at)
	}
	return !t.Before(start) && t.Before(start.Add(i.lasts))
}

// The components whose names mean something to the simulation.
const (
	idleService  = "fax-gateway"     // 6 requests an hour in office hours, none at other times
	staleService = "checkout-legacy" // nothing has been built or called for a long time
	burning      = "search-api"      // an incident is going on when the demo starts
)

// cyclicIncidents are what goes wrong now and then, by component.
var cyclicIncidents = map[string][]incident{
	"checkout":        {{everyDays: 11, onDay: 4, at: 14*time.Hour + 10*time.Minute, lasts: 40 * time.Minute, failing: 0.06, slowing: 0.2}},
	"payment-gateway": {{everyDays: 17, onDay: 9, at: 9 * time.Hour, lasts: 25 * time.Minute, failing: 0.04, slowing: 0.1}},
	"products":        {{everyDays: 9, onDay: 2, at: 19 * time.Hour, lasts: 90 * time.Minute, slowing: 0.25}},
	"tracking":        {{everyDays: 10, onDay: 7, at: 6 * time.Hour, lasts: 3 * time.Hour, failing: 0.05}},
	"login":           {{everyDays: 23, onDay: 12, at: 11 * time.Hour, lasts: 12 * time.Minute, failing: 0.25}},
	"chat":            {{everyDays: 7, onDay: 5, at: 16 * time.Hour, lasts: 2 * time.Hour, failing: 0.15}},
	"warehouse":       {{everyDays: 13, onDay: 1, at: 4 * time.Hour, lasts: time.Hour, failing: 0.3}},
}

func newService(e *catalog.Entity, start time.Time) service {
	tier, err := strconv.Atoi(e.Annotations[catalog.Prefix+"tier"])
	if err != nil {
		tier = 3
	}
	name := e.Ref.Name
	s := service{
		entity:    e,
		peak:      []float64{0, 120, 40, 9, 1.5}[tier] * (0.5 + unit(name, "peak")),
		errors:    0.0002 + 0.0004*unit(name, "errors"),
		slow:      0.002 + 0.004*unit(name, "slow"),
		nightly:   0.15 + 0.15*unit(name, "night"),
		incidents: cyclicIncidents[name],
	}
	switch name {
	case idleService:
		s.peak, s.nightly, s.errors, s.slow = 6.0/3600, 0, 0, 0
	case staleService:
		s.peak = 0
	case burning:
		s.incidents = append(s.incidents, incident{from: start.Add(-50 * time.Minute), lasts: 110 * time.Minute, failing: 0.09, slowing: 0.12})
	}
	return s
}

// rates are the requests a second at a time, in all, failed and slow.
func (s *service) rates(t time.Time) (total, failed, slow float64) {
	if s.peak == 0 {
		return 0, 0, 0
	}
	t = t.UTC()
	hour := float64(t.Hour()) + float64(t.Minute())/60
	day := math.Max(0, math.Sin((hour-6)/14*math.Pi)) // 06:00 to 20:00, highest at 13:00
	if hour < 6 || hour > 20 {
		day = 0
	}
	if s.nightly == 0 && day > 0 {
		day = 1 // office hours only
	}
	week := 1.0
	if d := t.Weekday(); d == time.Saturday || d == time.Sunday {
		week = 0.45
		if s.nightly == 0 {
			week = 0
		}
	}
	noise := 0.92 + 0.16*unit(s.entity.Ref.Name, t.Unix()/300)
	if s.nightly == 0 {
		noise = 1
	}
	total = s.peak * week * noise * (s.nightly + (1-s.nightly)*day)
	failing, slowing := s.errors*(0.5+unit(s.entity.Ref.Name, "e", t.Unix()/3600)), s.slow*(0.5+unit(s.entity.Ref.Name, "s", t.Unix()/3600))
	for _, i := range s.incidents {
		if i.active(t) {
			failing = math.Max(failing, i.failing)
			slowing = math.Max(slowing, i.slowing)
		}
	}
	return total, total * failing, total * slowing
}
