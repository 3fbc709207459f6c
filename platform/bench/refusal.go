package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// The sides of the comparison of a refused call with one that is served: a server alone, as boot builds it, with callers in
// another process. What counts is the CPU of the server, since it is the server that is overloaded.
const (
	// Served burns for each call what the lightest RPC of the mesh burns where capacity takes CPU.
	Served Side = "served"
	// Hold does for each call what inventory does for a hold, one script in Redis, and takes no capacity.
	Hold Side = "hold"
	// Empty does nothing for a call: what is left is gRPC and the chain.
	Empty Side = "empty"
	// Refused is the same server with no slot free for an hour, so that shedding refuses every call.
	Refused Side = "refused"
)

// lightest is the shortest of the service times with which the mesh burns CPU: session's, of
// k8s/components/capacity-cpu/service-times.yaml. No RPC of the mesh is served for less there.
const lightest = 2 * time.Millisecond

// redisVariable tells the children where Redis is.
const redisVariable = "BENCH_REDIS_ADDR"

// Refusal is the server's CPU per call, in microseconds, of each side, and what a refused call takes as a share of what
// one of another side takes, round by round.
type Refusal struct {
	CPU, Share map[Side]Spread
}

// CompareRefusal has four servers, each a child process, answer the same calls in turn for the given number of rounds,
// after one that is not counted. On a busy machine it makes do with fewer once the budget is spent. redis-server must be
// on the PATH.
func CompareRefusal(ctx context.Context, rounds, callsPerRound int, budget time.Duration, environ []string) (_ Refusal, err error) {
	store, stop, err := startRedis(ctx)
	if err != nil {
		return Refusal{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	sides := []Side{Served, Hold, Empty, Refused}
	hops := map[Side]*hop{}
	defer func() {
		for _, h := range hops {
			err = errors.Join(err, h.end())
		}
	}()
	for _, side := range sides {
		// Two processors for each: as many as a replica that burns CPU has in the mesh.
		h, err := newHop(ctx, side, append(environ, redisVariable+"="+store, "GOMAXPROCS=2"))
		if err != nil {
			return Refusal{}, fmt.Errorf("start the %s side: %w", side, err)
		}
		hops[side] = h
	}
	spent, err := inTurn(sides, rounds, budget, func(side Side) (Cost, error) {
		calls := callsPerRound
		if side == Served { // a call of these takes as long as a dozen others, and far less chance is in it
			calls /= 16
		}
		return hops[side].round(ctx, calls)
	})
	if err != nil {
		return Refusal{}, err
	}
	r := Refusal{CPU: map[Side]Spread{}, Share: map[Side]Spread{}}
	for _, side := range sides {
		r.CPU[side] = Describe(spent[side])
		r.Share[side] = Describe(Ratios(spent[Refused], spent[side]))
	}
	return r, nil
}

// hop is a server in a child process and a connection to it.
type hop struct {
	side   Side
	child  *child
	conn   *grpc.ClientConn
	number atomic.Int64 // of the next call
}

func newHop(ctx context.Context, side Side, environ []string) (_ *hop, err error) {
	c, err := spawn(ctx, side, environ)
	if err != nil {
		return nil, err
	}
	h := &hop{side: side, child: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.end())
		}
	}()
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var addr string
	if err := json.Unmarshal(line, &addr); err != nil {
		return nil, err
	}
	if h.conn, err = grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, err
	}
	return h, h.prime(ctx)
}

func (h *hop) end() (err error) {
	if h.conn != nil {
		err = h.conn.Close()
	}
	return errors.Join(err, h.child.end())
}

// prime returns once the server answers as the side says: shedding refuses from the end of its first window on.
func (h *hop) prime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := h.call(ctx, 50*time.Millisecond, grpc.WaitForReady(true))
		if h.expected(err) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("calls do not end as they should: %w", err)
		}
	}
}

// expected tells whether a call ended as the side says.
func (h *hop) expected(err error) bool {
	if h.side != Refused {
		return err == nil
	}
	p := problem.From(err)
	return p != nil && p.Reason == problem.Overloaded && p.RetryAfter > 0 && p.Metadata[refusal.ByKey] == "shed"
}

// call is one call as order makes it to inventory.
func (h *hop) call(ctx context.Context, timeout time.Duration, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(identity.Header, "order", criticality.Header, criticality.Text(criticality.Standard, 64)))
	_, err := inventoryv1.NewInventoryServiceClient(h.conn).Hold(ctx, &inventoryv1.HoldRequest{
		HoldId: fmt.Sprintf("o-%026d", h.number.Add(1)), ShowId: "opening-night", SeatIds: []string{"B-3", "B-4"},
	}, opts...)
	return err
}

