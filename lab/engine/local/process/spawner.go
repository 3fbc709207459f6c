package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// outputDelay is how long a process that ended may keep its output open through
// a child of its own before it is cut off.
const outputDelay = time.Second

// Spec is what to start.
type Spec struct {
	// Name is what the ledger calls the process.
	Name string
	// Path of the program.
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Dir is the working directory.
	Dir string
	// Output receives stdout and stderr. It must not block.
	Output io.Writer
	// Stdin, where given, is the child's standard input.
	Stdin *os.File
	// Files become descriptors 3 and on.
	Files []*os.File
}

// Spawner starts processes. Close must be called after the
// last has ended. Safe for concurrent use.
type Spawner struct {
	ledger *Ledger
	yields bool
	starts chan func()
	thread sync.WaitGroup
}

// NewSpawner returns a spawner that writes down in ledger what runs. The
// processes of one that yields get the CPU only when nothing else wants it.
func NewSpawner(ledger *Ledger, yields bool) *Spawner {
	s := &Spawner{ledger: ledger, yields: yields, starts: make(chan func())}
	s.thread.Go(func() {
		// The kernel signals a child when the thread that made it ends, not the
		// process. So every child is made by one thread that stays.
		// The thread is not given back to others: on Linux it yields itself.
		runtime.LockOSThread()
		if yields {
			yieldSelf()
		}
		for start := range s.starts {
			start()
		}
	})
	return s
}

// Close ends the thread that made the processes. Those that still run are killed
// on Linux.
func (s *Spawner) Close() {
	close(s.starts)
	s.thread.Wait()
}

// Process is a running or ended process.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts a process and writes it down.
func (s *Spawner) Start(spec Spec) (*Process, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	cmd.Stdout, cmd.Stderr = spec.Output, spec.Output
	if spec.Stdin != nil {
		cmd.Stdin = spec.Stdin
	}
	cmd.ExtraFiles = spec.Files
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = outputDelay
	started := make(chan error)
	s.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	if s.yields {
		makeYield(cmd.Process.Pid)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if err := s.ledger.add(spec.Name, cmd.Process.Pid); err != nil {
		// Not worth a failed start, but what is not written down cannot be found
		// by the next engine.
		fmt.Fprintf(spec.Output, "the engine could not write down process %d: %v\n", cmd.Process.Pid, err)
	}
	go func() {
		err := cmd.Wait()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil
		}
		// What it may have started itself goes with it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		s.ledger.remove(cmd.Process.Pid)
		p.err = err
		close(p.done)
	}()
	return p, nil
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended tells how the process ended, such as "exit code 2" or "signal: killed".
// It must be called after Done only.
func (p *Process) Ended() string {
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		if exit.ExitCode() >= 0 {
			return fmt.Sprintf("exit code %d", exit.ExitCode())
		}
		return exit.String()
	}
	if p.err != nil {
		return p.err.Error()
	}
	return "exit code 0"
}

// Signaled tells whether a signal ended the process, rather than itself. It must
// be called after Done only.
func (p *Process) Signaled() bool {
	exit, ok := errors.AsType[*exec.ExitError](p.err)
	return ok && exit.ExitCode() < 0
}

// Terminate sends SIGTERM. A process that has ended is left alone.
func (p *Process) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// Kill sends SIGKILL. A process that has ended is left alone.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// Pause sends SIGSTOP: the process stands still, with all that it holds, and
// cannot help it. A process that has ended is left alone.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume sends SIGCONT: a process that was paused goes on, any other is left alone.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
