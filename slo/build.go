package slo

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
}

// Build makes the objectives of every entity of the catalog, sorted by entity and indicator. A value is looked up on the
// entity, its system, its owner, and then in the profile by tier. Production entities get the indicators of their profile
// without asking (Defaulted: tickets only). What is wrong is a Problem; the other objectives go on.
func Build(g *catalog.Graph, lib *Library, opts Options) ([]Objective, []catalog.Problem) {
	b := builder{g: g, lib: lib, opts: opts, settings: map[catalog.Ref]catalog.Settings{}}
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
	slices.SortFunc(b.out, func(x, y Objective) int {
		return cmp.Or(x.Entity.Compare(y.Entity), cmp.Compare(x.Indicator, y.Indicator))
	})
	slices.SortFunc(b.problems, catalog.Problem.Compare)
	return b.out, b.problems
}

type builder struct {
	g        *catalog.Graph
	lib      *Library
	opts     Options
	settings map[catalog.Ref]catalog.Settings
	out      []Objective
	problems []catalog.Problem
}

func (b *builder) problem(e *catalog.Entity, severity catalog.Severity, key, rule, message, hint string) {
	if key != "" {
		key = catalog.Prefix + key
	}
	p := e.Position
	for _, k := range []string{key, strings.ReplaceAll(key, "_", "-")} {
		if at, ok := e.AnnotationPositions[k]; ok {
			p, key = at, k
			break
		}
	}
	b.problems = append(b.problems, catalog.Problem{
		Severity: severity, Entity: e.Ref, Owner: b.g.Owner(e.Ref), Annotation: key,
		File: p.File, Line: p.Line, Column: p.Column, Rule: rule, Message: message, Hint: hint,
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
	own, levels := b.settings[e.Ref], b.levels(e)
	if own.SLORef != "" || own.SLOInline != "" {
		b.problem(e, catalog.SeverityWarning, "slo-ref", catalog.RuleNotSupportedYet, "documents beside the catalog file are not supported yet", "use objective.<indicator> annotations")
	}
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
			if setting.Off || !asked && !production {
				continue
			}
			b.objective(e, p, ind, setting, !asked, levels)
		}
	}
	for _, indicator := range slices.Sorted(keys(wanted)) {
		if own.Objectives[indicator].Off {
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

func keys(m map[string]bool) func(func(string) bool) {
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
	window := first(levels, func(s catalog.Settings) string { return cmp.Or(s.Windows[ind.Name], s.Window) }, cmp.Or(b.opts.Window, "30d"))
	days, err := strconv.Atoi(strings.TrimSuffix(window, "d"))
	if err != nil || days < 7 {
		return // a calendar window: catalog.Parse has said that it is not supported yet
	}
	o := Objective{
		Entity: e.Ref, Owner: b.g.Owner(e.Ref), System: b.g.System(e.Ref), Indicator: ind.Name, Title: ind.Title,
		Target: target, Threshold: threshold, Window: Window{Days: days}, Tier: tier, Defaulted: defaulted, Source: "annotation",
		NoTraffic: NoTrafficIgnore, MinEvents: levels[0].MinEvents, Runbook: levels[0].Runbook, MaxSeverity: SeverityPage,
	}
	if defaulted {
		o.Source, o.MaxSeverity = "profile", SeverityTicket
	}
	if v := levels[0].NoTraffic; v == string(NoTrafficGood) {
		o.NoTraffic = NoTrafficGood
	} else if v == string(NoTrafficBad) {
		b.problem(e, catalog.SeverityWarning, "no-traffic", catalog.RuleNotSupportedYet, "no-traffic: bad is not supported for "+ind.Name, `write "ignore" or "good"`)
	}
	if v := first(levels, func(s catalog.Settings) string { return cmp.Or(s.Alertings[ind.Name], s.Alerting) }, ""); v != "" {
		o.MaxSeverity = Severity(v)
	}
	switch strings.ToLower(e.Lifecycle) {
	case "experimental", "deprecated":
		if o.MaxSeverity == SeverityPage {
			o.MaxSeverity = SeverityTicket
		}
	}
	o.MaxSeverity = b.possible(e, key, &o)
	selector, ok := b.selector(e, p, ind, levels)
	if !ok {
		return
	}
	bucket := threshold
	if !strings.Contains(bucket, ".") && bucket != "" {
		bucket += `(\\.0)?`
	} else {
		bucket = strings.ReplaceAll(bucket, ".", `\\.`)
	}
	replace := strings.NewReplacer("$selector", selector, "$threshold", bucket)
	o.ErrorQuery, o.TotalQuery = replace.Replace(ind.Errors), replace.Replace(ind.Total)
	for _, q := range []string{o.ErrorQuery, o.TotalQuery} {
		if _, err := parser.ParseExpr(strings.ReplaceAll(q, "$window", "5m")); err != nil {
			b.problem(e, catalog.SeverityError, key, "objective-query", "the query does not parse: "+err.Error(), "check the selector")
			return
		}
	}
	b.out = append(b.out, o)
}

// possible lowers the severity to what can fire at the target, and says so.
func (b *builder) possible(e *catalog.Entity, key string, o *Objective) Severity {
	can := map[Severity]bool{}
	for _, p := range o.Window.BurnPairs() {
		if p.CanFire(o.Target) {
			can[p.Severity] = true
		} else if p.Severity == o.MaxSeverity && !o.Defaulted {
			b.problem(e, catalog.SeverityWarning, key, "burn-pair-dead", fmt.Sprintf("the alert on %s and %s can never fire: %s × %s of errors would be needed", p.Short, p.Long, p.Factor, o.Target.ErrorBudget()), "a target nearer to 100 % makes it possible")
		}
	}
	switch {
	case o.MaxSeverity == SeverityPage && !can[SeverityPage] && can[SeverityTicket]:
		return SeverityTicket
	case o.MaxSeverity != SeverityOff && !can[SeverityTicket]:
		return SeverityOff
	}
	return o.MaxSeverity
}

var placeholder = regexp.MustCompile(`\$[a-z_]+`)

// selector gives the matchers of an indicator: the annotation's or the profile's default, and the environment's.
func (b *builder) selector(e *catalog.Entity, p Profile, ind Indicator, levels []catalog.Settings) (string, bool) {
	own := levels[0]
	key, text := "selector", cmp.Or(own.Selectors[ind.Name], own.Selector)
	if own.Selectors[ind.Name] != "" {
		key = "selector." + ind.Name
	}
	ours := p.Annotation != "" || e.Ref.Kind == "template" // Sightline's own metrics: found by entity, in every environment
	if text == "" || ours && own.Selectors[ind.Name] == "" {
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
