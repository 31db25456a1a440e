package correlate

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/exporter"
)

// A JobLog is what a CI job wrote: its beginning and its end, when the whole is too long.
type JobLog struct {
	Head, Tail []byte
	Left       int64 // bytes between Head and Tail that are left out; 0: there is no Tail
	Cut        bool  // Tail is not the end: the rest was not read
}

const (
	maxLogLine  = 64 << 10 // bytes of one line; Loki's own limit is 256 KiB
	maxSections = 1000     // of one job
	maxKeyLines = 150      // of one private key
)

// JobLogKind is the value of the label kind that the lines of job logs have.
const JobLogKind = "job_log"

var (
	sectionMark = regexp.MustCompile(`section_(start|end):([0-9]{1,12}):([A-Za-z0-9_.-]+)(?:\[[^\]\r\n]*\])?\r`)
	// GitLab Runner's own timestamps: the time, the stream's number, O or E, and + where the line goes on.
	runnerStamp = regexp.MustCompile(`^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z) [0-9a-f]{2}[EO]([ +]?)`)
	keyBegins   = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)
	keyEnds     = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY`)
)

// ReadJobLog makes log lines and spans of the log of a GitLab job that ran. Each section of the log is a span below the span of the job, or
// below the section that it stands in; one that never ends, as when the script stopped in it, ends with the job. A line has the
// span_id of its section, and the time that GitLab Runner wrote before it, else that of the last mark of a section; lines
// of the same time follow each other by a nanosecond. All times lie between the start and the finish of the job. Colours and
// other control sequences are taken out, of what was written over only the last is kept, and secrets are masked.
//
// It is pure: the same log gives the same ids, times and text.
func ReadJobLog(r exporter.Run, log JobLog, mask *Mask) (lines []Line, sections []Span) {
	job, ok := SpanOf(r)
	if !ok || r.Level != exporter.LevelTask {
		return nil, nil
	}
	l := newLogReader(&r, job, mask)
	head := log.Head
	if log.Left > 0 || log.Cut {
		head = head[:bytes.LastIndexByte(head, '\n')+1] // the last line goes on in what is left out
	}
	l.all(head)
	if log.Left > 0 {
		l.line(fmt.Sprintf("[%d bytes of this log are left out]", log.Left))
		if i := bytes.IndexByte(log.Tail, '\n'); i >= 0 {
			l.all(log.Tail[i+1:])
		}
	}
	if log.Cut {
		l.line("[this log is longer; its end was not read]")
	}
	for _, s := range l.open {
		l.sections[s].End = job.End
	}
	return l.lines, l.sections
}

// A logReader is one call of ReadJobLog.
type logReader struct {
	run      *exporter.Run
	place    place
	job      Span
	mask     *Mask
	labels   []Label
	clock    time.Time // of the last mark or timestamp
	last     time.Time // of the last line
	lines    []Line
	sections []Span
	open     []int // indexes of sections, the innermost last
	names    []string
	key      int  // lines that may still belong to a private key
	part     Span // of a scaffolder's step; zero: the innermost open section, or the run
}

func newLogReader(r *exporter.Run, job Span, mask *Mask) *logReader {
	p, _ := locate(r)
	return &logReader{run: r, place: p, job: job, mask: mask, clock: job.Start, labels: labels("kind", JobLogKind, "level", "info", "owner", r.Owner.String(), "service_name", service(r), "source", r.ID.Source)}
}

// all puts lines together that the runner has cut up, and takes each.
func (l *logReader) all(log []byte) {
	var whole bytes.Buffer
	flush := func() {
		if whole.Len() > 0 {
			l.marked(whole.String())
			whole.Reset()
		}
	}
	for line := range bytes.Lines(log) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		m := runnerStamp.FindSubmatch(line)
		if m == nil {
			flush()
			whole.Write(line)
			continue
		}
		line = line[len(m[0]):]
		if string(m[2]) != "+" {
			flush()
			if t, err := time.Parse(time.RFC3339Nano, string(m[1])); err == nil {
				l.clock = l.within(t)
			}
		}
		whole.Write(line)
	}
	flush()
}

// marked takes a line that may hold marks of sections.
func (l *logReader) marked(s string) {
	at := 0
	for _, m := range sectionMark.FindAllStringSubmatchIndex(s, -1) {
		l.text(s[at:m[0]])
		at = m[1]
		unix, err := strconv.ParseInt(s[m[4]:m[5]], 10, 64)
		if err != nil {
			continue
		}
		if name := s[m[6]:m[7]]; s[m[2]:m[3]] == "start" {
			l.begin(name, unix)
		} else {
			l.end(name, unix)
		}
	}
	l.text(s[at:])
}

// within keeps a time in the job.
func (l *logReader) within(t time.Time) time.Time {
	if t.Before(l.job.Start) {
		return l.job.Start
	}
	if t.After(l.job.End) {
		return l.job.End
	}
	return t
}

func (l *logReader) begin(name string, unix int64) {
	l.clock = l.within(time.Unix(unix, 0).UTC())
	if len(l.sections) == maxSections {
		return
	}
	parent := l.job.ID
	if n := len(l.open); n > 0 {
		parent = l.sections[l.open[n-1]].ID
	}
	d := digest(l.place.trace, l.place.kind, l.place.task, "section", name, strconv.FormatInt(unix, 10), strconv.Itoa(len(l.sections)))
	l.open, l.names = append(l.open, len(l.sections)), append(l.names, name)
	name = l.mask.Apply(name)
	l.sections = append(l.sections, Span{
		TraceID: l.job.TraceID, ID: trace.SpanID(d[:8]), Parent: parent, Name: exporter.NormalizeName(name), Kind: trace.SpanKindInternal, Start: l.clock, End: l.job.End, Resource: l.job.Resource,
		Attributes: []attribute.KeyValue{semconv.CICDPipelineName(l.run.Pipeline), semconv.CICDPipelineTaskName(l.run.Name), semconv.CICDPipelineTaskRunID(l.place.task), attribute.String("section", name)},
	})
}

// end also ends the sections in it that did not.
func (l *logReader) end(name string, unix int64) {
	i := len(l.names) - 1
	for i >= 0 && l.names[i] != name {
		i--
	}
	l.clock = l.within(time.Unix(unix, 0).UTC())
	if i < 0 {
		return // it began in what is left out
	}
	for _, s := range l.open[i:] {
		l.sections[s].End = l.clock
		if l.clock.Before(l.sections[s].Start) {
			l.sections[s].End = l.sections[s].Start
		}
	}
	l.open, l.names = l.open[:i], l.names[:i]
}

// text takes what stands between marks.
func (l *logReader) text(s string) {
	s = strings.TrimRightFunc(plain(s), unicode.IsSpace)
	switch {
	case s == "":
		return
	case l.key > 0:
		if l.key--; keyEnds.MatchString(s) {
			l.key = 0
		}
		return
	case keyBegins.MatchString(s):
		if !keyEnds.MatchString(s) {
			l.key = maxKeyLines
		}
		s = s[:keyBegins.FindStringIndex(s)[0]] + Masked
	}
	s = l.mask.Apply(s)
	if len(s) > maxLogLine {
		s = strings.ToValidUTF8(s[:maxLogLine], "") + " [cut]"
	}
	l.line(s)
}

func (l *logReader) line(s string) {
	at := l.clock
	if !at.After(l.last) {
		at = l.last.Add(1)
	}
	l.last = at
	span, section, task := l.job.ID, l.part.Name, ""
	if n := len(l.open); n > 0 {
		span, section = l.sections[l.open[n-1]].ID, l.sections[l.open[n-1]].Name
	} else if l.part.ID.IsValid() {
		span = l.part.ID
	}
	if l.run.Level == exporter.LevelTask {
		task = l.run.Name
	}
	l.lines = append(l.lines, Line{Time: at, Labels: l.labels, Text: s, Metadata: labels(
		"entity", l.run.Entity.String(), "run_id", l.run.ID.Key, "section", section, "span_id", span.String(),
		"system", l.run.System.String(), "task", task, "trace_id", l.job.TraceID.String())})
}

// plain is what a terminal shows of a line: without control sequences, and with what was written over gone.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == unicode.ReplacementChar
	}) {
		return s
	}
	var out []rune // of which the first stands in column begin; before it is nothing but blanks
	begin, column := 0, 0
	for in := []rune(strings.ToValidUTF8(s, string(unicode.ReplacementChar))); len(in) > 0; {
		c := in[0]
		in = in[1:]
		switch {
		case c == '\x1b' || c == 0x9b:
			var erase int
			in, erase = escape(in, c == 0x9b)
			switch erase {
			case 0:
				out = out[:min(max(column-begin, 0), len(out))]
			case 2:
				out = out[:0]
			}
		case c == '\r':
			column = 0
		case c == '\b':
			column = max(column-1, 0)
		case c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0:
		default:
			if len(out) == 0 {
				begin = column
			} else if column < begin {
				out = append(slices.Repeat([]rune{' '}, begin-column), out...)
				begin = column
			}
			if i := column - begin; i < len(out) {
				out[i] = c
			} else {
				out = append(out, c)
			}
			column++
		}
	}
	if len(out) == 0 {
		return ""
	}
	return strings.Repeat(" ", begin) + string(out)
}

// escape skips what belongs to an escape character, or, with csi, to the one character that stands for ESC [. erase is 0 for "to the end of the line", 2 for the whole line, else -1.
func escape(in []rune, csi bool) (rest []rune, erase int) {
	is := func(c, from, to rune) bool { return c >= from && c <= to }
	if !csi && len(in) > 0 && in[0] == '[' {
		in, csi = in[1:], true
	}
	if len(in) == 0 {
		return in, -1
	}
	if csi {
		i := 0
		for i < len(in) && is(in[i], 0x20, 0x3f) {
			i++
		}
		if i == len(in) {
			return nil, -1
		}
		if !is(in[i], 0x40, 0x7e) {
			return in[i:], -1 // broken: the rest is text
		}
		if in[i] != 'K' {
			return in[i+1:], -1
		}
		switch string(in[:i]) {
		case "", "0":
			return in[i+1:], 0
		case "2":
			return in[i+1:], 2
		}
		return in[i+1:], -1
	}
	switch in[0] {
	case ']', 'P', '^', '_', 'X': // a string, up to BEL or ESC \
		for i := 1; i < len(in); i++ {
			if in[i] == '\a' {
				return in[i+1:], -1
			}
			if in[i] == '\x1b' && i+1 < len(in) && in[i+1] == '\\' {
				return in[i+2:], -1
			}
		}
		return nil, -1
	default:
		i := 0
		for i < len(in) && is(in[i], 0x20, 0x2f) {
			i++
		}
		if i < len(in) && is(in[i], 0x30, 0x7e) {
			i++
		}
		return in[i:], -1
	}
}
