// Package mimir writes a plan's rules through the ruler API of Mimir or Cortex. Each rule file becomes a namespace whose
// name begins with Prefix; namespaces without it are never written, and are read only to count their groups.
package mimir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// Prefix marks the namespaces that are Sightline's: "rules/default/team-pay/x.yaml" is the namespace
// "sightline/default/team-pay/x".
const Prefix = "sightline/"

// Options are the settings of a target.
type Options struct {
	Tenant   string // value of X-Scope-OrgID; "" sends none
	Groups   int    // rule groups that the tenant may have; 0: not checked
	PerGroup int    // rules that a group may have; 0: not checked
}

// A Target is one tenant of a ruler. Make one for each plan; it is not for concurrent use.
type Target struct {
	client *upstream.Client
	opts   Options
	wanted map[string]plan.Artifact // by path
	held   map[string][]group       // by namespace, as Held found it
}

var _ plan.Target = (*Target)(nil)

// New makes a target of a plan. The client's base URL is what stands before /{namespace}.
func New(c *upstream.Client, p *plan.Plan, o Options) *Target {
	t := &Target{client: c, opts: o, wanted: map[string]plan.Artifact{}}
	for _, a := range p.For(t) {
		t.wanted[a.Path] = a
	}
	return t
}

// Name says where the ruler is and whose rules are meant.
func (t *Target) Name() string {
	if t.opts.Tenant != "" {
		return "ruler " + t.client.BaseURL() + " of tenant " + t.opts.Tenant
	}
	return "ruler " + t.client.BaseURL()
}

// Accepts takes rules.
func (t *Target) Accepts(k plan.Kind) bool { return k == plan.KindRules }

// A LimitError is a plan with more rule groups than the tenant may have.
type LimitError struct{ Foreign, Wanted, Limit int }

// Error says how many there are.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the tenant may have %d rule groups: %d of others and %d of Sightline's are too many", e.Limit, e.Foreign, e.Wanted)
}

// Hint says what to do.
func (e *LimitError) Hint() string {
	return "raise ruler_max_rule_groups_per_tenant of the tenant, and ruler.max_groups with it; nothing was written"
}

