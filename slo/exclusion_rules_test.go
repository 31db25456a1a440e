package slo

import (
	"math"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/engine"
)

func TestTheFactorIsZeroInExcludedMinutes(t *testing.T) {
	zurich, york := zone(t, "Europe/Zurich"), zone(t, "America/New_York")
	day := func(l *time.Location, month time.Month, day, hour, minute int) time.Time {
		return time.Date(2026, month, day, hour, minute, 0, 0, l)
	}
	once := func(from, to time.Time) Exclusion { return Exclusion{From: from, To: to} }
	weekly := func(from, to, until time.Time, l *time.Location) Exclusion {
		return Exclusion{From: from, To: to, Weekly: true, Until: until, Zone: l}
	}
	tests := []struct {
		name       string
		exclusions []Exclusion
		some       int // hours of the year that are left out
	}{
		{"one", []Exclusion{once(day(time.UTC, 3, 5, 22, 0), day(time.UTC, 3, 6, 2, 0))}, 4},
		{"some that overlap and touch", []Exclusion{
			once(day(time.UTC, 3, 5, 22, 0), day(time.UTC, 3, 6, 2, 0)), once(day(time.UTC, 3, 6, 0, 0), day(time.UTC, 3, 6, 1, 0)),
			once(day(time.UTC, 3, 6, 2, 0), day(time.UTC, 3, 6, 3, 0)), once(day(time.UTC, 7, 6, 2, 0), day(time.UTC, 7, 6, 3, 0)),
		}, 6},
		{"every Saturday night", []Exclusion{weekly(day(zurich, 1, 3, 23, 0), day(zurich, 1, 4, 1, 0), time.Time{}, zurich)}, 2 * 52},
		{"on Sundays in the hours in which the clock changes", []Exclusion{weekly(day(zurich, 1, 4, 1, 0), day(zurich, 1, 4, 4, 0), time.Time{}, zurich)}, 3 * 52},
		{"from summer until winter in the west", []Exclusion{weekly(day(york, 6, 2, 22, 0), day(york, 6, 3, 4, 0), day(york, 12, 1, 0, 0), york)}, 6 * 26},
		{"weekly and once, overlapping", []Exclusion{weekly(day(zurich, 1, 7, 12, 0), day(zurich, 1, 8, 12, 0), day(zurich, 2, 1, 0, 0), zurich), once(day(time.UTC, 1, 8, 0, 0), day(time.UTC, 1, 9, 0, 0))}, 24*4 + 13},
	}
	e := open(t, monthly(t, Window{Days: 30}))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Objective{Exclusions: tt.exclusions}
			begin := day(time.UTC, 1, 1, 0, 10)
			series, err := e.QueryRange(t.Context(), "vector"+excludedFactor(tt.exclusions, 0), begin, begin.AddDate(1, 0, 0), 20*time.Minute)
			if err != nil || len(series) != 1 {
				t.Fatalf("%v, %v", series, err)
			}
			if len(tt.exclusions) == 1 {
				begin := tt.exclusions[0].From.Add(time.Minute)
				if during, before := one(t, e, tt.exclusions[0].Query(), begin).Value, one(t, e, tt.exclusions[0].Query(), begin.Add(-2*time.Minute)).Value; during != 1 || before != 0 {
					t.Errorf("its query is %v before and %v while it lasts", before, during)
				}
			}
			n := 0
			for _, p := range series[0].Points {
				_, out := o.Excluded(p.Time)
				if out {
					n++
				}
				if out != (p.Value == 0) || !out && p.Value != 1 {
					t.Fatalf("at %v the factor is %v, left out: %v", p.Time, p.Value, out)
				}
			}
			if n != 3*tt.some && (n < 3*tt.some-3 || n > 3*tt.some+3) { // an hour of spring is missing, one of autumn is twice
				t.Errorf("%d twenty minutes of the year are left out, want %d hours", n, tt.some)
			}
		})
	}
}

// In a calendar month a correction that began in the month before leaves its minutes out of both.
func TestACorrectionIsLeftOutOfCalendarMonths(t *testing.T) {
	begins := time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC)
	o := monthly(t, Window{Calendar: "month", LocalTime: localTime(zone(t, "Europe/Zurich"))})
	at := func(m int) time.Time { return begins.Add(time.Duration(m) * time.Minute) }
	o.Exclusions = []Exclusion{{From: at(-30), To: at(30)}}
	e := open(t, o)
	good, bad := 1e6, 1e4
	for m := -240; m <= 240; m++ {
		err := e.Append(t.Context(), []engine.Sample{
			{Labels: map[string]string{"__name__": "requests_total", "code": "200"}, Value: good, Time: at(m)},
			{Labels: map[string]string{"__name__": "requests_total", "code": "500"}, Value: bad, Time: at(m)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatal(err)
		}
		failed := 12.0
		switch {
		case -30 <= m && m < 30:
			failed = 300
		case m >= 30:
			failed = 3
		}
		good, bad = good+600-failed, bad+failed
	}
	for m, want := range map[int]float64{-5: 0.02, 60: 0.005, 240: 0.005} {
		if got := one(t, e, SeriesErrorRatio+"_month", at(m)).Value; math.Abs(got/want-1) > 0.005 {
			t.Errorf("%d minutes after the beginning the error ratio is %.5f, counted %.5f", m, got, want)
		}
	}
	if got := one(t, e, "sum_over_time("+SeriesErrorsCalendar+`{period="202604"}[1d]) / sum_over_time(`+SeriesTotalCalendar+`{period="202604"}[1d])`, at(240)).Value; got < 0.03 {
		t.Errorf("the base series were changed: their error ratio is %.5f", got)
	}
}
