package remote

import (
	"context"
	"time"
)

// MetricNames lists the names of all metrics of the last hour.
func (c *Client) MetricNames(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	values, _, _, err := c.api.LabelValues(ctx, "__name__", nil, time.Now().Add(-time.Hour), time.Time{})
	if err != nil {
		return nil, c.wrap(ctx, err)
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out, nil
}

// Types gives the types of metrics as the server's targets tell them, by name; histograms by the name without _bucket. It
// is empty where the server keeps none, and a name with two types is left out.
func (c *Client) Types(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := c.api.Metadata(ctx, "", "")
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.wrap(ctx, err)
	}
	out := map[string]string{}
	for name, all := range found {
		if len(all) == 0 {
			continue
		}
		kind := string(all[0].Type)
		for _, m := range all {
			if string(m.Type) != kind {
				kind = ""
			}
		}
		if kind != "" && kind != "unknown" {
			out[name] = kind
		}
	}
	return out, nil
}
