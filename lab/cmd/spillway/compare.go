package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"spillway.dev/lab/report"
)

func (a *app) compareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare DIR DIR...",
		Short: "Lay runs of one scenario side by side",
		Long: `Lay the reports of several runs of one scenario side by side, variant by variant,
with differences to the first: before and after a change, or two machines.`,
		Example: "  spillway compare reports/before reports/after\n  spillway compare reports/before reports/after --html compare.html",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("give the directories of two reports or more")
			}
			return nil
		},
	}
	page := cmd.Flags().String("html", "", "file to write a page to")
	_ = cmd.MarkFlagFilename("html", "html") // the flag exists
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		comparison, err := report.Compare(args...)
		if err != nil {
			return err
		}
		if err := comparison.Print(a.out); err != nil || *page == "" {
			return err
		}
		text, err := comparison.Page()
		if err != nil {
			return err
		}
		if err := os.WriteFile(*page, text, 0o644); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
		return nil
	}
	return cmd
}

func (a *app) catalogueCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "catalogue DIR",
		Short:   "Write an index page over the reports in a directory",
		Example: "  spillway catalogue reports",
		Args:    arguments(1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := report.Catalogue(args[0]); err != nil {
				return fmt.Errorf("write the catalogue: %w", err)
			}
			fmt.Fprintf(a.out, "%s/index.html\n", args[0])
			return nil
		},
	}
}
