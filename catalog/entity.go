package catalog

// Prefix stands before every annotation key that is Sightline's own.
const Prefix = "sightline.dev/"

// A Position is a place in a file of the user; the zero Position means that it is not known (Backstage's API).
type Position struct {
	File         string
	Line, Column int
}

// An Entity is one entity of the catalog, reduced to what Sightline reads. It is never changed after loading.
type Entity struct {
	Ref         Ref
	Name        string // metadata.name as written (Ref.Name is lower-cased)
	Title       string
	Description string
	Annotations map[string]string // only keys that Sightline reads: its own prefix and the foreign keys of the contract
	Type        string            // spec.type
	Lifecycle   string            // spec.lifecycle
	Owner       Ref               // spec.owner or the ownedBy relation; zero when there is none. May name something that does not exist.
	System      Ref               // spec.system or the partOf relation to a system
	Domain      Ref               // of a system
	Parent      Ref               // of a group
	MemberOf    []Ref             // of a user
	DependsOn   []Ref             // relations dependsOn
	Documents   map[string][]byte // slo-ref documents found beside the entity, by reference as written

	Position            Position            // of the entity
	AnnotationPositions map[string]Position // by annotation key: the place of the value
}

// Label is the title, or the name as written where there is no title.
func (e *Entity) Label() string {
	if e.Title != "" {
		return e.Title
	}
	return e.Name
}
