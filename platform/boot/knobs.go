package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/platform/knobs"
)

const (
	// knobsPatience is how long a start waits for the first word of the control plane: it is there before the replicas
	// are, and when it is not the defaults are better than no replica.
	knobsPatience = time.Second
	// controlBuffer is the size, in bytes, of what a connection to the control plane reads and writes at once. Knobs are
	// a few hundred bytes now and then; grpc-go's own two buffers of 32 KiB would stay with every replica.
	controlBuffer = 1 << 10
)

// dialControl prepares the connection to the control plane, which is closed at the end of the drain. It does not pass
// the outbound chain: it is not the service's work, and neither counted nor traced.
func (r *replica) dialControl() error {
	if r.cfg.ControlTarget == "" {
		return nil
	}
	conn, err := grpc.NewClient(r.cfg.ControlTarget,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: backoffFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: backoffMost},
			MinConnectTimeout: 20 * time.Second, // a held socket answers only when the control plane is back
		}),
		grpc.WithReadBufferSize(controlBuffer), grpc.WithWriteBufferSize(controlBuffer),
		grpc.WithDisableServiceConfig())
	if err != nil {
		return fmt.Errorf("dial the control plane at SPILLWAY_CONTROL_TARGET=%q (give host:port): %w", r.cfg.ControlTarget, err)
	}
	r.control = conn
	r.app.OnClose("control plane", func(context.Context) error { return conn.Close() })
	return nil
}

// watchKnobs begins to watch the replica's knobs, until the drain begins. What it returns waits for their first values,
// until knobsPatience has passed since the watch began or ctx ends.
func (r *replica) watchKnobs() (wait func(ctx context.Context)) {
	if r.control == nil {
		return func(context.Context) {}
	}
	begin, known := time.Now(), make(chan struct{})
	r.background.Go(func() {
		knobs.Watch(r.app.ctx, r.control, r.app.name, r.app.instance, r.app.knobs, r.app.log, func() { close(known) })
	})
	return func(ctx context.Context) {
		ctx, cancel := context.WithDeadline(ctx, begin.Add(knobsPatience))
		defer cancel()
		select {
		case <-known:
			r.app.log.Info("knobs known", "took", since(begin))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return // told to end
			}
			r.app.log.Warn("no word of the control plane, going on with the defaults of all knobs",
				"target", r.cfg.ControlTarget, "waited", since(begin))
		}
	}
}
