package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/problem"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

func checkout() *gatewayv1.CheckoutRequest {
	return &gatewayv1.CheckoutRequest{IdempotencyKey: "key-0001", ShowId: "opening-night", SeatIds: []string{"B-3"}, CardToken: card}
}

func bearing(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// refused checks an error that came over gRPC.
func refused(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || problem.Reason(err) != reason {
		t.Errorf("got %v (%s), want %v %s", err, problem.Reason(err), code, reason)
	}
}

// Calls that need a session get nowhere without a good one; who calls is what the session says.
func TestSessions(t *testing.T) {
	m := ann()
	var mu sync.Mutex
	people := map[string]int{}
	saw := func(person string) {
		mu.Lock()
		defer mu.Unlock()
		people[person]++
	}
	m.catalog.seats = func(context.Context, *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
		saw("ann") // a seat map is nobody's; that the call came is what counts
		return &catalogv1.GetSeatMapResponse{}, nil
	}
	m.order.checkout = func(_ context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		saw(req.GetPersonId())
		return &orderv1.CheckoutResponse{}, nil
	}
	m.order.get = func(_ context.Context, req *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		saw(req.GetPersonId())
		return &orderv1.GetOrderResponse{}, nil
	}
	m.ticketing.get = func(_ context.Context, req *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error) {
		saw(req.GetPersonId())
		return &ticketingv1.GetTicketResponse{}, nil
	}
	m.all = func(_ context.Context, req *sessionv1.RevokeAllRequest) (*sessionv1.RevokeAllResponse, error) {
		saw(req.GetPersonId())
		return &sessionv1.RevokeAllResponse{Ended: 3}, nil
	}
	g := start(t, m)
	calls := map[string]func(context.Context) error{
		"GetSeatMap": func(ctx context.Context) error {
			_, err := g.rpc.GetSeatMap(ctx, &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"})
			return err
		},
		"Checkout": func(ctx context.Context) error { _, err := g.rpc.Checkout(ctx, checkout()); return err },
		"GetOrder": func(ctx context.Context) error {
			_, err := g.rpc.GetOrder(ctx, &gatewayv1.GetOrderRequest{OrderId: orderID})
			return err
		},
		"GetTicket": func(ctx context.Context) error {
			_, err := g.rpc.GetTicket(ctx, &gatewayv1.GetTicketRequest{OrderId: orderID})
			return err
		},
		"SignOut everywhere": func(ctx context.Context) error {
			_, err := g.rpc.SignOut(ctx, &gatewayv1.SignOutRequest{Everywhere: true})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			refused(t, call(t.Context()), codes.Unauthenticated, reasonSessionRequired)
			refused(t, call(bearing(t.Context(), "")), codes.Unauthenticated, reasonSessionRequired)
			refused(t, call(bearing(bearing(t.Context(), token), "another")), codes.Unauthenticated, reasonSessionRequired)
			refused(t, call(bearing(t.Context(), "forged")), codes.Unauthenticated, problem.SessionInvalid)
			refused(t, call(bearing(t.Context(), strings.Repeat("a", 4000))), codes.Unauthenticated, problem.SessionInvalid)
			if err := call(bearing(t.Context(), token)); err != nil {
				t.Errorf("with ann's session: %v", err)
			}
		})
	}
	if want := map[string]int{"ann": len(calls)}; !maps.Equal(people, want) {
		t.Errorf("downstreams were called for %v, want %v", people, want)
	}
	expired := g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")), "Cookie", cookieName+"=expired")
	expired.refused(t, 401, problem.SessionInvalid)
	if got := expired.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("401 challenges with %q", got)
	}
}

