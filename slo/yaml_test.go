package slo

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

func TestTheWriterIsReadBackByPrometheus(t *testing.T) {
	groups := []RuleGroup{
		{Name: `a "group"`, Interval: 5 * time.Minute, Rules: []Rule{
			{Record: "a:b", Expr: `sum(rate(x{y=~"\\d+",z="ü"}[5m]))`, Labels: Labels{{"a", `C:\n`}, {"b", "true"}, {"c", "1\n2\t"}}},
			{Alert: "A", Expr: "a:b > 0", For: 90 * time.Second, Labels: Labels{{"severity", "page"}}, Annotations: Labels{{"summary", "- {{ $value }}: #\u2028\ufeff\x7f"}}},
		}},
		{Name: "second", Rules: []Rule{{Record: "c", Expr: "vector(1)"}}},
	}
	read, errs := rulefmt.Parse(AppendYAML(nil, groups), false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var got []RuleGroup
	for _, g := range read.Groups {
		group := RuleGroup{Name: g.Name, Interval: time.Duration(g.Interval)}
		for _, r := range g.Rules {
			rule := Rule{Record: r.Record, Alert: r.Alert, Expr: r.Expr, For: time.Duration(r.For)}
			if len(r.Labels) > 0 {
				rule.Labels = LabelsOf(r.Labels)
			}
			if len(r.Annotations) > 0 {
				rule.Annotations = LabelsOf(r.Annotations)
			}
			group.Rules = append(group.Rules, rule)
		}
		got = append(got, group)
	}
	if d := cmp.Diff(groups, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

func TestAWriterThatIsUsedAgainWritesWhatANewOneDoes(t *testing.T) {
	target, err := ParseTarget("99.9")
	if err != nil {
		t.Fatal(err)
	}
	objective := func(name string, window Window, severity Severity) Objective {
		return Objective{
			Entity: catalog.NewRef("component", "", name), Owner: catalog.NewRef("group", "", "team-"+name), Indicator: "availability", Target: target, Window: window,
			NoTraffic: NoTrafficIgnore, MaxSeverity: severity, MinEvents: len(name), ErrorQuery: `sum(rate(x{job="` + name + `",code="500"}[$window]))`, TotalQuery: `sum(rate(x{job="` + name + `"}[$window]))`,
		}
	}
	a, long := objective("a", Window{Days: 30}, SeverityPage), objective(strings.Repeat("long", 15), Window{Days: 28}, SeverityTicket)
	calendar, none := objective("calendar", Window{Calendar: "month"}, SeverityPage), objective("none", Window{}, SeverityPage)
	w := Writer{Options: RuleOptions{SLOURL: "https://sightline.example.com/$entity/$indicator"}}
	for _, file := range [][]Objective{{a}, {long, calendar, a}, {none}, {calendar}, {a, long}, {a}} {
		var want []byte
		var groups []RuleGroup
		for _, o := range file {
			groups = append(groups, Groups(o, w.Options)...)
		}
		if len(groups) > 0 {
			want = AppendYAML(nil, groups)
		}
		if d := cmp.Diff(string(want), string(w.Append(nil, file))); d != "" {
			t.Fatalf("the file of %d objectives (-new +used again):\n%s", len(file), d)
		}
	}
}

// FuzzQuoted checks that the YAML library reads what is written, of any bytes, beside another value.
func FuzzQuoted(f *testing.F) {
	for _, s := range []string{"", "checkout", `say "hi" \ n`, "a: b # c", "- x\n\ty\r\n", "é\u0085\u00a0\u2028\ufeff\ufffe\uffff😀", "\x00\x1b\x7f", "\xff\xc3", "12345678\"12345678\x7f12345678\\12345678\t12345678é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := s[:min(len(s), 300)] // YAML's keys have at most 1,024 characters; those of rules are label names
		body := append(appendQuoted(append(appendQuoted(nil, name), ": "...), s), "\n\"other\": \"x\"\n"...)
		var got map[string]string
		if err := yaml.Unmarshal(body, &got); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		key, valid := string([]rune(name)), string([]rune(s)) // each bad byte becomes one U+FFFD
		if key == "other" {
			t.Skip("the name of the other value")
		}
		if d := cmp.Diff(map[string]string{key: valid, "other": "x"}, got); d != "" {
			t.Errorf("%q is read as (-want +got):\n%s", body, d)
		}
	})
}
