package slo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lithammer/fuzzysearch/fuzzy"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

// An ExclusionFile is a file of exclusions: YAML documents, one for each.
type ExclusionFile struct {
	Name string
	Body []byte
}

// exclusionKeys are the keys of a document, in the order of the docs.
var exclusionKeys = []string{"kind", "entity", "owner", "system", "indicator", "from", "to", "repeat", "until", "timezone", "by", "reason", "link"}

// An exclusionReader reads one file.
type exclusionReader struct {
	b    *builder
	file string

	doc    map[string]*yaml.Node // the document that is being read
	failed bool
}

// exclude gives the objectives the exclusions of files. A document with an error excludes nothing.
func (b *builder) exclude(files []ExclusionFile) {
	for _, f := range files {
		r := exclusionReader{b: b, file: f.Name}
		dec := yaml.NewDecoder(bytes.NewReader(f.Body))
		for {
			var doc yaml.Node
			err := dec.Decode(&doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.say(&yaml.Node{Line: lineOf(err)}, catalog.SeverityError, "exclusion-syntax", "the file is not YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "mend it; what follows is not read")
				break
			}
			if len(doc.Content) > 0 && (doc.Content[0].Kind != yaml.ScalarNode || doc.Content[0].Tag != "!!null") {
				r.read(doc.Content[0])
			}
		}
	}
	for i := range b.out {
		slices.SortFunc(b.out[i].Exclusions, func(x, y Exclusion) int { return x.compare(&y) })
	}
}

func (r *exclusionReader) say(n *yaml.Node, severity catalog.Severity, rule, message, hint string) {
	r.failed = r.failed || severity == catalog.SeverityError
	r.b.problems = append(r.b.problems, catalog.Problem{
		Severity: severity, Owner: r.b.g.PlatformOwner(), File: r.file, Line: n.Line, Column: n.Column, Rule: rule, Message: message, Hint: hint,
	})
}

func (r *exclusionReader) read(root *yaml.Node) {
	r.failed, r.doc = false, map[string]*yaml.Node{}
	if root.Kind != yaml.MappingNode {
		r.say(root, catalog.SeverityError, "exclusion-syntax", "an exclusion is a mapping of keys to values", "the keys are "+strings.Join(exclusionKeys, ", "))
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], resolve(root.Content[i+1])
		switch {
		case !slices.Contains(exclusionKeys, key.Value):
			hint := "the keys are " + strings.Join(exclusionKeys, ", ")
			if near := nearest(key.Value, exclusionKeys); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			r.say(key, catalog.SeverityError, "exclusion-key", fmt.Sprintf("the key %q is not known here", key.Value), hint)
		case r.doc[key.Value] != nil:
			r.say(key, catalog.SeverityError, "exclusion-key", fmt.Sprintf("the key %q stands here twice", key.Value), "write a document of its own for each exclusion, with --- between them")
		case value.Kind != yaml.ScalarNode || strings.TrimSpace(value.Value) == "" || value.Tag == "!!null":
			r.say(key, catalog.SeverityError, "exclusion-value", fmt.Sprintf("%s has no single value", key.Value), "write one value, or leave the key out")
		default:
			r.doc[key.Value] = value
		}
	}
	x := Exclusion{By: r.text(root, "by", "say who decided it, as in by: user:default/anna"), Reason: r.text(root, "reason", "say why, for those who read the budget later"), Link: r.link()}
	x.File, x.Line, x.Column = r.file, root.Line, root.Column
	x.Kind = r.oneOf(root, "kind", ExclusionMaintenance, ExclusionCorrection)
	r.times(root, &x)
	if found := r.objectives(root); !r.failed {
		for _, o := range found {
			o.Exclusions = append(o.Exclusions, x)
		}
	}
}

// text gives a value that has to be there, in one line.
func (r *exclusionReader) text(root *yaml.Node, key, hint string) string {
	n := r.doc[key]
	if n == nil {
		r.say(root, catalog.SeverityError, "exclusion-"+key, "the exclusion does not say "+map[string]string{"by": "who decided it", "reason": "why"}[key], hint)
		return ""
	}
	return strings.Join(strings.Fields(n.Value), " ")
}

func (r *exclusionReader) link() string {
	n := r.doc["link"]
	if n == nil {
		return ""
	}
	if u, err := url.Parse(n.Value); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		r.say(n, catalog.SeverityError, "exclusion-link", fmt.Sprintf("%q is not an http or https URL", n.Value), "write it like https://tickets.example.com/CHG-1")
	}
	return n.Value
}

// oneOf gives the value of a key that has to be one of two.
func (r *exclusionReader) oneOf(root *yaml.Node, key, a, b string) string {
	n, hint := r.doc[key], fmt.Sprintf("write %s: %s or %s: %s", key, a, key, b)
	switch {
	case n == nil:
		r.say(root, catalog.SeverityError, "exclusion-"+key, "the exclusion has no "+key, hint)
	case n.Value == a || n.Value == b:
		return n.Value
	default:
		r.say(n, catalog.SeverityError, "exclusion-"+key, fmt.Sprintf("%q is not %s or %s", n.Value, a, b), hint)
	}
	return ""
}

