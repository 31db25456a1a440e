package backstage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sightline-dev/sightline/exporter"
)

// A key is one normalised series of one replica. Who owns it is not part of it: owners change.
type key struct {
	family family
	plugin string
	dims   [3]string // values of the family's labels after the common ones
}

// A series is the last value of a key, in seconds where it is a duration.
type series struct {
	value   float64
	hist    *histogram // of a histogram; nil otherwise
	created time.Time  // when it appeared beside others of its replica; zero when it was there at the first reading
}

type histogram struct {
	bounds []float64 // ascending, without +Inf
	counts []uint64  // cumulative, one per bound
	count  uint64
	sum    float64
}

// A reading is one exposition, decoded and normalised.
type reading struct {
	series map[key]*series

	http, own  bool     // it holds HTTP metrics; metrics of Backstage's own
	promClient bool     // Backstage's own come from the deprecated prom-client registry
	otel       bool     // OpenTelemetry made it, at least in part
	repeated   []string // families that stand in it more than once
	user       bool     // scaffolder metrics have the label user
	noPlugin   bool     // no route tells the plugin
	coarse     []string // histograms without any bound between 0 and 5 seconds
	capped     bool     // names beyond the cap were counted as "other"
	broken     []string // metrics with a series that is no histogram or number
}

// maxNames bounds the values of each label that plugins make up, per replica.
const maxNames = 200

// names remembers the values of the bounded labels, so that a series keeps its name from reading to reading.
type names map[string]map[string]bool

func (n names) bounded(label, value string) (string, bool) {
	value = strings.ToValidUTF8(value, "")
	if n[label] == nil {
		n[label] = map[string]bool{}
	}
	if !n[label][value] {
		if len(n[label]) >= maxNames {
			return exporter.OtherName, false
		}
		n[label][value] = true
	}
	return value, true
}

// A rule says which family a metric of Backstage becomes.
type rule struct {
	name   string
	kind   dto.MetricType
	to     family
	plugin string   // "": the label that tells the plugin
	labels []string // of the metric, in the order of the family's dimensions; nil where dimensions does it
	units  float64  // how many of the metric's units make a second; histograms only
}

const (
	counter  = dto.MetricType_COUNTER
	gauge    = dto.MetricType_GAUGE
	duration = dto.MetricType_HISTOGRAM
)

// rules are tried in this order. A family is filled by the first rule that finds a series, so that a metric that stands
// in an exposition under two names, of two conventions or of two registries, counts once.
var rules = []rule{
	{name: "http_server_request_duration", kind: duration, to: httpDuration, units: 1},
	{name: "http_server_duration", kind: duration, to: httpDuration, units: 1000},
	{name: "backend_tasks_task_runs_count_total", kind: counter, to: taskRuns},
	{name: "backend_tasks_task_runs_duration", kind: duration, to: taskDuration, units: 1},
	{name: "backend_tasks_task_runs_started", kind: gauge, to: taskLastStart},
	{name: "backend_tasks_task_runs_completed", kind: gauge, to: taskLastCompletion},
	{name: "catalog_entities_count", kind: gauge, to: catalogEntities, plugin: "catalog", labels: []string{"kind"}},
	{name: "catalog_relations_count", kind: gauge, to: catalogRelations, plugin: "catalog"},
	{name: "catalog_registered_locations_count", kind: gauge, to: catalogLocations, plugin: "catalog"},
	{name: "catalog_processed_entities_count_total", kind: counter, to: catalogProcessed, plugin: "catalog", labels: []string{"result"}},
	{name: "catalog_processed_entities_count", kind: counter, to: catalogProcessed, plugin: "catalog", labels: []string{"result"}},
	{name: "catalog_processing_duration", kind: duration, to: catalogProcessing, plugin: "catalog", labels: []string{"result"}, units: 1},
	{name: "catalog_processors_duration", kind: duration, to: catalogProcessor, plugin: "catalog", labels: []string{"result"}, units: 1},
	{name: "catalog_processing_queue_delay", kind: duration, to: catalogProcessingDelay, plugin: "catalog", units: 1},
	{name: "catalog_stitched_entities_count_total", kind: counter, to: catalogStitched, plugin: "catalog", labels: []string{"result"}},
	{name: "catalog_stitched_entities_count", kind: counter, to: catalogStitched, plugin: "catalog", labels: []string{"result"}},
	{name: "catalog_stitching_duration", kind: duration, to: catalogStitching, plugin: "catalog", labels: []string{"result"}, units: 1},
	{name: "catalog_stitching_queue_delay", kind: duration, to: catalogStitchingDelay, plugin: "catalog", units: 1},
	{name: "catalog_stitching_queue_length", kind: gauge, to: catalogStitchingQueue, plugin: "catalog"},
	{name: "scaffolder_task_duration", kind: duration, to: scaffolderDuration, plugin: "scaffolder", units: 1},
}

