package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) killCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kill NAME[/REPLICA]",
		Short: "Kill replicas with SIGKILL, as a crash would",
		Long: `Kill one replica, or every replica of a workload, with SIGKILL: no drain, no
farewell, what a crash looks like. The mesh starts them again.`,
		Example:           "  spillway kill order                    # every replica\n  spillway kill order/order-7d9c-x2x4z   # one, by a name that 'spillway ps' shows",
		Args:              arguments(1, "NAME"),
		ValidArgsFunction: a.completeReplica,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		workload, replica, one := strings.Cut(args[0], "/")
		if workload == "" || one && replica == "" {
			return usagef("%q is no NAME and no NAME/REPLICA", args[0])
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			resp, err := engine.Kill(cmd.Context(), &enginev1.KillRequest{Workload: workload, Replica: replica})
			if err != nil {
				return fmt.Errorf("kill %s: %w", args[0], err)
			}
			if *asJSON {
				return a.printProto(resp)
			}
			for _, name := range resp.GetKilled() {
				fmt.Fprintf(a.out, "killed %s%s\n", name, a.where())
			}
			return nil
		})
	}
	return cmd
}
