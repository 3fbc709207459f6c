package boot

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/rediscall"
)

// Redis returns a client whose every call ends within 250 ms, also with Redis away, and works again with the first call
// after Redis is back. It is traced and measured, does not wait here, and is closed at the end of the drain. When Redis
// does not answer, calls fail with a problem: Unavailable, DEPENDENCY_AWAY, so handlers may return the error as it is.
// A blocking command (BLPOP, XREAD BLOCK) does not fit this client.
func (a *App) Redis(addr string) *redis.Client {
	client := redis.NewClient(redisOptions(addr, a.redis))
	client.AddHook(bounded{refused: a.redis.refused})
	if err := a.telemetry.InstrumentRedis(client); err != nil {
		a.log.Warn("Redis is not instrumented", "error", err)
	}
	a.OnClose("redis", func(context.Context) error { return client.Close() })
	return client
}

// redisPool is what a replica's clients of Redis have in common.
type redisPool struct {
	size, minIdle int // connections; a size of 0 is the library's default
	refused       prometheus.Counter
}

func newRefusedConnections() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spillway_redis_refused_connections_total",
		Help: "Connections that Redis refused because it has as many as its maxclients allows.",
	})
}

func redisOptions(addr string, pool redisPool) *redis.Options {
	return &redis.Options{
		Addr:                  addr,
		PoolSize:              pool.size,
		MinIdleConns:          pool.minIdle,
		Dialer:                dialRedis,
		DialTimeout:           rediscall.Bound,
		DialerRetries:         1, // attempts, not repeats
		ReadTimeout:           rediscall.Bound,
		WriteTimeout:          rediscall.Bound,
		PoolTimeout:           rediscall.Bound,
		ContextTimeoutEnabled: true, // else the budget would not reach the socket
		MaxRetries:            -1,   // retries are the caller's decision
		Protocol:              2,    // no use for RESP3's pushes, and one round trip less per connection
		DisableIdentity:       true, // likewise
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
}

// dialRedis connects, or returns a connection whose every use fails with the dial's error. If it returned the error, the
// pool would count it, and after as many as it has connections would fail all calls without dialling until a probe, made
// once a second, gets through: Redis would be back for up to a second before anybody noticed.
func dialRedis(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return &deadConn{err}, nil
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &redisConn{TCPConn: tcp}, nil
	}
	return conn, nil
}

// redisConn hears Redis out. One that has no connection left says so and closes. go-redis takes that for the answer to its
// greeting, which it can do without, or does not read it at all; what it sees is that the connection is broken.
type redisConn struct {
	*net.TCPConn
	heard, refused bool
}

func (c *redisConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.hear(b[:n])
	return n, c.because(err)
}

func (c *redisConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	if !c.heard && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		var said [64]byte
		read, _ := c.TCPConn.Read(said[:]) // what came before the end; nothing can come after it, so this does not wait
		c.hear(said[:read])
	}
	return n, c.because(err)
}

func (c *redisConn) hear(said []byte) {
	if len(said) > 0 && !c.heard {
		c.heard, c.refused = true, rediscall.Refuses(said)
	}
}

func (c *redisConn) because(err error) error {
	if err != nil && c.refused {
		return rediscall.ErrRefused
	}
	return err
}

// bounded is the hook that puts the bound on every call and names the failure: as rediscall does, for all calls at once.
type bounded struct{ refused prometheus.Counter }

// within marks the context of a call that is bounded already: a new connection greets Redis within the first call that
// uses it, and that greeting passes the hook too.
type within struct{}

func (bounded) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b bounded) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Value(within{}) != nil {
			return next(ctx, cmd)
		}
		bound, cancel := context.WithTimeout(context.WithValue(ctx, within{}, true), rediscall.Bound)
		defer cancel()
		err := next(bound, cmd)
		b.count(err)
		return b.named(ctx, err)
	}
}

func (b bounded) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if ctx.Value(within{}) != nil {
			return next(ctx, cmds)
		}
		bound, cancel := context.WithTimeout(context.WithValue(ctx, within{}, true), rediscall.Bound)
		defer cancel()
		err := next(bound, cmds)
		b.count(err)
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				cmd.SetErr(b.named(ctx, cmd.Err()))
			}
		}
		return b.named(ctx, err)
	}
}

// count counts the connection on which Redis gave err, if that refused it. Redis closes it with that answer, so it comes
// once for each.
func (b bounded) count(err error) {
	if rediscall.Refused(err) {
		b.refused.Inc()
	}
}

// named says when Redis was away. What Redis answered stays as it is: go-redis itself looks at it (NOSCRIPT, for one).
func (bounded) named(caller context.Context, err error) error {
	if p, ok := errors.AsType[*problem.Problem](rediscall.Error(caller, err)); ok {
		return p
	}
	return err
}

// deadConn is a connection that could not be made.
type deadConn struct{ err error }

func (c *deadConn) Read([]byte) (int, error)         { return 0, c.err }
func (c *deadConn) Write([]byte) (int, error)        { return 0, c.err }
func (c *deadConn) Close() error                     { return nil }
func (c *deadConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *deadConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *deadConn) SetDeadline(time.Time) error      { return nil }
func (c *deadConn) SetReadDeadline(time.Time) error  { return nil }
func (c *deadConn) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn is what the pool looks at before it gives out a connection again. One whose caller gave up while it was
// dialled goes to the pool unused; being no good, it is thrown away there.
func (c *deadConn) SyscallConn() (syscall.RawConn, error) { return nil, c.err }
