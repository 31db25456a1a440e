package slo

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sightline-dev/sightline/catalog"
)

// Options holds the configuration's defaults. The zero value is useful.
type Options struct {
	Environments map[string]string // PromQL matchers by environment
	Selectors    map[string]string // default selector by profile, instead of the library's
	Window       string            // default "30d"
	Tier         string            // default "3"
	Zone         *time.Location    // of calendar windows; nil means UTC
	Exclusions   []ExclusionFile   // maintenance and corrections
}

// Build makes the objectives of every entity of the catalog, sorted by entity and indicator. A value is looked up on the
// entity, its system, its owner, and then in the profile by tier. Production entities get the indicators of their profile
// without asking (Defaulted: tickets only). What is wrong is a Problem; the other objectives go on.
func Build(g *catalog.Graph, lib *Library, opts Options) ([]Objective, []catalog.Problem) {
	b := builder{g: g, lib: lib, opts: opts, settings: map[catalog.Ref]catalog.Settings{}, localTime: localTime(opts.Zone)}
	for e := range g.Entities() {
		s, problems := catalog.Parse(e)
		for i := range problems {
			problems[i].Owner = g.Owner(e.Ref)
		}
		b.settings[e.Ref] = s
		b.problems = append(b.problems, problems...)
	}
	for e := range g.Entities() {
		switch e.Ref.Kind {
		case "group", "user", "system", "domain", "location":
		default:
			b.entity(e)
		}
	}
	b.composites()
	slices.SortFunc(b.out, func(x, y Objective) int {
		return cmp.Or(x.Entity.Compare(y.Entity), cmp.Compare(x.Indicator, y.Indicator))
	})
	b.exclude(opts.Exclusions)
	slices.SortFunc(b.problems, catalog.Problem.Compare)
	return b.out, b.problems
}

type builder struct {
	g         *catalog.Graph
	lib       *Library
	opts      Options
	settings  map[catalog.Ref]catalog.Settings
	localTime string // PromQL, of the zone
	out       []Objective
	problems  []catalog.Problem
}

func (b *builder) problem(e *catalog.Entity, severity catalog.Severity, key, rule, message, hint string) {
	b.problemAt(e, annotationPlace(e, key), severity, rule, message, hint)
}

// A place is what a Problem points at: an annotation, and where its value or the document that it names stands.
type place struct {
	annotation string
	catalog.Position
}

// annotationPlace is the place of an annotation's value; key lacks the prefix and may be "".
func annotationPlace(e *catalog.Entity, key string) place {
	if key != "" {
		key = catalog.Prefix + key
	}
	for _, k := range []string{key, strings.ReplaceAll(key, "_", "-")} {
		if at, ok := e.AnnotationPositions[k]; ok {
			return place{k, at}
		}
	}
	return place{key, e.Position}
}

func (b *builder) problemAt(e *catalog.Entity, at place, severity catalog.Severity, rule, message, hint string) {
	b.problems = append(b.problems, catalog.Problem{
		Severity: severity, Entity: e.Ref, Owner: b.g.Owner(e.Ref), Annotation: at.annotation,
		File: at.File, Line: at.Line, Column: at.Column, Rule: rule, Message: message, Hint: hint,
	})
}

// levels are the settings that an entity inherits from, nearest first: itself, its system, its owner.
func (b *builder) levels(e *catalog.Entity) []catalog.Settings {
	out := []catalog.Settings{b.settings[e.Ref]}
	if s := b.g.System(e.Ref); !s.IsZero() && s != e.Ref {
		out = append(out, b.settings[s])
	}
	if o := b.g.Ownership(e.Ref); !o.Unowned {
		out = append(out, b.settings[o.Owner])
	}
	return out
}

func first(levels []catalog.Settings, get func(catalog.Settings) string, fallback string) string {
	for _, s := range levels {
		if v := get(s); v != "" {
			return v
		}
	}
	return fallback
}

func (b *builder) entity(e *catalog.Entity) {
	own, levels, before := b.settings[e.Ref], b.levels(e), len(b.out)
	defer func() { b.noTraffic(e, b.out[before:]) }()
	written := b.documents(e, own, levels)
	profiles := b.profiles(e, own)
	wanted := map[string]bool{}
	for indicator := range own.Objectives {
		wanted[indicator] = true
	}
	for _, p := range profiles {
		for _, ind := range p.Indicators {
			delete(wanted, ind.Name)
			setting, asked := catalog.ObjectiveSetting{}, false
			for _, l := range levels {
				if setting, asked = l.Objectives[ind.Name]; asked {
					break
				}
			}
			production := e.Lifecycle == "production" || e.Ref.Kind == "template"
			if setting.Off || written[ind.Name] || !asked && (!production || len(ind.Objective) == 0) {
				continue
			}
			b.objective(e, p, ind, setting, !asked, levels)
		}
	}
	for _, indicator := range slices.Sorted(keys(wanted)) {
		if own.Objectives[indicator].Off || written[indicator] {
			continue
		}
		var known []string
		for _, p := range profiles {
			for _, ind := range p.Indicators {
				known = append(known, ind.Name)
			}
		}
		hint := "this entity's profile has no indicators; set " + catalog.Prefix + "profile"
		if len(known) > 0 {
			hint = "its indicators are " + strings.Join(known, ", ")
		}
		b.problem(e, catalog.SeverityError, "objective."+indicator, "indicator-unknown", fmt.Sprintf("no profile of this entity has the indicator %q", indicator), hint)
	}
}

