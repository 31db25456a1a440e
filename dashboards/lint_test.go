package dashboards

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// object is decoded JSON, to break one thing of a board in.
type object = map[string]any

// firstOf is the first open panel of a type.
func firstOf(t *testing.T, board object, kind string) object {
	t.Helper()
	for _, p := range board["panels"].([]any) {
		if p := p.(object); p["type"] == kind {
			return p
		}
	}
	t.Fatalf("the board has no panel of type %s", kind)
	return nil
}

func in(o object, keys ...string) object {
	for _, k := range keys {
		o = o[k].(object)
	}
	return o
}

func item(o object, key string, i int) object { return o[key].([]any)[i].(object) }

func TestEveryRuleFindsWhatItIsThereFor(t *testing.T) {
	const (
		owner     = "dashboards/owner.json"
		checkout  = "dashboards/components/component.default.checkout.json"
		mail      = "dashboards/components/component.default.mail.json" // no board links to it
		shopBoard = "dashboards/systems/default.shop.json"
	)
	variable := func(b object, i int) object { return item(in(b, "templating"), "list", i) }
	expr := func(kind, expr string) func(*testing.T, object) {
		return func(t *testing.T, b object) { item(firstOf(t, b, kind), "targets", 0)["expr"] = expr }
	}
	defaults := func(t *testing.T, b object, kind string) object {
		return in(firstOf(t, b, kind), "fieldConfig", "defaults")
	}
	cases := []struct {
		name, path, rule string
		change           func(t *testing.T, b object)
	}{
		{"a list where an object belongs is no board", mail, "dashboard-json", func(_ *testing.T, b object) { b["templating"] = []any{} }},
		{"an editable board is refused", owner, "uneditable-dashboard", func(_ *testing.T, b object) { b["editable"] = true }},
		{"a board that does not say whether it is editable is refused", owner, "uneditable-dashboard", func(_ *testing.T, b object) { delete(b, "editable") }},
		{"a board has a title", owner, "dashboard-title", func(_ *testing.T, b object) { b["title"] = "" }},
		{"a uid is at most 40 characters", mail, "dashboard-uid", func(_ *testing.T, b object) { b["uid"] = "sl-component-4567890123456789012345678901x" }},
		{"a uid has no spaces", mail, "dashboard-uid", func(_ *testing.T, b object) { b["uid"] = "my board" }},
		{"two boards do not share a uid", mail, "dashboard-uid-unique", func(_ *testing.T, b object) { b["uid"] = ComponentUID(ref("ledger")) }},
		{"two boards of a folder do not share a title, upper case or not", mail, "dashboard-title-unique", func(_ *testing.T, b object) { b["title"] = "Component:default/ledger" }},
		{"a board says the version of its schema", owner, "dashboard-schema", func(_ *testing.T, b object) { delete(b, "schemaVersion") }},
		{"the shared crosshair is 0, 1 or 2", owner, "dashboard-enum", func(_ *testing.T, b object) { b["graphTooltip"] = 3 }},
		{"a tag fits into Grafana's database", owner, "dashboard-tag", func(_ *testing.T, b object) {
			b["tags"] = append(b["tags"].([]any), "owner:group:default/the-team-with-the-long-name-of-all")
		}},
		{"a tag is not empty", owner, "dashboard-tag", func(_ *testing.T, b object) { b["tags"] = append(b["tags"].([]any), "") }},
		{"a board has a data source variable", shopBoard, "template-datasource", func(_ *testing.T, b object) { variable(b, 0)["name"] = "ds" }},
		{"a query variable asks the chosen data source", owner, "template-datasource", func(_ *testing.T, b object) { in(variable(b, 1), "datasource")["uid"] = "abc" }},
		{"a data source variable has a current value", owner, "template-current", func(_ *testing.T, b object) { delete(variable(b, 0), "current") }},
		{"the current value of a data source variable is not empty", owner, "template-current", func(_ *testing.T, b object) { in(variable(b, 0), "current")["value"] = "" }},
		{"a query variable follows the time range", owner, "template-on-time-change-reload", func(_ *testing.T, b object) { variable(b, 1)["refresh"] = 1 }},
		{"label_values ends with a label", owner, "template-label-promql", func(_ *testing.T, b object) { variable(b, 1)["query"] = "label_values(a, b, )" }},
		{"the selector of label_values parses", owner, "template-label-promql", func(_ *testing.T, b object) {
			variable(b, 1)["query"] = object{"query": `label_values(up{job=}, owner)`}
		}},
		{"a variable is defined once", shopBoard, "template-unique", func(_ *testing.T, b object) {
			list := in(b, "templating")["list"].([]any)
			in(b, "templating")["list"] = append(list, list[0])
		}},
		{"a panel has an id", owner, "panel-id", func(t *testing.T, b object) { delete(firstOf(t, b, "stat"), "id") }},
		{"a panel's id is its own", owner, "panel-id", func(t *testing.T, b object) { firstOf(t, b, "stat")["id"] = firstOf(t, b, "table")["id"] }},
		{"a panel in a closed row has an id of its own too", checkout, "panel-id", func(t *testing.T, b object) { closedPanel(t, b)["id"] = firstOf(t, b, "stat")["id"] }},
		{"a panel is of one of Grafana's types", owner, "panel-type", func(t *testing.T, b object) { firstOf(t, b, "stat")["type"] = "status" }},
		{"a panel has a title", owner, "panel-title-description", func(t *testing.T, b object) { firstOf(t, b, "stat")["title"] = "" }},
		{"a panel has a description", owner, "panel-title-description", func(t *testing.T, b object) { delete(firstOf(t, b, "table"), "description") }},
		{"a row has a title", owner, "panel-title-description", func(t *testing.T, b object) { firstOf(t, b, "row")["title"] = "" }},
		{"a panel uses the data source variable", owner, "panel-datasource", func(t *testing.T, b object) { in(firstOf(t, b, "stat"), "datasource")["uid"] = "prometheus" }},
		{"a target uses the data source variable", owner, "panel-datasource", func(t *testing.T, b object) { delete(item(firstOf(t, b, "stat"), "targets", 0), "datasource") }},
		{"a panel of data has a query", owner, "panel-no-targets", func(t *testing.T, b object) { firstOf(t, b, "timeseries")["targets"] = []any{} }},
		{"a unit is one that Grafana knows", owner, "panel-units", func(t *testing.T, b object) { defaults(t, b, "stat")["unit"] = "percentage" }},
		{"a panel has a unit", owner, "panel-units", func(t *testing.T, b object) { delete(defaults(t, b, "timeseries"), "unit") }},
		{"the unit of a table's column is one that Grafana knows", owner, "panel-units", func(t *testing.T, b object) {
			for _, o := range in(firstOf(t, b, "table"), "fieldConfig")["overrides"].([]any) {
				for _, p := range o.(object)["properties"].([]any) {
					if p := p.(object); p["id"] == "unit" {
						p["value"] = "ratio"
						return
					}
				}
			}
			t.Fatal("the table has no column with a unit")
		}},
		{"a stat says in words that there is no data", owner, "panel-no-value", func(t *testing.T, b object) { delete(defaults(t, b, "stat"), "noValue") }},
		{"a stat maps a missing value", owner, "panel-no-value", func(t *testing.T, b object) { delete(defaults(t, b, "stat"), "mappings") }},
		{"a missing value does not have the colour of a good one", owner, "panel-no-value", func(t *testing.T, b object) {
			for _, p := range b["panels"].([]any) {
				if p := p.(object); p["title"] == "Lowest budget remaining" {
					in(item(in(p, "fieldConfig", "defaults"), "mappings", 0), "options", "result")["color"] = green
				}
			}
		}},
		{"the mode of a legend is one that Grafana knows", owner, "panel-enum", func(t *testing.T, b object) {
			in(firstOf(t, b, "timeseries"), "options", "legend")["displayMode"] = "zzz"
		}},
		{"the mode of a tooltip is one that Grafana knows", owner, "panel-enum", func(t *testing.T, b object) {
			in(firstOf(t, b, "timeseries"), "options", "tooltip")["mode"] = "all"
		}},
		{"a graph sets its legend", owner, "panel-enum", func(t *testing.T, b object) { delete(in(firstOf(t, b, "timeseries"), "options"), "legend") }},
		{"the text mode of a stat is one that Grafana knows", owner, "panel-enum", func(t *testing.T, b object) { in(firstOf(t, b, "stat"), "options")["textMode"] = "all" }},
		{"the mode of thresholds is one that Grafana knows", owner, "panel-enum", func(t *testing.T, b object) { in(defaults(t, b, "stat"), "thresholds")["mode"] = "relative" }},
		{"the mode of colours is one that Grafana knows", owner, "panel-enum", func(t *testing.T, b object) { in(defaults(t, b, "stat"), "color")["mode"] = "rainbow" }},
		{"the first threshold has no value", owner, "panel-thresholds", func(t *testing.T, b object) {
			item(in(defaults(t, b, "stat"), "thresholds"), "steps", 0)["value"] = 1
		}},
		{"thresholds rise", checkout, "panel-thresholds", func(t *testing.T, b object) {
			item(in(defaults(t, b, "stat"), "thresholds"), "steps", 2)["value"] = -1
		}},
		{"a panel lies in the grid", owner, "panel-grid", func(t *testing.T, b object) { in(firstOf(t, b, "table"), "gridPos")["w"] = 25 }},
		{"a panel has a place", owner, "panel-grid", func(t *testing.T, b object) { delete(firstOf(t, b, "table"), "gridPos") }},
		{"there is no hole between panels", owner, "panel-grid", func(t *testing.T, b object) { in(firstOf(t, b, "table"), "gridPos")["w"] = 12 }},
		{"an open row holds no panels", checkout, "panel-grid", func(t *testing.T, b object) { closedRow(t, b)["collapsed"] = false }},
		{"a target has a refId", owner, "target-ref-id", func(t *testing.T, b object) { delete(item(firstOf(t, b, "stat"), "targets", 0), "refId") }},
		{"a refId stands once", owner, "target-ref-id", func(t *testing.T, b object) { item(firstOf(t, b, "table"), "targets", 1)["refId"] = "A" }},
		{"a query parses", owner, "target-promql", expr("stat", "sum(rate(x[5m])")},
		{"a variable that the board does not have does not parse", owner, "target-promql", expr("stat", `sum($nowhere)`)},
		{"a rate is over the rate interval", owner, "target-rate-interval", expr("timeseries", `sum(rate(x_total[5m]))`)},
		{"a graph's rate is not over the range", owner, "target-rate-interval", expr("timeseries", `sum(increase(x_total[$__range]))`)},
		{"a rate of a subquery is over the rate interval", owner, "target-rate-interval", expr("timeseries", `rate(sum(x)[5m:1m])`)},
		{"a counter stands under a rate", owner, "target-counter-agg", expr("stat", `sum(http_requests_total)`)},
		{"a link goes to a board that exists", shopBoard, "link-target", func(_ *testing.T, b object) { item(b, "links", 0)["url"] = "/d/sl-nowhere" }},
		{"a link on a value goes to a board that exists", shopBoard, "link-target", func(t *testing.T, b object) {
			for _, p := range b["panels"].([]any) {
				if links, ok := p.(object)["fieldConfig"]; ok && in(links.(object), "defaults")["links"] != nil {
					item(in(links.(object), "defaults"), "links", 0)["url"] = "/d/sl-nowhere?x=y"
					return
				}
			}
			t.Fatal("no panel has a link on its value")
		}},
		{"a list of boards by tag is not empty", owner, "link-target", func(_ *testing.T, b object) { item(b, "links", 1)["tags"] = []any{"shop"} }},
		{"no more panels load at once than a browser bears", owner, "panel-count", func(t *testing.T, b object) {
			panels := b["panels"].([]any)
			last := panels[len(panels)-1].(object)
			y := in(last, "gridPos")["y"].(float64) + in(last, "gridPos")["h"].(float64)
			for i := range maxVisiblePanels {
				more := decode(t, encode(t, last))
				more["id"] = 1000 + i
				in(more, "gridPos")["y"] = y + float64(i)*in(last, "gridPos")["h"].(float64)
				panels = append(panels, more)
			}
			b["panels"] = panels
		}},
		{"panels do not lie over each other", owner, "panel-grid", func(t *testing.T, b object) {
			in(firstOf(t, b, "table"), "gridPos")["y"] = in(firstOf(t, b, "stat"), "gridPos")["y"]
		}},
		{"panels of a closed row do not lie over each other", checkout, "panel-grid", func(t *testing.T, b object) { in(closedPanel(t, b), "gridPos")["h"] = 8 }},
	}
	valid := build(t, Options{})
	tested := map[string]bool{}
	for _, c := range cases {
		tested[c.rule] = true
		t.Run(c.name, func(t *testing.T) {
			boards := slices.Clone(valid)
			i := slices.IndexFunc(boards, func(b Board) bool { return b.Path == c.path })
			b := decode(t, boards[i].JSON)
			c.change(t, b)
			boards[i].JSON = encode(t, b)
			got := Lint(boards)
			if len(got) != 1 || got[0].Rule != c.rule || got[0].Path != c.path || got[0].Message == "" {
				t.Errorf("findings %v, want one of %s in %s", got, c.rule, c.path)
			}
		})
	}
	source, err := os.ReadFile("lint.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, m := range regexp.MustCompile(`l\.report\("([a-z-]+)"`).FindAllSubmatch(source, -1) {
		rules[string(m[1])] = true
	}
	if diff := cmp.Diff(rules, tested); diff != "" || len(rules) < 25 {
		t.Errorf("rules of lint.go and rules with a test (-want +got):\n%s", diff)
	}
}

