package slo

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
)

// Backtest replays what the compiled rules would have done over past minutes, by prefix sums and without a PromQL engine:
// of each window only its two ends are looked at, and of each minute only whether a pair could burn at all, so that one
// more target costs next to nothing.

// A History holds what the base series of an objective were, or would have been, minute by minute: events per second over
// the base window of five minutes that ends at the minute; NaN where there is nothing. Errors and Total are of one length.
type History struct {
	Start         time.Time // of the first value; a whole minute
	Errors, Total []float64
}

// BacktestOptions say what a replay is about. The zero value replays the whole history, for calendars in UTC.
type BacktestOptions struct {
	From  time.Time      // what is before it only fills the windows
	Zone  *time.Location // of calendar windows; nil means UTC
	Curve time.Duration  // spacing of Outcome.Curve, in whole multiples of five minutes; default one hour
}

// A Replay says what happened in a history and what would have come of it at each target.
type Replay struct {
	From, To       time.Time // the first and the last minute
	Minutes        int       // in the range, both ends included
	Missing        int       // of them without data
	Events, Errors float64   // in the range; of an indicator that counts time, in the unit of its base
	Attained       float64   // share of good events; 0 where Events is 0
	Curve          time.Duration
	Outcomes       []Outcome // in the order of the targets
}

// Measured tells whether there were events, without which nothing was attained and nothing spent.
func (r *Replay) Measured() bool { return r.Events > 0 }

// An Outcome is what would have come of one target. A share of the budget is 1 when all of it is spent, and may be more. It
// is that of the window that ends at the time. A window that the beginning of the data cuts has, at even traffic, only
// its part of the budget, as the calendar's windows have in their first days.
type Outcome struct {
	Target    Target
	Spent     float64 // share of the budget that the window at the end has spent
	Worst     float64 // the largest such share of any time
	WorstAt   time.Time
	Exhausted time.Duration // how long there was no budget left
	Curve     []float64     // the share spent, at the beginning of the range and each Replay.Curve after it
	Alerts    []Firing      // by their beginning
	Dead      []BurnPair    // pairs that can never fire at this target
}

// Count is how many alerts of a severity would have begun.
func (o *Outcome) Count(s Severity) (n int) {
	for i := range o.Alerts {
		if o.Alerts[i].Severity == s {
			n++
		}
	}
	return n
}

// A Firing is the time during which one alert would have fired without a pause.
type Firing struct {
	Alert    string     // AlertBurn, AlertLow or AlertExhausted
	Severity Severity   // page or ticket
	Pairs    []BurnPair // of AlertBurn: those that burned in this time, the first to do so first
	From     time.Time  // the first minute
	To       time.Time  // the last minute
	Open     bool       // it still fired at the end of the range
}

// Backtest replays a history for an objective and candidate targets; the objective's own target does not matter. The rules
// are those of Groups: the burn pairs of the objective's window, both guards against low traffic, the policy for no
// traffic, exclusions, and the highest severity that may fire. The slow tickets and the budget are those of the period group, which
// evaluates every five minutes, at minutes that five divides, and after the fast group of the same minute. The absence
// of data is counted and alerts nobody here.
func Backtest(o *Objective, h History, targets []Target, opts BacktestOptions) Replay {
	n := min(len(h.Errors), len(h.Total))
	first := 0
	if !opts.From.IsZero() {
		first = max(0, int((opts.From.Sub(h.Start)+time.Minute-1)/time.Minute))
	}
	r := Replay{Curve: opts.Curve, Outcomes: make([]Outcome, len(targets))}
	if r.Curve < 5*time.Minute {
		r.Curve = time.Hour
	}
	for i := range targets {
		r.Outcomes[i].Target = targets[i]
	}
	if first >= n || len(targets) == 0 || o.Window.Length() == 0 {
		return r
	}
	s := newSums(o, h, n)
	r.From, r.To, r.Minutes = s.time(first), s.time(n-1), n-first
	for _, total := range h.Total[first:n] {
		if math.IsNaN(total) {
			r.Missing++
		}
	}
	all := s.each[n].minus(s.each[first])
	if r.Events, r.Errors = all.total*60, max(0, all.errors*60); r.Events > 0 {
		r.Attained = 1 - all.errors/all.total
	} else {
		r.Events = 0
	}
	s.burn(o, first, r.Outcomes)
	s.budget(o, first, opts.Zone, &r)
	for i := range r.Outcomes {
		slices.SortStableFunc(r.Outcomes[i].Alerts, func(a, b Firing) int { return a.From.Compare(b.From) })
	}
	return r
}

