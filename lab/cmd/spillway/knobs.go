package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

func (a *app) knobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "knobs [SERVICE]",
		Short: "List the knobs: settings that may change while the mesh runs",
		Long: `List the knobs that the running replicas have declared, with their type, bounds,
default and the value that is set. A change reaches every replica of the service
at once, also those that start later.`,
		Example: "  spillway knobs inventory\n  spillway knobs set inventory capacity.slowdown 3\n  spillway knobs reset",
		Args:    arguments(0, "SERVICE"),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := a.listKnobs(cmd.Context(), strings.Join(args, ""))
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printProto(list)
		}
		return writeKnobs(a.out, list.GetServices())
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "set SERVICE NAME VALUE", Short: "Set a knob of a service",
			Args: arguments(3, "SERVICE", "NAME", "VALUE"), ValidArgsFunction: a.completeWorkload,
			RunE: func(cmd *cobra.Command, args []string) error {
				if args[2] == "" {
					return usagef("VALUE is empty; `spillway knobs reset` puts every knob back")
				}
				return a.withFaults(func(faults faultv1.FaultServiceClient) error {
					response, err := faults.SetKnob(cmd.Context(), &faultv1.SetKnobRequest{Service: args[0], Name: args[1], Value: args[2]})
					if err != nil {
						return err
					}
					fmt.Fprintf(a.out, "%s %s: %s → %s%s\n", args[0], args[1], cmp.Or(response.GetPrevious(), "default"), args[2], a.where())
					return nil
				})
			},
		},
		&cobra.Command{
			Use: "reset", Short: "Put every knob back", Args: arguments(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.withFaults(func(faults faultv1.FaultServiceClient) error {
					_, err := faults.ResetKnobs(cmd.Context(), &faultv1.ResetKnobsRequest{})
					return err
				})
			},
		},
	)
	return cmd
}

// listKnobs asks the control plane, whom the replicas told what they have. A
// cluster's has several replicas, which the session asks all.
func (a *app) listKnobs(ctx context.Context, service string) (list *knobv1.ListKnobsResponse, err error) {
	err = a.withMesh(func(mesh *grpc.ClientConn) error {
		if a.kind == engineKube {
			list, err = knobv1.NewKnobServiceClient(mesh).ListKnobs(ctx, &knobv1.ListKnobsRequest{Service: service})
			return err
		}
		info, err := enginev1.NewEngineServiceClient(mesh).GetInfo(ctx, &enginev1.GetInfoRequest{})
		if err != nil {
			return err
		}
		conn, err := grpc.NewClient(info.GetXdsAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("reach the control plane: %w", err)
		}
		list, err = knobv1.NewKnobServiceClient(conn).ListKnobs(ctx, &knobv1.ListKnobsRequest{Service: service})
		return errors.Join(err, conn.Close())
	})
	if err == nil && service != "" && len(list.GetServices()) == 0 {
		return nil, fmt.Errorf("no replica of %q has declared knobs; `spillway ps` lists what runs", service)
	}
	return list, err
}

func writeKnobs(out io.Writer, services []*knobv1.ServiceKnobs) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tKNOB\tVALUE\tDEFAULT\tALLOWED\tWHAT IT DOES")
	for _, s := range services {
		for _, k := range s.GetKnobs() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.GetService(), k.GetKnob().GetName(),
				cmp.Or(k.GetValue(), "-"), k.GetKnob().GetDefault(), allowed(k.GetKnob()), k.GetKnob().GetHelp())
		}
	}
	return w.Flush()
}

// allowed is what a knob may be set to, in words.
func allowed(k *knobv1.Knob) string {
	low, high := k.GetMinimum(), k.GetMaximum()
	switch {
	case len(k.GetChoices()) > 0:
		return strings.Join(k.GetChoices(), ", ")
	case low != "" && high != "":
		return low + " to " + high
	case low != "":
		return low + " or more"
	case high != "":
		return "up to " + high
	case k.GetType() == knobv1.KnobType_KNOB_TYPE_BOOL:
		return "true, false"
	}
	return "any"
}
