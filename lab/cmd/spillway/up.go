package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/engine/local"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/rig"
	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

const (
	// keptTraces is how many traces the running mesh keeps.
	keptTraces = 2000
	// lastSpans bounds how long a collector may hold up the end.
	lastSpans = 5 * time.Second
	// sameSignal is how long after the first signal another one is taken for the
	// same: both waiting for it here hear of it, and a supervisor or timeout(1)
	// sends it to the process and then to its group.
	sameSignal = 500 * time.Millisecond
	// collectorVariable is OpenTelemetry's own name for where traces go.
	collectorVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"
)

func (a *app) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the mesh in the foreground until Ctrl-C",
		Long: `Run the mesh that k8s/overlays/local describes as processes on this machine, in
the foreground. Redis is redis-server when that is on the PATH, else miniredis;
NATS JetStream is built in. What is sold stays in the state directory, if there is
a redis-server on the PATH; without one each start sells anew.

Ctrl-C drains and stops the mesh: callers before those they call, nothing in
flight is lost. A second Ctrl-C kills what has not drained yet. A third ends
this program at once; the next 'spillway up' clears away what it left.

Deployments that have a HorizontalPodAutoscaler are scaled by Kubernetes' own
controller, on metrics that the Prometheus in this program keeps and serves.
--scaling chooses the autoscalers: a component k8s/components/scaling-*.
--timelapse makes them, and the rules, that many times as fast.

With --engine kube an overlay of k8s/ is applied to the cluster and waited for; what
an earlier one had more is deleted. The mesh goes on until 'spillway down'.

With OTEL_EXPORTER_OTLP_ENDPOINT set (http://host:port, gRPC) traces go to that
collector as well, such as Jaeger.`,
		Example: "  spillway up\n  spillway up --scaling cpu --timelapse 10\n  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 spillway up --dir .spillway-2",
		Args:    arguments(0),
	}
	root := cmd.Flags().String("root", "", "directory that holds k8s/ and bin/ (default: found from this program or the working directory)")
	_ = cmd.MarkFlagDirname("root") // the flag exists
	scaling := cmd.Flags().String("scaling", "", "autoscalers: fixed, cpu, callers-cpu, pressure, demand, workload, coordinated (default: none)")
	components := cmd.Flags().StringSlice("component", nil, "more components of k8s/components, such as small-replicas")
	timelapse := cmd.Flags().Float64("timelapse", 1, "by how much the durations of autoscalers and rules are divided, 1 to 100")
	overlay := cmd.Flags().String("overlay", "", "for --engine kube: ci, kind or cluster, of k8s/overlays")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.checkOverlay(*overlay); err != nil {
			return err
		}
		if a.kind == engineKube && *timelapse != 1 {
			return usagef("--timelapse is %v; a cluster's autoscaler has its own times, leave it out", *timelapse)
		}
		if !(*timelapse >= 1 && *timelapse <= 100) {
			return usagef("--timelapse is %v; give 1 (real time) to 100", *timelapse)
		}
		if *root == "" {
			found, err := findRoot()
			if err != nil {
				return err
			}
			*root = found
		}
		var variant manifest.Variant
		if *scaling != "" {
			variant.Components = append(variant.Components, "scaling-"+*scaling)
		}
		variant.Components = append(variant.Components, *components...)
		if a.kind == engineKube {
			return a.upCluster(cmd.Context(), *root, *overlay, variant)
		}
		return a.up(cmd.Context(), *root, variant, *timelapse)
	}
	return cmd
}

// findRoot looks for k8s/overlays/local beside the directory of this program,
// then from the working directory upwards.
func findRoot() (string, error) {
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(filepath.Dir(self)))
	}
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			places = append(places, dir)
		}
	}
	for _, place := range places {
		if _, err := os.Stat(filepath.Join(place, "k8s", "overlays", "local", "kustomization.yaml")); err == nil {
			return place, nil
		}
	}
	return "", errors.New("no k8s/overlays/local beside this program or above the working directory; name the repository with --root")
}

