// Package dashboards turns the catalog and its objectives into Grafana boards: one for the platform, one for all owners
// (with an $owner variable), one per system, and one per entity that has objectives.
//
// It is a compiler: values in, values out, no I/O, no clock. Equal inputs, in whatever order, give byte-identical output.
// Boards are values of the Grafana Foundation SDK's classic model, which Grafana 9 to 13 load from files, ConfigMaps and
// the HTTP API. The SDK's builders leave out what a board needs (panel ids, refIds, data sources, a fixed grid), so the
// SDK's types are filled here directly. Lint checks on the decoded JSON what the SDK's own validation does not see.
package dashboards

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// A Board is one Grafana dashboard.
type Board struct {
	UID   string      // stable over title, owner and path changes; at most 40 characters
	Title string      // unique among the boards of one folder
	Path  string      // slash separated, relative to the output folder, "dashboards/" included
	Owner catalog.Ref // owner of what the board shows; the platform owner for the platform and owner boards
	JSON  []byte      // classic model, indented, ends with a newline
}

// Options are what boards need besides the catalog.
type Options struct {
	// DatasourceUID is the uid of the Prometheus data source that boards start with; "" means Grafana's default one.
	DatasourceUID string
	// URL is Sightline's own address, which boards link to; "" for no links.
	URL string
}

// Kinds of boards, as they stand in uids and tags.
const (
	kindPlatform  = "platform"
	kindOwner     = "owner"
	kindSystem    = "system"
	kindComponent = "component"
)

// PlatformUID is the uid of the platform board.
func PlatformUID() string { return uid(kindPlatform, kindPlatform) }

// OwnerUID is the uid of the one owner board; choose the owner with the URL parameter "var-owner".
func OwnerUID() string { return uid(kindOwner, kindOwner) }

// SystemUID is the uid of the board of a system.
func SystemUID(system catalog.Ref) string { return uid(kindSystem, system.String()) }

// ComponentUID is the uid of the board of an entity with objectives, of whatever kind the entity is.
func ComponentUID(entity catalog.Ref) string { return uid(kindComponent, entity.String()) }

// uid is at most 39 characters (Grafana refuses more than 40): "sl-component-" and 130 bits of the hash.
func uid(kind, key string) string { return "sl-" + kind + "-" + hash(key)[:26] }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// SelectorTag is the tag of a board that fits the annotation grafana/dashboard-selector of Backstage's Grafana plugin
// (it matches ^[\w-]+$): "sl-" and the slug of the reference. At most 50 characters.
func SelectorTag(r catalog.Ref) string {
	const prefix = "sl-"
	return prefix + catalog.Slug(r, maxTag-len(prefix))
}

// maxTag is the width of the column that holds tags in Grafana's database; longer ones fail on PostgreSQL and MySQL.
const maxTag = 50

// refTag gives "prefix:ref", with the slug in place of a ref that Grafana could not store; nothing for the zero Ref.
func refTag(prefix string, r catalog.Ref) []string {
	if r.IsZero() {
		return nil
	}
	t := prefix + ":" + r.String()
	if len(t) > maxTag {
		t = prefix + ":" + catalog.Slug(r, maxTag-len(prefix)-1)
	}
	return []string{t}
}

