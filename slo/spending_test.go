package slo

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheDaysOfAPeriodAddUpToWhatIsSpent(t *testing.T) {
	zones := []string{"UTC", "Europe/Zurich", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia"}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		zone, err := time.LoadLocation(zones[r.IntN(len(zones))])
		if err != nil {
			t.Fatal(err)
		}
		target, err := ParseTarget([]string{"99.9", "99", "50", "99.999"}[r.IntN(4)])
		if err != nil {
			t.Fatal(err)
		}
		from := midnight(time.Date(2005+r.IntN(20), time.Month(1+r.IntN(12)), 1+r.IntN(28), 12, 0, 0, 0, zone), zone)
		to := midnight(from.AddDate(0, 0, 1+r.IntN(120)), zone)
		var counts []Count
		wantErrors, wantTotal, wantDays := 0.0, 0.0, map[string]float64{}
		for at := from.Add(-3 * time.Hour); at.Before(to.Add(3 * time.Hour)); at = at.Add(30 * time.Minute) {
			total := float64(r.IntN(1000))
			c := Count{at, float64(r.IntN(int(total) + 1)), total}
			counts = append(counts, c)
			if !at.Before(from) && at.Before(to) {
				wantErrors += c.Errors
				wantTotal += c.Total
				wantDays[at.In(zone).Format(time.DateOnly)] += c.Errors
			}
		}
		r.Shuffle(len(counts), func(i, j int) { counts[i], counts[j] = counts[j], counts[i] })
		s, ok := SpendingOf(counts, target, from, to, zone)
		if !ok || s.Errors != wantErrors || s.Total != wantTotal {
			t.Fatalf("seed %d: %v of %v, want %v of %v", seed, s.Errors, s.Total, wantErrors, wantTotal)
		}
		sum, events := 0.0, 0.0
		for i, d := range s.Days {
			sum += d.Spent
			events += d.Total
			if d.Errors != wantDays[d.Date.Format(time.DateOnly)] {
				t.Errorf("seed %d: %s has %v errors, want %v", seed, d.Date, d.Errors, wantDays[d.Date.Format(time.DateOnly)])
			}
			if i > 0 && !d.Date.After(s.Days[i-1].Date) {
				t.Errorf("seed %d: %s follows %s", seed, d.Date, s.Days[i-1].Date)
			}
		}
		if sum != s.Spent || events != s.Total {
			t.Errorf("seed %d: the days add up to %v of the budget and %v events, want %v and %v", seed, sum, events, s.Spent, s.Total)
		}
		if want := BurnRate(1-s.SLI(), target); math.Abs(s.Spent-want) > 1e-9*want {
			t.Errorf("seed %d: %v is spent, want %v", seed, s.Spent, want)
		}
	}
}

func TestEveryDayOfAPeriodIsThereOnce(t *testing.T) {
	for zone, tt := range map[string]struct {
		from time.Time
		want []string // hours of the days
	}{
		"Europe/Zurich":     {time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), []string{"24h0m0s", "23h0m0s", "24h0m0s"}},
		"America/Sao_Paulo": {time.Date(2018, 11, 3, 0, 0, 0, 0, time.UTC), []string{"24h0m0s", "23h0m0s", "24h0m0s"}}, // without a midnight
		"Pacific/Apia":      {time.Date(2011, 12, 29, 0, 0, 0, 0, time.UTC), []string{"24h0m0s", "24h0m0s"}},           // without the 30th
		"America/Havana":    {time.Date(2024, 11, 2, 0, 0, 0, 0, time.UTC), []string{"24h0m0s", "25h0m0s", "24h0m0s"}}, // with midnight twice
	} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		from := midnight(time.Date(tt.from.Year(), tt.from.Month(), tt.from.Day(), 12, 0, 0, 0, location), location)
		to := midnight(from.AddDate(0, 0, 3), location)
		s, ok := SpendingOf(nil, Target{}, from, to, location)
		if ok {
			t.Errorf("%s: a budget of no events", zone)
		}
		var got []string
		for i, d := range s.Days {
			end := to
			if i+1 < len(s.Days) {
				end = s.Days[i+1].Date
			}
			got = append(got, end.Sub(d.Date).String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", zone, diff)
		}
	}
}

func TestCountsThatAreNoneCountAsNothing(t *testing.T) {
	target, err := ParseTarget("99")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	s, ok := SpendingOf([]Count{{at, math.NaN(), 100}, {at, math.Inf(1), math.Inf(1)}, {at, -5, 100}, {at, 1, 0}}, target, at, at.AddDate(0, 0, 1), time.UTC)
	if !ok || s.Errors != 1 || s.Total != 200 || s.Spent != 0.5 {
		t.Errorf("got %+v, %v", s, ok)
	}
}

func TestCountsThatCanHoldAnEventOfASpanAreLeftOut(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 10, 1, 0, minute, 0, 0, time.UTC) }
	var counts []Count
	for m := 0; m < 60; m += 5 {
		counts = append(counts, Count{Time: at(m)})
	}
	var got []int
	for _, c := range Without(counts, []Span{{at(20), at(25)}, {at(52), at(53)}}, 5*time.Minute, 6*time.Minute) {
		got = append(got, c.Time.Minute())
	}
	if diff := cmp.Diff([]int{0, 5, 10, 15, 30, 35, 40, 45, 55}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
