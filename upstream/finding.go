package upstream

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// A Level says how bad a Finding is.
type Level string

// The levels of findings.
const (
	LevelOK      Level = "ok"
	LevelSkipped Level = "skipped" // it could not or need not be checked
	LevelWarning Level = "warning"
	LevelError   Level = "error"
)

// A Finding is what a check of one upstream found: that all is well, or what is wrong and how it is mended.
type Finding struct {
	Level   Level  `json:"status"`
	Message string `json:"message"` // one sentence, without a full stop
	Hint    string `json:"hint,omitempty"`
}

// Findings are those of one check, in the order in which they were made. Not for concurrent use.
type Findings []Finding

// OK adds that something is well.
func (f *Findings) OK(format string, args ...any) {
	*f = append(*f, Finding{LevelOK, fmt.Sprintf(format, args...), ""})
}

// Skip adds that something was not checked.
func (f *Findings) Skip(hint, format string, args ...any) {
	*f = append(*f, Finding{LevelSkipped, fmt.Sprintf(format, args...), hint})
}

// Warn adds something that should be mended.
func (f *Findings) Warn(hint, format string, args ...any) {
	*f = append(*f, Finding{LevelWarning, fmt.Sprintf(format, args...), hint})
}

// Error adds something that must be mended.
func (f *Findings) Error(hint, format string, args ...any) {
	*f = append(*f, Finding{LevelError, fmt.Sprintf(format, args...), hint})
}

// Failed adds an error, with the hint that it carries, or else, or where that says little, another one.
func (f *Findings) Failed(doing string, err error, hint string) {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" && (h.Hint() != checkURL || hint == "") {
		hint = h.Hint()
	}
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		hint = "name a file that this process may read"
	}
	f.Error(hint, "%s: %s", doing, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// How far clocks may differ. The Date of an answer has whole seconds.
const (
	skewWarning = 10 * time.Second
	skewError   = 2 * time.Minute
)

// Clock adds how far the upstream's clock is from ours; nothing where it has not said what time it is.
func (f *Findings) Clock(c *Client) {
	skew, known := c.Skew()
	if !known {
		return
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	const hint = "let NTP set the clocks of both machines: times of runs, samples and tokens are compared"
	switch d := skew.Abs(); {
	case d >= skewError:
		f.Error(hint, "its clock is %s %s ours", d.Round(time.Second), way)
	case d >= skewWarning:
		f.Warn(hint, "its clock is %s %s ours", d.Round(time.Second), way)
	default:
		f.OK("its clock agrees with ours")
	}
}
