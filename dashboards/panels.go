package dashboards

import (
	"strconv"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// Colours. Neutral reads on light and dark and means "nothing known".
const (
	red     = "red"
	orange  = "orange"
	green   = "green"
	neutral = "#8e8e8e"
)

// gridWidth is the width of Grafana's grid; at 1440 pixels a column is about 57 pixels wide, a unit of height 38.
const gridWidth = 24

// A layout places panels from top to bottom without gaps and numbers them, so ids and positions are stable.
type layout struct {
	y         uint32
	lastID    uint32
	panels    []any               // *dashboard.Panel and *dashboard.RowPanel
	collapsed *dashboard.RowPanel // the open collapsed row; its panels are its own
}

// A cell is a part of a line: panels of one width, stacked with equal heights.
type cell struct {
	w      uint32
	panels []*dashboard.Panel
}

func at(w uint32, panels ...*dashboard.Panel) cell { return cell{w, panels} }

// row starts a new row. Grafana runs the queries of a collapsed row only once it is opened.
func (l *layout) row(title string, collapsed bool) {
	if l.collapsed != nil {
		l.y = l.collapsed.GridPos.Y + 1
		l.collapsed = nil
	}
	l.lastID++
	r := &dashboard.RowPanel{
		Type: "row", Title: &title, Collapsed: collapsed, Id: l.lastID,
		GridPos: &dashboard.GridPos{H: 1, W: gridWidth, Y: l.y}, Panels: []dashboard.Panel{},
	}
	l.y++
	l.panels = append(l.panels, r)
	if collapsed {
		l.collapsed = r
	}
}

// line places cells side by side, all h high. The widths must add up to gridWidth.
func (l *layout) line(h uint32, cells ...cell) {
	var x uint32
	for _, c := range cells {
		each := h / uint32(len(c.panels))
		for i, p := range c.panels {
			l.lastID++
			p.Id = cog.ToPtr(l.lastID)
			p.GridPos = &dashboard.GridPos{H: each, W: c.w, X: x, Y: l.y + uint32(i)*each}
			if l.collapsed != nil {
				l.collapsed.Panels = append(l.collapsed.Panels, *p)
			} else {
				l.panels = append(l.panels, p)
			}
		}
		x += c.w
	}
	l.y += h
}

// A query is one target of a panel.
type query struct{ expr, legend string }

func datasource() *common.DataSourceRef {
	return &common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// refID numbers targets A to Z, then AA, AB, and so on.
func refID(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return refID(i/26-1) + refID(i%26)
}

// targets makes range queries, or instant ones (as a table) for tables.
func targets(queries []query, instant, asTable bool) []variants.Dataquery {
	out := make([]variants.Dataquery, 0, len(queries))
	for i, q := range queries {
		t := prometheus.Dataquery{
			Datasource: datasource(), Expr: q.expr, RefId: cog.ToPtr(refID(i)),
			EditorMode: cog.ToPtr(prometheus.QueryEditorModeCode), Instant: &instant, Range: cog.ToPtr(!instant),
		}
		if q.legend != "" {
			t.LegendFormat = cog.ToPtr(q.legend)
		}
		if asTable {
			t.Format = cog.ToPtr(prometheus.PromQueryFormatTable)
		}
		out = append(out, t)
	}
	return out
}

// steps makes thresholds: colours[0] below values[0], then colours[i+1] from values[i] on.
func steps(first string, rest ...any) *dashboard.ThresholdsConfig {
	t := &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: []dashboard.Threshold{{Color: first}}}
	for i := 0; i+1 < len(rest); i += 2 {
		t.Steps = append(t.Steps, dashboard.Threshold{Value: cog.ToPtr(rest[i].(float64)), Color: rest[i+1].(string)})
	}
	return t
}

func budgetSteps() *dashboard.ThresholdsConfig { return steps(red, 0.0, orange, 0.25, green) }

// burnSteps: at 1 the budget lasts exactly its window; at 6 and more it pages.
func burnSteps() *dashboard.ThresholdsConfig  { return steps(green, 1.0, orange, 6.0, red) }
func countSteps() *dashboard.ThresholdsConfig { return steps(green, 1.0, red) }
func plainSteps() *dashboard.ThresholdsConfig { return steps(neutral) }

// ratioSteps suit success ratios of pipelines.
func ratioSteps() *dashboard.ThresholdsConfig { return steps(red, 0.8, orange, 0.95, green) }

// A statistic describes a stat panel of one instant query.
type statistic struct {
	title, description, expr, unit string
	thresholds                     *dashboard.ThresholdsConfig
	noValue                        string // text where there is no value; "No data" by default
	decimals                       *float64
	link                           *dashboard.DashboardLink
	timeFrom                       string // fixed length of the shown time, as in "30d"; "" for the board's
}

func (s statistic) panel() *dashboard.Panel {
	if s.noValue == "" {
		s.noValue = "No data"
	}
	fields := dashboard.FieldConfig{
		Unit: &s.unit, Decimals: s.decimals, Thresholds: s.thresholds, NoValue: &s.noValue,
		Color: &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdThresholds},
		// Without this mapping a missing value has the colour of the lowest threshold, often green.
		Mappings: []dashboard.ValueMapping{{SpecialValueMap: &dashboard.SpecialValueMap{
			Type: dashboard.MappingTypeSpecialValue,
			Options: dashboard.DashboardSpecialValueMapOptions{
				Match:  dashboard.SpecialValueMatchNullAndNan,
				Result: dashboard.ValueMappingResult{Text: &s.noValue, Color: cog.ToPtr(neutral), Index: cog.ToPtr(int32(0))},
			},
		}}},
	}
	if s.link != nil {
		fields.Links = []dashboard.DashboardLink{*s.link}
	}
	p := &dashboard.Panel{
		Type: "stat", Title: &s.title, Description: &s.description, Datasource: datasource(),
		Targets: targets([]query{{expr: s.expr}}, true, false),
		Options: stat.Options{
			GraphMode: common.BigValueGraphModeNone, ColorMode: common.BigValueColorModeValue,
			JustifyMode: common.BigValueJustifyModeAuto, TextMode: common.BigValueTextModeValue, WideLayout: true,
			ReduceOptions:          common.ReduceDataOptions{Calcs: []string{"lastNotNull"}},
			PercentChangeColorMode: common.PercentChangeColorModeStandard, Orientation: common.VizOrientationAuto,
		},
		FieldConfig: &dashboard.FieldConfigSource{Defaults: fields, Overrides: []dashboard.DashboardFieldConfigSourceOverrides{}},
	}
	if s.timeFrom != "" {
		p.TimeFrom = &s.timeFrom
	}
	return p
}