func TestViews(t *testing.T) {
	issued := timestamppb.New(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	m := ann()
	m.catalog.list = func(context.Context, *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
		return &catalogv1.ListShowsResponse{Shows: []*catalogv1.Show{{
			ShowId: "s", Title: "T", Venue: "V", StartsAt: issued, PriceCents: 4500, Rows: 10, SeatsPerRow: 20,
		}}}, nil
	}
	m.catalog.seats = func(_ context.Context, req *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
		return &catalogv1.GetSeatMapResponse{ShowId: req.GetShowId(), Free: 1, Rows: []*catalogv1.SeatRow{{Row: "A", Seats: "x."}}}, nil
	}
	m.ticketing.get = func(_ context.Context, req *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error) {
		return &ticketingv1.GetTicketResponse{Ticket: &ticketingv1.Ticket{
			TicketId: "t-1", OrderId: req.GetOrderId(), PersonId: "ann", ShowId: "s", SeatIds: []string{"A-2"}, IssuedAt: issued,
		}}, nil
	}
	g := start(t, m)
	ctx := bearing(t.Context(), token)
	got, err := g.rpc.ListShows(t.Context(), &gatewayv1.ListShowsRequest{}) // without a session
	if want := (&gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{
		ShowId: "s", Title: "T", Venue: "V", StartsAt: issued, PriceCents: 4500, Rows: 10, SeatsPerRow: 20,
	}}}); !proto.Equal(got, want) {
		t.Errorf("ListShows = %v, %v; want %v", got, err, want)
	}
	seats, err := g.rpc.GetSeatMap(ctx, &gatewayv1.GetSeatMapRequest{ShowId: "s"})
	if want := (&gatewayv1.GetSeatMapResponse{ShowId: "s", Free: 1, Rows: []*gatewayv1.SeatRow{{Row: "A", Seats: "x."}}}); !proto.Equal(seats, want) {
		t.Errorf("GetSeatMap = %v, %v; want %v", seats, err, want)
	}
	ticket, err := g.rpc.GetTicket(ctx, &gatewayv1.GetTicketRequest{OrderId: orderID})
	if want := (&gatewayv1.GetTicketResponse{Ticket: &gatewayv1.Ticket{
		TicketId: "t-1", OrderId: orderID, ShowId: "s", SeatIds: []string{"A-2"}, IssuedAt: issued,
	}}); !proto.Equal(ticket, want) {
		t.Errorf("GetTicket = %v, %v; want %v", ticket, err, want)
	}
}

func TestOrderStates(t *testing.T) {
	want := map[orderv1.OrderState]gatewayv1.OrderState{
		orderv1.OrderState_ORDER_STATE_UNSPECIFIED: gatewayv1.OrderState_ORDER_STATE_UNSPECIFIED,
		orderv1.OrderState_ORDER_STATE_PENDING:     gatewayv1.OrderState_ORDER_STATE_PENDING,
		orderv1.OrderState_ORDER_STATE_HELD:        gatewayv1.OrderState_ORDER_STATE_PENDING,
		orderv1.OrderState_ORDER_STATE_PAID:        gatewayv1.OrderState_ORDER_STATE_PENDING,
		orderv1.OrderState_ORDER_STATE_CONFIRMED:   gatewayv1.OrderState_ORDER_STATE_CONFIRMED,
		orderv1.OrderState_ORDER_STATE_CANCELLING:  gatewayv1.OrderState_ORDER_STATE_PENDING,
		orderv1.OrderState_ORDER_STATE_CANCELLED:   gatewayv1.OrderState_ORDER_STATE_CANCELLED,
	}
	if len(want) != len(orderv1.OrderState_name) {
		t.Errorf("order knows %d states, this table %d", len(orderv1.OrderState_name), len(want))
	}
	for in, out := range want {
		got := order(&orderv1.Order{State: in, Reason: "CARD_DECLINED"})
		if got.GetState() != out {
			t.Errorf("%v is shown as %v, want %v", in, got.GetState(), out)
		}
		if ended := out == gatewayv1.OrderState_ORDER_STATE_CANCELLED; (got.GetReason() != "") != ended {
			t.Errorf("%v is shown with the reason %q", in, got.GetReason())
		}
	}
}

