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
	"slices"
	"strings"
	"syscall"
	"time"

	"spillway.dev/platform/bench"
	"spillway.dev/platform/capacity"
)

// parts are what -only takes.
var parts = []string{"calls", "refusals", "replica", "capacity", "decisions"}

func main() {
	bin := flag.String("bin", "bin", "where the services' binaries are")
	out := flag.String("out", filepath.Join("bin", "bench.json"), "where the figures are written")
	check := flag.Bool("check", false, "exit with 1 when a target is missed")
	platform := flag.String("platform", "platform", "the directory of the platform's module, whose benchmarks are run")
	only := flag.String("only", "", "measure, and write to -out, one part alone: "+strings.Join(parts, ", "))
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
	if *only != "" && !slices.Contains(parts, *only) {
		fail(fmt.Errorf("-only %s: give one of %s", *only, strings.Join(parts, ", ")))
	}
	measures, bare, err := measure(ctx, *bin, *only)
	if err != nil {
		fail(err)
	}
	var decisions []bench.Timed
	if *only == "" || *only == "decisions" {
		begin("time of each decision, and of its bare library, in turn")
		if decisions, err = bench.MeasureDecisions(ctx, *platform, bench.Decisions(), 5, 100*time.Millisecond); err != nil {
			fail(err)
		}
		measures = append(measures, dearest(decisions, bare))
	}
	fmt.Println()
	if err := bench.Table(os.Stdout, measures); err != nil {
		fail(err)
	}
	if len(decisions) > 0 {
		fmt.Println()
		if err := bench.DecisionTable(os.Stdout, decisions); err != nil {
			fail(err)
		}
	}
	if err := bench.Write(*out, measures, decisions); err != nil {
		fail(err)
	}
	fmt.Printf("\nwritten to %s\n", *out)
	missed := slices.ContainsFunc(measures, func(m bench.Measure) bool { return !m.Met() }) ||
		slices.ContainsFunc(decisions, func(d bench.Timed) bool { return !d.Met() })
	if *check && missed {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// measure takes the figures of all parts, or of one. A figure that cannot be taken is reported as such and does not keep
// the others from being taken. bare is the CPU of a bare call, in microseconds; NaN when it was not measured.
func measure(ctx context.Context, bin, only string) (all []bench.Measure, bare float64, err error) {
	bare = math.NaN()
	sink, err := bench.NewSink()
	if err != nil {
		return nil, bare, err
	}
	defer sink.Close()
	environ := environment(sink.Endpoint())
	of := map[string]func() []bench.Measure{
		"calls": func() (m []bench.Measure) {
			m, bare = calls(ctx, environ, sink)
			return m
		},
		"refusals": func() []bench.Measure { return refusals(ctx, environ) },
		"replica":  func() []bench.Measure { return replica(ctx, environ, bin) },
		"capacity": func() []bench.Measure { return station(ctx) },
	}
	for _, part := range parts {
		if f := of[part]; f != nil && (only == "" || only == part) {
			all = append(all, f()...)
		}
	}
	return all, bare, ctx.Err()
}

// dearest sets the decision that takes most beside the RPC that it decides on.
func dearest(decisions []bench.Timed, bare float64) bench.Measure {
	d := bench.Dearest(decisions)
	m := bench.Measure{Key: "decision_of_rpc_ratio_max", Target: 0.1, Value: d.NsPerOp / 1e3 / bare}
	if m.Note = fmt.Sprintf("%s, %.1f µs ÷ CPU of a bare call, %.0f µs", d.Name, d.NsPerOp/1e3, bare); math.IsNaN(m.Value) {
		m.Note = "it takes both the decisions and the calls"
	}
	return m
}

// calls measures what a replica makes of gRPC's own cost.
func calls(ctx context.Context, environ []string, sink *bench.Sink) (_ []bench.Measure, bare float64) {
	const rounds, calls, budget = 15, 15_000, 60 * time.Second
	ratio := bench.Measure{Key: "cpu_per_rpc_ratio", Target: 1.6, Value: math.NaN()}
	begin("CPU per call: bare grpc-go and a whole replica in turn")
	bare = math.NaN()
	if c, err := bench.Compare(ctx, rounds, calls, budget, environ); err != nil {
		ratio.Note = err.Error()
	} else if sink.Spans() == 0 {
		ratio.Note = "no span was exported, so telemetry was not measured"
	} else {
		ratio.Value, bare = c.Ratio.Median, c.Bare.Median
		ratio.Note = fmt.Sprintf("goal 1.4; quartiles %.2f to %.2f of %d rounds of %d calls; bare %.0f µs, full %.0f µs; %d spans exported",
			c.Ratio.Q1, c.Ratio.Q3, c.Ratio.N, calls, c.Bare.Median, c.Full.Median, sink.Spans())
	}
	return []bench.Measure{ratio}, bare
}

// refusals measures what a refused call costs the server, as a share of three calls that are served.
func refusals(ctx context.Context, environ []string) []bench.Measure {
	const rounds, calls, budget = 15, 4000, 45 * time.Second
	begin("CPU of a server per call: served, a bare hold, an empty RPC and refused in turn")
	c, err := bench.CompareRefusal(ctx, rounds, calls, budget, environ)
	var out []bench.Measure
	for _, of := range []struct {
		side      bench.Side
		key, what string
	}{
		{bench.Served, "refused_of_served_cpu_ratio", "served with capacity of kind cpu, the shortest service time of the mesh, 2 ms"},
		{bench.Hold, "refused_of_hold_cpu_ratio", "served without capacity: one script in Redis, like a hold"},
		{bench.Empty, "refused_of_empty_cpu_ratio", "served without capacity and without work"},
	} {
		m := bench.Measure{Key: of.key, Target: 0.1, Value: math.NaN()}
		if err != nil {
			m.Note = err.Error()
		} else {
			share := c.Share[of.side]
			m.Value = share.Median
			m.Note = fmt.Sprintf("shed by priority ÷ %s; quartiles %.3f to %.3f of %d rounds; served %.0f µs, refused %.0f µs",
				of.what, share.Q1, share.Q3, share.N, c.CPU[of.side].Median, c.CPU[bench.Refused].Median)
		}
		out = append(out, m)
	}
	return out
}

// replica measures a process of its own: the session service, which needs nothing but Redis.
func replica(ctx context.Context, environ []string, bin string) []bench.Measure {
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
	return []bench.Measure{start, memory}
}

// station measures how far modelled capacity is from theory.
func station(ctx context.Context) []bench.Measure {
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
	return []bench.Measure{wait}
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
