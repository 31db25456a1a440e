package slo_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/slo"
)

// shopOf is a system of services with counters of their own, whose targets are 99 (checkout), 90 (ledger) and 99 (search).
func shopOf(t *testing.T, system, group map[string]string) ([]slo.Objective, []catalog.Problem) {
	t.Helper()
	annotations := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			out[catalog.Prefix+k] = v
		}
		return out
	}
	payments, shop := catalog.NewRef("group", "", "payments"), catalog.NewRef("system", "", "shop")
	entities := []*catalog.Entity{
		{Ref: payments, Name: "payments", Annotations: annotations(group)},
		{Ref: shop, Name: "shop", Owner: payments, Annotations: annotations(system)},
	}
	for name, target := range map[string]string{"checkout": "99", "ledger": "90", "search": "99"} {
		entities = append(entities, &catalog.Entity{
			Ref: catalog.NewRef("component", "", name), Name: name, Type: "service", Owner: payments, System: shop,
			Annotations: annotations(map[string]string{"window": map[string]string{"search": "28d"}[name], "slo": fmt.Sprintf(`{version: prometheus/v1, service: %[1]s, slos: [{name: availability, objective: %[2]s, sli: {events: {
				error_query: 'sum(rate(req_total{job="%[1]s",code="500"}[{{.window}}]))', total_query: 'sum(rate(req_total{job="%[1]s"}[{{.window}}]))'}}, alerting: {}}]}`, name, target)}),
		})
	}
	for _, e := range entities {
		if e.Annotations[catalog.Prefix+"window"] == "" {
			delete(e.Annotations, catalog.Prefix+"window")
		}
	}
	g, _ := catalog.NewGraph(entities, catalog.Ref{})
	lib, err := slo.LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	return slo.Build(g, lib, slo.Options{Window: "7d"})
}

