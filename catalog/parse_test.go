package catalog

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parseOne reads one annotation of an entity of a kind.
func parseOne(kind, key, value string) (Settings, []Problem) {
	return Parse(&Entity{
		Ref: NewRef(kind, "", "a"), Position: Position{File: "catalog-info.yaml", Line: 1, Column: 1}, Annotations: map[string]string{Prefix + key: value},
		AnnotationPositions: map[string]Position{Prefix + key: {File: "catalog-info.yaml", Line: 6, Column: 9}},
	})
}

func objective(percent, threshold string) Settings {
	return Settings{Objectives: map[string]ObjectiveSetting{"latency": {Percent: percent, Threshold: threshold}}}
}

// Every key of the annotation table has values here that are read, and values that are explained.
var values = map[string]struct {
	kind, key string
	good      map[string]Settings
	bad       map[string][2]string // value to rule and a part of the hint
}{
	"profile": {
		good: map[string]Settings{"http-service": {Profile: "http-service"}, "grpc@2": {Profile: "grpc@2"}},
		bad:  map[string][2]string{"HTTP Service": {"profile-name", `"http-service"`}, "-x": {"profile-name", ""}},
	},
	"objective.<indicator>": {
		key: "objective.latency",
		good: map[string]Settings{
			"99": objective("99", ""), " 99.95 ": objective("99.95", ""), "99@300ms": objective("99", "0.3"), "95@10m": objective("95", "600"),
			"99 @ 1.5h": objective("99", "5400"), "1@2d": objective("1", "172800"), "99.999999@0.25s": objective("99.999999", "0.25"),
			"off": {Objectives: map[string]ObjectiveSetting{"latency": {Off: true}}},
		},
		bad: map[string][2]string{
			"99,9": {"objective-percent", `write "99.9"`}, "99,9@300ms": {"objective-percent", `write "99.9@300ms"`}, "99.9%": {"objective-percent", `write "99.9"`},
			"99.9 % @ 1s": {"objective-percent", `write "99.9@1s"`}, "0.999": {"objective-percent", `write "99.9"`}, "0.99@2s": {"objective-percent", `write "99@2s"`},
			"0.0005": {"objective-percent", `such as "99.9"`}, "0": {"objective-percent", `"off"`}, "0.0": {"objective-percent", `"off"`},
			"100": {"objective-percent", `"99@100ms"`}, "300": {"objective-percent", `"99@300ms"`}, "300ms": {"objective-percent", `"99@300ms"`},
			"-5": {"objective-percent", ""}, "1e1": {"objective-percent", ""}, "0x5f": {"objective-percent", ""}, "99/100": {"objective-percent", ""}, ".5": {"objective-percent", ""},
			"99.": {"objective-percent", ""}, "Off": {"objective-percent", `write "off"`}, "NaN": {"objective-percent", ""}, "off@1s": {"objective-percent", ""},
			"99@300": {"objective-threshold", `write "99@300ms"`}, "99@": {"objective-threshold", "such as"}, "99@0s": {"objective-threshold", ""}, "99@-1s": {"objective-threshold", ""},
			"99@1y": {"objective-threshold", "ms, s, m, h or d"}, "99@1h30m": {"objective-threshold", ""}, "99@1s@2s": {"objective-threshold", ""}, "٩٩": {"objective-percent", ""},
			"p95<300ms:99": {"objective-percent", ""},
		},
	},
	"window": {
		good: map[string]Settings{"30d": {Window: "30d"}, "4w": {Window: "28d"}, "7d": {Window: "7d"}, "366d": {Window: "366d"}},
		bad: map[string][2]string{
			"30": {"window-syntax", `write "30d"`}, "1 month": {"window-syntax", "days or weeks"}, "6d": {"window-length", `"7d"`}, "0w": {"window-length", `"7d"`}, "53w": {"window-length", ""},
			"367d": {"window-length", ""}, "99999999999999999999d": {"window-syntax", ""}, "-30d": {"window-syntax", ""}, "30dw": {"window-syntax", ""}, "30.5d": {"window-syntax", ""}, "d": {"window-syntax", ""},
		},
	},
	"window.<indicator>": {
		key:  "window.pod-ready",
		good: map[string]Settings{"28d": {Windows: map[string]string{"pod_ready": "28d"}}},
		bad:  map[string][2]string{"28": {"window-syntax", `write "28d"`}},
	},
	"selector": {
		good: map[string]Settings{
			`job="checkout",namespace="shop"`: {Selector: `job="checkout",namespace="shop"`}, ` job = 'a' , code !~ "5..", `: {Selector: `job="a",code!~"5.."`},
			"job=`a\\d`": {Selector: `job="a\\d"`}, `"service.name"="a"`: {Selector: `"service.name"="a"`}, `job!="\u00fc"`: {Selector: `job!="ü"`},
		},
		bad: map[string][2]string{
			`{job="a"}`: {"selector-syntax", "without braces"}, `up{job="a"}`: {"selector-syntax", "without braces"}, `job=a`: {"selector-syntax", "job="}, `job`: {"selector-syntax", ""},
			`job="a" or 1`: {"selector-syntax", ""}, `job="a"} or vector(1) or up{x="`: {"selector-syntax", ""}, `job="a`: {"selector-syntax", ""}, `,`: {"selector-syntax", ""}, `""="a"`: {"selector-syntax", ""},
			`job=="a"`: {"selector-syntax", ""}, `1job="a"`: {"selector-syntax", ""}, `job="\xff"`: {"selector-syntax", ""}, "job=\"a\nb\"": {"selector-syntax", ""}, `job="\q"`: {"selector-syntax", ""},
		},
	},
	"selector.<indicator>": {
		key:  "selector.latency",
		good: map[string]Settings{`job="w"`: {Selectors: map[string]string{"latency": `job="w"`}}},
		bad:  map[string][2]string{`job`: {"selector-syntax", ""}},
	},
	"environment": {
		good: map[string]Settings{"staging": {Environment: "staging"}},
		bad:  map[string][2]string{"Production!": {"environment-name", `"production"`}},
	},
	"tier": {
		good: map[string]Settings{"1": {Tier: "1"}, "4": {Tier: "4"}},
		bad:  map[string][2]string{"0": {"tier-value", ""}, "gold": {"tier-value", "1, 2, 3, 4"}, "1.0": {"tier-value", ""}},
	},
	"no-traffic": {
		good: map[string]Settings{"ignore": {NoTraffic: "ignore"}, "good": {NoTraffic: "good"}, "bad": {NoTraffic: "bad"}},
		bad:  map[string][2]string{"Ignore": {"no-traffic-value", `write "ignore"`}, "zero": {"no-traffic-value", "one of ignore, good, bad"}},
	},
	"min-events": {
		good: map[string]Settings{"50": {MinEvents: 50}},
		bad:  map[string][2]string{"0": {"min-events-number", `"50"`}, "+5": {"min-events-number", ""}, "5.5": {"min-events-number", ""}, "many": {"min-events-number", ""}, "99999999999": {"min-events-number", ""}},
	},
	"alerting": {
		good: map[string]Settings{"page": {Alerting: "page"}, "ticket": {Alerting: "ticket"}, "off": {Alerting: "off"}},
		bad:  map[string][2]string{"tickets": {"alerting-value", `write "ticket"`}, "no": {"alerting-value", "one of"}},
	},
	"alerting.<indicator>": {
		key:  "alerting.latency",
		good: map[string]Settings{"off": {Alertings: map[string]string{"latency": "off"}}},
		bad:  map[string][2]string{"pager": {"alerting-value", `write "page"`}},
	},
	"runbook": {
		good: map[string]Settings{"https://runbooks.example.com/checkout#burn": {Runbook: "https://runbooks.example.com/checkout#burn"}},
		bad: map[string][2]string{
			"runbooks.example.com": {"runbook-url", "https://"}, "javascript:alert(1)": {"runbook-url", ""}, "https://ada:secret@example.com/": {"runbook-url", "remove the user"}, "https://": {"runbook-url", ""},
			"https://example.com/a b": {"runbook-url", ""},
		},
	},
	"slo-ref": {
		good: map[string]Settings{"./slo.yaml": {SLORef: "./slo.yaml"}},
		bad:  map[string][2]string{"": {"annotation-empty", ""}},
	},
	"slo": {
		good: map[string]Settings{"apiVersion: openslo/v1": {SLOInline: "apiVersion: openslo/v1"}},
		bad:  map[string][2]string{" ": {"annotation-empty", "remove it"}},
	},
	"pipelines": {
		good: map[string]Settings{"all": {Pipelines: "all"}, "deploy-*": {Pipelines: "deploy-*"}},
		bad:  map[string][2]string{"deploy-[": {"pipelines-pattern", `"deploy-*"`}},
	},
	"receiver.<kind>": {
		kind: "group", key: "receiver.slack",
		good: map[string]Settings{"#team-pay": {Receivers: map[string]string{"slack": "#team-pay"}}},
		bad: map[string][2]string{
			"https://hooks.slack.com/services/T0/B0/X": {"receiver-secret", "replace the secret"}, "xoxb-1-2": {"receiver-secret", ""}, "#a\n#b": {"receiver-value", ""},
		},
	},
	"composite.<name>": {
		kind: "system", key: "composite.checkout-path",
		good: map[string]Settings{
			"99.9 weighted availability": {Composites: map[string]CompositeSetting{"checkout_path": {Percent: "99.9", Parts: []CompositePart{{Weight: "1", Indicator: "availability"}}}}},
			"99 weighted 2.5 * pod-ready of checkout,latency of api:shop/ledger": {Composites: map[string]CompositeSetting{"checkout_path": {Percent: "99", Parts: []CompositePart{
				{Weight: "2.5", Indicator: "pod_ready", Entity: Ref{"component", "default", "checkout"}}, {Weight: "1", Indicator: "latency", Entity: Ref{"api", "shop", "ledger"}},
			}}}},
			"worst-of availability, latency": {Composites: map[string]CompositeSetting{"checkout_path": {WorstOf: true, Parts: []CompositePart{{Weight: "1", Indicator: "availability"}, {Weight: "1", Indicator: "latency"}}}}},
		},
		bad: map[string][2]string{
			"99.9": {"composite-syntax", "weighted availability"}, "worst-of": {"composite-syntax", ""}, "99,9 weighted availability": {"composite-percent", `"99.9"`}, "100 weighted availability": {"composite-percent", ""},
			"worst-of 2*availability": {"composite-weight", `"availability"`}, "99 weighted -1*availability": {"composite-weight", "more than 0"}, "99 weighted 0.0*availability": {"composite-weight", ""}, "99 weighted 1e9*availability": {"composite-weight", ""},
			"99 weighted availability of a:b:c/d/e": {"composite-entity", "component:default/checkout"}, "99 weighted availability from checkout": {"composite-syntax", ""}, "99 weighted availability,": {"composite-syntax", ""},
			"99 weighted Availability": {"indicator-name", "lower-case"}, "99 weighted latency, 2*latency": {"composite-twice", "keep one"},
		},
	},
	"office-hours": {
		kind: "group",
		good: map[string]Settings{
			"Mon-Fri 08:00-18:00 Europe/Zurich": {OfficeHours: "Mon-Fri 08:00-18:00 Europe/Zurich"}, "mon,wed-sun 00:00-24:00": {OfficeHours: "mon,wed-sun 00:00-24:00"},
		},
		bad: map[string][2]string{
			"always": {"office-hours-syntax", "Mon-Fri"}, "Monday 08:00-18:00": {"office-hours-syntax", ""}, "Mon-Fri 8-18": {"office-hours-syntax", ""}, "Mon 18:00-08:00": {"office-hours-syntax", ""},
			"Mon 08:00-24:01": {"office-hours-syntax", ""}, "Mon 08:60-09:00": {"office-hours-syntax", ""}, "Mon- 08:00-09:00": {"office-hours-syntax", ""}, "Mon 08:00-09:00 Mars{}": {"office-hours-syntax", ""}, "Mon 08:00-09:00 Europe/Zurch": {"office-hours-syntax", ""}, "Mon 08:00-09:00 Local": {"office-hours-syntax", ""},
			"Mon 08:00-09:00 Europe / Zurich": {"office-hours-syntax", ""}, "Mon 0.:00-09:00": {"office-hours-syntax", ""},
		},
	},
}

