package slo

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sightline-dev/sightline/catalog"
)

// A Question is asked of a Prometheus for all objectives that read a metric by the same labels: ten thousand objectives of
// one profile need one.
type Question struct {
	Metric string
	Labels []string // sorted
}

// Series is PromQL of how many series there are by the labels.
func (q *Question) Series() string { return "count" + q.by() + "(" + q.Metric + ")" }

// Samples is PromQL of how many samples of five minutes the best of these series has.
func (q *Question) Samples() string {
	return "max" + q.by() + "(count_over_time(" + q.Metric + "[5m]))"
}

func (q *Question) by() string { return " by (" + strings.Join(q.Labels, ", ") + ") " }

// Questions lists what has to be asked for objectives, sorted, each once.
func Questions(objectives []Objective) []Question {
	all := map[string]Question{}
	for i := range objectives {
		for _, s := range objectives[i].Selectors() {
			q := Question{s.Metric, s.Labels()}
			all[q.Series()] = q
		}
	}
	var out []Question
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[k])
	}
	return out
}

// A Seen is one row of the answers to a Question.
type Seen struct {
	Labels  map[string]string
	Series  float64
	Samples float64 // in five minutes; 0 where it is not known
}

// A Reality is what a Prometheus holds.
type Reality struct {
	Metrics   []string          // all names
	Types     map[string]string // of metrics, where it is known
	Answers   map[string][]Seen // by Question.Series
	Retention time.Duration     // 0: not known
	indexes   map[string]map[string][]Seen
}

// manySeries is from how many series on an objective is said to be costly.
const manySeries = 10_000

// fewestSamples is how many samples the shortest window must hold.
const fewestSamples = 4

// Check compares objectives with what there is, and gives of each objective the first thing that is wrong: nothing that it
// reads, a wrong type, no bucket at the threshold, too few scrapes, too many series, too short a retention. The problems
// have no positions. The last one, without an entity, estimates what evaluating all rules costs.
func (r *Reality) Check(objectives []Objective) []catalog.Problem {
	r.indexes = map[string]map[string][]Seen{}
	var out []catalog.Problem
	total, samples, rules := 0.0, 0.0, 0
	for i := range objectives {
		o := &objectives[i]
		series, five, p := r.objective(o)
		if p == nil && series > manySeries {
			p = &catalog.Problem{
				Severity: catalog.SeverityWarning, Rule: "selector-cardinality", Message: fmt.Sprintf("%s reads %.0f series, each minute over an hour", o.Indicator, series),
				Hint: "record a sum of them without the labels that are not needed, and let the objective read that",
			}
		}
		if p == nil && r.Retention > 0 && o.Window.longest() > r.Retention {
			p = &catalog.Problem{
				Severity: catalog.SeverityError, Rule: "retention-short", Message: fmt.Sprintf("the window of %s is %s, but the server keeps samples for %s: its budget would be wrong", o.Indicator, o.Window, days(r.Retention)),
				Hint: "keep samples for longer than the longest window, or set a shorter one",
			}
		}
		if p != nil {
			p.Entity, p.Owner, p.Annotation = o.Entity, o.Owner, o.annotation()
			out = append(out, *p)
		}
		total += series
		length := o.Window.Length().Hours() / 24
		// The bases and the direct hour, of bad and all events; the windows and guards on what is recorded; the period's share.
		samples += 2*five*(1+12) + 2*(30+60+120+360+360+2*288+2*864) + (2*five+2*288*length)/5
		for _, g := range Groups(*o, RuleOptions{}) {
			rules += len(g.Rules)
		}
	}
	slices.SortStableFunc(out, catalog.Problem.Compare)
	if len(objectives) > 0 {
		out = append(out, catalog.Problem{
			Severity: catalog.SeverityInfo, Rule: "rule-cost",
			Message: fmt.Sprintf("%d objectives read %.0f series; their %d rules in %d groups touch about %s samples a minute", len(objectives), total, rules, 2*len(objectives), rounded(samples)),
		})
	}
	return out
}

// annotation is the one that asks for an objective.
func (o *Objective) annotation() string {
	key := "objective."
	if o.Composite != nil {
		key = "composite."
	}
	return catalog.Prefix + key + strings.ReplaceAll(o.Indicator, "_", "-")
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}

