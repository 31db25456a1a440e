package correlate

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// A Label is a name and a value.
type Label struct{ Name, Value string }

// A Line is what the log says of one finished run.
type Line struct {
	Time     time.Time // of the run, never of the clock
	Labels   []Label   // level, owner, service_name, source: few, so that there are few streams; sorted by name
	Metadata []Label   // what identifies the run: trace_id, span_id, entity, system, run_id; sorted by name
	Text     string    // logfmt
}

// LineOf makes the line of a finished run. Its span_id is that of the run's span; for a job that never ran, and so has none, it is that
// of its pipeline. It gives false for a run without any time, which a log cannot place.
func LineOf(r exporter.Run) (Line, bool) {
	at := r.Finished
	for _, t := range []time.Time{r.Started, r.Created} {
		if at.IsZero() {
			at = t
		}
	}
	if r.State != exporter.StateFinished || at.IsZero() {
		return Line{}, false
	}
	l := Line{Time: at, Text: text(&r)}
	l.Labels = labels("level", level(r.Result), "owner", r.Owner.String(), "service_name", service(&r), "source", r.ID.Source)
	traceID, spanID := "", ""
	if p, ok := locate(&r); ok {
		traceID, spanID = p.traceID().String(), p.rootID().String()
		if s, ok := SpanOf(r); ok {
			spanID = s.ID.String()
		}
	}
	l.Metadata = labels("entity", r.Entity.String(), "run_id", r.ID.Key, "span_id", spanID, "system", r.System.String(), "trace_id", traceID)
	return l, true
}

// labels pairs names with values and leaves out what is empty, which is no label.
func labels(pairs ...string) []Label {
	var out []Label
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, Label{pairs[i], pairs[i+1]})
		}
	}
	return out
}

func level(r exporter.Result) string {
	switch r {
	case exporter.ResultFailure, exporter.ResultError, exporter.ResultTimeout:
		return "error"
	case exporter.ResultCancellation:
		return "warn"
	}
	return "info"
}

// text is written by slog, which quotes what would break a line.
func text(r *exporter.Run) string {
	what := "pipeline"
	if r.Level == exporter.LevelBridge {
		what = "bridge"
	} else if r.Level == exporter.LevelTask {
		what = map[string]string{"gitlab": "job", "scaffolder": "step"}[r.ID.Source]
		what = cmp.Or(what, "task")
	} else if r.ID.Source == "scaffolder" {
		what = "scaffolder task"
	}
	msg := what + " finished"
	if r.Started.IsZero() {
		msg = what + " never ran"
	}
	rec := slog.NewRecord(time.Time{}, slog.LevelInfo, msg, 0)
	add := func(key, value string) {
		if value != "" {
			rec.AddAttrs(slog.String(key, value))
		}
	}
	add("result", string(r.Result))
	add("reason", r.Reason)
	add("pipeline", r.Pipeline)
	if isPart(r) {
		add("task", r.Name)
	}
	add("ref_kind", r.RefKind)
	add("attempt", string(r.Attempt))
	for _, d := range []struct {
		key     string
		seconds *float64
	}{{"queued", r.Queued}, {"duration", r.Duration}} {
		if d.seconds != nil {
			rec.AddAttrs(slog.Duration(d.key, time.Duration(*d.seconds*float64(time.Second)).Round(time.Millisecond)))
		}
	}
	add("url", r.URL)
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey {
			return slog.Attr{} // it is a label
		}
		return a
	}})
	_ = h.Handle(context.Background(), rec) // a buffer takes everything
	return string(bytes.TrimSpace(b.Bytes()))
}
