package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) tracesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "traces",
		Short:   "List the traces that are kept",
		Long:    "List the traces that the running mesh keeps in memory, the latest first or the slowest first. One request in a hundred is traced, and every 'spillway buy'.",
		Example: "  spillway traces --slowest --limit 5",
		Args:    arguments(0),
	}
	slowest := cmd.Flags().Bool("slowest", false, "slowest first instead of latest first")
	limit := cmd.Flags().Int32("limit", 20, "how many at most, 1 to 1000")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 || *limit > 1000 {
			return usagef("--limit is %d; give 1 to 1000", *limit)
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			list, err := engine.ListTraces(cmd.Context(), &enginev1.ListTracesRequest{Slowest: *slowest, Limit: *limit})
			if err != nil {
				return fmt.Errorf("list the traces: %w", err)
			}
			if *asJSON {
				return a.printProto(list)
			}
			if len(list.GetTraces()) == 0 {
				fmt.Fprintln(a.out, "no traces are kept yet; `spillway buy` makes one")
				return nil
			}
			return writeTraces(a.out, list.GetTraces())
		})
	}
	return cmd
}

func writeTraces(out io.Writer, traces []*enginev1.TraceSummary) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TRACE\tSTARTED\tTAKES\tSPANS\tFAILED\tROOT")
	for _, t := range traces {
		failed := ""
		if t.GetFailed() {
			failed = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", t.GetTraceId(), t.GetStartedAt().AsTime().Local().Format(time.TimeOnly),
			trace.Duration(t.GetDuration().AsDuration()), t.GetSpans(), failed, printable(t.GetRootService()+" "+t.GetRootName()))
	}
	return w.Flush()
}

// printable is text from the network without what would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
