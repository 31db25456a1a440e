package exporter

import "github.com/prometheus/client_golang/prometheus"

// WebhookMetrics count webhooks by what became of them. A nil one counts nothing. Safe for concurrent use.
type WebhookMetrics struct{ total *prometheus.CounterVec }

// What becomes of a webhook.
const (
	WebhookStored   = "stored"   // durable, to be read
	WebhookIgnored  = "ignored"  // of no interest
	WebhookRepeated = "repeated" // received before
	WebhookRefused  = "refused"  // a wrong secret, or no webhook at all
	WebhookFailed   = "failed"   // not stored, to be sent again
)

// NewWebhookMetrics makes them and registers them. It panics when they are registered already.
func NewWebhookMetrics(reg prometheus.Registerer) *WebhookMetrics {
	f := families[webhooks]
	m := &WebhookMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)}
	reg.MustRegister(m.total)
	return m
}

// Count adds one.
func (m *WebhookMetrics) Count(source, result string) {
	if m != nil {
		m.total.WithLabelValues(source, result).Inc()
	}
}
