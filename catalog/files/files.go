// Package files loads a catalog from YAML files, as they stand in repositories. Places in the files are kept, so that a
// Problem points at the value that causes it.
package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

// A Result is what was found.
type Result struct {
	Entities []*catalog.Entity
	Problems []catalog.Problem
	Files    int // files that held at least one entity
}

// maxSize bounds a file; a catalog file is a few kilobytes.
const maxSize = 8 << 20

// A PathError is a path that names nothing to read.
type PathError struct{ Path, Reason string }

// Error says which path and why.
func (e *PathError) Error() string { return e.Path + ": " + e.Reason }

// Hint says what a path may be.
func (e *PathError) Hint() string {
	return "a PATH is a YAML file, a folder of them, or a quoted glob such as 'services/**/catalog-info.yaml'"
}

// Load reads the entities of files, folders (recursively) and globs. Broken documents are Problems; a path that names
// nothing is an error. Files of other kinds in a folder are passed over.
func Load(ctx context.Context, paths []string) (*Result, error) {
	roots := map[string]string{} // by file: the folder that its references stay inside of
	for _, p := range paths {
		found, root, err := expand(p)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if old, ok := roots[name]; !ok || isInside(root, old) {
				roots[name] = root
			}
		}
	}
	out := &Result{}
	var links []link
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("read catalog file: %w", err)
		}
		if info.Size() > maxSize {
			out.Problems = append(out.Problems, catalog.Problem{
				Severity: catalog.SeverityWarning, File: name, Rule: "file-too-large",
				Message: fmt.Sprintf("the file is larger than %d MiB and is not read", maxSize>>20),
			})
			continue
		}
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read catalog file: %w", err)
		}
		entities, more, problems := parse(name, body)
		links = append(links, more...)
		for _, e := range entities {
			problems = append(problems, documents(e, roots[name], name)...)
		}
		if len(entities) > 0 {
			out.Files++
		}
		out.Entities = append(out.Entities, entities...)
		out.Problems = append(out.Problems, problems...)
	}
	connect(out.Entities, links)
	return out, nil
}

// expand gives the files that a path names, and the folder that it names: its own, the glob's fixed part, or the file's.
func expand(path string) (names []string, root string, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return []string{filepath.Clean(path)}, filepath.Dir(path), nil
	case err == nil:
		var out []string
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && name != path && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
				return filepath.SkipDir
			case d.Type().IsRegular() && isYAML(name):
				out = append(out, name)
			}
			return nil
		})
		if err != nil {
			return nil, "", fmt.Errorf("read catalog folder: %w", err)
		}
		if len(out) == 0 {
			return nil, "", &PathError{path, "the folder holds no YAML file"}
		}
		return out, filepath.Clean(path), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", fmt.Errorf("read catalog: %w", err)
	case !strings.ContainsAny(path, "*?[{"):
		return nil, "", &PathError{path, "no such file or folder"}
	}
	found, err := doublestar.FilepathGlob(path, doublestar.WithFilesOnly())
	if err != nil {
		return nil, "", &PathError{path, "the glob is malformed"}
	}
	if len(found) == 0 {
		return nil, "", &PathError{path, "the glob matches no file"}
	}
	base, _ := doublestar.SplitPattern(filepath.ToSlash(path))
	return found, filepath.FromSlash(base), nil
}

// isInside tells whether a folder is another one or lies below it.
func isInside(root, folder string) bool {
	rel, err := filepath.Rel(root, folder)
	return err == nil && filepath.IsLocal(rel)
}

