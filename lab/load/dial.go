package load

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// connections is how many connections go to one address. HTTP/2 servers bound
// the streams of a connection, many at 100: behind one connection journeys would
// queue in this process, and the load would not be open any more.
const connections = 4

// reconnect asks a gateway that went away again soon and often: gRPC's own
// back-off grows to two minutes, in which a gateway that is back is not used.
var reconnect = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 2 * time.Second,
})

// Connections are several connections to one gateway that take turns. They are
// safe for concurrent use.
type Connections struct {
	all  []*grpc.ClientConn
	turn atomic.Uint32
}

// Dial connects to a gateway's gRPC address, host:port or any target that gRPC
// resolves. It does not wait for the gateway to be there.
func Dial(target string) (*Connections, error) {
	c := new(Connections)
	for range connections {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), reconnect, grpc.WithIdleTimeout(0))
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		// Connected before the first journey, which would else wait for it.
		conn.Connect()
		c.all = append(c.all, conn)
	}
	return c, nil
}

func (c *Connections) next() *grpc.ClientConn {
	return c.all[int(c.turn.Add(1))%len(c.all)]
}

// Invoke makes a call on the connection whose turn it is.
func (c *Connections) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.next().Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream on the connection whose turn it is.
func (c *Connections) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.next().NewStream(ctx, desc, method, opts...)
}

// Close closes them all.
func (c *Connections) Close() (err error) {
	for _, conn := range c.all {
		err = errors.Join(err, conn.Close())
	}
	return err
}
