// Command bench measures what the platform costs, prints a table and writes bin/bench.json. A missed target is said
// plainly and is no failure, since a benchmark is no test; with -check it is one.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"spillway.dev/platform/bench"
	"spillway.dev/platform/capacity"
)

func main() {
	bin := flag.String("bin", "bin", "where the services' binaries are")
	out := flag.String("out", filepath.Join("bin", "bench.json"), "where the figures are written")
	check := flag.Bool("check", false, "exit with 1 when a target is missed")
	side := flag.String("child", "", "internal: answer for one side of the comparison")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *side != "" {
		if err := bench.Answer(ctx, bench.Side(*side), os.Stdin, os.Stdout); err != nil {
			fail(err)
		}
		return
	}
	measures, err := measure(ctx, *bin)
	if err != nil {
		fail(err)
	}
	fmt.Println()
	if err := bench.Table(os.Stdout, measures); err != nil {
		fail(err)
	}
	if err := bench.Write(*out, measures); err != nil {
		fail(err)
	}
	fmt.Printf("\nwritten to %s\n", *out)
	for _, m := range measures {
		if *check && !m.Met() {
			os.Exit(1)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// measure takes every figure. One that cannot be taken is reported as such and does not keep the others from being taken.
func measure(ctx context.Context, bin string) ([]bench.Measure, error) {
	sink, err := bench.NewSink()
	if err != nil {
		return nil, err
	}
	defer sink.Close()
	environ := environment(sink.Endpoint())

	ratio := bench.Measure{Key: "cpu_per_rpc_ratio", Target: 1.6, Value: math.NaN()}
	begin("CPU per call: bare grpc-go and a whole replica in turn")
	const rounds, calls, budget = 15, 15_000, 60 * time.Second
	if c, err := bench.Compare(ctx, rounds, calls, budget, environ); err != nil {
		ratio.Note = err.Error()
	} else if sink.Spans() == 0 {
		ratio.Note = "no span was exported, so telemetry was not measured"
	} else {
		ratio.Value = c.Ratio.Median
		ratio.Note = fmt.Sprintf("goal 1.4; quartiles %.2f to %.2f of %d rounds of %d calls; bare %.0f µs, full %.0f µs; %d spans exported",
			c.Ratio.Q1, c.Ratio.Q3, c.Ratio.N, calls, c.Bare.Median, c.Full.Median, sink.Spans())
	}

	refused := bench.Measure{Key: "refused_cpu_ratio", Target: 0.1, Value: math.NaN()}
	begin("CPU of a server per call: served and refused in turn")
	if c, err := bench.CompareRefusal(ctx, rounds, calls, budget, environ); err != nil {
		refused.Note = err.Error()
	} else {
		refused.Value = c.Ratio.Median
		refused.Note = fmt.Sprintf("shed by priority ÷ served like a hold with one script in Redis; quartiles %.2f to %.2f of %d rounds of %d calls; served %.0f µs, refused %.0f µs",
			c.Ratio.Q1, c.Ratio.Q3, c.Ratio.N, calls, c.Served.Median, c.Refused.Median)
	}

	start := bench.Measure{Key: "start_ms_median", Target: 25, Value: math.NaN()}
	memory := bench.Measure{Key: "idle_rss_mib", Target: 30, Value: math.NaN()}
	begin("start of a replica, and memory of an idle one")
	if s, err := bench.MeasureStarts(ctx, filepath.Join(bin, "session"), 25, 5, environ); err != nil {
		start.Note, memory.Note = err.Error(), err.Error()
	} else {
		start.Value, memory.Value = s.Millis.Median, s.IdleMiB.Median
		start.Note = fmt.Sprintf("session with Redis, exec to first answered call; quartiles %.1f to %.1f of %d starts", s.Millis.Q1, s.Millis.Q3, s.Millis.N)
		memory.Note = fmt.Sprintf("session after one call and 2 s of rest; quartiles %.1f to %.1f of %d replicas; %.1f of it private, the rest is the executable's",
			s.IdleMiB.Q1, s.IdleMiB.Q3, s.IdleMiB.N, s.PrivateMiB.Median)
	}

	wait := bench.Measure{Key: "capacity_wait_error_max", Target: 0.15, Value: math.NaN()}
	begin("wait of the capacity station against Erlang C")
	if results, err := capacity.Validate(ctx, capacity.Options{Duration: 30 * time.Second, Seed: 1}); err != nil {
		wait.Note = err.Error()
	} else {
		worst := results[0]
		for _, r := range results {
			if r.RelErr >= worst.RelErr {
				worst = r
			}
		}
		wait.Value = worst.RelErr
		wait.Note = fmt.Sprintf("worst of %d cases: ρ = %v, K = %d: %v, by theory %v", len(results), worst.Rho, worst.Slots,
			worst.Got.Round(10*time.Microsecond), worst.Want.Round(10*time.Microsecond))
	}
	return []bench.Measure{ratio, refused, start, memory, wait}, ctx.Err()
}

func begin(what string) { fmt.Printf("%s  measuring %s ...\n", time.Now().Format(time.TimeOnly), what) }

// environment is this process's without what would change the services, and with a sink for traces.
func environment(endpoint string) []string {
	var out []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SPILLWAY_") && !strings.HasPrefix(e, "OTEL_") {
			out = append(out, e)
		}
	}
	return append(out, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint)
}
