package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// natsDial bounds one attempt to connect, and so how long NATS may hold up Build when NATS hangs.
	natsDial = 500 * time.Millisecond
	// natsRetry is the wait between attempts to reconnect: NATS that is back should be in use at once.
	natsRetry = 100 * time.Millisecond
)

// NATS returns a connection that is made in the background and made again, for as long as the replica lives, whenever it
// is lost; NATS away is no error here. While it is away, publishing and requests fail at once (nats.ErrReconnectBufExceeded)
// instead of waiting in a buffer: a message that its sender gave up must not be sent after all. JetStream calls are bounded
// by their context. At the end of the drain subscriptions are drained, what was published is flushed, and it is closed. An
// error means that the URL is no good.
func (a *App) NATS(url string) (*nats.Conn, error) {
	closed := make(chan struct{})
	nc, err := nats.Connect(url,
		nats.Name(a.name+"/"+a.instance),
		nats.Timeout(natsDial),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(natsRetry),
		nats.ReconnectJitter(natsRetry/2, natsRetry/2),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5*time.Second), // a connection that hangs is noticed after two of these
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { a.log.Info("NATS connected") }),
		nats.ReconnectHandler(func(*nats.Conn) { a.log.Info("NATS connected again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if a.ctx.Err() == nil {
				a.log.Warn("NATS connection lost, reconnecting", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			a.log.Warn("NATS", "error", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
	)
	if err != nil {
		return nil, fmt.Errorf("NATS address is not allowed: give nats://host:port: %w", err)
	}
	a.OnClose("nats", func(ctx context.Context) error {
		err := nc.Drain() // returns at once
		if errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrConnectionClosed) {
			err = nil // it is away: there is nobody to say goodbye to
		}
		select {
		case <-closed:
		case <-ctx.Done():
			nc.Close()
			return fmt.Errorf("not drained in time: %w", ctx.Err())
		}
		return err
	})
	return nc, nil
}
