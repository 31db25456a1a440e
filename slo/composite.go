package slo

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A Composite says of which objectives another one is made. It has no events of its own: its rules read what its members'
// rules have recorded, at most one evaluation earlier.
//
// The error ratio of a weighted one, over any window W, is
//
//	sum(weight × error ratio of the member over W) / sum(weight)
//
// over the members that have a ratio over W. Its budget is 1 − its own target.
//
// The worst of several has no target of its own. Its budget is that of the member with the least of it left: over any window
// its burn rate is the highest of its members'. It is recorded at the strictest target of its members: its error ratio is
// the burn rate × (1 − that target), which is never more than 1.
type Composite struct {
	WorstOf bool
	Members []CompositeMember // sorted by ID

	leaves []string // the objectives with events below it, by ID, sorted
}

// A CompositeMember is an objective, or another composite.
type CompositeMember struct {
	ID     string // sloth_id
	Weight string // decimal; "1" in the worst of several
	Target Target
}

// String lists the members by ID with their weights, as in "weighted 3*a-availability, b-availability"; "" for no composite.
func (m *Composite) String() string {
	if m == nil {
		return ""
	}
	text := "weighted "
	if m.WorstOf {
		text = "worst-of "
	}
	for i, member := range m.Members {
		if i > 0 {
			text += ", "
		}
		if !m.WorstOf && member.Weight != "1" {
			text += member.Weight + "*"
		}
		text += member.ID
	}
	return text
}

