package catalog

import (
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lithammer/fuzzysearch/fuzzy"
)

// RuleNotSupportedYet is the rule of Problems about values that are right but whose feature is not built yet.
const RuleNotSupportedYet = "not-supported-yet"

// Parse reads the sightline.dev annotations of one entity. Nothing is inherited here. A bad value is a Problem and is
// left out of the Settings; the others are kept. The Owner of a Problem is the owner that the entity names, which may not
// exist; the group or user itself on its own annotations.
func Parse(e *Entity) (Settings, []Problem) {
	p := parser{entity: e}
	for _, key := range slices.Sorted(maps.Keys(e.Annotations)) {
		if name, own := strings.CutPrefix(key, Prefix); own {
			p.key, p.value = key, strings.TrimSpace(e.Annotations[key])
			p.annotation(name)
		}
	}
	return p.out, p.problems
}

type parser struct {
	entity     *Entity
	key, value string
	out        Settings
	problems   []Problem
}

func (p *parser) problem(severity Severity, rule, hint, format string, args ...any) {
	pos, ok := p.entity.AnnotationPositions[p.key]
	if !ok {
		pos = p.entity.Position
	}
	owner := p.entity.Owner
	if k := p.entity.Ref.Kind; k == "group" || k == "user" {
		owner = p.entity.Ref
	}
	p.problems = append(p.problems, Problem{
		Severity: severity, Entity: p.entity.Ref, Owner: owner, Annotation: p.key,
		File: pos.File, Line: pos.Line, Column: pos.Column, Rule: rule, Hint: hint, Message: fmt.Sprintf(format, args...),
	})
}

func (p *parser) bad(rule, hint, format string, args ...any) {
	p.problem(SeverityError, rule, hint, format, args...)
}

// annotation reads one value; name is the key after the prefix.
func (p *parser) annotation(name string) {
	stem, sub, dotted := strings.Cut(name, ".")
	known, on := false, ""
	for _, a := range AnnotationTable() {
		s, _, d := strings.Cut(a.Key, ".")
		if s == stem && d == dotted {
			known, on = true, a.On
			break
		}
	}
	if !known {
		p.bad("annotation-unknown", nearKey(name), "%s is not a key that Sightline knows", p.key)
		return
	}
	if k := p.entity.Ref.Kind; !allowedOn(on, k) {
		hint := "put it on a component, resource, API, template or system"
		switch on {
		case onOwner:
			hint = "put it on the group that owns the " + k
		case onWhole:
			hint = "put it on the system of the " + k + ", or on the group that owns it"
		}
		p.bad("annotation-kind", hint, "%s has no meaning on a %s", p.key, k)
		return
	}
	if p.value == "" {
		p.bad("annotation-empty", "give it a value or remove it", "the value is empty")
		return
	}
	if len(p.value) > 4096 && name != "slo" {
		p.bad("annotation-length", "", "the value has %d bytes; at most 4096 are read", len(p.value))
		return
	}
	indicator := ""
	if dotted && stem != "receiver" {
		var ok bool
		if indicator, ok = p.indicator(sub); !ok {
			return
		}
	}
	s := &p.out
	switch stem {
	case "profile":
		if !isName(p.value, "@") {
			p.bad("profile-name", `write for example "http-service"`, "%q is not a profile name", p.value)
			return
		}
		s.Profile = p.value
	case "objective":
		p.objective(indicator)
	case "composite":
		p.composite(indicator)
	case "window":
		if w, ok := p.window(); ok && dotted {
			put(p, &s.Windows, indicator, w)
		} else if ok {
			s.Window = w
		}
	case "selector":
		sel, err := parseSelector(p.value)
		if err != nil {
			hint := `write for example job="checkout",namespace="shop"`
			if strings.ContainsAny(p.value, "{}") {
				hint = "write the matchers without braces and metric name: " + `job="checkout"`
			}
			p.bad("selector-syntax", hint, "the selector cannot be read: %v", err)
		} else if dotted {
			put(p, &s.Selectors, indicator, sel)
		} else {
			s.Selector = sel
		}
	case "environment":
		if !isName(p.value, "") {
			p.bad("environment-name", `write for example "production"`, "%q is not an environment name", p.value)
			return
		}
		s.Environment = p.value
	case "tier":
		s.Tier = p.oneOf("tier", "1", "2", "3", "4")
	case "no-traffic":
		s.NoTraffic = p.oneOf("no-traffic", "ignore", "good", "bad")
	case "min-events":
		n, err := strconv.Atoi(p.value)
		if err != nil || !isDecimal(p.value) || n < 1 || n > 1_000_000_000 {
			p.bad("min-events-number", `write a whole number such as "50"`, "%q is not a number of events", p.value)
			return
		}
		s.MinEvents = n
	case "alerting":
		if v := p.oneOf("alerting", "page", "ticket", "off"); v != "" && dotted {
			put(p, &s.Alertings, indicator, v)
		} else if v != "" {
			s.Alerting = v
		}
	case "runbook":
		u, err := url.Parse(p.value)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(p.value, " \t\n") {
			p.bad("runbook-url", "write the whole address, with https://", "the runbook is not a web address")
			return
		}
		if u.User != nil {
			p.bad("runbook-url", "remove the user and password", "the runbook's address holds credentials")
			return
		}
		s.Runbook = p.value
	case "slo-ref":
		if strings.Contains(p.value, "://") {
			p.bad("slo-ref", "name a file beside catalog-info.yaml, as in ./slo.yaml", "slo-ref is a path and no address")
			return
		}
		if p.entity.Position.File == "" && p.entity.Documents[p.value] == nil {
			p.bad(RuleNotSupportedYet, "let Backstage put the document in place: "+Prefix+"slo: {$text: "+p.value+"}",
				"slo-ref is not supported yet for entities that come from Backstage's API")
			return
		}
		s.SLORef = p.value
	case "slo":
		s.SLOInline = p.value
	case "pipelines":
		if _, err := path.Match(p.value, ""); err != nil {
			p.bad("pipelines-pattern", `write "all" or a pattern such as "deploy-*"`, "%q is not a name pattern", p.value)
			return
		}
		s.Pipelines = p.value
	case "receiver":
		p.receiver(sub)
	case "office-hours":
		if why := checkHours(p.value); why != "" {
			p.bad("office-hours-syntax", `write for example "Mon-Fri 08:00-18:00 Europe/Zurich"`, "%q: %s", p.value, why)
			return
		}
		s.OfficeHours = p.value
	}
}

