package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"spillway.dev/lab/load"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// dialPatience bounds how long the engine may take to name gateway replicas.
const dialPatience = 5 * time.Second

// loadFlags are what `spillway load` was asked for.
type loadFlags struct {
	file                        string // of the plan; the next six make one without it
	rate, buyRatio              float64
	length                      time.Duration
	people                      int
	browseDeadline, buyDeadline time.Duration

	seed      uint64
	timelapse float64
	target    string
	http      bool
	csv       string
}

func (a *app) loadCommand() *cobra.Command {
	f := loadFlags{seed: load.Default().Seed}
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Offer open-loop load to the gateway and report what came of it",
		Long: `Offer load to the gateway: journeys begin by a Poisson process, whether or not
earlier ones have been served, and latency counts from the instant at which a
journey was meant to begin. A journey browses (list shows, seat map), looks at
a seat map, buys (check out), or only lists the shows. Seats that are taken,
cards that are declined and sold-out shows are correct answers, counted apart
from errors; what the mesh refused on purpose, to protect itself, is counted as
shed.

A plan in a YAML file says more: how the rate changes over time (constant, ramp,
step, spike, sine, sawtooth, or a CSV file), what people come for, how long they
wait, and how much it matters. docs/load.md explains it.

The load goes round the ready replicas of the running mesh's gateway; with
--target it goes to any gateway, and no mesh need run here.

A progress line a second goes to standard error, the report to standard output.
It fails when not one journey was served. Ctrl-C ends the load early and still
reports.`,
		Example: `  spillway load --rate 100 --for 60s
  spillway load --rate 300 --for 30s --buy-ratio 0.5 --seed 7 --json > report.json
  spillway load --plan drop.yaml --csv seconds.csv
  spillway load --target localhost:8080 --http --rate 20`,
		Args: arguments(0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "plan", "", "YAML file that says what load to offer, instead of the flags up to --buy-deadline")
	flags.Float64Var(&f.rate, "rate", 100, "journeys that begin per second on average")
	flags.DurationVar(&f.length, "for", time.Minute, "how long journeys begin")
	flags.Float64Var(&f.buyRatio, "buy-ratio", 0.2, "share of journeys that buy, 0 to 1")
	flags.IntVar(&f.people, "people", load.DefaultPeople, "how many different people come; each keeps a session")
	flags.DurationVar(&f.browseDeadline, "browse-deadline", 2*time.Second, "how long a person who browses waits")
	flags.DurationVar(&f.buyDeadline, "buy-deadline", 5*time.Second, "how long a person who buys waits")
	flags.Uint64Var(&f.seed, "seed", f.seed, "the same seed gives the same schedule")
	flags.Float64Var(&f.timelapse, "timelapse", 1, "divide the durations of the plan by this; rates and deadlines stay")
	flags.StringVar(&f.target, "target", "", "address of a gateway, host:port, instead of the running mesh")
	flags.BoolVar(&f.http, "http", false, "call over HTTP with JSON instead of gRPC")
	flags.StringVar(&f.csv, "csv", "", "file to write a row a second to")
	_ = cmd.MarkFlagFilename("plan", "yaml", "yml") // the flags exist
	_ = cmd.MarkFlagFilename("csv", "csv")
	for _, name := range planFlags {
		cmd.MarkFlagsMutuallyExclusive("plan", name)
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plan, err := f.plan()
		if err != nil {
			return usageError{err}
		}
		record, err := a.offer(cmd.Context(), plan, f)
		if err != nil {
			return err
		}
		if f.csv != "" {
			if err := writeSeconds(f.csv, record); err != nil {
				return err
			}
		}
		if *asJSON {
			err = a.printJSON(record)
		} else {
			fmt.Fprintln(a.err)
			err = record.WriteText(a.out)
		}
		if err == nil && !record.Succeeded() {
			return errors.New("not one journey was served; the errors above say why, `spillway logs gateway` tells more")
		}
		return err
	}
	return cmd
}

// planFlags are the flags that a plan in a file takes the place of.
var planFlags = []string{"rate", "for", "buy-ratio", "people", "browse-deadline", "buy-deadline"}

