package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

const validation = model.UTF8Validation

// A RuleState is a rule and how its last evaluation went.
type RuleState struct {
	File           string
	Group          string
	Name           string
	Kind           string // "alerting" or "recording"
	Health         string // "ok", "err", or "unknown" before the first evaluation
	LastError      string
	EvaluationTime time.Duration
	LastEvaluation time.Time // the zero time before the first
}

// An Alert is an active alert.
type Alert struct {
	Name                string
	Labels, Annotations map[string]string // Labels hold alertname too
	State               string            // "pending" or "firing"
	ActiveAt            time.Time
	Value               float64
}

// SetRules replaces all rule files; the keys are names that show in Rules. Everything is parsed first: on an error the
// old rules stay as they are. Groups that do not change keep their state; a changed group keeps the alerts of the rules
// that it still has. The same rules again cost nothing. SetRules may be called before and during Run; the caller does not change the files afterwards.
func (e *Engine) SetRules(files map[string][]byte) error {
	e.setting.Lock()
	defer e.setting.Unlock()
	if e.closed() {
		return errClosed
	}
	if e.files != nil && maps.EqualFunc(files, e.files, bytes.Equal) {
		return nil
	}
	parsed, err := parseRules(files)
	if err != nil {
		return err
	}
	if err := e.replaceRules(parsed); err != nil {
		return err
	}
	e.files = maps.Clone(files)
	return nil
}

func (e *Engine) replaceRules(parsed map[string]*rulefmt.RuleGroups) error {
	e.evaluating.Lock()
	defer e.evaluating.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == stateStopped || e.state == stateClosed {
		return errClosed
	}
	var err error
	old := e.loader.set(parsed)
	if e.state == stateRunning {
		err = e.updateManager()
	} else {
		err = e.updateGroups()
	}
	if err != nil {
		e.loader.set(old)
	}
	return err
}

// updateManager hands the loader's rules to the running manager. The caller holds mu.
func (e *Engine) updateManager() error {
	if err := e.rules.Update(e.opts.EvaluationInterval, e.loader.names(), labels.FromMap(e.opts.ExternalLabels), e.opts.ExternalURL, nil); err != nil {
		return fmt.Errorf("set rules: %w", err)
	}
	return nil
}

// updateGroups makes the groups that Evaluate runs as long as the manager does not. The caller holds mu.
func (e *Engine) updateGroups() error {
	groups, errs := e.rules.LoadGroups(e.opts.EvaluationInterval, labels.FromMap(e.opts.ExternalLabels), e.opts.ExternalURL, nil, false, e.loader.names()...)
	if len(errs) > 0 {
		return fmt.Errorf("set rules: %w", errors.Join(errs...))
	}
	for key, g := range groups {
		switch old, ok := e.groups[key]; {
		case ok && old.Equals(g):
			groups[key] = old
		case ok:
			g.CopyState(old)
		}
	}
	e.groups = groups
	return nil
}

// Evaluate evaluates once, at the given time, every rule group whose interval has passed since its last evaluation, in
// the order of files and groups. It is for tests and simulations, where time is not the clock's: Run does it by itself,
// and while it runs Evaluate is an error. Alerts that become active here are sent only while Run runs. The error names
// the rules that failed; all were tried.
func (e *Engine) Evaluate(ctx context.Context, at time.Time) error {
	e.evaluating.Lock()
	defer e.evaluating.Unlock()
	e.mu.Lock()
	st, groups := e.state, e.groups
	e.mu.Unlock()
	switch st {
	case stateClosed, stateStopped:
		return errClosed
	case stateRunning:
		return errors.New("evaluate: the engine runs and evaluates by itself")
	}
	var errs []error
	for _, g := range sortedGroups(groups) {
		if last := g.GetLastEvalTimestamp(); !last.IsZero() && at.Sub(last) < g.Interval() {
			continue
		}
		rules.DefaultEvalIterationFunc(ctx, g, at)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				errs = append(errs, fmt.Errorf("rule %s of group %s: %w", r.Name(), g.Name(), err))
			}
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// RuleGroups and AlertingRules serve the HTTP API.
type ruleView struct{ e *Engine }

func (v ruleView) RuleGroups() []*rules.Group {
	v.e.mu.Lock()
	groups, manager := v.e.groups, v.e.rules
	v.e.mu.Unlock()
	if groups != nil {
		return sortedGroups(groups)
	}
	return manager.RuleGroups()
}

func (v ruleView) AlertingRules() []*rules.AlertingRule {
	var out []*rules.AlertingRule
	for _, g := range v.RuleGroups() {
		out = append(out, g.AlertingRules()...)
	}
	return out
}

func sortedGroups(groups map[string]*rules.Group) []*rules.Group {
	out := make([]*rules.Group, 0, len(groups))
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, groups[key])
	}
	return out
}

