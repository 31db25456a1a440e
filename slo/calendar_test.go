package slo

import (
	"math"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func monthly(t *testing.T, w Window) Objective {
	t.Helper()
	target, err := ParseTarget("99")
	if err != nil {
		t.Fatal(err)
	}
	return Objective{
		Entity: catalog.NewRef("component", "", "shop"), Indicator: "availability", Target: target, Window: w, MaxSeverity: SeverityTicket,
		ErrorQuery: `sum(rate(requests_total{code="500"}[$window]))`, TotalQuery: `sum(rate(requests_total[$window]))`,
	}
}

func open(t *testing.T, o Objective) *engine.Engine {
	t.Helper()
	e, err := engine.Open(engine.Options{Path: t.TempDir(), Retention: 100 * 24 * time.Hour, Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	body := AppendYAML(nil, Groups(o, RuleOptions{}))
	if err := e.SetRules(map[string][]byte{"a.yaml": body}); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return e
}

func one(t *testing.T, e *engine.Engine, expr string, at time.Time) engine.Sample {
	t.Helper()
	got, err := e.Query(t.Context(), expr, at)
	if err != nil || len(got) != 1 {
		t.Fatalf("%s at %v: %v, %v", expr, at, got, err)
	}
	return got[0]
}

func TestRulesReadTheClockOfTheZone(t *testing.T) {
	e := open(t, monthly(t, Window{Days: 30}))
	for _, name := range []string{"UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca"} {
		t.Run(name, func(t *testing.T) {
			l := zone(t, name)
			expr := "vector(" + localTime(l) + ")"
			check := func(at time.Time) {
				t.Helper()
				_, offset := at.In(l).Zone()
				if got, want := one(t, e, expr, at).Value, float64(at.Unix()+int64(offset)); got != want {
					t.Errorf("at %v the clock shows %.0f, want %.0f", at, got, want)
				}
			}
			for at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2045; {
				check(at)
				_, next := at.In(l).ZoneBounds()
				if month := at.AddDate(0, 3, 0); next.IsZero() || next.After(month) || !next.After(at) {
					at = month
					continue
				}
				check(next.Add(-time.Second))
				at = next.UTC()
			}
		})
	}
}

// Two hours before and after the first midnight of a period, 2 % and then half a percent of requests fail.
func TestACalendarWindowBeginsAtMidnightOfItsZone(t *testing.T) {
	tests := []struct {
		name, calendar, zone string
		begins               time.Time
	}{
		{"a month in UTC", "month", "UTC", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"a month in summer time", "month", "Europe/Zurich", time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC)},
		{"a month in winter time", "month", "Europe/Zurich", time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC)},
		{"a year, half an hour beside UTC", "month", "Asia/Kolkata", time.Date(2025, 12, 31, 18, 30, 0, 0, time.UTC)},
		{"a week after the night in which the clock goes forward", "week", "Europe/Zurich", time.Date(2026, 3, 29, 22, 0, 0, 0, time.UTC)},
		{"a week after the night in which the clock goes back", "week", "Europe/Zurich", time.Date(2026, 10, 25, 23, 0, 0, 0, time.UTC)},
		{"a quarter in the west", "quarter", "America/New_York", time.Date(2026, 4, 1, 4, 0, 0, 0, time.UTC)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if local := tt.begins.In(zone(t, tt.zone)); local.Hour() != 0 || local.Minute() != 0 {
				t.Fatalf("%v is no midnight", local)
			}
			e := open(t, monthly(t, Window{Calendar: tt.calendar, LocalTime: localTime(zone(t, tt.zone))}))
			ratio, at := SeriesErrorRatio+"_"+tt.calendar, func(m int) time.Time { return tt.begins.Add(time.Duration(m) * time.Minute) }
			near := func(m int, want float64) {
				t.Helper()
				if got := one(t, e, ratio, at(m)).Value; math.Abs(got/want-1) > 0.005 {
					t.Errorf("%d minutes after the beginning the error ratio is %.5f, counted %.5f", m, got, want)
				}
				if got := one(t, e, SeriesBudgetRemaining, at(m)).Value; math.Abs(got-(1-want/0.01)) > 0.01 {
					t.Errorf("%d minutes after the beginning %.3f of the budget remain", m, got)
				}
			}
			for m := -120; m <= 120; m++ {
				bad := 12*float64(min(m, 0)) + 3*float64(max(m, 0))
				err := e.Append(t.Context(), []engine.Sample{
					{Labels: map[string]string{"__name__": "requests_total", "code": "200"}, Value: 1e6 + 600*float64(m) - bad, Time: at(m)},
					{Labels: map[string]string{"__name__": "requests_total", "code": "500"}, Value: 1e4 + bad, Time: at(m)},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Evaluate(t.Context(), at(m)); err != nil {
					t.Fatalf("minute %d: %v", m, err)
				}
				for _, a := range e.Alerts() {
					if a.Name == AlertLow || a.Name == AlertExhausted { // of the whole period's budget hardly anything is spent
						t.Fatalf("minute %d: %s is %s", m, a.Name, a.State)
					}
				}
			}
			near(-1, 0.02)
			near(0, 0.02) // the last five minutes of the old period
			near(5, 0.005)
			near(120, 0.005)
			periods, err := e.Query(t.Context(), "count by (period) (last_over_time("+SeriesTotalCalendar+"[1d]))", at(120))
			if err != nil || len(periods) != 2 {
				t.Errorf("there are the periods %v, %v, want two", periods, err)
			}
		})
	}
}

func TestAlertsOnTheBudgetOfACalendarMonthLookAtTheWholeMonth(t *testing.T) {
	begins := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	o := monthly(t, Window{Calendar: "month"})
	e := open(t, o)
	ids := map[string]string{"entity": o.Entity.String(), "sloth_id": o.ID(), "sloth_service": o.Service(), "sloth_slo": o.Indicator, "period": "202603"}
	var samples []engine.Sample
	for m := 5; m <= 20*24*60; m += 5 { // 20 of 30 days at 1.2 %, where 1 % may fail: 0.8 of the budget
		for series, v := range map[string]float64{SeriesErrorsCalendar: 0.012, SeriesTotalCalendar: 1} {
			l := map[string]string{"__name__": series}
			for k, v := range ids {
				l[k] = v
			}
			samples = append(samples, engine.Sample{Labels: l, Value: v, Time: begins.Add(time.Duration(m) * time.Minute)})
		}
	}
	if err := e.Append(t.Context(), samples); err != nil {
		t.Fatal(err)
	}
	if err := e.Evaluate(t.Context(), begins.Add(20*24*time.Hour+5*time.Minute)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range e.Alerts() {
		if a.Name == AlertLow || a.Name == AlertExhausted {
			got = append(got, a.Name+a.Labels[LabelSpent])
		}
	}
	if len(got) != 1 || got[0] != AlertLow+"75" {
		t.Errorf("alerts are %v, want %s of 75 %%", got, AlertLow)
	}
}
