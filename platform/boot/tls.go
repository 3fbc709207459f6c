package boot

import (
	"fmt"
	"time"

	"google.golang.org/grpc"

	"spillway.dev/platform/tlsfiles"
)

// renewalInterval is how often the files of SPILLWAY_TLS_DIR are looked at. A kubelet takes up to a minute to bring a
// renewed Secret to its pods, and renewals come hours before the end.
const renewalInterval = 5 * time.Second

// openTLS reads the replica's certificate, when it has one, and begins to watch it until the drain. What it returns are
// the options of the replica's server.
func (r *replica) openTLS(edge bool) ([]grpc.ServerOption, error) {
	if r.cfg.TLSDir == "" {
		return nil, nil
	}
	files, err := tlsfiles.Open(r.cfg.TLSDir, r.app.name, r.app.telemetry.Registry(), r.app.log)
	if err != nil {
		return nil, fmt.Errorf("no certificate from SPILLWAY_TLS_DIR=%q (leave it empty for plaintext): %w", r.cfg.TLSDir, err)
	}
	r.app.tls = files
	r.background.Go(func() { files.Watch(r.app.ctx, renewalInterval) })
	return []grpc.ServerOption{grpc.Creds(files.Server(edge))}, nil
}

// callerCredentials are the dial options that replace the outbound chain's plaintext towards callee; none without a
// certificate.
func (a *App) callerCredentials(callee string) []grpc.DialOption {
	if a.tls == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(a.tls.Client(callee))}
}