func TestEveryAnnotationIsReadOrExplained(t *testing.T) {
	for _, a := range AnnotationTable() {
		t.Run(a.Key, func(t *testing.T) {
			v := values[a.Key]
			if len(v.good) == 0 || len(v.bad) == 0 {
				t.Fatal("the table of values has no good or no bad one")
			}
			kind, key := v.kind, v.key
			if kind == "" {
				kind = "component"
			}
			if key == "" {
				key = a.Key
			}
			for value, want := range v.good {
				got, problems := parseOne(kind, key, value)
				if d := cmp.Diff(want, got); d != "" || len(problems) > 0 {
					t.Errorf("%q: problems %+v, settings (-want +got):\n%s", value, problems, d)
				}
			}
			for value, want := range v.bad {
				got, problems := parseOne(kind, key, value)
				if d := cmp.Diff(Settings{}, got); d != "" {
					t.Errorf("%q is a Problem and is kept (-want +got):\n%s", value, d)
				}
				if len(problems) != 1 {
					t.Errorf("%q: problems %+v, want one", value, problems)
					continue
				}
				p := problems[0]
				if p.Rule != want[0] || !strings.Contains(p.Hint, want[1]) || p.Severity != SeverityError || p.Message == "" || p.Entity.Kind != kind ||
					p.Annotation != Prefix+key || p.File != "catalog-info.yaml" || p.Line != 6 || p.Column != 9 {
					t.Errorf("%q: got %+v, want rule and hint %q", value, p, want)
				}
			}
			wrong := "group"
			if a.On == onInherited {
				wrong = "user"
			} else if a.On == onOwner || a.On == onWhole {
				wrong = "component"
			}
			for value := range v.good {
				_, problems := parseOne(wrong, key, value)
				if len(problems) != 1 || problems[0].Rule != "annotation-kind" || problems[0].Hint == "" {
					t.Errorf("on a %s: got %+v, want a problem of the kind", wrong, problems)
				}
				break
			}
		})
	}
	if len(values) != len(AnnotationTable()) {
		t.Errorf("values for %d keys, the table has %d", len(values), len(AnnotationTable()))
	}
}