// put stores a value by indicator. Two spellings of one indicator are a Problem; the first in key order is used.
func put[V any](p *parser, m *map[string]V, indicator string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	if _, twice := (*m)[indicator]; twice {
		p.bad("indicator-twice", "remove one of the two spellings", "the indicator %s is set twice, with _ and with -", indicator)
		return
	}
	(*m)[indicator] = v
}

func (p *parser) indicator(s string) (string, bool) {
	ok := s != "" && len(s) <= 40
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		hint := "use lower-case letters, digits, _ and -, at most 40, beginning with a letter"
		p.bad("indicator-name", hint, "%q is not an indicator name", s)
		return "", false
	}
	return strings.ReplaceAll(s, "-", "_"), true
}

func (p *parser) oneOf(rule string, values ...string) string {
	if slices.Contains(values, p.value) {
		return p.value
	}
	hint := "write one of " + strings.Join(values, ", ")
	if n := nearest(p.value, values); n != "" {
		hint = fmt.Sprintf("write %q", n)
	}
	p.bad(rule+"-value", hint, "%q is not one of %s", p.value, strings.Join(values, ", "))
	return ""
}

func (p *parser) objective(indicator string) {
	if p.value == "off" {
		put(p, &p.out.Objectives, indicator, ObjectiveSetting{Off: true})
		return
	}
	percent, threshold, withThreshold := strings.Cut(p.value, "@")
	percent, threshold = strings.TrimSpace(percent), strings.TrimSpace(threshold)
	suffix := ""
	if withThreshold {
		suffix = "@" + threshold
	}
	timed := isTimed(indicator)
	if !isDecimal(percent) {
		hint := `write a percentage such as "99.9"`
		fixed := strings.TrimSpace(strings.TrimSuffix(strings.Replace(percent, ",", ".", 1), "%"))
		if strings.EqualFold(p.value, "off") {
			hint = `write "off"`
		} else if isDecimal(fixed) && isPercent(fixed) {
			hint = fmt.Sprintf("write %q", fixed+suffix)
		} else if _, ok := seconds(percent); ok && timed && !withThreshold {
			hint = fmt.Sprintf("write %q", "99@"+percent)
		}
		p.bad("objective-percent", hint, "%q is not a number", percent)
		return
	}
	value, _ := new(big.Rat).SetString(percent)
	switch {
	case value.Sign() == 0:
		p.bad("objective-percent", `to remove a default write "off"`, "the target 0 would always be met")
		return
	case value.Cmp(big.NewRat(100, 1)) >= 0:
		hint := `write a percentage below 100, such as "99.9"`
		if timed && !withThreshold {
			hint = fmt.Sprintf("write the target and the threshold with its unit, such as %q", "99@"+percent+"ms")
		}
		p.bad("objective-percent", hint, "the target %s is not below 100 percent, so there is no error budget", percent)
		return
	case value.Cmp(big.NewRat(1, 1)) < 0:
		hint := `write a percentage such as "99.9"`
		if value.Cmp(big.NewRat(1, 100)) >= 0 {
			hint = fmt.Sprintf("write %q", shift(percent, 2)+suffix)
		}
		p.bad("objective-percent", hint, "the target %s is a fraction; targets are percentages", percent)
		return
	}
	setting := ObjectiveSetting{Percent: percent}
	if withThreshold {
		text, ok := seconds(threshold)
		if !ok && isDecimal(threshold) {
			if timed {
				p.bad("objective-threshold", fmt.Sprintf("write %q", percent+"@"+threshold+"ms"), "the threshold %s has no unit", threshold)
				return
			}
			text, ok = shift(threshold, 0), true
		}
		if !ok {
			p.bad("objective-threshold", "write a number with ms, s, m, h or d, such as \"99@300ms\"", "%q is not a threshold", threshold)
			return
		}
		if text == "0" {
			p.bad("objective-threshold", "", "the threshold is 0")
			return
		}
		setting.Threshold = text
	}
	put(p, &p.out.Objectives, indicator, setting)
}