// composite appends the groups of a composite. Its groups have the intervals of Groups.
//
// A weighted one alerts by the same burn pairs as its members, with the same guard: two bad events of its members, or more.
// The worst of several has no alerts: whenever it would fire, an alert of a member fires already.
func (c *compiler) composite(out []RuleGroup, o *Objective, opts RuleOptions) []RuleGroup {
	c.o, c.first = o, len(c.rules)
	t := &c.text
	entity, id := o.Entity.String(), o.ID()
	c.match = t.join(`{sloth_id=`, strconv.Quote(id), `}`)
	ids := c.labels.labels(nil, Label{"entity", entity}, Label{"sloth_id", id}, Label{"sloth_service", o.Service()}, Label{"sloth_slo", o.Indicator})
	derived := c.labels.labels(ids, Label{"owner", o.Owner.String()}, Label{"system", o.System.String()})
	over := func(window string) Labels { return c.labels.labels(derived, Label{"sloth_window", window}) }
	annotations := func(summary, description string) Labels {
		return c.labels.labels(nil, Label{"dashboard_url", c.fill(opts.DashboardURL)}, Label{"description", description}, Label{"runbook_url", o.Runbook},
			Label{"slo_url", c.fill(opts.SLOURL)}, Label{"summary", t.join(entity, " ", o.Indicator, summary)})
	}
	for _, w := range [...]string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		c.record(t.join(SeriesErrorRatio, w), o.Composite.ratio(SeriesErrorRatio+w, "", o.Target), over(w))
	}
	budget, leaves := o.Target.ErrorBudget(), anyOf(o.Composite.leaves)
	ticket := c.labels.labels(derived, Label{"severity", string(SeverityTicket)}, Label{"sloth_severity", string(SeverityTicket)})
	for _, severity := range [...]Severity{SeverityPage, SeverityTicket} {
		if o.MaxSeverity == SeverityOff || severity == SeverityPage && o.MaxSeverity == SeverityTicket {
			continue
		}
		var pairs []string
		for _, p := range o.Window.BurnPairs() {
			if p.Severity != severity || !p.CanFire(o.Target) {
				continue
			}
			errs, seconds := SeriesErrors, "60"
			if severity == SeverityTicket {
				errs, seconds = SeriesErrorsPeriod, "300"
			}
			threshold := " > (" + p.Factor + " * " + budget + "))"
			pairs = append(pairs, "(max by ("+identity+") ("+SeriesErrorRatio+p.Short+c.match+threshold+
				" and max by ("+identity+") ("+SeriesErrorRatio+p.Long+c.match+threshold+
				" and on () (sum(sum_over_time("+errs+leaves+"["+p.Long+"])) * "+seconds+" > 1.5))")
		}
		if len(pairs) == 0 {
			continue
		}
		labels := ticket
		if severity == SeverityPage {
			labels = c.labels.labels(derived, Label{"severity", string(SeverityPage)}, Label{"sloth_severity", string(SeverityPage)})
		}
		c.alert(AlertBurn, strings.Join(pairs, " or "), 0, labels, annotations(" burns its error budget too fast",
			t.join("The weighted error ratio of its members is far above what the target of ", o.Target.Percent(), " % over ", o.Window.String(), " allows.")))
	}
	fast := RuleGroup{Name: t.join("sightline-slo-fast-", id), Interval: time.Minute, Rules: c.group()}

	w := o.Window.String()
	suffix, spent := w, t.join("max by ("+identity+") ("+SeriesPeriodBurnRate, c.match, ")")
	if kind := o.Window.Calendar; kind != "" {
		suffix = "_" + kind
		below := compiler{o: o, match: leaves}
		whole := strconv.Itoa(int(o.Window.Length() / (5 * time.Minute)))
		spent = t.join(spent, " * on () group_left () clamp_max(max(", below.current(plainCount, SeriesTotalCalendar, below.calendar(kind)), ") / ", whole, ", 1)")
	}
	c.record(t.join(SeriesErrorRatio, suffix), o.Composite.ratio(SeriesErrorRatio+suffix, "11m", o.Target), over(w))
	c.record(SeriesObjective, t.join("vector(", o.Target.Ratio(), ")"), derived)
	c.record(SeriesErrorBudget, t.join("vector(", budget, ")"), derived)
	c.record(SeriesPeriodDays, t.join("vector(", strconv.Itoa(int(o.Window.Length()/(24*time.Hour))), ")"), derived)
	c.record(SeriesCurrentBurnRate, t.join("max by ("+identity+") ("+SeriesErrorRatio+"5m", c.match, ") / ", budget), derived)
	c.record(SeriesPeriodBurnRate, t.join("max by ("+identity+") ("+SeriesErrorRatio, suffix, c.match, ") / ", budget), derived)
	c.record(SeriesBudgetRemaining, t.join("1 - max by ("+identity+") ("+SeriesPeriodBurnRate, c.match, ")"), derived)
	c.record(SeriesInfo, "vector(1)", c.labels.labels(derived, Label{"sloth_mode", "sightline"}, Label{"sloth_objective", o.Target.Percent()},
		Label{"sloth_spec", "sightline"}, Label{"sloth_version", "exact"}))
	if o.MaxSeverity != SeverityOff {
		guard := t.join(" and on () (sum(last_over_time(", SeriesErrorsSum, suffix, leaves, "[11m])) * 300 > 1.5)")
		c.alert(AlertLow, t.join("(", spent, " >= 0.5 < 1)", guard), 0, c.labels.labels(ticket, Label{LabelSpent, spentTemplate}), annotations(" has little error budget left",
			t.join("{{ $value | humanizePercentage }} of the error budget in the window of ", w, " is spent.")))
		c.alert(AlertExhausted, t.join("(", spent, " >= 1)", guard), 0, ticket,
			annotations(" has used up its error budget", t.join("No error budget is left in the window of ", w, ".")))
	}
	return append(out, fast, RuleGroup{Name: t.join("sightline-slo-period-", id), Interval: 5 * time.Minute, Rules: c.group()})
}

// ratio is PromQL of the composite's error ratio, of a ratio that the members' rules record. last is how far back a value is
// looked for, "" as far as always. While a member changes its owner it has two series, which count once.
func (m *Composite) ratio(series, last string, target Target) string {
	groups := map[string][]string{} // members by what is done with them
	for _, member := range m.Members {
		key := member.Weight
		if m.WorstOf {
			key = member.Target.ErrorBudget()
		}
		groups[key] = append(groups[key], member.ID)
	}
	var values, weights []string
	for _, key := range slices.Sorted(keys(groups)) {
		each := series + anyOf(groups[key])
		if last != "" {
			each = "last_over_time(" + each + "[" + last + "])"
		}
		each = "max by (sloth_id) (" + each + ")"
		if m.WorstOf {
			values = append(values, each+" / "+key)
		} else {
			values, weights = append(values, key+" * "+each), append(weights, "0 * "+each+" + "+key)
		}
	}
	if m.WorstOf {
		return "max(" + strings.Join(values, " or ") + ") * " + target.ErrorBudget()
	}
	return "sum(" + strings.Join(values, " or ") + ") / sum(" + strings.Join(weights, " or ") + ")"
}

