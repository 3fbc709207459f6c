package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// Reasons that the generator itself gives, beside those of the mesh.
const (
	// SoldOut: the person came to buy and no show has a free seat.
	SoldOut = "SOLD_OUT"
	// OrderUnfinished: an order was told to be in a state that is not known here.
	OrderUnfinished = "ORDER_UNFINISHED"
	// NothingOnSale: the gateway lists no shows, so there is nothing to do.
	NothingOnSale = "NOTHING_ON_SALE"
	// NoAnswer: the call did not even return when its time was over.
	NoAnswer = "NO_ANSWER"
)

// Gateway is what journeys call: a gatewayv1.GatewayServiceClient over gRPC, or
// HTTP. Calls carry the session as outgoing gRPC metadata of their context.
type Gateway interface {
	SignIn(context.Context, *gatewayv1.SignInRequest, ...grpc.CallOption) (*gatewayv1.SignInResponse, error)
	ListShows(context.Context, *gatewayv1.ListShowsRequest, ...grpc.CallOption) (*gatewayv1.ListShowsResponse, error)
	GetSeatMap(context.Context, *gatewayv1.GetSeatMapRequest, ...grpc.CallOption) (*gatewayv1.GetSeatMapResponse, error)
	Checkout(context.Context, *gatewayv1.CheckoutRequest, ...grpc.CallOption) (*gatewayv1.CheckoutResponse, error)
	GetOrder(context.Context, *gatewayv1.GetOrderRequest, ...grpc.CallOption) (*gatewayv1.GetOrderResponse, error)
}

// people walk through the gateway. Each has a session and keeps it.
type people struct {
	gateway Gateway
	run     string // makes idempotency keys and people of this run its own
	board   *board
	pool    []person
	lost    func(Arrival) // told when a journey's session was not known any more

	requests     [len(rpcs)]atomic.Int64
	bought       atomic.Int64
	seats        atomic.Int64
	lostSessions atomic.Int64
}

// rpcs name what requests counts.
var rpcs = [...]string{"SignIn", "ListShows", "GetSeatMap", "Checkout", "GetOrder"}

const (
	rpcSignIn = iota
	rpcListShows
	rpcGetSeatMap
	rpcCheckout
	rpcGetOrder
)

// person is one of the pool. The channel is a lock that can be waited for with
// a deadline: of several journeys of one person only one signs in.
type person struct {
	lock  chan struct{}
	token string
}

func newPeople(gateway Gateway, run string, n int, lost func(Arrival)) *people {
	p := &people{gateway: gateway, run: run, lost: lost, board: newBoard(), pool: make([]person, n)}
	for i := range p.pool {
		p.pool[i].lock = make(chan struct{}, 1)
	}
	return p
}

// walk takes one journey and returns nil when it was served.
func (p *people) walk(ctx context.Context, a Arrival) error {
	rng := rand.New(rand.NewPCG(a.Draw, 0))
	switch a.Kind {
	case Buy:
		return p.buy(ctx, a, rng)
	case SeatMap:
		return p.look(ctx, a, rng)
	case List:
		_, err := p.list(ctx, a, rng)
		return err
	default:
		return p.browse(ctx, a, rng)
	}
}

// browse lists the shows and looks at one.
func (p *people) browse(ctx context.Context, a Arrival, rng *rand.Rand) error {
	show, err := p.list(ctx, a, rng)
	if err != nil {
		return err
	}
	return p.seatMap(ctx, a, show)
}

// list asks what is on sale and picks a show of it. Nobody signs in for that, but
// whoever has a session sends it, as a browser sends its cookie: the gateway then
// knows how urgent the call is.
func (p *people) list(ctx context.Context, a Arrival, rng *rand.Rand) (show string, err error) {
	if token := p.held(a.Person); token != "" {
		ctx = withToken(ctx, token)
	}
	p.requests[rpcListShows].Add(1)
	shows, err := p.gateway.ListShows(ctx, &gatewayv1.ListShowsRequest{})
	if err != nil {
		return "", err
	}
	p.board.list(shows.GetShows())
	if show = p.board.show(rng); show == "" {
		return "", problem.New(codes.NotFound, NothingOnSale, "the gateway lists no shows")
	}
	return show, nil
}

// look goes straight to the seat map of a show. Only while nobody of this run
// has seen the list does it list the shows first.
func (p *people) look(ctx context.Context, a Arrival, rng *rand.Rand) error {
	if show := p.board.show(rng); show != "" {
		return p.seatMap(ctx, a, show)
	}
	return p.browse(ctx, a, rng)
}

