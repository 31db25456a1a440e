package slo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

// A documentSLO is one SLO of an slo-ref document, with everything that can be carried over exactly.
type documentSLO struct {
	Indicator    string
	Title        string
	Target       Target
	Window       Window // zero where the document names none
	counts       counts
	NoTraffic    NoTraffic // "" where the document does not say
	MinEvents    int
	MaxSeverity  Severity // "" where the document does not limit it
	Runbook      string
	Line, Column int
}

// objective is what the document says of an objective; its queries depend on what no traffic means in the end.
func (s *documentSLO) objective() Objective {
	return Objective{
		Indicator: s.Indicator, Title: s.Title, Target: s.Target, Window: s.Window, Runbook: s.Runbook,
		Kind: s.counts.kind, Threshold: s.counts.threshold,
		NoTraffic: cmp.Or(s.NoTraffic, s.counts.idle), MinEvents: s.MinEvents, MaxSeverity: cmp.Or(s.MaxSeverity, SeverityPage),
	}
}

// A documentReader collects what a document says. Its problems have a line and column of the document only.
type documentReader struct {
	entity   catalog.Ref // that the document stands beside
	slos     []documentSLO
	problems []catalog.Problem
}

// readDocument reads the SLOs of a sloth prometheus/v1, OpenSLO v1 or Pyrra v1alpha1 document, which may be several YAML documents.
// Whatever it does not carry over exactly is a Problem: an error where an SLO is lost, a warning where a part of it is,
// a note where Sightline has its own way. The document belongs to the entity.
func readDocument(entity catalog.Ref, body []byte) ([]documentSLO, []catalog.Problem) {
	r := documentReader{entity: entity}
	var open []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			if n == 0 {
				r.say(nil, catalog.SeverityError, "slo-document-syntax", "the document is empty", "write a sloth prometheus/v1, OpenSLO v1 or Pyrra v1alpha1 document")
			}
			break
		}
		if err != nil {
			at := &yaml.Node{Line: lineOf(err)}
			r.say(at, catalog.SeverityError, "slo-document-syntax", "the document is not YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "mend it; what follows it is not read")
			break
		}
		if len(doc.Content) == 0 {
			continue
		}
		open = append(open, r.object(doc.Content[0])...)
	}
	r.openSLO(open)
	return r.slos, r.problems
}

// object reads one object, or gives it back where it is OpenSLO's, of which one may refer to others.
func (r *documentReader) object(root *yaml.Node) []*yaml.Node {
	version, api := scalar(lookup(root, "version")), scalar(lookup(root, "apiVersion"))
	switch {
	case version == "prometheus/v1":
		r.sloth(root)
	case api == "openslo/v1":
		return []*yaml.Node{root}
	case strings.HasPrefix(api, "pyrra.dev/"):
		r.pyrra(root)
	case api == "v1" && scalar(lookup(root, "kind")) == "List":
		return r.list(root)
	case strings.HasPrefix(api, "sloth.slok.dev/"):
		r.say(lookup(root, "apiVersion"), catalog.SeverityError, "slo-document-version", "Kubernetes objects of sloth are not read", `write the spec as a document of its own, with version: "prometheus/v1"`)
	case strings.HasPrefix(api, "openslo"):
		r.say(lookup(root, "apiVersion"), catalog.SeverityError, "slo-document-version", fmt.Sprintf("OpenSLO documents of version %q are not read", api), `write apiVersion: openslo/v1`)
	default:
		r.say(root, catalog.SeverityError, "slo-document-version", "this is neither a sloth, nor an OpenSLO, nor a Pyrra document", `it begins with version: "prometheus/v1", apiVersion: openslo/v1 or apiVersion: pyrra.dev/v1alpha1`)
	}
	return nil
}

// list reads what kubectl writes of several objects.
func (r *documentReader) list(root *yaml.Node) (open []*yaml.Node) {
	items := lookup(root, "items")
	if items.Kind != yaml.SequenceNode || len(items.Content) == 0 {
		r.say(root, catalog.SeverityError, "slo-document-syntax", "the list has no items", "")
		return nil
	}
	for _, n := range items.Content {
		if n = resolve(n); scalar(lookup(n, "kind")) == "List" {
			r.say(n, catalog.SeverityError, "slo-document-syntax", "a list in a list is not read", "")
			continue
		}
		open = append(open, r.object(n)...)
	}
	return open
}

var yamlLine = regexp.MustCompile(`line (\d+):`)

func lineOf(err error) int {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits only
	return n
}

