package retry

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

const hold = inventoryv1.InventoryService_Hold_FullMethodName

// apply sets knobs.
func apply(t testing.TB, set *knobs.Set, values map[string]string) {
	t.Helper()
	if err := set.Apply(values); err != nil {
		t.Fatal(err)
	}
}

// TestTheBudgetBoundsWhatIsSent is a callee that fails a share of what it gets,
// a tenth of a second each, in virtual time: bad luck that a budget hides, and
// a fault that it does not make worse.
func TestTheBudgetBoundsWhatIsSent(t *testing.T) {
	const calls = 2000
	for name, c := range map[string]struct {
		mode      string
		fails     float64 // of what is sent
		leastSent int
		mostSent  int
		mostLost  int // calls that fail
	}{
		"budget, well":           {Budget, 0, calls, calls, 0},
		"budget, bad luck":       {Budget, 0.05, calls * 103 / 100, calls * 107 / 100, calls / 100},
		"budget, a fault of all": {Budget, 1, calls * 110 / 100, calls*110/100 + 10, calls},
		"naive, a fault of all":  {Naive, 1, calls * 3, calls * 3, calls},
		"plain, a fault of all":  {Plain, 1, calls * 3, calls * 3, calls},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := knobs.NewSet()
				p := policy(t, 3, set).For("inventory")
				apply(t, set, map[string]string{"retry.mode": c.mode})
				draw, sent, lost := rand.New(rand.NewPCG(1, 2)), 0, 0
				for range calls {
					err := p.Unary(t.Context(), hold, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
						sent++
						time.Sleep(100 * time.Millisecond) // virtual: the callee's work
						if draw.Float64() < c.fails {
							return status.Error(codes.Unavailable, "away")
						}
						return nil
					})
					if err != nil {
						lost++
					}
				}
				if sent < c.leastSent || sent > c.mostSent || lost > c.mostLost {
					t.Errorf("%d calls: %d sent and %d failed; want %d to %d sent, at most %d failed", calls, sent, lost, c.leastSent, c.mostSent, c.mostLost)
				}
			})
		})
	}
}

func TestWhoHandlesARetryRetriesNothing(t *testing.T) {
	for mode, want := range map[string]int{Plain: 3, Naive: 3, Budget: 1} {
		synctest.Test(t, func(t *testing.T) {
			set := knobs.NewSet()
			p := policy(t, 3, set).For("inventory")
			apply(t, set, map[string]string{"retry.mode": mode})
			sent := 0
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(attempt.Header, "2"))
			_ = p.Unary(ctx, hold, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				sent++
				md, _ := metadata.FromOutgoingContext(ctx)
				if got := md.Get(attempt.Header); mode == Budget && (len(got) != 1 || got[0] != "2") {
					t.Errorf("the number does not travel on: %v", md)
				}
				return status.Error(codes.Unavailable, "away")
			})
			if sent != want {
				t.Errorf("mode %s: while handling a retry a call is sent %d times, want %d", mode, sent, want)
			}
		})
	}
}

// TestWhatCannotBeSentCostsNoToken looks at what is left of the budget after
// failures that no retry follows, and at the numbers of those that one follows.
func TestWhatCannotBeSentCostsNoToken(t *testing.T) {
	away := status.Error(codes.Unavailable, "away")
	for name, c := range map[string]struct {
		method   string
		attempts string
		err      error
		sent     string // the numbers of the attempts
	}{
		"not idempotent":        {sessionv1.SessionService_SignIn_FullMethodName, "3", away, "1"},
		"one attempt":           {hold, "1", away, "1"},
		"refused":               {hold, "3", problem.New(codes.ResourceExhausted, problem.Overloaded, "m").Retry(0), "1"},
		"a breaker is open":     {hold, "3", problem.New(codes.Unavailable, problem.BreakerOpen, "m").Retry(0), "1"},
		"no time for the wait":  {hold, "3", problem.New(codes.Unavailable, problem.NotServingYet, "m").Retry(time.Minute), "1"},
		"the call's time is up": {hold, "3", context.DeadlineExceeded, "1"},
		"away":                  {hold, "3", away, "1 2 3"},
		"an attempt timed out":  {hold, "5", problem.New(codes.DeadlineExceeded, problem.AttemptTimeout, "m").Retry(0), "1 2 3 4 5"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := knobs.NewSet()
				p := policy(t, 3, set).For("inventory")
				apply(t, set, map[string]string{"retry.mode": Budget, "retry.attempts": c.attempts, "retry.budget_ratio": "0"})
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				var numbers []string
				err := p.Unary(ctx, c.method, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					md, _ := metadata.FromOutgoingContext(ctx)
					numbers = append(numbers, append(md.Get(attempt.Header), "1")[0])
					return c.err
				})
				if got := strings.Join(numbers, " "); got != c.sent || status.Code(err) != status.Code(c.err) && err != c.err {
					t.Errorf("attempts %s were sent and gave %v; want %s, %v", got, err, c.sent, c.err)
				}
				spent := 10 // the budget's burst, less what is left
				for p.spender.Spend() {
					spent--
				}
				if spent != len(numbers)-1 {
					t.Errorf("%d tokens were spent for %d attempts", spent, len(numbers))
				}
			})
		})
	}
}

func TestRetriesAreCountedByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := knobs.NewSet()
		p := policy(t, 3, set)
		apply(t, set, map[string]string{"retry.mode": Naive})
		left := []error{status.Error(codes.Unavailable, "away"), problem.New(codes.ResourceExhausted, problem.Overloaded, "m").Retry(0)}
		if err := p.For("inventory").Unary(t.Context(), hold, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			if len(left) == 0 {
				return nil
			}
			err := left[0]
			left = left[1:]
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := testutil.CollectAndCompare(p.retries, strings.NewReader(`
# HELP spillway_retries_total Calls sent again, by the reason for which the attempt before failed.
# TYPE spillway_retries_total counter
spillway_retries_total{callee="inventory",reason="DEPENDENCY_AWAY"} 1
spillway_retries_total{callee="inventory",reason="OVERLOADED"} 1
`)); err != nil {
			t.Error(err)
		}
	})
}
