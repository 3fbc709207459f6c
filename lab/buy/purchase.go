package buy

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// Service is the name under which the buyer's own spans appear.
const Service = "buyer"

// Reasons that the buyer acts on.
const (
	ticketPending = "TICKET_PENDING" // not yet
	seatTaken     = "SEAT_TAKEN"     // somebody was faster
)

// looks is how often the buyer looks for seats when others are faster.
const looks = 3

const (
	// stepTimeout bounds each call.
	stepTimeout = 5 * time.Second
	// shortestPoll and longestPoll bound the time between two questions for the
	// ticket, whatever delay the answer asks for.
	shortestPoll = 20 * time.Millisecond
	longestPoll  = 500 * time.Millisecond
)

// Order says what to buy from whom.
type Order struct {
	// Gateway and OTLP are gRPC addresses, host:port. OTLP takes the buyer's own
	// spans; without it there are none.
	Gateway, OTLP string
	Person        string
	// Show is a show's id; any show with enough free seats when empty.
	Show string
	// Seats is how many, side by side, 1 to 8.
	Seats int
	// Card is a card token.
	Card string
	// Patience is how long to wait for the ticket.
	Patience time.Duration
}

// Step is one thing the buyer did.
type Step struct {
	Name   string
	Took   time.Duration
	Detail string
}

// Purchase is what came of it, as far as it came.
type Purchase struct {
	TraceID string
	Steps   []Step
	Show    *gatewayv1.Show
	Order   *gatewayv1.Order
	Ticket  *gatewayv1.Ticket
}

// Make buys what o says, calling progress after every step. Every call but the
// questions for the ticket is part of one sampled trace; its root is exported
// before Make returns, also when a step failed. The purchase is never nil.
func Make(ctx context.Context, o Order, progress func(Step)) (*Purchase, error) {
	b := &buyer{Order: o, purchase: &Purchase{}, progress: progress}
	stop, err := b.connect(ctx)
	if err != nil {
		return b.purchase, err
	}
	ctx, root := b.tracer.Start(ctx, "buy a ticket", oteltrace.WithAttributes(attribute.Int("spillway.seats", o.Seats)))
	b.purchase.TraceID = root.SpanContext().TraceID().String()
	err = b.walk(ctx)
	if err != nil {
		root.SetStatus(otelcodes.Error, cmp.Or(problem.Reason(err), "failed"))
	}
	root.End()
	return b.purchase, errors.Join(err, stop())
}

type buyer struct {
	Order
	purchase *Purchase
	progress func(Step)

	tracer oteltrace.Tracer
	traced gatewayv1.GatewayServiceClient
	quiet  gatewayv1.GatewayServiceClient // leaves no trace

	token string
	shows []*gatewayv1.Show
	seats []string
}

// connect makes clients and tracer. The returned function exports what was
// traced and closes all.
func (b *buyer) connect(ctx context.Context) (stop func() error, err error) {
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", Service), attribute.String("service.instance.id", Service))),
	}
	if b.OTLP != "" {
		exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(b.OTLP), otlptracegrpc.WithInsecure())
		if err != nil {
			return nil, fmt.Errorf("export spans to %s: %w", b.OTLP, err)
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(options...)
	b.tracer = provider.Tracer("spillway.dev/lab/buy")

	target := "passthrough:///" + b.Gateway
	traced, err1 := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(
		otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
			otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()))))
	quiet, err2 := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("dial the gateway at %s: %w", b.Gateway, err)
	}
	b.traced, b.quiet = gatewayv1.NewGatewayServiceClient(traced), gatewayv1.NewGatewayServiceClient(quiet)
	return func() error {
		// The spans are worth a wait even when ctx has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			err = fmt.Errorf("export the buyer's spans to %s: %w", b.OTLP, err)
			return errors.Join(err, traced.Close(), quiet.Close())
		}
		return errors.Join(traced.Close(), quiet.Close())
	}, nil
}

func (b *buyer) walk(ctx context.Context) error {
	if err := b.step(ctx, "sign in", b.signIn); err != nil {
		return err
	}
	if err := b.step(ctx, "list shows", b.listShows); err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err := b.step(ctx, "look at the seats", b.chooseSeats); err != nil {
			return err
		}
		err := b.step(ctx, "check out", b.checkout)
		if err == nil {
			return b.step(ctx, "wait for the ticket", b.awaitTicket)
		}
		// Somebody was faster; others are free.
		if problem.Reason(err) != seatTaken || try == looks {
			return err
		}
	}
}

