package exporter

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sightline-dev/sightline/catalog"
)

// joinKeys are the annotations whose value is another system's own name of an entity.
var joinKeys = []struct{ source, annotation string }{
	{"gitlab", "gitlab.com/project-slug"},
	{"gitlab", "gitlab.com/project-id"},
	{"kubernetes", "backstage.io/kubernetes-id"},
}

// An EntityInfo is the collector of sightline_entity_info and sightline_join_info. The zero value has no series.
// Safe for concurrent use.
type EntityInfo struct {
	metrics atomic.Pointer[[]prometheus.Metric]
}

// Set makes the series be those of a graph. There is exactly one entity series per entity. A key that several entities
// share has no join series, because a join on it would fail.
func (i *EntityInfo) Set(g *catalog.Graph) {
	info, join := entityInfo.desc(), joinInfo.desc()
	type key struct{ source, key string }
	claims := map[key][]catalog.Ref{}
	var out []prometheus.Metric
	for e := range g.Entities() {
		out = append(out, prometheus.MustNewConstMetric(info, prometheus.GaugeValue, 1, e.Ref.String(), g.Owner(e.Ref).String(), g.System(e.Ref).String(),
			g.Domain(e.Ref).String(), e.Type, e.Lifecycle, e.Annotations[catalog.Prefix+"tier"]))
		for _, j := range joinKeys {
			if v := e.Annotations[j.annotation]; v != "" {
				claims[key{j.source, v}] = append(claims[key{j.source, v}], e.Ref)
			}
		}
	}
	for k, refs := range claims {
		if len(refs) == 1 {
			out = append(out, prometheus.MustNewConstMetric(join, prometheus.GaugeValue, 1, k.source, k.key, refs[0].String(), g.Owner(refs[0]).String()))
		}
	}
	i.metrics.Store(&out)
}

// Describe implements prometheus.Collector.
func (i *EntityInfo) Describe(ch chan<- *prometheus.Desc) {
	ch <- entityInfo.desc()
	ch <- joinInfo.desc()
}

// Collect implements prometheus.Collector.
func (i *EntityInfo) Collect(ch chan<- prometheus.Metric) {
	if m := i.metrics.Load(); m != nil {
		for _, x := range *m {
			ch <- x
		}
	}
}