// anyOf is the matcher of some objectives' series.
func anyOf(ids []string) string {
	if len(ids) == 1 {
		return `{sloth_id=` + strconv.Quote(ids[0]) + `}`
	}
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = regexp.QuoteMeta(id)
	}
	return `{sloth_id=~` + strconv.Quote(strings.Join(quoted, "|")) + `}`
}

// A compositeKey names an objective before it is made.
type compositeKey struct {
	entity    catalog.Ref
	indicator string
}

// A compositeBuilder makes composites after all other objectives were made.
type compositeBuilder struct {
	*builder
	made  map[compositeKey]*Objective
	state map[compositeKey]string // of composites: "", "open" while its members are looked for, "done"
	trail []compositeKey          // the open ones, outermost first
}

// composites makes the composites of systems and groups. One that cannot be made is a Problem; the others go on.
func (b *builder) composites() {
	c := compositeBuilder{b, map[compositeKey]*Objective{}, map[compositeKey]string{}, nil}
	plain := slices.Clone(b.out)
	for i := range plain {
		c.made[compositeKey{plain[i].Entity, plain[i].Indicator}] = &plain[i]
	}
	for e := range b.g.Entities() {
		if e.Ref.Kind != "system" && e.Ref.Kind != "group" {
			continue
		}
		for _, name := range slices.Sorted(keys(b.settings[e.Ref].Composites)) {
			c.composite(e, name, plain)
		}
	}
}

// composite makes one; nil when it cannot be.
func (c *compositeBuilder) composite(e *catalog.Entity, name string, plain []Objective) *Objective {
	key := compositeKey{e.Ref, name}
	if c.state[key] != "" {
		return c.made[key]
	}
	c.state[key], c.trail = "open", append(c.trail, key)
	defer func() { c.state[key], c.trail = "done", c.trail[:len(c.trail)-1] }()
	setting := c.settings[e.Ref].Composites[name]
	annotation := "composite." + name
	members := map[compositeKey]string{} // to the weight
	add := func(k compositeKey, weight string, named bool) {
		if _, there := members[k]; !there || named { // what is named comes before what is meant with all
			members[k] = weight
		}
	}
	for _, part := range setting.Parts {
		if !part.Entity.IsZero() {
			k := compositeKey{part.Entity, part.Indicator}
			if !c.member(e, annotation, k, plain) {
				return nil
			}
			add(k, part.Weight, true)
			continue
		}
		found := false
		for i := range plain {
			if o := &plain[i]; o.Indicator == part.Indicator && (e.Ref.Kind == "system" && o.System == e.Ref || e.Ref.Kind == "group" && o.Owner == e.Ref) {
				add(compositeKey{o.Entity, o.Indicator}, part.Weight, false)
				found = true
			}
		}
		if !found {
			whose := "that " + e.Ref.String() + " owns"
			if e.Ref.Kind == "system" {
				whose = "of " + e.Ref.String()
			}
			c.problem(e, catalog.SeverityError, annotation, "composite-member", fmt.Sprintf("no entity %s has the objective %s", whose, part.Indicator), "name the entity, as in "+part.Indicator+" of component:default/checkout")
			return nil
		}
	}
	o := Objective{Indicator: name, Kind: KindEvents, Source: "annotation", Composite: &Composite{WorstOf: setting.WorstOf}, MaxSeverity: SeverityPage, Tier: cmp.Or(c.settings[e.Ref].Tier, c.opts.Tier, "3")}
	for k, weight := range members {
		m := c.made[k]
		o.Composite.Members = append(o.Composite.Members, CompositeMember{m.ID(), weight, m.Target})
		if m.Composite != nil {
			o.Composite.leaves = append(o.Composite.leaves, m.Composite.leaves...)
		} else {
			o.Composite.leaves = append(o.Composite.leaves, m.ID())
		}
	}
	slices.SortFunc(o.Composite.Members, func(x, y CompositeMember) int { return strings.Compare(x.ID, y.ID) })
	slices.Sort(o.Composite.leaves)
	o.Composite.leaves = slices.Compact(o.Composite.leaves)
	sorted := make([]compositeKey, 0, len(members))
	for k := range members {
		sorted = append(sorted, k)
	}
	slices.SortFunc(sorted, func(x, y compositeKey) int {
		return cmp.Or(x.entity.Compare(y.entity), strings.Compare(x.indicator, y.indicator))
	})
	for i, k := range sorted {
		m := c.made[k]
		if i == 0 {
			o.Window = m.Window
		} else if m.Window.String() != o.Window.String() {
			c.problem(e, catalog.SeverityError, annotation, "composite-window", fmt.Sprintf("its members have different windows: %s %s has %s, %s %s has %s",
				sorted[0].entity, sorted[0].indicator, o.Window, k.entity, k.indicator, m.Window), "give them the same window, as by "+catalog.Prefix+"window on the system")
			return nil
		}
		if setting.WorstOf && (i == 0 || m.Target.exactBudget().Cmp(o.Target.exactBudget()) < 0) {
			o.Target = m.Target
		}
	}
	levels, asked := c.levels(e), "off"
	o.Title = fmt.Sprintf("The worst of %d objectives", len(sorted))
	if !setting.WorstOf {
		var err error
		if o.Target, err = ParseTarget(setting.Percent); err != nil {
			c.problem(e, catalog.SeverityError, annotation, "objective-target", err.Error(), "set "+catalog.Prefix+annotation)
			return nil
		}
		o.Title, asked = fmt.Sprintf("Weighted from %d objectives", len(sorted)), alerting(levels, name)
	}
	if !c.settle(e, &o, annotationPlace(e, annotation), levels, asked) {
		return nil
	}
	c.made[key] = &o
	c.out = append(c.out, o)
	return &o
}

