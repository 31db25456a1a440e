package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
)

func newApply(env environment) *cobra.Command {
	var conf, format, rules, fail string
	var paths, names, override []string
	var yes bool
	cmd := &cobra.Command{
		Use: "apply --config FILE [--target NAME]... [--yes]", Short: "Make Alertmanager, rulers, folders, Kubernetes and Grafana hold what the catalog says", Args: noArgs,
		Long: `Apply compiles the catalog, shows for each target of the configuration what would be added, changed and removed, per
owner, and asks before it writes. Only what bears Sightline's mark is changed or removed, and what is the same is not
written. One artifact that a target refuses stops no other. Applying again goes on where an interrupted run stopped.`,
		Example: `  sightline apply --config sightline.yaml
  sightline apply --config sightline.yaml --target ruler --yes
  sightline apply --config sightline.yaml --yes --format json
  sightline diff --config sightline.yaml --target alertmanager`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if err := oneOf("rules", rules, "exact", "sloth"); err != nil {
				return err
			}
			if err := oneOf("fail-on", fail, "error", "warning", "never"); err != nil {
				return err
			}
			for _, o := range override {
				if err := oneOf("override", o, "guard"); err != nil {
					return err
				}
			}
			p, targets, err := planFor(ctx, env, conf, paths, rules, names)
			if err != nil {
				return err
			}
			if err := reportText(env.stderr, p.Problems, newStyle(env.stderr, env.env)); err != nil {
				return err
			}
			all := look(ctx, env, targets, len(override) > 0)
			say := func(header bool) error {
				if format == "json" {
					return writeAppliedJSON(env.stdout, all)
				}
				return writeApplied(env, all, header)
			}
			if format == "text" {
				if err := say(true); err != nil {
					return err
				}
			}
			if changes(all) > 0 && !yes {
				ok, err := ask(env, changes(all))
				if err != nil {
					return err
				}
				if !ok {
					return exitError{exitProblems, errors.New("nothing was changed")}
				}
			}
			carryOut(ctx, env, all, plan.ApplyOptions{Override: len(override) > 0})
			if err := say(false); err != nil {
				return err
			}
			if err := exitOf(all); err != nil {
				return err
			}
			return failOn(fail, p.Problems)
		},
	}
	f := cmd.Flags()
	f.StringVar(&conf, "config", "", "configuration file, which names the targets")
	f.StringArrayVar(&paths, "catalog", nil, "file, folder or glob of catalog-info.yaml files, instead of the configuration's; repeatable")
	f.StringArrayVar(&names, "target", nil, "only this target ("+strings.Join(targetNames(), ", ")+"); repeatable")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.StringArrayVar(&override, "override", nil, "go on where the guard refuses; the only value is guard")
	f.StringVar(&format, "format", "text", "text or json")
	f.StringVar(&rules, "rules", "exact", "exact (two-series rules) or sloth (what sloth generates)")
	f.StringVar(&fail, "fail-on", "error", "exit with 1 from this severity of the catalog's problems on: error, warning or never")
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

// planFor compiles the catalog of a configuration and makes its targets.
func planFor(ctx context.Context, env environment, conf string, paths []string, rules string, names []string) (*plan.Plan, []namedTarget, error) {
	c, err := loadConfig(conf, paths)
	if err != nil {
		return nil, nil, err
	}
	if _, err := targetsOf(c, &plan.Plan{}, names); err != nil { // before the catalog is read
		return nil, nil, err
	}
	bar := newProgress(env.stderr, false)
	bar.say("compiling the catalog ...")
	p, _, err := compile(ctx, c, rules == "sloth")
	bar.done()
	if err != nil {
		return nil, nil, err
	}
	targets, err := targetsOf(c, p, names)
	return p, targets, err
}

// An outcome is what is to be done, or was done, at one target.
type outcome struct {
	namedTarget
	diff    plan.Diff
	failed  []plan.Failure
	applied bool
	err     error // stopped everything at this target
	guarded bool  // err is the guard's
}

