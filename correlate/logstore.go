package correlate

import (
	"context"
	"regexp"
	"strings"
	"time"
)

// A LogStore answers questions about log lines. Safe for concurrent use; a call ends when its context does.
type LogStore interface {
	Lines(ctx context.Context, q LineQuery) (LineList, error)
}

// A Matcher compares a label's value: Op is "=", "!=", "=~" or "!~". A label that is not there has the value "".
type Matcher struct{ Name, Op, Value string }

// Equal matches one value.
func Equal(name, value string) Matcher { return Matcher{name, "=", value} }

// OneOf matches any of the values, whatever characters they hold.
func OneOf(name string, values ...string) Matcher {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return Matcher{name, "=~", strings.Join(quoted, "|")}
}

// A LineQuery says which lines are wanted.
type LineQuery struct {
	Index    []Matcher // of index labels; at least one
	Filter   []Matcher // of structured metadata
	From, To time.Time // To is exclusive
	Limit    int       // most lines, the newest; 0 means 100
}

// A LineList is the answer to a LineQuery.
type LineList struct {
	Items   []Line // in the order of time; Labels holds the metadata too, which stores do not tell apart
	Partial string // what is missing, in words; "" when nothing is
}

// Label gives the value of a label or of metadata; "" when there is none.
func (l Line) Label(name string) string {
	for _, list := range [][]Label{l.Labels, l.Metadata} {
		for _, x := range list {
			if x.Name == name {
				return x.Value
			}
		}
	}
	return ""
}
