package problem_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"spillway.dev/platform/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crossing runs a server whose one method returns err, through wire if that is wanted, and gives what its caller gets.
func crossing(t *testing.T, err error, wire bool) error {
	t.Helper()
	return over(t, func(context.Context) error {
		if wire {
			return problem.Wire(err)
		}
		return err
	}, t.Context(), "")
}

func over(t *testing.T, handle func(context.Context) error, ctx context.Context, text string) error {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 10))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Do",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&wrapperspb.StringValue{}); err != nil {
				return nil, err
			}
			return &wrapperspb.StringValue{}, handle(ctx)
		},
	}}}, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	got := conn.Invoke(ctx, "/test.Service/Do", wrapperspb.String(text), &wrapperspb.StringValue{})
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	return got
}

func same(a, b *problem.Problem) bool {
	return a.Code == b.Code && a.Reason == b.Reason && a.Message == b.Message && a.Retryable == b.Retryable &&
		a.RetryAfter == b.RetryAfter && maps.Equal(a.Metadata, b.Metadata)
}

func TestAProblemCrossesRPCWhole(t *testing.T) {
	for name, p := range map[string]*problem.Problem{
		"plain":             problem.New(codes.NotFound, "NO_SUCH_SHOW", "there is no show %q", "lear"),
		"retryable":         problem.New(codes.Unavailable, problem.DependencyAway, "later").Retry(0),
		"with a time":       problem.New(codes.ResourceExhausted, problem.Overloaded, "later").Retry(1500 * time.Millisecond),
		"with facts":        problem.New(codes.AlreadyExists, "SEAT_TAKEN", "taken").With("seat", "B-3").With("show", "lear"),
		"with a cause":      problem.New(codes.Unavailable, problem.DependencyAway, "later").Because(errors.New("10.0.0.7 refused")),
		"without a reason":  problem.New(codes.Aborted, "", "somebody was faster"),
		"without a message": problem.New(codes.FailedPrecondition, "HOLD_EXPIRED", ""),
	} {
		t.Run(name, func(t *testing.T) {
			for kind, sent := range map[string]error{
				"itself":  p,
				"wrapped": fmt.Errorf("order 7 with token=hunter2: %w", fmt.Errorf("hold: %w", p)),
				"joined":  errors.Join(errors.New("token=hunter2"), p),
			} {
				received := crossing(t, sent, true)
				if strings.Contains(received.Error(), "hunter2") || strings.Contains(received.Error(), "10.0.0.7") {
					t.Errorf("%s: what was around it crossed too: %v", kind, received)
				}
				for depth, err := range map[string]error{"received": received, "received and wrapped": fmt.Errorf("call order: %w", received)} {
					if got := problem.From(err); !same(got, p) {
						t.Errorf("%s, %s: got %+v, want %+v", kind, depth, got, p)
					}
				}
				if p.Reason != "" && !errors.Is(problem.From(received), p) {
					t.Errorf("%s: errors.Is does not hold with what it was made from", kind)
				}
				// And on, unchanged, over the next hop.
				if got := problem.From(crossing(t, problem.From(received), true)); !same(got, p) {
					t.Errorf("%s, two hops: got %+v, want %+v", kind, got, p)
				}
			}
			// Also where no chain is in between.
			if got := problem.From(crossing(t, p, false)); !same(got, p) {
				t.Errorf("from a bare server: got %+v, want %+v", got, p)
			}
		})
	}
}