func (r *exclusionReader) time(root *yaml.Node, key string) time.Time {
	n, hint := r.doc[key], "write it like 2026-03-05T22:00:00+01:00"
	if n == nil {
		r.say(root, catalog.SeverityError, "exclusion-"+key, "the exclusion has no "+key, hint)
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	switch {
	case err != nil:
		r.say(n, catalog.SeverityError, "exclusion-"+key, fmt.Sprintf("%s: %q is not a time with a zone (RFC 3339)", key, n.Value), hint)
	case !t.Equal(t.Truncate(time.Minute)):
		r.say(n, catalog.SeverityError, "exclusion-"+key, fmt.Sprintf("%s: %q is not a whole minute", key, n.Value), hint)
	case t.Year() < 2024 || t.Year() > 2044:
		r.say(n, catalog.SeverityError, "exclusion-"+key, fmt.Sprintf("%s: the year %d is not between 2024 and 2044", key, t.Year()), hint)
	default:
		return t.UTC()
	}
	return time.Time{}
}

// times reads when an exclusion is.
func (r *exclusionReader) times(root *yaml.Node, x *Exclusion) {
	x.From, x.To = r.time(root, "from"), r.time(root, "to")
	if !x.From.IsZero() && !x.To.IsZero() && !x.From.Before(x.To) {
		r.say(r.doc["to"], catalog.SeverityError, "exclusion-to", "to is not after from", "from is the first minute that is left out, to the first that counts again")
	}
	repeat := r.doc["repeat"]
	if repeat == nil {
		for _, key := range []string{"until", "timezone"} {
			if n := r.doc[key]; n != nil {
				r.say(n, catalog.SeverityError, "exclusion-"+key, key+" belongs to repeat, which is not set", "add repeat: weekly, or leave it out")
			}
		}
		return
	}
	switch {
	case repeat.Value != "weekly":
		r.say(repeat, catalog.SeverityError, "exclusion-repeat", fmt.Sprintf("%q is not weekly", repeat.Value), "write repeat: weekly, or leave it out")
	case x.Kind == ExclusionCorrection:
		r.say(repeat, catalog.SeverityError, "exclusion-repeat", "a correction does not repeat: each has a reason of its own", "write kind: maintenance, or a document for each correction")
	case x.To.Sub(x.From) > 6*24*time.Hour:
		r.say(r.doc["to"], catalog.SeverityError, "exclusion-to", "what repeats every week must be over in six days", "write a shorter one")
	}
	x.Weekly, x.Zone = true, r.b.opts.Zone
	if n := r.doc["timezone"]; n != nil {
		zone, err := time.LoadLocation(n.Value)
		if err != nil || n.Value == "Local" {
			r.say(n, catalog.SeverityError, "exclusion-timezone", fmt.Sprintf("there is no time zone %q", n.Value), "write an IANA name such as Europe/Zurich")
		}
		x.Zone = zone
	}
	if r.doc["until"] != nil {
		if x.Until = r.time(root, "until"); !x.Until.IsZero() && !x.Until.After(x.From) {
			r.say(r.doc["until"], catalog.SeverityError, "exclusion-until", "until is not after from", "it is the time from which on there is no further one")
		}
	}
}

// objectives gives those that the document is about. One that is about none is a Problem.
func (r *exclusionReader) objectives(root *yaml.Node) []*Objective {
	var key string
	for _, k := range []string{"entity", "owner", "system"} {
		switch {
		case r.doc[k] == nil:
		case key != "":
			r.say(r.doc[k], catalog.SeverityError, "exclusion-scope", fmt.Sprintf("%s and %s are both set", key, k), "keep one, and write a document for the other")
			return nil
		default:
			key = k
		}
	}
	if key == "" {
		r.say(root, catalog.SeverityError, "exclusion-scope", "the exclusion does not say what it applies to", "set entity, owner or system, as in entity: component:default/checkout")
		return nil
	}
	n := r.doc[key]
	ref, err := catalog.ParseRef(n.Value, map[string]string{"entity": "component", "owner": "group", "system": "system"}[key])
	if err != nil {
		r.say(n, catalog.SeverityError, "exclusion-"+key, err.Error(), "")
		return nil
	}
	refs := map[string]bool{}
	for e := range r.b.g.Entities() {
		if key != "system" || e.Ref.Kind == "system" {
			refs[e.Ref.String()] = true
		}
	}
	if !refs[ref.String()] {
		hint := "write it as it stands in the catalog"
		if near := nearest(ref.String(), slices.Sorted(maps.Keys(refs))); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.say(n, catalog.SeverityError, "exclusion-"+key, fmt.Sprintf("%s: the catalog has no %s", key, ref), hint)
		return nil
	}
	var found []*Objective
	indicators := map[string]bool{}
	wanted := r.doc["indicator"]
	for i := range r.b.out {
		o := &r.b.out[i]
		if of := map[string]catalog.Ref{"entity": o.Entity, "owner": o.Owner, "system": o.System}[key]; of != ref || o.Composite != nil { // a composite follows its members
			continue
		}
		indicators[o.Indicator] = true
		if wanted == nil || o.Indicator == strings.ReplaceAll(wanted.Value, "-", "_") {
			found = append(found, o)
		}
	}
	if len(found) > 0 || r.failed {
		return found
	}
	names := slices.Sorted(maps.Keys(indicators))
	switch {
	case len(names) == 0:
		r.say(n, catalog.SeverityWarning, "exclusion-unused", fmt.Sprintf("%s %s has no objective: nothing is left out", key, ref), "")
	default:
		hint := "the indicators are " + strings.Join(names, ", ")
		if near := nearest(wanted.Value, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.say(wanted, catalog.SeverityError, "exclusion-indicator", fmt.Sprintf("%s %s has no objective %q", key, ref, wanted.Value), hint)
	}
	return nil
}

// nearest finds the candidate that differs from s in the fewest letters, at most a third of them; "" when none is near.
func nearest(s string, candidates []string) string {
	best, distance := "", max(1, min(3, len(s)/3))+1
	for _, c := range candidates {
		if d := fuzzy.LevenshteinDistance(s, c); d < distance {
			best, distance = c, d
		}
	}
	return best
}
