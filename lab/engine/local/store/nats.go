// Package store runs what the mesh keeps its state in: NATS JetStream inside the
// engine, and Redis beside it. Both keep their data in the state directory.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsStart bounds how long JetStream takes to read what it has on disk.
const natsStart = 30 * time.Second

// NATS is a NATS server with JetStream in this process.
type NATS struct{ server *server.Server }

// StartNATS starts a server on a port of the loopback interface, with its
// streams in dir.
func StartNATS(port int, dir string, log *slog.Logger) (*NATS, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "spillway",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   dir,
		NoSigs:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s.SetLogger(natsLog{log}, false, false)
	s.Start()
	if !s.ReadyForConnections(natsStart) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("NATS did not come up; its log says why")
	}
	return &NATS{s}, nil
}

// URL is where clients connect.
func (n *NATS) URL() string { return n.server.ClientURL() }

// Version of the server.
func (n *NATS) Version() string { return server.VERSION }

// Close stops the server when it has written what it holds.
func (n *NATS) Close() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// natsLog passes on what matters; NATS is chatty about itself.
type natsLog struct{ log *slog.Logger }

func (l natsLog) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l natsLog) Warnf(format string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l natsLog) Errorf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l natsLog) Fatalf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l natsLog) Debugf(string, ...any)           {}
func (l natsLog) Tracef(string, ...any)           {}
