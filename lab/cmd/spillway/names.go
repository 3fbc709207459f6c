package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// completionPatience bounds what a person waits for after the TAB key.
const completionPatience = time.Second

// completeWorkload offers the running mesh's workloads, for the first argument.
func (a *app) completeWorkload(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, w := range a.workloads(cmd.Context()) {
		names = append(names, w.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeReplica offers workloads and, after NAME/, its replicas.
func (a *app) completeReplica(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	workload, _, replica := strings.Cut(typed, "/")
	if !replica || len(args) > 0 {
		return a.completeWorkload(cmd, args, typed)
	}
	var names []string
	for _, w := range a.workloads(cmd.Context()) {
		if w.GetName() == workload {
			for _, r := range w.GetReplicas() {
				names = append(names, workload+"/"+r.GetName())
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// workloads are those of the running mesh; none when there is no mesh.
func (a *app) workloads(ctx context.Context) []*enginev1.Workload {
	engine, closeConn, err := a.engine()
	if err != nil {
		return nil
	}
	defer closeConn()
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	list, err := engine.ListWorkloads(ctx, &enginev1.ListWorkloadsRequest{})
	if err != nil {
		return nil
	}
	return list.GetWorkloads()
}
