package main

import (
	"fmt"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restart NAME",
		Short: "Replace every replica of a workload by a rolling update",
		Long: `Replace every replica of a workload by a new one, a few at a time as the
Deployment's strategy says. No request is lost. The command returns at once;
'spillway ps' shows how far it is.`,
		Example:           "  spillway restart payment",
		Args:              arguments(1, "NAME"),
		ValidArgsFunction: a.completeWorkload,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(func(engine enginev1.EngineServiceClient) error {
				if _, err := engine.Restart(cmd.Context(), &enginev1.RestartRequest{Workload: args[0]}); err != nil {
					return fmt.Errorf("restart %s: %w", args[0], err)
				}
				fmt.Fprintf(a.out, "%s is being restarted%s\n", args[0], a.where())
				return nil
			})
		},
	}
}
