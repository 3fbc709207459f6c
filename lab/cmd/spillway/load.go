package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/lab/load"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// dialPatience bounds how long the engine may take to name gateway replicas.
const dialPatience = 5 * time.Second

func (a *app) loadCommand() *cobra.Command {
	cfg := load.Default()
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Offer open-loop load to the gateway and report what came of it",
		Long: `Offer load to the gateway: journeys begin by a Poisson process, whether or not
earlier ones have been served, and latency counts from the instant at which a
journey was meant to begin. A journey browses (list shows, seat map) or buys
(check out). Seats that are taken, cards that are declined and sold-out shows
are correct answers, counted apart from errors.

The load goes round the ready replicas of the running mesh's gateway; with
--target it goes to any gateway's gRPC address, and no mesh need run here.

A progress line a second goes to standard error, the report to standard output.
It fails when not one journey was served. Ctrl-C ends the load early and still
reports.`,
		Example: "  spillway load --rate 100 --for 60s\n  spillway load --rate 300 --for 30s --buy-ratio 0.5 --seed 7 --json > report.json",
		Args:    arguments(0),
	}
	flags := cmd.Flags()
	flags.Float64Var(&cfg.Rate, "rate", cfg.Rate, "journeys that begin per second on average")
	flags.DurationVar(&cfg.For, "for", cfg.For, "how long journeys begin")
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "the same seed gives the same schedule")
	flags.Float64Var(&cfg.BuyRatio, "buy-ratio", cfg.BuyRatio, "share of journeys that buy, 0 to 1")
	flags.IntVar(&cfg.People, "people", cfg.People, "how many different people come; each keeps a session")
	flags.DurationVar(&cfg.BrowseDeadline, "browse-deadline", cfg.BrowseDeadline, "how long a person who browses waits")
	flags.DurationVar(&cfg.BuyDeadline, "buy-deadline", cfg.BuyDeadline, "how long a person who buys waits")
	target := flags.String("target", "", "gRPC address of a gateway, host:port, instead of the running mesh")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cfg.Validate(); err != nil {
			return usageError{err}
		}
		report, err := a.offer(cmd.Context(), cfg, *target)
		if err != nil {
			return err
		}
		if *asJSON {
			err = a.printJSON(report)
		} else {
			fmt.Fprintln(a.err)
			err = report.WriteText(a.out)
		}
		if err == nil && !report.Succeeded() {
			return errors.New("not one journey was served; the errors above say why, `spillway logs gateway` tells more")
		}
		return err
	}
	return cmd
}

func (a *app) offer(ctx context.Context, cfg load.Config, target string) (*load.Report, error) {
	progress := func(t load.Tick) { t.WriteText(a.err) }
	if target != "" {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, usagef("--target %q: %v", target, err)
		}
		report, err := load.Run(ctx, cfg, gatewayv1.NewGatewayServiceClient(conn), progress)
		if report != nil {
			report.LatenessNote = "not measured, for --target names no mesh whose replicas could be asked"
		}
		return report, errors.Join(err, conn.Close())
	}

	engine, closeEngine, err := a.engine()
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
	conn, closeConn, err := load.DialReplicas(dialCtx, engine)
	cancel()
	if err != nil {
		return nil, err
	}
	before, err := load.ReadLateness(ctx, engine)
	if err != nil {
		return nil, errors.Join(err, closeConn())
	}
	report, err := load.Run(ctx, cfg, gatewayv1.NewGatewayServiceClient(conn), progress)
	if err == nil {
		// Also after Ctrl-C.
		readCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialPatience)
		defer cancel()
		if after, readErr := load.ReadLateness(readCtx, engine); readErr != nil {
			report.LatenessNote = "not measured: " + explain(readErr)
		} else {
			report.Judge(after.Since(before))
		}
	}
	return report, errors.Join(err, closeConn())
}
