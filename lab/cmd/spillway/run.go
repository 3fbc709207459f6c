package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	_ "google.golang.org/grpc/xds" // the generator in a cluster calls xds:///gateway

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/experiment"
	"spillway.dev/lab/experiment/cluster"
	"spillway.dev/lab/load"
	"spillway.dev/lab/report"
	"spillway.dev/lab/scenario"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// exitDishonest says that the host could not keep up: what was measured is no
// answer.
const exitDishonest = 3

// exitInterrupted is what a shell says of a program that Ctrl-C ended.
const exitInterrupted = 130

// exitError ends a command with a code of its own; its output has said why.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// runFlags are what `spillway run` was asked for.
type runFlags struct {
	variants  []string
	repeat    int
	seed      uint64
	timelapse float64
	out, root string
	overlay   string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Run a scenario: every variant on a fresh mesh, and a report that lays them side by side",
		Long: `Run a scenario, a question in a YAML file: every variant in turn, each on a fresh
mesh of its own, under the same load. The report goes to a directory: index.html
for people, report.json and CSV files for programs, and the series of every run.

--timelapse divides the durations of the scenario, of the autoscaler and of the
rules, so that an hour of Kubernetes' patience takes minutes. Service times and
rates stay as they are. A scenario may be made for one time-lapse: it then runs at
that, and at no other. --repeat runs each variant several times, with seeds one
apart, and reports medians with 95 % bootstrap intervals.

Ctrl-C ends the run under way and still reports what was measured, as not valid. A
second Ctrl-C kills what runs and ends without a report. A third one leaves at
once; the next run into the same directory clears away what it left.

With --engine kube every variant is an overlay of k8s/ with the variant's changes,
applied to an emptied namespace: autoscalers, workloads and everything stored in it
are deleted before each run, and the last variant's mesh stays. Time is real there.
Load comes from a pod of the image spillway/lab, beside the services' images;
figures come from the cluster's Prometheus, and how busy the nodes were from their
kubelets, which takes the right nodes/proxy. Traces stay in the cluster's Jaeger.

Exit codes: 0 when every expectation holds, 1 when one does not or something
failed, 2 for a bad file, 3 when the figures are not to be believed: the host was
too busy, or not everything ran, 130 when it was ended without a report.`,
		Example: `  spillway run scenarios/scale-out-pressure.yaml --timelapse 10
  spillway run scenarios/thrash.yaml --variant default,none --repeat 5 --out /tmp/thrash
  spillway run scenarios/scale-out-pressure.yaml --engine kube --overlay ci`,
		Args: arguments(1, "FILE"),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.variants, "variant", nil, "variants to run, separated by commas (default: all)")
	flags.IntVar(&f.repeat, "repeat", 1, "how often each variant runs")
	flags.Uint64Var(&f.seed, "seed", 1, "the same seed gives the same arrivals")
	flags.Float64Var(&f.timelapse, "timelapse", 0, "by how much durations are divided, 1 to 100 (default: the scenario's own, else 1)")
	flags.StringVar(&f.out, "out", "", "directory of the report (default: reports/NAME)")
	flags.StringVar(&f.root, "root", "", "directory that holds k8s/ and bin/ (default: found from this program or the working directory)")
	flags.StringVar(&f.overlay, "overlay", "", "for --engine kube: ci, kind or cluster, of k8s/overlays")
	_ = cmd.MarkFlagDirname("out") // the flags exist
	_ = cmd.MarkFlagDirname("root")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case f.repeat < 1 || f.repeat > 1000:
			return usagef("--repeat is %d; give 1 to 1000", f.repeat)
		case cmd.Flags().Changed("timelapse") && !(f.timelapse >= 1 && f.timelapse <= 100):
			return usagef("--timelapse is %v; give 1 (real time) to 100", f.timelapse)
		}
		if err := a.checkOverlay(f.overlay); err != nil {
			return err
		}
		return a.runScenario(cmd.Context(), args[0], f)
	}
	return cmd
}

