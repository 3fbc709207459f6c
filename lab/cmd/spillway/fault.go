package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

func (a *app) faultCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Break parts of the running mesh on purpose, and mend them",
		Long: `Break parts of the running mesh on purpose: latency and errors on calls, a
service that works slowly, replicas that die or stand still, a store that is
away, endpoints that callers hear of late, replicas that take long to start, a
bank that takes fewer charges.

With --for a fault ends by itself; without, it lasts until 'spillway fault clear'
or the end of the mesh. 'spillway fault list' shows what is in force.`,
		Example: `  spillway fault latency inventory --delay 200ms --for 30s
  spillway fault errors bank --share 0.1
  spillway fault slow-down inventory --factor 5 --for 10s
  spillway fault store redis --for 5s
  spillway fault clear`,
		Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.latencyCommand(), a.errorsCommand(), a.slowDownCommand(),
		a.replicaFaultCommand("kill", "Kill replicas with SIGKILL, the oldest first", false),
		a.replicaFaultCommand("pause", "Stop replicas with SIGSTOP: they hold what they were sent", true),
		a.storeCommand(), a.endpointsCommand(), a.slowStartCommand(), a.bankQuotaCommand(),
		a.faultListCommand(), a.faultClearCommand(),
	)
	return cmd
}

// inject makes a command that begins one fault; build makes the fault from the
// arguments.
func (a *app) inject(cmd *cobra.Command, lasting bool, build func(args []string) (*faultv1.Fault, error)) *cobra.Command {
	var lasts *time.Duration
	if lasting {
		lasts = cmd.Flags().Duration("for", 0, "how long it lasts (default: until it is cleared)")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fault, err := build(args)
		if err != nil {
			return err
		}
		request := &faultv1.InjectFaultRequest{Fault: fault}
		if lasting && *lasts < 0 {
			return usagef("--for is %s; give a duration above 0, such as 30s", *lasts)
		}
		if lasting && *lasts > 0 {
			request.Duration = durationpb.New(*lasts)
		}
		return a.withFaults(func(faults faultv1.FaultServiceClient) error {
			response, err := faults.InjectFault(cmd.Context(), request)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, faultLine(response.GetFault(), time.Now())+a.where())
			return a.holdFault(cmd.Context(), faults, response.GetFault())
		})
	}
	return cmd
}

func (a *app) withFaults(f func(faultv1.FaultServiceClient) error) error {
	return a.withMesh(func(conn *grpc.ClientConn) error { return f(faultv1.NewFaultServiceClient(conn)) })
}

// faultLine is a fault in one line.
func faultLine(f *faultv1.ActiveFault, now time.Time) string {
	switch {
	case f.GetFault().GetKill() != nil:
		return f.GetText()
	case f.GetEndsAt() == nil:
		return fmt.Sprintf("%s: %s, until it is cleared", f.GetId(), f.GetText())
	}
	return fmt.Sprintf("%s: %s, for %s", f.GetId(), f.GetText(), max(0, f.GetEndsAt().AsTime().Sub(now)).Round(100*time.Millisecond))
}

func (a *app) latencyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "latency CALLEE", Short: "Add latency to the calls to a service, in its callers' clients",
		Example: "  spillway fault latency inventory --from catalog --delay 200ms --share 0.5 --for 30s",
		Args:    arguments(1, "CALLEE"), ValidArgsFunction: a.completeWorkload,
	}
	from := cmd.Flags().String("from", "", "the caller (default: every one)")
	share := cmd.Flags().Float64("share", 1, "share of the calls, above 0 and up to 1")
	delay := cmd.Flags().Duration("delay", 100*time.Millisecond, "latency that is added")
	return a.inject(cmd, true, func(args []string) (*faultv1.Fault, error) {
		if *delay <= 0 {
			return nil, usagef("--delay is %s; give a duration above 0", *delay)
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_Latency{Latency: &faultv1.EdgeFault{
			Caller: *from, Callee: args[0], Share: *share, Delay: durationpb.New(*delay),
		}}}, checkShare(*share)
	})
}

func (a *app) errorsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "errors CALLEE", Short: "Fail calls to a service, in its callers' clients",
		Example: "  spillway fault errors payment --share 0.2 --for 1m",
		Args:    arguments(1, "CALLEE"), ValidArgsFunction: a.completeWorkload,
	}
	from := cmd.Flags().String("from", "", "the caller (default: every one)")
	share := cmd.Flags().Float64("share", 1, "share of the calls, above 0 and up to 1")
	return a.inject(cmd, true, func(args []string) (*faultv1.Fault, error) {
		return &faultv1.Fault{Kind: &faultv1.Fault_Errors{Errors: &faultv1.EdgeFault{
			Caller: *from, Callee: args[0], Share: *share,
		}}}, checkShare(*share)
	})
}

func checkShare(share float64) error {
	if !(share > 0 && share <= 1) {
		return usagef("--share is %v; give a share above 0 and up to 1", share)
	}
	return nil
}

func (a *app) slowDownCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "slow-down SERVICE", Short: "Multiply the service time of every replica of a service",
		Example: "  spillway fault slow-down inventory --factor 5 --for 10s",
		Args:    arguments(1, "SERVICE"), ValidArgsFunction: a.completeWorkload,
	}
	factor := cmd.Flags().Float64("factor", 3, "how many times as long a request takes its slot")
	return a.inject(cmd, true, func(args []string) (*faultv1.Fault, error) {
		return &faultv1.Fault{Kind: &faultv1.Fault_SlowDown{SlowDown: &faultv1.SlowDown{Service: args[0], Factor: *factor}}}, nil
	})
}

