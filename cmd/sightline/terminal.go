package main

import (
	"fmt"
	"io"
	"os"

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
