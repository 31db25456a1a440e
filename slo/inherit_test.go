package slo_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

func TestASettingComesFromTheNearestLevel(t *testing.T) {
	type set = map[string]string
	all := func(percent, window, tier, severity string) set {
		return set{"objective.availability": percent, "window": window, "tier": tier, "alerting": severity}
	}
	tests := []struct {
		name               string
		own, system, owner set
		options            slo.Options
		want               string // target, window, tier, highest severity, where the objective comes from
		parent, another    set    // of the owner's parent group and of another system
	}{
		{name: "nothing is set: profile and tier 3", want: "99 30d 3 ticket profile"},
		{name: "nothing is set: the configuration's window and tier", options: slo.Options{Window: "28d", Tier: "1"}, want: "99.9 28d 1 ticket profile"},
		{name: "the owner before the configuration", owner: all("97", "14d", "4", "off"), options: slo.Options{Window: "28d", Tier: "1"}, want: "97 14d 4 off annotation"},
		{name: "the system before the owner", system: all("98", "21d", "2", "ticket"), owner: all("97", "14d", "4", "off"), want: "98 21d 2 ticket annotation"},
		{name: "the entity before all", own: all("99.5", "7d", "1", "page"), system: all("98", "21d", "2", "ticket"), owner: all("97", "14d", "4", "off"), want: "99.5 7d 1 page annotation"},
		{name: "a window of the calendar", own: set{"window": "calendar-month"}, want: "99 calendar-month 3 ticket profile"},
		{name: "each setting for itself", own: set{"window": "7d"}, system: set{"tier": "2"}, owner: set{"objective.availability": "97"}, want: "97 7d 2 page annotation"},
		{name: "a tier gives the default target", system: set{"tier": "1"}, want: "99.9 30d 1 ticket profile"},
		{name: "one indicator before all of the same level", own: set{"window": "7d", "window.availability": "14d"}, want: "99 14d 3 ticket profile"},
		{name: "a near level before a far one's indicator", own: set{"window": "7d"}, system: set{"window.availability": "14d"}, want: "99 7d 3 ticket profile"},
		{name: "off on the entity removes what the system sets", own: set{"objective.availability": "off"}, system: set{"objective.availability": "98"}, want: ""},
		{name: "off on the owner removes the default", owner: set{"objective.availability": "off"}, want: ""},
		{name: "the entity takes back what the system removes", own: set{"objective.availability": "96"}, system: set{"objective.availability": "off"}, want: "96 30d 3 page annotation"},
		{name: "the parent of the owner does not count", parent: all("97", "14d", "4", "off"), want: "99 30d 3 ticket profile"},
		{name: "another system does not count", another: all("97", "14d", "4", "off"), want: "99 30d 3 ticket profile"},
	}
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			annotated := func(s set) set {
				out := set{}
				for k, v := range s {
					out[catalog.Prefix+k] = v
				}
				return out
			}
			pay, shop := catalog.NewRef("group", "", "pay"), catalog.NewRef("system", "", "shop")
			g, problems := catalog.NewGraph([]*catalog.Entity{
				{Ref: catalog.NewRef("group", "", "all"), Annotations: annotated(tt.parent)},
				{Ref: pay, Parent: catalog.NewRef("group", "", "all"), Annotations: annotated(tt.owner)},
				{Ref: shop, Owner: pay, Annotations: annotated(tt.system)},
				{Ref: catalog.NewRef("system", "", "other"), Owner: pay, Annotations: annotated(tt.another)},
				{Ref: catalog.NewRef("component", "", "checkout"), Name: "checkout", Type: "service", Lifecycle: "production", Owner: pay, System: shop, Annotations: annotated(tt.own)},
			}, catalog.Ref{})
			objectives, found := slo.Build(g, lib, tt.options)
			for _, p := range slices.Concat(problems, found) {
				if p.Severity == catalog.SeverityError {
					t.Errorf("problem: %+v", p)
				}
			}
			got := ""
			for _, o := range objectives {
				if o.Indicator == "availability" {
					got = fmt.Sprintf("%s %s %s %s %s", o.Target.Percent(), o.Window, o.Tier, o.MaxSeverity, o.Source)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("availability (-want +got):\n%s", d)
			}
		})
	}
}
