package main

import "github.com/spf13/cobra"

func newSLO(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use: "slo", Short: "Where the objectives stand, and what they were", Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newSLOStatus(env), newSLOReport(env), newSLOSuggest(env))
	cmd.AddCommand(newSLOExport(env))
	return cmd
}
