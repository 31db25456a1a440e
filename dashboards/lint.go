package dashboards

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// A Finding is one thing that is wrong with a board.
type Finding struct {
	Path    string `json:"path"`            // of the board
	Rule    string `json:"rule"`            // stable name; those of dashboard-linter where it has the rule too
	Panel   string `json:"panel,omitempty"` // title, or "#id" where there is none; "" for the board itself
	Message string `json:"message"`
}

// String gives "path: rule: panel: message".
func (f Finding) String() string {
	parts := []string{f.Path, f.Rule}
	if f.Panel != "" {
		parts = append(parts, strconv.Quote(f.Panel))
	}
	return strings.Join(append(parts, f.Message), ": ")
}

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Panel, b.Panel), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
}

// Lint checks boards one by one as LintJSON does, and what only shows in the whole: uids and titles that occur twice,
// and links to boards that are not there. Only Path and JSON of a board are read. Findings are sorted.
func Lint(boards []Board) []Finding {
	var findings []Finding
	uids, titles := map[string]string{}, map[string]string{}
	tagged := map[string]bool{}
	decoded := make([]*linter, 0, len(boards))
	for _, b := range boards {
		l := lintOne(b.Path, b.JSON)
		decoded = append(decoded, l)
		if slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Rule == "dashboard-json" }) {
			continue // nothing is known of it
		}
		if first, dup := uids[l.board.UID]; dup {
			l.report("dashboard-uid-unique", "", "the uid %q is also that of %s", l.board.UID, first)
		} else {
			uids[l.board.UID] = b.Path
		}
		key := path.Dir(b.Path) + "\x00" + strings.ToLower(l.board.Title)
		if first, dup := titles[key]; dup {
			l.report("dashboard-title-unique", "", "the title %q is also that of %s in the same folder", l.board.Title, first)
		} else {
			titles[key] = b.Path
		}
		for _, t := range l.board.Tags {
			tagged[t] = true
		}
	}
	for _, l := range decoded {
		l.links(uids, tagged)
		findings = append(findings, l.findings...)
	}
	slices.SortFunc(findings, compareFindings)
	return findings
}

// LintJSON checks one board in Grafana's classic model. Findings are sorted. It may be called concurrently.
func LintJSON(path string, body []byte) []Finding {
	l := lintOne(path, body)
	slices.SortFunc(l.findings, compareFindings)
	return l.findings
}

// The part of the classic model that the rules look at.
type lintBoard struct {
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Tags          []string `json:"tags"`
	Editable      *bool    `json:"editable"`
	SchemaVersion int      `json:"schemaVersion"`
	GraphTooltip  int      `json:"graphTooltip"`
	Templating    struct {
		List []lintVariable `json:"list"`
	} `json:"templating"`
	Links  []lintLink  `json:"links"`
	Panels []lintPanel `json:"panels"`
}

type lintLink struct {
	Title string   `json:"title"`
	Type  string   `json:"type"`
	Tags  []string `json:"tags"`
}

type lintVariable struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Query      json.RawMessage `json:"query"`
	Datasource *lintSource     `json:"datasource"`
	Refresh    int             `json:"refresh"`
	Current    *struct {
		Value json.RawMessage `json:"value"`
	} `json:"current"`
}