// prefixes are those of the metrics that are read at all.
var prefixes = []string{"http_server_", "backend_tasks_", "catalog_", "scaffolder_", "target_info"}

// promClientOnly are names that only the prom-client registry uses.
var promClientOnly = []string{
	"scaffolder_task_count", "scaffolder_step_count", "catalog_processed_entities_count", "catalog_stitched_entities_count",
	"catalog_processing_duration_seconds", "catalog_processors_duration_seconds", "catalog_processing_queue_delay_seconds",
}

// decode reads an exposition in the text format and normalises it. It forgives what Backstage is known to do wrong; an
// answer that is no exposition at all, or has a line that cannot be read among the metrics that matter, is an error. n is
// carried from reading to reading of one replica.
func decode(body []byte, n names) (*reading, error) {
	text, repeated, lines := relevant(body)
	if lines == 0 {
		return nil, errors.New("the answer holds no metric in Prometheus' text format")
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the answer is not in Prometheus' text format: %w", err)
	}
	r := &reading{series: map[key]*series{}, repeated: repeated}
	_, r.otel = found["target_info"]
	for _, name := range promClientOnly {
		if _, ok := found[name]; ok {
			r.promClient, r.own = true, true
		}
	}
	for _, name := range []string{"scaffolder_task_count_total", "scaffolder_task_count"} {
		for _, m := range found[name].GetMetric() {
			r.own = true
			r.user = r.user || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "user" })
		}
	}
	filled := map[family]bool{}
	for i := range rules {
		u := &rules[i]
		mf := found[u.name]
		if len(mf.GetMetric()) == 0 {
			continue
		}
		if u.to == httpDuration {
			r.http = true
		} else {
			r.own = true
		}
		if mf.GetType() != u.kind {
			r.broken = append(r.broken, u.name)
			continue
		}
		if !filled[u.to] {
			filled[u.to] = true
			r.fill(u, mf.Metric, n)
		}
	}
	if !r.http && !r.own {
		return nil, errors.New("the answer holds neither metrics of Backstage nor of HTTP requests")
	}
	return r, nil
}

// relevant blanks the lines of metrics that are not read, and HELP and TYPE lines that stand there again, which
// parsers refuse. Line numbers stay. It tells the families that were repeated and how many lines held a sample.
func relevant(body []byte) (text []byte, repeated []string, samples int) {
	text = make([]byte, 0, len(body)/2)
	seen := map[string]bool{}
	for len(body) > 0 {
		line, rest, whole := bytes.Cut(body, []byte{'\n'})
		body = rest
		name, keep := line, true
		comment := len(line) > 0 && line[0] == '#'
		if comment {
			word, after, _ := bytes.Cut(bytes.TrimLeft(line[1:], " \t"), []byte{' '})
			if keep = string(word) == "HELP" || string(word) == "TYPE"; keep {
				name, _, _ = bytes.Cut(after, []byte{' '})
				if id := string(word) + " " + string(name); seen[id] {
					keep = false
					if string(word) == "TYPE" && !slices.Contains(repeated, string(name)) {
						repeated = append(repeated, string(name))
					}
				} else {
					seen[id] = true
				}
			}
		} else if i := bytes.IndexByte(line, '{'); i > 0 || bytes.IndexByte(line, ' ') > 0 {
			samples++
		}
		if keep && slices.ContainsFunc(prefixes, func(p string) bool { return bytes.HasPrefix(name, []byte(p)) }) {
			text = append(text, line...)
		}
		if whole {
			text = append(text, '\n')
		}
	}
	return text, repeated, samples
}

