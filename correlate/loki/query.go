package loki

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/upstream"
)

const (
	// MaxLines is the most lines of one answer.
	MaxLines = 5000
	pageSize = 1000 // lines of one request; Loki's own default limit is 5000
)

// A Reader reads log lines. Safe for concurrent use; a call ends when its context does.
type Reader struct {
	client *upstream.Client
	header http.Header
}

// NewReader makes a Reader. The client's base URL is Loki's; tenant is the value of X-Scope-OrgID, "" for none.
func NewReader(client *upstream.Client, tenant string) *Reader {
	h := http.Header{"Accept": {"application/json"}}
	if tenant != "" {
		h.Set("X-Scope-OrgID", tenant)
	}
	return &Reader{client, h}
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// logQL writes a query. Values are quoted by the library, never pasted.
func logQL(q correlate.LineQuery) (string, error) {
	write := func(m correlate.Matcher) (string, error) {
		types := map[string]labels.MatchType{"=": labels.MatchEqual, "!=": labels.MatchNotEqual, "=~": labels.MatchRegexp, "!~": labels.MatchNotRegexp}
		kind, ok := types[m.Op]
		if !ok || !labelName.MatchString(m.Name) {
			return "", fmt.Errorf("%q %q is no matcher", m.Name, m.Op)
		}
		out, err := labels.NewMatcher(kind, m.Name, m.Value)
		if err != nil {
			return "", fmt.Errorf("matcher of %s: %w", m.Name, err)
		}
		return out.String(), nil
	}
	var index []string
	for _, m := range q.Index {
		text, err := write(m)
		if err != nil {
			return "", err
		}
		index = append(index, text)
	}
	if len(index) == 0 {
		return "", errors.New("a log query without a matcher of an index label")
	}
	out := "{" + strings.Join(index, ", ") + "}"
	for _, m := range q.Filter {
		text, err := write(m)
		if err != nil {
			return "", err
		}
		out += " | " + text
	}
	return out, nil
}

// Lines gives the newest lines that match, up to the limit, in the order of time. It reads page after page, backward in time; what a
// later page's failure leaves out is said in Partial.
func (r *Reader) Lines(ctx context.Context, q correlate.LineQuery) (correlate.LineList, error) {
	var out correlate.LineList
	query, err := logQL(q)
	if err != nil {
		return out, fmt.Errorf("read log lines: %w", err)
	}
	limit := min(max(cmp.Or(q.Limit, 100), 1), MaxLines)
	var missing []string
	say := func(s string) {
		if s != "" && !slices.Contains(missing, s) {
			missing = append(missing, s)
		}
	}
	seen := map[string]bool{} // lines of the earliest nanosecond so far, which the next page repeats
	var oldest time.Time
	for end := q.To; end.After(q.From); {
		// One more than is wanted tells whether there are more; those that are repeated come on top.
		want := min(pageSize, limit+1-len(out.Items)+len(seen))
		page, err := r.page(ctx, query, q.From, end, want)
		if err != nil {
			if len(out.Items) == 0 {
				return out, fmt.Errorf("read log lines: %w", err)
			}
			say("lines before " + oldest.Format(time.RFC3339Nano) + ": " + err.Error())
			break
		}
		for _, w := range page.Warnings {
			say("Loki says: " + w)
		}
		lines, err := page.lines()
		if err != nil {
			return out, fmt.Errorf("read log lines: %w", err)
		}
		fresh := 0
		for _, l := range lines { // newest first
			key := l.key()
			if l.Time.Equal(oldest) && seen[key] {
				continue
			}
			if !l.Time.Equal(oldest) {
				oldest, seen = l.Time, map[string]bool{}
			}
			seen[key] = true
			out.Items = append(out.Items, l.Line)
			fresh++
		}
		if len(out.Items) > limit {
			out.Items = out.Items[:limit]
			say(fmt.Sprintf("only the newest %d lines are read", limit))
			break
		}
		if len(lines) < want {
			break
		}
		end = oldest.Add(1) // the end is exclusive: the same nanosecond may hold more lines
		if fresh == 0 || len(seen) >= pageSize {
			say(fmt.Sprintf("there are more lines at %s than one answer holds", oldest.Format(time.RFC3339Nano)))
			end, seen = oldest, map[string]bool{}
		}
	}
	slices.Reverse(out.Items)
	out.Partial = strings.Join(missing, "; ")
	return out, nil
}

// An answer is what Loki says to query_range.
type answer struct {
	Status, Message string
	Warnings        []string
	Data            struct {
		ResultType string
		Result     []struct {
			Stream map[string]string
			Values [][]string
		}
	}
}

func (r *Reader) page(ctx context.Context, query string, from, to time.Time, limit int) (*answer, error) {
	params := url.Values{
		"query": {query}, "direction": {"backward"}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(from.UnixNano(), 10)}, "end": {strconv.FormatInt(to.UnixNano(), 10)},
	}
	var a answer
	if err := r.client.GetJSONWith(ctx, "/loki/api/v1/query_range?"+params.Encode(), r.header, &a); err != nil {
		return nil, err
	}
	if a.Status != "success" || a.Data.ResultType != "streams" {
		return nil, fmt.Errorf("the answer of Loki is not as expected: status %.20q, result type %.20q", a.Status, a.Data.ResultType)
	}
	return &a, nil
}

type line struct {
	correlate.Line
	stream string
}

func (l line) key() string { return l.stream + "\x00" + l.Text }

// lines gives the lines of all streams, newest first.
func (a *answer) lines() ([]line, error) {
	var out []line
	for _, s := range a.Data.Result {
		set := make([]correlate.Label, 0, len(s.Stream))
		for name, value := range s.Stream {
			set = append(set, correlate.Label{Name: name, Value: value})
		}
		slices.SortFunc(set, func(a, b correlate.Label) int { return cmp.Compare(a.Name, b.Name) })
		stream := selector(set)
		for _, v := range s.Values {
			if len(v) < 2 {
				return nil, errors.New("the answer of Loki is not as expected: an entry without a time or text")
			}
			ns, err := strconv.ParseInt(v[0], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("the answer of Loki is not as expected: %.40q is no time", v[0])
			}
			out = append(out, line{correlate.Line{Time: time.Unix(0, ns).UTC(), Labels: set, Text: v[1]}, stream})
		}
	}
	slices.SortStableFunc(out, func(a, b line) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.stream, a.stream), cmp.Compare(b.Text, a.Text))
	})
	return out, nil
}
