package backstage

import (
	"encoding/json"
	"testing"

	"github.com/sightline-dev/sightline/catalog"
)

// FuzzEntity checks that an item of any content is an error or an entity that has a whole reference, and that is the same
// when it is read again.
func FuzzEntity(f *testing.F) {
	f.Add([]byte(`{"kind":"Component","metadata":{"name":"checkout","annotations":{"sightline.dev/tier":"1"}},"spec":{"type":"service","lifecycle":"production"},"relations":[{"type":"ownedBy","targetRef":"group:default/pay"},{"type":"partOf","targetRef":"system:default/shop"}]}`))
	f.Add([]byte(`{"kind":"Group","metadata":{"name":"pay","namespace":"x"},"spec":{"parent":"other/dep","type":["team"]},"relations":[{"type":"childOf","targetRef":"group:other/dep"},{"type":"childOf","targetRef":""}]}`))
	f.Add([]byte(`{"kind":"User","metadata":{"name":"ann"},"relations":[{"type":"memberOf","targetRef":"group:default/pay"},{"type":"memberOf","targetRef":"GROUP:Default/Pay"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var it item
		if json.Unmarshal(b, &it) != nil {
			return
		}
		r := newReader()
		e, err := r.entity(it)
		if err != nil {
			return
		}
		again, err := catalog.ParseRef(e.Ref.String(), "")
		if err != nil || again != e.Ref {
			t.Errorf("the reference %s is read as %s, error %v", e.Ref, again, err)
		}
		for key := range e.Annotations {
			if !catalog.KeepsAnnotation(key) {
				t.Errorf("annotation %q is kept and read by nobody", key)
			}
		}
		second, err := r.entity(it)
		if err != nil || second.Ref != e.Ref || second.Owner != e.Owner || second.System != e.System || second.Parent != e.Parent || len(second.MemberOf) != len(e.MemberOf) {
			t.Errorf("read again it is %+v, error %v; it was %+v", second, err, e)
		}
	})
}
