package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

const id = "o-payment-1"

func charge() *paymentv1.ChargeRequest {
	return &paymentv1.ChargeRequest{PaymentId: id, AmountCents: 4500, CardToken: "tok_visa"}
}

func wants(t *testing.T, err error, code codes.Code, reason string, retryable bool) {
	t.Helper()
	if p := problem.From(err); p == nil || p.Code != code || p.Reason != reason || p.Retryable != retryable {
		t.Errorf("got %v, want %v %s, retryable %v", err, code, reason, retryable)
	}
}

func state(t *testing.T, s *server) paymentv1.PaymentState {
	t.Helper()
	resp, err := s.GetPayment(t.Context(), &paymentv1.GetPaymentRequest{PaymentId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetPayment().GetState()
}

func TestCharge(t *testing.T) {
	b := newBank()
	s := newPayment(t, b, redisServer(t))
	_, err := s.GetPayment(t.Context(), &paymentv1.GetPaymentRequest{PaymentId: id})
	wants(t, err, codes.NotFound, reasonPaymentUnknown, false)
	first, err := s.Charge(t.Context(), charge())
	if err != nil || first.GetPayment().GetState() != captured || first.GetPayment().GetAmountCents() != 4500 {
		t.Fatalf("charge: %v, %v", first, err)
	}
	again, err := s.Charge(t.Context(), charge())
	if err != nil || !proto.Equal(again, first) {
		t.Errorf("replay: %v, %v", again, err)
	}
	if b.charges != 1 {
		t.Errorf("the bank was asked %d times", b.charges)
	}
	other := charge()
	other.AmountCents++
	_, err = s.Charge(t.Context(), other)
	wants(t, err, codes.FailedPrecondition, problem.IdempotencyKeyReused, false)
	other = charge()
	other.CardToken = "tok_other"
	_, err = s.Charge(t.Context(), other)
	wants(t, err, codes.FailedPrecondition, problem.IdempotencyKeyReused, false)
	raw, err := s.payments.redis.Get(t.Context(), keyspace.Payment(id)).Result()
	if err != nil || strings.Contains(raw, "tok_") {
		t.Errorf("record %s, %v", raw, err)
	}
	// Undone, twice, and then not to be charged any more.
	for range 2 {
		got, err := s.Cancel(t.Context(), &paymentv1.CancelRequest{PaymentId: id})
		if err != nil || got.GetPayment().GetState() != refunded || got.GetPayment().GetAmountCents() != 4500 {
			t.Errorf("cancel: %v, %v", got, err)
		}
	}
	if b.refunds != 1 {
		t.Errorf("the bank was asked for %d refunds", b.refunds)
	}
	_, err = s.Charge(t.Context(), charge())
	wants(t, err, codes.FailedPrecondition, reasonPaymentCancelled, false)
}

func TestDeclined(t *testing.T) {
	b := newBank()
	s := newPayment(t, b, redisServer(t))
	req := charge()
	req.CardToken = "tok_declined"
	for range 2 {
		_, err := s.Charge(t.Context(), req)
		wants(t, err, codes.FailedPrecondition, reasonCardDeclined, false)
	}
	got, err := s.Cancel(t.Context(), &paymentv1.CancelRequest{PaymentId: id})
	if err != nil || got.GetPayment().GetState() != declined || b.charges != 1 || b.refunds != 0 {
		t.Errorf("cancel: %v, %v; %d charges, %d refunds", got, err, b.charges, b.refunds)
	}
}

func TestCancelOfWhatNeverCame(t *testing.T) {
	b := newBank()
	s := newPayment(t, b, redisServer(t))
	got, err := s.Cancel(t.Context(), &paymentv1.CancelRequest{PaymentId: id})
	if err != nil || got.GetPayment().GetState() != voided {
		t.Fatalf("cancel: %v, %v", got, err)
	}
	_, err = s.Charge(t.Context(), charge())
	wants(t, err, codes.FailedPrecondition, reasonPaymentCancelled, false)
	if len(b.captures) != 0 {
		t.Error("money was taken")
	}
}

// What the bank says when it settles nothing, and that the same call settles
// it later.
func TestBankDoesNotSettle(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		code      codes.Code
		reason    string
		retryable bool
	}{
		"overload": {problem.New(codes.ResourceExhausted, problem.Overloaded, "full").Retry(time.Second), codes.ResourceExhausted, problem.Overloaded, true},
		"quota":    {problem.New(codes.ResourceExhausted, reasonQuotaExceeded, "quota").Retry(time.Second), codes.ResourceExhausted, reasonQuotaExceeded, true},
		"away":     {problem.New(codes.Unavailable, "", "connection refused at 127.0.0.1:9"), codes.Unavailable, reasonBankAway, true},
		"fault":    {problem.New(codes.Internal, problem.Internal, "oops"), codes.Unavailable, reasonBankAway, true},
		"stopped":  {problem.New(codes.Unavailable, problem.BreakerOpen, "stopped").Retry(time.Second), codes.Unavailable, problem.BreakerOpen, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank()
			s := newPayment(t, b, redisServer(t))
			fail := c.err
			b.after = func(context.Context, string) error { return fail } // its effect is there all the same
			_, err := s.Charge(t.Context(), charge())
			wants(t, err, c.code, c.reason, c.retryable)
			if strings.Contains(problem.From(err).Message, "127.0.0.1") {
				t.Error("the message tells an address")
			}
			if got := state(t, s); got != pending {
				t.Errorf("state %v", got)
			}
			fail = nil
			if _, err := s.Charge(t.Context(), charge()); err != nil || state(t, s) != captured {
				t.Errorf("asked again: %v, state %v", err, state(t, s))
			}
			fail = c.err
			_, err = s.Cancel(t.Context(), &paymentv1.CancelRequest{PaymentId: id})
			wants(t, err, c.code, c.reason, c.retryable)
			_, err = s.Charge(t.Context(), charge())
			wants(t, err, codes.FailedPrecondition, reasonPaymentCancelled, false)
			fail = nil
			if _, err = s.Cancel(t.Context(), &paymentv1.CancelRequest{PaymentId: id}); err != nil || state(t, s) != refunded {
				t.Errorf("cancelled again: %v, state %v", err, state(t, s))
			}
			if b.captures[id] != 1 || b.books[id] != bankRefunded {
				t.Errorf("%d captures, books %v", b.captures[id], b.books[id])
			}
		})
	}
}

