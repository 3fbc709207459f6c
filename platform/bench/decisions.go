package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Benchmark names one line of "go test -bench": a package, as a directory of the platform's module, and the benchmark's
// name as it is printed, without the number of processors.
type Benchmark struct {
	Package, Name string
}

// Decision is a protection's decision on one call, beside what a library takes for the same or the nearest to it.
type Decision struct {
	// Name is the decision's key in bench.json.
	Name string
	// Ours is the decision as a call meets it: the interceptor, without the call.
	Ours Benchmark
	// Library is what it is compared with; "" when no library does it.
	Library string
	// Bare is the library by itself.
	Bare Benchmark
	// AtMost is the most that ours may take as a multiple of the library; 0 for no bound, where the library does far less.
	AtMost float64
	// Remote says that the time is spent waiting for another process.
	Remote bool
}

// The bounds of the decisions, as multiples of their libraries.
const (
	// cheaper is for a library that was passed over: what took its place should not take longer.
	cheaper = 1
	// builtOn is for a library that decides, or one that decides on less: what is added may take twice its time again.
	builtOn = 3
)

// Decisions are those of all protections, in the order in which a call meets them.
func Decisions() []Decision {
	failsafe, timeRate := "failsafe-go", "golang.org/x/time/rate"
	return []Decision{
		{Name: "deadline", Ours: Benchmark{"inbound/deadline", "BenchmarkUnary/default"}, Library: "context.WithTimeout", Bare: Benchmark{"inbound/deadline", "BenchmarkUnary/bare"}, AtMost: builtOn},
		{Name: "admission", Ours: Benchmark{"inbound/admission", "BenchmarkGate/route"}},
		{Name: "ratelimit", Ours: Benchmark{"inbound/ratelimit", "BenchmarkUnary/admitted"}, Library: timeRate, Bare: Benchmark{"gcra", "BenchmarkBareTimeRate"}, AtMost: builtOn},
		{Name: "ratelimit_refused", Ours: Benchmark{"inbound/ratelimit", "BenchmarkUnary/refused"}, Library: timeRate, Bare: Benchmark{"gcra", "BenchmarkBareTimeRateWithWait"}, AtMost: cheaper},
		{Name: "ratelimit_gcra", Ours: Benchmark{"gcra", "BenchmarkLimiter"}, Library: timeRate, Bare: Benchmark{"gcra", "BenchmarkBareTimeRateWithWait"}, AtMost: cheaper},
		{Name: "ratelimit_global", Ours: Benchmark{"ratelimit", "BenchmarkGlobal/one"}, Library: "redis_rate", Bare: Benchmark{"ratelimit", "BenchmarkBareRedisRate"}, AtMost: builtOn, Remote: true},
		{Name: "shed", Ours: Benchmark{"inbound/shed", "BenchmarkShedder/priority/admitted"}},
		{Name: "shed_refused", Ours: Benchmark{"inbound/shed", "BenchmarkShedder/priority/refused"}},
		{Name: "concurrency_aimd", Ours: Benchmark{"inbound/concurrency", "BenchmarkCall/aimd"}, Library: failsafe, Bare: Benchmark{"inbound/concurrency", "BenchmarkCall/bare_failsafe-go"}, AtMost: cheaper},
		{Name: "concurrency_adaptive", Ours: Benchmark{"inbound/concurrency", "BenchmarkCall/adaptive"}, Library: failsafe, Bare: Benchmark{"inbound/concurrency", "BenchmarkCall/bare_failsafe-go"}, AtMost: builtOn},
		{Name: "queue_fifo", Ours: Benchmark{"inbound/queue", "BenchmarkCall/decision,_fifo"}, Library: "a channel", Bare: Benchmark{"inbound/queue", "BenchmarkCall/bare_channel"}},
		{Name: "queue_newest_first", Ours: Benchmark{"inbound/queue", "BenchmarkCall/decision,_newest-first"}, Library: "a channel", Bare: Benchmark{"inbound/queue", "BenchmarkCall/bare_channel"}},
		{Name: "idempotency", Ours: Benchmark{"outbound/idempotency", "BenchmarkRepeatable"}},
		{Name: "retry", Ours: Benchmark{"outbound/retry", "BenchmarkCall/budget"}, Library: failsafe, Bare: Benchmark{"outbound/retry", "BenchmarkCall/library"}, AtMost: cheaper},
		{Name: "budget", Ours: Benchmark{"outbound/budget", "BenchmarkBudget/spent"}},
		{Name: "hedge", Ours: Benchmark{"outbound/hedge", "BenchmarkCall/on"}, Library: failsafe, Bare: Benchmark{"outbound/hedge", "BenchmarkCall/library"}, AtMost: cheaper},
		{Name: "breaker", Ours: Benchmark{"outbound/breaker", "BenchmarkCall/closed"}, Library: "gobreaker", Bare: Benchmark{"outbound/breaker", "BenchmarkCall/library"}, AtMost: builtOn},
		{Name: "pacing", Ours: Benchmark{"outbound/pacing", "BenchmarkCall/on"}, Library: "go.uber.org/ratelimit", Bare: Benchmark{"outbound/pacing", "BenchmarkCall/library"}},
		{Name: "bulkhead", Ours: Benchmark{"outbound/bulkhead", "BenchmarkCall/on"}, Library: failsafe, Bare: Benchmark{"outbound/bulkhead", "BenchmarkCall/library"}, AtMost: cheaper},
	}
}

