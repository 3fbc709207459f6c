package hedge

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/outbound/budget"
	"spillway.dev/platform/outbound/idempotency"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	read  = inventoryv1.InventoryService_GetAvailability_FullMethodName
	write = inventoryv1.InventoryService_Hold_FullMethodName
)

// hedger is for calls to inventory, with the knobs that it reads.
type hedger struct {
	*Caller
	set *knobs.Set
}

// hedging is on, with a delay of 50 ms.
func hedging(t testing.TB, ratio string) hedger {
	t.Helper()
	set, reg := knobs.NewSet(), prometheus.NewRegistry()
	shared, err := budget.New(set, reg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(set, idempotency.New(protoregistry.GlobalFiles), shared, reg)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Apply(map[string]string{"hedge.mode": "on", "hedge.delay": "50ms", "retry.budget_ratio": ratio}); err != nil {
		t.Fatal(err)
	}
	return hedger{p.For("inventory"), set}
}

// answer is what one attempt is given: after a time, an error or a version.
type answer struct {
	after   time.Duration
	err     error
	version int32
}

// callee gives the nth attempt the nth answer, and puts down what became of it.
type callee struct {
	answers []answer
	mu      sync.Mutex
	numbers []string // of the attempts, in the order of sending
	ended   int
}

func (c *callee) invoke(ctx context.Context, _ string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	number := ""
	if v := md.Get(attempt.Header); len(v) == 1 {
		number = v[0]
	}
	c.mu.Lock()
	a := c.answers[len(c.numbers)]
	c.numbers = append(c.numbers, number)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.ended++
		c.mu.Unlock()
	}()
	select {
	case <-time.After(a.after):
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if a.err != nil {
		return a.err
	}
	reply.(*inventoryv1.GetAvailabilityResponse).Rows = a.version
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = metadata.Pairs("from", number)
		case grpc.TrailerCallOption:
			*o.TrailerAddr = metadata.Pairs("from", number)
		case grpc.PeerCallOption:
			o.PeerAddr.LocalAddr = nil
		}
	}
	return nil
}

func TestTheFirstAnswerCounts(t *testing.T) {
	const ms = time.Millisecond
	away, full := status.Error(codes.Unavailable, "away"), status.Error(codes.ResourceExhausted, "full")
	for name, c := range map[string]struct {
		method    string
		timeout   time.Duration
		answers   []answer
		took      time.Duration
		version   int32
		err       error
		sent, won int
	}{
		"answered in time":               {read, time.Second, []answer{{40 * ms, nil, 1}}, 40 * ms, 1, nil, 1, 0},
		"failed in time":                 {read, time.Second, []answer{{40 * ms, away, 0}}, 40 * ms, 0, away, 1, 0},
		"the second is faster":           {read, time.Second, []answer{{500 * ms, nil, 1}, {10 * ms, nil, 2}}, 60 * ms, 2, nil, 2, 1},
		"the first is faster after all":  {read, time.Second, []answer{{70 * ms, nil, 1}, {100 * ms, nil, 2}}, 70 * ms, 1, nil, 2, 0},
		"the second is refused":          {read, time.Second, []answer{{70 * ms, nil, 1}, {0, full, 0}}, 70 * ms, 1, nil, 2, 0},
		"the first fails, then no":       {read, time.Second, []answer{{60 * ms, away, 0}, {50 * ms, nil, 2}}, 100 * ms, 2, nil, 2, 1},
		"both fail: the first's word":    {read, time.Second, []answer{{60 * ms, away, 0}, {50 * ms, full, 0}}, 100 * ms, 0, away, 2, 0},
		"neither in the call's time":     {read, 200 * ms, []answer{{time.Second, nil, 1}, {time.Second, nil, 2}}, 200 * ms, 0, status.Error(codes.DeadlineExceeded, ""), 2, 0},
		"what changes is not sent twice": {write, time.Second, []answer{{500 * ms, nil, 1}}, 500 * ms, 1, nil, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, served := hedging(t, "0.1"), &callee{answers: c.answers}
				ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
				defer cancel()
				begun, reply := time.Now(), &inventoryv1.GetAvailabilityResponse{}
				var header, trailer metadata.MD
				var at peer.Peer
				err := h.Unary(ctx, c.method, nil, reply, nil, served.invoke, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&at))
				if took := time.Since(begun); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if status.Code(err) != status.Code(c.err) || reply.GetRows() != c.version {
					t.Errorf("the answer is %v, error %v; want version %d, error %v", reply, err, c.version, c.err)
				}
				if len(served.numbers) != c.sent || served.ended != c.sent {
					t.Errorf("%d were sent and %d ended when the call did, want %d", len(served.numbers), served.ended, c.sent)
				}
				if got := int(testutil.ToFloat64(h.won)); got != c.won {
					t.Errorf("%d counted as won, want %d", got, c.won)
				}
				if got := int(testutil.ToFloat64(h.sent)); got != c.sent-1 {
					t.Errorf("%d counted as sent, want %d", got, c.sent-1)
				}
				if c.err == nil && c.won == 1 && (len(header.Get("from")) != 1 || header.Get("from")[0] != "2" || trailer.Get("from")[0] != "2") {
					t.Errorf("header %v and trailer %v are not those of the answer", header, trailer)
				}
			})
		})
	}
}

func TestHedgesLiveOnTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hedging(t, "0")
		for n := range 20 {
			served := &callee{answers: []answer{{100 * time.Millisecond, nil, 1}, {100 * time.Millisecond, nil, 2}}}
			if err := h.Unary(t.Context(), read, nil, &inventoryv1.GetAvailabilityResponse{}, nil, served.invoke); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 2, false: 1}[n < 10]; len(served.numbers) != want {
				t.Errorf("call %d was sent %d times, want %d", n+1, len(served.numbers), want)
			}
		}
	})
}

func TestWhatIsSentAgainAboveIsNotHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, served := hedging(t, "1"), &callee{answers: []answer{{time.Second, nil, 1}, {0, errors.New("sent twice"), 0}}}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(attempt.Header, "2"))
		if err := h.Unary(ctx, read, nil, &inventoryv1.GetAvailabilityResponse{}, nil, served.invoke); err != nil || len(served.numbers) != 1 {
			t.Errorf("sent %d times, error %v", len(served.numbers), err)
		}
	})
}
