package catalog

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ref reads a reference of a test.
func ref(s string) Ref {
	if s == "" {
		return Ref{}
	}
	r, err := ParseRef(s, "component")
	if err != nil {
		panic(err)
	}
	return r
}

// shop is a valid catalog: a tree of groups, a user, a system and two components.
func shop(change ...func(map[string]*Entity)) []*Entity {
	all := map[string]*Entity{}
	for name, e := range map[string]Entity{
		"group:all":       {},
		"group:payments":  {Parent: ref("group:all")},
		"user:ada":        {MemberOf: []Ref{ref("group:payments")}},
		"domain:commerce": {Owner: ref("group:all")},
		"system:shop":     {Owner: ref("group:payments"), Domain: ref("domain:commerce")},
		"checkout":        {Owner: ref("group:payments"), System: ref("system:shop")},
		"ledger":          {Owner: ref("user:ada"), System: ref("system:shop")},
	} {
		e.Ref, e.Annotations = ref(name), map[string]string{}
		all[name] = &e
	}
	for _, c := range change {
		c(all)
	}
	var out []*Entity
	for _, e := range all {
		out = append(out, e)
	}
	return out
}

func TestAValidCatalogHasNoProblems(t *testing.T) {
	g, problems := NewGraph(shop(), ref("group:platform"))
	if len(problems) > 0 {
		t.Errorf("problems: %+v", problems)
	}
	if g.Len() != 7 || !slices.IsSortedFunc(slices.Collect(g.Entities()), func(a, b *Entity) int { return a.Ref.Compare(b.Ref) }) {
		t.Errorf("%d entities, want 7 in order", g.Len())
	}
	refs := func(es []*Entity) (out []string) {
		for _, e := range es {
			out = append(out, e.Ref.String())
		}
		return out
	}
	if d := cmp.Diff([]string{"component:default/checkout", "component:default/ledger"}, refs(g.InSystem(ref("system:shop")))); d != "" {
		t.Errorf("in the system (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"component:default/checkout", "group:default/payments", "system:default/shop"}, refs(g.OwnedBy(ref("group:payments")))); d != "" {
		t.Errorf("owned (-want +got):\n%s", d)
	}
	if got, want := g.Owners(), []Ref{ref("group:all"), ref("group:payments"), ref("group:platform"), ref("user:ada")}; !slices.Equal(got, want) {
		t.Errorf("owners %v, want %v", got, want)
	}
	if g.Domain(ref("checkout")) != ref("domain:commerce") || g.System(ref("system:shop")) != ref("system:shop") || !g.System(ref("nobody")).IsZero() || !g.Domain(ref("nobody")).IsZero() {
		t.Error("domain or system of an entity is wrong")
	}
	if g.Entity(ref("nobody")) != nil || g.Entity(ref("checkout")) == nil {
		t.Error("Entity finds what is not there, or not what is")
	}
}

func TestOwnershipSaysWhyThereIsNone(t *testing.T) {
	tests := []struct {
		name   string
		change func(map[string]*Entity)
		of     string
		owner  string
		reason string
	}{
		{"a group", nil, "checkout", "group:payments", ""},
		{"a user", nil, "ledger", "user:ada", ""},
		{"a group owns itself", nil, "group:payments", "group:payments", ""},
		{"a user owns itself", nil, "user:ada", "user:ada", ""},
		{"no owner", func(m map[string]*Entity) { m["checkout"].Owner = Ref{} }, "checkout", "group:platform", "names no owner"},
		{"a group that is gone", func(m map[string]*Entity) { m["checkout"].Owner = ref("group:gone") }, "checkout", "group:platform", "group:default/gone does not exist"},
		{"a user who is gone", func(m map[string]*Entity) { m["checkout"].Owner = ref("user:gone") }, "checkout", "group:platform", "user:default/gone does not exist"},
		{"a system as owner", func(m map[string]*Entity) { m["checkout"].Owner = ref("system:shop") }, "checkout", "group:platform", "neither a group nor a user"},
		{"an unknown entity", nil, "nobody", "group:platform", "not in the catalog"},
		{"a group of another namespace", func(m map[string]*Entity) { m["checkout"].Owner = ref("group:other/payments") }, "checkout", "group:platform", "group:other/payments does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(map[string]*Entity) {}
			}
			g, _ := NewGraph(shop(tt.change), ref("group:platform"))
			got := g.Ownership(ref(tt.of))
			if got.Owner != ref(tt.owner) || got.Unowned != (tt.reason != "") || !strings.Contains(got.Reason, tt.reason) || tt.reason == "" && got.Reason != "" {
				t.Errorf("got %+v, want %s because %q", got, tt.owner, tt.reason)
			}
			if g.Owner(ref(tt.of)) != got.Owner {
				t.Errorf("Owner is %v, Ownership says %v", g.Owner(ref(tt.of)), got.Owner)
			}
		})
	}
}

