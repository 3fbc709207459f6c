// Package chain measures what each part of the chains adds to the CPU of a
// call: "go test -run ^$ -bench . ./bench/chain". The sides run in turn in one
// process, so that the ratios hold on a busy machine.
package chain

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/inbound"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

const (
	callers = 8
	calls   = 1000 // a side and round
)

type sessions struct {
	sessionv1.UnimplementedSessionServiceServer
}

func (sessions) Touch(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
	return &sessionv1.TouchResponse{PersonId: "ann", ExpiresAt: &timestamppb.Timestamp{Seconds: 1 << 31}}, nil
}

type seats struct {
	inventoryv1.UnimplementedInventoryServiceServer
}

func (seats) Hold(context.Context, *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	return &inventoryv1.HoldResponse{ExpiresAt: &timestamppb.Timestamp{Seconds: 1 << 31}, AmountCents: 9000}, nil
}

// side is one way to make the same calls.
type side struct {
	name   string
	server []grpc.ServerOption
	client []grpc.DialOption
}

// serve starts a side's server and connects to it over TCP.
func serve(tb testing.TB, s side) *grpc.ClientConn {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(s.server...)
	sessionv1.RegisterSessionServiceServer(server, sessions{})
	inventoryv1.RegisterInventoryServiceServer(server, seats{})
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	conn, err := grpc.NewClient(lis.Addr().String(), append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, s.client...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		done.Wait()
	})
	return conn
}

// sides is bare grpc-go, then the parts, then all of them.
func sides(tb testing.TB) []side {
	tb.Helper()
	tel, err := telemetry.New(tb.Context(), telemetry.Config{Service: "bench", Instance: "bench-1", TraceRatio: 0.01}, io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	station, err := capacity.New(capacity.Config{Slots: 16, Distribution: capacity.Exponential}, tel.Registry())
	if err != nil {
		tb.Fatal(err)
	}
	set := knobs.NewSet()
	refused, err := refusal.New(tel.Registry())
	if err != nil {
		tb.Fatal(err)
	}
	in, err := inbound.New(inbound.Config{DefaultDeadline: 5 * time.Second, MinimumDeadline: 5 * time.Millisecond}, inbound.Replica{
		Service: "bench", Log: tel.Log(), Registry: tel.Registry(), Knobs: set, Refused: refused, Station: station,
	})
	if err != nil {
		tb.Fatal(err)
	}
	out, err := outbound.New(outbound.Config{Shave: 5 * time.Millisecond, Attempts: 2}, outbound.Replica{
		Service: "bench", Log: slog.New(slog.DiscardHandler), Registry: tel.Registry(), Knobs: set, Refused: refused,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tracing := side{name: "tracing", server: tel.ServerOptions(), client: tel.DialOptions()}
	all := []side{
		{name: "bare"},
		tracing,
		{name: "inbound", server: in.ServerOptions()},
		{name: "outbound", client: out.DialOptions("bench")},
	}
	for _, e := range in.Entries() {
		all = append(all, side{name: "inbound/" + e.Name, server: []grpc.ServerOption{grpc.ChainUnaryInterceptor(e.Unary)}})
	}
	for _, e := range out.Entries("bench") {
		all = append(all, side{name: "outbound/" + e.Name, client: []grpc.DialOption{grpc.WithChainUnaryInterceptor(e.Unary)}})
	}
	return append(all, side{
		name:   "all",
		server: append(tel.ServerOptions(), in.ServerOptions()...),
		client: append(out.DialOptions("bench"), tracing.client...),
	})
}

// BenchmarkCPU tells, for each part and for all together, the CPU of a call as
// a multiple of a bare one: the median over b.N rounds.
func BenchmarkCPU(b *testing.B) {
	all := sides(b)
	conns := make([]*grpc.ClientConn, len(all))
	for i, s := range all {
		conns[i] = serve(b, s)
		spend(b, conns[i])
	}
	ratios := make([][]float64, len(all))
	var bare []float64
	for range max(b.N, 5) {
		var base float64
		for i := range all {
			cost := spend(b, conns[i])
			if i == 0 {
				base = cost
				bare = append(bare, cost)
			}
			ratios[i] = append(ratios[i], cost/base)
		}
	}
	for i, s := range all {
		b.ReportMetric(median(ratios[i]), s.name+"_ratio")
	}
	b.ReportMetric(median(bare), "bare_us/call")
}

// BenchmarkCall is one side at a time, for profiles and allocations.
func BenchmarkCall(b *testing.B) {
	for _, s := range sides(b) {
		b.Run(s.name, func(b *testing.B) {
			conn := serve(b, s)
			touch, hold := requests()
			session, inventory := sessionv1.NewSessionServiceClient(conn), inventoryv1.NewInventoryServiceClient(conn)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := one(session, inventory, touch, hold, i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func requests() (*sessionv1.TouchRequest, *inventoryv1.HoldRequest) {
	return &sessionv1.TouchRequest{Token: "dGhpcyBpcyBhIHRva2VuIGZvciBhIGJlbmNobWFyay4"},
		&inventoryv1.HoldRequest{HoldId: "o-abcdefghijklmnopqrstuvwxyz", ShowId: "opening-night", SeatIds: []string{"B-3", "B-4"}}
}

func one(session sessionv1.SessionServiceClient, inventory inventoryv1.InventoryServiceClient, touch *sessionv1.TouchRequest, hold *inventoryv1.HoldRequest, i int) error {
	if i%2 == 0 {
		_, err := session.Touch(context.Background(), touch)
		return err
	}
	_, err := inventory.Hold(context.Background(), hold)
	return err
}

// spend makes the calls of a round and gives the CPU of one, in µs.
func spend(tb testing.TB, conn *grpc.ClientConn) float64 {
	tb.Helper()
	touch, hold := requests()
	session, inventory := sessionv1.NewSessionServiceClient(conn), inventoryv1.NewInventoryServiceClient(conn)
	before := cpu(tb)
	var wg sync.WaitGroup
	failed := make([]error, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range calls / callers {
				if err := one(session, inventory, touch, hold, i); err != nil {
					failed[c] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return float64((cpu(tb) - before).Nanoseconds()) / 1e3 / calls
}

func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(fmt.Errorf("getrusage: %w", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}
