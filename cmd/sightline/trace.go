package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

func newTrace(env environment) *cobra.Command {
	var conf, format string
	cmd := &cobra.Command{
		Use: "trace TRACE --config FILE", Short: "Print a trace as a tree, with the log lines below each span",
		Long: `Trace reads one trace from the store at traces.query and its log lines from the Loki at logs.url, and prints them as a tree.
TRACE is the id of a trace, the URL of a GitLab pipeline, or PROJECT/PIPELINE: a project by its id or path, and the id of a pipeline.
For a URL and a path GitLab is asked for the project's id.

What cannot be read beside the trace is said at the end. The exit code is 1 when the store has no such trace, 3 when it cannot be asked.`,
		Example: `  sightline trace df4cdbd0bd964ae798c8491a7cd08624 --config sightline.yaml
  sightline trace https://gitlab.example.com/shop/checkout/-/pipelines/1001 --config sightline.yaml
  sightline trace 42/1001 --config sightline.yaml --format json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return hintError{fmt.Errorf("%s takes one trace, got %d arguments", cmd.CommandPath(), len(args)), "name a trace id, the URL of a pipeline, or PROJECT/PIPELINE"}
			}
			return noArgs(cmd, nil)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			c, err := config.Load(conf)
			if err != nil {
				return err
			}
			pool := upstream.NewPool()
			store, err := traceStore(c, pool)
			if err != nil {
				return err
			}
			if store == nil {
				return hintError{fmt.Errorf("%s names no trace store", conf), "set traces.query to the query API of Tempo or Jaeger, as in `traces: {query: http://tempo:3200}`"}
			}
			ctx := cmd.Context()
			id, err := whichTrace(ctx, c, pool, args[0])
			if err != nil {
				return err
			}
			found, err := store.Trace(ctx, id)
			if errors.Is(err, correlate.ErrNoTrace) {
				return exitError{exitProblems, hintError{err, "a trace is there once its pipeline has finished and was counted, and as long as the store keeps it; the id is made with the host of sources.gitlab[].url, which must be the one that jobs see as CI_SERVER_HOST"}}
			}
			if err != nil {
				return exitError{exitUpstream, err}
			}
			logs, err := logStore(c, pool)
			if err != nil {
				return err
			}
			out := readLines(ctx, logs, found)
			if format == "json" {
				enc := json.NewEncoder(env.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(out.document())
			}
			out.print(env.stdout, newStyle(env.stdout, env.env))
			for _, m := range out.missing {
				fmt.Fprintln(env.stderr, "sightline: warning:", clean(m))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&conf, "config", "", "configuration file")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

var (
	traceIDForm  = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
	pipelineForm = regexp.MustCompile(`^(.+)/([1-9][0-9]*)$`)
	numberForm   = regexp.MustCompile(`^[1-9][0-9]*$`)
)

// whichTrace finds the id of the trace that an argument names.
func whichTrace(ctx context.Context, c *config.Config, pool *upstream.Pool, arg string) (trace.TraceID, error) {
	bad := func(format string, args ...any) (trace.TraceID, error) {
		return trace.TraceID{}, hintError{fmt.Errorf(format, args...), "name a trace id (32 hexadecimal digits), the URL of a pipeline, or PROJECT/PIPELINE"}
	}
	if traceIDForm.MatchString(arg) {
		id, err := trace.TraceIDFromHex(strings.ToLower(arg))
		if err != nil {
			return bad("%s is no trace id", arg)
		}
		return id, nil
	}
	host, rest := "", arg
	if u, err := url.Parse(arg); err == nil && u.Host != "" {
		path, pipeline, ok := strings.Cut(strings.Trim(u.Path, "/"), "/-/pipelines/")
		if !ok {
			return bad("%s is not the URL of a pipeline", arg)
		}
		pipeline, _, _ = strings.Cut(pipeline, "/")
		host, rest = u.Host, path+"/"+pipeline
	}
	m := pipelineForm.FindStringSubmatch(rest)
	if m == nil {
		return bad("%q is no trace", arg)
	}
	project, pipeline := m[1], m[2]
	var gitlab *config.GitLab
	for i := range c.Sources.GitLab {
		u, err := url.Parse(c.Sources.GitLab[i].URL)
		if err == nil && (host == "" || host == u.Host) {
			if gitlab != nil {
				return trace.TraceID{}, hintError{errors.New("the configuration has several GitLab hosts"), "name the pipeline by its URL"}
			}
			gitlab = &c.Sources.GitLab[i]
			if root := strings.Trim(u.Path, "/"); root != "" && host != "" {
				project = strings.TrimPrefix(project, root+"/")
			}
		}
	}
	if gitlab == nil {
		return trace.TraceID{}, hintError{fmt.Errorf("sources.gitlab does not name the GitLab %s", host), "add it to the configuration, or name the trace by its id"}
	}
	client, err := pool.Client(upstream.Options{Name: "gitlab", BaseURL: gitlab.URL, TokenFile: gitlab.TokenFile, CAFile: gitlab.CAFile, Timeout: readTimeout, Tries: readTries})
	if err != nil {
		return trace.TraceID{}, err
	}
	if !numberForm.MatchString(project) || host != "" {
		var found struct{ ID int64 }
		if _, err := client.GetJSON(ctx, "/api/v4/projects/"+url.PathEscape(project), &found); err != nil {
			return trace.TraceID{}, exitError{exitUpstream, fmt.Errorf("ask GitLab for the id of project %s: %w", project, err)}
		}
		project = fmt.Sprint(found.ID)
	}
	id, _ := correlate.TraceOf(exporter.RunID{Source: "gitlab", Host: client.Host(), Key: project + "/pipeline/" + pipeline})
	return id, nil
}

// A readTrace is a trace with what was found beside it.
type readTrace struct {
	correlate.Trace
	roots   []*correlate.Node
	others  []correlate.Line // of no span that is there
	missing []string         // a sentence each
}

// readLines adds the log lines of a trace. logs may be nil.
func readLines(ctx context.Context, logs correlate.LogStore, t correlate.Trace) readTrace {
	out := readTrace{Trace: t}
	say := func(what string) {
		if what != "" {
			out.missing = append(out.missing, what)
		}
	}
	say(t.Partial)
	var found correlate.LineList
	if logs == nil {
		say("no log lines: logs.url is not set")
	} else {
		var services []string
		for _, s := range t.Spans {
			if name := s.Service(); name != "" && !slices.Contains(services, name) && len(services) < 200 {
				services = append(services, name)
			}
		}
		sum := t.Summary()
		var err error
		found, err = logs.Lines(ctx, correlate.LineQuery{
			Index: []correlate.Matcher{correlate.OneOf("service_name", services...)}, Filter: []correlate.Matcher{correlate.Equal("trace_id", t.ID.String())},
			From: sum.Start.Add(-10 * time.Minute), To: sum.Start.Add(sum.Duration + time.Hour), Limit: 1000,
		})
		if err != nil {
			say("no log lines: " + err.Error())
		}
		if found.Partial != "" {
			say("log lines: " + found.Partial)
		}
	}
	out.roots, out.others = t.Tree(found.Items)
	return out
}

// clean takes out what a terminal would obey: anybody can write a log line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

func (t *readTrace) print(w io.Writer, st style) {
	sum := t.Summary()
	fmt.Fprintf(w, "trace %s · %d spans · %s · %s\n", t.ID, len(t.Spans), short(sum.Duration), sum.Start.UTC().Format("2006-01-02 15:04:05 UTC"))
	var walk func(nodes []*correlate.Node, indent string)
	walk = func(nodes []*correlate.Node, indent string) {
		for i, n := range nodes {
			branch, below := "├─ ", "│  "
			if i == len(nodes)-1 {
				branch, below = "└─ ", "   "
			}
			fmt.Fprintf(w, "%s%s\n", indent+branch, heading(n, st))
			inner := indent + below
			for _, l := range n.Lines {
				bar := "   "
				if len(n.Children) > 0 {
					bar = "│  "
				}
				fmt.Fprintf(w, "%s%s%s\n", inner, bar, st.dim(logLine(l)))
			}
			walk(n.Children, inner)
		}
	}
	walk(t.roots, "")
	if len(t.others) > 0 {
		fmt.Fprintln(w, "log lines of no span:")
		for _, l := range t.others {
			fmt.Fprintf(w, "   %s\n", st.dim(logLine(l)))
		}
	}
}

func heading(n *correlate.Node, st style) string {
	result := cmp.Or(n.Result(), "ok")
	if n.Failed {
		if n.Reason != "" && n.Reason != result {
			result += " (" + n.Reason + ")"
		}
		result = st.paint("31;1", clean(result))
	}
	owner := n.Owner().String()
	if owner == "" {
		owner = "no owner"
	}
	return strings.Join([]string{st.bold(clean(n.Name)), short(n.End.Sub(n.Start)), clean(result), clean(n.Service()), clean(owner)}, "  ")
}

func logLine(l correlate.Line) string {
	level := cmp.Or(l.Label("level"), l.Label("detected_level"))
	return clean(strings.TrimSpace(l.Time.UTC().Format("15:04:05") + " " + level + " " + l.Text))
}

// short writes a duration with the digits that matter.
func short(d time.Duration) string {
	if d >= time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

type (
	traceDocument struct {
		TraceID string         `json:"trace_id"`
		Start   time.Time      `json:"start"`
		Seconds float64        `json:"duration_seconds"`
		Spans   []spanDocument `json:"spans"` // trees
		Lines   []lineDocument `json:"lines"` // of no span
		Missing []string       `json:"missing"`
	}
	spanDocument struct {
		ID       string         `json:"span_id"`
		Parent   string         `json:"parent_span_id,omitempty"`
		Name     string         `json:"name"`
		Service  string         `json:"service"`
		Owner    string         `json:"owner"`
		Entity   string         `json:"entity"`
		Start    time.Time      `json:"start"`
		Seconds  float64        `json:"duration_seconds"`
		Result   string         `json:"result"`
		Failed   bool           `json:"failed"`
		Reason   string         `json:"reason"`
		Lines    []lineDocument `json:"lines"`
		Children []spanDocument `json:"spans"`
	}
	lineDocument struct {
		Time  time.Time `json:"time"`
		Level string    `json:"level"`
		Text  string    `json:"text"`
	}
)

func (t *readTrace) document() traceDocument {
	sum := t.Summary()
	return traceDocument{t.ID.String(), sum.Start, sum.Duration.Seconds(), spanDocuments(t.roots), lineDocuments(t.others), append([]string{}, t.missing...)}
}

func spanDocuments(nodes []*correlate.Node) []spanDocument {
	out := []spanDocument{}
	for _, n := range nodes {
		d := spanDocument{
			ID: n.ID.String(), Name: n.Name, Service: n.Service(), Owner: n.Owner().String(), Entity: n.Entity().String(), Start: n.Start, Seconds: n.End.Sub(n.Start).Seconds(),
			Result: n.Result(), Failed: n.Failed, Reason: n.Reason, Lines: lineDocuments(n.Lines), Children: spanDocuments(n.Children),
		}
		if n.Parent.IsValid() {
			d.Parent = n.Parent.String()
		}
		out = append(out, d)
	}
	return out
}

func lineDocuments(lines []correlate.Line) []lineDocument {
	out := []lineDocument{}
	for _, l := range lines {
		out = append(out, lineDocument{l.Time, cmp.Or(l.Label("level"), l.Label("detected_level")), l.Text})
	}
	return out
}