// isTimed tells whether the threshold of an indicator must be a duration.
func isTimed(indicator string) bool {
	return slices.ContainsFunc(strings.Split(indicator, "_"), func(w string) bool { return w == "latency" || w == "duration" })
}

func (p *parser) window() (string, bool) {
	switch p.value {
	case "calendar-week", "calendar-month", "calendar-quarter":
		return p.value, true
	}
	digits := strings.TrimRight(p.value, "dw")
	n, err := strconv.Atoi(digits)
	unit := p.value[len(digits):]
	if err != nil || !isDecimal(digits) || unit != "d" && unit != "w" {
		hint := `write days or weeks, such as "30d" or "4w"`
		if err == nil && n >= 7 && n <= 366 && unit == "" {
			hint = fmt.Sprintf("write %q", digits+"d")
		}
		p.bad("window-syntax", hint, "%q is not a window", p.value)
		return "", false
	}
	if n > 366 {
		p.bad("window-length", "", "the window %s is longer than a year", p.value)
		return "", false
	}
	if unit == "w" {
		n *= 7
	}
	switch {
	case n < 7:
		p.bad("window-length", `write "7d" or longer`, "the window %s is shorter than 7 days", p.value)
		return "", false
	case n > 366:
		p.bad("window-length", "", "the window %s is longer than a year", p.value)
		return "", false
	}
	return strconv.Itoa(n) + "d", true
}

func (p *parser) receiver(kind string) {
	kinds := []string{"email", "msteams", "opsgenie", "pagerduty", "slack", "webhook"}
	if !slices.Contains(kinds, kind) {
		hint := "the kinds are " + strings.Join(kinds, ", ")
		if n := nearest(kind, kinds); n != "" {
			hint = fmt.Sprintf("write %sreceiver.%s", Prefix, n)
		}
		p.bad("receiver-kind", hint, "%q is not a kind of receiver", kind)
		return
	}
	v := p.value
	// The value itself stays out of the message: it may be a secret.
	switch {
	case strings.Contains(v, "://") || (kind == "pagerduty" && len(v) == 32 && strings.Trim(strings.ToLower(v), "0123456789abcdef") == "") || strings.HasPrefix(v, "xoxb-"):
		p.bad("receiver-secret", "keep it in a file that the configuration names, write its name here, and replace the secret, which is now known",
			"the value looks like a secret")
		return
	case strings.ContainsAny(v, "\n\r\t\x00"):
		p.bad("receiver-value", "", "the value holds a control character")
		return
	case kind == "email" && !isAddress(v):
		p.bad("receiver-value", `write an address such as "team@example.com"`, "the value is not a mail address")
		return
	}
	if p.out.Receivers == nil {
		p.out.Receivers = map[string]string{}
	}
	p.out.Receivers[kind] = v
}

func isAddress(s string) bool {
	user, host, ok := strings.Cut(s, "@")
	return ok && user != "" && host != "" && !strings.ContainsAny(s, " ,;<>") && !strings.Contains(host, "@")
}

