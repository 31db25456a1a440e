// Package alertmanager merges a plan's receivers and routes into an alertmanager.yml that people keep. What is Sightline's
// stands between the lines Begin and End; every other byte of the file stays as it is. Below the marker route, the one
// whose receiver is Fallback, stand the routes of the owners. Before a merged file replaces the old one, Prove shows that
// owners reach their receivers and that nobody else's alerts go elsewhere.
package alertmanager

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fallback is the receiver of the marker route; it gets what no owner's route takes.
const Fallback = "sightline-fallback"

// The lines around what is Sightline's.
const (
	Begin = "# BEGIN sightline: generated from the software catalog; changes are overwritten."
	End   = "# END sightline"
)

// prefix stands before the names of receivers and time intervals that are Sightline's, and unrouted is the one of them
// that sends nothing; alerts has the same.
const (
	prefix   = "sightline/"
	unrouted = prefix + "unrouted"
)

const (
	ownerMatcher = `owner=~"(group|user):.+"` // what is routed to owners
	burnMatcher  = `sloth_id!=""`             // what the rule of inhibition is for
)

// A MergeError is a file that cannot take Sightline's part.
type MergeError struct{ Msg, hint string }

// Error says why.
func (e *MergeError) Error() string { return e.Msg }

// Hint says what to write instead.
func (e *MergeError) Hint() string { return e.hint }

func refuse(hint, format string, args ...any) error {
	return &MergeError{fmt.Sprintf(format, args...), hint}
}

// MarkerHint shows the route that people add.
const markerHint = "add one route and one receiver: `route: {routes: [{receiver: " + Fallback + "}]}`, one key per line, and `receivers: [{name: " + Fallback + "}]`"

// Merge puts what a generated alertmanager.yml says into a user's file, in place of what an earlier Merge put there.
// Merging twice gives what merging once gives.
func Merge(user, generated []byte) ([]byte, error) {
	plain, err := Strip(user)
	if err != nil {
		return nil, err
	}
	ours, err := newParts(generated)
	if err != nil {
		return nil, err
	}
	merged, err := insert(plain, ours)
	if err != nil {
		return nil, err
	}
	if err := unchangedButFor(ours, plain, merged); err != nil {
		return nil, err
	}
	return merged, nil
}

// Strip takes what Sightline put into a file out of it.
func Strip(user []byte) ([]byte, error) {
	var out []byte
	inside := false
	for line := range bytes.Lines(user) {
		switch strings.TrimSpace(string(line)) {
		case Begin:
			if inside {
				return nil, refuse("delete Sightline's part by hand", "the line %q stands twice without %q between", Begin, End)
			}
			inside = true
			continue
		case End:
			if !inside {
				return nil, refuse("delete Sightline's part by hand", "the line %q stands without %q before", End, Begin)
			}
			inside = false
			continue
		}
		if !inside {
			out = append(out, line...)
		}
	}
	if inside {
		return nil, refuse("delete Sightline's part by hand", "the line %q is missing", End)
	}
	return out, nil
}

// readTop reads the one document of a file, whose top is a mapping.
func readTop(file []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(file))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, refuse("write an alertmanager.yml with a route and a receiver", "the file is empty")
		}
		return nil, fmt.Errorf("read the configuration of Alertmanager: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, refuse("keep one document", "the file holds more than one YAML document")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, refuse("write an alertmanager.yml with a route and a receiver", "the file is not a YAML mapping")
	}
	return doc.Content[0], nil
}

