package slo

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sightline-dev/sightline/catalog"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestDocuments reads each testdata/documents/*.txtar: a sentence, slo.yaml, and what is made of it and said about it.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/documents/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			in := a.Files[0]
			slos, problems := readDocument(catalog.NewRef("component", "", "checkout"), in.Data)
			var b strings.Builder
			for _, s := range slos {
				o := s.objective()
				errs, total := s.counts.queries(o.NoTraffic)
				fmt.Fprintf(&b, "%d:%d %s %s%% window=%s%s severity=%s title=%q runbook=%q kind=%s", s.Line, s.Column, s.Indicator, s.Target.Percent(), s.Window, s.Window.Zone, s.MaxSeverity, s.Title, s.Runbook, o.Kind)
				if o.Threshold != "" {
					fmt.Fprintf(&b, " threshold=%s", o.Threshold)
				}
				if o.NoTraffic != "" || o.MinEvents != 0 {
					fmt.Fprintf(&b, " no-traffic=%s min-events=%d", o.NoTraffic, o.MinEvents)
				}
				fmt.Fprintf(&b, "\n  errors %s\n  total  %s\n", oneLine(errs), oneLine(total))
			}
			got := txtar.Archive{Comment: a.Comment, Files: []txtar.File{in, {Name: "objectives", Data: []byte(b.String())}}}
			b.Reset()
			for _, p := range sortedProblems(problems) {
				fmt.Fprintf(&b, "%d:%d %s %s: %s", p.Line, p.Column, p.Severity, p.Rule, p.Message)
				if p.Hint != "" {
					fmt.Fprintf(&b, " (%s)", p.Hint)
				}
				b.WriteByte('\n')
			}
			got.Files = append(got.Files, txtar.File{Name: "problems", Data: []byte(b.String())})
			if *update {
				if err := os.WriteFile(name, txtar.Format(&got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(&got))); d != "" {
				t.Errorf("(-want +got; -update writes it anew):\n%s", d)
			}
			for _, s := range slos {
				checkRules(t, s)
			}
		})
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func sortedProblems(problems []catalog.Problem) []catalog.Problem {
	return slices.SortedFunc(slices.Values(problems), catalog.Problem.Compare)
}

// checkRules compiles an SLO for both kinds of target and reads the rules as Prometheus does.
func checkRules(t *testing.T, s documentSLO) {
	t.Helper()
	o := s.objective()
	o.Entity, o.MaxSeverity = catalog.NewRef("component", "", "checkout"), SeverityPage
	if o.Window.Length() == 0 {
		o.Window.Days = 30
	}
	o.ErrorQuery, o.TotalQuery = s.counts.queries(o.NoTraffic)
	groups := Groups(o, RuleOptions{})
	if len(groups) != 2 || len(groups[0].Rules) < 10 {
		t.Errorf("%s: got %d groups", s.Indicator, len(groups))
	}
	body := AppendYAML(nil, groups)
	if _, errs := rulefmt.Parse(body, false, model.UTF8Validation); len(errs) > 0 {
		t.Errorf("%s: %v\n%s", s.Indicator, errs, body)
	}
}

// FuzzDocument checks that a document of any bytes ends in objectives whose rules Prometheus reads, and in problems.
func FuzzDocument(f *testing.F) {
	files, err := filepath.Glob("testdata/documents/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		slos, problems := readDocument(catalog.NewRef("component", "", "checkout"), body)
		if len(slos)+len(problems) == 0 && strings.TrimSpace(string(body)) == "" {
			t.Error("an empty document is no problem")
		}
		for _, s := range slos {
			checkRules(t, s)
		}
		for _, p := range problems {
			if p.Message == "" || p.Rule == "" {
				t.Errorf("a problem without message or rule: %+v", p)
			}
		}
	})
}