// member makes sure that a named member is there.
func (c *compositeBuilder) member(of *catalog.Entity, annotation string, k compositeKey, plain []Objective) bool {
	e := c.g.Entity(k.entity)
	_, composite := c.settings[k.entity].Composites[k.indicator]
	switch {
	case e == nil:
		c.problem(of, catalog.SeverityError, annotation, "composite-member", fmt.Sprintf("there is no entity %s", k.entity), "check kind, namespace and name")
		return false
	case composite && c.state[k] == "open":
		names := []string{}
		for _, open := range c.trail[slices.Index(c.trail, k):] {
			names = append(names, open.entity.String()+" "+open.indicator)
		}
		c.problem(of, catalog.SeverityError, annotation, "composite-cycle", "it is made of itself: "+strings.Join(append(names, k.entity.String()+" "+k.indicator), " → "), "take one of the members out")
		return false
	case composite && c.composite(e, k.indicator, plain) == nil:
		c.problem(of, catalog.SeverityError, annotation, "composite-member", fmt.Sprintf("the composite %s of %s cannot be made", k.indicator, k.entity), "mend that one")
		return false
	case c.made[k] == nil:
		var has []string
		for i := range plain {
			if plain[i].Entity == k.entity {
				has = append(has, plain[i].Indicator)
			}
		}
		hint := "it has no objective"
		if len(has) > 0 {
			hint = "it has " + strings.Join(has, ", ")
		}
		c.problem(of, catalog.SeverityError, annotation, "composite-member", fmt.Sprintf("%s has no objective %s", k.entity, k.indicator), hint)
		return false
	}
	return true
}

// WithoutComposites leaves out the composites, for rules that sloth generates: these record too little for the guard of
// their alerts.
func WithoutComposites(objectives []Objective) ([]Objective, []catalog.Problem) {
	var out []Objective
	var problems []catalog.Problem
	for i := range objectives {
		o := &objectives[i]
		if o.Composite == nil {
			out = append(out, *o)
			continue
		}
		problems = append(problems, catalog.Problem{
			Severity: catalog.SeverityWarning, Rule: "composite-sloth", Entity: o.Entity, Owner: o.Owner, Annotation: catalog.Prefix + "composite." + o.Indicator,
			Message: "rules that sloth generates have no composites; it is left out", Hint: "generate without --rules=sloth",
		})
	}
	return out, problems
}
