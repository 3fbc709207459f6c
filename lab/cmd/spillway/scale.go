package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) scaleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scale NAME N",
		Short: "Set how many replicas a workload has",
		Long: `Set how many replicas a workload has, 0 to 100. The command returns at once:
new replicas get traffic as soon as they are ready; those that go are taken out
of balancing first and finish what they hold.`,
		Example:           "  spillway scale catalog 5\n  spillway scale catalog 1",
		Args:              arguments(2, "NAME", "N"),
		ValidArgsFunction: a.completeWorkload,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > 100 {
				return usagef("N is %q; give a number from 0 to 100", args[1])
			}
			return a.withEngine(func(engine enginev1.EngineServiceClient) error {
				resp, err := engine.Scale(cmd.Context(), &enginev1.ScaleRequest{Workload: args[0], Replicas: int32(n)})
				if err != nil {
					return fmt.Errorf("scale %s: %w", args[0], err)
				}
				fmt.Fprintf(a.out, "%s scaled from %d to %d%s\n", args[0], resp.GetPrevious(), n, a.where())
				return nil
			})
		},
	}
}
