// Package alerts turns the receivers that groups name in the catalog into a whole Alertmanager configuration: receivers,
// a route tree by owner, inhibition, office hours and the route of the dead man's switch. It is a compiler: values in,
// values out. The configuration holds no secret, only the names of files that hold them.
package alerts

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

// Prefix stands before the name of every receiver and time interval that is Sightline's.
const Prefix = "sightline/"

const watchdogName = Prefix + "watchdog"

// Unrouted is the receiver without any integration that gets what nobody receives.
const Unrouted = Prefix + "unrouted"

// WatchdogAlert is the alert that always fires; its absence at the other end means that alerting is broken.
const WatchdogAlert = "SightlineWatchdog"

// The rules of the Problems of this package.
const (
	RulePlatformUnrouted = "platform-owner-receiver" // nobody receives alerts of unowned entities
	RuleOwnerUnrouted    = "owner-receiver"          // an owner has no receiver of its own
	RuleReceiver         = "receiver-unusable"       // a receiver is left out
)

// Options are what receivers need besides the catalog.
type Options struct {
	Slack      Slack
	Email      Email
	SecretsDir string // on the host of Alertmanager; default /etc/alertmanager/secrets; holds <owner slug>-<name in the annotation>
	// BucketAbove is the number of routed owners above which the tree has two levels; 0 means 200.
	BucketAbove int
	// WatchdogReceiver gets the dead man's switch every five minutes. The zero value sends it to the platform owner,
	// once a day.
	WatchdogReceiver Destination
}

// Slack is the platform's Slack app. Without a file each team has its own, <SecretsDir>/<owner slug>-slack.
type Slack struct{ APIURLFile string }

// Email is the platform's mail server; both fields are needed for receivers of kind email.
type Email struct{ Smarthost, From string }

// A Destination is one place that alerts go to: a kind of receiver and what the annotation says.
type Destination struct{ Kind, Value string }

// A Config is a whole Alertmanager configuration. It is not changed after Build.
type Config struct {
	options   Options
	root      *route
	receivers []receiver // sorted by name
	intervals []hours    // sorted by name
	owners    []catalog.Ref
}

// A route is a node of the tree; the first child that matches wins.
type route struct {
	receiver string
	owners   []string // owner is one of these
	label    string   // or this label has this value
	value    string
	active   string // time interval
	wait     time.Duration
	interval time.Duration
	repeat   time.Duration
	routes   []*route
}

type receiver struct {
	name  string
	owner catalog.Ref
	to    []Destination
	page  bool
}

// A target is what one owner's alerts reach.
type target struct {
	from   catalog.Ref // the group that names the receivers
	ticket string
	page   string
	hours  string // name of the time interval for tickets, or ""
}

type builder struct {
	graph     *catalog.Graph
	options   Options
	settings  map[catalog.Ref]catalog.Settings
	usable    map[catalog.Ref][]Destination
	receivers map[string]receiver
	intervals map[string]hours
	problems  []catalog.Problem
}