// A graph describes a time series panel.
type graph struct {
	title, description, unit string
	queries                  []query
	thresholds               *dashboard.ThresholdsConfig // drawn as dashed lines; nil for none
	min, max                 *float64
	bars                     bool   // stacked bars, for counts
	interval                 string // smallest step, for rare events; "" for Grafana's own
	timeFrom                 string // fixed length of the shown time, as in "30d"; "" for the board's
	noValue                  string // text where there is no value; "No data" by default
}

func (g graph) panel() *dashboard.Panel {
	custom := common.GraphFieldConfig{
		DrawStyle: cog.ToPtr(common.GraphDrawStyleLine), LineWidth: cog.ToPtr(1.0), FillOpacity: cog.ToPtr(8.0),
		ShowPoints: cog.ToPtr(common.VisibilityModeAuto), PointSize: cog.ToPtr(4.0), SpanNulls: &common.BoolOrFloat64{Bool: cog.ToPtr(false)},
		Stacking:        &common.StackingConfig{Mode: cog.ToPtr(common.StackingModeNone), Group: cog.ToPtr("A")},
		ThresholdsStyle: &common.GraphThresholdsStyleConfig{Mode: common.GraphThresholdsStyleModeOff},
	}
	if g.bars {
		custom.DrawStyle, custom.FillOpacity = cog.ToPtr(common.GraphDrawStyleBars), cog.ToPtr(70.0)
		custom.ShowPoints = cog.ToPtr(common.VisibilityModeNever)
		custom.Stacking.Mode = cog.ToPtr(common.StackingModeNormal)
	}
	if g.noValue == "" {
		g.noValue = "No data"
	}
	thresholds := g.thresholds
	if thresholds != nil {
		custom.ThresholdsStyle.Mode = common.GraphThresholdsStyleModeDashed
	} else {
		thresholds = plainSteps()
	}
	p := &dashboard.Panel{
		Type: "timeseries", Title: &g.title, Description: &g.description, Datasource: datasource(),
		Targets: targets(g.queries, false, false),
		Options: timeseries.Options{
			Legend:  common.VizLegendOptions{DisplayMode: common.LegendDisplayModeList, Placement: common.LegendPlacementBottom, ShowLegend: true, Calcs: []string{}},
			Tooltip: common.VizTooltipOptions{Mode: common.TooltipDisplayModeMulti, Sort: common.SortOrderDescending},
		},
		FieldConfig: &dashboard.FieldConfigSource{
			Defaults: dashboard.FieldConfig{
				Unit: &g.unit, Min: g.min, Max: g.max, Thresholds: thresholds, NoValue: &g.noValue,
				Color: &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdPaletteClassicByName}, Custom: custom,
			},
			Overrides: []dashboard.DashboardFieldConfigSourceOverrides{},
		},
	}
	if g.interval != "" {
		p.Interval = &g.interval
	}
	if g.timeFrom != "" {
		p.TimeFrom = &g.timeFrom
	}
	return p
}