// value gives the value of a key of a mapping, with aliases resolved, and its key; nil where there is none.
func value(m *yaml.Node, name string) (key, val *yaml.Node) {
	m = resolve(m)
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i], resolve(m.Content[i+1])
		}
	}
	return nil, nil
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func text(m *yaml.Node, name string) string {
	_, v := value(m, name)
	if v == nil || v.Kind != yaml.ScalarNode {
		return ""
	}
	return v.Value
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// parts are Sightline's nodes in the form that they have in a merged file: lists of items.
type parts struct {
	routes, inhibit, intervals, receivers []*yaml.Node
}

// newParts takes a generated configuration apart. Alerts that it sends nowhere stay with the marker route, and what it
// says globally about Slack and mail goes into its receivers, because the user's global part is the user's.
func newParts(generated []byte) (*parts, error) {
	top, err := readTop(generated)
	if err != nil {
		return nil, fmt.Errorf("generated configuration: %w", err)
	}
	_, root := value(top, "route")
	if root == nil || root.Kind != yaml.MappingNode {
		return nil, errors.New("generated configuration: it has no route")
	}
	p := &parts{}
	owners := mapping("matchers", list(quoted(ownerMatcher)))
	for i := 0; i < len(root.Content); i += 2 {
		if key, v := root.Content[i], root.Content[i+1]; key.Value != "routes" {
			owners.Content = append(owners.Content, key, v)
			continue
		}
		below := list()
		for _, r := range items(root.Content[i+1]) {
			if isWatchdog(r) {
				p.routes = append(p.routes, r)
			} else {
				below.Content = append(below.Content, r)
			}
		}
		if len(below.Content) > 0 {
			owners.Content = append(owners.Content, root.Content[i], below)
		}
	}
	p.routes = append(p.routes, owners)
	for _, r := range p.routes {
		inheritUnrouted(r)
	}
	_, inhibit := value(top, "inhibit_rules")
	for _, r := range items(inhibit) {
		for _, side := range []string{"source_matchers", "target_matchers"} {
			if _, m := value(r, side); m != nil {
				m.Content = append(m.Content, quoted(burnMatcher))
			}
		}
		p.inhibit = append(p.inhibit, r)
	}
	_, intervals := value(top, "time_intervals")
	p.intervals = items(intervals)
	_, global := value(top, "global")
	_, receivers := value(top, "receivers")
	for _, r := range items(receivers) {
		if text(r, "name") == unrouted {
			continue
		}
		own(r, "slack_configs", "api_url_file", text(global, "slack_api_url_file"), "api_url_file")
		own(r, "email_configs", "smarthost", text(global, "smtp_smarthost"), "")
		own(r, "email_configs", "from", text(global, "smtp_from"), "")
		p.receivers = append(p.receivers, r)
	}
	return p, nil
}

// own sets a key of all of a receiver's configurations of a kind, where it has a value and they do not have it.
func own(receiver *yaml.Node, kind, key, val, unless string) {
	_, configs := value(receiver, kind)
	for _, c := range items(configs) {
		if has, _ := value(c, unless); val != "" && has == nil {
			c.Content = append(c.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: val})
		}
	}
}

func isWatchdog(route *yaml.Node) bool {
	_, m := value(route, "matchers")
	return slices.ContainsFunc(items(m), func(n *yaml.Node) bool { return strings.HasPrefix(n.Value, "alertname=") })
}

// inheritUnrouted lets alerts that would go nowhere go where the marker route sends them.
func inheritUnrouted(route *yaml.Node) {
	for i := 0; i+1 < len(route.Content); i += 2 {
		switch key, v := route.Content[i], route.Content[i+1]; {
		case key.Value == "receiver" && v.Value == unrouted:
			v.Value = Fallback
		case key.Value == "routes":
			for _, r := range items(v) {
				inheritUnrouted(r)
			}
		}
	}
}

func mapping(key string, v *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, v}}
}

func list(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}

func quoted(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.SingleQuotedStyle, Value: s}
}

// An insertion is a block that goes before a line, counted from 1.
type insertion struct {
	line int
	text []byte
}

// insert puts the parts into a file that has none.
func insert(plain []byte, ours *parts) ([]byte, error) {
	top, err := readTop(plain)
	if err != nil {
		return nil, err
	}
	if top.Style&yaml.FlowStyle != 0 || top.Column != 1 {
		return nil, refuse("write it with one key per line", "the file is one { } or is indented")
	}
	marker, err := findMarker(top)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(plain, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	} else {
		lines[n-1] = append(bytes.Clone(lines[n-1]), '\n')
	}
	_, receiver := value(marker, "receiver")
	var all []insertion
	routes, err := block(marker.Column-1, mapping("routes", list(ours.routes...)))
	if err != nil {
		return nil, err
	}
	all = append(all, insertion{receiver.Line + 1, routes})
	var end []insertion // keys that the file lacks, after what goes into its last list
	for _, part := range []struct {
		key   string
		items []*yaml.Node
	}{{"inhibit_rules", ours.inhibit}, {"time_intervals", ours.intervals}, {"receivers", ours.receivers}} {
		if len(part.items) == 0 {
			continue
		}
		at := slices.IndexFunc(top.Content, func(n *yaml.Node) bool { return n.Value == part.key })
		if at < 0 || at%2 != 0 {
			text, err := block(0, mapping(part.key, list(part.items...)))
			if err != nil {
				return nil, err
			}
			end = append(end, insertion{len(lines) + 1, text})
			continue
		}
		seq := top.Content[at+1]
		if seq.Kind != yaml.SequenceNode || seq.Style&yaml.FlowStyle != 0 || len(seq.Content) == 0 || seq.Line <= top.Content[at].Line {
			return nil, refuse("write it as a list with one \"- \" per line, or remove the key when it is empty", "line %d: Sightline cannot add to %s as it is written", top.Content[at].Line, part.key)
		}
		line := len(lines) + 1
		if at+2 < len(top.Content) {
			line = top.Content[at+2].Line
		}
		for line > seq.Line+1 && aside(lines[line-2]) {
			line--
		}
		text, err := block(seq.Column-1, list(part.items...))
		if err != nil {
			return nil, err
		}
		all = append(all, insertion{line, text})
	}
	all = append(all, end...)
	slices.SortStableFunc(all, func(a, b insertion) int { return a.line - b.line })
	var out []byte
	for i, line := range lines {
		for len(all) > 0 && all[0].line == i+1 {
			out, all = append(out, all[0].text...), all[1:]
		}
		out = append(out, line...)
	}
	for _, in := range all {
		out = append(out, in.text...)
	}
	return out, nil
}

