package local

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/process"
	"spillway.dev/platform/mesh"
)

// conductorName is what the control plane's process is called to people.
const conductorName = "conductor"

// Conduct is the control plane's process: the hidden command that Up starts. It
// serves the mesh that arrives on in on the socket that Up handed over, until in
// or ctx ends.
func Conduct(ctx context.Context, in io.Reader, log *slog.Logger) error {
	lis, err := mesh.Inherit(3)
	if err != nil {
		return err
	}
	return mesh.ServeStdin(ctx, lis, in, log)
}

// conductor is the control plane's process and what it is told. The engine holds
// the listening socket: callers that lose the process wait in the socket's queue
// for the next one instead of backing off.
type conductor struct {
	*keeper
	lis  *net.TCPListener
	file *os.File
	out  *logs.Writer

	state   sync.Mutex
	latest  []byte
	changed chan struct{} // closed and replaced when latest changes
	feeds   sync.WaitGroup
}

// startConductor owns lis and out from here on, also when it fails.
func startConductor(spawner *process.Spawner, command []string, env []string, lis *net.TCPListener, first []byte, out *logs.Writer, report func(string)) (*conductor, error) {
	file, err := lis.File()
	if err != nil {
		lis.Close()
		out.Close()
		return nil, err
	}
	c := &conductor{lis: lis, file: file, out: out, latest: first, changed: make(chan struct{})}
	c.keeper, err = keep(report, func() (*process.Process, error) {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer read.Close()
		p, err := spawner.Start(process.Spec{
			Name: conductorName, Path: command[0], Args: command[1:], Env: env, Output: out, Stdin: read, Files: []*os.File{file},
		})
		if err != nil {
			write.Close()
			return nil, err
		}
		c.feeds.Go(func() { c.feed(p, write) })
		return p, nil
	})
	if err != nil {
		file.Close()
		lis.Close()
		out.Close()
		return nil, err
	}
	return c, nil
}

// tell makes a document the one that callers see.
func (c *conductor) tell(state []byte) {
	c.state.Lock()
	defer c.state.Unlock()
	c.latest = state
	close(c.changed)
	c.changed = make(chan struct{})
}

// feed writes the latest document to one process until that ends. A process that
// reads slowly gets only the latest of what it missed.
func (c *conductor) feed(p *process.Process, to *os.File) {
	c.feeds.Go(func() {
		<-p.Done()
		to.Close() // ends a write that nobody reads
	})
	for {
		c.state.Lock()
		latest, changed := c.latest, c.changed
		c.state.Unlock()
		if _, err := to.Write(latest); err != nil {
			<-p.Done()
			return
		}
		select {
		case <-changed:
		case <-p.Done():
			return
		}
	}
}

func (c *conductor) close() {
	c.keeper.close()
	c.feeds.Wait()
	c.file.Close()
	c.lis.Close()
	c.out.Close()
}
