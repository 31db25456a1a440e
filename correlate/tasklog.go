package correlate

import (
	"fmt"
	"strings"

	"github.com/sightline-dev/sightline/exporter"
)

// ReadTaskLog makes log lines of what a scaffolder task wrote. The section of a line is the name of its step, and its span_id that of the
// step's span, which is sent with the step's run. Of more than limit bytes only the beginning and the end are kept, the end three
// times as long. Times, masking and control sequences are treated as in ReadJobLog.
//
// It is pure: the same log gives the same ids, times and text.
func ReadTaskLog(r exporter.Run, log []exporter.LogLine, limit int, mask *Mask) []Line {
	task, ok := SpanOf(r)
	if !ok {
		return nil
	}
	var all []exporter.LogLine // one line each
	for _, line := range log {
		for text := range strings.SplitSeq(line.Text, "\n") {
			line.Text = text
			all = append(all, line)
		}
	}
	head, tail, left := ends(all, limit)
	l := newLogReader(&r, task, mask)
	l.steps(all[:head])
	if left > 0 {
		l.part = Span{}
		l.line(fmt.Sprintf("[%d bytes of this log are left out]", left))
		l.steps(all[tail:])
	}
	return l.lines
}

// ends tells where the beginning of a log that is longer than limit ends and its end begins, and how many bytes lie between.
func ends(all []exporter.LogLine, limit int) (head, tail, left int) {
	size := func(i int) int { return len(all[i].Text) + 1 }
	for i := range all {
		left += size(i)
	}
	if left <= limit {
		return len(all), len(all), 0
	}
	tail = len(all)
	for room := limit/4 - size(head); room >= 0; room -= size(head) {
		left -= size(head)
		head++
	}
	for room := limit - limit/4 - size(tail-1); room >= 0; room -= size(tail - 1) {
		tail--
		left -= size(tail)
	}
	return head, tail, left
}

// steps takes lines of a scaffolder task.
func (l *logReader) steps(lines []exporter.LogLine) {
	for _, line := range lines {
		l.clock, l.part = l.within(line.Time), Span{}
		if line.Run != l.run.ID {
			if p, ok := locate(&exporter.Run{ID: line.Run, Parent: l.run.ID, Level: exporter.LevelTask}); ok {
				l.part = Span{ID: p.taskID(), Name: exporter.NormalizeName(l.mask.Apply(line.Part))}
			}
		}
		l.text(line.Text)
	}
}