// step does one thing and tells how long it took.
func (b *buyer) step(ctx context.Context, name string, do func(context.Context) (string, error)) error {
	begin := time.Now()
	detail, err := do(ctx)
	if err != nil {
		detail = cmp.Or(problem.Reason(err), "failed")
	}
	s := Step{Name: name, Took: time.Since(begin), Detail: detail}
	b.purchase.Steps = append(b.purchase.Steps, s)
	if b.progress != nil {
		b.progress(s)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (b *buyer) signIn(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	resp, err := b.traced.SignIn(ctx, &gatewayv1.SignInRequest{PersonId: b.Person})
	if err != nil {
		return "", err
	}
	b.token = resp.GetToken()
	return "as " + b.Person, nil
}

func (b *buyer) listShows(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	resp, err := b.traced.ListShows(ctx, &gatewayv1.ListShowsRequest{})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, s := range resp.GetShows() {
		if b.Show == "" || s.GetShowId() == b.Show {
			b.shows = append(b.shows, s)
		}
		ids = append(ids, s.GetShowId())
	}
	if b.Show != "" && len(b.shows) == 0 {
		return "", fmt.Errorf("there is no show %q; on sale are %s", b.Show, strings.Join(ids, ", "))
	}
	return fmt.Sprintf("%d on sale", len(ids)), nil
}

// chooseSeats looks at one show after another until it finds enough seats.
func (b *buyer) chooseSeats(ctx context.Context) (string, error) {
	for _, show := range b.shows {
		callCtx, cancel := context.WithTimeout(b.signed(ctx), stepTimeout)
		seats, err := b.traced.GetSeatMap(callCtx, &gatewayv1.GetSeatMapRequest{ShowId: show.GetShowId()})
		cancel()
		if err != nil {
			return "", err
		}
		if b.seats = sideBySide(seats.GetRows(), b.Seats, rand.IntN); b.seats != nil {
			b.purchase.Show = show
			return fmt.Sprintf("%s, %s", show.GetTitle(), strings.Join(b.seats, " ")), nil
		}
	}
	return "", fmt.Errorf("no show has %d free seats side by side; ask for fewer, or for another show", b.Seats)
}

// sideBySide finds n free neighbours, from a random place on, so that buyers who
// come together do not all want the first. It is nil when there are none.
func sideBySide(rows []*gatewayv1.SeatRow, n int, intN func(int) int) []string {
	if len(rows) == 0 || n < 1 {
		return nil
	}
	first := intN(len(rows))
	for i := range rows {
		row := rows[(first+i)%len(rows)]
		free, from := strings.Repeat(".", n), intN(len(row.GetSeats())+1)
		at := strings.Index(row.GetSeats()[from:], free)
		if at += from; at < from {
			at = strings.Index(row.GetSeats(), free)
		}
		if at < 0 {
			continue
		}
		chosen := make([]string, n)
		for j := range chosen {
			chosen[j] = row.GetRow() + "-" + strconv.Itoa(at+j+1)
		}
		return chosen
	}
	return nil
}

func (b *buyer) checkout(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(b.signed(ctx), stepTimeout)
	defer cancel()
	resp, err := b.traced.Checkout(ctx, &gatewayv1.CheckoutRequest{
		IdempotencyKey: "buy-" + random(12), ShowId: b.purchase.Show.GetShowId(), SeatIds: b.seats, CardToken: b.Card,
	})
	if err != nil {
		return "", err
	}
	b.purchase.Order = resp.GetOrder()
	switch b.purchase.Order.GetState() {
	case gatewayv1.OrderState_ORDER_STATE_CANCELLED:
		return "", problem.New(codes.FailedPrecondition, b.purchase.Order.GetReason(), "order %s was cancelled", b.purchase.Order.GetOrderId())
	case gatewayv1.OrderState_ORDER_STATE_CONFIRMED:
		return fmt.Sprintf("order %s, %s", b.purchase.Order.GetOrderId(), Money(b.purchase.Order.GetAmountCents())), nil
	default: // the mesh goes on with it; the ticket tells when it is done
		return fmt.Sprintf("order %s is under way", b.purchase.Order.GetOrderId()), nil
	}
}

// awaitTicket asks until the ticket is there. One span stands for the wait; the
// questions themselves are told not to be traced.
func (b *buyer) awaitTicket(ctx context.Context) (string, error) {
	ctx, span := b.tracer.Start(ctx, "wait for the ticket")
	defer span.End()
	ctx, cancel := context.WithTimeout(b.signed(ctx), b.Patience)
	defer cancel()
	for {
		ask := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+random(16)+"-"+random(8)+"-00")
		resp, err := b.quiet.GetTicket(ask, &gatewayv1.GetTicketRequest{OrderId: b.purchase.Order.GetOrderId()})
		if err == nil {
			b.purchase.Ticket = resp.GetTicket()
			return "ticket " + b.purchase.Ticket.GetTicketId(), nil
		}
		p := problem.From(err)
		if p.Reason != ticketPending && !p.Retryable {
			return "", err
		}
		select {
		case <-time.After(min(max(p.RetryAfter, shortestPoll), longestPoll)):
		case <-ctx.Done():
			return "", fmt.Errorf("no ticket within %s for order %s; `spillway audit` tells what became of it (last answer: %w)",
				b.Patience, b.purchase.Order.GetOrderId(), err)
		}
	}
}

func (b *buyer) signed(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+b.token)
}

// random is n random bytes in hexadecimal digits.
func random(n int) string {
	b := make([]byte, n)
	crand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Money writes an amount in cents; the mesh knows one currency and does not
// name it.
func Money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
