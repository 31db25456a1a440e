package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine/remote"
	"github.com/sightline-dev/sightline/slo"
	"github.com/sightline-dev/sightline/upstream"
)

// askReality asks a Prometheus for what objectives read: two queries for each metric and set of labels, however many
// objectives read it, and once for names, types and the retention.
func askReality(ctx context.Context, client *remote.Client, bar *progress, objectives []slo.Objective) (*slo.Reality, error) {
	defer bar.done()
	bar.say("sightline: asking for metrics")
	r := &slo.Reality{Answers: map[string][]slo.Seen{}, Retention: client.Retention(ctx)}
	var err error
	if r.Metrics, err = client.MetricNames(ctx); err != nil {
		return nil, err
	}
	if r.Types, err = client.Types(ctx); err != nil {
		return nil, err
	}
	questions := slo.Questions(objectives)
	now := time.Now()
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, q := range questions {
		g.Go(func() error {
			if !slices.Contains(r.Metrics, q.Metric) {
				return nil
			}
			series, err := client.Query(ctx, q.Series(), now)
			if err != nil {
				return err
			}
			samples, err := client.Query(ctx, q.Samples(), now)
			if err != nil {
				return err
			}
			most := map[string]float64{}
			for _, s := range samples {
				most[rowKey(s.Labels, q.Labels)] = s.Value
			}
			var seen []slo.Seen
			for _, s := range series {
				seen = append(seen, slo.Seen{Labels: s.Labels, Series: s.Value, Samples: most[rowKey(s.Labels, q.Labels)]})
			}
			mu.Lock()
			defer mu.Unlock()
			bar.say("sightline: asked for %d of %d metrics", i+1, len(questions))
			r.Answers[q.Series()] = seen
			return nil
		})
	}
	return r, g.Wait()
}

func rowKey(labels map[string]string, names []string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString(labels[n])
		b.WriteByte(0)
	}
	return b.String()
}

// lintReality gives the problems of objectives beside a Prometheus. Of a whole catalog it also names the entities in
// production without objectives, and the objectives that the server still has rules of.
func lintReality(ctx context.Context, bar *progress, o remote.Options, g *catalog.Graph, objectives []slo.Objective, whole bool) ([]catalog.Problem, error) {
	client, err := remote.New(o)
	if err != nil {
		return nil, err
	}
	reality, err := askReality(ctx, client, bar, objectives)
	if err != nil {
		return nil, err
	}
	out := reality.Check(objectives)
	for i := range out {
		place(&out[i], g)
	}
	anchored, err := client.Anchored(ctx)
	if err != nil {
		return nil, err
	}
	base := "the server does not know the modifier anchored: the base window is five minutes and a scrape"
	if anchored {
		base = "the server knows the modifier anchored: the base window can be five minutes, which counts every event"
	}
	out = append(out, catalog.Problem{Severity: catalog.SeverityInfo, Rule: "base-window", Message: base})
	out = append(out, withoutObjectives(g, objectives)...)
	if whole {
		unused, err := unusedObjectives(ctx, client, objectives)
		if err != nil {
			return nil, err
		}
		out = append(out, unused...)
	}
	return out, nil
}

// place points a problem at its annotation, or the selector, or the entity.
func place(p *catalog.Problem, g *catalog.Graph) {
	e := g.Entity(p.Entity)
	if e == nil {
		return
	}
	at, ok := e.AnnotationPositions[p.Annotation]
	if !ok {
		at, p.Annotation = e.Position, ""
	}
	if p.Rule == "label-missing" || p.Rule == "label-value-missing" {
		if of, ok := e.AnnotationPositions[catalog.Prefix+"selector"]; ok {
			at, p.Annotation = of, catalog.Prefix+"selector"
		}
	}
	p.File, p.Line, p.Column = at.File, at.Line, at.Column
}

// withoutObjectives names the components in production that nobody measures.
func withoutObjectives(g *catalog.Graph, objectives []slo.Objective) (out []catalog.Problem) {
	has := map[catalog.Ref]bool{}
	for i := range objectives {
		has[objectives[i].Entity] = true
	}
	for e := range g.Entities() {
		if e.Ref.Kind != "component" || e.Lifecycle != "production" || has[e.Ref] {
			continue
		}
		out = append(out, catalog.Problem{
			Severity: catalog.SeverityInfo, Rule: "entity-without-objective", Entity: e.Ref, Owner: g.Owner(e.Ref), File: e.Position.File, Line: e.Position.Line, Column: e.Position.Column,
			Message: "it is in production and has no objective", Hint: "set " + catalog.Prefix + "profile, or an objective; `sightline explain annotations` lists them",
		})
	}
	return out
}

// unusedObjectives names the objectives that the server evaluates rules of and the catalog no longer has.
func unusedObjectives(ctx context.Context, client *remote.Client, objectives []slo.Objective) (out []catalog.Problem, err error) {
	has := map[string]bool{}
	for i := range objectives {
		has[objectives[i].ID()] = true
	}
	found, err := client.Query(ctx, "count by (sloth_id, entity, sloth_slo) ("+slo.SeriesObjective+"{entity!=\"\"})", time.Now())
	if err != nil {
		return nil, err
	}
	for _, s := range found {
		if has[s.Labels["sloth_id"]] {
			continue
		}
		out = append(out, catalog.Problem{
			Severity: catalog.SeverityWarning, Rule: "objective-unused", Message: fmt.Sprintf("the server still evaluates rules of %s of %s, which the catalog no longer has", s.Labels["sloth_slo"], s.Labels["entity"]),
			Hint: "take its rules away: `sightline apply`, or `sightline generate` into the folder that the server reads",
		})
	}
	return out, nil
}

// knowsAnchored asks a Prometheus whether rules for it may use the modifier.
func knowsAnchored(ctx context.Context, url string) (bool, error) {
	client, err := remote.New(remote.Options{URL: url})
	if err != nil {
		return false, hintError{err, "write it like http://prometheus:9090"}
	}
	anchored, err := client.Anchored(ctx)
	if err != nil {
		return false, exitError{exitUpstream, hintError{err, "check that it runs, and that --prometheus is what stands before /api/v1; without the flag the rules fit every server"}}
	}
	return anchored, nil
}

// examineReality tells doctor in one line what lint tells of each objective.
func (d *doctor) examineReality(ctx context.Context, out *upstream.Findings, o remote.Options) {
	objectives := d.read().objectives
	if len(objectives) == 0 {
		return
	}
	client, err := remote.New(o)
	if err != nil {
		return // the check has said so
	}
	reality, err := askReality(ctx, client, newProgress(io.Discard, true), objectives)
	if err != nil {
		out.Skip("", "the objectives were not compared with what it has: %v", err)
		return
	}
	rules := map[string]int{}
	bad := 0
	for _, p := range reality.Check(objectives) {
		if p.Severity != catalog.SeverityInfo && p.Rule != "retention-short" { // of which there is a finding
			rules[p.Rule]++
			bad++
		}
	}
	if bad == 0 {
		out.OK("everything that the objectives read is there")
		return
	}
	var parts []string
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		parts = append(parts, fmt.Sprintf("%s %d", rule, rules[rule]))
	}
	out.Warn("`sightline lint --config "+d.file+" --prometheus "+client.Address()+"` lists them", "%d of %s cannot be measured as they are: %s", bad, plural(len(objectives), "objective"), strings.Join(parts, ", "))
}
