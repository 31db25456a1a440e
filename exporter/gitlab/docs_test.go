package gitlab

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheDocumentedStatusesAreThoseOfTheCode holds the table of docs/gitlab.md against Statuses. UPDATE_DOCS=1 writes it.
func TestTheDocumentedStatusesAreThoseOfTheCode(t *testing.T) {
	const path, begin, end = "../../docs/gitlab.md", "<!-- statuses -->\n", "<!-- end of statuses -->"
	var table strings.Builder
	table.WriteString("| status | failure reason | state | result |\n|---|---|---|---|\n")
	for _, s := range Statuses {
		reason := s.Reason
		if reason == "" && s.Status == "failed" {
			reason = "every other"
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", s.Status, reason, s.State, s.Result)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", path, begin, end)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), got); diff != "" {
		t.Errorf("%s is out of date (-want +got); run `make docs`:\n%s", path, diff)
	}
}