func TestAnExampleOfTheTableIsAGoodValue(t *testing.T) {
	for _, a := range AnnotationTable() {
		kind, key := "component", strings.NewReplacer("<indicator>", "latency", "<kind>", "slack", "<name>", "all").Replace(a.Key)
		if a.On == onOwner || a.On == onWhole {
			kind = "group"
		}
		examples := []string{a.Example}
		if strings.HasPrefix(a.Example, `"`) {
			examples = strings.Split(a.Example, ", ")
		}
		for _, example := range examples {
			if _, problems := parseOne(kind, key, strings.Trim(example, `"`)); len(problems) > 0 && strings.HasPrefix(example, `"`) {
				t.Errorf("%s: %s: %+v", a.Key, example, problems)
			} else if _, problems := parseOne(kind, key, example); len(problems) > 0 && !strings.HasPrefix(example, `"`) {
				t.Errorf("%s: %s: %+v", a.Key, example, problems)
			}
		}
	}
}

func TestReceiversAreCheckedByKind(t *testing.T) {
	good := map[string]string{"slack": "#team", "msteams": "team-pay", "pagerduty": "pagerduty-pay", "opsgenie": "opsgenie-pay", "email": "team@example.com", "webhook": "hook-pay"}
	for kind, value := range good {
		if s, problems := parseOne("group", "receiver."+kind, value); len(problems) > 0 || s.Receivers[kind] != value {
			t.Errorf("%s: %+v, problems %+v", kind, s.Receivers, problems)
		}
	}
	const key = "0123456789abcdef0123456789ABCDEF"
	for _, bad := range [][3]string{
		{"email", "team", "receiver-value"},
		{"email", "a@b@c", "receiver-value"},
		{"email", "a@b, c@d", "receiver-value"},
		{"email", "@b", "receiver-value"},
		{"pagerduty", key, "receiver-secret"},
		{"webhook", "https://h.example.com/?token=" + key, "receiver-secret"},
		{"slak", "#a", "receiver-kind"},
		{"", "#a", "receiver-kind"},
	} {
		_, problems := parseOne("group", "receiver."+bad[0], bad[1])
		if len(problems) != 1 || problems[0].Rule != bad[2] {
			t.Errorf("%v: got %+v", bad, problems)
		} else if strings.Contains(problems[0].Message+problems[0].Hint, key) {
			t.Errorf("%v: the problem holds the secret: %+v", bad, problems[0])
		}
	}
}

