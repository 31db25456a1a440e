package dashboards

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

func TestAnEntitysBoardMarksExclusionsAndChanges(t *testing.T) {
	entities, objectives := shop()
	from := time.Date(2026, 3, 5, 22, 0, 0, 0, time.UTC)
	x := slo.Exclusion{Kind: slo.ExclusionMaintenance, From: from, To: from.Add(time.Hour), By: "anna", Reason: `a "move"`, Position: catalog.Position{File: "a.yaml", Line: 1}}
	y := slo.Exclusion{Kind: slo.ExclusionCorrection, From: from, To: from.Add(time.Hour), By: "ben", Reason: "no fault", Position: catalog.Position{File: "a.yaml", Line: 9}}
	for i := range objectives {
		if o := &objectives[i]; o.Entity == ref("checkout") {
			o.Exclusions = []slo.Exclusion{x}
			if o.Indicator == "latency" {
				o.Exclusions = []slo.Exclusion{x, y}
			}
		}
	}
	g, _ := catalog.NewGraph(entities, platformTeam)
	boards, _ := Build(g, objectives, Options{})
	if found := Lint(boards); len(found) > 0 {
		t.Error(found)
	}
	type annotation struct {
		Name, Expr, TitleFormat, TextFormat string
		UseValueForTime                     bool
		Enable                              bool
		Datasource                          struct{ UID string }
	}
	for _, name := range []string{"checkout", "ledger"} {
		i := slices.IndexFunc(boards, func(b Board) bool { return strings.HasSuffix(b.Path, "component.default."+name+".json") })
		var board struct{ Annotations struct{ List []annotation } }
		if err := json.Unmarshal(boards[i].JSON, &board); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range board.Annotations.List {
			if _, err := parser.ParseExpr(a.Expr); err != nil || a.Datasource.UID != "${datasource}" || !a.Enable || a.UseValueForTime != strings.HasPrefix(a.Name, "Changes") {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			got = append(got, a.Name+" | "+a.TitleFormat+" | "+a.TextFormat)
		}
		want := []string{"Changes of objectives | {{sloth_slo}}: {{field}} changed | "}
		if name == "checkout" {
			want = append(want, `Does not count: a "move" | maintenance: a "move" | availability, latency, pipeline_duration, pipeline_success; by anna`, "Does not count: no fault | correction: no fault | latency; by ben")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("annotations of %s (-want +got):\n%s", name, d)
		}
	}
}
