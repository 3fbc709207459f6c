package frontdoor

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// serve answers every connection with a name, then reads to its end and says how
// much there was.
func serve(t *testing.T, name string) string {
	t.Helper()
	lis := listen(t)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				fmt.Fprintln(conn, name)
				n, _ := io.Copy(io.Discard, conn)
				fmt.Fprintln(conn, n)
			})
		}
	})
	t.Cleanup(func() { lis.Close(); work.Wait() })
	return lis.Addr().String()
}

func newProxy(t *testing.T) *Proxy {
	t.Helper()
	p := New(listen(t))
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// greeting is the first line that comes.
func greeting(t *testing.T, conn net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return line
}

func TestProxyTakesReplicasInTurn(t *testing.T) {
	p := newProxy(t)
	gone := listen(t)
	gone.Close()
	p.Set([]string{serve(t, "a"), serve(t, "b"), gone.Addr().String()})
	seen := map[string]int{}
	for range 30 {
		seen[greeting(t, dial(t, p))]++
	}
	if seen["a\n"] < 10 || seen["b\n"] < 10 || len(seen) != 2 {
		t.Errorf("replicas %v, want a and b and never the one that is gone", seen)
	}
}

func TestProxyWithNobodyBehindIt(t *testing.T) {
	if got := greeting(t, dial(t, newProxy(t))); got != "EOF" {
		t.Errorf("got %q, want the end", got)
	}
}

func TestProxyPassesOnTheEndOfOneSide(t *testing.T) {
	p := newProxy(t)
	p.Set([]string{serve(t, "a")})
	conn := dial(t, p)
	const size = 1 << 20
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if want := fmt.Sprintf("a\n%d\n", size); err != nil || string(all) != want {
		t.Errorf("got %q, %v, want %q", all, err, want)
	}
}

func TestProxyRefusesNewAndKeepsOld(t *testing.T) {
	p := newProxy(t)
	p.Set([]string{serve(t, "a")})
	old := dial(t, p)
	if got := greeting(t, old); got != "a\n" {
		t.Fatal(got)
	}
	if err := p.Refuse(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		conn.Close()
		t.Error("a new connection was taken")
	}
	if err := old.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, old); got != "0\n" {
		t.Errorf("the old connection got %q", got)
	}
}

func TestProxyCloseCuts(t *testing.T) {
	p := newProxy(t)
	p.Set([]string{serve(t, "a")})
	conn := dial(t, p)
	if got := greeting(t, conn); got != "a\n" {
		t.Fatal(got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, conn); got == "a\n" || got == "0\n" {
		t.Errorf("got %q after the end", got)
	}
}
