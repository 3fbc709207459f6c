package redistest

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerComesAndGoes(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.ask(t.Context()); err != nil {
		t.Errorf("a started server does not answer: %v", err)
	}

	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatalf("a paused server still has connections accepted by the kernel: %v", err)
	}
	defer conn.Close()
	if err := errors.Join(conn.SetDeadline(time.Now().Add(50*time.Millisecond)), write(conn)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a paused server answers")
	}

	pid := s.pid
	if err := s.Kill(); err != nil {
		t.Errorf("kill while paused: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("a killed server accepts connections")
	}
	if err := s.Restart(); err != nil {
		t.Errorf("restart: %v", err)
	}
}

func write(conn net.Conn) error {
	_, err := conn.Write([]byte("PING\r\n"))
	return err
}
