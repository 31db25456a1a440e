package slo_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// named is an entity that has the objectives of its type.
func named(name, namespace string) *catalog.Entity {
	return &catalog.Entity{Ref: catalog.NewRef("component", namespace, name), Name: name, Type: "service", Lifecycle: "production", Owner: catalog.NewRef("group", "", "payments"), Annotations: map[string]string{}}
}

// compiled gives the rule files of a catalog's objectives, by entity.
func compiled(t testing.TB, entities []*catalog.Entity) map[string][]byte {
	t.Helper()
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	owner := catalog.NewRef("group", "", "payments")
	g, _ := catalog.NewGraph(append([]*catalog.Entity{{Ref: owner}}, entities...), owner)
	objectives, problems := slo.Build(g, lib, slo.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	groups := map[string][]slo.RuleGroup{}
	for _, o := range objectives {
		groups[o.Entity.String()] = append(groups[o.Entity.String()], slo.Groups(o, slo.RuleOptions{})...)
	}
	out := map[string][]byte{}
	for entity, g := range groups {
		out[entity] = slo.AppendYAML(nil, g)
	}
	return out
}

// legalNames are entity names at the edges of what Backstage takes, and some by chance.
func legalNames() []string {
	const ends, inner = "ABCXYZabcxyz0189", "ABCXYZabcxyz0189-_."
	out := []string{"a", "Z", "0", "a-b", "a_b", "a.b", "a--b", "a-_.b", "A.B_C-d", "nan", "inf", "true", "null", "or", "by", "0x1", "1e3", strings.Repeat("x", 63), strings.Repeat("a.", 31) + "a"}
	random := rand.New(rand.NewPCG(7, 11))
	for range 40 {
		b := []byte{ends[random.IntN(len(ends))]}
		for range random.IntN(60) {
			b = append(b, inner[random.IntN(len(inner))])
		}
		out = append(out, string(append(b, ends[random.IntN(len(ends))])))
	}
	return out
}

func TestTheSameEntitiesInAnotherOrderGiveTheSameBytes(t *testing.T) {
	var entities []*catalog.Entity
	seen := map[string]bool{}
	for _, name := range legalNames() {
		if ref := catalog.NewRef("component", "", name).String(); !seen[ref] {
			seen[ref] = true
			entities = append(entities, named(name, ""))
		}
	}
	want := compiled(t, entities)
	if len(want) != len(entities) {
		t.Fatalf("%d of %d entities have rules", len(want), len(entities))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		random.Shuffle(len(entities), func(i, j int) { entities[i], entities[j] = entities[j], entities[i] })
		if d := cmp.Diff(want, compiled(t, entities), cmp.Comparer(bytes.Equal)); d != "" {
			t.Fatalf("(-want +got):\n%.2000s", d)
		}
	}
	without := compiled(t, entities[1:])
	delete(want, entities[0].Ref.String())
	if d := cmp.Diff(want, without, cmp.Comparer(bytes.Equal)); d != "" {
		t.Errorf("without %s other rules change (-want +got):\n%.2000s", entities[0].Ref, d)
	}
}

// The rules of an entity of any legal name load, and their labels name it and nothing else.
func TestLabelsOfAnyLegalNameSurviveQuoting(t *testing.T) {
	ids := map[string]string{}
	for _, name := range legalNames() {
		for entity, body := range compiled(t, []*catalog.Entity{named(name, "n-1")}) {
			groups, errs := rulefmt.Parse(body, false, model.UTF8Validation)
			if len(errs) > 0 {
				t.Fatalf("%s: %v\n%s", name, errs, body)
			}
			for _, g := range groups.Groups {
				for _, r := range g.Rules {
					id := r.Labels["sloth_id"]
					if r.Labels["entity"] != entity || !strings.HasPrefix(id, r.Labels["sloth_service"]+"-") {
						t.Fatalf("%s: labels %v", name, r.Labels)
					}
					if other, ok := ids[id]; ok && other != entity {
						t.Fatalf("%s and %s have the sloth_id %s", entity, other, id)
					}
					ids[id] = entity
					if strings.Contains(r.Expr, "sloth_id=") && !strings.Contains(r.Expr, fmt.Sprintf("{sloth_id=%q}", id)) {
						t.Fatalf("%s reads another objective: %s", id, r.Expr)
					}
				}
			}
		}
	}
}

// An objective has as many series when a hundred pods have come and gone as with one.
func TestSeriesOfAnObjectiveAreAsManyWhateverItsPods(t *testing.T) {
	series := func(pods []pod) []string {
		tr := failing(200, 600, 0.01, 50, 200)
		tr.pods = pods
		h := newTimeline(t)
		tr.scrape(h)
		raw := len(h.byName["req_total"])
		if raw != 2*max(1, len(pods)) {
			t.Fatalf("%d counters of %d pods", raw, len(pods))
		}
		h.evaluate(t, slo.Groups(objective(t, "payments"), slo.RuleOptions{}), timetable{from: start, until: at(200), period: 61 * time.Second})
		var out []string
		for name, tracks := range h.byName {
			for _, tr := range tracks {
				if name != "req_total" {
					out = append(out, tr.labels.String())
				}
			}
		}
		slices.Sort(out)
		return out
	}
	var many []pod
	for i := range 100 {
		many = append(many, pod{share: 0.2, from: i * 2, until: i*2 + 10})
	}
	if d := cmp.Diff(series(nil), series(many)); d != "" {
		t.Errorf("(-one pod +a hundred):\n%s", d)
	}
}

// What a dashboard made for sloth asks for is there with our rules: the names and labels that sloth's own rules of the
// same objective record.
func TestWhatSlothRecordsIsThere(t *testing.T) {
	o := objective(t, "payments")
	record := func(groups []slo.RuleGroup) map[string]map[string]bool {
		tr := failing(120, 600, 0.01, 50, 120)
		h := newTimeline(t)
		tr.scrape(h)
		h.evaluate(t, groups, timetable{from: start, until: at(120), period: 61 * time.Second})
		out := map[string]map[string]bool{}
		for name, tracks := range h.byName {
			for _, tr := range tracks {
				if out[name] == nil {
					out[name] = map[string]bool{}
				}
				for l := range tr.labels.Map() {
					out[name][l] = true
				}
			}
		}
		return out
	}
	sloths, err := slo.SlothGroups(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	ours := record(slo.Groups(o, slo.RuleOptions{}))
	for name, labels := range record(sloths) {
		for l := range labels {
			// A burn rate of sloth keeps the window of the ratio that it divides, which says nothing.
			if !ours[name][l] && (l != "sloth_window" || strings.HasPrefix(name, slo.SeriesErrorRatio)) {
				t.Errorf("%s has no label %s", name, l)
			}
		}
	}
}
