// Package frontdoor is kube-proxy's part on one machine: a TCP address that
// stands for whichever replicas are ready. It chooses a replica for each
// connection, not for each request.
package frontdoor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds the attempt to reach one replica.
const dialTimeout = time.Second

// Proxy forwards connections. Safe for concurrent use.
type Proxy struct {
	lis     net.Listener
	targets atomic.Pointer[[]string]
	next    atomic.Uint64

	ctx    context.Context // ends what is forwarded
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New forwards what comes to lis. Until Set is called it turns everyone away.
func New(lis net.Listener) *Proxy {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{lis: lis, ctx: ctx, cancel: cancel}
	p.targets.Store(&[]string{})
	p.work.Go(p.accept)
	return p
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.lis.Addr().String() }

// Set names the replicas, as host:port, that new connections go to. Connections
// that stand are left alone.
func (p *Proxy) Set(targets []string) { p.targets.Store(&targets) }

// Refuse takes no new connection from now on.
func (p *Proxy) Refuse() error {
	if err := p.lis.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the front door %s: %w", p.Addr(), err)
	}
	return nil
}

// Close cuts what is still forwarded.
func (p *Proxy) Close() error {
	err := p.Refuse()
	p.cancel()
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: it passes.
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		p.work.Go(func() { p.forward(conn) })
	}
}

func (p *Proxy) forward(client net.Conn) {
	defer client.Close()
	server := p.dial()
	if server == nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(p.ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var up sync.WaitGroup
	up.Go(func() { pipe(server, client) })
	pipe(client, server)
	up.Wait()
}

// dial reaches a replica, in turn; one that does not answer is passed over.
func (p *Proxy) dial() net.Conn {
	targets := *p.targets.Load()
	if len(targets) == 0 {
		return nil
	}
	first := p.next.Add(1)
	for i := range uint64(len(targets)) {
		ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", targets[(first+i)%uint64(len(targets))])
		cancel()
		if err == nil {
			return conn
		}
	}
	return nil
}

// pipe copies one way and passes the end on, so that either side can finish what
// it still has to say. After a broken copy nothing is left to say.
func pipe(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
