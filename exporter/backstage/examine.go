package backstage

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/upstream"
)

// An examined replica is what Examine saw of one metrics endpoint.
type examined struct {
	*replica
	body    []byte
	fell    []string // counters that were lower at the second reading
	skipped bool     // the second reading failed
}

// Examine reads every replica twice and says what stands in the way of measuring this Backstage, and how it is mended.
// Nothing is published. answered tells whether anything answered at all. Not concurrently with Sync.
func (s *Source) Examine(ctx context.Context) (out upstream.Findings, answered bool) {
	for _, err := range s.discover(ctx) {
		out.Failed("look for replicas", err, "check the names in sources.backstage.metrics_urls")
	}
	replicas := s.sorted()
	seen := make([]examined, len(replicas))
	places := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, r := range replicas {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			seen[i] = s.examine(ctx, r)
		})
	}
	wg.Wait()
	for _, e := range seen {
		answered = answered || e.client.Answered()
		e.say(&out)
	}
	for _, p := range problems(replicas, catalog.Ref{}, bothRegistries(replicas)) {
		out = append(out, upstream.Finding{Level: levelOf(p.Severity), Message: p.Message, Hint: p.Hint})
	}
	return out, answered
}

func levelOf(s catalog.Severity) upstream.Level {
	if s == catalog.SeverityError {
		return upstream.LevelError
	}
	return upstream.LevelWarning // who asks for a diagnosis wants to hear of what is merely deprecated too
}

func (s *Source) examine(ctx context.Context, r *replica) examined {
	e := examined{replica: r}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	if e.body, r.err = r.client.GetText(ctx, r.path); r.err != nil {
		return e
	}
	if r.last, r.err = decode(e.body, r.names); r.err != nil {
		return e
	}
	again, err := r.client.GetText(ctx, r.path)
	if err != nil {
		e.skipped = true
		return e
	}
	next, err := decode(again, r.names)
	if err != nil {
		e.skipped = true
		return e
	}
	e.fell = fallen(r.last, next)
	return e
}

// fallen lists the families of which a series is lower in the second of two readings, as no counter of one process is.
func fallen(first, second *reading) []string {
	var out []string
	for k, was := range first.series {
		now := second.series[k]
		f := families[k.family]
		lower := now != nil && (was.hist != nil && now.hist != nil && now.hist.count < was.hist.count || f.Type == "counter" && now.value < was.value)
		if lower && !slices.Contains(out, f.Name) {
			out = append(out, f.Name)
		}
	}
	slices.Sort(out)
	return out
}

// say reports what is to be said of one replica alone; problems says the rest.
func (e *examined) say(out *upstream.Findings) {
	if e.err != nil {
		out.Failed("read "+e.label, e.err, "check that Backstage runs there, that its instrumentation is loaded with --require, and sources.backstage.metrics_urls")
		return
	}
	l := e.last
	plugins := map[string]bool{}
	tasks, nameless := false, false
	for k := range l.series {
		if k.plugin != "" && k.plugin != unknownPlugin {
			plugins[k.plugin] = true
		}
		if k.family == taskRuns || k.family == taskStarts {
			tasks = true
			nameless = nameless || k.plugin == unknownPlugin
		}
	}
	out.OK("%s answers: %d series of %d plugins, %d kB", e.label, len(l.series), len(plugins), (len(e.body)+1023)/1024)
	out.OK("%s: %s", e.label, madeBy(e.body, l))
	out.Clock(e.client)
	if !l.http {
		out.Warn("load @opentelemetry/instrumentation-http before Backstage (node --require ./instrumentation.js)", "%s has no metrics of HTTP requests: plugins have neither rate, errors nor latency", e.label)
	}
	if l.own && !tasks && !l.promClient {
		out.Warn("upgrade Backstage, or wait until a scheduled task has run", "%s has no metrics of scheduled tasks (backend_tasks_*)", e.label)
	}
	if nameless {
		out.Warn("use @opentelemetry/exporter-prometheus 0.301 or later and a Backstage that has a meter for each plugin", "%s does not tell the plugin of scheduled tasks: they count for the plugin %s", e.label, unknownPlugin)
	}
	if len(e.fell) > 0 {
		out.Error("name each replica, or write dns+http://name:port/metrics for every address of a headless service", "%s: %s went down between two readings: several replicas stand behind this address", e.label, strings.Join(e.fell, ", "))
	}
	if e.skipped {
		out.Warn("", "%s answered the first of two readings only", e.label)
	}
	if share := shareOf(e.body, "db_client_"); len(e.body) > 256<<10 && share > 20 {
		out.Warn("drop db_client_operation_duration by a view of the OpenTelemetry SDK", "%s: metrics of database calls are %d %% of %d kB at each scrape", e.label, share, len(e.body)/1024)
	}
}

var sdkVersion = regexp.MustCompile(`telemetry_sdk_version="([0-9][0-9A-Za-z.-]{0,30})"`)

// madeBy says what made an exposition and in which unit and convention it is.
func madeBy(body []byte, l *reading) string {
	var parts []string
	switch {
	case l.otel:
		by := "made by OpenTelemetry"
		for line := range bytes.Lines(body) {
			if bytes.HasPrefix(line, []byte("target_info")) {
				if m := sdkVersion.FindSubmatch(line); m != nil {
					by += " SDK " + string(m[1])
				}
				break
			}
		}
		parts = append(parts, by)
	case l.promClient:
		parts = append(parts, "made by prom-client")
	default:
		parts = append(parts, "of unknown make")
	}
	switch {
	case !l.http:
	case bytes.Contains(body, []byte("\nhttp_server_request_duration_bucket")):
		parts = append(parts, "HTTP durations in seconds")
	default:
		parts = append(parts, "HTTP durations in milliseconds of the older conventions (converted here)")
	}
	return strings.Join(parts, ", ")
}

// shareOf is how much of an exposition the metrics of a prefix are, in percent of its bytes.
func shareOf(body []byte, prefix string) int {
	n := 0
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte(prefix)) {
			n += len(line)
		}
	}
	return 100 * n / max(1, len(body))
}
