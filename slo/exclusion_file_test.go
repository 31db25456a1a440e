package slo_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// shop is a system of two services of one team and one of another.
func shop(t *testing.T, files ...slo.ExclusionFile) ([]slo.Objective, []catalog.Problem) {
	t.Helper()
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	platform, payments, system := catalog.NewRef("group", "", "platform"), catalog.NewRef("group", "", "payments"), catalog.NewRef("system", "", "shop")
	service := func(name string, owner catalog.Ref) *catalog.Entity {
		return &catalog.Entity{Ref: catalog.NewRef("component", "", name), Name: name, Type: "service", Lifecycle: "production", Owner: owner, System: system}
	}
	g, _ := catalog.NewGraph([]*catalog.Entity{
		{Ref: platform},
		{Ref: payments},
		{Ref: system, Owner: payments},
		service("checkout", payments),
		service("ledger", payments),
		service("search", platform),
	}, platform)
	return slo.Build(g, lib, slo.Options{Exclusions: files})
}

const maintenance = `kind: maintenance
entity: component:default/checkout
from: 2026-03-05T22:00:00+01:00
to: 2026-03-06T02:00:00+01:00
by: anna
reason: a move
`

func TestAnExclusionSaysWhatIsWrongWithIt(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(maintenance, old, new, 1) }
	tests := []struct{ name, body, want string }{
		{"nothing is wrong", maintenance, ""},
		{"an empty file", "", ""},
		{"only a comment", "# none yet\n", ""},
		{"no YAML", "kind: [\n", `1: error exclusion-syntax: the file is not YAML: line 1: did not find expected node content; mend it; what follows is not read`},
		{"a list", "- a\n", `1: error exclusion-syntax: an exclusion is a mapping of keys to values; the keys are kind, entity, owner, system, indicator, from, to, repeat, until, timezone, by, reason, link`},
		{"nobody decided it", with("by: anna\n", ""), `1: error exclusion-by: the exclusion does not say who decided it; say who decided it, as in by: user:default/anna`},
		{"it has no reason", with("reason: a move", "reason: ''"), `6: error exclusion-value: reason has no single value; write one value, or leave the key out
1: error exclusion-reason: the exclusion does not say why; say why, for those who read the budget later`},
		{"a key is misspelt", with("by:", "bye:"), `5: error exclusion-key: the key "bye" is not known here; did you mean "by"?
1: error exclusion-by: the exclusion does not say who decided it; say who decided it, as in by: user:default/anna`},
		{"a key stands twice", maintenance + "by: ben\n", `7: error exclusion-key: the key "by" stands here twice; write a document of its own for each exclusion, with --- between them`},
		{"another kind", with("maintenance", "holiday"), `1: error exclusion-kind: "holiday" is not maintenance or correction; write kind: maintenance or kind: correction`},
		{"an entity that is not there", with("checkout", "chekout"), `2: error exclusion-entity: entity: the catalog has no component:default/chekout; did you mean "component:default/checkout"?`},
		{"a system that is not there", with("entity: component:default/checkout", "system: checkout"), `2: error exclusion-system: system: the catalog has no system:default/checkout; write it as it stands in the catalog`},
		{"nothing that it applies to", with("entity: component:default/checkout\n", ""), `1: error exclusion-scope: the exclusion does not say what it applies to; set entity, owner or system, as in entity: component:default/checkout`},
		{"two things that it applies to", maintenance + "system: shop\n", `7: error exclusion-scope: entity and system are both set; keep one, and write a document for the other`},
		{"an indicator that is not there", maintenance + "indicator: avilability\n", `7: error exclusion-indicator: entity component:default/checkout has no objective "avilability"; did you mean "availability"?`},
		{"an entity without objectives", with("component:default/checkout", "group:default/payments"), `2: warning exclusion-unused: entity group:default/payments has no objective: nothing is left out; `},
		{"no zone", with("22:00:00+01:00", "22:00:00"), `3: error exclusion-from: from: "2026-03-05T22:00:00" is not a time with a zone (RFC 3339); write it like 2026-03-05T22:00:00+01:00`},
		{"a part of a minute", with("22:00:00", "22:00:30"), `3: error exclusion-from: from: "2026-03-05T22:00:30+01:00" is not a whole minute; write it like 2026-03-05T22:00:00+01:00`},
		{"it ends before it begins", with("2026-03-06", "2026-03-05"), `4: error exclusion-to: to is not after from; from is the first minute that is left out, to the first that counts again`},
		{"a link that is none", maintenance + "link: CHG-1\n", `7: error exclusion-link: "CHG-1" is not an http or https URL; write it like https://tickets.example.com/CHG-1`},
		{"a correction that repeats", with("maintenance", "correction") + "repeat: weekly\n", `7: error exclusion-repeat: a correction does not repeat: each has a reason of its own; write kind: maintenance, or a document for each correction`},
		{"every day", maintenance + "repeat: daily\n", `7: error exclusion-repeat: "daily" is not weekly; write repeat: weekly, or leave it out`},
		{"an end of what does not repeat", maintenance + "until: 2026-04-01T00:00:00Z\n", `7: error exclusion-until: until belongs to repeat, which is not set; add repeat: weekly, or leave it out`},
		{"a zone that is not there", maintenance + "repeat: weekly\ntimezone: Europe/Zurych\n", `8: error exclusion-timezone: there is no time zone "Europe/Zurych"; write an IANA name such as Europe/Zurich`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objectives, problems := shop(t, slo.ExclusionFile{Name: "a.yaml", Body: []byte(tt.body)})
			var got []string
			for _, p := range problems {
				if p.File != "a.yaml" || p.Owner.IsZero() {
					t.Errorf("a problem of something else, or without owner: %+v", p)
				}
				got = append(got, fmt.Sprintf("%d: %s %s: %s; %s", p.Line, p.Severity, p.Rule, p.Message, p.Hint))
			}
			want := []string{}
			if tt.want != "" {
				want = strings.Split(tt.want, "\n")
			}
			lines := func(s []string) map[string]int {
				m := map[string]int{}
				for _, l := range s {
					m[l]++
				}
				return m
			}
			if d := cmp.Diff(lines(want), lines(got)); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
			n := 0
			for _, o := range objectives {
				n += len(o.Exclusions)
			}
			if excludes := tt.body == maintenance; excludes != (n > 0) {
				t.Errorf("%d exclusions of objectives", n)
			}
		})
	}
}

