package correlate

import (
	"crypto/sha256"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/exporter"
)

// A place is where a run stands: the parts that the ids of its trace and spans are made of.
type place struct {
	trace    []string // source, host, and what identifies the pipeline there
	pipeline string   // the system's own id of the pipeline, or of the scaffolder task
	kind     string   // what the system calls a part: job, step
	task     string   // the system's own id of the job or step; "" for the pipeline itself
}

// locate gives false for a run without a trace: a part whose pipeline is not known.
func locate(r *exporter.Run) (place, bool) {
	root := r.ID
	if isPart(r) {
		root = r.Parent
	}
	p, ok := locateRoot(root)
	if !ok || !isPart(r) {
		return p, ok
	}
	p.task = r.ID.Key
	switch root.Source {
	case "gitlab":
		_, p.task, _ = strings.Cut(r.ID.Key, "/")
		_, p.task, _ = strings.Cut(p.task, "/")
	case "scaffolder":
		_, p.task, _ = strings.Cut(r.ID.Key, "/step/")
	}
	return p, p.task != ""
}

// isPart tells whether a run is a part of a pipeline: a job, a bridge, a step.
func isPart(r *exporter.Run) bool {
	return r.Level == exporter.LevelTask || r.Level == exporter.LevelBridge
}

// locateRoot reads the id of a pipeline or scaffolder task, and of the job in it that started another pipeline.
func locateRoot(id exporter.RunID) (place, bool) {
	if id.Key == "" {
		return place{}, false
	}
	switch id.Source {
	case "gitlab":
		project, pipeline, ok := strings.Cut(id.Key, "/pipeline/")
		pipeline, job, _ := strings.Cut(pipeline, "/job/")
		return place{[]string{id.Source, id.Host, project, pipeline}, pipeline, "job", job}, ok
	case "scaffolder":
		return place{[]string{id.Source, id.Host, id.Key}, id.Key, "step", ""}, true
	}
	return place{[]string{id.Source, id.Host, id.Key}, id.Key, "task", ""}, true
}

// TraceOf gives the id of the trace of a pipeline or scaffolder task; false for an id that is neither.
func TraceOf(root exporter.RunID) (trace.TraceID, bool) {
	p, ok := locateRoot(root)
	return p.traceID(), ok
}

// TraceOfRun gives the id of the trace that a run belongs to; false for a part of a pipeline that is not known.
func TraceOfRun(r *exporter.Run) (id [16]byte, ok bool) {
	p, ok := locate(r)
	return p.traceID(), ok
}

// digest is SHA-256 over the parts, joined by zero bytes.
func digest(parts []string, more ...string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(append(parts[:len(parts):len(parts)], more...), "\x00")))
}

// traceID is the same for a pipeline and all its jobs. A GitLab job can compute it from its predefined variables.
func (p place) traceID() trace.TraceID {
	d := digest(p.trace)
	return trace.TraceID(d[:16])
}

func (p place) rootID() trace.SpanID { return p.spanID("pipeline", p.pipeline) }

func (p place) taskID() trace.SpanID { return p.spanID(p.kind, p.task) }

// rerunID tells the later finishes of a pipeline apart by their time.
func (p place) rerunID(r *exporter.Run) trace.SpanID {
	return p.spanID("rerun", strconv.FormatInt(r.Finished.UnixMilli(), 10))
}

func (p place) spanID(kind, id string) trace.SpanID {
	d := digest(p.trace, kind, id)
	return trace.SpanID(d[:8])
}