func TestGroupChainWalksUpOnce(t *testing.T) {
	tests := []struct {
		name, from, want string
		change           func(map[string]*Entity)
	}{
		{"from a team to the top", "group:payments", "payments all", func(map[string]*Entity) {}},
		{"a parent that is gone ends it", "group:payments", "payments", func(m map[string]*Entity) { m["group:payments"].Parent = ref("group:gone") }},
		{"a group that is its own parent", "group:all", "all", func(m map[string]*Entity) { m["group:all"].Parent = ref("group:all") }},
		{"a circle of two", "group:payments", "payments all", func(m map[string]*Entity) { m["group:all"].Parent = ref("group:payments") }},
		{"a group that is gone", "group:gone", "", func(map[string]*Entity) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := NewGraph(shop(tt.change), Ref{})
			var got []string
			for _, r := range g.GroupChain(ref(tt.from)) {
				got = append(got, r.Name)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAGraphSaysWhatIsWrong(t *testing.T) {
	annotate := func(name string, pairs ...string) func(map[string]*Entity) {
		return func(m map[string]*Entity) {
			for i := 0; i < len(pairs); i += 2 {
				m[name].Annotations[pairs[i]] = pairs[i+1]
			}
		}
	}
	add := func(name string, pairs ...string) func(map[string]*Entity) {
		return func(m map[string]*Entity) {
			m[name] = &Entity{Ref: ref(name), Owner: ref("group:all"), Annotations: map[string]string{}}
			annotate(name, pairs...)(m)
		}
	}
	const slug, id, pipelines = "gitlab.com/project-slug", "gitlab.com/project-id", Prefix + "pipelines"
	tests := []struct {
		name   string
		change []func(map[string]*Entity)
		want   []string // entity, rule, a part of message or hint
	}{
		{"an owner with a near name", []func(map[string]*Entity){func(m map[string]*Entity) { m["checkout"].Owner = ref("group:payment") }}, []string{
			"component:default/checkout owner-missing did you mean group:default/payments?",
		}},
		{"an owner without a near name", []func(map[string]*Entity){func(m map[string]*Entity) { m["checkout"].Owner = ref("group:x") }}, []string{
			"component:default/checkout owner-missing name a group that exists",
		}},
		{"an owner in a wrong namespace", []func(map[string]*Entity){func(m map[string]*Entity) { m["checkout"].Owner = ref("group:shop/payments") }}, []string{
			"component:default/checkout owner-missing did you mean group:default/payments?",
		}},
		{"an owner of a wrong kind", []func(map[string]*Entity){func(m map[string]*Entity) { m["checkout"].Owner = ref("system:shop") }}, []string{
			"component:default/checkout owner-kind neither a group nor a user",
		}},
		{"a part of a catalog does not know the owners", []func(map[string]*Entity){func(m map[string]*Entity) {
			delete(m, "group:all")
			delete(m, "group:payments")
			delete(m, "user:ada")
		}}, nil},
		{"a group that is its own parent", []func(map[string]*Entity){func(m map[string]*Entity) { m["group:all"].Parent = ref("group:all") }}, []string{
			"group:default/all group-circle group:default/all → group:default/all",
		}},
		{"a circle of three, and a way into it", []func(map[string]*Entity){add("group:c"), add("group:a"), func(m map[string]*Entity) {
			m["group:a"].Parent, m["group:all"].Parent, m["group:c"].Parent = ref("group:c"), ref("group:c"), ref("group:payments")
			m["group:payments"].Parent = ref("group:all")
		}}, []string{"group:default/all group-circle group:default/all → group:default/c → group:default/payments → group:default/all"}},
		{"a shared project in one system", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop"), annotate("ledger", slug, "/Acme/Shop/")}, []string{
			"component:default/checkout project-shared they count for system:default/shop",
			"component:default/ledger project-shared pipelines: \"ledger-*\"",
		}},
		{"a shared project of two systems", []func(map[string]*Entity){annotate("checkout", id, "7"), add("other", id, "7")}, []string{
			"component:default/checkout project-shared they count for nobody",
			"component:default/other project-shared claimed by 2 entities, one of them component:default/checkout",
		}},
		{"one pattern each", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop", pipelines, "checkout-*"), annotate("ledger", slug, "acme/shop", pipelines, "ledger-*")}, nil},
		{"one pattern and the rest", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop", pipelines, "checkout-*"), annotate("ledger", slug, "acme/shop")}, nil},
		{"one claims all, the other says nothing", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop", pipelines, "all"), annotate("ledger", slug, "acme/shop")}, nil},
		{"both claim the same pattern", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop", pipelines, "x-*"), annotate("ledger", slug, "acme/shop", pipelines, "x-*")}, []string{
			"component:default/checkout project-shared pipelines (x-*) of the GitLab project acme/shop",
			"component:default/ledger project-shared pipelines (x-*)",
		}},
		{"an API beside a component", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop"), add("api:shop", slug, "acme/shop")}, nil},
		{"the same slug on two instances", []func(map[string]*Entity){annotate("checkout", slug, "acme/shop"), annotate("ledger", slug, "acme/shop", "gitlab.com/instance", "gitlab.example.com")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := NewGraph(shop(tt.change...), Ref{})
			slices.SortFunc(problems, Problem.Compare)
			if len(problems) != len(tt.want) {
				t.Fatalf("got problems %+v, want %q", problems, tt.want)
			}
			for i, p := range problems {
				want := strings.SplitN(tt.want[i], " ", 3)
				if p.Entity.String() != want[0] || p.Rule != want[1] || !strings.Contains(p.Message+" "+p.Hint, want[2]) {
					t.Errorf("got %+v, want %q", p, tt.want[i])
				}
			}
		})
	}
}

func TestOfTwoDefinitionsTheFirstIsUsed(t *testing.T) {
	first := &Entity{Ref: ref("checkout"), Title: "first", Position: Position{File: "a.yaml", Line: 1}}
	second := &Entity{Ref: ref("checkout"), Title: "second", Position: Position{File: "b.yaml", Line: 9, Column: 1}}
	g, problems := NewGraph([]*Entity{first, second}, ref("group:platform"))
	if g.Len() != 1 || g.Entity(first.Ref).Title != "first" {
		t.Errorf("%d entities, the first %+v", g.Len(), g.Entity(first.Ref))
	}
	want := []Problem{{Severity: SeverityError, Entity: first.Ref, Owner: ref("group:platform"), File: "b.yaml", Line: 9, Column: 1, Rule: "entity-duplicate", Hint: "remove this one or the one in a.yaml"}}
	if d := cmp.Diff(want, problems, cmpopts.IgnoreFields(Problem{}, "Message")); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
}

// The order of the input is not the order of the output.
func TestEqualCatalogsGiveEqualGraphs(t *testing.T) {
	broken := func(m map[string]*Entity) {
		m["checkout"].Owner, m["ledger"].Owner, m["group:all"].Parent = ref("group:gone"), ref("group:gone"), ref("group:payments")
		m["checkout"].Annotations["gitlab.com/project-id"], m["ledger"].Annotations["gitlab.com/project-id"] = "7", "7"
	}
	want, wantProblems := NewGraph(shop(broken), Ref{})
	for range 20 { // shop gives the entities in an order of chance
		got, problems := NewGraph(shop(broken), Ref{})
		if d := cmp.Diff(slices.Collect(want.Entities()), slices.Collect(got.Entities())); d != "" {
			t.Fatalf("entities (-want +got):\n%s", d)
		}
		if d := cmp.Diff(wantProblems, problems); d != "" {
			t.Fatalf("problems (-want +got):\n%s", d)
		}
	}
}