// Rules gives every rule, in the order of files, groups and their place in the group.
func (e *Engine) Rules() []RuleState {
	var out []RuleState
	for _, g := range (ruleView{e}).RuleGroups() {
		for _, r := range g.Rules() {
			s := RuleState{
				File: g.File(), Group: g.Name(), Name: r.Name(), Kind: "recording", Health: string(r.Health()),
				EvaluationTime: r.GetEvaluationDuration(), LastEvaluation: r.GetEvaluationTimestamp(),
			}
			if _, ok := r.(*rules.AlertingRule); ok {
				s.Kind = "alerting"
			}
			if err := r.LastError(); err != nil {
				s.LastError = err.Error()
			}
			out = append(out, s)
		}
	}
	return out
}

// Alerts gives the active alerts, sorted by labels.
func (e *Engine) Alerts() []Alert {
	type keyed struct {
		l labels.Labels
		a Alert
	}
	var found []keyed
	for _, r := range (ruleView{e}).AlertingRules() {
		for _, a := range r.ActiveAlerts() {
			found = append(found, keyed{a.Labels, Alert{
				Name: r.Name(), Labels: a.Labels.Map(), Annotations: a.Annotations.Map(),
				State: a.State.String(), ActiveAt: a.ActiveAt, Value: a.Value,
			}})
		}
	}
	slices.SortStableFunc(found, func(a, b keyed) int { return labels.Compare(a.l, b.l) })
	out := make([]Alert, len(found))
	for i, f := range found {
		out[i] = f.a
	}
	return out
}

// parseRules checks and parses rule files. All that is wrong is reported, in the order of the names.
func parseRules(files map[string][]byte) (map[string]*rulefmt.RuleGroups, error) {
	enableAnchored()
	parsed := make(map[string]*rulefmt.RuleGroups, len(files))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		groups, fileErrs := rulefmt.Parse(files[name], false, validation)
		for _, err := range fileErrs {
			errs = append(errs, fmt.Errorf("rule file %s: %w", name, err))
		}
		if len(fileErrs) > 0 {
			continue
		}
		if err := oneDocument(files[name]); err != nil {
			errs = append(errs, fmt.Errorf("rule file %s: %w", name, err))
			continue
		}
		parsed[name] = groups
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return parsed, nil
}

// oneDocument refuses a second YAML document, which Prometheus would silently leave out.
func oneDocument(body []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if n > 0 && len(doc.Content) > 0 && doc.Content[0].Tag != "!!null" {
			return fmt.Errorf("line %d: a second YAML document; Prometheus reads only the first", doc.Content[0].Line)
		}
	}
}

// A memoryLoader gives the rule manager groups that were parsed before.
type memoryLoader struct {
	mu    sync.Mutex
	files map[string]*rulefmt.RuleGroups
}

func (l *memoryLoader) set(files map[string]*rulefmt.RuleGroups) (old map[string]*rulefmt.RuleGroups) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, l.files = l.files, files
	return old
}

func (l *memoryLoader) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.files))
}

func (l *memoryLoader) Load(name string, _ bool, _ model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g, ok := l.files[name]; ok {
		return g, nil
	}
	return nil, []error{fmt.Errorf("no rule file %s", name)}
}

func (*memoryLoader) Parse(query string) (parser.Expr, error) { return parser.ParseExpr(query) }
