package local

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"spillway.dev/lab/engine/local/backoff"
	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/process"
	"spillway.dev/platform/mesh"
)

// conductorName is what the control plane's process is called to people.
const conductorName = "conductor"

// stopPatience is how long the control plane or Redis may take to end.
const stopPatience = 5 * time.Second

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

// keeper starts a process that is not a pod again whenever it ends.
type keeper struct {
	name   string
	start  func() (*process.Process, error)
	report func(text string)

	mu       sync.Mutex
	now      *process.Process // nil while none runs
	since    time.Time
	restarts int32
	last     string

	stop chan struct{}
	done chan struct{}
}

// keep starts the process; its first start must succeed.
func keep(name string, report func(string), start func() (*process.Process, error)) (*keeper, error) {
	k := &keeper{name: name, start: start, report: report, stop: make(chan struct{}), done: make(chan struct{})}
	first, err := start()
	if err != nil {
		return nil, err
	}
	k.set(first)
	go k.run(first)
	return k, nil
}

func (k *keeper) run(p *process.Process) {
	defer close(k.done)
	var crash backoff.Crash
	for {
		select {
		case <-k.stop:
			k.end(p)
			return
		case <-p.Done():
		}
		for again := true; again; {
			k.mu.Lock()
			k.now, k.last = nil, p.Ended()
			k.restarts++
			k.mu.Unlock()
			k.report(p.Ended() + ", it is started again")
			select {
			case <-k.stop:
				return
			case <-time.After(crash.Next(time.Now())):
			}
			next, err := k.start()
			if err != nil {
				k.report(err.Error())
				continue
			}
			p, again = next, false
		}
		k.set(p)
	}
}

func (k *keeper) end(p *process.Process) {
	p.Terminate()
	select {
	case <-p.Done():
	case <-time.After(stopPatience):
		p.Kill()
		<-p.Done()
	}
	k.mu.Lock()
	k.now = nil
	k.mu.Unlock()
}

func (k *keeper) set(p *process.Process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now, k.since = p, time.Now()
}

// kill ends the process as a crash would, and tells whether there was one.
func (k *keeper) kill() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil {
		k.now.Kill()
	}
	return k.now != nil
}

// close stops the process for good.
func (k *keeper) close() {
	close(k.stop)
	<-k.done
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
	c.keeper, err = keep(conductorName, report, func() (*process.Process, error) {
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
