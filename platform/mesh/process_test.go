package mesh

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/xds"

	"spillway.dev/platform/knobs"
)

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), part)
}

// process is a control plane in a process of its own, on a socket that the test holds.
type process struct {
	command *exec.Cmd
	states  io.WriteCloser
	log     strings.Builder
}

// start returns when the process is about to serve.
func start(t *testing.T, held *os.File) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0])}
	p.command.Env = append(os.Environ(), childVariable+"=1")
	p.command.ExtraFiles = []*os.File{held}
	p.command.Stderr = &p.log
	var err error
	if p.states, err = p.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { p.kill(t) })
	t.Cleanup(kill)
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "started\n" {
		kill()
		t.Fatalf("the control plane said %q, %v: %s", line, err, p.log.String())
	}
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.command.ProcessState != nil {
		return
	}
	if err := p.command.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.command.Wait() // its error is the kill
}

func (p *process) set(t *testing.T, services ...Service) {
	t.Helper()
	if err := json.NewEncoder(p.states).Encode(State{Services: services}); err != nil {
		t.Fatal(err)
	}
}

func TestTrafficOutlivesTheControlPlane(t *testing.T) {
	replicas := newReplicas(t, 4)
	lis := listen(t)
	defer lis.Close()
	held, err := lis.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()

	plane := start(t, held)
	plane.set(t, Service{Name: "catalog", Endpoints: endpoints(replicas[0])})
	c := dial(t, lis.Addr().String(), "gateway", "catalog")
	c.connect(t, replicas[0])
	stop := c.load(t, 1)
	var took []time.Duration
	for _, added := range replicas[1:] {
		plane.kill(t)
		calls := c.next.Load()
		eventually(t, "300 calls without a control plane", func() bool { return c.next.Load() >= calls+300 })

		plane = start(t, held)
		back := time.Now()
		plane.set(t, Service{Name: "catalog", Endpoints: endpoints(replicas[0], added)})
		eventually(t, "an update after the control plane is back", func() bool { return added.first.Load() != 0 })
		took = append(took, time.Unix(0, added.first.Load()).Sub(back))
	}
	slices.Sort(took)
	t.Logf("updates resumed %v after the control plane was back", took)
	// The median, for a host that is starved at times: a client that backs off does so every time, and for longer.
	if median := took[len(took)/2]; median > time.Second {
		t.Errorf("updates resumed after %v, want 1s", median)
	}
	// A client that comes while the control plane is away is served when it is back, at once.
	plane.kill(t)
	early := dial(t, lis.Addr().String(), "order", "catalog")
	answered := make(chan error, 1)
	go func() { answered <- early.call(t.Context()) }()
	plane = start(t, held)
	plane.set(t, Service{Name: "catalog", Endpoints: endpoints(replicas...)})
	if err := <-answered; err != nil {
		t.Errorf("the call of a client that came early failed: %v", err)
	}
	stop()
	t.Logf("%d calls, %d failed", c.next.Load(), c.failed.Load())

	// It ends by itself when nobody feeds it any more.
	if err := plane.states.Close(); err != nil {
		t.Fatal(err)
	}
	if err := plane.command.Wait(); err != nil {
		t.Errorf("the control plane ended with %v: %s", err, plane.log.String())
	}
}

// TestKnobsOutliveAKill: while the control plane's process is dead, and until the next one has been told what is set,
// a replica keeps the values that it has.
func TestKnobsOutliveAKill(t *testing.T) {
	lis := listen(t)
	defer lis.Close()
	held, err := lis.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	tell := func(plane *process, quota string) {
		t.Helper()
		state := State{Services: []Service{{Name: "bank"}}, Knobs: map[string]map[string]string{"bank": {"quota": quota}}}
		if err := json.NewEncoder(plane.states).Encode(state); err != nil {
			t.Fatal(err)
		}
	}
	plane := start(t, held)
	tell(plane, "7")

	set, log := knobs.NewSet(), &journal{}
	quota := set.Int("quota", 50, 1, 100, "charges a second")
	known := make(chan struct{})
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		knobs.Watch(ctx, conn, "bank", "bank-1", set, slog.New(slog.NewTextHandler(log, nil)), func() { close(known) })
	})
	defer func() {
		cancel()
		watching.Wait()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-known
	var changes []int64
	quota.OnChange(func(v int64) { changes = append(changes, v) })
	for n, next := range []string{"7", "8"} {
		plane.kill(t)
		eventually(t, "the watch to notice", func() bool { return log.count("control plane is away") == n+1 })
		plane = start(t, held)
		tell(plane, next)
		eventually(t, "the watch to go on", func() bool { return log.count("control plane is back") == n+1 })
	}
	eventually(t, "the value of the last control plane", func() bool { return quota.Get() == 8 })
	plane.kill(t)
	cancel()
	watching.Wait()
	if !slices.Equal(changes, []int64{8}) {
		t.Errorf("the quota became %v, want 8 alone: it was lost in between", changes)
	}
}

func TestServeStdinKeepsTheLastGoodState(t *testing.T) {
	r := newReplica(t, nil)
	lis := listen(t)
	states, feed := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- ServeStdin(t.Context(), lis, states, newPlane(t).log) }()
	good, err := json.Marshal(State{Services: []Service{{Name: "catalog", Endpoints: endpoints(r)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"not JSON", `{"services":[{"name":"catalog","colour":"red"}]}`, "", string(good),
		`{"services":[{"name":"catalog","policy":"random"}]}`, `{"services":`,
	} {
		if _, err := io.WriteString(feed, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, lis.Addr().String(), "gateway", "catalog")
	if err := c.call(t.Context()); err != nil {
		t.Errorf("a call failed after bad states: %v", err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("got %v at the end of its input, want nil", err)
	}
}

func TestServeStdinTellsWhyItEnds(t *testing.T) {
	states, feed := io.Pipe()
	ended := make(chan error, 1)
	lis := listen(t)
	go func() { ended <- ServeStdin(t.Context(), lis, states, newPlane(t).log) }()
	feed.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "read the next state") {
		t.Errorf("got %v, want the read error", err)
	}
}

func TestInheritRefusesWhatIsNoListener(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	defer reader.Close()
	fd, err := syscall.Dup(int(writer.Fd())) // Inherit closes what it is given
	if err != nil {
		t.Fatal(err)
	}
	if lis, err := Inherit(uintptr(fd)); err == nil || !strings.Contains(err.Error(), "not a listening socket") {
		t.Errorf("got %v, %v, want an error", lis, err)
	}
}

func TestBootstrap(t *testing.T) {
	got := Bootstrap("127.0.0.1:18000", "gateway", "gateway-7")
	const want = `{"xds_servers":[{"server_uri":"127.0.0.1:18000","channel_creds":[{"type":"insecure"}],"server_features":["xds_v3"]}],` +
		`"node":{"id":"gateway/gateway-7","cluster":"gateway"}}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	resolver, err := xds.NewXDSResolverWithConfigForTesting([]byte(got))
	if err != nil {
		t.Fatalf("grpc refuses it: %v", err)
	}
	conn, err := grpc.NewClient("xds:///catalog", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