// fill adds the series of one metric.
func (r *reading) fill(u *rule, metrics []*dto.Metric, n names) {
	fine, broken, routes, plugins := false, false, false, false
	for _, m := range metrics {
		k := key{family: u.to, plugin: u.plugin}
		label := func(name string) string {
			for _, l := range m.Label {
				if l.GetName() == name {
					return l.GetValue()
				}
			}
			return ""
		}
		bounded := func(name, value string) string {
			v, ok := n.bounded(name, value)
			r.capped = r.capped || !ok
			return v
		}
		scope := label("otel_scope_name")
		r.otel = r.otel || scope != ""
		if u.plugin == "" {
			k.plugin = bounded("plugin", pluginOfScope(scope))
		}
		switch u.to {
		case httpDuration:
			route := label("http_route")
			if id := pluginOfRoute(route); id != unknownPlugin {
				k.plugin, plugins = bounded("plugin", id), true
			}
			routes = routes || ofPlugin(route)
			k.dims = [3]string{
				method(cmp.Or(label("http_request_method"), label("http_method"))),
				code(cmp.Or(label("http_response_status_code"), label("http_status_code"))), fmt.Sprint(streams(route)),
			}
		case taskRuns, taskDuration, taskLastStart, taskLastCompletion:
			k.dims = [3]string{bounded("task", exporter.NormalizeName(label("taskId"))), bounded("result", result(label("result")))}
			if u.to == taskLastStart {
				k.dims[1] = ""
			}
			if u.to == taskRuns && label("result") == "started" {
				k.family, k.dims[1] = taskStarts, ""
			}
		case scaffolderDuration:
			template := label("template")
			if strings.HasSuffix(template, "/dry-run") {
				continue
			}
			k.dims = [3]string{bounded("template", template), bounded("result", result(label("result")))}
		default:
			for i, name := range u.labels {
				k.dims[i] = bounded(name, label(name))
			}
		}
		s, ok := valueOf(u, m)
		switch {
		case !ok:
			broken = true
			continue
		case s == nil:
			continue
		}
		if s.hist != nil {
			fine = fine || slices.ContainsFunc(s.hist.bounds, func(b float64) bool { return b > 0 && b < 5 })
		}
		if old := r.series[k]; old == nil {
			r.series[k] = s
		} else if !old.merge(s, k.family) {
			broken = true
		}
	}
	if broken {
		r.broken = append(r.broken, u.name)
	}
	if u.kind == duration && !fine && len(metrics) > 0 {
		r.coarse = append(r.coarse, u.name)
	}
	if u.to == httpDuration {
		r.noPlugin = routes && !plugins
	}
}