// Held asks once for all rules of the tenant. An answer of 404 means that there are none. It is an error when the plan
// has more groups than the tenant may have.
func (t *Target) Held(ctx context.Context) ([]plan.Artifact, error) {
	all, err := t.read(ctx, "")
	if err != nil {
		return nil, err
	}
	foreign, wanted := 0, 0
	t.held = map[string][]group{}
	var out []plan.Artifact
	for _, namespace := range slices.Sorted(maps.Keys(all)) {
		groups := all[namespace]
		path, ours := pathOf(namespace)
		if !ours {
			foreign += len(groups)
			continue
		}
		t.held[namespace] = groups
		out = append(out, plan.Artifact{Kind: plan.KindRules, Path: path, Owner: t.wanted[path].Owner, Body: t.body(path, groups)})
	}
	for _, a := range t.wanted {
		groups, err := parse(a.Body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		wanted += len(groups)
	}
	if t.opts.Groups > 0 && foreign+wanted > t.opts.Groups {
		return nil, &LimitError{foreign, wanted, t.opts.Groups}
	}
	slices.SortFunc(out, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// body is what a namespace holds as a rule file: the plan's bytes where it says the same.
func (t *Target) body(path string, groups []group) []byte {
	wanted, err := parse(t.wanted[path].Body)
	if err != nil {
		return render(groups)
	}
	at := map[string]int{}
	for i, g := range wanted {
		at[g.Name] = i
	}
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b group) int {
		i, known := at[a.Name]
		j, too := at[b.Name]
		switch {
		case known && too:
			return i - j
		case known:
			return -1
		case too:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	body := render(groups)
	if slices.Equal(body, render(wanted)) {
		return t.wanted[path].Body
	}
	return body
}

// read asks for the groups of one namespace, or of all; the path is "" or "/" and the escaped namespace.
func (t *Target) read(ctx context.Context, path string) (map[string][]group, error) {
	body, err := t.client.Do(ctx, http.MethodGet, path, t.header("Accept", "application/yaml"), nil)
	if status := (*upstream.StatusError)(nil); errors.As(err, &status) && status.Code == http.StatusNotFound && strings.Contains(status.Message, "no rule groups found") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := parseNamespaces(body)
	if err != nil {
		return nil, &answerError{t.client.BaseURL(), bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")), err}
	}
	return all, nil
}

// An answerError is an answer that holds no rules.
type answerError struct {
	url string
	web bool // it is a web page
	err error
}

func (e *answerError) Error() string {
	if e.web {
		return "the answer of " + e.url + " is not the rules of a tenant"
	}
	return fmt.Sprintf("the answer of %s is not the rules of a tenant: %s", e.url, e.err)
}

func (e *answerError) Unwrap() error { return e.err }

// Hint says where a page instead of rules comes from.
func (e *answerError) Hint() string {
	if e.web {
		return "this is a web page, as of a login or a proxy: check ruler.url, which ends in /config/v1/rules for Mimir and /api/v1/rules for Cortex"
	}
	return ""
}

func (t *Target) header(key, value string) http.Header {
	h := http.Header{key: {value}}
	if t.opts.Tenant != "" {
		h.Set("X-Scope-OrgID", t.opts.Tenant)
	}
	return h
}

// Put writes the groups of a rule file that differ, and deletes those of its namespace that it no longer has. Where the
// ruler refuses one, those written before are put back.
func (t *Target) Put(ctx context.Context, a plan.Artifact) error {
	namespace, err := namespaceOf(a.Path)
	if err != nil {
		return err
	}
	groups, err := parse(a.Body)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if n := len(g.Rules); t.opts.PerGroup > 0 && n > t.opts.PerGroup {
			return fmt.Errorf("the group %q has %d rules, and the tenant may have %d in a group: raise ruler_max_rules_per_rule_group, and ruler.max_rules_per_group with it", g.Name, n, t.opts.PerGroup)
		}
	}
	old, err := t.unchanged(ctx, namespace)
	if err != nil {
		return err
	}
	var undo []func(context.Context) error
	for _, g := range groups {
		was, there := old[g.Name]
		delete(old, g.Name)
		if there && slices.Equal(render([]group{was}), render([]group{g})) {
			continue
		}
		if err := t.post(ctx, namespace, g); err != nil {
			return errors.Join(fmt.Errorf("the group %q: %w", g.Name, err), back(ctx, undo))
		}
		undo = append(undo, func(ctx context.Context) error {
			if there {
				return t.post(ctx, namespace, was)
			}
			return t.delete(ctx, namespace, g.Name)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if err := t.delete(ctx, namespace, name); err != nil {
			return fmt.Errorf("delete the group %q: %w", name, err)
		}
	}
	if t.held != nil {
		t.held[namespace] = groups
	}
	return nil
}

// Remove deletes the groups that Held found.
func (t *Target) Remove(ctx context.Context, a plan.Artifact) error {
	namespace, err := namespaceOf(a.Path)
	if err != nil {
		return err
	}
	old, err := t.unchanged(ctx, namespace)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if err := t.delete(ctx, namespace, name); err != nil {
			return fmt.Errorf("delete the group %q: %w", name, err)
		}
	}
	delete(t.held, namespace)
	return nil
}

// unchanged gives the groups of a namespace by name, and ErrConflict when they are not those that Held found.
func (t *Target) unchanged(ctx context.Context, namespace string) (map[string]group, error) {
	now, err := t.read(ctx, "/"+url.PathEscape(namespace))
	if err != nil {
		return nil, err
	}
	byName := func(groups []group) map[string]group {
		m := map[string]group{}
		for _, g := range groups {
			m[g.Name] = g
		}
		return m
	}
	groups := byName(now[namespace])
	if t.held != nil {
		same := func(a, b group) bool { return slices.Equal(render([]group{a}), render([]group{b})) }
		if !maps.EqualFunc(groups, byName(t.held[namespace]), same) {
			return nil, fmt.Errorf("namespace %s: %w", namespace, plan.ErrConflict)
		}
	}
	return groups, nil
}

// back undoes writes, the last one first. An end of the caller's context does not stop it.
func back(ctx context.Context, undo []func(context.Context) error) error {
	for _, u := range slices.Backward(undo) {
		if err := u(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("put back what was there: %w", err)
		}
	}
	return nil
}

func (t *Target) post(ctx context.Context, namespace string, g group) error {
	body, err := g.yaml()
	if err != nil {
		return err
	}
	_, err = t.client.Do(ctx, http.MethodPost, "/"+url.PathEscape(namespace), t.header("Content-Type", "application/yaml"), body)
	return err
}

func (t *Target) delete(ctx context.Context, namespace, name string) error {
	_, err := t.client.Do(ctx, http.MethodDelete, "/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), t.header("Accept", "application/json"), nil)
	if status := (*upstream.StatusError)(nil); errors.As(err, &status) && status.Code == http.StatusNotFound {
		return nil
	}
	return err
}

// namespaceOf gives the namespace of a rule file. A ruler keeps it as one escaped file name, which may have 255 bytes.
func namespaceOf(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "rules/")
	name, yes := strings.CutSuffix(rest, ".yaml")
	if !ok || !yes || name == "" {
		return "", fmt.Errorf("%q is not the path of a rule file", path)
	}
	namespace := Prefix + name
	if n := len(url.PathEscape(namespace)); n > 255 {
		return "", fmt.Errorf("the names of owner and entity are too long for a ruler: the namespace %s takes %d bytes of 255", namespace, n)
	}
	return namespace, nil
}

// pathOf is the inverse of namespaceOf.
func pathOf(namespace string) (path string, ours bool) {
	name, ours := strings.CutPrefix(namespace, Prefix)
	return "rules/" + name + ".yaml", ours && name != ""
}