// A downstream's refusal passes as it is: status, reason, message, facts, and the time to wait.
func TestRefusalsPassThrough(t *testing.T) {
	m := ann()
	var refusal error
	m.order.checkout = func(context.Context, *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		return nil, refusal
	}
	g := start(t, m, "SPILLWAY_RETRY_ATTEMPTS=1")
	for _, tc := range []struct {
		refusal *problem.Problem
		http    int
		retry   string // Retry-After
	}{
		{problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused, "used with another body").With("field", "idempotency_key"), 409, ""},
		{problem.New(codes.FailedPrecondition, "SEATS_TAKEN", "taken: B-3").With("seats", "B-3"), 409, ""},
		{problem.New(codes.InvalidArgument, "SEAT_UNKNOWN", "no such seat: ZZ-999"), 400, ""},
		{problem.New(codes.NotFound, "SHOW_NOT_FOUND", "no such show"), 404, ""},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, "too many").Retry(1200 * time.Millisecond), 429, "2"},
		{problem.New(codes.Unavailable, problem.DependencyAway, "payment is away").Retry(0), 503, "1"},
		{problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "no time").Retry(0), 504, ""},
		{problem.New(codes.Aborted, "LEASE_LOST", "another replica works on it").Retry(100 * time.Millisecond), 409, "1"},
		{problem.New(codes.Internal, problem.Internal, "a fault"), 500, ""},
	} {
		t.Run(tc.refusal.Reason, func(t *testing.T) {
			refusal = tc.refusal
			_, err := g.rpc.Checkout(bearing(t.Context(), token), checkout())
			refused(t, err, tc.refusal.Code, tc.refusal.Reason)
			p := problem.From(err)
			if p.Message != tc.refusal.Message || !maps.Equal(p.Metadata, tc.refusal.Metadata) || p.Retryable != tc.refusal.Retryable || p.RetryAfter != tc.refusal.RetryAfter {
				t.Errorf("got %+v, want %+v", p, tc.refusal)
			}
			a := g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")), cookie...)
			a.refused(t, tc.http, tc.refusal.Reason)
			if got := a.header.Get("Retry-After"); got != tc.retry {
				t.Errorf("Retry-After is %q, want %q", got, tc.retry)
			}
		})
	}
}

// What the transport finds wrong gets a reason and a time to wait, and its text, which tells addresses, stays inside.
func TestDownstreamAway(t *testing.T) {
	nobody := freeAddr(t)
	g := start(t, ann(), "SPILLWAY_ORDER_TARGET="+nobody)
	a := g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")), cookie...)
	a.refused(t, 503, problem.DependencyAway)
	if a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, "order is away") || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("answer %v %s", a.header, a.body)
	}
	_, err := g.rpc.GetOrder(bearing(t.Context(), token), &gatewayv1.GetOrderRequest{OrderId: orderID})
	refused(t, err, codes.Unavailable, problem.DependencyAway)
	if p := problem.From(err); !p.Retryable || p.RetryAfter != retryAfter {
		t.Errorf("the hint to retry is %+v", p)
	}
	if !strings.Contains(g.logs.String(), nobody) {
		t.Errorf("the log does not tell the operator where the gateway looked for order")
	}
}

// A text that a downstream did not mean for people does not reach them.
func TestUnmeantErrorsStayInside(t *testing.T) {
	m := ann()
	m.order.get = func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		return nil, status.Error(codes.Unknown, "redis: MOVED 10.0.0.7:6379")
	}
	g := start(t, m)
	a := g.do(t, "GET", "/v1/orders/"+orderID, nil, cookie...)
	a.refused(t, 500, problem.Internal)
	if strings.Contains(a.body, "10.0.0.7") {
		t.Errorf("the answer tells %s", a.body)
	}
}