func (a *app) replicaFaultCommand(name, short string, lasting bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " SERVICE", Short: short,
		Example: "  spillway fault " + name + " order --replicas 2",
		Args:    arguments(1, "SERVICE"), ValidArgsFunction: a.completeWorkload,
	}
	replicas := cmd.Flags().Int32("replicas", 1, "how many")
	return a.inject(cmd, lasting, func(args []string) (*faultv1.Fault, error) {
		if *replicas < 1 || *replicas > 100 {
			return nil, usagef("--replicas is %d; give 1 to 100", *replicas)
		}
		what := &faultv1.ReplicaFault{Service: args[0], Replicas: *replicas}
		if lasting {
			return &faultv1.Fault{Kind: &faultv1.Fault_Pause{Pause: what}}, nil
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_Kill{Kill: what}}, nil
	})
}

// stores are what 'spillway fault store' can stop.
var stores = map[string]faultv1.Store{"redis": faultv1.Store_STORE_REDIS, "nats": faultv1.Store_STORE_NATS}

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "store redis|nats", Short: "Stop a store; at the fault's end it starts with what it had on disk",
		Example: "  spillway fault store redis --for 5s",
		Args:    arguments(1, "redis or nats"), ValidArgs: []string{"redis", "nats"},
	}
	return a.inject(cmd, true, func(args []string) (*faultv1.Fault, error) {
		store, known := stores[args[0]]
		if !known {
			return nil, usagef("%q is no store; give redis or nats", args[0])
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_Store{Store: &faultv1.StoreFault{Store: store}}}, nil
	})
}

func (a *app) endpointsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "endpoints", Short: "Keep callers from hearing of new and removed replicas, or tell them late",
		Example: "  spillway fault endpoints --delay 5s --for 1m\n  spillway fault endpoints --for 30s              # they hear nothing",
		Args:    arguments(0),
	}
	delay := cmd.Flags().Duration("delay", 0, "how late they hear (default: not until the fault ends)")
	return a.inject(cmd, true, func([]string) (*faultv1.Fault, error) {
		if *delay < 0 {
			return nil, usagef("--delay is %s; give a duration of 0 or more", *delay)
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_Endpoints{Endpoints: &faultv1.EndpointFault{Delay: durationpb.New(*delay)}}}, nil
	})
}

func (a *app) slowStartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "slow-start SERVICE", Short: "Make new replicas of a service take longer until they serve",
		Example: "  spillway fault slow-start catalog --delay 10s --for 2m",
		Args:    arguments(1, "SERVICE"), ValidArgsFunction: a.completeWorkload,
	}
	delay := cmd.Flags().Duration("delay", 10*time.Second, "how much longer")
	return a.inject(cmd, true, func(args []string) (*faultv1.Fault, error) {
		if *delay <= 0 {
			return nil, usagef("--delay is %s; give a duration above 0", *delay)
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_SlowStart{SlowStart: &faultv1.SlowStart{Service: args[0], Delay: durationpb.New(*delay)}}}, nil
	})
}

func (a *app) bankQuotaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bank-quota", Short: "Change how many charges a second the bank takes",
		Example: "  spillway fault bank-quota --per-second 5 --for 1m",
		Args:    arguments(0),
	}
	perSecond := cmd.Flags().Int32("per-second", 5, "charges a second")
	return a.inject(cmd, true, func([]string) (*faultv1.Fault, error) {
		if *perSecond < 1 {
			return nil, usagef("--per-second is %d; give 1 or more", *perSecond)
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_BankQuota{BankQuota: &faultv1.BankQuota{PerSecond: *perSecond}}}, nil
	})
}

func (a *app) faultListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the faults that are in force", Args: arguments(0)}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withFaults(func(faults faultv1.FaultServiceClient) error {
			list, err := faults.ListFaults(cmd.Context(), &faultv1.ListFaultsRequest{})
			if err != nil {
				return err
			}
			if *asJSON {
				return a.printProto(list)
			}
			return writeFaults(a.out, list.GetFaults(), time.Now())
		})
	}
	return cmd
}

func writeFaults(out io.Writer, faults []*faultv1.ActiveFault, now time.Time) error {
	if len(faults) == 0 {
		_, err := fmt.Fprintln(out, "no fault is in force")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tSINCE\tLEFT\tFAULT")
	for _, f := range faults {
		left := "until cleared"
		if f.GetEndsAt() != nil {
			left = age(f.GetEndsAt().AsTime().Sub(now))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.GetId(), age(now.Sub(f.GetBeganAt().AsTime())), left, f.GetText())
	}
	return w.Flush()
}

func (a *app) faultClearCommand() *cobra.Command {
	return &cobra.Command{
		Use: "clear [ID]", Short: "End a fault, or every fault", Args: arguments(0, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &faultv1.ClearFaultRequest{}
			if len(args) > 0 {
				request.Id = args[0]
			}
			return a.withFaults(func(faults faultv1.FaultServiceClient) error {
				response, err := faults.ClearFault(cmd.Context(), request)
				if err != nil {
					return err
				}
				for _, f := range response.GetCleared() {
					fmt.Fprintf(a.out, "cleared %s: %s\n", f.GetId(), f.GetText())
				}
				if len(response.GetCleared()) == 0 {
					fmt.Fprintln(a.out, "no fault was in force")
				}
				return nil
			})
		},
	}
}