// Build makes the configuration for all owners of the graph. Problems hold those of the owners' annotations, receivers
// that are left out, and owners that nobody receives alerts for; they are sorted. The Config is always usable.
func Build(g *catalog.Graph, opts Options) (*Config, []catalog.Problem) {
	opts.SecretsDir = cmp.Or(opts.SecretsDir, "/etc/alertmanager/secrets")
	if opts.BucketAbove <= 0 {
		opts.BucketAbove = 200
	}
	b := &builder{
		graph: g, options: opts, settings: map[catalog.Ref]catalog.Settings{}, usable: map[catalog.Ref][]Destination{},
		receivers: map[string]receiver{}, intervals: map[string]hours{},
	}
	for e := range g.Entities() {
		if e.Ref.Kind == "group" || e.Ref.Kind == "user" {
			b.read(e)
		}
	}
	c := &Config{options: opts, owners: g.Owners(), root: &route{wait: 30 * time.Second, interval: 5 * time.Minute, repeat: 4 * time.Hour}}
	platform, routed := b.target(g.PlatformOwner())
	c.root.receiver = Unrouted
	if routed {
		c.root.receiver = platform.ticket
	} else {
		b.receivers[Unrouted] = receiver{name: Unrouted}
		severity, hint := catalog.SeverityWarning, "set catalog.platform_owner in the configuration to a group that has receivers"
		if p := g.PlatformOwner(); !p.IsZero() {
			severity = catalog.SeverityError
			hint = "give " + p.String() + " an annotation such as " + catalog.Prefix + `receiver.slack: "#platform"`
		}
		b.problem(severity, g.PlatformOwner(), "", RulePlatformUnrouted, "alerts without a receiver reach nobody: the platform owner has none", hint)
	}
	watchdog := &route{label: "alertname", value: WatchdogAlert, receiver: c.root.receiver, interval: 5 * time.Minute, repeat: 24 * time.Hour}
	if d := opts.WatchdogReceiver; d != (Destination{}) {
		if why, hint := b.check(d); why != "" {
			b.problem(catalog.SeverityError, g.PlatformOwner(), "", RuleReceiver, "the receiver of the dead man's switch: "+why, hint)
		} else {
			watchdog.receiver, watchdog.interval, watchdog.repeat = watchdogName, time.Minute, 5*time.Minute
			b.receivers[watchdog.receiver] = receiver{name: watchdog.receiver, owner: g.PlatformOwner(), to: []Destination{d}, page: true}
		}
	}
	var teams []*route
	for _, owner := range c.owners {
		t, ok := b.target(owner)
		if !ok {
			if n := len(g.OwnedBy(owner)); n > 1 && owner != g.PlatformOwner() {
				b.problem(catalog.SeverityWarning, owner, "", RuleOwnerUnrouted, "alerts go to the platform owner, because neither "+owner.String()+" nor a group above it has a usable receiver",
					"add an annotation such as "+catalog.Prefix+`receiver.slack: "#team"`)
			}
			continue
		}
		if !utf8.ValidString(owner.String()) || strings.ContainsFunc(owner.String(), unicode.IsControl) {
			b.problem(catalog.SeverityError, owner, "", RuleOwnerUnrouted, "the owner's name cannot stand in a route", "rename it")
			continue
		}
		teams = append(teams, &route{owners: []string{owner.String()}, receiver: t.ticket, routes: t.bySeverity()})
	}
	c.root.routes = append(append([]*route{watchdog}, buckets(teams, opts.BucketAbove)...), platform.bySeverity()...)
	c.receivers = slices.SortedFunc(maps.Values(b.receivers), func(x, y receiver) int { return cmp.Compare(x.name, y.name) })
	c.intervals = slices.SortedFunc(maps.Values(b.intervals), func(x, y hours) int { return cmp.Compare(x.name, y.name) })
	slices.SortFunc(b.problems, catalog.Problem.Compare)
	return c, b.problems
}

// buckets puts many owners' routes under about √n routes that match any of their owners.
func buckets(teams []*route, above int) []*route {
	if len(teams) <= above {
		return teams
	}
	var out []*route
	for part := range slices.Chunk(teams, int(math.Ceil(math.Sqrt(float64(len(teams)))))) {
		bucket := &route{routes: part}
		for _, r := range part {
			bucket.owners = append(bucket.owners, r.owners[0])
		}
		out = append(out, bucket)
	}
	return out
}

// bySeverity gives the nested routes, where pages and tickets differ.
func (t target) bySeverity() []*route {
	var out []*route
	if t.page != t.ticket {
		out = append(out, &route{label: "severity", value: "page", receiver: t.page})
	}
	if t.hours != "" {
		out = append(out, &route{label: "severity", value: "ticket", receiver: t.ticket, active: t.hours})
	}
	return out
}

