package alertmanager

import (
	"errors"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/prometheus/alertmanager/matcher/parse"
	"github.com/prometheus/alertmanager/pkg/labels"
	"go.yaml.in/yaml/v3"
)

// A route is a node of Alertmanager's tree, as its dispatcher sees it.
type route struct {
	receiver string // inherited where the file names none
	matchers labels.Matchers
	more     bool // continue with the next sibling
	line     int
	routes   []*route
}

// newRoute reads the tree of a file.
func newRoute(file []byte) (*route, error) {
	top, err := readTop(file)
	if err != nil {
		return nil, err
	}
	_, root := value(top, "route")
	if root == nil || root.Kind != yaml.MappingNode {
		return nil, refuse("add `route: {receiver: …}`", "the configuration of Alertmanager has no route")
	}
	return readRoute(root, "", 0)
}

func readRoute(n *yaml.Node, receiver string, depth int) (*route, error) {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode || depth > 100 {
		return nil, errors.New("read the routes of Alertmanager: a route is not a mapping")
	}
	var in struct {
		Receiver string            `yaml:"receiver"`
		Match    map[string]string `yaml:"match"`
		MatchRE  map[string]string `yaml:"match_re"`
		Matchers []string          `yaml:"matchers"`
		Continue bool              `yaml:"continue"`
		Routes   []yaml.Node       `yaml:"routes"`
	}
	if err := n.Decode(&in); err != nil {
		return nil, fmt.Errorf("read the routes of Alertmanager: %w", err)
	}
	if in.Receiver == "" {
		in.Receiver = receiver
	}
	r := &route{receiver: in.Receiver, more: in.Continue, line: n.Line}
	add := func(kind labels.MatchType, m map[string]string) error {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			matcher, err := labels.NewMatcher(kind, name, m[name])
			if err != nil {
				return fmt.Errorf("line %d: %w", n.Line, err)
			}
			r.matchers = append(r.matchers, matcher)
		}
		return nil
	}
	if err := errors.Join(add(labels.MatchEqual, in.Match), add(labels.MatchRegexp, in.MatchRE)); err != nil {
		return nil, err
	}
	for _, s := range in.Matchers {
		m, err := parse.Matchers(s)
		if err != nil { // Alertmanager falls back to its old grammar too
			if m, err = labels.ParseMatchers(s); err != nil {
				return nil, fmt.Errorf("line %d: matcher %q: %w", n.Line, s, err)
			}
		}
		r.matchers = append(r.matchers, m...)
	}
	for i := range in.Routes {
		child, err := readRoute(&in.Routes[i], in.Receiver, depth+1)
		if err != nil {
			return nil, err
		}
		r.routes = append(r.routes, child)
	}
	return r, nil
}

type labelSet map[string]string

func (r *route) matches(set labelSet) bool {
	for _, m := range r.matchers {
		if !m.Matches(set[m.Name]) {
			return false
		}
	}
	return true
}

// match gives the routes that an alert ends at, in order: depth first, and after the first sibling that matches only
// those behind a continue.
func (r *route) match(set labelSet) []*route {
	if !r.matches(set) {
		return nil
	}
	var all []*route
	for _, c := range r.routes {
		found := c.match(set)
		all = append(all, found...)
		if len(found) > 0 && !c.more {
			break
		}
	}
	if len(all) == 0 {
		all = []*route{r}
	}
	return all
}

func receivers(routes []*route) []string {
	var out []string
	for _, r := range routes {
		out = append(out, r.receiver)
	}
	return out
}

// walk visits a route and those below it, with the way to each.
func (r *route) walk(way []*route, visit func(way []*route)) {
	way = append(slices.Clone(way), r)
	visit(way)
	for _, c := range r.routes {
		c.walk(way, visit)
	}
}

// Prove checks a merged file against the user's file and the generated one, with the dispatcher's own rules, on the label
// sets that the matchers of both can tell apart: those of each route's way, and every pair of values of two labels. Every
// owner's alert has to reach the receiver that the generated file sends it to; what is not Sightline's has to reach the
// same receivers, in the same order, as before. The user's file may hold what an earlier Merge put there.
func Prove(user, generated, merged []byte) error {
	before, err := newRoute(user)
	if err != nil {
		return err
	}
	after, err := newRoute(merged)
	if err != nil {
		return err
	}
	meant, err := newRoute(generated)
	if err != nil {
		return fmt.Errorf("generated configuration: %w", err)
	}
	for set := range candidates(before, after) {
		if ours(set) {
			continue
		}
		was, is := receivers(before.match(set)), receivers(after.match(set))
		if !slices.Equal(was, is) {
			return fmt.Errorf("alerts that are not Sightline's would go elsewhere: %s reached %s and would reach %s", set, strings.Join(was, ", "), strings.Join(is, ", "))
		}
	}
	for _, set := range ownerAlerts(meant) {
		reached := after.match(set)
		for _, want := range receivers(meant.match(set)) {
			if want == unrouted {
				want = Fallback
			}
			if !slices.Contains(receivers(reached), want) {
				at := reached[len(reached)-1]
				return refuse(fmt.Sprintf("move the route with the receiver %s before that route, give that route `continue: true`, or let it match less", Fallback),
					"alerts of %s would not reach %s: the route on line %d takes them to %s", set, want, at.line, at.receiver)
			}
		}
	}
	return nil
}

