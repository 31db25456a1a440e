package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/catalog"
)

// A reporter writes problems in one format. Problems come sorted.
type reporter func(w io.Writer, problems []catalog.Problem, style style) error

var reporters = map[string]reporter{
	"text":        reportText,
	"json":        reportJSON,
	"junit":       reportJUnit,
	"codequality": reportCodeQuality,
	"sarif":       reportSARIF,
}

// reportText prints each problem with the offending line of the user's file and a mark under the place.
func reportText(w io.Writer, problems []catalog.Problem, st style) error {
	b := bufio.NewWriter(w)
	lines := sourceLines{}
	for _, p := range problems {
		where := p.Entity.String()
		if p.File != "" {
			where = fmt.Sprintf("%s:%d:%d", p.File, max(p.Line, 1), max(p.Column, 1))
		}
		fmt.Fprintf(b, "%s: %s: ", st.bold(cmp.Or(where, "catalog")), st.severity(p.Severity))
		if p.File != "" && !p.Entity.IsZero() {
			fmt.Fprintf(b, "%s: ", p.Entity)
		}
		if p.Annotation != "" {
			fmt.Fprintf(b, "%s: ", p.Annotation)
		}
		fmt.Fprintf(b, "%s %s\n", p.Message, st.dim("["+p.Rule+"]"))
		if text, ok := lines.line(p.File, p.Line); ok {
			number := fmt.Sprintf("%5d", p.Line)
			fmt.Fprintf(b, "%s %s\n", st.dim(number+" |"), strings.ReplaceAll(text, "\t", " "))
			if p.Column > 0 {
				fmt.Fprintf(b, "%s %s%s\n", st.dim("      |"), strings.Repeat(" ", p.Column-1), st.severityMark(p.Severity, "^"))
			}
		}
		if p.Hint != "" {
			fmt.Fprintf(b, "      %s %s\n", st.bold("hint:"), p.Hint)
		}
	}
	return b.Flush()
}

// sourceLines caches the lines of the files that problems point into.
type sourceLines map[string][]string

func (s sourceLines) line(file string, n int) (string, bool) {
	if file == "" || n < 1 {
		return "", false
	}
	lines, ok := s[file]
	if !ok {
		if b, err := os.ReadFile(file); err == nil {
			lines = strings.Split(string(b), "\n")
		}
		s[file] = lines
	}
	if n > len(lines) {
		return "", false
	}
	return strings.TrimRight(lines[n-1], "\r"), true
}

func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func reportJSON(w io.Writer, problems []catalog.Problem, _ style) error {
	if problems == nil {
		problems = []catalog.Problem{}
	}
	return encodeJSON(w, problems)
}

func message(p catalog.Problem) string {
	s := p.Message
	if p.Annotation != "" {
		s = p.Annotation + ": " + s
	}
	if p.Hint != "" {
		s += " (hint: " + p.Hint + ")"
	}
	return s
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	File      string        `xml:"file,attr,omitempty"`
	Failure   *junitFailure `xml:"failure"`
	SystemOut string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// reportJUnit writes one test case a problem; errors are failures, the rest is output. A clean catalog is one passed case.
func reportJUnit(w io.Writer, problems []catalog.Problem, _ style) error {
	suite := junitSuite{Name: "sightline lint"}
	for _, p := range problems {
		c := junitCase{Name: cmp.Or(p.Annotation, p.Rule), ClassName: cmp.Or(p.Entity.String(), "catalog"), File: p.File}
		text := message(p)
		if p.File != "" {
			text = fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, text)
		}
		if p.Severity == catalog.SeverityError {
			c.Failure = &junitFailure{message(p), p.Rule, text}
			suite.Failures++
		} else {
			c.SystemOut = string(p.Severity) + ": " + text
		}
		suite.Cases = append(suite.Cases, c)
	}
	if len(suite.Cases) == 0 {
		suite.Cases = []junitCase{{Name: "no problems", ClassName: "catalog"}}
	}
	suite.Tests = len(suite.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// fingerprint identifies a problem across runs as long as what it says stays the same; positions are left out.
func fingerprint(p catalog.Problem) string {
	h := sha256.New()
	for _, s := range []string{p.Rule, p.Entity.String(), p.Annotation, p.File, p.Message} {
		io.WriteString(h, s+"\x00")
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// reportCodeQuality writes GitLab's Code Quality report, a list of Code Climate issues.
func reportCodeQuality(w io.Writer, problems []catalog.Problem, _ style) error {
	type lines struct {
		Begin int `json:"begin"`
	}
	type location struct {
		Path  string `json:"path"`
		Lines lines  `json:"lines"`
	}
	type issue struct {
		Type        string   `json:"type"`
		Description string   `json:"description"`
		CheckName   string   `json:"check_name"`
		Fingerprint string   `json:"fingerprint"`
		Severity    string   `json:"severity"`
		Categories  []string `json:"categories"`
		Location    location `json:"location"`
	}
	severity := map[catalog.Severity]string{catalog.SeverityError: "major", catalog.SeverityWarning: "minor", catalog.SeverityInfo: "info"}
	out := []issue{}
	for _, p := range problems {
		out = append(out, issue{
			"issue", message(p), p.Rule, fingerprint(p), severity[p.Severity],
			[]string{"Style"},
			location{cmp.Or(p.File, "catalog-info.yaml"), lines{max(p.Line, 1)}},
		})
	}
	return encodeJSON(w, out)
}

// reportSARIF writes SARIF 2.1.0.
func reportSARIF(w io.Writer, problems []catalog.Problem, _ style) error {
	type object = map[string]any
	level := map[catalog.Severity]string{catalog.SeverityError: "error", catalog.SeverityWarning: "warning", catalog.SeverityInfo: "note"}
	ids := map[string]bool{}
	results := []object{}
	for _, p := range problems {
		ids[p.Rule] = true
		r := object{
			"ruleId": p.Rule, "level": level[p.Severity], "message": object{"text": message(p)},
			"partialFingerprints": object{"sightline/v1": fingerprint(p)},
		}
		location := object{}
		if p.File != "" {
			location["physicalLocation"] = object{
				"artifactLocation": object{"uri": p.File},
				"region":           object{"startLine": max(p.Line, 1), "startColumn": max(p.Column, 1)},
			}
		}
		if !p.Entity.IsZero() {
			location["logicalLocations"] = []object{{"fullyQualifiedName": p.Entity.String(), "kind": "object"}}
		}
		if len(location) > 0 {
			r["locations"] = []object{location}
		}
		results = append(results, r)
	}
	rules := []object{}
	for id := range ids {
		rules = append(rules, object{"id": id})
	}
	slices.SortFunc(rules, func(a, b object) int { return cmp.Compare(a["id"].(string), b["id"].(string)) })
	return encodeJSON(w, object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json",
		"version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": "sightline", "informationUri": "https://github.com/sightline-dev/sightline", "version": version, "rules": rules}},
			"results": results,
		}},
	})
}
