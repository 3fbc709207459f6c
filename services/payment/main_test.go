package main

import (
	"context"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// redisServer starts a real Redis on a Unix socket.
func redisServer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("these tests need redis-server on the PATH: %v", err)
	}
	socket := filepath.Join(t.TempDir(), "redis.sock")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := redisClient(t, socket)
	deadline := time.Now().Add(10 * time.Second)
	for client.Ping(t.Context()).Err() != nil {
		if time.Now().After(deadline) {
			t.Fatal("Redis did not come up")
		}
	}
	return socket
}

func redisClient(t *testing.T, socket string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// bank keeps books with the bank's semantics, behind real gRPC. before and
// after run around the effect of a call; an error of before keeps it from
// happening, one of after loses its answer.
type bank struct {
	bankv1.UnimplementedBankServiceServer

	before, after func(ctx context.Context, call string) error

	mu       sync.Mutex
	books    map[string]bankv1.TransactionState
	captures map[string]int
	charges  int
	refunds  int
}

const (
	bankCaptured = bankv1.TransactionState_TRANSACTION_STATE_CAPTURED
	bankDeclined = bankv1.TransactionState_TRANSACTION_STATE_DECLINED
	bankRefunded = bankv1.TransactionState_TRANSACTION_STATE_REFUNDED
	bankVoided   = bankv1.TransactionState_TRANSACTION_STATE_VOIDED
)

func newBank() *bank {
	return &bank{books: map[string]bankv1.TransactionState{}, captures: map[string]int{}}
}

func (b *bank) serve(t *testing.T) bankv1.BankServiceClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	bankv1.RegisterBankServiceServer(srv, b)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return bankv1.NewBankServiceClient(conn)
}

func (b *bank) around(ctx context.Context, call string, effect func() error) error {
	if b.before != nil {
		if err := b.before(ctx, call); err != nil {
			return err
		}
	}
	b.mu.Lock()
	err := effect()
	b.mu.Unlock()
	if b.after != nil {
		if lost := b.after(ctx, call); lost != nil {
			return lost
		}
	}
	return err
}

func (b *bank) Charge(ctx context.Context, req *bankv1.ChargeRequest) (*bankv1.ChargeResponse, error) {
	txn := &bankv1.Transaction{Reference: req.GetReference(), AmountCents: req.GetAmountCents()}
	err := b.around(ctx, "charge", func() error {
		b.charges++
		state, seen := b.books[req.GetReference()]
		if !seen {
			state = bankCaptured
			if req.GetCardToken() == "tok_declined" {
				state = bankDeclined
			} else {
				b.captures[req.GetReference()]++
			}
			b.books[req.GetReference()] = state
		}
		txn.State = state
		switch state {
		case bankDeclined:
			return problem.New(codes.FailedPrecondition, reasonCardDeclined, "declined")
		case bankRefunded, bankVoided:
			return problem.New(codes.FailedPrecondition, reasonReferenceVoided, "voided")
		}
		return nil
	})
	return &bankv1.ChargeResponse{Transaction: txn}, err
}

func (b *bank) Refund(ctx context.Context, req *bankv1.RefundRequest) (*bankv1.RefundResponse, error) {
	txn := &bankv1.Transaction{Reference: req.GetReference()}
	err := b.around(ctx, "refund", func() error {
		b.refunds++
		state, seen := b.books[req.GetReference()]
		switch {
		case !seen:
			state = bankVoided
		case state == bankCaptured:
			state = bankRefunded
		}
		b.books[req.GetReference()] = state
		txn.State = state
		return nil
	})
	return &bankv1.RefundResponse{Transaction: txn}, err
}

// newPayment is a payment service on a real Redis and the given bank.
func newPayment(t *testing.T, b *bank, socket string) *server {
	t.Helper()
	return newServer(b.serve(t), newStore(redisClient(t, socket)), slog.New(slog.NewTextHandler(t.Output(), nil)))
}