func isYAML(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

// Parse reads the entities of one file's text. Documents that are no Backstage entities are passed over; a document that
// is no YAML is a Problem and ends the file, because what follows it cannot be told apart.
func Parse(name string, body []byte) ([]*catalog.Entity, []catalog.Problem) {
	entities, links, problems := parse(name, body)
	connect(entities, links)
	return entities, problems
}

func parse(name string, body []byte) ([]*catalog.Entity, []link, []catalog.Problem) {
	var entities []*catalog.Entity
	var links []link
	var problems []catalog.Problem
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return entities, links, problems
		}
		if err != nil {
			msg := strings.TrimPrefix(err.Error(), "yaml: ")
			p := catalog.Problem{
				Severity: catalog.SeverityError, File: name, Line: lineOf(msg), Rule: "yaml-syntax", Message: "this is not YAML: " + msg,
				Hint: "mend it; what follows it in the file is not read",
			}
			return entities, links, append(problems, p)
		}
		if len(doc.Content) == 0 {
			continue
		}
		e, more, found := entity(name, doc.Content[0])
		if e != nil {
			entities, links = append(entities, e), append(links, more...)
		}
		problems = append(problems, found...)
	}
}

func lineOf(msg string) int {
	_, rest, ok := strings.Cut(msg, "line ")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// child finds a key of a mapping, through an alias where there is one.
func child(n *yaml.Node, key string) *yaml.Node {
	n = resolved(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolved(n.Content[i+1])
		}
	}
	return nil
}