func (p *people) seatMap(ctx context.Context, a Arrival, show string) error {
	return p.signedIn(ctx, a, func(ctx context.Context) error {
		p.requests[rpcGetSeatMap].Add(1)
		seats, err := p.gateway.GetSeatMap(ctx, &gatewayv1.GetSeatMapRequest{ShowId: show})
		if err != nil {
			return err
		}
		p.board.see(seats)
		return nil
	})
}

// buy checks out one or two seats that the latest seat map showed free. Without
// such a seat the person looks again before giving up.
func (p *people) buy(ctx context.Context, a Arrival, rng *rand.Rand) error {
	want := 1 + rng.IntN(2)
	show, seats := p.board.choose(rng, want)
	if len(seats) == 0 {
		if err := p.browse(ctx, a, rng); err != nil {
			return err
		}
		if show, seats = p.board.choose(rng, want); len(seats) == 0 {
			return problem.New(codes.FailedPrecondition, SoldOut, "no show has a free seat")
		}
	}
	return p.signedIn(ctx, a, func(ctx context.Context) error {
		p.requests[rpcCheckout].Add(1)
		resp, err := p.gateway.Checkout(ctx, &gatewayv1.CheckoutRequest{
			IdempotencyKey: fmt.Sprintf("load-%s-%d", p.run, a.Number),
			ShowId:         show,
			SeatIds:        seats,
			CardToken:      "tok_load",
		})
		if err != nil {
			return err
		}
		order, err := p.settled(ctx, resp.GetOrder(), rng)
		if err != nil {
			return err
		}
		switch order.GetState() {
		case gatewayv1.OrderState_ORDER_STATE_CONFIRMED:
			p.bought.Add(1)
			p.seats.Add(int64(len(order.GetSeatIds())))
			return nil
		case gatewayv1.OrderState_ORDER_STATE_CANCELLED:
			return problem.New(codes.FailedPrecondition, order.GetReason(), "order %s was cancelled", order.GetOrderId())
		default:
			return problem.New(codes.Unavailable, OrderUnfinished, "order %s is not final", order.GetOrderId())
		}
	})
}

// Waits between two questions for an order whose charge is queued, doubling.
const (
	askFirst = 500 * time.Millisecond
	askMost  = 4 * time.Second
)

// settled is the order when it is final. Where seats are reserved and paid later
// the person asks again, less and less often, until the time is over.
func (p *people) settled(ctx context.Context, order *gatewayv1.Order, rng *rand.Rand) (*gatewayv1.Order, error) {
	for wait := askFirst; order.GetState() == gatewayv1.OrderState_ORDER_STATE_PENDING; wait = min(2*wait, askMost) {
		timer := time.NewTimer(wait/2 + time.Duration(rng.Int64N(int64(wait)))) // not all who came together at a time
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		p.requests[rpcGetOrder].Add(1)
		resp, err := p.gateway.GetOrder(ctx, &gatewayv1.GetOrderRequest{OrderId: order.GetOrderId()})
		if err != nil {
			return nil, err
		}
		order = resp.GetOrder()
	}
	return order, nil
}

// signedIn calls f with the person's session, signing in first when there is
// none. A session that the mesh no longer knows is counted as lost and made
// anew, once: that is what a person would do.
func (p *people) signedIn(ctx context.Context, a Arrival, f func(context.Context) error) error {
	token, err := p.token(ctx, a, "")
	if err != nil {
		return err
	}
	err = f(withToken(ctx, token))
	if problem.Reason(err) != problem.SessionInvalid {
		return err
	}
	p.lostSessions.Add(1)
	p.lost(a)
	if token, err = p.token(ctx, a, token); err != nil {
		return err
	}
	return f(withToken(ctx, token))
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// token is the person's session token, newly made when there is none or it is
// still the one that is known to be bad.
func (p *people) token(ctx context.Context, a Arrival, bad string) (string, error) {
	who := &p.pool[a.Person]
	select {
	case who.lock <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-who.lock }()
	if who.token != bad {
		return who.token, nil
	}
	p.requests[rpcSignIn].Add(1)
	resp, err := p.gateway.SignIn(ctx, &gatewayv1.SignInRequest{PersonId: p.name(a)})
	if err != nil {
		return "", err
	}
	who.token = resp.GetToken()
	return who.token, nil
}

// held is the person's session token, "" when there is none or it is being made.
func (p *people) held(number int) string {
	who := &p.pool[number]
	select {
	case who.lock <- struct{}{}:
		defer func() { <-who.lock }()
		return who.token
	default:
		return ""
	}
}

// name is the id of the person who comes. It ends with the class where that is
// not the ordinary one: the gateway knows people's classes by it.
func (p *people) name(a Arrival) string {
	name := fmt.Sprintf("load-%s-%d", p.run, a.Person)
	if a.Priority != Standard {
		name += "." + a.Priority.String()
	}
	return name
}