type lintSource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type lintPanel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Collapsed   bool        `json:"collapsed"`
	Datasource  *lintSource `json:"datasource"`
	GridPos     *struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		RefID      string      `json:"refId"`
		Expr       string      `json:"expr"`
		Instant    bool        `json:"instant"`
		Datasource *lintSource `json:"datasource"`
	} `json:"targets"`
	Options     map[string]any `json:"options"`
	FieldConfig struct {
		Defaults struct {
			Unit     string `json:"unit"`
			NoValue  string `json:"noValue"`
			Mappings []struct {
				Type    string          `json:"type"`
				Options json.RawMessage `json:"options"`
			} `json:"mappings"`
			Thresholds *struct {
				Mode  string `json:"mode"`
				Steps []struct {
					Value *float64 `json:"value"`
					Color string   `json:"color"`
				} `json:"steps"`
			} `json:"thresholds"`
			Color *struct {
				Mode string `json:"mode"`
			} `json:"color"`
		} `json:"defaults"`
		Overrides []struct {
			Properties []struct {
				ID    string `json:"id"`
				Value any    `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Panels []lintPanel `json:"panels"`
}

func (p *lintPanel) name() string {
	if p.Title != "" {
		return p.Title
	}
	return "#" + strconv.Itoa(p.ID)
}

// A linter checks one board.
type linter struct {
	path     string
	board    lintBoard
	whole    any // the board as decoded JSON, for rules that look everywhere
	findings []Finding
}

func (l *linter) report(rule, panel, format string, args ...any) {
	l.findings = append(l.findings, Finding{Path: l.path, Rule: rule, Panel: panel, Message: fmt.Sprintf(format, args...)})
}

func lintOne(path string, body []byte) *linter {
	l := &linter{path: path}
	if err := json.Unmarshal(body, &l.whole); err != nil {
		l.report("dashboard-json", "", "is not JSON: %v", err)
		return l
	}
	if err := json.Unmarshal(body, &l.board); err != nil {
		l.report("dashboard-json", "", "is not a dashboard in the classic model: %v", err)
		return l
	}
	l.dashboard()
	l.template()
	l.panels()
	return l
}

// maxVisiblePanels is how many panels a board may load at once; those in collapsed rows do not count.
const maxVisiblePanels = 20

var uidPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

func (l *linter) dashboard() {
	b := &l.board
	if b.Editable == nil || *b.Editable {
		l.report("uneditable-dashboard", "", "set editable to false: changes would be overwritten")
	}
	if b.Title == "" {
		l.report("dashboard-title", "", "the title is empty")
	}
	if !uidPattern.MatchString(b.UID) {
		l.report("dashboard-uid", "", "the uid %q is not 1 to 40 letters, digits, \"-\" or \"_\"", b.UID)
	}
	if b.SchemaVersion <= 0 {
		l.report("dashboard-schema", "", "schemaVersion is missing")
	}
	if b.GraphTooltip < 0 || b.GraphTooltip > 2 {
		l.report("dashboard-enum", "", "graphTooltip %d is not 0, 1 or 2", b.GraphTooltip)
	}
	for _, t := range b.Tags {
		if t == "" || len(t) > maxTag {
			l.report("dashboard-tag", "", "the tag %q is empty or longer than %d characters, which Grafana's database refuses", t, maxTag)
		}
	}
}

func (l *linter) template() {
	found := false
	names := map[string]bool{}
	for _, v := range l.board.Templating.List {
		if names[v.Name] {
			l.report("template-unique", "", "the variable %q is defined twice", v.Name)
		}
		names[v.Name] = true
		switch v.Type {
		case "datasource":
			found = found || v.Name == "datasource"
			if v.Current == nil || len(v.Current.Value) == 0 || string(v.Current.Value) == `""` || string(v.Current.Value) == "null" {
				l.report("template-current", "", "the data source variable %q has no current value: Grafana would take the alphabetically first data source", v.Name)
			}
		case "query":
			if v.Refresh != 2 {
				l.report("template-on-time-change-reload", "", "the variable %q is not refreshed when the time range changes", v.Name)
			}
			if v.Datasource == nil || v.Datasource.UID != "${datasource}" {
				l.report("template-datasource", "", "the variable %q does not use the data source variable", v.Name)
			}
			l.labelValues(v)
		}
	}
	if !found {
		l.report("template-datasource", "", "there is no data source variable with the name datasource")
	}
}

var labelValues = regexp.MustCompile(`^label_values\((?:(.+),)?\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*\)$`)

// labelValues checks that a query variable's selector parses. Other query functions are left alone.
func (l *linter) labelValues(v lintVariable) {
	var q string
	if err := json.Unmarshal(v.Query, &q); err != nil {
		var object struct{ Query string }
		if json.Unmarshal(v.Query, &object) == nil {
			q = object.Query
		}
	}
	if !strings.HasPrefix(q, "label_values(") {
		return
	}
	m := labelValues.FindStringSubmatch(q)
	if m == nil {
		l.report("template-label-promql", "", "the query of the variable %q is not label_values([selector,] label)", v.Name)
		return
	}
	if m[1] != "" {
		if _, err := parser.ParseMetricSelector(l.substitute(m[1])); err != nil {
			l.report("template-label-promql", "", "the selector of the variable %q does not parse: %v", v.Name, err)
		}
	}
}

// panels checks every panel, then ids and the grid of the board and of each collapsed row.
func (l *linter) panels() {
	ids := map[int]string{}
	visible := 0
	var top []*lintPanel
	for i := range l.board.Panels {
		p := &l.board.Panels[i]
		top = append(top, p)
		l.panel(p, ids)
		if p.Type != "row" {
			visible++
			continue
		}
		var inRow []*lintPanel
		for j := range p.Panels {
			l.panel(&p.Panels[j], ids)
			inRow = append(inRow, &p.Panels[j])
		}
		l.grid(inRow)
		if !p.Collapsed && len(p.Panels) > 0 {
			l.report("panel-grid", p.name(), "the row is open and holds panels: they belong beside it")
		}
	}
	l.grid(top)
	if visible > maxVisiblePanels {
		l.report("panel-count", "", "%d panels load at once, more than %d", visible, maxVisiblePanels)
	}
}

// grid finds panels outside of the grid, panels over each other, and holes between them.
func (l *linter) grid(panels []*lintPanel) {
	area, top, bottom := 0, -1, 0
	sound := true
	for i, p := range panels {
		g := p.GridPos
		if g == nil || g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > gridWidth {
			l.report("panel-grid", p.name(), "gridPos is missing or outside of the %d columns", gridWidth)
			sound = false
			continue
		}
		area += g.W * g.H
		bottom = max(bottom, g.Y+g.H)
		if top < 0 || g.Y < top {
			top = g.Y
		}
		for _, o := range panels[:i] {
			h := o.GridPos
			if h != nil && g.X < h.X+h.W && h.X < g.X+g.W && g.Y < h.Y+h.H && h.Y < g.Y+g.H {
				l.report("panel-grid", p.name(), "overlaps %q", o.name())
				sound = false
				break
			}
		}
	}
	if sound && len(panels) > 0 && area != gridWidth*(bottom-top) {
		l.report("panel-grid", "", "there is a gap between y %d and %d: %d of %d cells are covered", top, bottom, area, gridWidth*(bottom-top))
	}
}

func (l *linter) panel(p *lintPanel, ids map[int]string) {
	if other, dup := ids[p.ID]; p.ID <= 0 {
		l.report("panel-id", p.name(), "has no id")
	} else if dup {
		l.report("panel-id", p.name(), "has the id %d of %q", p.ID, other)
	} else {
		ids[p.ID] = p.name()
	}
	if !knownPanel(p.Type) {
		l.report("panel-type", p.name(), "the panel type %q is not one of Grafana's own", p.Type)
		return
	}
	if p.Title == "" {
		l.report("panel-title-description", p.name(), "has no title")
	}
	if p.Type == "row" {
		return
	}
	if p.Description == "" {
		l.report("panel-title-description", p.name(), "has no description")
	}
	l.enums(p)
	if !queriesData(p.Type) {
		return
	}
	l.units(p)
	if p.Datasource == nil || p.Datasource.UID != "${datasource}" || p.Datasource.Type != "prometheus" {
		l.report("panel-datasource", p.name(), "does not use the data source variable")
	}
	if p.Type == "stat" || p.Type == "gauge" {
		l.noValue(p)
	}
	if len(p.Targets) == 0 {
		l.report("panel-no-targets", p.name(), "has no query")
	}
	refs := map[string]bool{}
	for _, t := range p.Targets {
		if t.RefID == "" || refs[t.RefID] {
			l.report("target-ref-id", p.name(), "the refId %q is empty or used twice", t.RefID)
		}
		refs[t.RefID] = true
		if t.Datasource == nil || t.Datasource.UID != "${datasource}" || t.Datasource.Type != "prometheus" {
			l.report("panel-datasource", p.name(), "target %s does not use the data source variable", t.RefID)
		}
		l.target(p, t.RefID, t.Expr, t.Instant)
	}
}

func knownPanel(t string) bool {
	switch t {
	case "row", "text", "dashlist", "alertlist", "annolist", "news":
		return true
	}
	return queriesData(t)
}

func queriesData(t string) bool {
	switch t {
	case "stat", "gauge", "bargauge", "timeseries", "table", "barchart", "piechart", "histogram", "heatmap",
		"state-timeline", "status-history", "logs", "traces", "nodeGraph", "geomap", "candlestick", "trend", "xychart", "canvas":
		return true
	}
	return false
}

func (l *linter) units(p *lintPanel) {
	if u := p.FieldConfig.Defaults.Unit; !knownUnit(u) {
		l.report("panel-units", p.name(), "the unit %q is not one of Grafana's", u)
	}
	for _, o := range p.FieldConfig.Overrides {
		for _, prop := range o.Properties {
			if u, ok := prop.Value.(string); prop.ID == "unit" && (!ok || !knownUnit(u)) {
				l.report("panel-units", p.name(), "the unit %q of an override is not one of Grafana's", fmt.Sprint(prop.Value))
			}
		}
	}
}

// noValue wants a text and a colour of its own for a missing value: without, it has the lowest threshold's colour.
func (l *linter) noValue(p *lintPanel) {
	d := &p.FieldConfig.Defaults
	for _, m := range d.Mappings {
		var o struct {
			Match  string
			Result struct{ Text, Color string }
		}
		if m.Type != "special" || json.Unmarshal(m.Options, &o) != nil || (o.Match != "null" && o.Match != "null+nan") {
			continue
		}
		alarming := d.Thresholds != nil && slices.ContainsFunc(d.Thresholds.Steps, func(s struct {
			Value *float64 `json:"value"`
			Color string   `json:"color"`
		},
		) bool {
			return len(d.Thresholds.Steps) > 1 && s.Color == o.Result.Color
		})
		if o.Result.Text != "" && o.Result.Color != "" && !alarming && d.NoValue != "" {
			return
		}
	}
	l.report("panel-no-value", p.name(), "a missing value has no text and neutral colour of its own (noValue and a mapping of null)")
}

// enums checks the option values that neither the SDK nor Grafana's server checks.
func (l *linter) enums(p *lintPanel) {
	check := func(where string, value any, allowed ...string) {
		if s, ok := value.(string); value != nil && (!ok || !slices.Contains(allowed, s)) {
			l.report("panel-enum", p.name(), "%s %q is not one of %s", where, fmt.Sprint(value), strings.Join(allowed, ", "))
		}
	}
	if legend, ok := p.Options["legend"].(map[string]any); ok {
		check("legend.displayMode", legend["displayMode"], "list", "table", "hidden")
		check("legend.placement", legend["placement"], "bottom", "right")
	}
	if tooltip, ok := p.Options["tooltip"].(map[string]any); ok {
		check("tooltip.mode", tooltip["mode"], "single", "multi", "none")
		check("tooltip.sort", tooltip["sort"], "none", "asc", "desc")
	}
	if p.Type == "timeseries" && (p.Options["legend"] == nil || p.Options["tooltip"] == nil) {
		l.report("panel-enum", p.name(), "legend and tooltip are not set")
	}
	check("graphMode", p.Options["graphMode"], "none", "line", "area")
	check("colorMode", p.Options["colorMode"], "value", "background", "background_solid", "none")
	check("textMode", p.Options["textMode"], "auto", "value", "value_and_name", "name", "none")
	check("justifyMode", p.Options["justifyMode"], "auto", "center")
	d := &p.FieldConfig.Defaults
	if t := d.Thresholds; t != nil {
		check("thresholds.mode", t.Mode, "absolute", "percentage")
		for i, s := range t.Steps {
			if s.Color == "" || (i == 0) != (s.Value == nil) || i > 1 && *s.Value <= *t.Steps[i-1].Value {
				l.report("panel-thresholds", p.name(), "threshold %d has no colour, or the steps do not rise from one without a value", i)
				break
			}
		}
	}
	if d.Color != nil {
		check("color.mode", d.Color.Mode, "thresholds", "palette-classic", "palette-classic-by-name", "continuous-GrYlRd", "continuous-RdYlGr",
			"continuous-BlYlRd", "continuous-YlRd", "continuous-BlPu", "continuous-YlBl", "continuous-blues", "continuous-reds",
			"continuous-greens", "continuous-purples", "fixed", "shades")
	}
}

// The stand-ins of Grafana's variables. The rate interval and the range are told apart by lengths nobody writes.
const (
	standInRateInterval = 77777 * time.Second
	standInRange        = 88888 * time.Second
)

var grafanaVariable = regexp.MustCompile(`\$\{(\w+)(?:\.[^}:]*)?(?::[^}]*)?\}|\$(\w+)|\[\[(\w+)\]\]`)

// substitute puts in Grafana's built-in variables and the board's own, and leaves everything else that looks like one.
func (l *linter) substitute(expr string) string {
	return grafanaVariable.ReplaceAllStringFunc(expr, func(match string) string {
		m := grafanaVariable.FindStringSubmatch(match)
		switch name := m[1] + m[2] + m[3]; name {
		case "__rate_interval":
			return seconds(standInRateInterval)
		case "__range":
			return seconds(standInRange)
		case "__interval":
			return "60s"
		case "__interval_ms", "__range_ms", "__range_s", "__rate_interval_ms":
			return "60"
		default:
			if slices.ContainsFunc(l.board.Templating.List, func(v lintVariable) bool { return v.Name == name }) {
				return "x"
			}
			return match
		}
	})
}

func (l *linter) target(p *lintPanel, ref, expr string, instant bool) {
	tree, err := parser.ParseExpr(l.substitute(expr))
	if err != nil {
		l.report("target-promql", p.name(), "target %s does not parse: %v", ref, err)
		return
	}
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.Call:
			if !rates(n.Func.Name) || len(n.Args) != 1 {
				break
			}
			var over time.Duration
			switch arg := n.Args[0].(type) {
			case *parser.MatrixSelector:
				over = arg.Range
			case *parser.SubqueryExpr:
				over = arg.Range
			}
			if over != standInRateInterval && !(instant && over == standInRange) {
				l.report("target-rate-interval", p.name(), "target %s: %s is over %s, not $__rate_interval (nor $__range, which an instant query may use)", ref, n.Func.Name, over)
			}
		case *parser.VectorSelector:
			if strings.HasSuffix(n.Name, "_total") && !slices.ContainsFunc(path, countsCounter) {
				l.report("target-counter-agg", p.name(), "target %s: the counter %s is not under rate, irate or increase", ref, n.Name)
			}
		}
		return nil
	})
}

// seconds writes a duration for PromQL.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) + "s" }

func rates(function string) bool {
	return function == "rate" || function == "irate" || function == "increase"
}

// countsCounter tells whether a counter may stand under the node.
func countsCounter(n parser.Node) bool {
	switch n := n.(type) {
	case *parser.Call:
		return rates(n.Func.Name) || n.Func.Name == "absent" || n.Func.Name == "absent_over_time"
	case *parser.AggregateExpr:
		return n.Op == parser.COUNT || n.Op == parser.GROUP
	}
	return false
}

var boardURL = regexp.MustCompile(`^/d/([^/?]*)`)

// links checks that every board and tag that the board links to is there.
func (l *linter) links(uids map[string]string, tagged map[string]bool) {
	for _, url := range collect(l.whole, "url", nil) {
		if m := boardURL.FindStringSubmatch(url); m != nil && uids[m[1]] == "" {
			l.report("link-target", "", "links to the board %q, which does not exist", m[1])
		}
	}
	for _, link := range l.board.Links {
		if link.Type != "dashboards" {
			continue
		}
		for _, t := range link.Tags {
			if !tagged[t] {
				l.report("link-target", "", "the link %q lists boards with the tag %q, and there is none", link.Title, t)
			}
		}
	}
}

// collect gives the strings that stand under a key anywhere in decoded JSON; the order does not matter to the caller.
func collect(v any, key string, out []string) []string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = collect(e, key, out)
		}
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && k == key {
				out = append(out, s)
			}
			out = collect(e, key, out)
		}
	}
	return out
}
