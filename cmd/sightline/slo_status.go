package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/slo"
)

// sparkPoints is how many points the trend of a budget has.
const sparkPoints = 16

func newSLOStatus(env environment) *cobra.Command {
	var flags sloFlags
	var format, gate string
	var allowNoData bool
	cmd := &cobra.Command{
		Use: "status [--server URL | --prometheus URL | --config FILE]", Short: "Print where the objectives stand, worst first; a gate for deployments", Args: noArgs,
		Long: `Status prints a row for each objective: its target, the share of good events over its window, how much of the error budget
is left, the burn rate over the last hour (1 spends the whole budget in one window), and the budget over the window.

` + sloFlagsHelp + `

With --gate the exit code says whether all the objectives that the filters pick meet it:

  budget>10%           more than a tenth of the error budget is left
  burn<2               the burn rate over the last hour is below 2
  budget>10%,burn<2    both; a comma means "and"; there are >, >=, < and <=

An objective without data does not meet a gate, nor does a filter that picks nothing, unless --gate-allow-no-data is given.
The exit code is 1 when the gate is not met, and 3 when nobody answers or the figures are old.`,
		Example: `  sightline slo status --server http://127.0.0.1:9469
  sightline slo status --prometheus http://prometheus:9090 --owner payments
  sightline slo status --config sightline.yaml --entity checkout --gate 'budget>10%,burn<2'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			var g slo.Gate
			switch {
			case cmd.Flags().Changed("gate"):
				var err error
				if g, err = slo.ParseGate(gate); err != nil {
					return hintError{fmt.Errorf("--gate: %w", err), "write it like --gate 'budget>10%,burn<2'"}
				}
			case allowNoData:
				return hintError{errors.New("--gate-allow-no-data has no effect without --gate"), "add --gate 'budget>10%'"}
			}
			filter, err := flags.filter()
			if err != nil {
				return err
			}
			if err := flags.resolve(env, false); err != nil {
				return err
			}
			ask, err := flags.source()
			if err != nil {
				return err
			}
			list, err := ask(cmd.Context(), filter, sparkPoints)
			if err != nil {
				return err
			}
			for _, w := range list.StoreWarnings {
				fmt.Fprintln(env.stderr, "sightline: warning:", clean(w))
			}
			var result *gateResult
			if cmd.Flags().Changed("gate") && list.StoreError == "" {
				result = tryGate(g, list.Items, allowNoData)
			}
			if format == "json" {
				if err := encodeJSON(env.stdout, statusDocument{list, result}); err != nil {
					return err
				}
			} else {
				printStatus(env.stdout, list.Items, newStyle(env.stdout, env.env), terminalWidth(env.stdout))
			}
			if list.StoreError != "" { // nothing must be decided by such figures
				return exitError{exitUpstream, fmt.Errorf("the figures are missing or old: %s", list.StoreError)}
			}
			if result == nil {
				return nil
			}
			result.print(env.stderr, newStyle(env.stderr, env.env))
			if !result.Passed {
				return exitError{code: exitProblems}
			}
			return nil
		},
	}
	flags.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().StringVar(&gate, "gate", "", "fail unless every objective meets this, such as 'budget>10%,burn<2'")
	cmd.Flags().BoolVar(&allowNoData, "gate-allow-no-data", false, "let objectives without data, and no objective at all, through the gate")
	completeSLOFlags(cmd, "text", "json")
	return cmd
}

// A statusDocument is what --format json writes: the answer of the API's /slos, and what the gate said.
type statusDocument struct {
	api.AllSLOList
	Gate *gateResult `json:"gate,omitempty"`
}

// terminalWidth is how many columns a terminal has; 0 where the reader is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// brief leaves out what is usual in a reference.
func brief(r catalog.Ref, kind string) string {
	s := strings.TrimPrefix(r.String(), kind+":")
	return strings.TrimPrefix(s, "default/")
}

// printStatus writes the table. Where the terminal is too narrow, first the trend goes, then the window, then the owner;
// then entities are cut off.
func printStatus(w io.Writer, slos []api.SLO, st style, width int) {
	if len(slos) == 0 {
		fmt.Fprintln(w, "no objective matches")
		return
	}
	const entity = 2
	columns := []string{"STATE", "OWNER", "ENTITY", "INDICATOR", "TARGET", "WINDOW", "ATTAINED", "BUDGET LEFT", "BURN 1H", "TREND"}
	right := []bool{4: true, 6: true, 7: true, 8: true, 9: false}
	rows := [][]string{columns}
	for _, s := range slos {
		rows = append(rows, []string{
			string(s.Status), brief(s.Owner, "group"), brief(s.Entity, "component"), s.Indicator, s.Target + "%", s.Window,
			shareText(s.SLI, attainedDigits(s.Target)), shareText(s.BudgetRemaining, 1), rateText(burnNow(s)), spark(s.Series, sparkPoints),
		})
	}
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = clean(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	hidden := make([]bool, len(columns))
	total := func() (n int) {
		for i, v := range widths {
			if !hidden[i] {
				n += v + 2
			}
		}
		return n - 2
	}
	for _, i := range []int{9, 5, 1} {
		if width > 0 && total() > width {
			hidden[i] = true
		}
	}
	if over := total() - width; width > 0 && over > 0 {
		widths[entity] = max(widths[entity]-over, 8)
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if hidden[i] {
				continue
			}
			if length := utf8.RuneCountInString(cell); length > widths[i] {
				cell = string([]rune(cell)[:widths[i]-1]) + "…"
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case n == 0:
				cell = st.bold(cell)
			case i == 0:
				cell = st.status(slos[n-1].Status, cell)
			}
			if right[i] {
				cell = space + cell
			} else {
				cell += space
			}
			line.WriteString(cell + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func (s style) status(v api.Status, text string) string {
	switch v {
	case api.StatusBreaching, api.StatusBurning:
		return s.paint("31;1", text)
	case api.StatusLow:
		return s.paint("33", text)
	case api.StatusNoData:
		return s.dim(text)
	}
	return s.paint("32", text)
}

// attainedDigits is how many digits a share needs beside a target of so many: two more, so that a near miss shows.
func attainedDigits(target string) int {
	_, fraction, _ := strings.Cut(target, ".")
	return min(len(fraction)+2, 6)
}

func shareText(n api.Number, digits int) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatFloat(*n*100, 'f', digits, 64) + "%"
}

func rateText(n api.Number) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatFloat(*n, 'f', 2, 64)
}

// burnNow is the burn rate over the last hour: long enough to be steady, short enough to be now.
func burnNow(s api.SLO) api.Number {
	for _, b := range s.BurnRates {
		if b.Window == "1h" {
			return b.Rate
		}
	}
	return nil
}

func valueOf(n api.Number) float64 {
	if n == nil {
		return math.NaN()
	}
	return *n
}

// spark draws a series of shares, the latest at the right, on a scale from nothing (or less) to all.
func spark(series []api.Point, width int) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	var b strings.Builder
	for range width - len(series) {
		b.WriteByte(' ')
	}
	for _, p := range series[max(0, len(series)-width):] {
		if p.Value == nil {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(steps[int(math.Round(min(max(*p.Value, 0), 1)*float64(len(steps)-1)))])
	}
	return b.String()
}
