package kubernetes

import (
	"context"

	"github.com/sightline-dev/sightline/upstream"
)

// Examine asks a cluster for Sightline's objects in the namespace. Nothing is written, so whether that is allowed is not known.
// answered tells whether the cluster did.
func (t *Target) Examine(ctx context.Context) (out upstream.Findings, answered bool) {
	held, err := t.Held(ctx)
	if err != nil {
		out.Failed("read the objects of the namespace", err, "see docs/kubernetes.md for the role that Sightline needs")
		return out, isAnswer(err)
	}
	out.OK("the cluster answers: objects of Sightline's in the namespace: %d", len(held))
	if t.lacksRules {
		out.Error("install the Prometheus operator, or its custom resource definitions", "the cluster has no PrometheusRule, so rules cannot be applied")
	}
	return out, true
}
