package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"spillway.dev/lab/autoscaler/printer"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// kinds are what kubectl calls the objects that a local mesh has.
var kinds = map[string]string{
	"hpa": "HorizontalPodAutoscaler", "horizontalpodautoscalers": "HorizontalPodAutoscaler",
	"pods": "Pod", "po": "Pod", "nodes": "Node", "no": "Node", "deployments": "Deployment", "deploy": "Deployment",
}

// kindOf finds a kind by the names that kubectl takes.
func kindOf(word string) (string, error) {
	for _, try := range []string{word, word + "s"} {
		if kind, known := kinds[strings.ToLower(try)]; known {
			return kind, nil
		}
	}
	return "", usagef("%q is none of %s", word, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
}

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "List autoscalers, pods, nodes or deployments as kubectl does",
		Long: `List the Kubernetes objects of the running mesh, printed by kubectl's own code:
hpa, pods, nodes, deployments. Durations of autoscalers are those that are in
force: a time-lapse has divided them.`,
		Example:   "  spillway get hpa\n  spillway get pods -o wide\n  spillway get hpa order -o json",
		Args:      arguments(1, "KIND", "NAME"),
		ValidArgs: []string{"hpa", "pods", "nodes", "deployments"},
	}
	format := cmd.Flags().StringP("output", "o", "", "wide or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains([]string{"", "wide", "json"}, *format) {
			return usagef("-o is %q; give wide or json", *format)
		}
		objects, err := a.objects(cmd.Context(), args)
		if err != nil {
			return err
		}
		if *format == "json" {
			list := make([]json.RawMessage, len(objects))
			for i, o := range objects {
				list[i] = json.RawMessage(o)
			}
			return a.printJSON(list)
		}
		return printer.Get(a.out, objects, *format == "wide")
	}
	return cmd
}

func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "describe hpa NAME",
		Short:   "Tell everything of an autoscaler as kubectl does: metrics, conditions, events",
		Example: "  spillway describe hpa order",
		Args:    arguments(2, "hpa", "NAME"), ValidArgs: []string{"hpa"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind, err := kindOf(args[0]); err != nil || kind != "HorizontalPodAutoscaler" {
				return usagef("%q cannot be described; give hpa", args[0])
			}
			objects, err := a.objects(cmd.Context(), args)
			if err != nil {
				return err
			}
			events, err := a.events(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			return printer.Describe(a.out, objects[0], events)
		},
	}
}

// objects lists the objects of a kind, or the one that is named too.
func (a *app) objects(ctx context.Context, args []string) (objects []string, err error) {
	kind, err := kindOf(args[0])
	if err != nil {
		return nil, err
	}
	err = a.withMesh(func(conn *grpc.ClientConn) error {
		list, err := autoscalerv1.NewAutoscalerServiceClient(conn).ListObjects(ctx, &autoscalerv1.ListObjectsRequest{Kind: kind})
		objects = list.GetObjects()
		return err
	})
	if err != nil || len(args) == 1 {
		return objects, err
	}
	var names []string
	for _, o := range objects {
		var head struct {
			Metadata struct{ Name string }
		}
		if err := json.Unmarshal([]byte(o), &head); err != nil {
			return nil, fmt.Errorf("read a %s: %w", kind, err)
		}
		if head.Metadata.Name == args[1] {
			return []string{o}, nil
		}
		names = append(names, head.Metadata.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no %s; `spillway up --scaling cpu` runs autoscalers", kind)
	}
	return nil, fmt.Errorf("there is no %s %q; there are %s", kind, args[1], strings.Join(names, ", "))
}

// events are all events so far of an object.
func (a *app) events(ctx context.Context, name string) (all []*autoscalerv1.StreamEventsResponse, err error) {
	err = a.withMesh(func(conn *grpc.ClientConn) error {
		stream, err := autoscalerv1.NewAutoscalerServiceClient(conn).StreamEvents(ctx, &autoscalerv1.StreamEventsRequest{Name: name})
		for err == nil {
			var event *autoscalerv1.StreamEventsResponse
			if event, err = stream.Recv(); err == nil {
				all = append(all, event)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	return all, err
}