// checkHours says what is wrong with office hours; "" when nothing is. A time zone that does not exist
// would make Alertmanager refuse the routes of everybody.
func checkHours(s string) string {
	fields := strings.Fields(s)
	if len(fields) != 2 && len(fields) != 3 {
		return "it needs days, hours and a time zone"
	}
	days := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for part := range strings.SplitSeq(fields[0], ",") {
		first, last, span := strings.Cut(strings.ToLower(part), "-")
		if !slices.Contains(days, first) || span && !slices.Contains(days, last) {
			return fmt.Sprintf("%q is not a day or a span of days", part)
		}
	}
	from, to, ok := strings.Cut(fields[1], "-")
	a, okA := clock(from)
	b, okB := clock(to)
	if !ok || !okA || !okB {
		return fmt.Sprintf("%q is not a span of hours", fields[1])
	}
	if a >= b {
		return "the hours end before they begin"
	}
	if len(fields) < 3 {
		return ""
	}
	if _, err := time.LoadLocation(fields[2]); err != nil || fields[2] == "Local" {
		return fmt.Sprintf("%q is not a time zone", fields[2])
	}
	return ""
}

// clock reads "08:00" as minutes of the day; 24:00 is the end of it.
func clock(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' || !isDecimal(s[:2]) || !isDecimal(s[3:]) {
		return 0, false
	}
	h, _ := strconv.Atoi(s[:2])
	m, _ := strconv.Atoi(s[3:])
	return h*60 + m, m < 60 && h*60+m <= 24*60
}

// isDecimal tells whether s is digits [ "." digits ], of a sane length.
func isDecimal(s string) bool {
	whole, fraction, point := strings.Cut(s, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return len(s) <= 24 && digits(whole) && (!point || digits(fraction))
}

func isPercent(s string) bool {
	v, ok := new(big.Rat).SetString(s)
	return ok && v.Sign() > 0 && v.Cmp(big.NewRat(100, 1)) < 0
}

// seconds reads a duration such as "300ms" as exact seconds in decimal text, "0.3".
func seconds(s string) (string, bool) {
	for _, u := range []struct {
		unit   string
		factor int64
		places int
	}{{"ms", 1, -3}, {"s", 1, 0}, {"m", 60, 0}, {"h", 3600, 0}, {"d", 86400, 0}} {
		number, ok := strings.CutSuffix(s, u.unit)
		if !ok || !isDecimal(number) {
			continue
		}
		whole, fraction, _ := strings.Cut(number, ".")
		n, _ := new(big.Int).SetString(whole+fraction, 10)
		return shift(n.Mul(n, big.NewInt(u.factor)).String(), u.places-len(fraction)), true
	}
	return "", false
}

// shift multiplies a decimal number in text by ten to the power of places, exactly, and drops needless zeros.
func shift(s string, places int) string {
	whole, fraction, _ := strings.Cut(s, ".")
	digits, point := whole+fraction, len(whole)+places
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole, fraction = strings.TrimLeft(digits[:point], "0"), strings.TrimRight(digits[point:], "0")
	if whole == "" {
		whole = "0"
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

// isName tells whether s is a short lower-case name of letters, digits, -, _ and the extra characters.
func isName(s, extra string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[0] == '_' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_"+extra) == ""
}

func allowedOn(on, kind string) bool {
	owner := kind == "group" || kind == "user"
	switch on {
	case onOwner:
		return owner
	case onInherited:
		return kind != "user" && kind != "location"
	case onWhole:
		return kind == "system" || kind == "group"
	default:
		return !owner && kind != "location"
	}
}

// nearKey is the hint for an unknown key.
func nearKey(name string) string {
	if indicator, ok := strings.CutPrefix(name, "slo-"); ok && indicator != "" && name != "slo-ref" && fuzzy.LevenshteinDistance(name, "slo-ref") > 1 {
		return fmt.Sprintf("write %sobjective.%s", Prefix, indicator)
	}
	stem, sub, dotted := strings.Cut(name, ".")
	var stems []string
	for _, a := range AnnotationTable() {
		s, placeholder, d := strings.Cut(a.Key, ".")
		switch {
		case s == stem && d && !dotted:
			return fmt.Sprintf("write %s%s, such as %s%s.%s", Prefix, a.Key, Prefix, stem, map[string]string{"<indicator>": "availability", "<kind>": "slack"}[placeholder])
		case s == stem && !d && dotted:
			return fmt.Sprintf("write %s%s; it has no form for one indicator", Prefix, stem)
		case d == dotted:
			stems = append(stems, s)
		}
	}
	near := nearest(stem, stems)
	if near == "" {
		return "the keys are listed by: sightline explain annotations"
	}
	if dotted {
		near += "." + sub
	}
	return "did you mean " + Prefix + near + "?"
}

// nearest finds the candidate that differs from s in few letters; "" when none is near.
func nearest(s string, candidates []string) string {
	best, distance := "", max(1, min(3, len(s)/2))+1
	if len(s) > 64 {
		return ""
	}
	for _, c := range candidates {
		if d := fuzzy.LevenshteinDistance(strings.ToLower(s), c); d < distance {
			best, distance = c, d
		}
	}
	return best
}
