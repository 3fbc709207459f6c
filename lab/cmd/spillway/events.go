package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Show what the autoscaler did, and why",
		Long: `Show the events of the autoscaler: a scaling with the metric that caused it, a
metric that could not be read. They are Kubernetes' own. NAME is that of an
autoscaler or workload.`,
		Example:           "  spillway events\n  spillway events order --follow",
		Args:              arguments(0, "NAME"),
		ValidArgsFunction: a.completeWorkload,
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with new events")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withMesh(func(conn *grpc.ClientConn) error {
			events, err := autoscalerv1.NewAutoscalerServiceClient(conn).StreamEvents(cmd.Context(),
				&autoscalerv1.StreamEventsRequest{Name: strings.Join(args, ""), Follow: *follow})
			if err != nil {
				return err
			}
			for {
				event, err := events.Recv()
				switch {
				case errors.Is(err, io.EOF) || errors.Is(cmd.Context().Err(), context.Canceled):
					return nil
				case err != nil:
					return err
				}
				fmt.Fprintf(a.out, "%s  %-7s  %-26s  %s/%s  %s\n", event.GetAt().AsTime().Local().Format(time.TimeOnly),
					event.GetType(), event.GetReason(), strings.ToLower(event.GetKind()), event.GetName(), event.GetMessage())
			}
		})
	}
	return cmd
}
