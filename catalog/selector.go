package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseSelector reads PromQL label matchers without braces and gives them in one canonical spelling. Regular
// expressions are not compiled here; whoever builds a query does that. The error says at which character it went wrong,
// counted from 1.
func parseSelector(s string) (string, error) {
	var out []string
	i := 0
	fail := func(at int, format string, args ...any) (string, error) {
		return "", fmt.Errorf("character %d: %s", utf8.RuneCountInString(s[:min(at, len(s))])+1, fmt.Sprintf(format, args...))
	}
	space := func() {
		for i < len(s) && strings.IndexByte(" \t\r\n", s[i]) >= 0 {
			i++
		}
	}
	for space(); i < len(s); space() {
		start := i
		var name string
		if s[i] == '"' || s[i] == '\'' || s[i] == '`' {
			value, n, err := unquotePrefix(s[i:])
			if err != nil {
				return fail(i, "%v", err)
			}
			if value == "" {
				return fail(i, "the label name is empty")
			}
			name = value
			i += n
		} else {
			for i < len(s) && labelByte(s[i], i > start) {
				i++
			}
			if name = s[start:i]; name == "" {
				return fail(i, "expected a label name, found %q", firstRune(s[i:]))
			}
		}
		if !plainLabel(name) {
			name = strconv.Quote(name)
		}
		space()
		rest, op := s[i:], ""
		for _, o := range []string{"=~", "!~", "!=", "="} {
			if strings.HasPrefix(rest, o) {
				op = o
				break
			}
		}
		if op == "" {
			return fail(i, "expected =, !=, =~ or !~ after the label %s", name)
		}
		i += len(op)
		space()
		if i == len(s) || strings.IndexByte("\"'`", s[i]) < 0 {
			return fail(i, "the value of the label %s needs quotes", name)
		}
		value, n, err := unquotePrefix(s[i:])
		if err != nil {
			return fail(i, "%v", err)
		}
		i += n
		out = append(out, name+op+strconv.Quote(value))
		space()
		if i < len(s) {
			if s[i] != ',' {
				return fail(i, "expected a comma, found %q", firstRune(s[i:]))
			}
			i++
		}
	}
	if len(out) == 0 {
		return fail(0, "there is no matcher")
	}
	return strings.Join(out, ","), nil
}

// unquotePrefix reads the quoted string at the start of s and tells how many bytes it takes.
func unquotePrefix(s string) (value string, n int, err error) {
	quote, rest := s[0], s[1:]
	if quote == '`' {
		end := strings.IndexByte(rest, '`')
		if end < 0 {
			return "", 0, fmt.Errorf("the quote %c is not closed", quote)
		}
		value, n = rest[:end], end+2
	} else {
		var b strings.Builder
		for {
			if rest == "" || rest[0] == '\n' {
				return "", 0, fmt.Errorf("the quote %c is not closed", quote)
			}
			if rest[0] == quote {
				break
			}
			c, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
			if err != nil {
				return "", 0, fmt.Errorf("bad escape in the quoted value")
			}
			if c < utf8.RuneSelf || !multibyte {
				b.WriteByte(byte(c))
			} else {
				b.WriteRune(c)
			}
			rest = tail
		}
		value, n = b.String(), len(s)-len(rest)+1
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, utf8.RuneError) {
		return "", 0, fmt.Errorf("the quoted value is not valid UTF-8")
	}
	return value, n, nil
}

func labelByte(c byte, notFirst bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || notFirst && c >= '0' && c <= '9'
}

func plainLabel(s string) bool {
	for i := range len(s) {
		if !labelByte(s[i], i > 0) {
			return false
		}
	}
	return s != ""
}

func firstRune(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}
