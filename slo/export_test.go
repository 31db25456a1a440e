package slo_test

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/OpenSLO/go-sdk/pkg/openslosdk"
	"github.com/google/go-cmp/cmp"
	"github.com/slok/sloth/pkg/lib"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// readBack makes the objectives of a document beside an entity that says nothing else.
func readBack(t *testing.T, body []byte) map[string]slo.Objective {
	t.Helper()
	owner := catalog.NewRef("group", "", "payments")
	e := &catalog.Entity{Ref: catalog.NewRef("component", "", "shop"), Name: "shop", Type: "library", Owner: owner, Annotations: map[string]string{"sightline.dev/slo": string(body)}}
	g, _ := catalog.NewGraph([]*catalog.Entity{{Ref: owner}, e}, owner)
	l, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	found, problems := slo.Build(g, l, slo.Options{})
	for _, p := range problems {
		if p.Severity != catalog.SeverityInfo {
			t.Errorf("reading back: %s: %s\n%s", p.Rule, p.Message, body)
		}
	}
	out := map[string]slo.Objective{}
	for _, o := range found {
		out[o.Indicator] = o
	}
	return out
}

// differences names the fields in which two objectives differ, without what the catalog says of the entity.
func differences(a, b slo.Objective) []string {
	var out []string
	for name, same := range map[string]bool{
		"entity": a.Entity == b.Entity, "owner": a.Owner == b.Owner, "title": a.Title == b.Title, "target": a.Target == b.Target, "window": a.Window == b.Window,
		"kind": a.Kind == b.Kind, "threshold": a.Threshold == b.Threshold, "counted": a.ErrorQuery == b.ErrorQuery && a.TotalQuery == b.TotalQuery,
		"no-traffic": a.NoTraffic == b.NoTraffic, "min-events": a.MinEvents == b.MinEvents, "alerting": a.MaxSeverity == b.MaxSeverity, "runbook": a.Runbook == b.Runbook,
	} {
		if !same {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Whatever an objective is, its document gives the same objective, or a Problem names what is not the same.
func TestExportedDocumentsReadBackAsTheSameObjectives(t *testing.T) {
	settings := [][]string{
		nil,
		{"window", "28d", "runbook", "https://runbooks.example.com/shop", "min-events", "50"},
		{"window", "calendar-week", "no-traffic", "good", "alerting", "ticket"},
		{"window", "calendar-month", "no-traffic", "bad", "alerting", "off"},
		{"window", "calendar-quarter", "objective.availability", "99.95"},
	}
	for _, format := range []slo.Format{slo.FormatOpenSLO, slo.FormatSloth} {
		for i, annotations := range settings {
			t.Run(fmt.Sprintf("%s, settings %d", format, i), func(t *testing.T) {
				objectives := everyKind(t, annotations...)
				sorted := make([]slo.Objective, 0, len(objectives))
				for _, name := range slices.Sorted(maps.Keys(objectives)) {
					sorted = append(sorted, objectives[name])
				}
				body, problems, err := slo.Export(sorted, format)
				if err != nil {
					t.Fatal(err)
				}
				said := map[string]string{}
				for _, p := range problems {
					if p.Severity == catalog.SeverityError || p.Entity.IsZero() || p.Owner.IsZero() {
						t.Errorf("%+v", p)
					}
					indicator, what, _ := strings.Cut(p.Message, ": ")
					said[indicator] += what + "; "
				}
				read := readBack(t, body)
				for _, o := range sorted {
					got, ok := read[o.Indicator]
					if !ok {
						t.Errorf("%s is not read back from\n%s", o.Indicator, body)
						continue
					}
					for _, d := range differences(o, got) {
						if !strings.Contains(said[o.Indicator], d) {
							t.Errorf("%s: the %s differs, and no problem says so (%s):\n%s", o.Indicator, d, said[o.Indicator], cmp.Diff(o.ErrorQuery+"\n"+o.TotalQuery+"\n"+o.Window.String(), got.ErrorQuery+"\n"+got.TotalQuery+"\n"+got.Window.String()))
						}
					}
					if format == slo.FormatOpenSLO && len(differences(o, got)) > 0 && o.Indicator != "latency_between" {
						t.Errorf("OpenSLO carries all of %s but %v", o.Indicator, differences(o, got))
					}
				}
				again, _, err := slo.Export(sorted, format)
				if err != nil || !bytes.Equal(body, again) {
					t.Errorf("the second document differs, %v", err)
				}
				if format == slo.FormatOpenSLO {
					checkOpenSLO(t, body)
				} else {
					checkSloth(t, body, sorted)
				}
			})
		}
	}
}

// checkOpenSLO validates a document with OpenSLO's own library.
func checkOpenSLO(t *testing.T, body []byte) {
	t.Helper()
	objects, err := openslosdk.Decode(bytes.NewReader(body), openslosdk.FormatYAML)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	if err := openslosdk.Validate(objects...); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

// checkSloth has sloth's own library generate rules of a document: their ratio is that of the objective's queries.
func checkSloth(t *testing.T, body []byte, objectives []slo.Objective) {
	t.Helper()
	gen, err := lib.NewPrometheusSLOGenerator(lib.PrometheusSLOGeneratorConfig{PluginsFS: []fs.FS{embed.FS{}}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := gen.GenerateFromRaw(t.Context(), body)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	got := map[string]string{}
	for _, r := range res.SLOResults {
		got[r.SLO.ID] = r.PrometheusRules.SLIErrorRecRules.Rules[0].Expr
	}
	for _, o := range objectives {
		over := func(q string) string { return strings.ReplaceAll(q, "$window", "5m") }
		if want := "(" + over(o.ErrorQuery) + ")\n/\n(" + over(o.TotalQuery) + ")\n"; got[o.ID()] != want {
			t.Errorf("sloth's rule of %s (-want +got):\n%s", o.Indicator, cmp.Diff(want, got[o.ID()]))
		}
	}
}

func TestWhatAFormatCannotCarryIsSaid(t *testing.T) {
	objectives := everyKind(t, "window", "calendar-month", "no-traffic", "good", "min-events", "50")
	o := objectives["availability"]
	_, problems, err := slo.Export([]slo.Objective{o}, slo.FormatSloth)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, string(p.Severity)+" "+p.Entity.String()+" "+p.Message+" ("+p.Hint+")")
	}
	want := []string{
		"warning component:default/shop availability: the window calendar-month is not in the document (sloth has none; keep sightline.dev/window on the entity)",
		"warning component:default/shop availability: no-traffic: good is not in the document (keep sightline.dev/no-traffic on the entity)",
		"warning component:default/shop availability: min-events: 50 is not in the document (keep sightline.dev/min-events on the entity)",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	o.Indicator = "ends_"
	body, problems, err := slo.Export([]slo.Objective{o}, slo.FormatOpenSLO)
	if err != nil || len(body) > 0 || len(problems) != 1 || problems[0].Severity != catalog.SeverityError || !strings.Contains(problems[0].Message, "OpenSLO refuses it") {
		t.Errorf("a name that OpenSLO refuses: %q, %v, %v", body, problems, err)
	}
	o = objectives["availability"]
	o.ErrorQuery = "max(rate(requests_total[$window]))"
	body, problems, err = slo.Export([]slo.Objective{o}, slo.FormatOpenSLO)
	if err != nil || len(body) == 0 || len(problems) != 1 || !strings.Contains(problems[0].Message, "would not read it back") {
		t.Errorf("a query that is no count: %q, %v, %v", body, problems, err)
	}
}
