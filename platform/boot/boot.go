// Package boot is the only way a Spillway process starts and ends.
//
// A service's main names itself, its configuration and what it builds; boot does the rest, always in this order:
//
//	configuration   environment → structs; unknown or invalid: one line each, exit code 2
//	telemetry       logs, metrics, traces
//	listeners       gRPC and admin ports are opened; the admin port answers
//	build           the service connects (without waiting) and registers its RPCs
//	starting        gRPC answers health; other calls get UNAVAILABLE, NOT_SERVING_YET; dependencies are tried until
//	                they answer or the start timeout passes
//	warming         warm-up steps
//	serving         calls are let in, workers run
//	draining        on SIGTERM: not ready → delay → HTTP → gRPC → workers → telemetry → stores and connections
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Spec says what a service is.
type Spec struct {
	// Name is the service's name in the mesh, such as "inventory".
	Name string
	// Config is nil or a pointer to the service's own configuration: a struct whose fields carry `env:"SPILLWAY_X"` and
	// `envDefault:"..."` tags. With a method Validate() error it checks itself; each line of that error is printed. It is
	// filled before Build is called.
	Config any
	// Build creates the service's parts and registers its RPC services. It must not wait for other processes: what needs
	// them goes into App.Dependency. ctx is for Build itself: it ends when Build has returned or the start timeout is over.
	// What is to live longer is an App.Worker.
	Build func(ctx context.Context, app *App) error
	// Edge says that callers are outside the mesh: whatever caller name comes in is dropped, so that nobody can pass for
	// a service.
	Edge bool
}

// Exit codes of Main.
const (
	exitFailure       = 1
	exitConfiguration = 2
)

// Main runs the service until SIGTERM or SIGINT and the drain that follows, then exits: 0 when all went well, 1 when
// start, run or drain failed, 2 when the configuration is wrong. Further signals change nothing. It never returns.
func Main(spec Spec) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { // one drain, however many signals
		for range signals {
			stop()
		}
	}()
	err := Run(ctx, spec, os.Environ(), os.Stderr)
	switch _, wrong := errors.AsType[*ConfigError](err); {
	case wrong: // Run has printed it
		os.Exit(exitConfiguration)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", spec.Name, err)
		os.Exit(exitFailure)
	}
	os.Exit(0)
}

// Run is Main without process and signals: environ stands for the environment (NAME=value), the end of ctx for SIGTERM.
// Logs, and what is wrong with the configuration, go to stderr. It returns after the drain, with nil when every step was
// done in time, and a *ConfigError when the configuration is wrong.
func Run(ctx context.Context, spec Spec, environ []string, stderr io.Writer) error {
	cfg, err := parse(spec, environ)
	if wrong, ok := errors.AsType[*ConfigError](err); ok {
		for _, line := range wrong.Lines {
			fmt.Fprintf(stderr, "%s: %s\n", spec.Name, line)
		}
		return err
	}
	if err != nil {
		return err
	}
	r, err := newReplica(ctx, spec, cfg, stderr)
	if err != nil {
		return err
	}
	if err := r.build(ctx, spec); err != nil {
		r.abandon()
		return err
	}
	r.app.log.Info("listening", r.addresses()...)
	r.start(ctx)
	failure := r.serve(ctx)
	return errors.Join(failure, r.drain())
}