func TestOtherErrorsBecomeProblems(t *testing.T) {
	foreign, err := status.New(codes.InvalidArgument, "bad request").WithDetails(
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "seats"}}},
		&errdetails.ErrorInfo{Domain: "example.org", Reason: "THEIRS"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		err       error
		code      codes.Code
		reason    string
		retryable bool
	}{
		"a deadline":           {fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded, problem.DeadlineExceeded, true},
		"a cancellation":       {fmt.Errorf("read: %w", context.Canceled), codes.Canceled, problem.Canceled, false},
		"anything":             {errors.New("pq: password=hunter2 is wrong"), codes.Internal, problem.Internal, false},
		"a status":             {status.Error(codes.NotFound, "no"), codes.NotFound, "", false},
		"a status, wrapped":    {fmt.Errorf("x: %w", status.Error(codes.Unauthenticated, "no")), codes.Unauthenticated, "", false},
		"a transport's":        {status.Error(codes.Unavailable, "connection refused"), codes.Unavailable, problem.DependencyAway, true},
		"a transport's, late":  {status.Error(codes.DeadlineExceeded, "context deadline exceeded"), codes.DeadlineExceeded, problem.DeadlineExceeded, true},
		"a transport's, gone":  {status.Error(codes.Canceled, "context canceled"), codes.Canceled, problem.Canceled, false},
		"a quota's":            {status.Error(codes.ResourceExhausted, "quota"), codes.ResourceExhausted, "", false},
		"somebody else's info": {foreign.Err(), codes.InvalidArgument, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := problem.From(test.err)
			if p.Code != test.code || p.Reason != test.reason || p.Retryable != test.retryable || problem.Reason(test.err) != test.reason {
				t.Errorf("got %+v", p)
			}
			if strings.Contains(p.Message, "hunter2") {
				t.Errorf("the text leaked: %s", p.Message)
			}
			got := problem.From(crossing(t, test.err, true))
			if got.Code != test.code || got.Reason != test.reason || got.Retryable != test.retryable {
				t.Errorf("over RPC it became %+v", got)
			}
		})
	}
	details := status.Convert(crossing(t, foreign.Err(), true)).Details()
	if len(details) != 2 {
		t.Errorf("details of others are lost on the way: %v", details)
	}
}

func TestWhatTheTransportItselfSays(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, test := range map[string]struct {
		err    error
		reason string
	}{
		"too large": {over(t, nothing, t.Context(), strings.Repeat("x", 2<<10)), problem.MessageTooLarge},
		"too late":  {over(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, late, ""), problem.DeadlineExceeded},
		"gone":      {over(t, nothing, gone, ""), problem.Canceled},
	} {
		if got := problem.Reason(test.err); got != test.reason {
			t.Errorf("%s: reason is %q, want %q, of %v", name, got, test.reason, test.err)
		}
	}
}

func TestNothingIsNoProblem(t *testing.T) {
	if problem.From(nil) != nil || problem.Wire(nil) != nil || problem.Reason(nil) != "" {
		t.Error("nil became a problem")
	}
	var none *problem.Problem
	if got := problem.From(fmt.Errorf("x: %w", none)); got == nil || got.Code != codes.Internal {
		t.Errorf("a typed nil became %v", got)
	}
	if err := crossing(t, problem.New(codes.OK, "ODD", "not a failure"), true); status.Code(err) != codes.Internal {
		t.Errorf("a problem with code OK crossed as %v", err)
	}
}

func TestCopiesDoNotShare(t *testing.T) {
	base := problem.New(codes.NotFound, "NO_SUCH_SHOW", "no").With("a", "1")
	_ = base.With("b", "2").Retry(time.Second).Because(errors.New("x"))
	if len(base.Metadata) != 1 || base.Retryable || base.RetryAfter != 0 || errors.Unwrap(base) != nil {
		t.Errorf("the original changed: %+v", base)
	}
	cause := errors.New("dial tcp")
	p := base.Because(cause)
	if !errors.Is(p, cause) || p.Error() != "NO_SUCH_SHOW: no: dial tcp" || base.Error() != "NO_SUCH_SHOW: no" {
		t.Errorf("cause: %v; without: %v", p, base)
	}
	if errors.Is(p, problem.New(codes.NotFound, "NO_SUCH_SEAT", "no")) || errors.Is(p, problem.New(codes.Internal, "NO_SUCH_SHOW", "no")) {
		t.Error("problems of other reasons or codes are taken for the same")
	}
	if p := base.Retry(-time.Second); p.RetryAfter != 0 {
		t.Errorf("a time in the past: %v", p.RetryAfter)
	}
}
