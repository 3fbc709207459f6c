// Package redistest runs a real redis-server for tests: on a free port, without persistence, and gone when the test
// process is gone, however that ends.
package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout is generous: on a busy machine a start takes a second, on a quiet one 30 ms.
const startTimeout = 20 * time.Second

// guard starts redis-server, tells its process id, and kills it as soon as standard input ends, which it does when the
// test process dies. A stopped (SIGSTOP) server is killed too.
const guard = `"$@" >/dev/null 2>&1 & pid=$!; echo $pid; read -r _; kill -9 $pid; wait $pid`

var errAnother = errors.New("another server has the port")

// Server is a running redis-server. Its methods are for one goroutine at a time.
type Server struct {
	addr  string
	dir   string
	shell *exec.Cmd
	stdin io.Closer
	pid   int
}

// Start runs redis-server, which must be on the PATH, and returns when it answers.
func Start() (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	// Another process may take the free port first, hence the attempts.
	for range 5 {
		if s.addr, err = freeAddr(); err != nil {
			break
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("start redis-server (is it installed?): %w", err), os.RemoveAll(dir))
}

// Addr is where the server listens, host:port. It stays the same over Kill and Restart.
func (s *Server) Addr() string { return s.addr }

// Kill ends the server with SIGKILL. What it held is lost.
func (s *Server) Kill() error {
	if s.shell == nil {
		return nil
	}
	err := s.stdin.Close()
	waitErr := s.shell.Wait()
	if _, exited := errors.AsType[*exec.ExitError](waitErr); exited {
		waitErr = nil // the guard reports the signal that it sent
	}
	s.shell = nil
	return errors.Join(err, waitErr)
}

// Restart starts a killed server again, empty, on the same address, and returns when it answers.
func (s *Server) Restart() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", guard, "sh",
		"redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.shell, s.stdin = cmd, stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err == nil {
		err = s.await()
	}
	if err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// Pause stops the process without ending it: connections stay open and nothing answers. Resume lets it go on.
func (s *Server) Pause() error { return syscall.Kill(s.pid, syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return syscall.Kill(s.pid, syscall.SIGCONT) }

// Close ends the server and removes its directory.
func (s *Server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.dir)) }

// await returns once this server, not another on the same port, answers.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var last error
	for {
		if last = s.ask(ctx); last == nil || errors.Is(last, errAnother) {
			return last
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis-server at %s did not answer within %v: %w", s.addr, startTimeout, last)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ask asks the server for its process id, in the plain protocol.
func (s *Server) ask(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "INFO server\r\nQUIT\r\n"); err != nil {
		return err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "\nprocess_id:"+strconv.Itoa(s.pid)+"\r\n") {
		return errAnother
	}
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
