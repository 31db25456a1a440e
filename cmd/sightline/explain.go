package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
)

func newExplain(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain", Short: "Explain the annotations or the configuration file",
		Example: "  sightline explain annotations\n  sightline explain config > sightline.yaml",
		Args:    noCommand, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "annotations", Short: "Print every annotation and the grammar of the values", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return explainAnnotations(env.stdout, columns(env.stdout)) },
		},
		&cobra.Command{
			Use: "config", Short: "Print the commented configuration file", Args: noArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(env.stdout, config.Example())
				return err
			},
		},
	)
	return cmd
}

// explainAnnotations prints what fits into width columns: the meaning of a key stands below it.
func explainAnnotations(w io.Writer, width int) error {
	fmt.Fprintf(w, "Every key starts with %s. Values are strings: quote numbers.\n\n", catalog.Prefix)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "KEY\tON\tEXAMPLE")
	table := catalog.AnnotationTable()
	for _, a := range table {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", a.Key, a.On, a.Example)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nMeaning:")
	for _, a := range table {
		fmt.Fprintf(w, "\n%s\n", a.Key)
		for _, line := range wrapped(a.Meaning, width-2) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	_, err := fmt.Fprintf(w, "\nGrammar:\n\n%s", catalog.Grammar)
	return err
}