// look compares each target with the plan. A target that cannot be read stops no other.
func look(ctx context.Context, env environment, targets []namedTarget, override bool) []*outcome {
	bar := newProgress(env.stderr, false)
	defer bar.done()
	var all []*outcome
	for _, t := range targets {
		bar.say("reading %s ...", t.Name())
		o := &outcome{namedTarget: t}
		all = append(all, o)
		held, err := t.Held(ctx)
		if err != nil {
			o.err = fmt.Errorf("read %s: %w", t.Name(), err)
			continue
		}
		o.diff = plan.Compare(held, t.plan.For(t))
		if err := plan.Guard(o.diff, plan.Limits{}); err != nil && !override {
			o.err, o.guarded = hintError{fmt.Errorf("%s: %w", t.Name(), err), "check the catalog; --override guard does it all the same"}, true
		}
	}
	return all
}

// carryOut applies the plan to the targets that could be read.
func carryOut(ctx context.Context, env environment, all []*outcome, opts plan.ApplyOptions) {
	bar := newProgress(env.stderr, false)
	defer bar.done()
	for _, o := range all {
		if o.err != nil {
			continue
		}
		if !o.diff.Empty() {
			opts.Progress = func(done, of int, now string) { bar.say("%s: %d of %d: %s", o.name, done+1, of, now) }
			done, err := plan.Apply(ctx, o.Target, o.plan, opts)
			o.failed, o.err = done.Failed, err
			if err == nil || !done.Diff.Empty() {
				o.diff = done.Diff
			}
		}
		if f, ok := o.Target.(finisher); ok && o.err == nil {
			if err := f.Finish(ctx); err != nil {
				o.err = fmt.Errorf("%s: %w", o.Name(), err)
			}
		}
		if n, ok := o.Target.(interface{ Notes() []string }); ok {
			bar.done()
			for _, note := range n.Notes() {
				fmt.Fprintf(env.stderr, "sightline: note: %s: %s\n", o.name, note)
			}
		}
		o.applied = o.err == nil
	}
}

// changes counts what would be written or removed.
func changes(all []*outcome) int {
	n := 0
	for _, o := range all {
		if o.err == nil {
			n += len(o.diff.Added) + len(o.diff.Changed) + len(o.diff.Removed)
		}
	}
	return n
}

// exitOf is the error of the exit code: a target that could not be read or written weighs more than what was refused.
func exitOf(all []*outcome) error {
	code := 0
	for _, o := range all {
		switch {
		case o.err != nil && !o.guarded:
			code = exitUpstream
		case (o.err != nil || len(o.failed) > 0) && code == 0:
			code = exitProblems
		}
	}
	if code == 0 {
		return nil
	}
	return exitError{code: code}
}

