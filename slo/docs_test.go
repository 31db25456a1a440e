package slo

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
)

// TestTheDocumentOfIndicatorsIsTheLibrary holds docs/indicators.md against the kinds and the built-in files. UPDATE_DOCS=1
// writes it.
func TestTheDocumentOfIndicatorsIsTheLibrary(t *testing.T) {
	lib, err := LoadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	const path = "../docs/indicators.md"
	want := indicatorsDocument(lib)
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(want, string(got)); d != "" {
		t.Errorf("run `make docs` (-want +got):\n%s", d)
	}
}

func indicatorsDocument(lib *Library) string {
	var b strings.Builder
	b.WriteString("# Indicators\n\nWritten by `make docs` from the built-in indicator files (`slo/library`) and the kinds that the program knows.\n\n" +
		"An entity has the indicators of its profile, by kind and `spec.type` or by `sightline.dev/profile`. Targets, in percent,\n" +
		"depend on the tier; `sightline.dev/objective.<indicator>` sets another, with another threshold after `@`. How the rules\ncount: [slo.md](slo.md).\n")
	for _, p := range lib.Profiles() {
		fmt.Fprintf(&b, "\n## %s\n\nOn %s", p.Name, strings.Join(p.Kinds, ", "))
		switch {
		case p.Annotation != "":
			fmt.Fprintf(&b, " with the annotation `%s`, beside the other profile", p.Annotation)
		case len(p.Types) > 0:
			fmt.Fprintf(&b, " of `spec.type` %s", strings.Join(p.Types, ", "))
		}
		fmt.Fprintf(&b, ". Default selector: `%s`.\n\n| indicator | kind | counts | tier 1 | 2 | 3 | 4 | threshold |\n|---|---|---|---|---|---|---|---|\n", p.Selector)
		for _, i := range p.Indicators {
			targets := "| when asked for | | | "
			if len(i.Objective) > 0 {
				targets = ""
				for _, tier := range []string{"1", "2", "3", "4"} {
					targets += "| " + cmp.Or(i.Objective[tier], i.Objective["3"]) + " "
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s %s| %s |\n", i.Name, i.kind(), i.Title, targets, i.Threshold)
		}
		b.WriteString("\n")
		for _, i := range p.Indicators {
			threshold := cmp.Or(i.Threshold, "$threshold")
			errs, total, err := kinds[i.kind()].queries(i, threshold, NoTrafficIgnore)
			if err != nil {
				return err.Error()
			}
			fmt.Fprintf(&b, "`%s`, bad and all:\n\n```promql\n%s\n%s\n```\n", i.Name, errs, total)
		}
	}
	b.WriteString("\n## Kinds\n\nEvery kind comes down to the rates of bad and of all events, so that windows, alerts and budget are the same for all.\n\n" +
		"| kind | an event is | needs | may have | no traffic may be bad | meaning |\n|---|---|---|---|---|---|\n")
	for _, k := range []Kind{KindEvents, KindHistogram, KindNativeHistogram, KindProbe, KindFreshness, KindThroughput, KindTimeSlice} {
		d, bad := kinds[k], "no"
		if k.countsTime() {
			bad = "yes"
		}
		code := func(keys []string) string {
			out := slices.Clone(keys)
			for i := range out {
				out[i] = "`" + out[i] + "`"
			}
			return strings.Join(out, ", ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", k, d.unit, code(d.needs), code(d.takes), bad, d.meaning)
	}
	b.WriteString("\n## Files of your own\n\n`slo.library` in the configuration names a folder. Each `*.yaml` in it is a profile; one of the same name\n" +
		"replaces the built-in one. `$selector` stands for the matchers, `$window` for the range, `$slice` for the slice of\n" +
		"`time-slice`, `$threshold` for a matcher of `le` and `$seconds` for the threshold as a number. An indicator without\n" +
		"`objective` is made only where an annotation asks for it. Beside the keys of its kind, an indicator has `name`, `title`,\n" +
		"`objective` (the target by tier) and `kind` (`events` where it is left out). One of each kind:\n\n```yaml\n")
	example, err := os.ReadFile("testdata/kinds/kinds.yaml")
	if err != nil {
		return err.Error()
	}
	b.Write(example)
	b.WriteString("```\n\nThe queries of the kinds need no Prometheus newer than 2.42; native histograms have to be switched on where they are stored.\n")
	return b.String()
}
