package inbound_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestTheListIsOneAndOrdered(t *testing.T) {
	r := start(t, "session", 0, handlers{})
	if want := []string{"identity", "criticality", "logging", "metrics", "recovery", "deadline", "ratelimit", "shed", "validation", "concurrency", "queue", "capacity"}; !slices.Equal(r.in.Names(), want) {
		t.Errorf("the inbound chain is %v, want %v", r.in.Names(), want)
	}
	for _, e := range r.in.Entries() {
		if e.Unary == nil || e.Stream == nil {
			t.Errorf("inbound %s has only one half", e.Name)
		}
	}
	var out []string
	for _, e := range r.out.Entries("inventory") {
		out = append(out, e.Name)
	}
	if want := []string{"metrics", "deadline", "identity", "retry", "hedge", "breaker", "pacing", "bulkhead", "attempt timeout", "attempts"}; !slices.Equal(out, want) {
		t.Errorf("the outbound chain is %v, want %v", out, want)
	}
	for _, e := range r.out.Entries("x") {
		if e.Unary == nil || e.Stream == nil {
			t.Errorf("outbound %s has only one half", e.Name)
		}
	}
}

// twoHops is session, which calls inventory in Touch; seen is what inventory's
// handler finds in its context.
func twoHops(t *testing.T, ratio float64) (front, back *replica, seen *trace.SpanContext) {
	t.Helper()
	seen = &trace.SpanContext{}
	back = start(t, "inventory", ratio, handlers{inventory: seats{hold: func(ctx context.Context, _ *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
		*seen = trace.SpanContextFromContext(ctx)
		if got := identity.Caller(ctx); got != "session" {
			t.Errorf("the caller is %q, want session", got)
		}
		return nil, problem.New(codes.NotFound, "SHOW_UNKNOWN", "no such show")
	}}})
	var inventory inventoryv1.InventoryServiceClient
	front = start(t, "session", ratio, handlers{session: sessions{touch: func(ctx context.Context, _ *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		_, err := inventory.Hold(ctx, goodHold())
		return nil, err
	}}})
	inventory = inventoryv1.NewInventoryServiceClient(front.dial(t, "inventory", back.addr))
	return front, back, seen
}

func TestTraceOfTwoHopsIsOneTree(t *testing.T) {
	traces := newReceiver(t)
	front, back, seen := twoHops(t, 1)
	_, err := sessionv1.NewSessionServiceClient(dial(t, front.addr)).Touch(t.Context(), &sessionv1.TouchRequest{Token: "t"})
	if problem.Reason(err) != "SHOW_UNKNOWN" {
		t.Fatalf("the problem of the second hop comes out as %v", err)
	}
	front.end()
	back.end()
	spans := traces.spans()
	if len(spans["session"]) != 2 || len(spans["inventory"]) != 1 {
		t.Fatalf("session sent %d spans and inventory %d, want 2 and 1", len(spans["session"]), len(spans["inventory"]))
	}
	client, server, last := spans["session"][0], spans["session"][1], spans["inventory"][0]
	if client.GetKind() != tracepb.Span_SPAN_KIND_CLIENT || server.GetKind() != tracepb.Span_SPAN_KIND_SERVER || last.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Fatalf("kinds are %v, %v, %v", client.GetKind(), server.GetKind(), last.GetKind())
	}
	if len(server.GetParentSpanId()) != 0 || string(client.GetParentSpanId()) != string(server.GetSpanId()) || string(last.GetParentSpanId()) != string(client.GetSpanId()) {
		t.Error("the spans are no chain server → client → server")
	}
	id := seen.TraceID()
	for _, s := range []*tracepb.Span{client, server, last} {
		if string(s.GetTraceId()) != string(id[:]) {
			t.Errorf("span %s is of trace %x, want %v", s.GetName(), s.GetTraceId(), id)
		}
		attrs := map[string]string{}
		for _, a := range s.GetAttributes() {
			attrs[a.GetKey()] = a.GetValue().GetStringValue()
		}
		if attrs["spillway.reason"] != "SHOW_UNKNOWN" || attrs["server.address"] != "127.0.0.1" {
			t.Errorf("span %s has attributes %v", s.GetName(), attrs)
		}
	}
	for _, r := range []*replica{front, back} {
		if lines := r.logs.lines(t, "finished call"); len(lines) != 1 || lines[0]["trace_id"] != id.String() || lines[0]["grpc.code"] != "NotFound" || lines[0]["reason"] != "SHOW_UNKNOWN" {
			t.Errorf("finish lines are %v", lines)
		}
	}
	wants(t, back.scrape(t), `grpc_server_handling_seconds_bucket{callee="inventory",caller="session",grpc_method="Hold",grpc_service="spillway.inventory.v1.InventoryService",grpc_type="unary",le=`)
	if text := back.scrape(t); !strings.Contains(text, `# {trace_id="`+id.String()+`"}`) {
		t.Error("no exemplar carries the trace id")
	}
}

