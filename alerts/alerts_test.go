package alerts

import (
	"fmt"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/common/model"

	"github.com/sightline-dev/sightline/catalog"
)

// platform is a catalog of teams with a receiver each, below a department with one, and a component of each team.
func platform(t *testing.T, teams int) *catalog.Graph {
	t.Helper()
	group := func(name, parent string, annotations map[string]string) *catalog.Entity {
		e := &catalog.Entity{Ref: catalog.NewRef("group", "", name), Name: name, Annotations: annotations}
		if parent != "" {
			e.Parent = catalog.NewRef("group", "", parent)
		}
		return e
	}
	receiver := func(kind, value string) map[string]string {
		return map[string]string{catalog.Prefix + "receiver." + kind: value}
	}
	entities := []*catalog.Entity{
		group("platform", "", receiver("slack", "#platform")),
		group("department", "", receiver("pagerduty", "department-key")),
		group("heirs", "department", nil),
	}
	for i := range teams {
		name := fmt.Sprintf("team-%d.x+y", i)
		entities = append(entities, group(name, "", receiver("slack", fmt.Sprintf("#team-%d", i))))
		entities = append(entities, &catalog.Entity{Ref: catalog.NewRef("component", "", fmt.Sprintf("svc-%d", i)), Owner: catalog.NewRef("group", "", name)})
	}
	g, problems := catalog.NewGraph(entities, catalog.NewRef("group", "", "platform"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return g
}

// routes loads a configuration with Alertmanager's own code and gives the receivers of a label set.
func routes(t *testing.T, c *Config) func(labels map[string]string) []string {
	t.Helper()
	loaded, err := config.Load(string(c.YAML()))
	if err != nil {
		t.Fatalf("Alertmanager refuses the configuration: %v\n%s", err, c.YAML())
	}
	tree := dispatch.NewRoute(loaded.Route, nil)
	return func(labels map[string]string) []string {
		set := model.LabelSet{}
		for k, v := range labels {
			set[model.LabelName(k)] = model.LabelValue(v)
		}
		var out []string
		for _, r := range tree.Match(set) {
			out = append(out, r.RouteOpts.Receiver)
		}
		return out
	}
}

func TestEveryOwnerReachesItsReceiversInAlertmanagersOwnRouting(t *testing.T) {
	for _, teams := range []int{3, 300} {
		c, _ := Build(platform(t, teams), Options{})
		receivers := routes(t, c)
		if len(c.Tests()) < teams {
			t.Errorf("%d teams: only %d route tests", teams, len(c.Tests()))
		}
		for _, test := range c.Tests() {
			if d := cmp.Diff(test.Receivers, receivers(test.Labels)); d != "" {
				t.Errorf("%d teams, %v (-want +got):\n%s", teams, test.Labels, d)
			}
		}
	}
}

func TestTwoLevelsRouteAsOne(t *testing.T) {
	g := platform(t, 300)
	flat, _ := Build(g, Options{BucketAbove: 1000})
	bucketed, _ := Build(g, Options{BucketAbove: 10})
	inFlat, inBuckets := routes(t, flat), routes(t, bucketed)
	for _, owner := range append(g.Owners(), catalog.NewRef("group", "", "nobody")) {
		for _, severity := range []string{"page", "ticket"} {
			labels := map[string]string{"alertname": "SLOErrorBudgetBurn", "owner": owner.String(), "severity": severity}
			want, got := inFlat(labels), inBuckets(labels)
			if d := cmp.Diff(want, got); d != "" || len(got) == 0 {
				t.Errorf("%s, %s (-flat +bucketed):\n%s", owner, severity, d)
			}
		}
	}
}

func TestAnOwnerCanNameNoSecretButItsOwn(t *testing.T) {
	entity := func(kind, name, secret string) *catalog.Entity {
		return &catalog.Entity{Ref: catalog.NewRef(kind, "", name), Name: name, Annotations: map[string]string{catalog.Prefix + "receiver.pagerduty": secret}}
	}
	g, _ := catalog.NewGraph([]*catalog.Entity{
		entity("group", "pay", "key"), entity("user", "pay", "key"), entity("group", "thief", "key"), entity("group", "thief-2", "group-default-pay-key"),
		entity("group", "climber", "../pay/key"), entity("group", "absolute", "/etc/passwd"), entity("group", "dots", ".."), entity("group", "..", "key"), entity("group", "a/../../b", "key"),
	}, catalog.NewRef("group", "", "pay"))
	c, problems := Build(g, Options{WatchdogReceiver: Destination{"webhook", "watchdog-url"}})
	files := map[string]string{}
	for _, r := range c.receivers {
		for _, d := range r.to {
			file := c.secret(r, d)
			if path.Dir(file) != "/etc/alertmanager/secrets" {
				t.Errorf("%s reads %s", r.name, file)
			}
			if other, ok := files[file]; ok && other != r.owner.String() {
				t.Errorf("%s and %s read the same file %s", other, r.owner, file)
			}
			files[file] = r.owner.String()
		}
	}
	if files["/etc/alertmanager/secrets/watchdog-url"] == "" {
		t.Errorf("the dead man's switch has another file than the operator named: %v", files)
	}
	refused := 0
	for _, p := range problems {
		if p.Rule == RuleReceiver {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("%d receivers are refused, want those that climb: %v", refused, problems)
	}
}

func TestAGroupInheritsTheReceiversAboveIt(t *testing.T) {
	c, _ := Build(platform(t, 1), Options{})
	receivers := routes(t, c)
	page := func(owner string) []string {
		return receivers(map[string]string{"alertname": "SLOErrorBudgetBurn", "owner": owner, "severity": "page"})
	}
	if d := cmp.Diff(page("group:default/department"), page("group:default/heirs")); d != "" {
		t.Errorf("receivers (-department +heirs):\n%s", d)
	}
	if d := cmp.Diff(page("group:default/platform"), page("group:default/gone")); d != "" {
		t.Errorf("an unknown owner does not reach the platform owner (-platform +gone):\n%s", d)
	}
}
