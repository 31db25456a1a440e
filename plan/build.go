package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/alerts"
	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/dashboards"
	"github.com/sightline-dev/sightline/slo"
)

// Input is what the compilers made.
type Input struct {
	Graph      *catalog.Graph
	Objectives []slo.Objective
	// Rules appends the rule file of the objectives of one entity, or nothing where they have no rules; it chooses between the
	// exact rules and sloth's. What cannot be made is left out and told to failed.
	Rules    func(dst []byte, objectives []slo.Objective, failed func(*slo.Objective, error)) []byte
	Alerts   *alerts.Config // nil leaves out alertmanager.yml
	Boards   []dashboards.Board
	Problems []catalog.Problem
}

// Build makes the plan. An objective whose rules cannot be made is a Problem; two artifacts of one path are an error.
func Build(in Input) (*Plan, error) {
	p := &Plan{Problems: slices.Clone(in.Problems)}
	objectives := slices.Clone(in.Objectives)
	slices.SortStableFunc(objectives, func(a, b slo.Objective) int {
		if c := a.Entity.Compare(b.Entity); c != 0 {
			return c
		}
		return strings.Compare(a.Indicator, b.Indicator)
	})
	var scratch []byte // each file is written into it and copied at its size
	rules := func(owner catalog.Ref, name string) {
		p.Artifacts = append(p.Artifacts, Artifact{KindRules, rulesPath(owner, name), owner, bytes.Clone(scratch)})
	}
	for len(objectives) > 0 {
		entity, owner := objectives[0].Entity, objectives[0].Owner
		end := slices.IndexFunc(objectives, func(o slo.Objective) bool { return o.Entity != entity })
		if end < 0 {
			end = len(objectives)
		}
		scratch = in.Rules(scratch[:0], objectives[:end], func(o *slo.Objective, err error) {
			p.Problems = append(p.Problems, catalog.Problem{
				Severity: catalog.SeverityError, Entity: entity, Owner: owner, Rule: "objective-rules",
				Message: "the rules of " + o.ID() + " cannot be made: " + err.Error(),
			})
		})
		if len(scratch) > 0 {
			rules(owner, entity.Dotted())
		}
		objectives = objectives[end:]
	}
	scratch = slo.AppendYAML(scratch[:0], []slo.RuleGroup{alerts.WatchdogRules()})
	rules(in.Graph.PlatformOwner(), "sightline.default.watchdog")
	if in.Alerts != nil {
		p.Artifacts = append(p.Artifacts, Artifact{KindAlertmanager, "alertmanager/alertmanager.yml", in.Graph.PlatformOwner(), in.Alerts.YAML()})
	}
	for _, b := range in.Boards {
		parts := strings.Split(b.Path, "/")
		for i := range parts {
			parts[i] = safe(parts[i])
		}
		path := strings.Join(parts, "/")
		if !strings.HasPrefix(path, "dashboards/") {
			path = "dashboards/" + path
		}
		p.Artifacts = append(p.Artifacts, Artifact{KindDashboard, path, b.Owner, b.JSON})
	}
	slices.SortStableFunc(p.Problems, catalog.Problem.Compare)
	p.Problems = slices.Compact(p.Problems)
	problems, err := problemsJSON(p.Problems)
	if err != nil {
		return nil, fmt.Errorf("write problems.json: %w", err)
	}
	p.Artifacts = append(p.Artifacts, Artifact{Kind: KindProblems, Path: "problems.json", Body: problems})
	slices.SortFunc(p.Artifacts, func(a, b Artifact) int { return strings.Compare(a.Path, b.Path) })
	for i := range p.Artifacts[1:] {
		if p.Artifacts[i].Path == p.Artifacts[i+1].Path {
			return nil, fmt.Errorf("two artifacts have the path %s", p.Artifacts[i].Path)
		}
	}
	return p, nil
}

// rulesPath is the rule file of an entity, in its owner's folder.
func rulesPath(owner catalog.Ref, name string) string {
	dir := "default/unowned"
	if !owner.IsZero() {
		dir = safe(owner.Namespace) + "/" + safe(owner.Name)
		if owner.Kind == "user" { // a group may have the same name
			dir = safe(owner.Namespace) + "/" + safe("user-"+owner.Name)
		}
	}
	return "rules/" + dir + "/" + safe(name) + ".yaml"
}

// safe makes one path part of a name. Legal entity names stay as they are.
func safe(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@+", r) {
			return r
		}
		return '_'
	}, s)
	if strings.Trim(s, ".") == "" {
		s = "_" + strings.ReplaceAll(s, ".", "_")
	}
	return s[:min(len(s), 200)]
}

// problemsJSON writes the list with every key always present, as readers of the file expect.
func problemsJSON(problems []catalog.Problem) ([]byte, error) {
	type line struct {
		Severity   catalog.Severity `json:"severity"`
		Entity     catalog.Ref      `json:"entity"`
		Owner      catalog.Ref      `json:"owner"`
		Annotation string           `json:"annotation"`
		File       string           `json:"file"`
		Line       int              `json:"line"`
		Column     int              `json:"column"`
		Message    string           `json:"message"`
		Hint       string           `json:"hint"`
		Rule       string           `json:"rule"`
	}
	list := make([]line, 0, len(problems))
	for _, p := range problems {
		list = append(list, line(p))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(list)
	return b.Bytes(), err
}
