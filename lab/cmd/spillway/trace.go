package main

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

var traceID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (a *app) traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Print a trace as a waterfall",
		Long: `Print one trace as a tree of calls with a bar for each: when it began, how long
it took and, where it failed, why. An arrow marks a call as its caller saw it.
'spillway traces' lists the ids; log lines and 'spillway buy' give them too.`,
		Example:           "  spillway trace 4bf92f3577b34da6a3ce929d0e0e4736",
		Args:              arguments(1, "ID"),
		ValidArgsFunction: a.completeTrace,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !traceID.MatchString(args[0]) {
			return usagef("%q is no trace id; it has 32 digits, 0 to 9 and a to f", args[0])
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			resp, err := engine.GetTrace(cmd.Context(), &enginev1.GetTraceRequest{TraceId: args[0]})
			if err != nil {
				return err
			}
			if *asJSON {
				return a.printProto(resp)
			}
			return trace.Build(resp.GetResourceSpans()).Waterfall(a.out, width(a.out))
		})
	}
	return cmd
}

// completeTrace offers the latest traces with what they are about.
func (a *app) completeTrace(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	engine, closeConn, err := a.engine()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer closeConn()
	list, err := engine.ListTraces(cmd.Context(), &enginev1.ListTracesRequest{Limit: 20})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, t := range list.GetTraces() {
		ids = append(ids, cobra.CompletionWithDesc(t.GetTraceId(), fmt.Sprintf("%s %s", t.GetRootService(), t.GetRootName())))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
