package catalog

import (
	"fmt"
	"math/big"
	"strings"
)

// A CompositeSetting is the value of one composite.<name> annotation: an objective that is made of others.
type CompositeSetting struct {
	WorstOf bool   // else weighted
	Percent string // target of a weighted one, as written
	Parts   []CompositePart
}

// A CompositePart picks objectives.
type CompositePart struct {
	Weight    string // decimal, more than 0; "1" where none is written
	Indicator string // in "_" form
	Entity    Ref    // zero: of all entities of the system, or that the group owns
}

// compositeGrammar is the part of Grammar about composites.
const compositeGrammar = `composite = percent "weighted" part { "," part } | "worst-of" part { "," part } ;
part      = [ weight "*" ] indicator [ "of" entity ] ; (* no "of": all members *)
weight    = digits [ "." digits ] ;                  (* more than 0; 1 when left out *)
`

// composite reads a value such as "99.9 weighted 3*availability of checkout, availability of ledger".
func (p *parser) composite(name string) {
	const hint = `write for example "99.9 weighted availability" or "worst-of availability, latency"`
	words := strings.Fields(p.value)
	s := CompositeSetting{}
	switch {
	case len(words) > 1 && words[0] == "worst-of":
		s.WorstOf, words = true, words[1:]
	case len(words) > 2 && words[1] == "weighted":
		if !isDecimal(words[0]) || !isPercent(words[0]) {
			p.bad("composite-percent", `write a percentage such as "99.9"`, "%q is not a target in percent", words[0])
			return
		}
		s.Percent, words = words[0], words[2:]
	default:
		p.bad("composite-syntax", hint, "%q is neither weighted nor worst-of", p.value)
		return
	}
	seen := map[CompositePart]bool{}
	for text := range strings.SplitSeq(strings.Join(words, " "), ",") {
		part, ok := p.part(strings.TrimSpace(text), s.WorstOf)
		if !ok {
			return
		}
		same := CompositePart{Indicator: part.Indicator, Entity: part.Entity}
		if seen[same] {
			p.bad("composite-twice", "keep one of them", "%q picks what stands before it", strings.TrimSpace(text))
			return
		}
		seen[same] = true
		s.Parts = append(s.Parts, part)
	}
	put(p, &p.out.Composites, name, s)
}

func (p *parser) part(text string, worstOf bool) (out CompositePart, ok bool) {
	const hint = `write for example "3*availability of component:default/checkout"`
	out.Weight = "1"
	rest := text
	if weight, after, found := strings.Cut(text, "*"); found {
		weight = strings.TrimSpace(weight)
		value, valid := new(big.Rat).SetString(weight)
		switch {
		case worstOf:
			p.bad("composite-weight", fmt.Sprintf("write %q", strings.TrimSpace(after)), "the worst of several has no weights")
			return out, false
		case len(weight) > 20 || !isDecimal(weight) || !valid || value.Sign() == 0:
			p.bad("composite-weight", `write a number of more than 0, such as "3*availability"`, "%q is not a weight", weight)
			return out, false
		}
		out.Weight, rest = weight, after
	}
	words := strings.Fields(rest)
	switch {
	case len(words) == 3 && words[1] == "of":
		ref, err := ParseRef(words[2], "component")
		if err != nil {
			p.bad("composite-entity", hint, "%q is not a reference of an entity: %v", words[2], err)
			return out, false
		}
		out.Entity = ref
	case len(words) != 1:
		p.bad("composite-syntax", hint, "%q picks no objective", text)
		return out, false
	}
	out.Indicator, ok = p.indicator(words[0])
	return out, ok
}
