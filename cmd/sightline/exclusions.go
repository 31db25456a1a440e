package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/slo"
)

// exclusionFiles reads the files that paths and globs name, each once, sorted by name. A glob may match none yet.
func exclusionFiles(paths []string) ([]slo.ExclusionFile, error) {
	const hint = "slo.exclusions names files that this process may read, or quoted globs such as 'exclusions/*.yaml'"
	var names []string
	for _, p := range paths {
		if !strings.ContainsAny(p, "*?[{") {
			names = append(names, p)
			continue
		}
		found, err := doublestar.FilepathGlob(p, doublestar.WithFilesOnly())
		if err != nil {
			return nil, hintError{fmt.Errorf("slo.exclusions: %q: %w", p, err), hint}
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	var out []slo.ExclusionFile
	for _, name := range slices.Compact(names) {
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, hintError{fmt.Errorf("slo.exclusions: %w", err), hint}
		}
		out = append(out, slo.ExclusionFile{Name: name, Body: body})
	}
	return out, nil
}

// addExpired adds the exclusions that have no effect any more to the problems of a plan, which stay sorted. They depend on
// the day, so the plan's artifact of problems does not have them.
func addExpired(p *plan.Plan, objectives []slo.Objective) {
	if found := slo.ExpiredExclusions(objectives, time.Now()); len(found) > 0 {
		p.Problems = append(p.Problems, found...)
		slices.SortFunc(p.Problems, catalog.Problem.Compare)
	}
}