func resolved(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func entity(file string, root *yaml.Node) (*catalog.Entity, []link, []catalog.Problem) {
	api, kind := text(child(root, "apiVersion")), text(child(root, "kind"))
	if !strings.Contains(api, "backstage.io/") || kind == "" || strings.EqualFold(kind, "Location") {
		return nil, nil, nil
	}
	at := func(n *yaml.Node) catalog.Position {
		return catalog.Position{File: file, Line: n.Line, Column: n.Column}
	}
	meta, spec := child(root, "metadata"), child(root, "spec")
	name, namespace := text(child(meta, "name")), text(child(meta, "namespace"))
	e := &catalog.Entity{
		Name: name, Title: text(child(meta, "title")), Description: text(child(meta, "description")),
		Type: text(child(spec, "type")), Lifecycle: text(child(spec, "lifecycle")),
		Position: at(root), Annotations: map[string]string{}, AnnotationPositions: map[string]catalog.Position{},
	}
	var problems []catalog.Problem
	problem := func(n *yaml.Node, annotation, rule, message, hint string) {
		p := at(n)
		problems = append(problems, catalog.Problem{
			Severity: catalog.SeverityError, Entity: e.Ref, Annotation: annotation, File: p.File, Line: p.Line, Column: p.Column,
			Rule: rule, Message: message, Hint: hint,
		})
	}
	if namespace == "" {
		namespace = "default"
	}
	ref, err := catalog.ParseRef(kind+":"+namespace+"/"+name, "")
	if err != nil {
		problem(root, "", "entity-name", fmt.Sprintf("the %s has no valid metadata.name: %q", strings.ToLower(kind), name), "give it a name of letters, digits, '-', '_' and '.'")
		return nil, nil, problems
	}
	e.Ref = ref
	relation := func(n *yaml.Node, defaultKind string) catalog.Ref {
		s := text(n)
		if s == "" {
			return catalog.Ref{}
		}
		if rest := s[strings.Index(s, ":")+1:]; !strings.Contains(rest, "/") {
			s = s[:len(s)-len(rest)] + namespace + "/" + rest
		}
		r, err := catalog.ParseRef(s, defaultKind)
		if err != nil {
			problem(n, "", "entity-reference", err.Error(), "")
		}
		return r
	}
	relations := func(n *yaml.Node, defaultKind string) []catalog.Ref {
		var out []catalog.Ref
		if n != nil && n.Kind == yaml.SequenceNode {
			for _, c := range n.Content {
				if r := relation(resolved(c), defaultKind); !r.IsZero() {
					out = append(out, r)
				}
			}
		}
		return out
	}
	e.Owner = relation(child(spec, "owner"), "group")
	e.System = relation(child(spec, "system"), "system")
	e.Domain = relation(child(spec, "domain"), "domain")
	e.Parent = relation(child(spec, "parent"), "group")
	e.MemberOf = relations(child(spec, "memberOf"), "group")
	e.DependsOn = relations(child(spec, "dependsOn"), "component")
	var links []link
	for _, l := range []struct{ key, kind string }{{"children", "group"}, {"members", "user"}, {"dependencyOf", "component"}} {
		for _, r := range relations(child(spec, l.key), l.kind) {
			links = append(links, link{e.Ref, l.key, r})
		}
	}

	annotations := child(meta, "annotations")
	if annotations == nil || annotations.Kind != yaml.MappingNode {
		return e, links, problems
	}
	for i := 0; i+1 < len(annotations.Content); i += 2 {
		key, value := annotations.Content[i].Value, resolved(annotations.Content[i+1])
		if !catalog.KeepsAnnotation(key) {
			continue
		}
		switch {
		case value.Kind == yaml.ScalarNode && value.Tag == "!!str":
			e.Annotations[key], e.AnnotationPositions[key] = value.Value, at(value)
		case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
			problem(value, key, "annotation-type", fmt.Sprintf("the value %s is not a string; Backstage refuses the entity", value.Value), fmt.Sprintf("quote it: %q", value.Value))
		case key == catalog.Prefix+"slo" && child(value, "$text") != nil:
			if child(annotations, catalog.Prefix+"slo-ref") != nil {
				problem(value, key, "slo-ref", "slo and slo-ref both name a document; slo-ref is used", "keep one of the two")
				continue
			}
			e.Annotations[catalog.Prefix+"slo-ref"] = text(child(value, "$text"))
			e.AnnotationPositions[catalog.Prefix+"slo-ref"] = at(value)
		default:
			problem(value, key, "annotation-type", "the value is not a string", "write one quoted string")
		}
	}
	return e, links, problems
}

// maxDocument bounds an slo-ref document.
const maxDocument = 1 << 20

// documents reads what slo-ref names, relative to the entity's file. It stays inside the root folder, symbolic links
// included.
func documents(e *catalog.Entity, root, name string) []catalog.Problem {
	const key = catalog.Prefix + "slo-ref"
	ref := strings.TrimSpace(e.Annotations[key])
	if ref == "" || strings.Contains(ref, "://") {
		return nil // catalog.Parse refuses both
	}
	problem := func(message, hint string) []catalog.Problem {
		p := e.AnnotationPositions[key]
		return []catalog.Problem{{Severity: catalog.SeverityError, Entity: e.Ref, Annotation: key, File: p.File, Line: p.Line, Column: p.Column, Rule: "slo-ref", Message: message, Hint: hint}}
	}
	dir, err := filepath.Rel(root, filepath.Dir(name))
	if err != nil {
		return problem(fmt.Sprintf("%s cannot be found: %v", ref, err), "")
	}
	path := filepath.Join(dir, filepath.FromSlash(ref))
	if filepath.IsAbs(filepath.FromSlash(ref)) || !filepath.IsLocal(path) {
		return problem(ref+" is outside the catalog's folder", "name a file beside this one, as in ./slo.yaml")
	}
	folder, err := os.OpenRoot(root)
	if err != nil {
		return problem("the catalog's folder cannot be opened: "+err.Error(), "")
	}
	defer folder.Close()
	info, err := folder.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return problem(ref+" does not exist", "name a file beside this one, as in ./slo.yaml")
	}
	if err != nil {
		return problem(fmt.Sprintf("%s cannot be read: %v", ref, err), "name a file beside this one, as in ./slo.yaml")
	}
	if !info.Mode().IsRegular() || info.Size() > maxDocument {
		return problem(fmt.Sprintf("%s is no file of at most %d MiB", ref, maxDocument>>20), "name a file beside this one, as in ./slo.yaml")
	}
	body, err := folder.ReadFile(path)
	if err != nil {
		return problem(fmt.Sprintf("%s cannot be read: %v", ref, err), "")
	}
	e.Documents = map[string][]byte{ref: body}
	return nil
}
