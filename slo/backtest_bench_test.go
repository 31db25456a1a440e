//go:build unix

package slo_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/slo"
)

// BenchmarkBacktest replays 30 days at one minute of 1,000 objectives for 10 targets each. The floor, of the same run, is to
// add up both series once for each of the four burn pairs. The last figure is what the whole is bound to take: 5 s.
func BenchmarkBacktest(b *testing.B) {
	const objectives, distinct, minutes = 1000, 20, 30 * 24 * 60
	var targets []slo.Target
	for _, p := range []string{"90", "95", "98", "99", "99.5", "99.8", "99.9", "99.95", "99.98", "99.99"} {
		target, err := slo.ParseTarget(p)
		if err != nil {
			b.Fatal(err)
		}
		targets = append(targets, target)
	}
	var histories []slo.History
	random := rand.New(rand.NewPCG(1, 2))
	for range distinct { // none is what the last one left in the processor's caches
		h := slo.History{Start: start, Errors: make([]float64, minutes), Total: make([]float64, minutes)}
		trouble := 0.0
		for i := range minutes {
			if random.IntN(1440) == 0 {
				trouble = random.Float64() * 0.2
			} else if random.IntN(60) == 0 {
				trouble = 0
			}
			h.Total[i] = 100 + 50*random.Float64()
			h.Errors[i] = h.Total[i] * (trouble + 0.0002*random.Float64())
		}
		histories = append(histories, h)
	}
	o := objective(b, "payments")
	var ours, floor time.Duration
	alerts, sum := 0, 0.0
	for b.Loop() {
		began := cpu(b)
		for i := range objectives {
			r := slo.Backtest(&o, histories[i%distinct], targets, slo.BacktestOptions{})
			for k := range r.Outcomes {
				alerts += len(r.Outcomes[k].Alerts)
			}
		}
		ours += cpu(b) - began
		began = cpu(b)
		for i := range objectives {
			h := &histories[i%distinct]
			for range 4 {
				for m := range minutes {
					sum += h.Errors[m] + h.Total[m]
				}
			}
		}
		floor += cpu(b) - began
	}
	if alerts == 0 || sum == 0 {
		b.Fatal("nothing was replayed")
	}
	n := float64(b.N)
	b.ReportMetric(ours.Seconds()/n, "cpu-s/1000×10×30d")
	b.ReportMetric(ours.Seconds()*1e6/n/objectives/float64(len(targets)), "µs/target")
	b.ReportMetric(float64(alerts)/n/objectives, "alerts/objective")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "×floor")
	b.ReportMetric(ours.Seconds()/n/5, "of-bound")
}