func TestAnUnknownKeyHasTheNearOneAsHint(t *testing.T) {
	for key, hint := range map[string]string{
		"objectiv.availability": "did you mean sightline.dev/objective.availability?", "Objective.availability": "did you mean sightline.dev/objective.availability?",
		"objectives.latency": "did you mean sightline.dev/objective.latency?", "teir": "did you mean sightline.dev/tier?", "windows": "did you mean sightline.dev/window?",
		"objective": "write sightline.dev/objective.<indicator>, such as sightline.dev/objective.availability", "receiver": "such as sightline.dev/receiver.slack",
		"slo-availability": "write sightline.dev/objective.availability", "sloref": "did you mean sightline.dev/slo-ref?", "slo_ref": "did you mean sightline.dev/slo-ref?",
		"tier.latency": "write sightline.dev/tier; it has no form for one indicator", "alert-channel": "listed by: sightline explain annotations", "": "listed by", ".": "listed by",
		strings.Repeat("x", 5000): "listed by", "runbok": "did you mean sightline.dev/runbook?",
	} {
		_, problems := parseOne("component", key, "99.9")
		if len(problems) != 1 || problems[0].Rule != "annotation-unknown" || !strings.Contains(problems[0].Hint, hint) {
			t.Errorf("%.40q: got %+v, want the hint %q", key, problems, hint)
		}
	}
}