func (a *app) up(ctx context.Context, root string, variant manifest.Variant, timelapse float64) (err error) {
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	autoscaler.RouteKlog(log)
	traces := trace.NewStore(keptTraces)
	collector := os.Getenv(collectorVariable)
	if collector != "" {
		forwarder, err := trace.NewForwarder(collector, log)
		if err != nil {
			return usagef("%s: %w", collectorVariable, err)
		}
		traces.ForwardTo(forwarder)
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
			defer cancel()
			err = errors.Join(err, forwarder.Close(ctx))
			if n := forwarder.Dropped(); n > 0 {
				fmt.Fprintf(a.err, "%d spans did not reach %s\n", n, collector)
			}
		}()
	}

	// From here on signals mean what --help says; ctx only knows the first.
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	begin := time.Now()
	board := newBoard(a.out, isTerminal(a.out), width(a.out))
	mesh, err := rig.Up(ctx, rig.Options{
		Engine:    local.Options{Root: root, StateDir: a.dir, Variant: variant, Log: log, Progress: board.event, Traces: traces},
		Timelapse: timelapse,
		Log:       log,
	})
	if err != nil {
		board.finish()
		if ctx.Err() != nil {
			return errors.New("stopped before the mesh was up; nothing is left running")
		}
		return err
	}
	waitCtx, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	ready := make(chan error, 1)
	go func() { ready <- mesh.Engine.WaitReady(waitCtx) }()
	for running := true; running; {
		select {
		case err := <-ready:
			ready = nil
			board.finish()
			if err == nil {
				a.welcome(ctx, time.Since(begin), collector)
			}
		case <-ctx.Done():
			running = false
		case <-mesh.Engine.StopRequested():
			running = false
		}
	}
	board.finish()
	stopWaiting()
	if ready != nil {
		<-ready
	}
	return a.drain(ctx, mesh, signals)
}

// drain stops the mesh; one more signal makes that quick, two end the program.
func (a *app) drain(ctx context.Context, mesh *rig.Rig, signals chan os.Signal) error {
	seen, asked := 0, time.Now()
	if ctx.Err() != nil {
		fmt.Fprintln(a.out, "\nDraining. Ctrl-C again kills what has not drained.")
	}
	downCtx, hurry := context.WithCancel(context.WithoutCancel(ctx))
	defer hurry()
	done := make(chan error, 1)
	go func() { done <- mesh.Down(downCtx) }()
	for {
		select {
		case <-signals:
			if ctx.Err() != nil && time.Since(asked) < sameSignal {
				continue
			}
			if seen++; seen == 1 {
				fmt.Fprintln(a.out, "Killing what has not drained. Ctrl-C again ends this program at once.")
				hurry()
				signal.Stop(signals) // the next one takes its default course
				signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			}
		case err := <-done:
			return err
		}
	}
}

// welcome says where the mesh is and what to do next.
func (a *app) welcome(ctx context.Context, took time.Duration, collector string) {
	var info *enginev1.GetInfoResponse
	err := a.withEngine(func(engine enginev1.EngineServiceClient) (err error) {
		info, err = engine.GetInfo(ctx, &enginev1.GetInfoRequest{})
		return err
	})
	if err != nil { // it is being stopped at this moment
		return
	}
	self := os.Args[0]
	with := ""
	if a.dir != ".spillway" {
		with = " --dir " + shellWord(a.dir)
	}
	traces := fmt.Sprintf("the latest %d are kept", keptTraces)
	if collector != "" {
		traces += ", all go to " + collector
	}
	fmt.Fprintf(a.out, `
The mesh serves after %s.

  gateway   %s   (gRPC %s)
  redis     %s at %s
  nats      JetStream, on file, at %s
  traces    %s
  metrics   %s   (Prometheus' HTTP API)
  state     %s

In another terminal:

  %[10]s buy%[11]s                          buy tickets and see the purchase as a trace
  %[10]s ps%[11]s                           see what runs
  %[10]s load --rate 100 --for 60s%[11]s    put it under load
  %[10]s audit%[11]s                        check that nothing was lost or sold twice

Ctrl-C drains and stops the mesh.

`, trace.Duration(took), info.GetGatewayHttpUrl(), info.GetGatewayGrpcAddress(), info.GetRedisKind(), info.GetRedisAddress(),
		info.GetNatsUrl(), traces, info.GetPrometheusUrl(), info.GetStateDir(), self, with)
}

// shellWord is text as a shell takes it for one word.
func shellWord(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	return text
}