// A pair of base values, or of sums of them.
type baseSum struct{ errors, total float64 }

func (a baseSum) minus(b baseSum) baseSum { return baseSum{a.errors - b.errors, a.total - b.total} }
func (a baseSum) plus(b baseSum) baseSum  { return baseSum{a.errors + b.errors, a.total + b.total} }

// sums are prefix sums of a history of n minutes.
type sums struct {
	start   time.Time
	n       int
	first   int       // the first minute that has a total
	phase   int       // minutes from the last that five divides to the first of the history
	each    []baseSum // each[i] sums the minutes before i: the base of the fast group
	every5  []baseSum // every5[i] sums the minutes i-5, i-10, …: each event is in one of them, so that × 300 counts events
	present []int32   // in every5's manner, how many of them have a total
}

func newSums(o *Objective, h History, n int) *sums {
	s := &sums{start: h.Start, n: n, first: n, phase: int(h.Start.Unix() / 60 % 5)}
	s.each, s.every5, s.present = make([]baseSum, n+1), make([]baseSum, n+5), make([]int32, n+5)
	spans := o.ExcludedSpans(s.time(-leftOutAfter), s.time(n))
	for i := range n {
		v, there := baseSum{h.Errors[i], h.Total[i]}, int32(1)
		if v.errors != v.errors { // NaN
			v.errors = 0
		}
		if v.total != v.total {
			v.total, there = 0, 0
		} else if s.first == n {
			s.first = i
		}
		fast, period := v, v
		if len(spans) > 0 {
			if leftOut(spans, s.time(i), time.Minute) {
				fast = baseSum{}
			}
			if leftOut(spans, s.time(i), 5*time.Minute) {
				period, there = baseSum{}, 0
			}
		}
		s.each[i+1] = s.each[i].plus(fast)
		s.every5[i+5] = s.every5[i].plus(period)
		s.present[i+5] = s.present[i] + there
	}
	return s
}

// leftOutAfter is how many minutes after an exclusion a sample may still hold its events; see excludedFactor.
const leftOutAfter = 11

// leftOut tells whether the rules leave out the sample of a minute, which a step of this length sees.
func leftOut(spans []Span, at time.Time, step time.Duration) bool {
	for _, s := range spans {
		if at.After(s.From) && at.Before(s.To.Add(6*time.Minute+step)) {
			return true
		}
	}
	return false
}

func (s *sums) time(i int) time.Time { return s.start.Add(time.Duration(i) * time.Minute) }

// period is the last minute at or before i in which the period group evaluated, and -1 when there is none.
func (s *sums) period(i int) int {
	if i -= (i + s.phase) % 5; i < 0 {
		return -1
	}
	return i
}

// over sums the minutes of a window that ends at i, of those that the fast group records.
func (s *sums) over(i, window int) baseSum {
	return s.each[i+1].minus(s.each[max(0, i+1-window)])
}

// over5 sums every fifth minute of a window that ends at i, of a multiple of five minutes; it is nothing for i < 0.
func (s *sums) over5(i, window int) baseSum {
	if i < 0 {
		return baseSum{}
	}
	return s.every5[i+5].minus(s.every5[before5(i, window)])
}

// A watched is a burn pair with what a replay needs of it. Targets come tightest first, so that those at which it burns are
// always the first ones.
type watched struct {
	BurnPair
	short, long int       // minutes; a short window of five is the base itself
	seconds     float64   // × a sum over the long window counts events
	direct      bool      // the long window has a rate of its own
	thresholds  []float64 // by target; they rise, and are +Inf where the pair cannot fire
	bound       float64   // below the lowest
	burning     int       // at how many targets it burns
}