// round makes n calls and tells what they cost the server. Every call has to end as the side says, but for one in a
// hundred of Hold, which a busy machine may let wait for Redis in vain; it counts as a call.
func (h *hop) round(ctx context.Context, n int) (Cost, error) {
	before, err := h.child.run(1)
	if err != nil {
		return Cost{}, err
	}
	var wg sync.WaitGroup
	var otherwise atomic.Int64
	var last atomic.Pointer[error]
	for range callers {
		wg.Go(func() {
			for range n / callers {
				if err := h.call(ctx, 10*time.Second); !h.expected(err) {
					otherwise.Add(1)
					last.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	allowed := int64(0)
	if h.side == Hold {
		allowed = int64(n / 100)
	}
	if bad := otherwise.Load(); bad > allowed {
		return Cost{}, fmt.Errorf("%d of %d calls did not end as they should, the last with: %v", bad, n, *last.Load())
	}
	after, err := h.child.run(1)
	return Cost{Calls: n / callers * callers, CPU: after.CPU - before.CPU}, err
}

// answerCalls is the child process of a side: it serves, writes its address to out, then the CPU that it has used each time
// that a line comes in, until in ends.
func answerCalls(ctx context.Context, side Side, in io.Reader, out io.Writer) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	ctx, drain := context.WithCancel(ctx)
	defer drain()
	environ := append(os.Environ(), "SPILLWAY_GRPC_ADDR="+addr, "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_CAPACITY_SLOTS=1")
	values := map[string]string{}
	service, kind := "0s", "model"
	switch side {
	case Served:
		service, kind = lightest.String(), "cpu"
	case Refused:
		// The first call takes the one slot for an hour, whatever its deadline is; whoever comes then would wait for it.
		service = "1h"
		values = map[string]string{"shed.mode": "priority", "deadline.refuse": "false"}
	}
	environ = append(environ, "SPILLWAY_CAPACITY_SERVICE_TIME="+service, "SPILLWAY_CAPACITY_KIND="+kind, "SPILLWAY_CAPACITY_DISTRIBUTION=constant")
	ended := make(chan error, 1)
	go func() {
		ended <- boot.Run(ctx, boot.Spec{
			Name: "bench",
			Build: func(_ context.Context, app *boot.App) error {
				var handler inventoryv1.InventoryServiceServer = inventoryStub{}
				if side == Hold {
					handler = &holds{rdb: app.Redis(os.Getenv(redisVariable)), script: redis.NewScript(holdScript)}
				}
				inventoryv1.RegisterInventoryServiceServer(app.Server(), handler)
				return app.Knobs().Apply(values)
			},
		}, environ, os.Stderr)
	}()
	serve := func() error {
		if err := json.NewEncoder(out).Encode(addr); err != nil {
			return err
		}
		for lines := bufio.NewScanner(in); lines.Scan(); {
			used, err := cpu()
			if err != nil {
				return err
			}
			if err := json.NewEncoder(out).Encode(Cost{CPU: used}); err != nil {
				return err
			}
		}
		return nil
	}
	err = serve()
	drain()
	return errors.Join(err, <-ended)
}

// holdScript does what a hold does: looks whether seats are taken, takes them, and notes the hold and its end.
const holdScript = `
for i = 2, #ARGV do
  if redis.call('GETBIT', KEYS[1], ARGV[i]) == 1 and redis.call('EXISTS', KEYS[2]) == 1 then return {1, 0} end
end
for i = 2, #ARGV do redis.call('SETBIT', KEYS[1], ARGV[i], 1) end
redis.call('HSET', KEYS[2], 'seats', table.concat(ARGV, ','), 'state', 'held')
redis.call('ZADD', KEYS[3], ARGV[1], KEYS[2])
local now = redis.call('TIME')
return {now[1], 9000}`

// holds is inventory, as far as its CPU goes.
type holds struct {
	inventoryv1.UnimplementedInventoryServiceServer
	rdb    *redis.Client
	script *redis.Script
}

func (h *holds) Hold(ctx context.Context, req *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	keys := []string{"{bench}:seats", "{bench}:hold:" + req.GetHoldId(), "{bench}:ends"}
	if _, err := h.script.Run(ctx, h.rdb, keys, 1, 13, 14).Int64Slice(); err != nil {
		return nil, err
	}
	return inventoryStub{}.Hold(ctx, req)
}