func (r *documentReader) say(n *yaml.Node, severity catalog.Severity, rule, message, hint string) {
	p := catalog.Problem{Severity: severity, Rule: rule, Message: message, Hint: hint}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	r.problems = append(r.problems, p)
}

// leftOut says that a part of the document has no effect; note marks what Sightline does in its own way.
func (r *documentReader) leftOut(n *yaml.Node, note bool, what, hint string) {
	severity := catalog.SeverityWarning
	if note {
		severity = catalog.SeverityInfo
	}
	r.say(n, severity, "slo-document-left-out", what, hint)
}

func (r *documentReader) notSupported(n *yaml.Node, what, hint string) {
	r.say(n, catalog.SeverityError, catalog.RuleNotSupportedYet, what+" not supported yet", hint)
}

// service says that the document's service is left out, unless it names the entity.
func (r *documentReader) service(n *yaml.Node, name string) {
	if !strings.EqualFold(name, r.entity.Name) && name != r.entity.Dotted() {
		r.leftOut(n, true, fmt.Sprintf("the service %q is left out: sloth_service is the entity", name), "")
	}
}

// add keeps an SLO unless its name is not usable or taken.
func (r *documentReader) add(n *yaml.Node, name string, s documentSLO) {
	indicator := strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(name))
	if !indicatorName.MatchString(indicator) {
		r.say(n, catalog.SeverityError, "slo-document-name", fmt.Sprintf("the name %q gives no indicator name", name), "use letters, digits, _ and -, at most 40, beginning with a letter")
		return
	}
	if slices.ContainsFunc(r.slos, func(o documentSLO) bool { return o.Indicator == indicator }) {
		r.say(n, catalog.SeverityError, "slo-document-name", fmt.Sprintf("the indicator %s is in the document twice; the first is used", indicator), "names that differ only in case, -, _ or . are the same")
		return
	}
	s.Indicator, s.Line, s.Column = indicator, n.Line, n.Column
	r.slos = append(r.slos, s)
}

var indicatorName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// decode reads a node into a type with JSON tags and reports its unknown keys; false when it has the wrong shape.
func decode[T any](r *documentReader, n *yaml.Node, out *T) bool {
	var plain any
	err := n.Decode(&plain)
	if err == nil {
		var body []byte
		if body, err = json.Marshal(plain); err == nil {
			err = json.Unmarshal(body, out)
		}
	}
	if err != nil {
		at, message := n, strings.TrimPrefix(err.Error(), "yaml: ")
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			at = lookup(n, strings.Split(kind.Field, ".")...)
			message = fmt.Sprintf("%s cannot be of type %s", kind.Field, kind.Value)
		}
		r.say(at, catalog.SeverityError, "slo-document-syntax", "the document cannot be read: "+message, "")
		return false
	}
	r.unknownKeys(n, reflect.TypeFor[T]())
	return true
}

// unknownKeys reports the keys of mappings that the type does not have.
func (r *documentReader) unknownKeys(n *yaml.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	n = resolve(n)
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			r.unknownKeys(c, t.Elem())
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := jsonFields(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if f, ok := fields[key.Value]; ok {
				r.unknownKeys(n.Content[i+1], f)
			} else if key.Value != "<<" {
				r.say(key, catalog.SeverityError, "slo-document-key", fmt.Sprintf("the key %q is not known here", key.Value), "known are "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			}
		}
	}
}

func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out[name] = f.Type
		}
	}
	return out
}

func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// lookup follows keys, and indexes written as numbers, as far as they lead; it never gives nil for a node.
func lookup(n *yaml.Node, path ...string) *yaml.Node {
	n = resolve(n)
	for _, step := range path {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next = resolve(n.Content[i+1])
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
				next = resolve(n.Content[i])
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// scalar is the text of a scalar node; "" for any other.
func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

var plainDecimal = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,15})?$`)

// target reads the exact decimal text of a target, which is a percentage or, with ratio, a share of 1.
func (r *documentReader) target(n *yaml.Node, ratio bool) (Target, bool) {
	text := scalar(n)
	if ratio && plainDecimal.MatchString(text) {
		share, _ := new(big.Rat).SetString(text)
		text = decimal(share.Mul(share, big.NewRat(100, 1)))
	}
	t, err := ParseTarget(text)
	if err != nil {
		hint := "write a percentage such as 99.9"
		if ratio {
			hint = "write a share such as 0.999"
		}
		r.say(n, catalog.SeverityError, "slo-document-target", err.Error(), hint)
	}
	return t, err == nil
}
