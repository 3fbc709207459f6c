package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"spillway.dev/lab/build"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print which build this is",
		Example: "  spillway version --json",
		Args:    arguments(0),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := build.Read()
		if *asJSON {
			return a.printJSON(v)
		}
		modified := ""
		if v.Modified {
			modified = ", modified"
		}
		_, err := fmt.Fprintf(a.out, "spillway %s (commit %s%s), %s, %s\n", v.Version, v.Commit, modified, v.Go, v.Platform)
		return err
	}
	return cmd
}
