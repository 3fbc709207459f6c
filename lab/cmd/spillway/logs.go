package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "logs [NAME]",
		Short:             "Print what workloads have logged",
		Long:              "Print the latest log lines of a workload, of a replica, or of everything, each after the name of its replica.",
		Example:           "  spillway logs order\n  spillway logs -f --tail 0",
		Args:              arguments(0, "NAME"),
		ValidArgsFunction: a.completeWorkload,
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with new lines until Ctrl-C")
	tail := cmd.Flags().Int32("tail", 100, "how many kept lines to begin with at most")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *tail < 0 {
			return usagef("--tail is %d; give 0 or more", *tail)
		}
		request := &enginev1.StreamLogsRequest{Follow: *follow, Tail: *tail}
		if len(args) == 1 {
			request.Name = args[0]
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			stream, err := engine.StreamLogs(cmd.Context(), request)
			if err != nil {
				return fmt.Errorf("read the logs: %w", err)
			}
			lines := json.NewEncoder(a.out)
			for {
				line, err := stream.Recv()
				switch {
				case errors.Is(err, io.EOF), *follow && cmd.Context().Err() != nil: // the end, or Ctrl-C
					return nil
				case err != nil:
					return fmt.Errorf("read the logs: %w", err)
				case *asJSON:
					err = lines.Encode(map[string]string{"replica": line.GetReplica(), "line": line.GetLine()})
				default:
					_, err = fmt.Fprintf(a.out, "%s | %s\n", line.GetReplica(), line.GetLine())
				}
				if err != nil {
					return err
				}
			}
		})
	}
	return cmd
}