func TestAnExclusionAppliesToAnEntityAnOwnerOrASystem(t *testing.T) {
	body := strings.Join([]string{
		maintenance,
		strings.NewReplacer("entity: component:default/checkout", "owner: payments", "a move", "owner").Replace(maintenance),
		strings.NewReplacer("entity: component:default/checkout", "system: shop\nindicator: latency", "a move", "system").Replace(maintenance),
	}, "---\n")
	objectives, _ := shop(t, slo.ExclusionFile{Name: "a.yaml", Body: []byte(body)})
	got := map[string][]string{}
	for _, o := range objectives {
		for _, x := range o.Exclusions {
			got[o.Entity.Name+" "+o.Indicator] = append(got[o.Entity.Name+" "+o.Indicator], x.Reason)
		}
	}
	want := map[string][]string{
		"checkout availability": {"a move", "owner"}, "checkout latency": {"a move", "owner", "system"},
		"ledger availability": {"owner"}, "ledger latency": {"owner", "system"}, "search latency": {"system"},
	}
	for k := range got {
		if _, ok := want[k]; !ok && !strings.HasSuffix(k, "availability") && !strings.HasSuffix(k, "latency") {
			delete(got, k)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("exclusions by objective (-want +got):\n%s", d)
	}
}

func TestAnExclusionBeforeEveryWindowIsSaid(t *testing.T) {
	objectives, _ := shop(t, slo.ExclusionFile{Name: "a.yaml", Body: []byte(maintenance)})
	for days, want := range map[int]int{0: 0, 29: 0, 32: 1} {
		problems := slo.ExpiredExclusions(objectives, time.Date(2026, 3, 6, 1, 0, 0, 0, time.UTC).AddDate(0, 0, days))
		if len(problems) != want {
			t.Errorf("after %d days: %v, want %d", days, problems, want)
		}
	}
}

func TestTheExampleOfTheDocsIsRight(t *testing.T) {
	body, err := os.ReadFile("../docs/exclusions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, before := shop(t)
	objectives, problems := shop(t, slo.ExclusionFile{Name: "exclusions.yaml", Body: body})
	if d := cmp.Diff(before, problems); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
	for _, o := range objectives {
		if want := map[string]int{"checkout": 3, "ledger": 2, "search": 1}[o.Entity.Name]; o.Indicator == "availability" && len(o.Exclusions) != want {
			t.Errorf("%s has %d exclusions, want %d", o.Entity, len(o.Exclusions), want)
		}
	}
}