// burn replays AlertBurn.
func (s *sums) burn(o *Objective, first int, out []Outcome) {
	tightest := make([]*Outcome, len(out))
	for i := range out {
		tightest[i] = &out[i]
	}
	slices.SortStableFunc(tightest, func(a, b *Outcome) int { return cmp.Compare(a.Target.Budget(), b.Target.Budget()) })
	pairs := o.Window.BurnPairs()
	for _, severity := range [...]Severity{SeverityPage, SeverityTicket} {
		if o.MaxSeverity == SeverityOff || severity == SeverityPage && o.MaxSeverity == SeverityTicket {
			continue
		}
		var ws []watched
		for _, p := range pairs {
			if p.Severity != severity {
				continue
			}
			w := watched{BurnPair: p, short: minutes(p.Short), long: minutes(p.Long), seconds: 60}
			if severity == SeverityTicket {
				w.seconds = 300
			}
			if w.direct = p.Long == "1h" && o.NoTraffic != NoTrafficBad && len(o.Exclusions) == 0; p.Short == "5m" {
				w.short = 1
			}
			factor, _ := strconv.ParseFloat(p.Factor, 64) // BurnPairs made it
			for _, out := range tightest {
				threshold := factor * out.Target.Budget()
				if !p.CanFire(out.Target) {
					out.Dead, threshold = append(out.Dead, p), math.Inf(1)
				}
				w.thresholds = append(w.thresholds, threshold)
			}
			w.bound = w.thresholds[0] * (1 - 1e-9)
			ws = append(ws, w)
		}
		s.fire(o, severity, ws, first, tightest)
	}
}

// fire finds the minutes in which any of the pairs of one severity burns, and joins those that follow each other.
func (s *sums) fire(o *Objective, severity Severity, ws []watched, first int, out []*Outcome) {
	firing := 0 // at how many targets
	for i := first; i < s.n; i++ {
		most := 0
		for k := range ws {
			w := &ws[k]
			was := w.burning
			if ratio := s.burning(w, i, o); ratio == 0 {
				w.burning = 0
			} else {
				for w.burning < len(w.thresholds) && ratio > w.thresholds[w.burning] {
					w.burning++
				}
				for w.burning > 0 && ratio <= w.thresholds[w.burning-1] {
					w.burning--
				}
			}
			for ; firing < w.burning; firing++ {
				out[firing].Alerts = append(out[firing].Alerts, Firing{Alert: AlertBurn, Severity: severity, From: s.time(i)})
			}
			for t := was; t < w.burning; t++ {
				if f := out[t].last(); !slices.Contains(f.Pairs, w.BurnPair) {
					f.Pairs = append(f.Pairs, w.BurnPair)
				}
			}
			most = max(most, w.burning)
		}
		for ; firing > most; firing-- {
			out[firing-1].last().To = s.time(i - 1)
		}
	}
	for t := range firing {
		f := out[t].last()
		f.To, f.Open = s.time(s.n-1), true
	}
}

func (o *Outcome) last() *Firing { return &o.Alerts[len(o.Alerts)-1] }

// burning is the smaller error ratio of a pair's two windows at minute i: the pair burns where that is above its threshold.
// It is 0 where that cannot be at any target: without events, or because a guard against low traffic holds it.
func (s *sums) burning(w *watched, i int, o *Objective) float64 {
	newest := s.each[i+1].minus(s.each[i])
	var long baseSum
	recent := 0.0 // errors since the period group summed
	if w.Severity == SeverityTicket {
		last := s.period(i - 1)
		long = s.over5(last, w.long)
		if last >= 0 {
			recent = newest.errors * float64(i-last) / 5
		}
	} else {
		long = s.over(i, w.long)
	}
	if max(long.errors, recent)*w.seconds <= 1.5 || o.MinEvents > 0 && long.total*w.seconds < float64(o.MinEvents) {
		return 0
	}
	switch {
	case w.direct: // the rule asks for the rate over the hour itself
		long = s.over5(i, w.long)
	case w.Severity == SeverityTicket:
		long.errors = min(long.errors+recent, long.total)
	default:
		long = s.over(i, w.long-2).plus(newest).plus(newest)
	}
	if long.errors <= w.bound*long.total || long.total <= 0 {
		return 0
	}
	var short baseSum
	switch w.short {
	case 1:
		short = newest
	case 360:
		short = s.over(i, w.short-2).plus(newest).plus(newest)
	default:
		short = s.over(i, w.short-2)
	}
	if short.errors <= w.bound*short.total || short.total <= 0 {
		return 0
	}
	return min(short.errors/short.total, long.errors/long.total)
}

