package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

// busyRetry is how long a caller above the concurrency limit is told to wait:
// a few syncs of a slow disk.
const busyRetry = 50 * time.Millisecond

// server answers BankService.
type server struct {
	bankv1.UnimplementedBankServiceServer
	books    *ledger
	quota    *quota
	slots    chan struct{}
	breaches *prometheus.CounterVec
	now      func() time.Time
}

func register(to grpc.ServiceRegistrar, books *ledger, limit *quota, cfg *config, set *knobs.Set, reg prometheus.Registerer, now func() time.Time) error {
	s := &server{
		books: books,
		quota: limit,
		slots: make(chan struct{}, cfg.Concurrency),
		now:   now,
		breaches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_bank_quota_breaches_total",
			Help: "Calls refused because they were above the bank's rate or concurrency limit.",
		}, []string{"limit"}),
	}
	for _, limit := range []string{limitRate, limitConcurrency} {
		s.breaches.WithLabelValues(limit) // a series that is there from the start shows its first breach as an increase
	}
	set.Int("bank.quota_per_second", int64(cfg.QuotaPerSecond), 1, maxQuota,
		"charges a second that the bank takes, and as many at once after a quiet second").OnChange(s.quota.set)
	bankv1.RegisterBankServiceServer(to, s)
	return reg.Register(s.breaches)
}

// The limits, as the metric's label and the problem's metadata name them.
const (
	limitRate        = "rate"
	limitConcurrency = "concurrency"
)

// Charge takes money once for a reference.
func (s *server) Charge(ctx context.Context, req *bankv1.ChargeRequest) (*bankv1.ChargeResponse, error) {
	if wait, ok := s.quota.admit(s.now()); !ok {
		return nil, s.refuse(limitRate, wait)
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	txn, err := s.books.charge(ctx, req)
	if err != nil {
		return nil, err
	}
	return &bankv1.ChargeResponse{Transaction: txn}, nil
}

// Refund gives back what was taken for a reference, or voids it.
func (s *server) Refund(ctx context.Context, req *bankv1.RefundRequest) (*bankv1.RefundResponse, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	txn, err := s.books.refund(ctx, req)
	if err != nil {
		return nil, err
	}
	return &bankv1.RefundResponse{Transaction: txn}, nil
}

// ListTransactions streams the books as they are at the start of the call.
func (s *server) ListTransactions(_ *bankv1.ListTransactionsRequest, stream grpc.ServerStreamingServer[bankv1.ListTransactionsResponse]) error {
	txns, err := s.books.all(stream.Context())
	if err != nil {
		return err
	}
	for _, txn := range txns {
		if err := stream.Send(&bankv1.ListTransactionsResponse{Transaction: txn}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) enter() (leave func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	default:
		return nil, s.refuse(limitConcurrency, busyRetry)
	}
}

func (s *server) refuse(limit string, wait time.Duration) error {
	s.breaches.WithLabelValues(limit).Inc()
	return problem.New(codes.ResourceExhausted, reasonQuotaExceeded,
		"the bank's %s limit is reached and nothing was done; try again after the given time", limit).
		With("limit", limit).Retry(wait)
}
