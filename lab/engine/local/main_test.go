package local

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"spillway.dev/lab/trace"
)

// replicaProgram is the small service of internal/replica, built once.
var replicaProgram string

func TestMain(m *testing.M) {
	// This program is also the control plane's process, and an engine that can be
	// killed.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "conductor":
			if err := Conduct(context.Background(), os.Stdin, slog.New(slog.DiscardHandler)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		case "engine":
			engineProcess(os.Args[2], os.Args[3])
			return
		}
	}
	dir, err := os.MkdirTemp("", "spillway-engine-test")
	if err != nil {
		panic(err)
	}
	replicaProgram = filepath.Join(dir, "replica")
	if out, err := exec.Command("go", "build", "-o", replicaProgram, "./internal/replica").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build internal/replica: %v\n%s", err, out))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// engineProcess runs an engine until it is killed.
func engineProcess(root, stateDir string) {
	e, err := Up(context.Background(), Options{Root: root, StateDir: stateDir, Log: slog.New(slog.DiscardHandler), Traces: trace.NewStore(10)})
	if err == nil {
		err = e.WaitReady(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}
