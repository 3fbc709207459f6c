package load

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a gateway whose answers a test decides. A nil field answers as a
// small house with every seat free.
type office struct {
	gatewayv1.UnimplementedGatewayServiceServer
	signIn   func(context.Context, *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error)
	list     func(context.Context) (*gatewayv1.ListShowsResponse, error)
	seats    func(context.Context, *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error)
	checkout func(context.Context, *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error)
	ask      func(context.Context, *gatewayv1.GetOrderRequest) (*gatewayv1.GetOrderResponse, error)
}

func (o *office) SignIn(ctx context.Context, req *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
	if o.signIn != nil {
		return o.signIn(ctx, req)
	}
	return &gatewayv1.SignInResponse{Token: "token of " + req.PersonId}, nil
}

func (o *office) ListShows(ctx context.Context, _ *gatewayv1.ListShowsRequest) (*gatewayv1.ListShowsResponse, error) {
	if o.list != nil {
		return o.list(ctx)
	}
	return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: "a"}}}, nil
}

func (o *office) GetSeatMap(ctx context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
	if o.seats != nil {
		return o.seats(ctx, req)
	}
	return house(req.ShowId, strings.Repeat(".", 999), strings.Repeat(".", 999)), nil
}

func (o *office) Checkout(ctx context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
	if o.checkout != nil {
		return o.checkout(ctx, req)
	}
	return order(req, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, ""), nil
}

func (o *office) GetOrder(ctx context.Context, req *gatewayv1.GetOrderRequest) (*gatewayv1.GetOrderResponse, error) {
	return o.ask(ctx, req)
}

// house is a seat map of rows A, B, ...
func house(show string, rows ...string) *gatewayv1.GetSeatMapResponse {
	m := &gatewayv1.GetSeatMapResponse{ShowId: show}
	for i, seats := range rows {
		m.Rows = append(m.Rows, &gatewayv1.SeatRow{Row: string(rune('A' + i)), Seats: seats})
		m.Free += int32(strings.Count(seats, "."))
	}
	return m
}

func order(req *gatewayv1.CheckoutRequest, state gatewayv1.OrderState, reason string) *gatewayv1.CheckoutResponse {
	return &gatewayv1.CheckoutResponse{Order: &gatewayv1.Order{
		OrderId: "o-" + req.IdempotencyKey, ShowId: req.ShowId, SeatIds: req.SeatIds, State: state, Reason: reason,
	}}
}

// listen serves what register registers on a free port until the test ends.
func listen(t *testing.T, register func(grpc.ServiceRegistrar)) (address string) {
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

func (o *office) open(t *testing.T) (address string) {
	return listen(t, func(r grpc.ServiceRegistrar) { gatewayv1.RegisterGatewayServiceServer(r, o) })
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// inProcess calls an office without a network, so that time can be virtual.
type inProcess struct {
	gatewayv1.GatewayServiceClient
	office *office
}

func (c inProcess) SignIn(ctx context.Context, req *gatewayv1.SignInRequest, _ ...grpc.CallOption) (*gatewayv1.SignInResponse, error) {
	return c.office.SignIn(ctx, req)
}

func (c inProcess) ListShows(ctx context.Context, req *gatewayv1.ListShowsRequest, _ ...grpc.CallOption) (*gatewayv1.ListShowsResponse, error) {
	return c.office.ListShows(ctx, req)
}

func (c inProcess) GetSeatMap(ctx context.Context, req *gatewayv1.GetSeatMapRequest, _ ...grpc.CallOption) (*gatewayv1.GetSeatMapResponse, error) {
	return c.office.GetSeatMap(ctx, req)
}

func (c inProcess) Checkout(ctx context.Context, req *gatewayv1.CheckoutRequest, _ ...grpc.CallOption) (*gatewayv1.CheckoutResponse, error) {
	return c.office.Checkout(ctx, req)
}

func (c inProcess) GetOrder(ctx context.Context, req *gatewayv1.GetOrderRequest, _ ...grpc.CallOption) (*gatewayv1.GetOrderResponse, error) {
	return c.office.GetOrder(ctx, req)
}

// steering is an engine that knows only endpoints and replicas.
type steering struct {
	enginev1.UnimplementedEngineServiceServer
	watch func(*enginev1.WatchEndpointsRequest, grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error
	list  func() *enginev1.ListWorkloadsResponse
}

func (s *steering) WatchEndpoints(req *enginev1.WatchEndpointsRequest, stream grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error {
	return s.watch(req, stream)
}

func (s *steering) ListWorkloads(context.Context, *enginev1.ListWorkloadsRequest) (*enginev1.ListWorkloadsResponse, error) {
	return s.list(), nil
}

func (s *steering) client(t *testing.T) enginev1.EngineServiceClient {
	t.Helper()
	address := listen(t, func(r grpc.ServiceRegistrar) { enginev1.RegisterEngineServiceServer(r, s) })
	return enginev1.NewEngineServiceClient(dial(t, address))
}
