package buy

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"spillway.dev/lab/trace"
	"spillway.dev/platform/problem"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a gateway that also takes spans in, as the engine does.
type office struct {
	gatewayv1.UnimplementedGatewayServiceServer
	store    *trace.Store
	checkout func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error)

	mu      sync.Mutex
	pending int                 // how often the ticket is not there yet
	parents map[string][]string // traceparent by method
}

func (o *office) saw(ctx context.Context, method string) {
	md, _ := metadata.FromIncomingContext(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parents[method] = append(o.parents[method], strings.Join(md.Get("traceparent"), ","))
	if method != "SignIn" && method != "ListShows" && strings.Join(md.Get("authorization"), ",") != "Bearer secret-token" {
		o.parents["unsigned"] = append(o.parents["unsigned"], method)
	}
}

func (o *office) SignIn(ctx context.Context, _ *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
	o.saw(ctx, "SignIn")
	return &gatewayv1.SignInResponse{Token: "secret-token"}, nil
}

func (o *office) ListShows(ctx context.Context, _ *gatewayv1.ListShowsRequest) (*gatewayv1.ListShowsResponse, error) {
	o.saw(ctx, "ListShows")
	return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: "full", Title: "Full"}, {ShowId: "free", Title: "Free"}}}, nil
}

func (o *office) GetSeatMap(ctx context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
	o.saw(ctx, "GetSeatMap")
	rows := []*gatewayv1.SeatRow{{Row: "A", Seats: "x.x"}}
	if req.ShowId == "free" {
		rows = append(rows, &gatewayv1.SeatRow{Row: "B", Seats: "x.."})
	}
	return &gatewayv1.GetSeatMapResponse{Rows: rows}, nil
}

func (o *office) Checkout(ctx context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
	o.saw(ctx, "Checkout")
	return o.checkout(req)
}

func (o *office) GetTicket(ctx context.Context, req *gatewayv1.GetTicketRequest) (*gatewayv1.GetTicketResponse, error) {
	o.saw(ctx, "GetTicket")
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending--; o.pending >= 0 {
		return nil, problem.New(codes.NotFound, ticketPending, "not yet").Retry(time.Millisecond)
	}
	return &gatewayv1.GetTicketResponse{Ticket: &gatewayv1.Ticket{TicketId: "t-1", OrderId: req.OrderId, SeatIds: []string{"B-2", "B-3"}}}, nil
}

func sold(req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
	return &gatewayv1.CheckoutResponse{Order: &gatewayv1.Order{OrderId: "o-1", ShowId: req.ShowId, SeatIds: req.SeatIds,
		AmountCents: 9000, State: gatewayv1.OrderState_ORDER_STATE_CONFIRMED}}, nil
}

func listen(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	register(srv)
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(lis) })
	t.Cleanup(func() { srv.Stop(); done.Wait() })
	return lis.Addr().String()
}

func open(t *testing.T, checkout func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error)) (*office, Order) {
	t.Helper()
	o := &office{store: trace.NewStore(10), checkout: checkout, parents: make(map[string][]string)}
	address := listen(t, func(s *grpc.Server) {
		gatewayv1.RegisterGatewayServiceServer(s, o)
		coltracepb.RegisterTraceServiceServer(s, o.store)
	})
	return o, Order{Gateway: address, OTLP: address, Person: "ada", Seats: 2, Card: "tok_visa", Patience: 20 * time.Second}
}

func TestAPurchaseIsOneTraceFromSignInToTicket(t *testing.T) {
	o, order := open(t, sold)
	o.pending = 5
	var steps []string
	p, err := Make(t.Context(), order, func(s Step) { steps = append(steps, s.Name+": "+s.Detail) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sign in: as ada", "list shows: 2 on sale", "look at the seats: Free, B-2 B-3", "check out: order o-1, 90.00", "wait for the ticket: ticket t-1"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps: got %q, want %q", steps, want)
	}
	if p.Ticket.GetTicketId() != "t-1" || p.Order.GetOrderId() != "o-1" || p.Show.GetShowId() != "free" {
		t.Errorf("got %+v", p)
	}
	if unsigned := o.parents["unsigned"]; unsigned != nil {
		t.Errorf("calls without the session: %v", unsigned)
	}
	for _, method := range []string{"SignIn", "ListShows", "GetSeatMap", "Checkout"} {
		for _, parent := range o.parents[method] {
			if !strings.HasPrefix(parent, "00-"+p.TraceID+"-") || !strings.HasSuffix(parent, "-01") {
				t.Errorf("%s came with traceparent %q, want trace %s, sampled", method, parent, p.TraceID)
			}
		}
	}
	if len(o.parents["GetTicket"]) != 6 {
		t.Errorf("asked for the ticket %d times, want 6", len(o.parents["GetTicket"]))
	}
	for _, parent := range o.parents["GetTicket"] {
		if strings.Contains(parent, p.TraceID) || !strings.HasSuffix(parent, "-00") {
			t.Errorf("a question for the ticket is in the trace, or sampled: %q", parent)
		}
	}
	tree := trace.Build(o.store.Get(p.TraceID))
	var names []string
	for n := range tree.All() {
		if n.Service != Service || n.Failed {
			t.Errorf("span %q: service %q, failed %v", n.Name, n.Service, n.Failed)
		}
		names = append(names, n.Name[strings.LastIndexByte(n.Name, '/')+1:])
	}
	if want := []string{"buy a ticket", "SignIn", "ListShows", "GetSeatMap", "GetSeatMap", "Checkout", "wait for the ticket"}; !slices.Equal(names, want) || len(tree.Roots) != 1 {
		t.Errorf("%d roots, spans %q, want one root and %q", len(tree.Roots), names, want)
	}
}

