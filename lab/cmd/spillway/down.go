package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"spillway.dev/lab/engine/client"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Drain and stop the running mesh",
		Long:    "Drain and stop the running mesh, as Ctrl-C in the terminal of 'spillway up' does, and return when nothing runs any more. What was sold stays in the state directory, if there was a redis-server to keep it. Without a running mesh there is nothing to do. With --engine kube, delete what 'spillway up' applied, but for namespaces and what was sold.",
		Example: "  spillway down",
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.kind == engineKube {
				return a.downCluster(cmd.Context())
			}
			err := a.withEngine(func(engine enginev1.EngineServiceClient) error {
				if _, err := engine.Down(cmd.Context(), &enginev1.DownRequest{}); err != nil {
					return fmt.Errorf("stop the mesh: %w", err)
				}
				fmt.Fprintln(a.out, "stopped")
				return nil
			})
			if errors.Is(err, client.ErrNotRunning) {
				fmt.Fprintf(a.out, "no mesh is running in %s\n", a.dir)
				return nil
			}
			return err
		},
	}
}