func (b *builder) problem(severity catalog.Severity, owner catalog.Ref, annotation, rule, message, hint string) {
	p := catalog.Problem{Severity: severity, Entity: owner, Owner: owner, Annotation: annotation, Rule: rule, Message: message, Hint: hint}
	if e := b.graph.Entity(owner); e != nil {
		at, ok := e.AnnotationPositions[annotation]
		if !ok {
			at = e.Position
		}
		p.File, p.Line, p.Column = at.File, at.Line, at.Column
	}
	b.problems = append(b.problems, p)
}

// read takes the settings of one group or user.
func (b *builder) read(e *catalog.Entity) {
	s, problems := catalog.Parse(e)
	b.problems = append(b.problems, problems...)
	b.settings[e.Ref] = s
	for _, kind := range slices.Sorted(maps.Keys(s.Receivers)) {
		d := Destination{kind, s.Receivers[kind]}
		if why, hint := b.check(d); why != "" {
			b.problem(catalog.SeverityWarning, e.Ref, catalog.Prefix+"receiver."+kind, RuleReceiver, why, hint)
			continue
		}
		b.usable[e.Ref] = append(b.usable[e.Ref], d)
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// check says why a destination cannot be used; the value stays out of the message, for it may be a secret.
func (b *builder) check(d Destination) (why, hint string) {
	if d.Value == "" || !utf8.ValidString(d.Value) || strings.ContainsFunc(d.Value, unicode.IsControl) || strings.Contains(d.Value, "{{") {
		return "the value is empty, a template, or holds a control character", ""
	}
	const keep = "keep the secret in a file on Alertmanager's host and write the file's name here"
	switch d.Kind {
	case "slack":
		if strings.Contains(d.Value, "://") || strings.HasPrefix(d.Value, "xox") {
			return "the value looks like a secret; a Slack channel is expected", `write a channel such as "#team-pay"`
		}
	case "email":
		if b.options.Email.Smarthost == "" || b.options.Email.From == "" {
			return "mail cannot be sent: the configuration names no mail server", "set alertmanager.receivers.email.smarthost and .from in the configuration"
		}
		if !strings.Contains(d.Value, "@") {
			return "the value is not a mail address", `write an address such as "team@example.com"`
		}
	case "webhook":
		if u, err := url.Parse(d.Value); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
			if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				return "the URL may hold a secret", keep
			}
			return "", ""
		}
		fallthrough
	case "pagerduty", "opsgenie", "msteams":
		if strings.Contains(d.Value, "://") || isKey(d.Value) {
			return "the value looks like a secret; the name of a secret is expected", keep
		}
		if !secretName.MatchString(d.Value) || strings.Contains(d.Value, "..") {
			return "the value is not the name of a secret", "use letters, digits, '.', '_' and '-'"
		}
	default:
		return fmt.Sprintf("%q is not a kind of receiver", d.Kind), "the kinds are email, msteams, opsgenie, pagerduty, slack, webhook"
	}
	return "", ""
}

// isKey tells whether a value has the form of PagerDuty's and Opsgenie's keys.
func isKey(s string) bool {
	hex := strings.Trim(strings.ToLower(strings.ReplaceAll(s, "-", "")), "0123456789abcdef") == ""
	return hex && len(s) >= 32
}

// chain gives who may receive for an owner, nearest first.
func (b *builder) chain(owner catalog.Ref) []catalog.Ref {
	chain := b.graph.GroupChain(owner)
	if e := b.graph.Entity(owner); e != nil && owner.Kind == "user" {
		for _, group := range slices.SortedFunc(slices.Values(e.MemberOf), catalog.Ref.Compare) {
			chain = append(chain, b.graph.GroupChain(group)...)
		}
	}
	return chain
}

