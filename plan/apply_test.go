package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a target in memory.
type memory struct {
	held   map[string]string
	fails  map[string]error
	writes []string
}

func (m *memory) Name() string        { return "memory" }
func (m *memory) Accepts(k Kind) bool { return k == KindRules }

func (m *memory) Held(context.Context) ([]Artifact, error) {
	var out []Artifact
	for _, path := range slices.Sorted(maps.Keys(m.held)) {
		out = append(out, Artifact{Kind: KindRules, Path: path, Body: []byte(m.held[path])})
	}
	return out, m.fails["read"]
}

func (m *memory) Put(_ context.Context, a Artifact) error {
	m.writes = append(m.writes, "put "+a.Path)
	if err := m.fails[a.Path]; err != nil {
		return err
	}
	m.held[a.Path] = string(a.Body)
	return nil
}

func (m *memory) Remove(_ context.Context, a Artifact) error {
	m.writes = append(m.writes, "remove "+a.Path)
	delete(m.held, a.Path)
	return m.fails[a.Path]
}

func TestApply(t *testing.T) {
	rules := func(paths ...string) *Plan {
		p := &Plan{Artifacts: []Artifact{{Kind: KindDashboard, Path: "board.json"}}}
		for _, path := range paths {
			p.Artifacts = append(p.Artifacts, Artifact{Kind: KindRules, Path: path, Body: []byte("new")})
		}
		return p
	}
	held := func(paths ...string) map[string]string {
		m := map[string]string{}
		for _, p := range paths {
			m[p] = "old"
		}
		return m
	}
	many := strings.Split("a b c d e f g h i j", " ")
	for _, c := range []struct {
		name   string
		target memory
		plan   *Plan
		o      ApplyOptions
		want   string
	}{
		{"what is missing is made, what differs changed, what is unwanted removed last", memory{held: held("a", "z")}, rules("a", "b"), ApplyOptions{}, "put b, put a, remove z"},
		{"what is equal is not written", memory{held: map[string]string{"a": "new"}}, rules("a"), ApplyOptions{}, ""},
		{"a failure stops no other, and nothing is removed", memory{held: held("z"), fails: map[string]error{"a": ErrForeign}}, rules("a", "b"), ApplyOptions{}, "put a, put b; a: it is not Sightline's"},
		{"what cannot be read is not written to", memory{held: held(), fails: map[string]error{"read": errors.New("down")}}, rules("a"), ApplyOptions{}, "; error read memory: down"},
		{"a plan that takes nearly everything away is refused", memory{held: held(many...)}, rules("a"), ApplyOptions{}, "; error memory: refused as dangerous: 9 of 10 artifacts would be removed; the catalog may be incomplete"},
		{"unless it is overridden", memory{held: held(many[:7]...)}, rules("a"), ApplyOptions{Override: true}, "put a, remove b, remove c, remove d, remove e, remove f, remove g"},
	} {
		t.Run(c.name, func(t *testing.T) {
			done, err := Apply(t.Context(), &c.target, c.plan, c.o)
			got := strings.Join(c.target.writes, ", ")
			for _, f := range done.Failed {
				got += fmt.Sprintf("; %s: %v", f.Artifact.Path, f.Err)
			}
			if err != nil {
				got += "; error " + err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if err != nil || len(done.Failed) > 0 {
				return
			}
			c.target.writes = nil
			if _, err := Apply(t.Context(), &c.target, c.plan, c.o); err != nil || len(c.target.writes) > 0 {
				t.Errorf("applied again: %v, %v", c.target.writes, err)
			}
		})
	}
}