func TestDeadlines(t *testing.T) {
	m := ann()
	left := make(chan time.Duration, 1)
	m.order.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		deadline, ok := ctx.Deadline()
		if !ok {
			t.Error("order is called without a deadline")
		}
		left <- time.Until(deadline)
		return &orderv1.GetOrderResponse{}, nil
	}
	m.ticketing.get = func(ctx context.Context, _ *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	g := start(t, m)
	t.Run("time that runs out is told", func(t *testing.T) {
		headers := append([]string{"Grpc-Timeout", "300m"}, cookie...)
		g.do(t, "GET", "/v1/orders/"+orderID+"/ticket", nil, headers...).refused(t, 504, problem.DeadlineExceeded)
	})
	t.Run("an hour over HTTP is capped", func(t *testing.T) {
		headers := append([]string{"Grpc-Timeout", "1H"}, cookie...)
		if a := g.do(t, "GET", "/v1/orders/"+orderID, nil, headers...); a.status != 200 {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
		if got := <-left; got > maxDeadline {
			t.Errorf("order was given %v, want at most %v", got, maxDeadline)
		}
	})
	t.Run("an hour over gRPC is capped", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(bearing(t.Context(), token), time.Hour)
		defer cancel()
		if _, err := g.rpc.GetOrder(ctx, &gatewayv1.GetOrderRequest{OrderId: orderID}); err != nil {
			t.Fatal(err)
		}
		if got := <-left; got > maxDeadline {
			t.Errorf("order was given %v, want at most %v", got, maxDeadline)
		}
	})
}

// Nobody outside can pass for a service, or speak as one.
func TestForgedMeshMetadata(t *testing.T) {
	m := ann()
	seen := make(chan metadata.MD, 1)
	m.catalog.list = func(ctx context.Context, _ *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return &catalogv1.ListShowsResponse{}, nil
	}
	g := start(t, m)
	check := func(t *testing.T) {
		t.Helper()
		md := <-seen
		for k, v := range md {
			if strings.HasPrefix(k, meshPrefix) && k != "x-spillway-caller" && k != criticality.Header {
				t.Errorf("catalog was told %s: %v", k, v)
			}
		}
		// Nobody knows who calls: standard, whatever was said.
		if got := md.Get(criticality.Header); len(got) != 1 || !strings.HasPrefix(got[0], "standard/") {
			t.Errorf("catalog was called with the priority %q", got)
		}
		if got := md.Get("x-spillway-caller"); !slices.Equal(got, []string{"gateway"}) {
			t.Errorf("catalog was called by %v", got)
		}
		logs := g.logs.String()
		if !strings.Contains(logs, `"caller":"external"`) || strings.Contains(logs, `"caller":"order"`) || strings.Contains(logs, "CALLER_INVALID") {
			t.Errorf("the gateway took the forged name for the caller's:\n%s", logs)
		}
	}
	t.Run("gRPC", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(t.Context(),
			"x-spillway-caller", "order", "x-spillway-caller", "not a name", "x-spillway-priority", "critical/0", "x-spillway-deadline-bin", "\x00")
		if _, err := g.rpc.ListShows(ctx, &gatewayv1.ListShowsRequest{}); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("HTTP", func(t *testing.T) {
		a := g.do(t, "GET", "/v1/shows", nil, "X-Spillway-Caller", "order", "Grpc-Metadata-X-Spillway-Caller", "order",
			"Grpc-Metadata-X-Spillway-Priority", "critical/0", "X-Spillway-Priority", "critical/0",
			"Grpc-Metadata-X-Spillway-Deadline", "1h", "X-Spillway-Deadline", "1h")
		if a.status != 200 {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
		check(t)
	})
	t.Run("before the chain", func(t *testing.T) {
		md := metadata.Pairs("x-spillway-caller", "order", "x-spillway-priority", "high", "authorization", "Bearer a", "traceparent", "t")
		got, _ := metadata.FromIncomingContext(outside(metadata.NewIncomingContext(t.Context(), md)))
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"authorization", "traceparent"}) {
			t.Errorf("%v came through", keys)
		}
	})
}

