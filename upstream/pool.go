package upstream

import "sync"

// A Pool makes clients, and gives the same client again for the same Options, so that budgets and waits outlive a reload
// and parts that talk to one upstream share them. It is also the collector of their metrics. Safe for concurrent use.
type Pool struct {
	*Metrics

	mu      sync.Mutex
	clients map[Options]*Client
}

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{Metrics: NewMetrics(), clients: map[Options]*Client{}} }

// Client gives the client for the options, whose Metrics are the pool's.
func (p *Pool) Client(o Options) (*Client, error) {
	o.Metrics = p.Metrics
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[o]; c != nil {
		return c, nil
	}
	c, err := New(o)
	if err == nil {
		p.clients[o] = c
	}
	return c, err
}
