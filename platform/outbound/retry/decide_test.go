package retry

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatMayPass(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{status.Error(codes.Unavailable, "connection refused"), true},
		{problem.New(codes.Unavailable, problem.DependencyAway, "m").Retry(0), true},
		{problem.New(codes.Unavailable, problem.NotServingYet, "m").Retry(time.Second), true},
		{problem.New(codes.Unavailable, "JOURNAL_FAILED", "m"), false}, // it says that it will not pass
		{problem.New(codes.ResourceExhausted, problem.Overloaded, "m").Retry(time.Second), false},
		{problem.New(codes.ResourceExhausted, "QUOTA_EXCEEDED", "m").Retry(0), false},
		{problem.New(codes.NotFound, "TICKET_PENDING", "m").Retry(time.Second), false},
		{problem.New(codes.FailedPrecondition, "SEAT_TAKEN", "m").Retry(0), false},
		{problem.New(codes.Aborted, "ORDER_IN_PROGRESS", "m").Retry(0), false},
		{status.Error(codes.Aborted, "conflict"), false},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, "m"), false},
		{problem.New(codes.Internal, problem.Internal, "m"), false},
		{problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "m").Retry(0), false},
		{context.DeadlineExceeded, false},
		{context.Canceled, false},
		{errors.New("odd"), false},
	} {
		if got := passing(problem.From(c.err)); got != c.want {
			t.Errorf("%v may pass: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestWaitGrowsToItsCeiling(t *testing.T) {
	none := &problem.Problem{}
	for failed, want := range map[int]time.Duration{1: 25, 2: 50, 3: 100, 5: 400, 6: 500, 40: 500, 100: 500} {
		if got := wait(failed, none, 0.999999); got > want*time.Millisecond || got < want*time.Millisecond*99/100 {
			t.Errorf("after %d failures the longest wait is %v, want %dms", failed, got, want)
		}
		if got := wait(failed, none, 0); got != 0 {
			t.Errorf("after %d failures the shortest wait is %v, want 0", failed, got)
		}
	}
	asked := problem.New(codes.Unavailable, "R", "m").Retry(2 * time.Second)
	if got := wait(1, asked, 0.5); got < 2*time.Second || got > 2*time.Second+25*time.Millisecond {
		t.Errorf("asked to wait 2s, the wait is %v", got)
	}
}

func TestIdempotencyIsReadFromTheContract(t *testing.T) {
	m := methods{files: protoregistry.GlobalFiles}
	for method, want := range map[string]bool{
		inventoryv1.InventoryService_Hold_FullMethodName:            true, // IDEMPOTENT
		inventoryv1.InventoryService_GetAvailability_FullMethodName: true, // NO_SIDE_EFFECTS
		sessionv1.SessionService_SignIn_FullMethodName:              false,
		sessionv1.SessionService_Refresh_FullMethodName:             false,
		"/spillway.inventory.v1.InventoryService/NoSuch":            false,
		"/no.such.Service/Method":                                   false,
		"/spillway.inventory.v1/InventoryService":                   false, // a service, no method
		"": false,
	} {
		for range 2 { // looked up, then remembered
			if got := m.idempotent(method); got != want {
				t.Errorf("%q may be sent twice: %v, want %v", method, got, want)
			}
		}
	}
}

// send makes a call whose attempts fail as listed, then succeed, in virtual
// time; it gives the number of attempts, how long they took and the error.
func send(t *testing.T, attempts int, method string, timeout time.Duration, failures ...error) (sent int, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := New(attempts, slog.New(slog.DiscardHandler))
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
		p := New(3, slog.New(slog.DiscardHandler))
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