func TestTraceIDTravelsWhenNothingIsTraced(t *testing.T) {
	traces := newReceiver(t)
	front, back, seen := twoHops(t, 0)
	client := sessionv1.NewSessionServiceClient(dial(t, front.addr))
	for name, from := range map[string]string{
		"a trace from outside": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"no trace":             "",
		"a broken trace":       "00-0af7651916cd43dd8448eb211c80319c-00",
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if from != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", from)
			}
			before := len(back.logs.lines(t, "finished call"))
			if _, err := client.Touch(ctx, &sessionv1.TouchRequest{Token: "t"}); status.Code(err) != codes.NotFound {
				t.Fatal(err)
			}
			if !seen.IsValid() || seen.IsSampled() || len(from) == 55 && seen.TraceID().String() != from[3:35] {
				t.Fatalf("two hops on, the trace is %v", seen)
			}
			for _, r := range []*replica{front, back} {
				lines := r.logs.lines(t, "finished call")
				if len(lines) != before+1 || lines[before]["trace_id"] != seen.TraceID().String() {
					t.Errorf("the last finish line is %v, want trace_id %v", lines[before:], seen.TraceID())
				}
			}
		})
	}
	front.end()
	back.end()
	if n := len(traces.spans()); n != 0 {
		t.Errorf("%d services sent spans of calls that are not traced", n)
	}
	if text := back.scrape(t); strings.Contains(text, "# {trace_id=") {
		t.Error("a call that is not traced has an exemplar")
	}
	wants(t, front.scrape(t),
		`grpc_server_handled_total{callee="session",caller="external",grpc_code="NotFound",grpc_method="Touch",grpc_service="spillway.session.v1.SessionService",grpc_type="unary"} 3`,
		`grpc_client_handled_total{callee="inventory",caller="session",grpc_code="NotFound",grpc_method="Hold",grpc_service="spillway.inventory.v1.InventoryService",grpc_type="unary"} 3`,
		`grpc_client_attempts_total{callee="inventory",caller="session",grpc_method="Hold",grpc_service="spillway.inventory.v1.InventoryService",grpc_type="unary"} 3`)
}

func TestACallersDecisionHolds(t *testing.T) {
	traces := newReceiver(t)
	front, back, seen := twoHops(t, 0)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if _, err := sessionv1.NewSessionServiceClient(dial(t, front.addr)).Touch(ctx, &sessionv1.TouchRequest{Token: "t"}); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	front.end()
	back.end()
	if !seen.IsSampled() || len(traces.spans()["session"]) != 2 || len(traces.spans()["inventory"]) != 1 {
		t.Errorf("a call that its caller traces gives %v, spans %v", seen, traces.spans())
	}
}

func TestPanicBecomesInternal(t *testing.T) {
	r := start(t, "session", 0, handlers{session: sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		panic("the shelf fell down")
	}}})
	client := sessionv1.NewSessionServiceClient(dial(t, r.addr))
	for range 2 { // the server lives on
		_, err := client.Touch(t.Context(), &sessionv1.TouchRequest{Token: "t"})
		if status.Code(err) != codes.Internal || problem.Reason(err) != problem.Internal || strings.Contains(err.Error(), "shelf") {
			t.Errorf("a panic comes out as %v", err)
		}
	}
	lines := r.logs.lines(t, "a handler panicked")
	if len(lines) != 2 || lines[0]["panic"] != "the shelf fell down" || !strings.Contains(lines[0]["stack"].(string), "chain_test.go") || lines[0]["trace_id"] == nil {
		t.Errorf("the log says %v", lines)
	}
	wants(t, r.scrape(t), `grpc_server_handled_total{callee="session",caller="external",grpc_code="Internal",grpc_method="Touch",`)
}