// budget replays the period group: the share of the budget, and the alerts on it.
func (s *sums) budget(o *Objective, first int, zone *time.Location, r *Replay) {
	begin, whole := 0, int(o.Window.Length()/time.Minute)
	calendar := o.Window.Calendar != ""
	every := int(r.Curve / (5 * time.Minute))
	out := r.Outcomes
	level := make([]int, len(out)) // of the alert that fires
	budgets := make([]float64, len(out))
	for t := range out {
		budgets[t] = out[t].Target.Budget()
		out[t].Curve = make([]float64, 0, r.Minutes/5/every+2)
	}
	next := time.Time{} // when the next period begins
	for tick, i := 0, s.period(first+4); i >= 0 && i < s.n; tick, i = tick+1, i+5 {
		var sum baseSum
		part := 1.0 // of the window that there is
		if calendar {
			// A base sample belongs to the period of the middle of its five minutes.
			if middle := s.time(i).Add(-middleOfBase); !middle.Before(next) {
				var start time.Time
				start, next = o.Window.period(middle, zone)
				begin = max(0, int(start.Add(middleOfBase+time.Minute-1).Sub(s.start)/time.Minute))
			}
			window := ((i-begin)/5 + 1) * 5
			sum = s.over5(i, window)
			part = min(1, float64(s.count5(i, window)*5)/float64(whole))
		} else {
			sum = s.over5(i, whole)
			part = min(1, float64(max(0, i+1-s.first))/float64(whole))
		}
		ratio := 0.0
		if sum.total > 0 && sum.errors > 0 {
			ratio = sum.errors / sum.total * part
		}
		alerts := o.MaxSeverity != SeverityOff && sum.errors*300 > 1.5
		for t := range out {
			spent := ratio / budgets[t]
			if tick%every == 0 {
				out[t].Curve = append(out[t].Curve, spent)
			}
			out[t].Spent = spent
			if spent > out[t].Worst {
				out[t].Worst, out[t].WorstAt = spent, s.time(i)
			}
			if spent >= 1 {
				out[t].Exhausted += 5 * time.Minute
			}
			now := 0
			switch {
			case !alerts:
			case spent >= 1:
				now = 2
			case spent >= 0.5:
				now = 1
			}
			if now == level[t] {
				continue
			}
			if level[t] > 0 {
				out[t].last().To = s.time(i - 1)
			}
			if level[t] = now; now > 0 {
				out[t].Alerts = append(out[t].Alerts, Firing{Alert: budgetAlerts[now], Severity: SeverityTicket, From: s.time(i)})
			}
		}
	}
	for t := range out {
		if level[t] > 0 {
			f := out[t].last()
			f.To, f.Open = s.time(s.n-1), true
		}
	}
}

var budgetAlerts = [...]string{1: AlertLow, 2: AlertExhausted}

// count5 is how many of the minutes that over5 sums have a total.
func (s *sums) count5(i, window int) int32 {
	return s.present[i+5] - s.present[before5(i, window)]
}

// before5 is the index in every5 of what lies before a window that ends at minute i.
func before5(i, window int) int {
	if from := i + 5 - window; from >= 0 {
		return from
	}
	return i % 5 // where nothing is summed yet
}

// minutes reads a window of BurnPairs.
func minutes(window string) int {
	n, _ := strconv.Atoi(window[:len(window)-1])
	switch window[len(window)-1] {
	case 'h':
		n *= 60
	case 'd':
		n *= 24 * 60
	}
	return n
}

// middleOfBase is how long before a base sample the middle of its window is.
const middleOfBase = 150 * time.Second

// period gives the beginning of the calendar period that holds t, and of the next one.
func (w Window) period(t time.Time, zone *time.Location) (start, next time.Time) {
	if zone == nil {
		zone = time.UTC
	}
	year, month, day := t.In(zone).Date()
	days, months := 0, 0
	switch w.Calendar {
	case "week":
		day -= (int(t.In(zone).Weekday()) + 6) % 7
		days = 7
	case "quarter":
		month, day, months = month-(month-1)%3, 1, 3
	default:
		day, months = 1, 1
	}
	at := func(month time.Month, day int) time.Time { return time.Date(year, month, day, 0, 0, 0, 0, zone) }
	return at(month, day), at(month+time.Month(months), day+days)
}
