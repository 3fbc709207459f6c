package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) psCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List workloads and their replicas",
		Long:    "List every workload of the running mesh, how many of its replicas are ready, and each replica: its state, restarts, process and address.",
		Example: "  spillway ps\n  spillway ps --json | jq '.workloads[].name'",
		Args:    arguments(0),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			list, err := engine.ListWorkloads(cmd.Context(), &enginev1.ListWorkloadsRequest{})
			if err != nil {
				return fmt.Errorf("list the workloads: %w", err)
			}
			if *asJSON {
				return a.printProto(list)
			}
			return writeWorkloads(a.out, list.GetWorkloads(), time.Now())
		})
	}
	return cmd
}

func writeWorkloads(out io.Writer, workloads []*enginev1.Workload, now time.Time) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WORKLOAD\tREADY\tSTATE\tRESTARTS\tAGE\tPID\tGRPC\tREASON")
	for _, workload := range workloads {
		fmt.Fprintf(w, "%s\t%d/%d\t\t\t\t\t\t\n", workload.GetName(), workload.GetReady(), workload.GetDesired())
		for _, r := range workload.GetReplicas() {
			ready := "no"
			if r.GetReady() {
				ready = "yes"
			}
			lived := ""
			if r.GetStartedAt() != nil {
				lived = age(now.Sub(r.GetStartedAt().AsTime()))
			}
			pid := ""
			if r.GetPid() != 0 {
				pid = fmt.Sprint(r.GetPid())
			}
			state := strings.ToLower(strings.TrimPrefix(r.GetPhase().String(), "REPLICA_PHASE_"))
			fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.GetName(), ready, state, r.GetRestarts(),
				cmp.Or(lived, "-"), cmp.Or(pid, "-"), cmp.Or(r.GetGrpcAddress(), "-"), r.GetReason())
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) { // without the padding of empty cells
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