func TestIndicatorNamesAreOneSpelling(t *testing.T) {
	s, problems := parseOne("component", "objective.pod-ready", "99")
	if _, ok := s.Objectives["pod_ready"]; !ok || len(problems) > 0 {
		t.Errorf("settings %+v, problems %+v", s, problems)
	}
	e := &Entity{Ref: NewRef("component", "", "a"), Annotations: map[string]string{Prefix + "objective.pod-ready": "98", Prefix + "objective.pod_ready": "99"}}
	s, problems = Parse(e)
	if s.Objectives["pod_ready"].Percent != "98" || len(problems) != 1 || problems[0].Rule != "indicator-twice" {
		t.Errorf("settings %+v, problems %+v, want the first and one problem", s, problems)
	}
	for _, name := range []string{"", "Latency", "1st", "-a", "a.b", "a b", strings.Repeat("a", 41)} {
		if _, problems := parseOne("component", "objective."+name, "99"); len(problems) != 1 || problems[0].Rule != "indicator-name" {
			t.Errorf("%q: got %+v", name, problems)
		}
	}
}

func TestOneBadValueLeavesTheOthers(t *testing.T) {
	e := &Entity{Ref: NewRef("component", "", "a"), Owner: NewRef("group", "", "pay"), Annotations: map[string]string{
		Prefix + "objective.availability": "99,9", Prefix + "tier": "1", Prefix + "nonsense": "x", "other.io/key": "x", Prefix + "slo-ref": "./slo.yaml", Prefix + "window": "calendar-month",
	}}
	s, problems := Parse(e)
	if d := cmp.Diff(Settings{Tier: "1", Window: "calendar-month"}, s); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	rules := map[string]string{}
	for _, p := range problems {
		rules[strings.TrimPrefix(p.Annotation, Prefix)] = p.Rule
		if p.Owner != e.Owner {
			t.Errorf("the problem %+v is not its owner's", p)
		}
	}
	want := map[string]string{"objective.availability": "objective-percent", "nonsense": "annotation-unknown", "slo-ref": RuleNotSupportedYet}
	if d := cmp.Diff(want, rules); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
}

func FuzzParseAnnotations(f *testing.F) {
	for key, v := range values {
		key = strings.NewReplacer("<indicator>", "latency", "<kind>", "email").Replace(key)
		for value := range v.good {
			f.Add("component", key, value)
		}
		for value := range v.bad {
			f.Add("group", key, value)
		}
	}
	f.Fuzz(func(t *testing.T, kind, key, value string) {
		s, problems := parseOne(kind, key, value)
		if len(problems) > 1 {
			t.Errorf("one annotation gives %d problems: %+v", len(problems), problems)
		}
		for _, p := range problems {
			if p.Rule == "" || p.Message == "" || p.Severity == "" {
				t.Errorf("a problem without rule, message or severity: %+v", p)
			}
		}
		if len(problems) == 0 && cmp.Equal(s, Settings{}) {
			t.Errorf("%q: %q is neither kept nor a problem", key, value)
		}
		for _, sel := range append(slices.Collect(maps.Values(s.Selectors)), s.Selector) {
			if again, err := parseSelector(sel); sel != "" && (err != nil || again != sel) {
				t.Errorf("the selector %s is read as %s, error %v", sel, again, err)
			}
		}
		for _, o := range s.Objectives {
			if !o.Off && (!isPercent(o.Percent) || o.Threshold != "" && (!isDecimal(o.Threshold) && len(o.Threshold) < 24)) {
				t.Errorf("objective %+v", o)
			}
		}
	})
}