// ask wants a yes from the terminal that is the standard input. Where the standard error is none, the question goes there
// too.
func ask(env environment, n int) (bool, error) {
	question := env.stderr
	if both, ok := env.stdin.(io.Writer); ok && !isTerminal(env.stderr) {
		question = both
	}
	if !isTerminal(env.stdin) {
		return false, hintError{errors.New("there is no terminal to ask on, so nothing was changed"), "look at the changes with `sightline diff --target NAME`, and use --yes"}
	}
	fmt.Fprintf(question, "Apply %s? Only \"yes\" does it: ", plural(n, "change"))
	line, err := bufio.NewReader(env.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	return strings.TrimSpace(line) == "yes", nil
}

// A line is one artifact of a diff, with its owner.
type line struct {
	owner, path string
	mark, code  string
	change      string // unified diff
}

// linesOf lists a diff by owner and path.
func linesOf(d plan.Diff) []line {
	var out []line
	for _, part := range []struct {
		mark, code string
		changes    []plan.Change
	}{{"+", "32", d.Added}, {"~", "33", d.Changed}, {"-", "31", d.Removed}} {
		for _, c := range part.changes {
			out = append(out, line{owner: ownerOf(c.Artifact), path: c.Artifact.Path, mark: part.mark, code: part.code, change: c.Unified})
		}
	}
	slices.SortStableFunc(out, func(a, b line) int {
		if c := strings.Compare(a.owner, b.owner); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	return out
}

// ownerOf is an artifact's owner; where a target does not keep it, that of the path of a rule file.
func ownerOf(a plan.Artifact) string {
	if !a.Owner.IsZero() {
		return a.Owner.String()
	}
	parts := strings.Split(a.Path, "/")
	if a.Kind != plan.KindRules || len(parts) != 4 || parts[1] == "default" && parts[2] == "unowned" {
		return ""
	}
	if user, ok := strings.CutPrefix(parts[2], "user-"); ok {
		return catalog.Ref{Kind: "user", Namespace: parts[1], Name: user}.String()
	}
	return catalog.Ref{Kind: "group", Namespace: parts[1], Name: parts[2]}.String()
}

// writeChanges prints a diff per owner; with lines also what changed inside.
func writeChanges(w io.Writer, st style, d plan.Diff, inside bool) {
	lines := linesOf(d)
	for i := 0; i < len(lines); {
		owner, n := lines[i].owner, map[string]int{}
		j := i
		for ; j < len(lines) && lines[j].owner == owner; j++ {
			n[lines[j].mark]++
		}
		if owner == "" {
			owner = "without an owner"
		}
		fmt.Fprintf(w, "  %s: %s, %s, %s\n", st.bold(owner), st.paint("32", fmt.Sprintf("%d to add", n["+"])), st.paint("33", fmt.Sprintf("%d to change", n["~"])), st.paint("31", fmt.Sprintf("%d to remove", n["-"])))
		for ; i < j; i++ {
			fmt.Fprintf(w, "    %s\n", st.paint(lines[i].code, lines[i].mark+" "+lines[i].path))
			if inside {
				writeUnified(w, st, lines[i].change)
			}
		}
	}
}

// writeUnified prints a unified diff, coloured.
func writeUnified(w io.Writer, st style, unified string) {
	for l := range strings.Lines(unified) {
		text := strings.TrimRight(l, "\n")
		switch {
		case strings.HasPrefix(text, "+"):
			text = st.paint("32", text)
		case strings.HasPrefix(text, "-"):
			text = st.paint("31", text)
		case strings.HasPrefix(text, "@@"):
			text = st.paint("36", text)
		}
		fmt.Fprintf(w, "      %s\n", text)
	}
}

// writeApplied prints what is to be done at each target, or what was done.
func writeApplied(env environment, all []*outcome, before bool) error {
	var b bytes.Buffer
	st := newStyle(env.stdout, env.env)
	for _, o := range all {
		if before {
			fmt.Fprintln(&b, st.bold(o.Name()))
			writeChanges(&b, st, o.diff, false)
			fmt.Fprintf(&b, "  %d to add, %d to change, %d to remove, %d unchanged\n", len(o.diff.Added), len(o.diff.Changed), len(o.diff.Removed), len(o.diff.Unchanged))
			continue
		}
		if o.applied && len(o.failed) == 0 {
			fmt.Fprintf(&b, "%s: %s: %d added, %d changed, %d removed\n", st.paint("32", "done"), o.Name(), len(o.diff.Added), len(o.diff.Changed), len(o.diff.Removed))
		}
	}
	if _, err := env.stdout.Write(b.Bytes()); err != nil {
		return err
	}
	if !before {
		writeFailures(env, all)
	}
	return nil
}

// writeFailures prints what went wrong, with owner and file.
func writeFailures(env environment, all []*outcome) {
	st := newStyle(env.stderr, env.env)
	for _, o := range all {
		if o.err != nil {
			fmt.Fprintf(env.stderr, "%s %s\n", st.severityMark(catalog.SeverityError, "sightline: error:"), o.err)
			if hint := hintOf(o.err); hint != "" {
				fmt.Fprintf(env.stderr, "%s %s\n", st.bold("sightline: hint:"), hint)
			}
		}
		for _, f := range o.failed {
			fmt.Fprintf(env.stderr, "%s %s: %s of %s: %s\n", st.severityMark(catalog.SeverityError, "sightline: error:"), o.Name(), f.Artifact.Path, ownerName(f.Artifact), f.Err)
			if hint := hintOf(f.Err); hint != "" {
				fmt.Fprintf(env.stderr, "%s %s\n", st.bold("sightline: hint:"), hint)
			}
		}
		if len(o.failed) > 0 {
			fmt.Fprintf(env.stderr, "sightline: %s: %s could not be written, the others were; nothing was removed\n", o.Name(), plural(len(o.failed), "artifact"))
		}
	}
}

func ownerName(a plan.Artifact) string {
	if o := ownerOf(a); o != "" {
		return o
	}
	return "nobody"
}

// writeAppliedJSON prints the same for programs.
func writeAppliedJSON(w io.Writer, all []*outcome) error {
	type artifact struct {
		Path  string `json:"path"`
		Owner string `json:"owner"`
		Diff  string `json:"diff,omitempty"`
		Error string `json:"error,omitempty"`
	}
	type target struct {
		Target    string     `json:"target"`
		Name      string     `json:"name"`
		Added     []artifact `json:"added"`
		Changed   []artifact `json:"changed"`
		Removed   []artifact `json:"removed"`
		Unchanged int        `json:"unchanged"`
		Failed    []artifact `json:"failed"`
		Applied   bool       `json:"applied"`
		Error     string     `json:"error,omitempty"`
	}
	list := func(changes []plan.Change) []artifact {
		out := []artifact{}
		for _, c := range changes {
			out = append(out, artifact{Path: c.Artifact.Path, Owner: ownerOf(c.Artifact), Diff: c.Unified})
		}
		return out
	}
	targets := []target{}
	for _, o := range all {
		t := target{
			Target: o.name, Name: o.Name(), Added: list(o.diff.Added), Changed: list(o.diff.Changed), Removed: list(o.diff.Removed),
			Unchanged: len(o.diff.Unchanged), Failed: []artifact{}, Applied: o.applied,
		}
		for _, f := range o.failed {
			t.Failed = append(t.Failed, artifact{Path: f.Artifact.Path, Owner: ownerOf(f.Artifact), Error: f.Err.Error()})
		}
		if o.err != nil {
			t.Error = o.err.Error()
		}
		targets = append(targets, t)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"targets": targets})
}

// diffTargets shows what apply would do at targets, with the lines that change.
func diffTargets(ctx context.Context, env environment, p *plan.Plan, targets []namedTarget, format string, code bool) error {
	all := look(ctx, env, targets, true)
	if format == "json" {
		if err := writeAppliedJSON(env.stdout, all); err != nil {
			return err
		}
	} else {
		var b bytes.Buffer
		st := newStyle(env.stdout, env.env)
		for _, o := range all {
			if o.err != nil {
				continue
			}
			fmt.Fprintln(&b, st.bold(o.Name()))
			writeChanges(&b, st, o.diff, true)
			fmt.Fprintf(&b, "  %d to add, %d to change, %d to remove, %d unchanged\n", len(o.diff.Added), len(o.diff.Changed), len(o.diff.Removed), len(o.diff.Unchanged))
		}
		if _, err := env.stdout.Write(b.Bytes()); err != nil {
			return err
		}
		writeFailures(env, all)
	}
	if err := exitOf(all); err != nil {
		return err
	}
	if code && changes(all) > 0 {
		return exitError{code: exitProblems}
	}
	return nil
}