// fixColours gives series their meaning's colour, by legend name.
func fixColours(p *dashboard.Panel, nameColour ...string) *dashboard.Panel {
	for i := 0; i+1 < len(nameColour); i += 2 {
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override(nameColour[i],
			"color", map[string]any{"mode": "fixed", "fixedColor": nameColour[i+1]}))
	}
	return p
}

// resultColours colours the results of runs.
func resultColours(p *dashboard.Panel) *dashboard.Panel {
	return fixColours(p, "success", green, "failure", red, "error", "dark-red", "timeout", orange, "cancellation", "blue", "skip", neutral)
}

// override sets properties (id, value, id, value, …) of the fields of a name.
func override(name string, idValue ...any) dashboard.DashboardFieldConfigSourceOverrides {
	o := dashboard.DashboardFieldConfigSourceOverrides{Matcher: dashboard.MatcherConfig{Id: "byName", Options: name}}
	for i := 0; i+1 < len(idValue); i += 2 {
		o.Properties = append(o.Properties, dashboard.DynamicConfigValue{Id: idValue[i].(string), Value: idValue[i+1]})
	}
	return o
}

// A column of a table is a label, or the value of one of its queries where expr is set.
type column struct {
	label      string // of a label column
	expr       string // of a value column
	name       string // heading
	unit       string // of a value column
	decimals   int
	thresholds *dashboard.ThresholdsConfig // colours the text
	gauge      bool                        // draws a bar from 0 to 1
	mappings   []map[string]any
	width      int
	links      []dashboard.DashboardLink
}

// A grid describes a table panel: instant queries, joined on their common labels.
type grid struct {
	title, description string
	columns            []column
	sortBy             string // heading
	descending         bool
	noValue            string // text of an empty table; "No data" by default
	timeFrom           string // as of a graph
}

func (g grid) panel() *dashboard.Panel {
	var queries []query
	for _, c := range g.columns {
		if c.expr != "" {
			queries = append(queries, query{expr: c.expr})
		}
	}
	index, rename, exclude := map[string]any{}, map[string]any{}, map[string]any{"Time": true}
	var overrides []dashboard.DashboardFieldConfigSourceOverrides
	value := 0
	for i, c := range g.columns {
		field := c.label
		if c.expr != "" {
			field = "Value"
			if len(queries) > 1 {
				field = "Value #" + refID(value)
			}
			value++
		}
		if c.name == "" {
			exclude[field] = true
			continue
		}
		index[field], rename[field] = i, c.name
		var props []any
		if c.expr != "" {
			props = append(props, "unit", c.unit, "decimals", c.decimals)
		}
		if c.thresholds != nil {
			props = append(props, "thresholds", c.thresholds)
			if c.gauge {
				props = append(props, "min", 0, "max", 1, "custom.cellOptions", map[string]any{"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
			} else {
				props = append(props, "custom.cellOptions", map[string]any{"type": "color-text"})
			}
		}
		if c.mappings != nil {
			props = append(props, "mappings", c.mappings)
		}
		if c.width > 0 {
			props = append(props, "custom.width", c.width)
		}
		if len(c.links) > 0 {
			props = append(props, "links", c.links)
		}
		if len(props) > 0 {
			overrides = append(overrides, override(c.name, props...))
		}
	}
	var transformations []dashboard.DataTransformerConfig
	if len(queries) > 1 {
		transformations = append(transformations, dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}})
	}
	transformations = append(transformations, dashboard.DataTransformerConfig{
		Id:      "organize",
		Options: map[string]any{"excludeByName": exclude, "indexByName": index, "renameByName": rename},
	})
	options := table.Options{ShowHeader: true, CellHeight: cog.ToPtr(common.TableCellHeightSm)}
	if g.sortBy != "" {
		options.SortBy = []common.TableSortByFieldState{{DisplayName: g.sortBy, Desc: &g.descending}}
	}
	if g.noValue == "" {
		g.noValue = "No data"
	}
	if overrides == nil {
		overrides = []dashboard.DashboardFieldConfigSourceOverrides{}
	}
	p := &dashboard.Panel{
		Type: "table", Title: &g.title, Description: &g.description, Datasource: datasource(),
		Targets: targets(queries, true, true), Transformations: transformations, Options: options,
		FieldConfig: &dashboard.FieldConfigSource{
			Defaults: dashboard.FieldConfig{
				Unit: cog.ToPtr(units.Short), NoValue: &g.noValue, Thresholds: plainSteps(),
				Color:  &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdThresholds},
				Custom: map[string]any{"align": "auto", "cellOptions": map[string]any{"type": "auto"}, "inspect": false},
			},
			Overrides: overrides,
		},
	}
	if g.timeFrom != "" {
		p.TimeFrom = &g.timeFrom
	}
	return p
}

// quote makes a PromQL string of any value.
func quote(s string) string { return strconv.Quote(s) }