// plan is the load that the flags ask for.
func (f loadFlags) plan() (load.Plan, error) {
	plan := load.Default()
	if f.file != "" {
		read, err := load.ReadPlan(f.file)
		if err != nil {
			return plan, err
		}
		plan = read
	} else {
		switch {
		case !(f.rate > 0):
			return plan, fmt.Errorf("rate is %v; give journeys per second above 0", f.rate)
		case !(f.buyRatio >= 0 && f.buyRatio <= 1):
			return plan, fmt.Errorf("buy ratio is %v; give a share from 0 to 1", f.buyRatio)
		case f.browseDeadline <= 0 || f.buyDeadline <= 0:
			return plan, fmt.Errorf("the deadlines are %s and %s; give durations above 0", f.browseDeadline, f.buyDeadline)
		case f.people < 1:
			return plan, fmt.Errorf("people is %d; at least 1 has to come", f.people)
		}
		plan.Shape.Rate, plan.For, plan.People = f.rate, f.length, f.people
		plan.Journeys = map[string]load.Journey{
			"browse": {Share: 1 - f.buyRatio, Deadline: f.browseDeadline},
			"buy":    {Share: f.buyRatio, Deadline: f.buyDeadline},
		}
	}
	plan.Seed, plan.Timelapse = f.seed, f.timelapse
	return plan, plan.Validate()
}

// offer puts the load on the target, or on the running mesh and then asks its
// replicas how late they were.
func (a *app) offer(ctx context.Context, plan load.Plan, f loadFlags) (*load.Record, error) {
	load.MakeRoom()
	progress := func(t load.Tick) { t.WriteText(a.err) }
	if f.target != "" {
		gateway, closeGateway, err := reach(f.target, f.http)
		if err != nil {
			return nil, usagef("--target %q: %v", f.target, err)
		}
		record, err := load.Run(ctx, plan, gateway, progress)
		if record != nil {
			record.LatenessNote = "not measured, for --target names no mesh whose replicas could be asked"
		}
		return record, errors.Join(err, closeGateway())
	}

	engine, closeEngine, err := a.engine()
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	gateway, closeGateway, err := reachMesh(ctx, engine, f.http)
	if err != nil {
		return nil, err
	}
	before, err := load.ReadLateness(ctx, engine)
	if err != nil {
		return nil, errors.Join(err, closeGateway())
	}
	record, err := load.Run(ctx, plan, gateway, progress)
	if err == nil {
		// Also after Ctrl-C.
		readCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialPatience)
		defer cancel()
		if after, readErr := load.ReadLateness(readCtx, engine); readErr != nil {
			record.LatenessNote = "not measured: " + explain(readErr)
		} else {
			record.Judge(after.Since(before))
		}
	}
	return record, errors.Join(err, closeGateway())
}

// reach connects to a gateway by its address.
func reach(target string, overHTTP bool) (load.Gateway, func() error, error) {
	if overHTTP {
		gateway, err := load.NewHTTP(target)
		if err != nil {
			return nil, nil, err
		}
		return gateway, gateway.Close, nil
	}
	conn, err := load.Dial(target)
	if err != nil {
		return nil, nil, err
	}
	return gatewayv1.NewGatewayServiceClient(conn), conn.Close, nil
}

// reachMesh connects to the gateway of the running mesh: to every replica over
// gRPC, to its one address over HTTP.
func reachMesh(ctx context.Context, engine enginev1.EngineServiceClient, overHTTP bool) (load.Gateway, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	if overHTTP {
		info, err := engine.GetInfo(ctx, &enginev1.GetInfoRequest{})
		if err != nil {
			return nil, nil, err
		}
		return reach(info.GetGatewayHttpUrl(), true)
	}
	conn, closeConn, err := load.DialReplicas(ctx, engine)
	if err != nil {
		return nil, nil, err
	}
	return gatewayv1.NewGatewayServiceClient(conn), closeConn, nil
}

// writeSeconds writes a row for every second of the load.
func writeSeconds(path string, record *load.Record) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(file)
	err = w.WriteAll(record.Rows()) // flushes
	return errors.Join(err, file.Close())
}