func TestSuccessIsLoggedOnlyWhenTraced(t *testing.T) {
	ok := handlers{session: sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		return &sessionv1.TouchResponse{}, nil
	}}}
	for ratio, want := range map[float64]int{0: 0, 1: 1} {
		r := start(t, "session", ratio, ok)
		if _, err := sessionv1.NewSessionServiceClient(dial(t, r.addr)).Touch(t.Context(), &sessionv1.TouchRequest{Token: "t"}); err != nil {
			t.Fatal(err)
		}
		if lines := r.logs.lines(t, "finished call"); len(lines) != want {
			t.Errorf("at a ratio of %v a success writes %d lines, want %d", ratio, len(lines), want)
		}
	}
}

func TestValidation(t *testing.T) {
	called := false
	r := start(t, "inventory", 0, handlers{
		inventory: seats{hold: func(context.Context, *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
			called = true
			return &inventoryv1.HoldResponse{}, nil
		}},
		payment: paymentv1.UnimplementedPaymentServiceServer{},
	}, capacity.Config{Slots: 1, ServiceTime: time.Hour, Distribution: capacity.Constant})
	conn := dial(t, r.addr)
	bad := goodHold()
	bad.ShowId, bad.SeatIds = "No Such Show", []string{"B-3", "nowhere"}
	_, err := inventoryv1.NewInventoryServiceClient(conn).Hold(t.Context(), bad)
	if status.Code(err) != codes.InvalidArgument || problem.Reason(err) != problem.InvalidArgument || called {
		t.Fatalf("a bad request gives %v, handled: %v", err, called)
	}
	var fields []string
	for _, d := range status.Convert(err).Details() {
		if b, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range b.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	if want := []string{"show_id", "seat_ids[1]"}; !slices.Equal(fields, want) {
		t.Errorf("fields to blame are %v, want %v", fields, want)
	}
	const card = "my-card-4000-0000"
	_, err = paymentv1.NewPaymentServiceClient(conn).Charge(t.Context(), &paymentv1.ChargeRequest{PaymentId: "payment-1", AmountCents: 1, CardToken: card})
	if text := status.Convert(err).Proto().String(); status.Code(err) != codes.InvalidArgument || strings.Contains(text, card) || !strings.Contains(text, "card_token") {
		t.Errorf("a bad card token gives %v", text)
	}
}

func TestDeadlineIsGivenRefusedAndShaved(t *testing.T) {
	var left []time.Duration
	note := func(ctx context.Context) {
		end, ok := ctx.Deadline()
		if !ok {
			t.Error("a handler has no deadline")
		}
		left = append(left, time.Until(end))
	}
	back := start(t, "inventory", 0, handlers{inventory: seats{hold: func(ctx context.Context, _ *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
		note(ctx)
		return &inventoryv1.HoldResponse{}, nil
	}}})
	inventory := inventoryv1.NewInventoryServiceClient(start(t, "session", 0, handlers{}).dial(t, "inventory", back.addr))
	if _, err := inventory.Hold(t.Context(), goodHold()); err != nil {
		t.Fatal(err)
	}
	if left[0] > 5*time.Second || left[0] < 3*time.Second {
		t.Errorf("a call without a deadline has %v, want the default of 5s", left[0])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := inventory.Hold(ctx, goodHold()); err != nil {
		t.Fatal(err)
	}
	if end, _ := ctx.Deadline(); left[1] > 20*time.Second-5*time.Millisecond || time.Until(end) < 15*time.Second {
		t.Errorf("of 20s, %v are passed on", left[1])
	}
	late, cancel := context.WithTimeout(t.Context(), 4*time.Millisecond)
	defer cancel()
	if _, err := inventory.Hold(late, goodHold()); problem.Reason(err) != problem.DeadlineTooShort || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("4ms with 5ms kept back give %v", err)
	}
	if len(left) != 2 {
		t.Errorf("%d calls came through, want 2", len(left))
	}
}

func TestCapacityRefusesWhatCannotFinish(t *testing.T) {
	r := start(t, "session", 0, handlers{session: sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		return &sessionv1.TouchResponse{}, nil
	}}}, capacity.Config{Slots: 1, ServiceTime: time.Hour, Distribution: capacity.Constant})
	conn := dial(t, r.addr)
	_, err := sessionv1.NewSessionServiceClient(conn).Touch(t.Context(), &sessionv1.TouchRequest{Token: "t"})
	if status.Code(err) != codes.DeadlineExceeded || problem.Reason(err) != problem.DeadlineTooShort {
		t.Errorf("an hour's work in 5s gives %v", err)
	}
	// A probe takes no slot and is not counted.
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a probe of a full replica gives %v", err)
	}
	if text := r.scrape(t); strings.Contains(text, "grpc.health") {
		t.Error("a probe is counted as load")
	}
	if strings.Contains(r.logs.String(), "grpc.health") {
		t.Error("a probe is logged")
	}
}

