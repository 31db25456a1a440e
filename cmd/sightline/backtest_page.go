package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

//go:embed backtest.html
var backtestTemplate string

// The sizes of a chart, in its own unit.
const (
	chartWidth, chartHeight = 860, 300
	plotLeft, plotRight     = 56, 846
	plotTop, plotBottom     = 34, 214
	laneHeight              = 14
)

// A chart is what the template draws of one objective.
type chart struct {
	Title, Verdict, Range string
	Notes                 []string
	Height                int
	Zero                  float64 // where nothing is left
	Lines                 []chartLine
	Lanes                 []chartLane
	Y, X                  []chartTick
	Rows                  []chartRow
	Alerts                []chartAlert
	AlertsOf              string
	More                  int
}

type chartLine struct {
	Name, Class, Path string
	At                float64 // of its name in the legend
}

type chartTick struct {
	At   float64
	Text string
}

type chartLane struct {
	Name string
	At   float64
	Bars []chartBar
}

type chartBar struct {
	X, Width float64
	Class    string
	Title    string
}

type chartRow struct {
	Target, Spent, Worst, Exhausted string
	Pages, Tickets                  int
	Own, Over                       bool
	Class                           string
}

type chartAlert struct{ Severity, From, Length, What string }

func charts(found []replayed) (out []chart) {
	for i := range found {
		out = append(out, newChart(&found[i]))
	}
	return out
}

// newChart lays out an objective: a line for each target of the budget that is left, and below it a lane with its alerts.
func newChart(r *replayed) chart {
	c := chart{
		Title: objectiveName(r.objective), Notes: r.notes, Height: chartHeight,
		Verdict: fmt.Sprintf("target %s %% over %s · %s", r.objective.Target.Percent(), r.objective.Window, r.verdict()),
	}
	if !r.Measured() {
		return c
	}
	c.Range = shownTime(r.From) + " to " + shownTime(r.To) + " UTC"
	low := 0.0 // the least that is left
	for k := range r.Outcomes {
		low = min(low, max(-1, 1-r.Outcomes[k].Worst))
	}
	y := func(left float64) float64 {
		return plotTop + (1-max(left, low))/(1-low)*(plotBottom-plotTop)
	}
	span := r.To.Sub(r.From)
	x := func(t time.Time) float64 {
		return plotLeft + float64(t.Sub(r.From))/float64(span)*(plotRight-plotLeft)
	}
	c.Zero = y(0)
	for left := 1.0; left >= low-1e-9; left -= 0.25 {
		if low < -0.5 && int(left*100)%50 != 0 {
			continue
		}
		c.Y = append(c.Y, chartTick{y(left), fmt.Sprintf("%.0f %%", 100*left)})
	}
	step := 24 * time.Hour
	for span/step > 10 {
		step *= 2
	}
	layout := "Jan 2"
	if span < 48*time.Hour {
		step, layout = span/6, "15:04"
	}
	for t := r.From.UTC().Truncate(min(step, 24*time.Hour)); !t.After(r.To); t = t.Add(step) {
		if at := x(t); at >= plotLeft && at < plotRight-20 {
			c.X = append(c.X, chartTick{at, t.Format(layout)})
		}
	}
	own := ownOutcome(r)
	at := float64(plotLeft)
	for k := range r.Outcomes {
		o := &r.Outcomes[k]
		class := fmt.Sprintf("c%d", k%6)
		name := o.Target.Percent() + " %"
		var path strings.Builder
		points := max(1, len(o.Curve)/600)
		for i := 0; i < len(o.Curve); i += points {
			worst := 0.0
			for _, spent := range o.Curve[i:min(i+points, len(o.Curve))] {
				worst = max(worst, spent)
			}
			command := "L"
			if i == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x(r.From.Add(time.Duration(i)*r.Curve)), y(1-worst))
		}
		c.Lines = append(c.Lines, chartLine{name, class, path.String(), at})
		at += 34 + 7*float64(len(name))
		lane := chartLane{Name: o.Target.Percent(), At: plotBottom + 38 + float64(k*laneHeight)}
		for i := range o.Alerts {
			f := &o.Alerts[i]
			if f.Alert != slo.AlertBurn {
				continue
			}
			from := x(f.From)
			lane.Bars = append(lane.Bars, chartBar{from, max(2, x(f.To.Add(time.Minute))-from), string(f.Severity), fmt.Sprintf("%s %s, %s", f.Severity, shownTime(f.From), shownLength(length(f)))})
		}
		slices.SortStableFunc(lane.Bars, func(a, b chartBar) int { return -strings.Compare(a.Class, b.Class) }) // pages are drawn over tickets
		c.Lanes = append(c.Lanes, lane)
		row := chartRow{name, fmt.Sprintf("%.1f %%", 100*o.Spent), fmt.Sprintf("%.1f %%", 100*o.Worst), "never", o.Count(slo.SeverityPage), o.Count(slo.SeverityTicket), o == own, o.Spent >= 1, class}
		if o.Exhausted > 0 {
			row.Exhausted = shownLength(o.Exhausted)
		}
		c.Rows = append(c.Rows, row)
	}
	c.Height = plotBottom + 46 + laneHeight*len(r.Outcomes)
	c.AlertsOf = own.Target.Percent() + " %"
	for i := range own.Alerts {
		if i == 50 {
			c.More = len(own.Alerts) - i
			break
		}
		f := &own.Alerts[i]
		a := chartAlert{string(f.Severity), shownTime(f.From), shownLength(length(f)), strings.TrimSpace(f.Alert + " " + pairsOf(f))}
		if f.Open {
			a.Length += ", still firing"
		}
		c.Alerts = append(c.Alerts, a)
	}
	return c
}

func backtestPage() (*template.Template, error) {
	return template.New("backtest").Funcs(template.FuncMap{"add": func(a, b float64) float64 { return a + b }}).Parse(backtestTemplate)
}

// backtestHTML writes one page that needs nothing from elsewhere.
func backtestHTML(w io.Writer, found []replayed, _ style) error {
	t, err := backtestPage()
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, "page", charts(found))
}

// backtestSVG writes the charts below each other.
func backtestSVG(w io.Writer, found []replayed, _ style) error {
	t, err := backtestPage()
	if err != nil {
		return err
	}
	type placed struct {
		At int
		chart
	}
	var all []placed
	height := 0
	for _, c := range charts(found) {
		all = append(all, placed{height, c})
		height += c.Height + 50
	}
	return t.ExecuteTemplate(w, "file", struct {
		Height int
		Charts []placed
	}{height, all})
}
