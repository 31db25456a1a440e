package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/slo"
)

func newSLOReport(env environment) *cobra.Command {
	var flags sloFlags
	var format, period, from, to, zone, out string
	var worst int
	cmd := &cobra.Command{
		Use: "report --owner OWNER [--period PERIOD | --from DAY --to DAY]", Short: "Write a budget report of a period: Markdown, HTML, CSV or JSON", Args: noArgs,
		Long: `Report says of each objective of an owner what it attained in a period and on which days its error budget was spent, and of
the worst days which pipelines, deployments and alerts there were. The budget is that of the period, (1 - target) times
all its events, whatever the objective's own window is: the days add up to what is spent.

A period is a month (2026-10), a quarter (2026-Q4) or a year (2026); without one, the month that it is. --to is the last day
that belongs to the report. A period that is not over is reported up to now.

` + sloFlagsHelp + ` A Sightline that uses
another Prometheus (store.url) has no figures of the past: with --config that Prometheus is asked.`,
		Example: `  sightline slo report --owner payments --period 2026-10 --config sightline.yaml > october.md
  sightline slo report --owner payments --period 2026-Q4 --format html --output q4.html --server http://127.0.0.1:9469
  sightline slo report --system shop --from 2026-10-05 --to 2026-10-11 --format csv --prometheus http://prometheus:9090`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "markdown", "html", "csv", "json"); err != nil {
				return err
			}
			filter, err := flags.filter()
			if err != nil {
				return err
			}
			if filter.Owner.IsZero() && filter.Entity.IsZero() && filter.System.IsZero() {
				return hintError{errors.New("a report is about somebody's objectives"), "name --owner, --system or --entity"}
			}
			if worst < 0 || worst > 31 {
				return hintError{fmt.Errorf("--worst-days: %d is not possible", worst), "write a number from 0 to 31"}
			}
			if zone == "" && flags.conf != "" {
				c, err := config.Load(flags.conf)
				if err != nil {
					return err
				}
				zone = c.SLO.Timezone
			}
			location, err := time.LoadLocation(zone)
			if err != nil || zone == "Local" {
				return hintError{fmt.Errorf("--timezone: there is no time zone %q", zone), "write an IANA name such as Europe/Zurich"}
			}
			now := time.Now()
			r := report{Owner: filter.Owner, Entity: filter.Entity, System: filter.System, Zone: location.String()}
			if r.From, r.To, err = reportPeriod(period, from, to, now.In(location)); err != nil {
				return err
			}
			if !r.From.Before(now) {
				return hintError{fmt.Errorf("the period begins on %s, which has not come yet", r.From.Format(time.DateOnly)), "name a period that has begun"}
			}
			if r.To.After(now) {
				r.To, r.Open = now.Truncate(reportStep), true
			}
			if err := flags.resolve(env, true); err != nil {
				return err
			}
			q, err := flags.querier()
			if err != nil {
				return err
			}
			exclusions, err := flags.exclusions(cmd.Context(), filter)
			if err != nil {
				return err
			}
			r.Unknown = exclusions == nil
			if err := r.fill(cmd.Context(), q, filter, location, worst, exclusions); err != nil {
				return flags.failed(err)
			}
			w := env.stdout
			if out != "" {
				f, err := os.Create(out)
				if err != nil {
					return hintError{fmt.Errorf("--output: %w", err), "name a file that you may write"}
				}
				defer f.Close()
				if err := r.write(f, format); err != nil {
					return err
				}
				return f.Close()
			}
			return r.write(w, format)
		},
	}
	flags.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "markdown", "markdown, html, csv or json")
	cmd.Flags().StringVar(&period, "period", "", "a month, quarter or year, such as 2026-10, 2026-Q4 or 2026")
	cmd.Flags().StringVar(&from, "from", "", "first day, such as 2026-10-01")
	cmd.Flags().StringVar(&to, "to", "", "last day, such as 2026-10-31")
	cmd.Flags().StringVar(&zone, "timezone", "", "IANA name of the time zone of the days; default slo.timezone of --config, or UTC")
	cmd.Flags().StringVar(&out, "output", "", "file to write; standard output when left out")
	cmd.Flags().IntVar(&worst, "worst-days", 3, "of how many days with the most budget spent to tell what happened")
	cmd.MarkFlagsMutuallyExclusive("period", "from")
	cmd.MarkFlagsMutuallyExclusive("period", "to")
	completeSLOFlags(cmd, "markdown", "html", "csv", "json")
	return cmd
}

