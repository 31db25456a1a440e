// Command sightline gives every team on an internal developer platform its SLOs, dashboards, alert routes and joined
// telemetry, straight from the Backstage catalog.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // where the system has no time zones

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/cmd/sightline/quiet"
	"github.com/sightline-dev/sightline/config"
)

// version is set when the program is built for a release.
var version = "dev"

// Exit codes.
const (
	exitOK       = 0
	exitProblems = 1 // problems of severity error, or changes with diff --exit-code
	exitUsage    = 2
	exitUpstream = 3
)

// An environment is everything outside the program that a command may touch.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	reload         <-chan os.Signal // asks serve to read its configuration again
}

// gcPercent is Prometheus's own default: less memory than with Go's, for a little time.
const gcPercent = 75

func main() {
	_ = quiet.Silenced
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	code := run(ctx, environment{os.Stdin, os.Stdout, os.Stderr, os.Getenv, reload}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes a command line and gives the exit code.
func run(ctx context.Context, env environment, args []string) int {
	if version == "dev" {
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			version = info.Main.Version
		}
	}
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit exitError
	if errors.As(err, &exit) && exit.err == nil {
		return exit.code
	}
	st := newStyle(env.stderr, env.env)
	fmt.Fprintf(env.stderr, "%s %s\n", st.severityMark(catalog.SeverityError, "sightline: error:"), err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(env.stderr, "%s %s\n", st.bold("sightline: hint:"), hint)
	}
	if exit.code != 0 {
		return exit.code
	}
	return exitUsage
}

// An exitError carries an exit code; without an error inside, everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// hintError adds what the user can do about an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }
func (e hintError) Hint() string  { return e.hint }

// hintOf finds the hint in a chain of errors.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	var c *config.Error
	if errors.As(err, &c) {
		return c.Hint
	}
	return ""
}

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "sightline",
		Short: "SLOs, dashboards, alert routes and telemetry for every team, from the Backstage catalog",
		Long: `Sightline reads the software catalog and gives each owning team, with nothing but annotations in
catalog-info.yaml, exact SLO rules for Prometheus, Grafana dashboards, Alertmanager routes and telemetry with the owner on it.

Exit codes: 0 all is well, 1 problems were found, 2 wrong usage or configuration, 3 another system did not answer.`,
		Example: `  sightline demo                                        a simulated platform in your browser
  sightline lint catalog-info.yaml                      check the annotations
  sightline generate --catalog catalog/ --out out/      write rules, dashboards, alertmanager.yml
  sightline apply --config sightline.yaml               write them to Alertmanager, rulers, Kubernetes, Grafana
  sightline doctor --config sightline.yaml              check every system that it names
  sightline serve --config sightline.yaml               run beside Backstage`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       noCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
		Version:                    versionText(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hintError{err, fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
	})
	root.AddCommand(newServe(env), newGenerate(env), newDiff(env), newApply(env), newLint(env), newDoctor(env), newBacktest(env), newSLO(env), newDemo(env), newTrace(env), newExplain(env), newVersion(env))
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // cobra's own takes any argument for a shell
			cmd.Args, cmd.RunE, cmd.SuggestionsMinimumDistance = noCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, 2
		}
	}
	return root
}

func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("`%s --help` lists the commands", cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + strings.Join(near, "` or `"+cmd.CommandPath()+" ") + "`?"
	}
	return hintError{fmt.Errorf("unknown command %q of %s", args[0], cmd.CommandPath()), hint}
}

// noArgs refuses arguments, and flags that are required and missing.
func noArgs(cmd *cobra.Command, args []string) error {
	var missing []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[cobra.BashCompOneRequiredFlag] != nil && !f.Changed {
			missing = append(missing, "--"+f.Name)
		}
	})
	if len(args) == 0 && len(missing) > 0 {
		example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		return hintError{fmt.Errorf("%s needs %s", cmd.CommandPath(), strings.Join(missing, " and ")), "try `" + example + "`"}
	}
	if len(args) > 0 {
		return hintError{fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0]), fmt.Sprintf("`%s --help` shows how it is used", cmd.CommandPath())}
	}
	return nil
}

// oneOf refuses a flag's value that is not in the list.
func oneOf(flag, value string, known ...string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return hintError{fmt.Errorf("--%s: %q is not known", flag, value), "use one of " + strings.Join(known, ", ")}
}