// target finds what an owner's alerts reach: all receivers of the nearest group that has one.
func (b *builder) target(owner catalog.Ref) (target, bool) {
	chain := b.chain(owner)
	i := slices.IndexFunc(chain, func(r catalog.Ref) bool { return len(b.usable[r]) > 0 })
	if i < 0 {
		return target{}, false
	}
	t := target{from: chain[i]}
	page, ticket := split(b.usable[t.from])
	t.ticket = Prefix + t.from.String()
	t.page = t.ticket
	b.receivers[t.ticket] = receiver{name: t.ticket, owner: t.from, to: ticket}
	if !slices.Equal(page, ticket) {
		t.page += "/page"
		b.receivers[t.page] = receiver{name: t.page, owner: t.from, to: page, page: true}
	}
	for _, r := range chain {
		if text := b.settings[r].OfficeHours; text != "" {
			h, err := parseHours(text)
			if err != nil {
				continue // catalog.Parse has made a Problem of it
			}
			b.intervals[h.name] = h
			t.hours = h.name
			break
		}
	}
	return t, true
}

// split says which destinations get pages and which tickets. Where a severity would be left without any it gets all.
func split(all []Destination) (page, ticket []Destination) {
	for _, d := range all {
		pager := d.Kind == "pagerduty" || d.Kind == "opsgenie"
		if d.Kind != "email" {
			page = append(page, d)
		}
		if !pager {
			ticket = append(ticket, d)
		}
	}
	if page == nil {
		page = all
	}
	if ticket == nil {
		ticket = all
	}
	return page, ticket
}

// secret is the file of a destination on Alertmanager's host: <owner slug>-<name>, so that no owner can name the secret of
// another one. The name of an annotation has no slash (secretName); that of the dead man's switch is the operator's.
func (c *Config) secret(r receiver, d Destination) string {
	name := d.Value
	if d.Kind == "slack" {
		name = "slack"
	}
	if r.name == watchdogName && d.Kind != "slack" {
		return path.Join(c.options.SecretsDir, name)
	}
	return path.Join(c.options.SecretsDir, catalog.Slug(r.owner, 63)+"-"+name)
}

// WatchdogRules is the rule group of the dead man's switch.
func WatchdogRules() slo.RuleGroup {
	return slo.RuleGroup{Name: "sightline-watchdog", Interval: time.Minute, Rules: []slo.Rule{{
		Alert: WatchdogAlert, Expr: "vector(1)", Labels: slo.Labels{{Name: "severity", Value: "none"}},
		Annotations: slo.Labels{
			{Name: "description", Value: "This alert always fires. When it stops arriving, Prometheus, Alertmanager or the way between them is broken."},
			{Name: "summary", Value: "Alerting works."},
		},
	}}}
}

// Receivers gives the names of the receivers that an alert with these labels reaches; there is always one.
func (c *Config) Receivers(labels map[string]string) []string {
	name, r := c.root.receiver, c.root
	for r != nil {
		name = cmp.Or(r.receiver, name)
		i := slices.IndexFunc(r.routes, func(r *route) bool { return r.matches(labels) })
		if i < 0 {
			break
		}
		r = r.routes[i]
	}
	return []string{name}
}

func (r *route) matches(labels map[string]string) bool {
	if r.label != "" {
		return labels[r.label] == r.value
	}
	return slices.Contains(r.owners, labels["owner"])
}

// A RouteTest says which receivers an alert with these labels reaches, in order.
type RouteTest struct {
	Labels    map[string]string
	Receivers []string
}

// Tests gives a routing test for each severity of every owner, for an alert without an owner and for the dead man's switch.
func (c *Config) Tests() []RouteTest {
	var out []RouteTest
	add := func(labels map[string]string) { out = append(out, RouteTest{labels, c.Receivers(labels)}) }
	for _, severity := range []string{"page", "ticket"} {
		for _, o := range c.owners {
			add(map[string]string{"alertname": "SLOErrorBudgetBurn", "owner": o.String(), "severity": severity})
		}
		add(map[string]string{"alertname": "SLOErrorBudgetBurn", "severity": severity})
	}
	add(map[string]string{"alertname": WatchdogAlert, "severity": "none"})
	return out
}
