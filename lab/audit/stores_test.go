package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/keyspace"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startRedis runs a real redis-server on a Unix socket until the test ends.
func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "redis.sock")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatalf("start redis-server; it must be on the PATH: %v", err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, DisableIdentity: true})
	t.Cleanup(func() {
		client.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	deadline := time.Now().Add(20 * time.Second)
	for client.Ping(t.Context()).Err() != nil {
		if time.Now().After(deadline) {
			t.Fatal("redis-server did not answer within 20 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return client
}

// startNATS runs a real JetStream until the test ends.
func startNATS(t *testing.T) (url string) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("JetStream was not ready within 20 s")
	}
	return srv.ClientURL()
}

// books is a bank that has only its books, and an engine that knows where it is.
type books struct {
	bankv1.UnimplementedBankServiceServer
	enginev1.UnimplementedEngineServiceServer
	transactions []*bankv1.Transaction
	info         *enginev1.GetInfoResponse
}

func (b *books) ListTransactions(_ *bankv1.ListTransactionsRequest, stream grpc.ServerStreamingServer[bankv1.ListTransactionsResponse]) error {
	for _, t := range b.transactions {
		if err := stream.Send(&bankv1.ListTransactionsResponse{Transaction: t}); err != nil {
			return err
		}
	}
	return nil
}

func (b *books) GetInfo(context.Context, *enginev1.GetInfoRequest) (*enginev1.GetInfoResponse, error) {
	return b.info, nil
}

func (b *books) WatchEndpoints(req *enginev1.WatchEndpointsRequest, stream grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error {
	if req.Service != "bank" {
		return fmt.Errorf("watches %q", req.Service)
	}
	for _, addresses := range [][]string{nil, {b.info.XdsAddress}} { // not ready at first
		if err := stream.Send(&enginev1.WatchEndpointsResponse{Addresses: addresses}); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func (b *books) open(t *testing.T) enginev1.EngineServiceClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	bankv1.RegisterBankServiceServer(srv, b)
	enginev1.RegisterEngineServiceServer(srv, b)
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(lis) })
	t.Cleanup(func() { srv.Stop(); done.Wait() })
	b.info.XdsAddress = lis.Addr().String() // the stub's own address, for WatchEndpoints
	conn, err := grpc.NewClient("passthrough:///"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return enginev1.NewEngineServiceClient(conn)
}

func text(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fill writes a snapshot as the services write it.
func fill(t *testing.T, s *Snapshot, rdb *redis.Client, js jetstream.JetStream) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	orders, err := js.CreateKeyValue(ctx, keyspace.Orders())
	must(err)
	tickets, err := js.CreateKeyValue(ctx, keyspace.Tickets())
	must(err)
	for _, o := range s.Orders {
		_, err := orders.PutString(ctx, o.OrderId, `{"state":"ORDER_STATE_PENDING"}`) // an older revision
		must(err)
		_, err = orders.PutString(ctx, o.OrderId, text(t, o))
		must(err)
	}
	for _, tk := range s.Tickets {
		_, err := tickets.PutString(ctx, tk.OrderId, text(t, tk))
		must(err)
	}
	for _, p := range s.Payments {
		must(rdb.Set(ctx, keyspace.Payment(p.PaymentId), text(t, p), 0).Err())
	}
	for _, h := range s.Holds {
		seats := strings.Trim(strings.ReplaceAll(fmt.Sprint(h.Seats), " ", ","), "[]")
		must(rdb.HSet(ctx, keyspace.InventoryHold(h.Show, h.ID), keyspace.HoldSeats, seats, keyspace.HoldState, h.State,
			keyspace.HoldExpires, h.Expires.UnixMilli(), keyspace.HoldAmount, h.AmountCents).Err())
	}
	for _, show := range s.Shows {
		must(rdb.Set(ctx, keyspace.InventoryTaken(show.ID), show.Taken, 0).Err())
		for id := range show.Expiring {
			must(rdb.ZAdd(ctx, keyspace.InventoryExpiring(show.ID), redis.Z{Score: 1, Member: id}).Err())
		}
	}
}

func TestReadFindsWhatServicesWrite(t *testing.T) {
	rdb, nats := startRedis(t), startNATS(t)
	s := office()
	b := &books{transactions: s.Transactions, info: &enginev1.GetInfoResponse{RedisAddress: "127.0.0.1:1", NatsUrl: nats}}
	stores, err := Open(t.Context(), b.open(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stores.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			t.Error(err)
		}
	})
	if err := stores.Redis.Close(); err != nil { // the test's Redis is on a Unix socket
		t.Fatal(err)
	}
	stores.Redis = rdb

	if _, err := stores.Read(t.Context()); err == nil || !strings.Contains(err.Error(), `"tickets"`) {
		t.Errorf("before any service has run: got %v, want an error that names the bucket", err)
	}
	fill(t, s, rdb, stores.JetStream)
	for key, value := range map[string]string{"payment:garbage": "no json", "payment:other": text(t, s.Payments[0]), "unrelated": "x"} {
		if err := rdb.Set(t.Context(), key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.HSet(t.Context(), keyspace.InventoryHold("s", "h-1"), keyspace.HoldState, "lost").Err(); err != nil {
		t.Fatal(err)
	}
	// Released before it was made.
	if err := rdb.HSet(t.Context(), keyspace.InventoryHold("s", "h-2"), keyspace.HoldState, keyspace.HoldReleased).Err(); err != nil {
		t.Fatal(err)
	}
	got, err := stores.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Unreadable)
	if want := []string{"inventory:{s}:hold:h-1", "payment:garbage", "payment:other"}; !slices.Equal(got.Unreadable, want) {
		t.Errorf("unreadable: got %v, want %v", got.Unreadable, want)
	}
	got.Unreadable, got.At = nil, at
	r := Check(got, grace)
	if len(r.Violations) != 0 || r.Unsettled != 1 {
		t.Errorf("got %v and %d under way, want none and 1", r.Violations, r.Unsettled)
	}
	if want := Check(s, grace).Counts; fmt.Sprint(r.Counts.Orders, r.Counts.Payments, r.Counts.Transactions, r.Counts.Tickets, r.Counts.SeatsSold) !=
		fmt.Sprint(want.Orders, want.Payments, want.Transactions, want.Tickets, want.SeatsSold) || r.Counts.Holds["released"] != 2 {
		t.Errorf("counts: got %+v, want %+v and one released hold more", r.Counts, want)
	}
}

func TestReadTakesMoreThanOneBatch(t *testing.T) {
	rdb := startRedis(t)
	pipe := rdb.Pipeline()
	const n = 3*scanBatch + 7
	for i := range n {
		id := fmt.Sprintf("o-%d", i)
		pipe.Set(t.Context(), keyspace.Payment(id), `{"paymentId":"`+id+`"}`, 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := (&Stores{Redis: rdb}).readPayments(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Payments) != n || len(s.Unreadable) != 0 {
		t.Errorf("got %d payments and %v, want %d and none", len(s.Payments), s.Unreadable, n)
	}
}