// aside tells whether a line belongs to no item of a list above: it is empty, or a comment at the left edge.
func aside(line []byte) bool {
	return len(bytes.TrimSpace(line)) == 0 || line[0] == '#'
}

// findMarker finds the one route whose receiver is Fallback.
func findMarker(top *yaml.Node) (*yaml.Node, error) {
	_, root := value(top, "route")
	var found []*yaml.Node
	seen := map[*yaml.Node]bool{}
	var walk func(r *yaml.Node)
	walk = func(r *yaml.Node) {
		if r = resolve(r); r == nil || seen[r] {
			return
		}
		seen[r] = true
		if text(r, "receiver") == Fallback {
			found = append(found, r)
		}
		_, below := value(r, "routes")
		for _, c := range items(below) {
			walk(c)
		}
	}
	walk(root)
	switch {
	case len(found) == 0:
		return nil, refuse(markerHint, "no route has the receiver %s, so there is no place for Sightline's routes", Fallback)
	case len(found) > 1:
		return nil, refuse("keep one of them", "%d routes have the receiver %s, on lines %d and %d", len(found), Fallback, found[0].Line, found[1].Line)
	case found[0] == root:
		return nil, refuse(markerHint, "the topmost route has the receiver %s; it has to be one below", Fallback)
	}
	marker := found[0]
	key, receiver := value(marker, "receiver")
	switch below, _ := value(marker, "routes"); {
	case below != nil:
		return nil, refuse("move them before it, or below another route", "line %d: the route with the receiver %s has routes of its own", below.Line, Fallback)
	case marker.Style&yaml.FlowStyle != 0 || receiver.Line != key.Line:
		return nil, refuse("write it with one key per line", "line %d: the route with the receiver %s is written in one line", marker.Line, Fallback)
	}
	return marker, nil
}

// block writes a node between Begin and End, indented.
func block(indent int, n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("write Sightline's part: %w", err)
	}
	pad := strings.Repeat(" ", indent)
	out := []byte(pad + Begin + "\n")
	for line := range bytes.Lines(b.Bytes()) {
		if len(bytes.TrimSpace(line)) > 0 {
			out = append(out, pad...)
		}
		out = append(out, line...)
	}
	return append(out, pad+End+"\n"...), nil
}

// unchangedButFor reads both files and compares them: the merged one has to be the plain one and our parts, and nothing of
// the plain one may bear our names.
func unchangedButFor(ours *parts, plain, merged []byte) error {
	top, err := readTop(merged)
	if err != nil {
		return refuse("Sightline cannot add to a file that is written like this", "the merged file would not be YAML: %v", err)
	}
	before, err := readTop(plain)
	if err != nil {
		return err
	}
	marker, err := findMarker(before)
	if err != nil {
		return err
	}
	add := func(key string, items []*yaml.Node) {
		if len(items) == 0 {
			return
		}
		if _, seq := value(before, key); seq != nil {
			seq.Content = append(slices.Clone(seq.Content), items...)
		} else {
			before.Content = append(before.Content, mapping(key, list(items...)).Content...)
		}
	}
	for _, named := range []string{"receivers", "time_intervals", "mute_time_intervals"} {
		_, seq := value(before, named)
		for _, r := range items(seq) {
			if name := text(r, "name"); strings.HasPrefix(name, prefix) {
				return refuse("rename it, or delete it when an earlier Sightline wrote it", "line %d: %s bears a name that is Sightline's", r.Line, name)
			}
		}
	}
	at := slices.IndexFunc(marker.Content, func(n *yaml.Node) bool { return n.Value == "receiver" })
	marker.Content = slices.Insert(slices.Clone(marker.Content), at+2, mapping("routes", list(ours.routes...)).Content...)
	add("inhibit_rules", ours.inhibit)
	add("time_intervals", ours.intervals)
	add("receivers", ours.receivers)
	if !reflect.DeepEqual(bare(before, nil), bare(top, nil)) {
		return refuse("write lists with one \"- \" per line and end the file with a line break", "Sightline cannot add its part to this file without changing other parts of it")
	}
	return nil
}

// bare is what a node says, without its style, place and comments; an alias says the same as its anchor.
func bare(n *yaml.Node, above []*yaml.Node) any {
	switch {
	case n.Kind == yaml.AliasNode && !slices.Contains(above, n.Alias):
		return bare(n.Alias, append(above, n.Alias))
	case n.Kind == yaml.ScalarNode:
		return [2]string{n.ShortTag(), n.Value}
	}
	out := []any{n.Kind, n.ShortTag()}
	for _, c := range n.Content {
		out = append(out, bare(c, above))
	}
	return out
}
