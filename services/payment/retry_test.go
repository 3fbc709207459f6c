package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/redistest"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// One Charge of a service that may retry, through its whole chain: a bank that
// refuses is asked once, whatever it says of being retryable; one that is away
// is asked again.
func TestARefusalOfTheBankIsNotRepeated(t *testing.T) {
	redis, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		err       error
		calls     int64
		code      codes.Code
		reason    string
		retryable bool
	}{
		"quota exhausted": {problem.New(codes.ResourceExhausted, reasonQuotaExceeded, "full").Retry(time.Millisecond), 1,
			codes.ResourceExhausted, reasonQuotaExceeded, true},
		"journal failed": {problem.New(codes.Unavailable, "JOURNAL_FAILED", "no"), 1, codes.Unavailable, reasonBankAway, true},
		"away":           {problem.New(codes.Unavailable, problem.DependencyAway, "no").Retry(0), 3, codes.Unavailable, reasonBankAway, true},
	} {
		t.Run(name, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int64
			b := newBank()
			b.before = func(context.Context, string) error {
				calls.Add(1)
				return c.err
			}
			srv := grpc.NewServer()
			bankv1.RegisterBankServiceServer(srv, b)
			var served sync.WaitGroup
			served.Go(func() { _ = srv.Serve(lis) })
			t.Cleanup(func() {
				srv.Stop()
				served.Wait()
			})
			r := boottest.Start(t, spec(), "SPILLWAY_REDIS_ADDR="+redis.Addr(), "SPILLWAY_BANK_TARGET="+lis.Addr().String(), "SPILLWAY_RETRY_ATTEMPTS=3")
			r.WaitServing()
			_, err = paymentv1.NewPaymentServiceClient(r.Conn).Charge(t.Context(), charge())
			wants(t, err, c.code, c.reason, c.retryable)
			if got := calls.Load(); got != c.calls {
				t.Errorf("the bank was asked %d times, want %d", got, c.calls)
			}
		})
	}
}
