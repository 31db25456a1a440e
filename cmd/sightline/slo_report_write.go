package main

import (
	"embed"
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/sightline-dev/sightline/server/api"
)

//go:embed templates/report.html templates/report.md
var reportTemplates embed.FS

// write writes the report in a format.
func (r *report) write(w io.Writer, format string) error {
	var err error
	switch format {
	case "json":
		err = encodeJSON(w, r)
	case "csv":
		err = r.writeCSV(w)
	case "html":
		var t *template.Template
		if t, err = template.New("report.html").Funcs(template.FuncMap(reportFuncs)).ParseFS(reportTemplates, "templates/report.html"); err == nil {
			err = t.Execute(w, r)
		}
	default:
		var t *texttemplate.Template
		if t, err = texttemplate.New("report.md").Funcs(reportFuncs).Funcs(texttemplate.FuncMap{"md": markdownText}).ParseFS(reportTemplates, "templates/report.md"); err == nil {
			err = t.Execute(w, r)
		}
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

var reportFuncs = map[string]any{
	"share": func(n api.Number) string {
		if n == nil {
			return "–"
		}
		return percent(*n)
	},
	"percent": percent,
	"attained": func(o reportObjective) string {
		return strings.Replace(shareText(o.Attained, attainedDigits(o.Target)), "-", "–", 1)
	},
	"left": func(n api.Number) string {
		if n == nil {
			return "–"
		}
		return percent(1 - *n)
	},
	"events": func(v float64) string { return strconv.FormatFloat(math.Round(v), 'f', 0, 64) },
	"spark": func(o reportObjective) string {
		most, points := 0.0, []api.Point{}
		for _, d := range o.Days {
			most = max(most, valueOf(d.Spent))
			points = append(points, api.Point{Value: d.Spent})
		}
		if !(most > 0) {
			return ""
		}
		for i := range points {
			if points[i].Value != nil {
				v := *points[i].Value / most
				points[i].Value = &v
			}
		}
		return spark(points, len(points))
	},
	// height is that of a day's bar in percent of the tallest of all objectives.
	"height": func(r *report, d reportSpending) string {
		most := 0.0
		for _, o := range r.Objectives {
			for _, d := range o.Days {
				if d.Spent != nil {
					most = max(most, *d.Spent)
				}
			}
		}
		if d.Spent == nil || most == 0 {
			return "0"
		}
		return strconv.FormatFloat(*d.Spent/most*100, 'f', 1, 64)
	},
	"minutes": func(n int) string { return strings.TrimSuffix((time.Duration(n) * time.Minute).String(), "0s") },
	"last":    func(r *report) string { return r.To.Add(-time.Second).In(r.From.Location()).Format(time.DateOnly) },
	"missed": func(r *report) (n int) {
		for _, o := range r.Objectives {
			if o.Spent != nil && !o.Met {
				n++
			}
		}
		return n
	},
	"nodata": func(r *report) (n int) {
		for _, o := range r.Objectives {
			if o.Spent == nil {
				n++
			}
		}
		return n
	},
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', 1, 64) + "%" }

// markdownText keeps a text from being read as Markdown or HTML.
func markdownText(v any) string {
	var b strings.Builder
	for _, r := range clean(fmt.Sprint(v)) {
		if strings.ContainsRune("\\`*_{}[]<>|#&~!", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// writeCSV writes a line for each objective and day.
func (r *report) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	lines := [][]string{{"owner", "system", "entity", "indicator", "target_percent", "date", "errors", "events", "budget_spent"}}
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, o := range r.Objectives {
		for _, d := range o.Days {
			spent := ""
			if d.Spent != nil {
				spent = number(*d.Spent)
			}
			lines = append(lines, []string{o.Owner.String(), o.System.String(), o.Entity.String(), o.Indicator, o.Target, d.Date, number(d.Errors), number(d.Events), spent})
		}
	}
	return c.WriteAll(lines)
}