// ours tells whether Sightline may say where an alert goes: it has an owner from the catalog, or is the dead man's switch.
func ours(set labelSet) bool {
	return strings.HasPrefix(set["owner"], "group:") && set["owner"] != "group:" || strings.HasPrefix(set["owner"], "user:") && set["owner"] != "user:" || set["alertname"] == watchdogAlert
}

// watchdogAlert is the dead man's switch; alerts has the same.
const watchdogAlert = "SightlineWatchdog"

// ownerAlerts gives alerts like those of the generated rules: one for each owner and severity, and the dead man's switch.
func ownerAlerts(meant *route) []labelSet {
	owners := map[string]bool{}
	meant.walk(nil, func(way []*route) {
		for _, m := range way[len(way)-1].matchers {
			if m.Name == "owner" && m.Type == labels.MatchEqual {
				owners[m.Value] = true
			}
		}
	})
	out := []labelSet{{"alertname": watchdogAlert, "severity": "none"}}
	for _, owner := range append(slices.Sorted(maps.Keys(owners)), "group:default/without-a-receiver") {
		for _, severity := range []string{"page", "ticket"} {
			out = append(out, labelSet{
				"alertname": "SLOErrorBudgetBurn", "owner": owner, "severity": severity, "entity": "component:default/checkout", "sloth_severity": severity,
				"sloth_id": "component.default.checkout-availability", "sloth_service": "component.default.checkout", "sloth_slo": "availability",
			})
		}
	}
	return out
}

// String writes a label set as people write matchers.
func (s labelSet) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, fmt.Sprintf("%s=%q", k, s[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// candidates yields label sets that the matchers of trees can tell apart.
func candidates(trees ...*route) func(yield func(labelSet) bool) {
	values := map[string]map[string]bool{}
	var ways []labelSet
	seen := map[string]bool{}
	for _, tree := range trees {
		tree.walk(nil, func(way []*route) {
			set := labelSet{}
			for _, r := range way {
				for _, m := range r.matchers {
					if values[m.Name] == nil {
						values[m.Name] = map[string]bool{"something else": true}
					}
					for _, v := range examples(m) {
						if m.Name == "owner" && ours(labelSet{"owner": v}) {
							continue
						}
						values[m.Name][v] = true
						if m.Matches(v) && !m.Matches("") {
							set[m.Name] = v
						}
					}
				}
			}
			if key := set.String(); !seen[key] {
				seen[key] = true
				ways = append(ways, set)
			}
		})
	}
	type pair struct{ name, value string }
	var pairs []pair
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, v := range slices.Sorted(maps.Keys(values[name])) {
			pairs = append(pairs, pair{name, v})
		}
	}
	return func(yield func(labelSet) bool) {
		if !yield(labelSet{}) {
			return
		}
		for _, set := range ways {
			if !yield(set) {
				return
			}
			for _, p := range pairs { // one label more, or another value
				other := maps.Clone(set)
				other[p.name] = p.value
				if !yield(other) {
					return
				}
			}
		}
		for i, p := range pairs {
			for _, q := range pairs[i:] {
				if !yield(labelSet{p.name: p.value, q.name: q.value}) {
					return
				}
			}
		}
	}
}

// examples gives values that a matcher is about.
func examples(m *labels.Matcher) []string {
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		return []string{m.Value}
	}
	re, err := syntax.Parse(m.Value, syntax.Perl)
	if err != nil {
		return nil
	}
	return matching(re.Simplify(), 20)
}

// matching gives up to limit strings that an expression matches, at least one for each of its alternatives.
func matching(re *syntax.Regexp, limit int) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return nil
		}
		return []string{string(re.Rune[0])}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"x"}
	case syntax.OpCapture, syntax.OpPlus:
		return matching(re.Sub[0], limit)
	case syntax.OpStar, syntax.OpQuest:
		return append([]string{""}, matching(re.Sub[0], max(1, limit-1))...)
	case syntax.OpAlternate:
		var out []string
		for _, s := range re.Sub {
			out = append(out, matching(s, limit)...)
		}
		return out[:min(len(out), limit)]
	case syntax.OpConcat:
		out := []string{""}
		for _, s := range re.Sub {
			var next []string
			for _, end := range matching(s, limit) {
				for _, start := range out {
					next = append(next, start+end)
				}
			}
			out = next[:min(len(next), limit)]
		}
		return out
	case syntax.OpNoMatch:
		return nil
	}
	return []string{""}
}
