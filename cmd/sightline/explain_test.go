package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
)

func TestTheAnnotationsAreExplainedWithinTheWidthOfTheTerminal(t *testing.T) {
	for _, width := range []int{80, 100, 160} {
		var out bytes.Buffer
		if err := explainAnnotations(&out, width); err != nil {
			t.Fatal(err)
		}
		meaning, grammar, _ := strings.Cut(out.String(), "\nGrammar:\n")
		for line := range strings.Lines(meaning) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > max(width, 100) {
				t.Errorf("a line of %d characters where %d fit: %s", n, width, line)
			}
		}
		for line := range strings.Lines(grammar) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
				t.Errorf("a line of the grammar has %d characters: %s", n, line)
			}
		}
		words := strings.Join(strings.Fields(meaning), " ")
		for _, a := range catalog.AnnotationTable() {
			if !strings.Contains(words, strings.Join(strings.Fields(a.Meaning), " ")) {
				t.Errorf("width %d: the meaning of %s is not whole", width, a.Key)
			}
		}
	}
}

func TestTextIsBrokenBetweenWords(t *testing.T) {
	if diff := cmp.Diff([]string{"one two", "éééé six", "a-long-word", "b"}, wrapped("one two éééé  six\na-long-word b", 8)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
