package retry

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/budget"
	"spillway.dev/platform/outbound/idempotency"
	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatMayPass(t *testing.T) {
	none, all, naive := []string(nil), []string{Plain, Budget, Naive}, []string{Naive}
	for _, c := range []struct {
		err  error
		want []string // the modes in which it is sent again
	}{
		{status.Error(codes.Unavailable, "connection refused"), all},
		{problem.New(codes.Unavailable, problem.DependencyAway, "m").Retry(0), all},
		{problem.New(codes.Unavailable, problem.NotServingYet, "m").Retry(time.Second), all},
		{problem.New(codes.Unavailable, "JOURNAL_FAILED", "m"), none}, // it says that it will not pass
		{problem.New(codes.Unavailable, problem.BreakerOpen, "m").Retry(time.Second), none},
		{problem.New(codes.DeadlineExceeded, problem.AttemptTimeout, "m").Retry(0), []string{Budget, Naive}},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, "m").Retry(time.Second), naive},
		{problem.New(codes.ResourceExhausted, "QUOTA_EXCEEDED", "m").Retry(0), naive},
		{problem.New(codes.NotFound, "TICKET_PENDING", "m").Retry(time.Second), none},
		{problem.New(codes.FailedPrecondition, "SEAT_TAKEN", "m").Retry(0), none},
		{problem.New(codes.Aborted, "ORDER_IN_PROGRESS", "m").Retry(0), none},
		{status.Error(codes.Aborted, "conflict"), none},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, "m"), none},
		{problem.New(codes.Internal, problem.Internal, "m"), none},
		{problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "m").Retry(0), naive},
		{context.DeadlineExceeded, naive},
		{context.Canceled, none},
		{errors.New("odd"), none},
	} {
		for _, mode := range all {
			if got, want := passing(mode, problem.From(c.err)), slices.Contains(c.want, mode); got != want {
				t.Errorf("mode %s: %v may pass: %v, want %v", mode, c.err, got, want)
			}
		}
	}
}

func TestWaitGrowsToItsCeiling(t *testing.T) {
	longest := make([]time.Duration, 100)
	for range 2000 {
		rests := waits()
		for i := range longest {
			longest[i] = max(longest[i], rests.NextBackOff())
		}
	}
	for failed, ceiling := range map[int]time.Duration{1: 25, 2: 50, 3: 100, 5: 400, 6: 500, 40: 500, 100: 500} {
		ceiling *= time.Millisecond
		if got := longest[failed-1]; got > ceiling+1 || got < ceiling*9/10 {
			t.Errorf("after %d failures the longest of 2000 waits is %v, want nearly %v", failed, got, ceiling)
		}
	}
}

func TestTheServersWishIsALowerBound(t *testing.T) {
	asked := problem.New(codes.Unavailable, "R", "m").Retry(2 * time.Second)
	for mode, want := range map[string]time.Duration{Plain: 2010 * time.Millisecond, Budget: 2010 * time.Millisecond, Naive: 10 * time.Millisecond} {
		if got := pause(mode, asked, 10*time.Millisecond); got != want {
			t.Errorf("mode %s: asked to wait 2s, the wait is %v, want %v", mode, got, want)
		}
	}
}

// policy is one with a budget of its own.
func policy(t testing.TB, attempts int, set *knobs.Set) *Policy {
	t.Helper()
	shared, err := budget.New(set, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(attempts, set, idempotency.New(protoregistry.GlobalFiles), shared, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// send makes a call whose attempts fail as listed, then succeed, in virtual
// time; it gives the number of attempts, how long they took and the error.
func send(t *testing.T, attempts int, method string, timeout time.Duration, failures ...error) (sent int, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := policy(t, attempts, knobs.NewSet()).For("inventory")
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		begun := time.Now()
		err = p.Unary(ctx, method, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			sent++
			if sent <= len(failures) {
				return failures[sent-1]
			}
			return nil
		})
		took = time.Since(begun)
	})
	return sent, took, err
}

func TestRetries(t *testing.T) {
	const hold, signIn = inventoryv1.InventoryService_Hold_FullMethodName, sessionv1.SessionService_SignIn_FullMethodName
	away := status.Error(codes.Unavailable, "away")
	later := problem.New(codes.Unavailable, problem.NotServingYet, "m").Retry(3 * time.Second)
	full := problem.New(codes.ResourceExhausted, "QUOTA_EXCEEDED", "m").Retry(time.Millisecond)
	lost := problem.New(codes.Unavailable, "JOURNAL_FAILED", "m")
	bad := problem.New(codes.InvalidArgument, problem.InvalidArgument, "m")
	for name, c := range map[string]struct {
		attempts    int
		method      string
		timeout     time.Duration
		failures    []error
		sent        int
		atLeast, up time.Duration
		err         error
	}{
		"at once well":             {3, hold, time.Second, nil, 1, 0, 0, nil},
		"well again":               {3, hold, time.Second, []error{away}, 2, 0, 25 * time.Millisecond, nil},
		"well at the last":         {3, hold, time.Second, []error{away, away}, 3, 0, 75 * time.Millisecond, nil},
		"not well again":           {3, hold, time.Second, []error{away, away, away, away}, 3, 0, 75 * time.Millisecond, away},
		"one attempt":              {1, hold, time.Second, []error{away}, 1, 0, 0, away},
		"not idempotent":           {3, signIn, time.Second, []error{away}, 1, 0, 0, away},
		"not passing":              {3, hold, time.Second, []error{bad}, 1, 0, 0, bad},
		"refused for a while":      {3, hold, time.Second, []error{full}, 1, 0, 0, full},
		"away for good":            {3, hold, time.Second, []error{lost}, 1, 0, 0, lost},
		"then refused":             {3, hold, time.Second, []error{away, full}, 2, 0, 25 * time.Millisecond, full},
		"then not passing":         {3, hold, time.Second, []error{away, bad}, 2, 0, 25 * time.Millisecond, bad},
		"asked to wait":            {3, hold, 10 * time.Second, []error{later}, 2, 3 * time.Second, 3025 * time.Millisecond, nil},
		"asked to wait too long":   {3, hold, 2 * time.Second, []error{later}, 1, 0, 0, later},
		"too long the second time": {4, hold, 4 * time.Second, []error{later, later}, 2, 3 * time.Second, 3025 * time.Millisecond, later},
	} {
		t.Run(name, func(t *testing.T) {
			sent, took, err := send(t, c.attempts, c.method, c.timeout, c.failures...)
			if sent != c.sent || took < c.atLeast || took > c.up || !errors.Is(err, c.err) {
				t.Errorf("sent %d times in %v, error %v; want %d in %v to %v, error %v", sent, took, err, c.sent, c.atLeast, c.up, c.err)
			}
		})
	}
}

func TestACallerWhoGivesUpEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := policy(t, 3, knobs.NewSet()).For("inventory")
		ctx, cancel := context.WithCancel(t.Context())
		begun, sent := time.Now(), 0
		time.AfterFunc(time.Second, cancel)
		err := p.Unary(ctx, inventoryv1.InventoryService_Hold_FullMethodName, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			sent++
			return problem.New(codes.Unavailable, problem.DependencyAway, "m").Retry(time.Hour)
		})
		if took := time.Since(begun); sent != 1 || took != time.Second || status.Code(err) != codes.Canceled {
			t.Errorf("sent %d times, ended after %v with %v", sent, took, err)
		}
	})
}
