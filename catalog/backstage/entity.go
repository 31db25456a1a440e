package backstage

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
)

// fields are what is asked for; they must be repeated with every cursor.
const fields = "kind,metadata.name,metadata.namespace,metadata.title,metadata.description,metadata.annotations," +
	"spec.type,spec.lifecycle,spec.parent,relations"

type page struct {
	Items      []item
	TotalItems *int
	PageInfo   struct{ NextCursor string }
}

type item struct {
	Kind     string
	Metadata struct {
		Name, Namespace, Title, Description string
		Annotations                         map[string]string
	}
	Spec struct {
		Type, Lifecycle, Parent text
	}
	Relations []struct{ Type, TargetRef string }
}

// A text is a string where a kind of someone's own may hold something else, which reads as "".
type text string

// UnmarshalJSON takes a string and passes over everything else.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	*t = text(s)
	return nil
}

// A reader makes entities and keeps one copy of each string that many of them share.
type reader struct {
	strings map[string]string
	refs    map[string]catalog.Ref // by spelling; the zero Ref is no reference
}

func newReader() *reader {
	return &reader{map[string]string{}, map[string]catalog.Ref{}}
}

func (r *reader) shared(s string) string {
	if kept, ok := r.strings[s]; ok {
		return kept
	}
	r.strings[s] = s
	return s
}

func (r *reader) ref(s string) catalog.Ref {
	ref, known := r.refs[s]
	if !known {
		parsed, err := catalog.ParseRef(s, "")
		if err == nil {
			ref = catalog.Ref{Kind: r.shared(parsed.Kind), Namespace: r.shared(parsed.Namespace), Name: parsed.Name}
		}
		r.refs[s] = ref
	}
	return ref
}

// entity takes over what Sightline reads. Owner, system and the like come from the relations, which are normalised.
func (r *reader) entity(it item) (*catalog.Entity, error) {
	namespace := it.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	ref, err := catalog.ParseRef(it.Kind+":"+namespace+"/"+it.Metadata.Name, "")
	if err != nil {
		return nil, err
	}
	ref.Kind, ref.Namespace = r.shared(ref.Kind), r.shared(ref.Namespace)
	e := &catalog.Entity{
		Ref: ref, Name: it.Metadata.Name, Title: it.Metadata.Title, Description: it.Metadata.Description,
		Type: r.shared(string(it.Spec.Type)), Lifecycle: r.shared(string(it.Spec.Lifecycle)), Annotations: map[string]string{},
	}
	for k, v := range it.Metadata.Annotations {
		if catalog.KeepsAnnotation(k) {
			e.Annotations[r.shared(k)] = v
		}
	}
	var parents []catalog.Ref
	for _, rel := range it.Relations {
		switch rel.Type {
		case "ownedBy", "partOf", "childOf", "memberOf", "dependsOn":
		default: // the other ends, thousands of them on a large group or system
			continue
		}
		target := r.ref(rel.TargetRef)
		switch {
		case target.IsZero():
		case rel.Type == "ownedBy" && e.Owner.IsZero():
			e.Owner = target
		case rel.Type == "partOf" && target.Kind == "system" && e.System.IsZero():
			e.System = target
		case rel.Type == "partOf" && target.Kind == "domain" && ref.Kind == "system" && e.Domain.IsZero():
			e.Domain = target
		case rel.Type == "childOf" && target.Kind == "group" && ref.Kind == "group":
			parents = append(parents, target)
		case rel.Type == "memberOf":
			e.MemberOf = append(e.MemberOf, target)
		case rel.Type == "dependsOn":
			e.DependsOn = append(e.DependsOn, target)
		}
	}
	e.Parent = parent(string(it.Spec.Parent), ref.Namespace, parents)
	for _, list := range []*[]catalog.Ref{&e.MemberOf, &e.DependsOn} {
		slices.SortFunc(*list, catalog.Ref.Compare)
		*list = slices.Compact(*list)
	}
	return e, nil
}

// parent is the one that the group names itself, before those that name it as a child.
func parent(own, namespace string, parents []catalog.Ref) catalog.Ref {
	if len(parents) == 0 {
		return catalog.Ref{}
	}
	if at := strings.Index(own, ":") + 1; !strings.Contains(own, "/") {
		own = own[:at] + namespace + "/" + own[at:]
	}
	if p, err := catalog.ParseRef(own, "group"); err == nil && slices.Contains(parents, p) {
		return p
	}
	return slices.MinFunc(parents, catalog.Ref.Compare)
}