func (a *app) runScenario(ctx context.Context, file string, f runFlags) error {
	s, err := scenario.Load(file)
	if err != nil {
		return usageError{err}
	}
	if _, err := s.Select(f.variants); err != nil {
		return usageError{err}
	}
	if f.timelapse, err = s.TimelapseFor(f.timelapse); err != nil {
		return usageError{err}
	}
	if a.kind == engineKube && f.timelapse != 1 {
		return usageError{fmt.Errorf("%s would run at a time-lapse of %v, and a cluster runs in real time: its autoscaler and its Prometheus have their own times; give --engine local, or a scenario with shorter durations and without `timelapse`", file, f.timelapse)}
	}
	if f.root == "" {
		if f.root, err = findRoot(); err != nil {
			return err
		}
	}
	engine, err := a.experimentEngine(f)
	if err != nil {
		return err
	}
	scaled, err := engine.Check(s, f.root)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", file, err)}
	}
	if f.out == "" {
		f.out = filepath.Join("reports", s.Name)
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError}))
	autoscaler.RouteKlog(log)
	// What this process does in bursts, such as the rules of the metrics store,
	// must leave a core to the arrivals, which are another process's.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	board := newProgress(a.err, isTerminal(a.err), width(a.err))
	abandon, ignore := secondSignal(ctx, func() {
		board.show(experiment.Moment{Note: "ending, and reporting what was measured; Ctrl-C again ends without a report"})
	})
	defer ignore()
	fmt.Fprintf(a.err, "%s (time-lapse %v): %s\n", s.Name, f.timelapse, s.Question)
	result, err := experiment.Run(ctx, experiment.Options{
		Scenario: s, Engine: engine, Scaled: scaled, Variants: f.variants, Repeat: f.repeat, Seed: f.seed, Timelapse: f.timelapse,
		Root: f.root, Dir: f.out,
		Command: a.command(f, file), Log: log,
		Progress: board.show, Abandon: abandon,
	})
	board.finish()
	if errors.Is(err, experiment.ErrAbandoned) {
		fmt.Fprintf(a.err, "spillway: %v\n", err)
		return exitError{exitInterrupted}
	}
	if err != nil {
		return err
	}
	if err := a.tellResult(result, f.out); err != nil {
		return err
	}
	switch {
	case !result.Valid:
		return exitError{exitDishonest}
	case !experiment.Met(result):
		return errReported
	}
	return nil
}

// experimentEngine is where the variants run.
func (a *app) experimentEngine(f runFlags) (experiment.Engine, error) {
	if a.kind == engineKube {
		return cluster.Engine{Config: a.cluster, Overlay: f.overlay}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return experiment.Local{Conductor: []string{self, "conductor"}, Generator: []string{self, "offer", "--dir"}}, nil
}

// secondSignal returns a channel that is closed when this program is asked to end
// for the second time; the first one is what ends ctx, and first is called. The time after that, or once ignore was called, a
// signal does what it does to any program.
func secondSignal(ctx context.Context, first func()) (second <-chan struct{}, ignore func()) {
	signals, asked := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var listener sync.WaitGroup
	listener.Go(func() {
		defer signal.Stop(signals)
		for _, do := range []func(){first, func() { close(asked) }} {
			select {
			case <-signals:
				do()
			case <-over.Done():
				return
			}
		}
	})
	return asked, func() { cancel(); listener.Wait() }
}

// command is what runs the same again.
func (a *app) command(f runFlags, file string) string {
	words := []string{"spillway run", shellWord(file)}
	if a.kind == engineKube {
		words = append(words, "--engine kube --overlay", shellWord(f.overlay), "--namespace", shellWord(a.cluster.Namespace))
		if a.cluster.Context != "" {
			words = append(words, "--context", shellWord(a.cluster.Context))
		}
	}
	if len(f.variants) > 0 {
		words = append(words, "--variant", shellWord(strings.Join(f.variants, ",")))
	}
	if f.repeat != 1 {
		words = append(words, fmt.Sprintf("--repeat %d", f.repeat))
	}
	words = append(words, fmt.Sprintf("--seed %d", f.seed))
	if f.timelapse != 1 {
		words = append(words, fmt.Sprintf("--timelapse %v", f.timelapse))
	}
	return strings.Join(words, " ")
}

// tellResult says the answer, what was expected, and where the report is.
func (a *app) tellResult(r *report.Result, dir string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s\n\n", report.Answer(r))
	for _, e := range r.Expectations {
		mark := "✓"
		if !e.OK {
			mark = "✗"
		}
		fmt.Fprintf(&text, "  %s %s\n", mark, e.Text)
	}
	if !r.Valid {
		fmt.Fprintf(&text, "\nNOT VALID: these figures are no answer.\n")
		for _, why := range r.Invalid {
			fmt.Fprintf(&text, "  %s\n", why)
		}
	}
	fmt.Fprintf(&text, "\nreport: %s\n", filepath.Join(dir, "index.html"))
	_, err := fmt.Fprint(a.out, text.String())
	return err
}

// offerCommand is the generator's process, which an experiment starts.
func (a *app) offerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "offer",
		Short:  "Offer the load of the plan on standard input, or in a file, to the mesh of --dir, or to a gateway",
		Hidden: true,
		Args:   arguments(0),
	}
	file := cmd.Flags().String("plan", "", "JSON file of the plan, instead of standard input")
	target := cmd.Flags().String("target", "", "gateway, such as xds:///gateway, instead of the mesh of --dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plan := a.in
		if *file != "" {
			opened, err := os.Open(*file)
			if err != nil {
				return err
			}
			defer opened.Close()
			plan = opened
		}
		offer := func(gateway load.Gateway, closeGateway func() error, err error) error {
			if err != nil {
				return err
			}
			return errors.Join(experiment.Offer(cmd.Context(), plan, a.out, gateway), closeGateway())
		}
		if *target != "" {
			return offer(reach(*target, false))
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			return offer(reachMesh(cmd.Context(), engine, false))
		})
	}
	return cmd
}