func TestWhatIsNotJSONIsOneFindingEach(t *testing.T) {
	got := Lint([]Board{{Path: "a.json", JSON: []byte("{")}, {Path: "b.json", JSON: []byte("panels: []")}})
	if len(got) != 2 || got[0].Rule != "dashboard-json" || got[1].Rule != "dashboard-json" {
		t.Errorf("findings %v, want one of dashboard-json for each file", got)
	}
}

func TestRulesLeaveAloneWhatIsRight(t *testing.T) {
	for name, expr := range map[string]string{
		"a rate over the rate interval":           "sum(rate(http_requests_total[$__rate_interval]))",
		"an instant increase over the range":      "sum(increase(http_requests_total[$__range]))",
		"a count of counters":                     "count(http_requests_total)",
		"a counter that is asked whether it's on": "absent(http_requests_total)",
		"a variable of the board":                 `sum(up{owner="$owner"}) + sum(up{owner=~"${owner:regex}"})`,
		"an average over a fixed time":            "avg_over_time(up[5m])",
	} {
		boards := build(t, Options{})
		i := slices.IndexFunc(boards, func(b Board) bool { return b.Path == "dashboards/owner.json" })
		b := decode(t, boards[i].JSON)
		item(firstOf(t, b, "stat"), "targets", 0)["expr"] = expr
		boards[i].JSON = encode(t, b)
		for _, f := range Lint(boards) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func closedRow(t *testing.T, board object) object {
	t.Helper()
	for _, p := range board["panels"].([]any) {
		if p := p.(object); p["type"] == "row" && p["collapsed"] == true {
			return p
		}
	}
	t.Fatal("the board has no closed row")
	return nil
}

func closedPanel(t *testing.T, board object) object { return item(closedRow(t, board), "panels", 0) }

func decode(t *testing.T, body []byte) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func encode(t *testing.T, o object) []byte {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