func TestACompositesBudgetIsThatOfItsMembersEvents(t *testing.T) {
	objectives, problems := shopOf(t, map[string]string{
		"composite.all":   "99 weighted 3*availability of checkout, availability of ledger",
		"composite.worst": "worst-of availability of ledger, availability of checkout",
		"composite.even":  "99.5 weighted all of system:default/shop, availability of ledger",
	}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	e, err := engine.Open(engine.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	var groups []slo.RuleGroup
	for _, o := range objectives {
		for _, g := range slo.Groups(o, slo.RuleOptions{Anchored: true}) {
			groups = append(groups, g)
			for _, r := range g.Rules {
				if o.Composite != nil && strings.Contains(r.Expr, "req_total") {
					t.Errorf("a composite reads its members' raw series: %s", r.Expr)
				}
			}
		}
	}
	if err := e.SetRules(map[string][]byte{"a.yaml": slo.AppendYAML(nil, groups)}); err != nil {
		t.Fatal(err)
	}
	// A quiet service fails wholly for a while, a busy one a little all the time; then nothing happens, so that every rule has
	// seen everything. search has no data.
	errors, total := map[string]float64{}, map[string]float64{}
	fired := map[string]int{}
	const minutes, idle = 150, 20
	for m := range minutes {
		if m > 0 && m < minutes-idle {
			bad := 0.0
			if m >= 60 && m < 75 {
				bad = 60
			}
			total["checkout"] += 60
			errors["checkout"] += bad
			total["ledger"] += 6000
			errors["ledger"] += 30
		}
		var samples []engine.Sample
		for _, job := range []string{"checkout", "ledger"} {
			for code, v := range map[string]float64{"200": total[job] - errors[job], "500": errors[job]} {
				samples = append(samples, engine.Sample{Labels: map[string]string{"__name__": "req_total", "job": job, "code": code}, Value: v, Time: at(m)})
			}
		}
		if err := e.Append(t.Context(), samples); err != nil {
			t.Fatal(err)
		}
		if err := e.Evaluate(t.Context(), at(m)); err != nil {
			t.Fatalf("minute %d: %v", m, err)
		}
		for _, a := range e.Alerts() {
			if a.Name == slo.AlertBurn && a.State == "firing" && strings.HasPrefix(a.Labels["sloth_id"], "system.") {
				fired[a.Labels["sloth_id"]+" "+a.Labels["severity"]]++
			}
		}
	}
	checkout, ledger := errors["checkout"]/total["checkout"], errors["ledger"]/total["ledger"]
	all := (3*checkout + ledger) / 4
	want := map[string]float64{
		"component.default.checkout-availability": 1 - checkout/0.01,
		"component.default.ledger-availability":   1 - ledger/0.1,
		"system.default.shop-all":                 1 - all/0.01,
		"system.default.shop-even":                1 - (all+ledger)/2/0.005,
		"system.default.shop-worst":               1 - checkout/0.01,
	}
	got, err := e.Query(t.Context(), "max by (sloth_id, entity, owner, system) (last_over_time("+slo.SeriesBudgetRemaining+"[11m]))", at(minutes-1))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range got {
		id := s.Labels["sloth_id"]
		if w, ok := want[id]; !ok || math.Abs(s.Value-w) > 0.005*math.Abs(w-1) {
			t.Errorf("%s has %v of its budget left, want %v", id, s.Value, w)
		}
		if s.Labels["system"] != "system:default/shop" || s.Labels["owner"] != "group:default/payments" {
			t.Errorf("%s has the labels %v", id, s.Labels)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("nothing is recorded of %v", want)
	}
	if fired["system.default.shop-all page"] == 0 || fired["system.default.shop-all page"] > 90 {
		t.Errorf("the page of the weighted one fired in %d minutes", fired["system.default.shop-all page"])
	}
	for id := range fired {
		if strings.HasPrefix(id, "system.default.shop-worst") {
			t.Errorf("%s fired beside its member's", id)
		}
	}
}

func TestWhatACompositeCannotBeMadeOfIsAProblem(t *testing.T) {
	tests := map[string]struct {
		system, group map[string]string
		want          []string // rule and entity of the problems
		made          []string
	}{
		"an indicator that nobody has":              {map[string]string{"composite.all": "99 weighted latency"}, nil, []string{"composite-member system:default/shop"}, nil},
		"an entity that is not there":               {map[string]string{"composite.all": "99 weighted availability of chekout"}, nil, []string{"composite-member system:default/shop"}, nil},
		"an objective that the entity has not":      {map[string]string{"composite.all": "worst-of latency of checkout"}, nil, []string{"composite-member system:default/shop"}, nil},
		"members of different windows":              {map[string]string{"composite.all": "99 weighted availability"}, nil, []string{"composite-window system:default/shop"}, nil},
		"one that is made of itself":                {map[string]string{"composite.all": "99 weighted all of system:default/shop"}, nil, []string{"composite-cycle system:default/shop"}, nil},
		"two that are made of each other":           {map[string]string{"composite.all": "99 weighted all of group:default/payments"}, map[string]string{"composite.all": "worst-of all of system:default/shop"}, []string{"composite-cycle system:default/shop", "composite-member group:default/payments"}, nil},
		"a bad one stops no other":                  {map[string]string{"composite.bad": "99 weighted latency", "composite.good": "99 weighted availability of checkout"}, nil, []string{"composite-member system:default/shop"}, []string{"system:default/shop good"}},
		"a group is made of a system's composite":   {map[string]string{"composite.all": "99 weighted availability of checkout"}, map[string]string{"composite.top": "worst-of all of system:default/shop, availability of ledger"}, nil, []string{"group:default/payments top", "system:default/shop all"}},
		"nothing less than a weight for a weight":   {map[string]string{"composite.all": "99 weighted 0*availability of checkout"}, nil, []string{"composite-weight system:default/shop"}, nil},
		"the worst of several has no weights":       {map[string]string{"composite.all": "worst-of 2*availability of checkout"}, nil, []string{"composite-weight system:default/shop"}, nil},
		"one member is named twice":                 {map[string]string{"composite.all": "99 weighted availability of checkout, 2*availability of component:default/checkout"}, nil, []string{"composite-twice system:default/shop"}, nil},
		"a target that is none":                     {map[string]string{"composite.all": "101 weighted availability of checkout"}, nil, []string{"composite-percent system:default/shop"}, nil},
		"neither weighted nor the worst":            {map[string]string{"composite.all": "99 best availability"}, nil, []string{"composite-syntax system:default/shop"}, nil},
		"a target that can never page is refused":   {map[string]string{"composite.all": "20 weighted availability of checkout"}, nil, []string{"objective-cannot-alert system:default/shop"}, nil},
		"which is no matter where nothing alerts":   {map[string]string{"composite.all": "20 weighted availability of checkout", "alerting.all": "off"}, nil, nil, []string{"system:default/shop all"}},
		"the worst of several has the one's alerts": {map[string]string{"composite.all": "worst-of availability of checkout"}, nil, nil, []string{"system:default/shop all"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objectives, problems := shopOf(t, tt.system, tt.group)
			var got, made []string
			for _, p := range problems {
				if p.Severity == catalog.SeverityError {
					got = append(got, p.Rule+" "+p.Entity.String())
					if p.Message == "" || !strings.HasPrefix(p.Annotation, catalog.Prefix+"composite.") {
						t.Errorf("the problem points at %s: %s", p.Annotation, p.Message)
					}
				}
			}
			slices.Sort(got)
			for _, o := range objectives {
				if o.Composite != nil {
					made = append(made, o.Entity.String()+" "+o.Indicator)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got)\n%s%v", diff, problems)
			}
			if diff := cmp.Diff(tt.made, made); diff != "" {
				t.Errorf("made (-want +got)\n%s", diff)
			}
		})
	}
}

func TestWeightsAndTargetsOfComposites(t *testing.T) {
	objectives, _ := shopOf(t, map[string]string{
		"composite.worst": "worst-of availability of ledger, availability of checkout", "composite.all": "95 weighted availability of ledger, 2.5*availability of checkout",
	}, nil)
	for _, o := range objectives {
		if o.Composite == nil {
			continue
		}
		want := "95" // its own
		if o.Composite.WorstOf {
			want = "99" // the strictest of its members
			for _, g := range slo.Groups(o, slo.RuleOptions{}) {
				for _, r := range g.Rules {
					if r.Alert != "" {
						t.Errorf("the worst of several has the alert %s", r.Alert)
					}
				}
			}
		} else if m := o.Composite.Members; len(m) != 2 || m[0].Weight != "2.5" || m[1].Weight != "1" {
			t.Errorf("members %+v", m)
		}
		if o.Target.Percent() != want {
			t.Errorf("%s has the target %s, want %s", o.Indicator, o.Target.Percent(), want)
		}
	}
}

func TestRulesOfSlothHaveNoComposites(t *testing.T) {
	objectives, _ := shopOf(t, map[string]string{"composite.all": "99 weighted availability of checkout"}, nil)
	left, problems := slo.WithoutComposites(objectives)
	if len(left) != len(objectives)-1 || slices.ContainsFunc(left, func(o slo.Objective) bool { return o.Composite != nil }) {
		t.Errorf("%d of %d objectives are left", len(left), len(objectives))
	}
	if len(problems) != 1 || problems[0].Rule != "composite-sloth" || problems[0].Annotation != "sightline.dev/composite.all" {
		t.Errorf("problems %+v", problems)
	}
}

func TestACompositeIsInNoDocument(t *testing.T) {
	objectives, _ := shopOf(t, map[string]string{"composite.all": "99 weighted availability of checkout"}, nil)
	for _, o := range objectives {
		if o.Composite == nil {
			continue
		}
		body, problems, err := slo.Export([]slo.Objective{o}, slo.FormatOpenSLO)
		if err != nil || len(body) > 0 || len(problems) != 1 || problems[0].Severity != catalog.SeverityError || !strings.Contains(problems[0].Message, "made of other objectives") {
			t.Errorf("%v, %+v: %s", err, problems, body)
		}
	}
}
