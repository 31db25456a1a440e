package joblog

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/time/rate"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/upstream"
)

// A GitLab reads job logs of one GitLab. It spends a tenth of the host's budget of calls at most.
type GitLab struct {
	client *upstream.Client
	host   string
	limit  int
	mask   *correlate.Mask
	calls  *rate.Limiter
}

// NewGitLab makes a GitLab. The client is the one that the host's source uses, so that both share its budget, callsPerHour; of a log
// that is longer than limit bytes only the beginning and the end are kept, the end three times as long.
func NewGitLab(client *upstream.Client, callsPerHour, limit int, mask *correlate.Mask) *GitLab {
	return &GitLab{client, client.Host(), limit, mask, rate.NewLimiter(rate.Limit(float64(callsPerHour)/10/3600), max(1, min(10, callsPerHour/10)))}
}

// Wants implements Reader: jobs of this host.
func (g *GitLab) Wants(r *exporter.Run) bool {
	_, _, ok := jobOf(r)
	return ok && strings.EqualFold(r.ID.Host, g.host)
}

// Sections implements Reader: GitLab Runner marks them.
func (*GitLab) Sections() bool { return true }

func jobOf(r *exporter.Run) (project, job string, ok bool) {
	project, job, ok = strings.Cut(r.ID.Key, "/job/")
	return project, job, ok && r.ID.Source == "gitlab" && r.Level == exporter.LevelTask
}

// ReadLog implements Reader.
func (g *GitLab) ReadLog(ctx context.Context, r exporter.Run) ([]correlate.Line, []correlate.Span, error) {
	project, job, ok := jobOf(&r)
	if !ok {
		return nil, nil, nil
	}
	if err := g.calls.Wait(ctx); err != nil {
		return nil, nil, fmt.Errorf("read the log of job %s: %w", job, err)
	}
	ends, err := g.client.GetEnds(ctx, "/api/v4/projects/"+url.PathEscape(project)+"/jobs/"+url.PathEscape(job)+"/trace", g.limit/4, g.limit-g.limit/4)
	if err != nil {
		return nil, nil, fmt.Errorf("read the log of job %s: %w", job, err)
	}
	lines, sections := correlate.ReadJobLog(r, correlate.JobLog(ends), g.mask)
	return lines, sections, nil
}
