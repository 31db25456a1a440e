package dashboards

import (
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// annotations mark in all graphs of an entity's board when an objective was changed, and what is excluded, each exclusion
// once with the objectives that it applies to.
func annotations(r catalog.Ref, objectives []*slo.Objective) []dashboard.AnnotationQuery {
	const changed = "sightline_slo_last_change_timestamp_seconds" // of the server, see docs/metrics.md
	out := []dashboard.AnnotationQuery{{
		Name: "Changes of objectives", Datasource: datasource(), Enable: true, IconColor: "orange",
		Expr:        cog.ToPtr("1000 * " + maxBy("sloth_slo, field", forEntity(r).of(changed))),
		TitleFormat: cog.ToPtr("{{sloth_slo}}: {{field}} changed"), UseValueForTime: cog.ToPtr(true),
	}}
	type mark struct {
		exclusion *slo.Exclusion
		of        []string
	}
	var marks []mark
	for _, o := range objectives {
		for i := range o.Exclusions {
			x := &o.Exclusions[i]
			at := slices.IndexFunc(marks, func(m mark) bool { return m.exclusion.Position == x.Position })
			if at < 0 {
				at = len(marks)
				marks = append(marks, mark{exclusion: x})
			}
			marks[at].of = append(marks[at].of, o.Indicator)
		}
	}
	for _, m := range marks {
		out = append(out, dashboard.AnnotationQuery{
			Name: "Does not count: " + m.exclusion.Reason, Datasource: datasource(), Enable: true, IconColor: "blue",
			Expr: cog.ToPtr(m.exclusion.Query()), TitleFormat: cog.ToPtr(m.exclusion.Kind + ": " + m.exclusion.Reason),
			TextFormat: cog.ToPtr(strings.Join(m.of, ", ") + "; by " + m.exclusion.By),
		})
	}
	return out
}
