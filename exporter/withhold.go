package exporter

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Withhold leaves out of what a Gatherer gives the counters and histograms that are made of the runs and observations of
// some sources.
func Withhold(from prometheus.Gatherer, held func(source string) bool) prometheus.Gatherer {
	made := map[string]bool{families[pipelineRuns].Name: true, families[pipelineDuration].Name: true, families[taskRuns].Name: true, families[taskDuration].Name: true}
	for _, k := range kinds {
		made[k.Name] = true
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		out, err := from.Gather()
		for _, f := range out {
			if !made[f.GetName()] {
				continue
			}
			f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
				return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "source" && held(l.GetValue()) })
			})
		}
		return out, err
	})
}