func rounded(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.1f million", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.0f thousand", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

// objective counts the series that an objective reads and their samples in five minutes, and says what is wrong with them.
func (r *Reality) objective(o *Objective) (series, samples float64, p *catalog.Problem) {
	for _, s := range o.Selectors() {
		q := Question{s.Metric, s.Labels()}
		rows := r.candidates(&q, &s)
		found, most := 0, 0.0
		for i := range rows {
			if !s.Matches(rows[i].Labels) {
				continue
			}
			found++
			series += rows[i].Series
			samples += rows[i].Series * rows[i].Samples
			most = max(most, rows[i].Samples)
		}
		switch {
		case p != nil:
		case found == 0:
			p = r.absent(o, &q, &s)
		case r.wrongType(o, &s) != "":
			p = &catalog.Problem{Severity: catalog.SeverityError, Rule: "metric-type", Message: r.wrongType(o, &s), Hint: "name a counter or a histogram, or an indicator of another kind"}
		case s.Rate && most > 0 && most < fewestSamples:
			p = &catalog.Problem{
				Severity: catalog.SeverityWarning, Rule: "scrape-interval",
				Message: fmt.Sprintf("%s has %.0f samples in five minutes, the shortest window of %s: it needs %d", s.Metric, most, o.Indicator, fewestSamples), Hint: "scrape it at least every 75 seconds",
			}
		}
	}
	return series, samples, p
}

// candidates are the answers in which a selector may find something: by its first matcher that names a value.
func (r *Reality) candidates(q *Question, s *Selector) []Seen {
	key := q.Series()
	for _, m := range s.Matchers {
		if m.Type != labels.MatchEqual || m.Value == "" {
			continue
		}
		index, ok := r.indexes[key+m.Name]
		if !ok {
			index = map[string][]Seen{}
			for _, row := range r.Answers[key] {
				index[row.Labels[m.Name]] = append(index[row.Labels[m.Name]], row)
			}
			r.indexes[key+m.Name] = index
		}
		return index[m.Value]
	}
	return r.Answers[key]
}

// absent says why a selector finds nothing.
func (r *Reality) absent(o *Objective, q *Question, s *Selector) *catalog.Problem {
	rows := r.Answers[q.Series()]
	problem := func(severity catalog.Severity, rule, message, hint string) *catalog.Problem {
		return &catalog.Problem{Severity: severity, Rule: rule, Message: o.Indicator + " has no data: " + message, Hint: hint}
	}
	if len(rows) == 0 {
		hint := "see that it is scraped, or set " + catalog.Prefix + "profile or a slo-ref document that names other metrics"
		if near := nearest(s.Metric, r.Metrics); near != "" {
			hint = "did you mean " + near + "?"
		}
		return problem(catalog.SeverityWarning, "metric-missing", "the server has no metric "+s.Metric, hint)
	}
	left := rows
	for _, m := range byBucketLast(s.Matchers) {
		values := map[string]bool{}
		var next []Seen
		for _, row := range left {
			values[row.Labels[m.Name]] = true
			if m.Matches(row.Labels[m.Name]) {
				next = append(next, row)
			}
		}
		if len(next) > 0 {
			left = next
			continue
		}
		delete(values, "")
		known := slices.Sorted(maps.Keys(values))
		switch {
		case m.Name == labels.BucketLabel && len(known) > 0:
			slices.SortFunc(known, func(a, b string) int { return cmp.Compare(bucketEdge(a), bucketEdge(b)) })
			return problem(catalog.SeverityError, "bucket-missing", fmt.Sprintf("no bucket of %s ends at %s", s.Metric, o.Threshold), "its buckets end at "+strings.Join(known, ", "))
		case len(known) == 0:
			return problem(catalog.SeverityWarning, "label-missing", fmt.Sprintf("%s has no label %s there", s.Metric, m.Name), "set "+catalog.Prefix+"selector to labels that it has")
		}
		hint := "it has " + strings.Join(known[:min(5, len(known))], ", ")
		if len(known) > 5 {
			hint += fmt.Sprintf(" and %d more", len(known)-5)
		}
		if near := nearest(m.Value, known); near != "" && m.Type == labels.MatchEqual {
			hint = fmt.Sprintf("did you mean %s=%q?", m.Name, near)
		}
		return problem(catalog.SeverityWarning, "label-value-missing", fmt.Sprintf("%s has no series with %s", s.Metric, m), hint)
	}
	return problem(catalog.SeverityWarning, "selector-empty", "no series matches "+s.String(), "")
}

// byBucketLast puts the matcher of a bucket's edge behind the others, so that the edges are those of the selected series.
func byBucketLast(matchers []*labels.Matcher) []*labels.Matcher {
	out := slices.Clone(matchers)
	slices.SortStableFunc(out, func(a, b *labels.Matcher) int {
		last := func(m *labels.Matcher) int {
			if m.Name == labels.BucketLabel {
				return 1
			}
			return 0
		}
		return last(a) - last(b)
	})
	return out
}

func bucketEdge(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.Inf(1)
	}
	return f
}

// wrongType says that a metric cannot be counted as it is; "" where it can, or where its type is not known.
func (r *Reality) wrongType(o *Objective, s *Selector) string {
	kind, name := r.Types[s.Metric], s.Metric
	for _, suffix := range [...]string{"_bucket", "_count", "_sum", "_total"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && kind == "" {
			kind = r.Types[base]
		}
	}
	switch {
	case s.Rate && (kind == "gauge" || kind == "info" || kind == "stateset"):
		return fmt.Sprintf("%s is a %s, of which %s cannot count events", s.Metric, kind, o.Indicator)
	case o.Kind == KindProbe && kind == "counter":
		return fmt.Sprintf("%s is a counter, and %s wants a gauge that is 1 or 0", s.Metric, o.Indicator)
	}
	return ""
}