var periodForm = regexp.MustCompile(`^([0-9]{4})(?:-(0[1-9]|1[0-2])|-Q([1-4]))?$`)

// reportPeriod gives the begin of a period and what follows its end, in the zone of now.
func reportPeriod(period, from, to string, now time.Time) (begin, end time.Time, err error) {
	day := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	}
	if from != "" || to != "" {
		read := func(flag, text string) (time.Time, error) {
			t, err := time.ParseInLocation(time.DateOnly, text, now.Location())
			if err != nil {
				return t, hintError{fmt.Errorf("--%s: %q is not a day", flag, text), "write it like 2026-10-01"}
			}
			return t, nil
		}
		if from == "" {
			return begin, end, hintError{errors.New("--to without --from"), "name the first day by --from"}
		}
		if begin, err = read("from", from); err != nil {
			return begin, end, err
		}
		if to == "" {
			return begin, day(now.Year(), now.Month(), now.Day()+1), nil
		}
		if end, err = read("to", to); err != nil {
			return begin, end, err
		}
		if end.Before(begin) {
			return begin, end, hintError{fmt.Errorf("--to %s is before --from %s", to, from), "the last day belongs to the report"}
		}
		end = day(end.Year(), end.Month(), end.Day()+1)
		if end.Sub(begin) > 400*24*time.Hour {
			return begin, end, hintError{errors.New("the report is longer than a year"), "name a shorter one"}
		}
		return begin, end, nil
	}
	if period == "" {
		return day(now.Year(), now.Month(), 1), day(now.Year(), now.Month()+1, 1), nil
	}
	m := periodForm.FindStringSubmatch(period)
	if m == nil {
		return begin, end, hintError{fmt.Errorf("--period: %q is not a period", period), "write a month, quarter or year: 2026-10, 2026-Q4 or 2026"}
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // the form has digits only
	year := number(m[1])
	switch {
	case m[2] != "":
		month := time.Month(number(m[2]))
		return day(year, month, 1), day(year, month+1, 1), nil
	case m[3] != "":
		month := time.Month(3*number(m[3]) - 2)
		return day(year, month, 1), day(year, month+3, 1), nil
	}
	return day(year, 1, 1), day(year+1, 1, 1), nil
}

// exclusions gives what is left out of objectives, by sloth_id: from the server, or from what the configuration names. It is nil
// where only a Prometheus is known.
func (f *sloFlags) exclusions(ctx context.Context, filter api.SLOFilter) (map[string][]slo.Exclusion, error) {
	out := map[string][]slo.Exclusion{}
	switch {
	case f.server != "":
		ask, err := f.source()
		if err != nil {
			return nil, err
		}
		list, err := ask(ctx, filter, 0)
		if err != nil {
			return nil, err
		}
		for _, v := range list.Items {
			for _, x := range v.Exclusions {
				e := slo.Exclusion{Kind: x.Kind, From: x.From, To: x.To, Weekly: x.Repeat == "weekly", By: x.By, Reason: x.Reason, Link: x.Link}
				if x.Until != nil {
					e.Until = *x.Until
				}
				if e.Zone, err = time.LoadLocation(x.Zone); err != nil {
					return nil, fmt.Errorf("exclusions of %s: %w", v.ID, err)
				}
				out[v.ID] = append(out[v.ID], e)
			}
		}
	case f.conf != "":
		c, err := config.Load(f.conf)
		if err != nil {
			return nil, err
		}
		if len(c.SLO.Exclusions) == 0 {
			return out, nil
		}
		_, objectives, err := compile(ctx, c, false)
		if err != nil {
			return nil, err
		}
		for i := range objectives {
			out[objectives[i].ID()] = objectives[i].Exclusions
		}
	default:
		return nil, nil
	}
	return out, nil
}

// Subject is what a report is about, for its title.
func (r *report) Subject() string {
	for _, ref := range []catalog.Ref{r.Entity, r.System, r.Owner} {
		if !ref.IsZero() {
			return ref.String()
		}
	}
	return ""
}
