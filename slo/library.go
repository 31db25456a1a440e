package slo

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

//go:embed library/*.yaml
var builtin embed.FS

// A Profile is a set of indicators that fits one kind of entity.
type Profile struct {
	Name       string   `yaml:"profile"`
	Kinds      []string `yaml:"kinds"`                // entity kinds that it may stand on
	Types      []string `yaml:"types,omitempty"`      // spec.type values that it is the default of; empty: every type
	Annotation string   `yaml:"annotation,omitempty"` // applies beside the main profile where the entity has this annotation
	Own        bool     `yaml:"own,omitempty"`        // Sightline's own metrics: the same in every environment
	// Selector holds the default matchers; $name, $namespace, $kubernetes_id and $entity are replaced.
	Selector   string      `yaml:"selector"`
	Indicators []Indicator `yaml:"indicators"`
}

// An Indicator says how good and bad events are told apart.
type Indicator struct {
	Name      string `yaml:"name"`
	Title     string `yaml:"title"`
	Threshold string `yaml:"threshold,omitempty"` // default threshold; "" where the indicator has none
	// Objective is the default target in percent by tier. Without one the indicator is made only where it is asked for.
	Objective map[string]string `yaml:"objective,omitempty"`
	Kind      Kind              `yaml:"kind,omitempty"` // default "events"
	// Errors and Total are PromQL with $selector, $window ($slice where time slices are counted), and $threshold (in a
	// matcher of le) or $seconds (as a number).
	Errors string `yaml:"errors,omitempty"`
	Total  string `yaml:"total,omitempty"`
	// Metric is what the other kinds count: a histogram without _bucket, a gauge, a counter. Matchers are added to the selector.
	Metric      string   `yaml:"metric,omitempty"`
	Matchers    string   `yaml:"matchers,omitempty"`
	Buckets     []string `yaml:"buckets,omitempty"`     // where the histogram's buckets end, when that is known
	Interpolate bool     `yaml:"interpolate,omitempty"` // a threshold between two of Buckets is allowed
	Slice       string   `yaml:"slice,omitempty"`       // length of a slice of time: "1m" or "5m", the default
}

// A Library holds the profiles, by name. It is not changed after loading.
type Library struct {
	profiles map[string]Profile
	names    []string // sorted
}

// LoadLibrary reads the built-in profiles and then those of each file system; a profile of the same name replaces the
// earlier one.
func LoadLibrary(extra ...fs.FS) (*Library, error) {
	sub, err := fs.Sub(builtin, "library")
	if err != nil {
		return nil, err
	}
	l := &Library{profiles: map[string]Profile{}}
	for _, fsys := range append([]fs.FS{sub}, extra...) {
		names, err := fs.Glob(fsys, "*.yaml")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			body, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, fmt.Errorf("read indicator library: %w", err)
			}
			p, err := parseProfile(body)
			if err != nil {
				return nil, fmt.Errorf("indicator library %s: %w", name, err)
			}
			l.profiles[p.Name] = p
		}
	}
	for name := range l.profiles {
		l.names = append(l.names, name)
	}
	slices.Sort(l.names)
	return l, nil
}

// Profiles gives all profiles, sorted by name.
func (l *Library) Profiles() []Profile {
	out := make([]Profile, 0, len(l.names))
	for _, n := range l.names {
		out = append(out, l.profiles[n])
	}
	return out
}

func parseProfile(body []byte) (Profile, error) {
	var p Profile
	dec := yaml.NewDecoder(bytes.NewReader(body))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil {
		return p, err
	}
	if p.Name == "" || len(p.Kinds) == 0 || len(p.Indicators) == 0 {
		return p, fmt.Errorf("profile, kinds and indicators are needed")
	}
	for _, ind := range p.Indicators {
		if ind.Name == "" || strings.ContainsAny(ind.Name, ".- ") {
			return p, fmt.Errorf("indicator name %q must be of letters, digits and _", ind.Name)
		}
		for tier, percent := range ind.Objective {
			if _, err := ParseTarget(percent); err != nil {
				return p, fmt.Errorf("indicator %s, tier %s: %w", ind.Name, tier, err)
			}
		}
		if err := ind.check(); err != nil {
			return p, fmt.Errorf("indicator %s: %w", ind.Name, err)
		}
		errs, total, err := kinds[ind.kind()].queries(ind, cmp.Or(ind.Threshold, "1"), NoTrafficIgnore)
		if err != nil {
			return p, fmt.Errorf("indicator %s: %w", ind.Name, err)
		}
		for _, q := range []string{errs, total} {
			if !strings.Contains(q, "[$window]") && !strings.Contains(q, "[$window:") {
				return p, fmt.Errorf("indicator %s: the query lacks [$window]: %s", ind.Name, q)
			}
			if _, err := parser.ParseExpr(fill(q, `job="x"`)); err != nil {
				return p, fmt.Errorf("indicator %s: %w", ind.Name, err)
			}
		}
	}
	return p, nil
}

// fill makes a parseable query of one with $selector and $window, with a range of five minutes.
func fill(query, selector string) string {
	return strings.NewReplacer("$selector", selector, "$window", "5m").Replace(query)
}