// noTraffic warns of a policy that none of an entity's objectives can have.
func (b *builder) noTraffic(e *catalog.Entity, made []Objective) {
	bad := func(o Objective) bool { return o.NoTraffic == NoTrafficBad }
	if b.settings[e.Ref].NoTraffic == string(NoTrafficBad) && !slices.ContainsFunc(made, bad) {
		b.problem(e, catalog.SeverityWarning, "no-traffic", "no-traffic-kind", "no indicator of this entity counts samples or time, so that no traffic cannot be bad; it is ignored", `write "ignore" or "good"`)
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// profiles gives the main profile of an entity and those that apply by an annotation.
func (b *builder) profiles(e *catalog.Entity, s catalog.Settings) []Profile {
	var out []Profile
	for _, p := range b.lib.Profiles() {
		switch {
		case !slices.Contains(p.Kinds, e.Ref.Kind):
		case p.Annotation != "":
			if e.Annotations[p.Annotation] != "" {
				out = append(out, p)
			}
		case s.Profile == p.Name, s.Profile == "" && (len(p.Types) == 0 || slices.Contains(p.Types, strings.ToLower(e.Type))):
			out = append(out, p)
		}
	}
	if s.Profile != "" {
		if p, ok := b.lib.profiles[s.Profile]; !ok {
			b.problem(e, catalog.SeverityError, "profile", "profile-unknown", fmt.Sprintf("there is no profile %q", s.Profile), "the profiles are "+strings.Join(b.lib.names, ", "))
		} else if !slices.Contains(p.Kinds, e.Ref.Kind) {
			b.problem(e, catalog.SeverityError, "profile", "profile-kind", fmt.Sprintf("the profile %q does not fit a %s", s.Profile, e.Ref.Kind), "")
		}
	}
	return out
}

func (b *builder) objective(e *catalog.Entity, p Profile, ind Indicator, setting catalog.ObjectiveSetting, defaulted bool, levels []catalog.Settings) {
	key := "objective." + ind.Name
	tier := first(levels, func(s catalog.Settings) string { return s.Tier }, cmp.Or(b.opts.Tier, "3"))
	percent := cmp.Or(setting.Percent, ind.Objective[tier], ind.Objective["3"])
	target, err := ParseTarget(percent)
	if err != nil {
		b.problem(e, catalog.SeverityError, key, "objective-target", err.Error(), "set "+catalog.Prefix+key)
		return
	}
	threshold := cmp.Or(setting.Threshold, ind.Threshold)
	if ind.Threshold == "" && setting.Threshold != "" {
		b.problem(e, catalog.SeverityError, key, "objective-threshold", "the indicator "+ind.Name+" has no threshold", fmt.Sprintf("write %q", setting.Percent))
		return
	}
	o := Objective{Indicator: ind.Name, Title: ind.Title, Kind: ind.kind(), Target: target, Threshold: threshold, Tier: tier, Defaulted: defaulted, Source: "annotation", MaxSeverity: SeverityPage}
	if defaulted {
		o.Source, o.MaxSeverity = "profile", SeverityTicket
	}
	if !b.settle(e, &o, annotationPlace(e, key), levels, alerting(levels, ind.Name)) {
		return
	}
	selector, ok := b.selector(e, p, ind, levels)
	if !ok {
		return
	}
	errs, total, err := kinds[o.Kind].queries(ind, threshold, o.NoTraffic)
	if err != nil {
		b.problem(e, catalog.SeverityError, key, "objective-threshold", err.Error(), "write one of those, or set interpolate in the indicator's file")
		return
	}
	replace := strings.NewReplacer("$selector", selector)
	o.ErrorQuery, o.TotalQuery = replace.Replace(errs), replace.Replace(total)
	for _, q := range []string{o.ErrorQuery, o.TotalQuery} {
		if _, err := parser.ParseExpr(strings.ReplaceAll(q, "$window", "5m")); err != nil {
			b.problem(e, catalog.SeverityError, key, "objective-query", "the query does not parse: "+err.Error(), "check the selector")
			return
		}
	}
	b.out = append(b.out, o)
}

// alerting is the severity that the nearest level asks for; "" when none does.
func alerting(levels []catalog.Settings, indicator string) string {
	return first(levels, func(s catalog.Settings) string { return cmp.Or(s.Alertings[indicator], s.Alerting) }, "")
}

// settle fills in what does not depend on where an objective comes from: whose it is, the window where there is none
// yet, what no traffic means, and how severe its alerts may be: as asked, if anything was. It is false when there can be
// no such objective.
func (b *builder) settle(e *catalog.Entity, o *Objective, at place, levels []catalog.Settings, asked string) bool {
	o.Entity, o.Owner, o.System = e.Ref, b.g.Owner(e.Ref), b.g.System(e.Ref)
	if o.Window.Length() == 0 {
		window := first(levels, func(s catalog.Settings) string { return cmp.Or(s.Windows[o.Indicator], s.Window) }, cmp.Or(b.opts.Window, "30d"))
		if kind, ok := strings.CutPrefix(window, "calendar-"); ok {
			o.Window = Window{Calendar: kind, LocalTime: b.localTime, Zone: zoneName(b.opts.Zone)}
		} else if days, err := strconv.Atoi(strings.TrimSuffix(window, "d")); err == nil && days >= 7 {
			o.Window.Days = days
		} else {
			return false // catalog.Parse and the configuration let no such window through
		}
	}
	o.MinEvents, o.Runbook = cmp.Or(levels[0].MinEvents, o.MinEvents), cmp.Or(levels[0].Runbook, o.Runbook)
	o.NoTraffic = cmp.Or(NoTraffic(levels[0].NoTraffic), o.NoTraffic, NoTrafficIgnore)
	if o.NoTraffic == NoTrafficBad && !o.Kind.countsTime() {
		o.NoTraffic = NoTrafficIgnore
	}
	if asked != "" {
		o.MaxSeverity = Severity(asked)
	}
	switch strings.ToLower(e.Lifecycle) {
	case "experimental", "deprecated":
		if o.MaxSeverity == SeverityPage {
			o.MaxSeverity = SeverityTicket
		}
	}
	if o.Defaulted && o.MaxSeverity == SeverityPage { // nobody asked for the objective: to be paged, declare it
		o.MaxSeverity = SeverityTicket
	}
	return b.possible(e, at, o)
}

// documents makes the objectives of the entity's slo-ref document. It gives the indicators that the document claims.
func (b *builder) documents(e *catalog.Entity, own catalog.Settings, levels []catalog.Settings) map[string]bool {
	written := map[string]bool{}
	type document struct {
		key, ref string
		body     []byte
	}
	var documents []document
	if body, ok := e.Documents[own.SLORef]; ok { // else the loader has said why it cannot be read
		documents = append(documents, document{"slo-ref", own.SLORef, body})
	}
	if own.SLOInline != "" {
		documents = append(documents, document{"slo", catalog.Prefix + "slo", []byte(own.SLOInline)})
	}
	for _, d := range documents {
		annotation := annotationPlace(e, d.key)
		at := func(line, column int) place {
			if d.key == "slo" || annotation.File == "" {
				return annotation
			}
			return place{annotation.annotation, catalog.Position{File: path.Join(path.Dir(annotation.File), d.ref), Line: line, Column: column}}
		}
		slos, problems := readDocument(e.Ref, d.body)
		for _, p := range problems {
			if d.key == "slo" && p.Line > 0 {
				p.Message = fmt.Sprintf("line %d of the document: %s", p.Line, p.Message)
			}
			b.problemAt(e, at(p.Line, p.Column), p.Severity, p.Rule, p.Message, p.Hint)
		}
		for _, s := range slos {
			where := at(s.Line, s.Column)
			if _, twice := own.Objectives[s.Indicator]; twice || written[s.Indicator] {
				b.problemAt(e, where, catalog.SeverityError, "slo-document-twice", "the objective "+s.Indicator+" is set elsewhere too; that one is used", "keep one of the two")
				continue
			}
			written[s.Indicator] = true
			tier := first(levels, func(s catalog.Settings) string { return s.Tier }, cmp.Or(b.opts.Tier, "3"))
			o := s.objective()
			o.Tier, o.Source = tier, d.ref
			asked := alerting(levels, s.Indicator)
			if s.MaxSeverity != "" { // the document is nearer than the system and the owner
				asked = alerting(levels[:1], s.Indicator)
			}
			if b.settle(e, &o, where, levels, asked) {
				o.ErrorQuery, o.TotalQuery = s.counts.queries(o.NoTraffic)
				b.out = append(b.out, o)
			}
		}
	}
	return written
}

// possible warns of each burn pair that can never fire at the target; the compiler leaves it out. It is false when no pair
// of the wanted severity can fire: nobody would be told. A default, which nobody asked for, then stays without alerts.
func (b *builder) possible(e *catalog.Entity, at place, o *Objective) bool {
	var dead []BurnPair
	alive := false
	for _, p := range o.Window.BurnPairs() {
		switch {
		case o.MaxSeverity == SeverityOff || p.Severity == SeverityPage && o.MaxSeverity != SeverityPage:
		case !p.CanFire(o.Target):
			dead = append(dead, p)
		case p.Severity == o.MaxSeverity:
			alive = true
		}
	}
	why := func(p BurnPair) string {
		return fmt.Sprintf("on %s and %s it needs an error ratio above %s × %s = %s, and none exceeds 1", p.Short, p.Long, p.Factor, o.Target.ErrorBudget(), p.Threshold(o.Target))
	}
	if o.MaxSeverity == SeverityOff || alive {
		for _, p := range dead {
			b.problemAt(e, at, catalog.SeverityWarning, "burn-pair-dead",
				fmt.Sprintf("a part of the %s alert of %s can never fire and is left out: %s", p.Severity, o.Indicator, why(p)), "a target nearer to 100 % or a shorter window makes it possible")
		}
		return true
	}
	var reasons []string
	for _, p := range dead {
		if p.Severity == o.MaxSeverity {
			reasons = append(reasons, why(p))
		}
	}
	message := fmt.Sprintf("no %s alert of %s at %s %% can ever fire: %s", o.MaxSeverity, o.Indicator, o.Target.Percent(), strings.Join(reasons, "; "))
	if o.Defaulted {
		o.MaxSeverity = SeverityOff
		b.problemAt(e, at, catalog.SeverityWarning, "objective-cannot-alert", message+"; it has no alerts", "set a shorter window")
		return true
	}
	hint := fmt.Sprintf("raise the target, or set %salerting.%s: %s", catalog.Prefix, o.Indicator, SeverityTicket)
	if o.MaxSeverity == SeverityTicket {
		hint = fmt.Sprintf("raise the target, set a shorter window, or set %salerting.%s: %q", catalog.Prefix, o.Indicator, "off")
	}
	b.problemAt(e, at, catalog.SeverityError, "objective-cannot-alert", message+"; the objective is refused", hint)
	return false
}

var placeholder = regexp.MustCompile(`\$[a-z_]+`)

// selector gives the matchers of an indicator: the annotation's or the profile's default, and the environment's.
func (b *builder) selector(e *catalog.Entity, p Profile, ind Indicator, levels []catalog.Settings) (string, bool) {
	own := levels[0]
	key, text := "selector", cmp.Or(own.Selectors[ind.Name], own.Selector)
	if own.Selectors[ind.Name] != "" {
		key = "selector." + ind.Name
	}
	beside := p.Annotation != "" || e.Ref.Kind == "template" // the selector annotation means the entity's other metrics
	ours := beside || p.Own                                  // Sightline's own metrics, the same in every environment
	if text == "" || beside && own.Selectors[ind.Name] == "" {
		values := map[string]string{
			"$name": e.Name, "$namespace": e.Ref.Namespace, "$entity": e.Ref.String(),
			"$kubernetes_id": cmp.Or(e.Annotations["backstage.io/kubernetes-id"], e.Name),
		}
		text = placeholder.ReplaceAllStringFunc(cmp.Or(b.opts.Selectors[p.Name], p.Selector), func(s string) string {
			if v, ok := values[s]; ok {
				quoted := strconv.Quote(v)
				return quoted[1 : len(quoted)-1]
			}
			return s
		})
	}
	matchers, err := parser.ParseMetricSelector("{" + text + "}")
	if err != nil {
		b.problem(e, catalog.SeverityError, key, "selector", "the selector does not parse: "+err.Error(), `write matchers such as job="checkout"`)
		return "", false
	}
	if env := first(levels, func(s catalog.Settings) string { return s.Environment }, "production"); !ours {
		if more, known := b.opts.Environments[env]; known && more != "" {
			add, err := parser.ParseMetricSelector("{" + more + "}")
			if err != nil {
				b.problem(e, catalog.SeverityError, "environment", "environment", fmt.Sprintf("the matchers of the environment %q do not parse: %v", env, err), "mend environments in the configuration")
				return "", false
			}
			matchers = append(matchers, add...)
		} else if !known && env != "production" {
			b.problem(e, catalog.SeverityError, "environment", "environment", fmt.Sprintf("the environment %q is not in the configuration", env), "add it under environments")
			return "", false
		}
	}
	return canonical(matchers), true
}

// canonical prints matchers sorted, each once.
func canonical(matchers []*labels.Matcher) string {
	var out []string
	for _, m := range matchers {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}
