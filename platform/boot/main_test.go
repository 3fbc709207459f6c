package boot_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway.dev/platform/boot"
)

// childVariable makes the test binary be a service, for what only a process of its own can show: signals and exit codes.
const childVariable = "BOOT_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		boot.Main(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// child is a service whose worker, told to end, waits for the file "finish".
func child(dir string) boot.Spec {
	return boot.Spec{Name: "child", Build: func(_ context.Context, app *boot.App) error {
		app.Worker("waiter", func(ctx context.Context) error {
			if err := os.WriteFile(filepath.Join(dir, "working"), nil, 0o600); err != nil {
				return err
			}
			<-ctx.Done()
			if err := os.WriteFile(filepath.Join(dir, "finishing"), nil, 0o600); err != nil {
				return err
			}
			for {
				if _, err := os.Stat(filepath.Join(dir, "finish")); err == nil {
					return nil
				}
				time.Sleep(time.Millisecond)
			}
		})
		return nil
	}}
}

func startChild(t *testing.T, environ ...string) (cmd *exec.Cmd, dir string, stderr *strings.Builder) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, stderr = t.TempDir(), &strings.Builder{}
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), append([]string{
		childVariable + "=" + dir, "SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, environ...)...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, dir, stderr
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("%s did not come", path)
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

func TestFurtherSignalsChangeNothing(t *testing.T) {
	cmd, dir, stderr := startChild(t, "SPILLWAY_DRAIN_TIMEOUT=60s")
	waitForFile(t, filepath.Join(dir, "working"))
	signal := func(s os.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGTERM)
	waitForFile(t, filepath.Join(dir, "finishing"))
	signal(syscall.SIGTERM)
	signal(syscall.SIGINT)
	signal(syscall.SIGTERM)
	if err := os.WriteFile(filepath.Join(dir, "finish"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(cmd.Wait()); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	for _, line := range []string{"told to end", "readiness", "workers", "telemetry"} {
		if n := strings.Count(stderr.String(), `"`+line+`"`); n != 1 {
			t.Errorf("%q is in the log %d times, want once", line, n)
		}
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

func TestDeadlineEndsTheProcessAndNamesTheStep(t *testing.T) {
	cmd, dir, stderr := startChild(t, "SPILLWAY_DRAIN_TIMEOUT=200ms") // and the worker is never let go
	waitForFile(t, filepath.Join(dir, "working"))
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(cmd.Wait()); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(stderr.String(), `child: drain step "workers" was cut by the deadline`) {
		t.Errorf("the log does not name the step:\n%s", stderr)
	}
}

func TestWrongConfigurationExitsWithTwo(t *testing.T) {
	cmd, _, stderr := startChild(t, "SPILLWAY_DRAIN_TIMEOUT=soon", "SPILLWAY_LOG_LEVL=debug")
	if code := exitCode(cmd.Wait()); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	want := `child: SPILLWAY_LOG_LEVL="debug" is not known: did you mean SPILLWAY_LOG_LEVEL?` + "\n" +
		`child: SPILLWAY_DRAIN_TIMEOUT="soon" is not allowed: give a duration such as 250ms, 10s or 5m` + "\n"
	if stderr.String() != want {
		t.Errorf("stderr is\n%swant\n%s", stderr, want)
	}
}

func TestPortTakenExitsWithOne(t *testing.T) {
	cmd, _, stderr := startChild(t, "SPILLWAY_GRPC_ADDR=192.0.2.1:9000") // an address that no host has
	if code := exitCode(cmd.Wait()); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(stderr.String(), `child: cannot listen on SPILLWAY_GRPC_ADDR="192.0.2.1:9000"`) {
		t.Errorf("stderr is %s", stderr)
	}
}
