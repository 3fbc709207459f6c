package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"spillway.dev/lab/engine/local"
)

// conductorCommand is the control plane's process, which 'spillway up' starts.
func (a *app) conductorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "conductor",
		Short:  "Serve the mesh's endpoints over xDS",
		Hidden: true,
		Args:   arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.Conduct(cmd.Context(), a.in, slog.New(slog.NewJSONHandler(a.err, nil)))
		},
	}
}
