package mesh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
)

// Inherit returns the listening socket that a parent process handed over as file descriptor fd (3 for the first of
// exec.Cmd.ExtraFiles). The parent keeps its own copy open and never accepts on it: then clients that lose this process
// wait in the socket's backlog for the next one.
func Inherit(fd uintptr) (net.Listener, error) {
	file := os.NewFile(fd, "held listener")
	if file == nil {
		return nil, fmt.Errorf("mesh: file descriptor %d is not valid, start this process with the socket as an inherited file", fd)
	}
	defer file.Close()
	lis, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("mesh: file descriptor %d is not a listening socket: %w", fd, err)
	}
	return lis, nil
}

// ServeStdin is a whole control plane process: it reads State documents from in, one JSON document a line, and serves
// the latest on lis. It returns nil when in or ctx ends. A document that cannot be read or is not valid is logged and
// changes nothing, so that a bad update does not take the mesh down. After ctx has ended, one goroutine stays until
// the caller closes in or the process exits.
func ServeStdin(ctx context.Context, lis net.Listener, in io.Reader, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plane := NewControlPlane(log)
	fed := make(chan error, 1)
	go func() {
		defer cancel()
		fed <- plane.feed(in)
	}()
	if err := plane.Serve(ctx, lis); err != nil {
		return err
	}
	select {
	case err := <-fed:
		return err
	default:
		return nil
	}
}

// feed sets every state that in brings, until it ends.
func (c *ControlPlane) feed(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if err := c.setJSON(line); err != nil {
				c.log.Error("a state of the mesh was refused, the one before it stays", "error", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("mesh: read the next state: %w", err)
		}
	}
}

func (c *ControlPlane) setJSON(document []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	var state State
	if err := decoder.Decode(&state); err != nil {
		return fmt.Errorf("decode the state: %w", err)
	}
	return c.Set(state)
}