// Build makes all boards, sorted by path. What cannot get a board is a Problem; the others go on.
// Objectives whose entity is not in the graph get a board too, since their rules exist.
func Build(g *catalog.Graph, objectives []slo.Objective, opts Options) ([]Board, []catalog.Problem) {
	c := newCompiler(g, objectives, opts)
	c.add(c.platform())
	c.add(c.owner())
	for _, e := range c.systems {
		c.add(c.system(e))
	}
	for _, r := range c.entities {
		c.add(c.component(r))
	}
	slices.SortFunc(c.boards, func(a, b Board) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(c.problems, catalog.Problem.Compare)
	c.problems = slices.CompactFunc(c.problems, func(a, b catalog.Problem) bool { return a.Compare(b) == 0 })
	return c.boards, c.problems
}

// A compiler holds what all boards of one Build share.
type compiler struct {
	graph    *catalog.Graph
	opts     Options
	systems  []*catalog.Entity                 // that get a board, sorted by Ref
	members  map[catalog.Ref][]*catalog.Entity // of a system, itself left out, sorted by Ref
	entities []catalog.Ref                     // with objectives that get a board, sorted
	byEntity map[catalog.Ref][]*slo.Objective  // sorted by indicator; only of entities

	boards   []Board
	problems []catalog.Problem

	buf bytes.Buffer // of the board that is being written; it and the encoder's own memory serve all boards
	enc *json.Encoder
}

func newCompiler(g *catalog.Graph, objectives []slo.Objective, opts Options) *compiler {
	c := &compiler{graph: g, opts: opts, byEntity: map[catalog.Ref][]*slo.Objective{}, members: map[catalog.Ref][]*catalog.Entity{}}
	c.enc = json.NewEncoder(&c.buf)
	c.enc.SetEscapeHTML(false)
	c.enc.SetIndent("", " ")
	for e := range g.Entities() {
		if e.Ref.Kind == "system" {
			if c.fits(e.Ref) {
				c.systems = append(c.systems, e)
			}
		} else if !e.System.IsZero() {
			c.members[e.System] = append(c.members[e.System], e)
		}
	}
	for i := range objectives {
		o := &objectives[i]
		if o.Composite != nil { // it stands on the boards of its system and its owner
			continue
		}
		c.byEntity[o.Entity] = append(c.byEntity[o.Entity], o)
	}
	for r := range c.byEntity {
		if c.fits(r) {
			c.entities = append(c.entities, r)
		} else {
			delete(c.byEntity, r)
		}
	}
	slices.SortFunc(c.entities, catalog.Ref.Compare)
	for _, os := range c.byEntity {
		slices.SortStableFunc(os, func(a, b *slo.Objective) int { return strings.Compare(a.Indicator, b.Indicator) })
	}
	return c
}

// fits tells whether a ref can be a file name, and reports a Problem when it cannot.
func (c *compiler) fits(r catalog.Ref) bool {
	ok := nameable(r)
	if !ok {
		p := catalog.Problem{
			Severity: catalog.SeverityError, Entity: r, Owner: c.graph.Owner(r), Rule: "dashboard-name",
			Message: "the entity gets no dashboard: its reference has characters that cannot stand in a file name, or is too long",
			Hint:    "use letters, digits, \"-\", \"_\" and \".\"",
		}
		if e := c.graph.Entity(r); e != nil {
			p.File, p.Line, p.Column = e.Position.File, e.Position.Line, e.Position.Column
		}
		c.problems = append(c.problems, p)
	}
	return ok
}

// nameable tells whether a ref can be a file name.
func nameable(r catalog.Ref) bool {
	ok := r.Kind != "" && r.Namespace != "" && r.Name != "" && len(r.Dotted()) <= 200
	for _, b := range []byte(r.Kind + r.Namespace + r.Name) {
		ok = ok && (b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b == '.')
	}
	return ok
}

// hasBoard tells whether Build makes a component board for the entity.
func (c *compiler) hasBoard(r catalog.Ref) bool { return len(c.byEntity[r]) > 0 }

// A draft is a board before it is rendered.
type draft struct {
	uid, title, path, description string
	owner                         catalog.Ref
	tags                          []string
	from                          string // start of the default time range, as in "now-24h"
	variables                     []dashboard.VariableModel
	links                         []dashboard.DashboardLink
	annotations                   []dashboard.AnnotationQuery
	layout                        layout
}

// add renders a draft. That fails only when the SDK refuses a value; the board is then left out with a Problem.
func (c *compiler) add(d *draft) {
	body, err := c.render(d)
	if err != nil {
		c.problems = append(c.problems, catalog.Problem{
			Severity: catalog.SeverityError, Owner: d.owner, Rule: "dashboard-invalid",
			Message: fmt.Sprintf("the dashboard %s is not valid and was left out: %v", d.path, err),
		})
		return
	}
	c.boards = append(c.boards, Board{UID: d.uid, Title: d.title, Path: d.path, Owner: d.owner, JSON: body})
}

func (c *compiler) render(d *draft) ([]byte, error) {
	//lint:ignore SA1019 the classic model is what Grafana 9 to 13 load from files
	model := dashboard.Dashboard{
		Uid: &d.uid, Title: &d.title, Description: &d.description, Tags: d.tags,
		Timezone: cog.ToPtr("browser"), Editable: cog.ToPtr(false), GraphTooltip: cog.ToPtr(dashboard.DashboardCursorSyncCrosshair),
		Time: &dashboard.DashboardDashboardTime{From: d.from, To: "now"}, Refresh: cog.ToPtr("1m"),
		SchemaVersion: 42,
		Templating:    dashboard.DashboardDashboardTemplating{List: append([]dashboard.VariableModel{datasourceVariable(c.opts.DatasourceUID)}, d.variables...)},
		Links:         d.links,
		Annotations:   dashboard.AnnotationContainer{List: d.annotations},
	}
	if err := model.Validate(); err != nil {
		return nil, err
	}
	for _, p := range d.layout.panels {
		if panel, ok := p.(*dashboard.Panel); ok {
			if err := panel.Validate(); err != nil {
				return nil, fmt.Errorf("panel %q: %w", *panel.Title, err)
			}
		}
	}
	// Panels are written beside the model because the SDK's union type would marshal them twice and escape "<" and ">".
	c.buf.Reset()
	err := c.enc.Encode(struct {
		dashboard.Dashboard
		Panels []any `json:"panels"`
	}{model, d.layout.panels})
	if err != nil {
		return nil, err
	}
	return bytes.Clone(c.buf.Bytes()), nil
}

func datasourceVariable(uid string) dashboard.VariableModel {
	text := uid
	if uid == "" {
		uid, text = "default", "default"
	}
	return dashboard.VariableModel{
		Type: dashboard.VariableTypeDatasource, Name: "datasource", Label: cog.ToPtr("Data source"),
		Description: cog.ToPtr("Prometheus, or a store with its API, that holds the rules' results and Sightline's metrics"),
		Query:       &dashboard.StringOrMap{String: cog.ToPtr("prometheus")},
		// Without current, Grafana takes the alphabetically first data source, not the default one.
		Current: &dashboard.VariableOption{Selected: cog.ToPtr(true), Text: oneString(text), Value: oneString(uid)},
		Multi:   cog.ToPtr(false), IncludeAll: cog.ToPtr(false), Refresh: cog.ToPtr(dashboard.VariableRefreshOnDashboardLoad),
	}
}

func oneString(s string) dashboard.StringOrArrayOfString {
	return dashboard.StringOrArrayOfString{String: &s}
}

// link is a link at the top of a board that keeps the time range and the variables.
func link(title, tooltip, url string) dashboard.DashboardLink {
	return dashboard.DashboardLink{
		Type: dashboard.DashboardLinkTypeLink, Title: title, Icon: "dashboard", Tooltip: tooltip,
		Url: &url, Tags: []string{}, KeepTime: true, IncludeVars: true,
	}
}

// external is a link at the top of a board that leaves Grafana.
func external(title, icon, tooltip, url string) dashboard.DashboardLink {
	return dashboard.DashboardLink{
		Type: dashboard.DashboardLinkTypeLink, Title: title, Icon: icon, Tooltip: tooltip,
		Url: &url, Tags: []string{}, TargetBlank: true,
	}
}

// dropdown lists the boards that carry all the tags.
func dropdown(title, tooltip string, tags ...string) dashboard.DashboardLink {
	return dashboard.DashboardLink{
		Type: dashboard.DashboardLinkTypeDashboards, Title: title, Icon: "external link", Tooltip: tooltip,
		Tags: tags, AsDropdown: true, KeepTime: true, IncludeVars: true,
	}
}

// dataLink is a link on a value or cell. Grafana puts in the time range and the data source.
func dataLink(title, url string) dashboard.DashboardLink {
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	url += sep + "${datasource:queryparam}&${__url_time_range}"
	return dashboard.DashboardLink{Type: dashboard.DashboardLinkTypeLink, Title: title, Url: &url, Tags: []string{}}
}

// searchLink finds the board of the entity in the row: uids are hashes, which no query can compute, so it searches for
// the title, which is the full reference.
func searchLink(title, field string) dashboard.DashboardLink {
	url := "/dashboards?query=${__data.fields." + field + "}"
	return dashboard.DashboardLink{Type: dashboard.DashboardLinkTypeLink, Title: title, Url: &url, Tags: []string{}}
}

// sightlineLink leads to one of Sightline's own pages; nothing where Sightline's address is not known.
func (c *compiler) sightlineLink(tooltip, path string) []dashboard.DashboardLink {
	base, ok := webURL(strings.TrimRight(c.opts.URL, "/"))
	if !ok {
		return nil
	}
	return []dashboard.DashboardLink{external("Sightline", "info", tooltip, base+path)}
}

// entityLink leads to the page of an entity.
func (c *compiler) entityLink(r catalog.Ref) []dashboard.DashboardLink {
	return c.sightlineLink("What Sightline knows of "+r.String(), "/entities/"+r.Kind+"/"+r.Namespace+"/"+r.Name)
}

// entityLinks are those of a table's column with the label entity.
func (c *compiler) entityLinks() []dashboard.DashboardLink {
	links := []dashboard.DashboardLink{searchLink("Find the board of this entity", "entity")}
	for _, l := range c.sightlineLink("", "/entities?ref=${__data.fields.entity}") {
		l.Title = "Open the entity in Sightline"
		links = append(links, l)
	}
	return links
}

// ownerLink opens the owner board for an owner.
func ownerLink(owner catalog.Ref) dashboard.DashboardLink {
	return link("Owner", "Everything that "+owner.String()+" owns", "/d/"+OwnerUID()+"?var-owner="+owner.String())
}

func platformLink() dashboard.DashboardLink {
	return link("Platform", "All owners", "/d/"+PlatformUID())
}