func TestArrivalIsBeforeTheHandler(t *testing.T) {
	var arrived, handled time.Time
	r := start(t, "session", 0, handlers{session: sessions{touch: func(ctx context.Context, _ *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		arrived, handled = telemetry.Arrival(ctx), time.Now()
		return nil, errors.New("never mind")
	}}})
	begun := time.Now()
	_, _ = sessionv1.NewSessionServiceClient(dial(t, r.addr)).Touch(t.Context(), &sessionv1.TouchRequest{Token: "t"})
	if arrived.Before(begun) || !arrived.Before(handled) {
		t.Errorf("called at %v, arrived at %v, handled at %v", begun, arrived, handled)
	}
}

func TestForgedCallerIsRefusedAndLogged(t *testing.T) {
	r := start(t, "session", 0, handlers{session: sessions{}})
	ctx := metadata.AppendToOutgoingContext(t.Context(), identity.Header, "Not A Name")
	_, err := sessionv1.NewSessionServiceClient(dial(t, r.addr)).Touch(ctx, &sessionv1.TouchRequest{Token: "t"})
	if problem.Reason(err) != problem.CallerInvalid || len(r.logs.lines(t, "call refused")) != 1 {
		t.Errorf("a forged caller gives %v, log %s", err, r.logs)
	}
}

// TestNoSecretComesOut sends secrets in every place a request has and looks for
// them wherever telemetry goes, on success, failure, refusal and panic.
func TestNoSecretComesOut(t *testing.T) {
	traces := newReceiver(t)
	const bearer, card, token = "be4rer-s3cret", "tok_c4rds3cret", "s3ssion-s3cret"
	answers := []func() (*sessionv1.TouchResponse, error){
		func() (*sessionv1.TouchResponse, error) { return &sessionv1.TouchResponse{}, nil },
		func() (*sessionv1.TouchResponse, error) {
			return nil, problem.New(codes.Unauthenticated, problem.SessionInvalid, "sign in again")
		},
		func() (*sessionv1.TouchResponse, error) { panic("oh") },
	}
	back := start(t, "session", 1, handlers{session: sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		next := answers[0]
		answers = answers[1:]
		return next()
	}}, payment: paymentv1.UnimplementedPaymentServiceServer{}})
	front := start(t, "gateway", 1, handlers{})
	conn := front.dial(t, "session", back.addr)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+bearer, "cookie", "session="+token)
	for range len(answers) {
		_, _ = sessionv1.NewSessionServiceClient(conn).Touch(ctx, &sessionv1.TouchRequest{Token: token})
	}
	payment := paymentv1.NewPaymentServiceClient(conn)
	for _, id := range []string{"payment-1", "bad id"} {
		if _, err := payment.Charge(ctx, &paymentv1.ChargeRequest{PaymentId: id, AmountCents: 1, CardToken: card}); err == nil {
			t.Fatal("an unimplemented method answers")
		}
	}
	_, err := payment.Charge(ctx, &paymentv1.ChargeRequest{PaymentId: "payment-1", AmountCents: 1, CardToken: card + "!"})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("a malformed card token gives %v", err)
	}
	front.end()
	back.end()
	if len(answers) != 0 || len(back.logs.lines(t, "finished call")) != 6 || len(traces.spans()["session"]) != 6 || len(traces.spans()["gateway"]) != 6 {
		t.Fatalf("%d answers left, spans %d and %d, log:\n%s", len(answers), len(traces.spans()["session"]), len(traces.spans()["gateway"]), back.logs)
	}
	var out strings.Builder
	for _, r := range []*replica{front, back} {
		out.WriteString(r.logs.String())
		out.WriteString(r.scrape(t))
	}
	for _, spans := range traces.spans() {
		for _, s := range spans {
			out.WriteString(s.String())
		}
	}
	out.WriteString(err.Error())
	for _, secret := range []string{bearer, card, token} {
		if i := strings.Index(out.String(), secret); i >= 0 {
			t.Errorf("%q comes out: ...%s...", secret, out.String()[max(0, i-200):i+len(secret)])
		}
	}
}
