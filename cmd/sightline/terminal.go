package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sightline-dev/sightline/catalog"
)

// A style colours text, or leaves it as it is where the reader is no terminal or asked for none (NO_COLOR).
type style struct{ colour bool }

func newStyle(w io.Writer, env func(string) string) style {
	return style{isTerminal(w) && env("NO_COLOR") == "" && env("TERM") != "dumb"}
}

// isTerminal tells whether a reader or writer is one.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s style) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string { return s.paint("1", text) }
func (s style) dim(text string) string  { return s.paint("2", text) }

func (s style) severity(v catalog.Severity) string { return s.severityMark(v, string(v)) }

func (s style) severityMark(v catalog.Severity, text string) string {
	switch v {
	case catalog.SeverityError:
		return s.paint("31;1", text)
	case catalog.SeverityWarning:
		return s.paint("33", text)
	default:
		return s.paint("36", text)
	}
}

// columns is the width of a terminal; 100 for anything else.
func columns(w any) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 100
}

// wrapped breaks a text into lines of at most width characters; a longer word has a line of its own.
func wrapped(text string, width int) (lines []string) {
	for _, word := range strings.Fields(text) {
		if n := len(lines); n > 0 && utf8.RuneCountInString(lines[n-1])+1+utf8.RuneCountInString(word) <= width {
			lines[n-1] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

// progress says on a terminal what long work is doing, on one line that the next message replaces.
type progress struct {
	w  io.Writer
	on bool
}

func newProgress(w io.Writer, quiet bool) *progress { return &progress{w, isTerminal(w) && !quiet} }

func (p *progress) say(format string, args ...any) {
	if p.on {
		fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	}
}

func (p *progress) done() {
	if p.on {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