// valueOf reads the value of a metric; nil and true where there is none, false where it is not a sound one.
func valueOf(u *rule, m *dto.Metric) (*series, bool) {
	switch u.kind {
	case counter:
		v := m.GetCounter().GetValue()
		return &series{value: v}, v >= 0 && !math.IsInf(v, 0)
	case gauge:
		v := m.GetGauge().GetValue()
		if v < 0 {
			return nil, true // Backstage's way to say that it does not know
		}
		return &series{value: v}, !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	in := m.GetHistogram()
	h := &histogram{sum: in.GetSampleSum() / u.units}
	ok := !math.IsNaN(h.sum) && !math.IsInf(h.sum, 0)
	whole := func(n uint64, f float64) uint64 {
		if f != 0 {
			ok = ok && f > 0 && f < 1<<53
			return uint64(max(0, min(f, 1<<53)))
		}
		ok = ok && n < 1<<53
		return n
	}
	h.count = whole(in.GetSampleCount(), in.GetSampleCountFloat())
	slices.SortStableFunc(in.Bucket, func(a, b *dto.Bucket) int { return cmp.Compare(a.GetUpperBound(), b.GetUpperBound()) })
	last := math.Inf(-1)
	for _, b := range in.Bucket {
		bound, n := b.GetUpperBound(), whole(b.GetCumulativeCount(), b.GetCumulativeCountFloat())
		if math.IsInf(bound, 1) {
			ok = ok && n == h.count
			continue
		}
		bound /= u.units // exact where a multiplication by 0.001 is not
		if math.IsNaN(bound) || bound <= last || len(h.counts) > 0 && n < h.counts[len(h.counts)-1] {
			return nil, false
		}
		h.bounds, h.counts, last = append(h.bounds, bound), append(h.counts, n), bound
	}
	if len(h.counts) > 0 && h.counts[len(h.counts)-1] > h.count {
		return nil, false
	}
	return &series{hist: h}, ok
}

// merge adds another series of the same key, which differed in labels that are not kept. Of timestamps the later one
// counts. False: they are histograms of different buckets, and the first one stays.
func (s *series) merge(o *series, f family) bool {
	switch {
	case f == taskLastStart || f == taskLastCompletion:
		s.value = max(s.value, o.value)
	case s.hist == nil:
		s.value += o.value
	case !slices.Equal(s.hist.bounds, o.hist.bounds):
		return false
	default:
		for i, n := range o.hist.counts {
			s.hist.counts[i] += n
		}
		s.hist.count += o.hist.count
		s.hist.sum += o.hist.sum
	}
	return true
}

const unknownPlugin = "unknown"

var pluginID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// pluginOfRoute gives the second part of a route such as /api/catalog/entities.
func pluginOfRoute(route string) string {
	rest, ok := strings.CutPrefix(route, "/api/")
	id, _, _ := strings.Cut(rest, "/")
	if !ok || !pluginID.MatchString(id) {
		return unknownPlugin
	}
	return id
}

// pluginOfScope gives the plugin that a meter belongs to.
func pluginOfScope(scope string) string {
	id, ok := strings.CutPrefix(scope, "backstage-plugin-")
	if !ok || !pluginID.MatchString(id) {
		return unknownPlugin
	}
	return id
}

// ofPlugin tells whether a route is one that a plugin, and not the root router, serves.
func ofPlugin(route string) bool {
	return route != "" && route != "/" && route != "/metrics" && !strings.HasPrefix(route, "/.backstage/")
}

// streams tells whether requests of a route are held open by design: event streams, long polls, the sync of TechDocs.
func streams(route string) bool {
	return strings.HasSuffix(route, "/eventstream") || strings.HasPrefix(route, "/api/techdocs/sync/") ||
		strings.Contains(route, "/bus/v1/subscriptions/") && strings.HasSuffix(route, "/events")
}

func method(s string) string {
	switch s {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return s
	}
	return exporter.OtherName
}

func code(s string) string {
	if len(s) == 3 && s >= "100" && s <= "599" && strings.Trim(s, "0123456789") == "" {
		return s
	}
	return unknownPlugin
}

// result translates Backstage's words for how a task ended; others stay.
func result(s string) string {
	switch s {
	case "completed", "ok":
		return string(exporter.ResultSuccess)
	case "failed":
		return string(exporter.ResultFailure)
	case "cancelled":
		return string(exporter.ResultCancellation)
	}
	return s
}
