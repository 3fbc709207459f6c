package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/boot"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// Side is one of the two things compared: the same calls, with the same payload, to handlers that do nothing.
type Side string

// The sides. Each runs client and server in one process, over TCP on the loopback interface.
const (
	// Bare is grpc-go with no option set.
	Bare Side = "bare"
	// Full is a replica as boot builds it, with both chains and telemetry, that calls itself. The capacity model is off:
	// its sleeping costs no CPU.
	Full Side = "full"
)

// callers is how many calls a side makes at the same time.
const callers = 8

// Cost is what a round of calls took of the process that made and answered them.
type Cost struct {
	Calls int           `json:"calls"`
	CPU   time.Duration `json:"cpu_ns"` // user and system time
}

// PerCall is the CPU time of one call, both sides of it, in microseconds.
func (c Cost) PerCall() float64 { return float64(c.CPU.Nanoseconds()) / 1e3 / float64(c.Calls) }

// Answer is a child process of the benchmark. That of CompareRefusal serves; that of Compare sets a side up, then reads
// numbers of calls from in, one a line, makes that many, and writes what they cost to out as a line of JSON, until in ends.
func Answer(ctx context.Context, side Side, in io.Reader, out io.Writer) error {
	switch side {
	case Served, Hold, Empty, Refused:
		return answerCalls(ctx, side, in, out)
	}
	start := bare
	if side == Full {
		start = full
	}
	conn, stop, err := start(ctx)
	if err != nil {
		return err
	}
	serve := func() error {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			var n int
			if _, err := fmt.Sscan(lines.Text(), &n); err != nil || n < 1 {
				return fmt.Errorf("%q is no number of calls", lines.Text())
			}
			cost, err := spend(ctx, conn, n)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(out).Encode(cost); err != nil {
				return err
			}
		}
		return lines.Err()
	}
	return errors.Join(serve(), stop())
}

// spend makes n calls, a read and a write in turn, and tells what they cost this process.
func spend(ctx context.Context, conn *grpc.ClientConn, n int) (Cost, error) {
	before, err := cpu()
	if err != nil {
		return Cost{}, err
	}
	var wg sync.WaitGroup
	failures := make([]error, callers)
	for i := range callers {
		share := n / callers
		if i < n%callers {
			share++
		}
		wg.Go(func() { failures[i] = calls(ctx, conn, share) })
	}
	wg.Wait()
	after, err := cpu()
	return Cost{Calls: n, CPU: after - before}, errors.Join(append(failures, err)...)
}

func calls(ctx context.Context, conn *grpc.ClientConn, n int) error {
	session, inventory := sessionv1.NewSessionServiceClient(conn), inventoryv1.NewInventoryServiceClient(conn)
	touch := &sessionv1.TouchRequest{Token: "dGhpcyBpcyBhIHRva2VuIGZvciBhIGJlbmNobWFyay4"}
	hold := &inventoryv1.HoldRequest{HoldId: "o-abcdefghijklmnopqrstuvwxyz", ShowId: "opening-night", SeatIds: []string{"B-3", "B-4"}}
	for i := range n {
		var err error
		if i%2 == 0 {
			_, err = session.Touch(ctx, touch)
		} else {
			_, err = inventory.Hold(ctx, hold)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cpu is the user and system time that this process has used.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

type sessionStub struct {
	sessionv1.UnimplementedSessionServiceServer
}

func (sessionStub) Touch(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
	return &sessionv1.TouchResponse{PersonId: "ann", ExpiresAt: &timestamppb.Timestamp{Seconds: 1 << 31}}, nil
}

type inventoryStub struct {
	inventoryv1.UnimplementedInventoryServiceServer
}

func (inventoryStub) Hold(context.Context, *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	return &inventoryv1.HoldResponse{ExpiresAt: &timestamppb.Timestamp{Seconds: 1 << 31}, AmountCents: 9000}, nil
}

func register(r grpc.ServiceRegistrar) {
	sessionv1.RegisterSessionServiceServer(r, sessionStub{})
	inventoryv1.RegisterInventoryServiceServer(r, inventoryStub{})
}

func bare(context.Context) (*grpc.ClientConn, func() error, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := grpc.NewServer()
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	stop := func() error {
		server.Stop()
		return <-served
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return conn, func() error { return errors.Join(conn.Close(), stop()) }, nil
}

func full(ctx context.Context) (*grpc.ClientConn, func() error, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, nil, err
	}
	ctx, drain := context.WithCancel(ctx)
	conns := make(chan *grpc.ClientConn, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- boot.Run(ctx, boot.Spec{
			Name: "bench",
			Build: func(_ context.Context, app *boot.App) error {
				register(app.Server())
				conn, err := app.Dial("bench", addr)
				if err == nil {
					conns <- conn
				}
				return err
			},
		}, append(os.Environ(),
			"SPILLWAY_GRPC_ADDR="+addr,
			"SPILLWAY_ADMIN_ADDR=127.0.0.1:0",
			"SPILLWAY_CAPACITY_SERVICE_TIME=0s",
		), os.Stderr)
	}()
	stop := func() error {
		drain()
		return <-ended
	}
	select {
	case conn := <-conns:
		if err := untilServing(ctx, conn); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		return conn, stop, nil
	case err := <-ended:
		drain()
		return nil, nil, errors.Join(errors.New("the replica ended at once"), err)
	}
}

// untilServing waits until a replica answers calls itself.
func untilServing(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, err := sessionv1.NewSessionServiceClient(conn).Touch(ctx, &sessionv1.TouchRequest{Token: "x"}, grpc.WaitForReady(true))
		if err == nil || status.Code(err) != codes.Unavailable {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// freeAddr finds a free TCP address on the loopback interface. Another process could take it before it is used; a
// benchmark then fails and says so.
func freeAddr() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return lis.Addr().String(), lis.Close()
}
