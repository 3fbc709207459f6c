package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/engine/client"
	"spillway.dev/lab/engine/kube"
	"spillway.dev/platform/problem"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// app is what all commands share.
type app struct {
	dir      string
	in       io.Reader
	out, err io.Writer

	kind    string // of the engine: engineLocal or engineKube
	cluster kube.Config
	// session opens a session with the cluster, for the engine kube.
	session func() (*kube.Session, error)
}

// usageError is bad use of the command line, as opposed to a failure.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command as failed when its output has said why already.
var errReported = errors.New("reported")

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errReported) {
		return exitFailed
	}
	if exit, own := errors.AsType[exitError](err); own {
		return exit.code
	}
	fmt.Fprintf(errOut, "spillway: %s\n", explain(err))
	if _, bad := errors.AsType[usageError](err); bad {
		fmt.Fprintf(errOut, "Run '%s --help' to see how it is used.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "spillway",
		Short: "Run a gRPC microservice mesh on this machine and put it under pressure",
		Long: `Spillway runs a mesh of gRPC services, a ticket office, as processes on this
machine, with no container and no cluster, and puts it under pressure.

'spillway up' runs the mesh in the foreground; every other command talks to the
running mesh from a second terminal. A mesh belongs to a state directory: give
each its own with --dir and several run side by side.

With --engine kube the mesh is one in a Kubernetes cluster: that of the current
context of the kubeconfig, or of --context, in --namespace, which must carry the
label spillway.dev/lab: "true". Every command says there what it changes and where.

Exit codes: 0 done, 1 failed, 2 bad use.`,
		Example: `  spillway up                          # in one terminal
  spillway buy                         # in another: a purchase and its trace
  spillway load --rate 100 --for 60s
  spillway audit`,
		Args:          onlyCommands,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	root.PersistentFlags().StringVar(&a.dir, "dir", ".spillway", "state directory of the mesh")
	_ = root.MarkPersistentFlagDirname("dir") // the flag exists
	a.engineFlags(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if a.dir == "" {
			return usagef("--dir is empty; name a directory, or leave it out for .spillway")
		}
		return a.chooseEngine(cmd)
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.upCommand(), a.downCommand(), a.psCommand(), a.scaleCommand(), a.killCommand(), a.restartCommand(), a.logsCommand(),
		a.buyCommand(), a.loadCommand(), a.auditCommand(), a.traceCommand(), a.tracesCommand(), a.versionCommand(), a.conductorCommand(),
		a.runCommand(), a.compareCommand(), a.catalogueCommand(), a.offerCommand(), a.getCommand(), a.describeCommand(), a.explainCommand(), a.faultCommand(), a.knobsCommand(), a.eventsCommand(),
	)
	root.InitDefaultCompletionCmd()
	return root
}

// onlyCommands refuses a word that is no command and names those that are near.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("there is no command %q%s", args[0], hint)
}

// arguments checks how many arguments there are; names say what they are.
func arguments(least int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// engine connects to the engine of the state directory, or to the cluster.
func (a *app) engine() (enginev1.EngineServiceClient, func() error, error) {
	conn, closeConn, err := a.mesh()
	if err != nil {
		return nil, nil, err
	}
	return enginev1.NewEngineServiceClient(conn), closeConn, nil
}

// mesh connects to everything that steers the mesh. The returned function closes
// the connection.
func (a *app) mesh() (*grpc.ClientConn, func() error, error) {
	if a.kind == engineKube {
		session, err := a.session()
		if err != nil {
			return nil, nil, err
		}
		return session.Conn(), session.Close, nil
	}
	conn, err := client.Connect(a.dir)
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.Close, nil
}

// withEngine calls f with a connection to the engine.
func (a *app) withEngine(f func(enginev1.EngineServiceClient) error) error {
	return a.withMesh(func(conn *grpc.ClientConn) error { return f(enginev1.NewEngineServiceClient(conn)) })
}

// withMesh calls f with a connection to everything that steers the mesh.
func (a *app) withMesh(f func(*grpc.ClientConn) error) error {
	conn, closeConn, err := a.mesh()
	if err != nil {
		return err
	}
	return errors.Join(f(conn), closeConn())
}

// explain is an error as people read it: what came over RPC without gRPC's own
// wrapping, with the reason where one was given.
func explain(err error) string {
	if err == nil {
		return ""
	}
	if _, ours := errors.AsType[*problem.Problem](err); ours {
		return err.Error()
	}
	st, ok := status.FromError(err) // also wrapped
	if !ok || st.Code() == codes.OK {
		return err.Error()
	}
	text := st.Message()
	var plain interface{ GRPCStatus() *status.Status }
	if errors.As(err, &plain) {
		// A wrapped status carries the whole chain in its message: say it once.
		text = strings.Replace(err.Error(), fmt.Sprintf("rpc error: code = %s desc = ", st.Code()), "", 1)
	}
	if reason := problem.Reason(err); reason != "" && !strings.Contains(text, reason) {
		text = fmt.Sprintf("%s (%s)", text, reason)
	}
	return text
}

// printJSON prints v, indented.
func (a *app) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", text)
	return err
}

// addJSON gives a command the flag --json.
func addJSON(cmd *cobra.Command) *bool { return cmd.Flags().Bool("json", false, "print JSON") }
