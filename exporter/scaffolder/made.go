package scaffolder

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/exporter"
)

// Follow makes the Source say which projects tasks made on these systems, by their base URLs. It is called before Sync.
func (s *Source) Follow(baseURLs ...string) {
	for _, base := range baseURLs {
		if u, err := url.Parse(base); err == nil && u.Hostname() != "" {
			s.makes = append(s.makes, u)
		}
	}
}

// A made project, and its host.
type made struct {
	host string
	exporter.Made
}

// made finds the project that a finished attempt names among its outputs: remoteUrl, as the actions that publish call it,
// or else the first link to a project.
func (c *reading) made(t task, events []event, runs []exporter.Run) (out []made) {
	for i := range runs {
		r := &runs[i]
		if r.Level != exporter.LevelPipeline || r.Result != exporter.ResultSuccess {
			continue
		}
		for _, e := range events {
			if e.Type != "completion" || !e.CreatedAt.Equal(r.Finished) {
				continue
			}
			if host, path := c.projectOf(e.Body.Output); path != "" {
				out = append(out, made{host, exporter.Made{
					Task: t.ID, Template: r.Name, Entity: r.Entity, Owner: r.Owner, System: r.System, Path: path, Created: t.CreatedAt, Ended: r.Finished,
				}})
			}
		}
	}
	return out
}

func (s *Source) projectOf(output json.RawMessage) (host, path string) {
	var named struct {
		RemoteURL string `json:"remoteUrl"`
		Links     []struct {
			URL string `json:"url"`
		} `json:"links"`
	}
	_ = json.Unmarshal(output, &named) // templates put what they like into their output
	addresses := []string{named.RemoteURL}
	for _, l := range named.Links {
		addresses = append(addresses, l.URL)
	}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			continue
		}
		for _, base := range s.makes {
			root := strings.TrimRight(base.Path, "/") + "/"
			if !strings.EqualFold(u.Hostname(), base.Hostname()) || !strings.HasPrefix(u.Path, root) || strings.Contains(u.Path, "/-/") {
				continue
			}
			if path := strings.TrimSuffix(strings.Trim(strings.TrimPrefix(u.Path, root), "/"), ".git"); strings.Contains(path, "/") {
				return base.Hostname(), path
			}
		}
	}
	return "", ""
}

// leave says what was made, before the task that made it counts as read.
func (c *reading) leave(ctx context.Context, tasks []found) error {
	for _, f := range tasks {
		for i := range f.made {
			b, err := f.made[i].Leave(f.made[i].host)
			if err == nil {
				err = c.to.Commit(ctx, b)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ready says that all history has been left, once.
func (c *reading) ready(ctx context.Context) error {
	if _, ok := c.to.Position(exporter.MadeReady); ok || len(c.makes) == 0 || !c.Read {
		return nil
	}
	return c.to.Commit(ctx, exporter.Batch{Cursor: exporter.MadeReady, Position: c.Start.Format(time.RFC3339Nano)})
}
