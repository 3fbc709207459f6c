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

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/experiment"
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

Exit codes: 0 when every expectation holds, 1 when one does not or something
failed, 2 for a bad file, 3 when the figures are not to be believed: the host was
too busy, or not everything ran, 130 when it was ended without a report.`,
		Example: `  spillway run scenarios/scale-out-pressure.yaml --timelapse 10
  spillway run scenarios/thrash.yaml --variant default,none --repeat 5 --out /tmp/thrash`,
		Args: arguments(1, "FILE"),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.variants, "variant", nil, "variants to run, separated by commas (default: all)")
	flags.IntVar(&f.repeat, "repeat", 1, "how often each variant runs")
	flags.Uint64Var(&f.seed, "seed", 1, "the same seed gives the same arrivals")
	flags.Float64Var(&f.timelapse, "timelapse", 0, "by how much durations are divided, 1 to 100 (default: the scenario's own, else 1)")
	flags.StringVar(&f.out, "out", "", "directory of the report (default: reports/NAME)")
	flags.StringVar(&f.root, "root", "", "directory that holds k8s/ and bin/ (default: found from this program or the working directory)")
	_ = cmd.MarkFlagDirname("out") // the flags exist
	_ = cmd.MarkFlagDirname("root")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case f.repeat < 1 || f.repeat > 1000:
			return usagef("--repeat is %d; give 1 to 1000", f.repeat)
		case cmd.Flags().Changed("timelapse") && !(f.timelapse >= 1 && f.timelapse <= 100):
			return usagef("--timelapse is %v; give 1 (real time) to 100", f.timelapse)
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
	if f.root == "" {
		if f.root, err = findRoot(); err != nil {
			return err
		}
	}
	scaled, err := experiment.Check(s, f.root)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", file, err)}
	}
	if f.out == "" {
		f.out = filepath.Join("reports", s.Name)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
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
		Scenario: s, Scaled: scaled, Variants: f.variants, Repeat: f.repeat, Seed: f.seed, Timelapse: f.timelapse,
		Root: f.root, Dir: f.out,
		Conductor: []string{self, "conductor"}, Generator: []string{self, "offer", "--dir"},
		Command: f.command(file), Log: log,
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
func (f runFlags) command(file string) string {
	words := []string{"spillway run", shellWord(file)}
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
	return &cobra.Command{
		Use:    "offer",
		Short:  "Offer the load of the plan on standard input to the mesh of --dir",
		Hidden: true,
		Args:   arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withEngine(func(engine enginev1.EngineServiceClient) error {
				gateway, closeGateway, err := reachMesh(cmd.Context(), engine, false)
				if err != nil {
					return err
				}
				return errors.Join(experiment.Offer(cmd.Context(), a.in, a.out, gateway), closeGateway())
			})
		},
	}
}