func TestABuyerLooksAgainWhenSomebodyWasFaster(t *testing.T) {
	tries := 0
	_, order := open(t, func(req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
		if tries++; tries < looks {
			return nil, problem.New(codes.FailedPrecondition, seatTaken, "taken")
		}
		return sold(req)
	})
	p, err := Make(t.Context(), order, nil)
	if err != nil || p.Ticket == nil || tries != looks {
		t.Errorf("got ticket %v after %d tries: %v", p.Ticket, tries, err)
	}
}

func TestAFailedPurchaseHasATraceToo(t *testing.T) {
	for name, checkout := range map[string]func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error){
		"by an error": func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return nil, problem.New(codes.FailedPrecondition, "CARD_DECLINED", "declined")
		},
		"by a cancelled order": func(req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return &gatewayv1.CheckoutResponse{Order: &gatewayv1.Order{State: gatewayv1.OrderState_ORDER_STATE_CANCELLED, Reason: "CARD_DECLINED"}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, order := open(t, checkout)
			p, err := Make(t.Context(), order, nil)
			if problem.Reason(err) != "CARD_DECLINED" || !strings.HasPrefix(err.Error(), "check out: ") {
				t.Errorf("got %v", err)
			}
			if root := trace.Build(o.store.Get(p.TraceID)).Roots; len(root) != 1 || !root[0].Failed || root[0].Reason != "CARD_DECLINED" {
				t.Errorf("root: got %+v", root)
			}
		})
	}
}

func TestABuyerGivesUpOnATicketThatNeverComes(t *testing.T) {
	o, order := open(t, sold)
	o.pending = 1 << 30
	order.Patience = 200 * time.Millisecond
	_, err := Make(t.Context(), order, nil)
	if err == nil || !strings.Contains(err.Error(), "no ticket within 200ms for order o-1") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownShowIsNamedWithThoseOnSale(t *testing.T) {
	_, order := open(t, sold)
	order.Show = "nope"
	_, err := Make(t.Context(), order, nil)
	if err == nil || !strings.Contains(err.Error(), `no show "nope"; on sale are full, free`) {
		t.Errorf("got %v", err)
	}
}

func TestSideBySide(t *testing.T) {
	rows := func(rows ...string) (out []*gatewayv1.SeatRow) {
		for i, s := range rows {
			out = append(out, &gatewayv1.SeatRow{Row: string(rune('A' + i)), Seats: s})
		}
		return out
	}
	for _, tc := range []struct {
		rows []*gatewayv1.SeatRow
		n    int
		draw int
		want string
	}{
		{rows("..x..."), 3, 0, "A-4 A-5 A-6"},
		{rows("...x.."), 3, 5, "A-1 A-2 A-3"}, // from the end round to the front
		{rows("x.x", "x.."), 2, 0, "B-2 B-3"},
		{rows("x.x", ".x."), 2, 0, ""},
		{rows("...."), 1, 2, "A-3"},
		{rows(""), 1, 0, ""},
		{nil, 1, 0, ""},
	} {
		got := strings.Join(sideBySide(tc.rows, tc.n, func(n int) int { return min(tc.draw, n-1) }), " ")
		if got != tc.want {
			t.Errorf("%v, %d seats from %d: got %q, want %q", tc.rows, tc.n, tc.draw, got, tc.want)
		}
	}
}

// slow is an engine whose trace grows with every question.
type slow struct {
	enginev1.UnimplementedEngineServiceServer
	mu     sync.Mutex
	asked  int
	traces func(asked int) (*enginev1.GetTraceResponse, error)
}

func (s *slow) GetTrace(context.Context, *enginev1.GetTraceRequest) (*enginev1.GetTraceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.traces(s.asked)
}

func (s *slow) client(t *testing.T) enginev1.EngineServiceClient {
	t.Helper()
	address := listen(t, func(srv *grpc.Server) { enginev1.RegisterEngineServiceServer(srv, s) })
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return enginev1.NewEngineServiceClient(conn)
}