// The answer of the bank is written down although the caller hung up while it
// was on its way.
func TestAnswerIsRecordedWithoutCaller(t *testing.T) {
	b := newBank()
	s := newPayment(t, b, redisServer(t))
	if _, err := s.Charge(t.Context(), charge()); err != nil {
		t.Fatal(err)
	}
	rec, err := s.payments.get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.settle(ctx, rec, refunded, 4500); err != nil || state(t, s) != refunded {
		t.Errorf("settle: %v, state %v", err, state(t, s))
	}
}

func TestConcurrentCharges(t *testing.T) {
	b := newBank()
	socket := redisServer(t)
	replicas := []*server{newPayment(t, b, socket), newPayment(t, b, socket)}
	answers := make([]*paymentv1.ChargeResponse, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			var err error
			if answers[i], err = replicas[i%2].Charge(t.Context(), charge()); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if slices.ContainsFunc(answers, func(a *paymentv1.ChargeResponse) bool { return !proto.Equal(a, answers[0]) }) {
		t.Errorf("answers differ: %v", answers)
	}
	if b.captures[id] != 1 {
		t.Errorf("%d captures", b.captures[id])
	}
}

// The service as it is run, with Redis and the bank away: it starts, says so
// within 250 ms, and refuses bad requests.
func TestServiceWithoutRedis(t *testing.T) {
	var addrs [3]string
	for i := range addrs {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = lis.Addr().String()
		lis.Close()
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := boot.Run(ctx, spec(), []string{
			"SPILLWAY_GRPC_ADDR=" + addrs[0], "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_REDIS_ADDR=" + addrs[1],
			"SPILLWAY_BANK_TARGET=" + addrs[2], "SPILLWAY_START_TIMEOUT=50ms", "SPILLWAY_CAPACITY_SERVICE_TIME=0s",
		}, t.Output())
		if err != nil {
			t.Errorf("run: %v", err)
		}
	})
	defer wg.Wait()
	defer stop()
	conn, err := grpc.NewClient(addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := paymentv1.NewPaymentServiceClient(conn)
	deadline := time.Now().Add(20 * time.Second)
	for {
		begin := time.Now()
		_, err = client.Charge(t.Context(), charge(), grpc.WaitForReady(true))
		took := time.Since(begin)
		if problem.Reason(err) == problem.DependencyAway && took < 250*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("without Redis: %v after %v", err, took)
		}
	}
	wants(t, err, codes.Unavailable, problem.DependencyAway, true)
	bad := charge()
	bad.AmountCents = -1
	_, err = client.Charge(t.Context(), bad)
	wants(t, err, codes.InvalidArgument, problem.InvalidArgument, false)
}