// Timing is what one operation of a benchmark takes.
type Timing struct {
	Nanoseconds, Allocations float64
}

// Timed is a decision with its figures, medians over the rounds; NaN where a benchmark told nothing.
type Timed struct {
	Decision
	NsPerOp, AllocsPerOp  float64
	LibraryNsPerOp, Ratio float64 // NaN without a library; Ratio is the median of each round's
}

// Met tells whether the decision was measured and kept its bound.
func (t Timed) Met() bool {
	return !math.IsNaN(t.NsPerOp) && (t.AtMost == 0 || t.Ratio <= t.AtMost)
}

// Dearest is the decision that takes the most time of its own; its NsPerOp is NaN when none was measured.
func Dearest(decisions []Timed) Timed {
	most := Timed{NsPerOp: math.NaN()}
	for _, d := range decisions {
		if !d.Remote && !(d.NsPerOp <= most.NsPerOp) && !math.IsNaN(d.NsPerOp) {
			most = d
		}
	}
	return most
}

// MeasureDecisions runs the benchmarks of the decisions for the given number of rounds, all of them in turn, each for the
// given time. platform is the directory of the platform's module. The programs are built first, by the go command, into a
// directory that is removed again.
func MeasureDecisions(ctx context.Context, platform string, decisions []Decision, rounds int, each time.Duration) (_ []Timed, err error) {
	dir, err := os.MkdirTemp("", "decisions-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var packages []string
	wanted := map[string][]string{}
	for _, d := range decisions {
		for _, b := range []Benchmark{d.Ours, d.Bare} {
			if b.Package == "" {
				continue
			}
			if wanted[b.Package] == nil {
				packages = append(packages, b.Package)
			}
			wanted[b.Package] = append(wanted[b.Package], b.Name)
		}
	}
	program := func(pkg string) string { return filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test") }
	for _, pkg := range packages {
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program(pkg), "./"+pkg)
		build.Dir = platform
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the benchmarks of %s: %w\n%s", pkg, err, out)
		}
	}
	told := make([]map[Benchmark]Timing, rounds)
	for round := range told {
		told[round] = map[Benchmark]Timing{}
		for _, pkg := range packages {
			run := exec.CommandContext(ctx, program(pkg), "-test.run=^$", "-test.bench="+pattern(wanted[pkg]), "-test.benchmem", "-test.benchtime="+each.String())
			run.Dir = filepath.Join(platform, pkg)
			out, err := run.CombinedOutput()
			if err != nil {
				return nil, fmt.Errorf("run the benchmarks of %s: %w\n%s", pkg, err, out)
			}
			for name, t := range parseBenchmarks(out) {
				told[round][Benchmark{pkg, name}] = t
			}
		}
	}
	timed := make([]Timed, 0, len(decisions))
	for _, d := range decisions {
		timed = append(timed, d.summarise(told))
	}
	return timed, nil
}

// summarise takes the medians over the rounds; a round that tells nothing of a benchmark is left out.
func (d Decision) summarise(told []map[Benchmark]Timing) Timed {
	var ns, allocs, library, ratios []float64
	for _, round := range told {
		ours, ok := round[d.Ours]
		if ok {
			ns, allocs = append(ns, ours.Nanoseconds), append(allocs, ours.Allocations)
		}
		bare, found := round[d.Bare]
		if found {
			library = append(library, bare.Nanoseconds)
		}
		if ok && found {
			ratios = append(ratios, Ratios([]float64{ours.Nanoseconds}, []float64{bare.Nanoseconds})...)
		}
	}
	return Timed{Decision: d,
		NsPerOp: Describe(ns).Median, AllocsPerOp: Describe(allocs).Median,
		LibraryNsPerOp: Describe(library).Median, Ratio: Describe(ratios).Median}
}

// pattern is the value of -bench that matches the given benchmarks, and with them those that share each of the parts of
// their names: the flag takes one expression for each part, apart from "a|b", which is of the whole.
func pattern(names []string) string {
	whole := make([]string, 0, len(names))
	for _, name := range names {
		parts := strings.Split(name, "/")
		for i, part := range parts {
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
		whole = append(whole, strings.Join(parts, "/"))
	}
	return strings.Join(whole, "|")
}

// parseBenchmarks reads the lines of a benchmark's output as golang.org/design/14313-benchmark-format has them: the name,
// the number of operations, then values with their units. The number of processors at a name's end is left off. Whatever
// is no such line is passed over.
func parseBenchmarks(out []byte) map[string]Timing {
	told := map[string]Timing{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		t, measured := Timing{}, false
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			switch {
			case err != nil:
			case fields[i+1] == "ns/op":
				t.Nanoseconds, measured = value, true
			case fields[i+1] == "allocs/op":
				t.Allocations = value
			}
		}
		if measured {
			told[processors.ReplaceAllString(fields[0], "")] = t
		}
	}
	return told
}

// processors is what the testing package puts behind a name when there is more than one.
var processors = regexp.MustCompile(`-[0-9]+$`)