// rawBytes sends and receives messages as they are.
type rawBytes struct{}

func (rawBytes) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawBytes) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawBytes) Name() string                       { return "proto" }

func TestBadMessagesOverGRPC(t *testing.T) {
	g := start(t, ann())
	send := func(message []byte) error {
		var answer []byte
		return g.conn.Invoke(bearing(t.Context(), token), gatewayv1.GatewayService_Checkout_FullMethodName, &message, &answer, grpc.ForceCodec(rawBytes{}))
	}
	refused(t, send(make([]byte, 2<<20)), codes.ResourceExhausted, problem.MessageTooLarge)
	// grpc-go answers this one itself, before any code of ours, and takes the blame for it.
	err := send([]byte("\x0a\x7f" + card))
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), card) {
		t.Errorf("a message that is no protobuf is answered with %v", err)
	}
	refused(t, send(nil), codes.InvalidArgument, problem.InvalidArgument)
	bad := checkout()
	bad.SeatIds = []string{"B--1"}
	_, err = g.rpc.Checkout(bearing(t.Context(), token), bad)
	refused(t, err, codes.InvalidArgument, problem.InvalidArgument)
}

// Tokens, cards and cookies are in no log line, span or metric, and in no answer but the one that opens the session.
func TestNoSecretIsTold(t *testing.T) {
	const forged = "Zm9yZ2VkLXRva2VuLXRoYXQtbWF5LXN0aWxsLWJlLWdvb2Q"
	spans := collect(t)
	m := ann()
	m.refresh = func(context.Context, *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error) {
		return &sessionv1.RefreshResponse{Token: token}, nil
	}
	m.order.checkout = func(_ context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		if req.GetIdempotencyKey() == "declined-1" {
			return nil, problem.New(codes.FailedPrecondition, "CARD_DECLINED", "the bank declined the card")
		}
		return &orderv1.CheckoutResponse{}, nil
	}
	g := start(t, m)
	g.do(t, "POST", "/v1/session", strings.NewReader(`{"personId":"ann"}`), "Cookie", cookieName+"="+forged)
	answers := []answer{
		g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")), cookie...),
		g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("declined-1")), cookie...),
		g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")), "Cookie", cookieName+"="+forged),
		g.do(t, "POST", "/v1/orders", strings.NewReader(strings.Replace(purchase("key-0001"), card, card+"!", 1)), cookie...),
		g.do(t, "POST", "/v1/orders", strings.NewReader(`{"cardToken":`+card+`}`), cookie...),
		g.do(t, "POST", "/v1/orders", strings.NewReader(`{"cardToken":["`+card+`"]}`), cookie...),
		g.do(t, "POST", "/v1/orders", strings.NewReader(`{"card":"`+card+`"}`), cookie...),
		g.do(t, "GET", "/v1/orders/"+orderID, nil, "Authorization", "Bearer "+forged),
	}
	g.do(t, "POST", "/v1/session/refresh", nil, cookie...)
	metrics := g.metrics(t)
	g.stop() // flushes
	told := map[string]string{"log": g.logs.String(), "spans": spans.text(), "metrics": metrics}
	for i, a := range answers {
		told[fmt.Sprintf("answer %d", i)] = a.body + fmt.Sprint(a.header)
	}
	for where, what := range map[string]string{"log": "finished call", "spans": "GatewayService/Checkout", "metrics": "spillway_gateway_http_responses_total"} {
		if !strings.Contains(told[where], what) {
			t.Fatalf("the %s do not even tell of %q: %s", where, what, told[where])
		}
	}
	for where, text := range told {
		for name, secret := range map[string]string{"token": token, "forged token": forged, "card": strings.TrimPrefix(card, "tok_")} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s tells the %s", where, name)
			}
		}
	}
}
