package slo_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

// TestTheDocumentHasAFigureOfTheRules holds docs/images/slo-outage.svg against what the rules record of an outage.
// UPDATE_DOCS=1 writes it.
func TestTheDocumentHasAFigureOfTheRules(t *testing.T) {
	const path = "../docs/images/slo-outage.svg"
	want := figure(t)
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("the figure is not what the rules record: run `make docs`")
	}
}

// figure draws an outage of an hour in which a tenth of the requests fail.
func figure(t *testing.T) string {
	const clean, length, before, shown = 30*day + 10, 60, 30, 150 // the whole window, so that the budget is that of 30 days
	o := objective(t, "payments")
	tr := failing(clean+length+60, 60000, 0.1, clean, clean+length)
	h := newTimeline(t)
	tr.scrape(h)
	h.evaluate(t, slo.Groups(o, slo.RuleOptions{}), timetable{from: start, until: at(len(tr.total)), derived: at(clean - before), period: time.Second})
	const left, width, top, height = 60, 660, 40, 150
	x := func(minute float64) float64 { return left + width*(minute+before)/shown }
	y := func(panel int, v, most float64) float64 { return float64(top+panel*(height+45)+height) - height*v/most }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 450" font-family="sans-serif" font-size="12" role="img">
<title>A tenth of all requests fails for an hour; target 99.9 %% over 30 days</title>
<rect width="860" height="450" fill="#ffffff"/>
<text x="60" y="22" font-size="14" fill="#222222">A tenth of all requests fails for an hour; target 99.9 %% over 30 days</text>
`)
	for panel := range 2 {
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="#fbeeee"/>`+"\n", x(0), y(panel, 1, 1), x(length)-x(0), height)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#888888"/>`+"\n", left, y(panel, 0, 1), left+width)
	}
	draw := func(panel int, series, colour, name string, most, scale float64) {
		var d strings.Builder
		last := 0.0
		for i, p := range h.recorded(series) {
			m := time.UnixMilli(p.t).Sub(at(clean)).Minutes()
			last = p.v * scale
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x(m), y(panel, last, most))
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n"+`<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", d.String(), colour, left+width+6, y(panel, last, most)+4, colour, name)
	}
	threshold := func(v, most float64, colour, text string) {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-dasharray="4 3"/>`+"\n"+`<text x="%d" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", left, y(0, v, most), left+width, colour, left-4, y(0, v, most)+4, colour, text)
	}
	draw(0, slo.SeriesErrorRatio+"1h", "#1f5fa8", "of 1 hour", 11, 100)
	draw(0, slo.SeriesErrorRatio+"6h", "#2e8b57", "of 6 hours", 11, 100)
	threshold(1.44, 11, "#1f5fa8", "1.44 %")
	threshold(0.6, 11, "#2e8b57", "0.6 %")
	fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555555">10 %%</text>`+"\n", left-4, y(0, 10, 11)+4)
	page := h.recorded("ALERTS", "severity", "page")
	from, until := time.UnixMilli(page[0].t).Sub(at(clean)).Minutes(), time.UnixMilli(page[len(page)-1].t).Sub(at(clean)).Minutes()+1
	fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="8" fill="#c0392b"/><text x="%.1f" y="%d" fill="#c0392b">page: from %.0f minutes after the beginning until %.0f after the end</text>`+"\n",
		x(from), top+height+8, x(until)-x(from), x(from), top+height+30, from, until-length)
	left30 := h.recorded(slo.SeriesBudgetRemaining)
	draw(1, slo.SeriesBudgetRemaining, "#7a4fa3", fmt.Sprintf("budget: %.1f %%", 100*left30[len(left30)-1].v), 100, 100)
	fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555555">100 %%</text>`+"\n", left-4, y(1, 100, 100)+4)
	for m := -before; m <= shown-before; m += 30 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="#555555">%d min</text>`+"\n", x(float64(m)), y(1, 0, 1)+18, m)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
