package main

import (
	"context"

	"spillway.dev/platform/criticality"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// server answers GatewayService. It holds no state, so any replica answers any call.
type server struct {
	gatewayv1.UnimplementedGatewayServiceServer
	downstreams
	affinity affinity
}

// SignIn opens a session. A token that the caller came with is ended by it, so that a stolen one dies at the next sign-in.
func (s *server) SignIn(ctx context.Context, req *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
	previous := bearer(ctx)
	if len(previous) > maxTokenBytes {
		previous = ""
	}
	t := s.split(previous)
	t.claim, t.key = claimOf(req.GetPersonId()), s.affinity.begin(t.key)
	resp, err := s.session.SignIn(toward(ctx, t.key), &sessionv1.SignInRequest{PersonId: req.GetPersonId(), PreviousToken: t.rest})
	if err != nil {
		return nil, passOn("session", err)
	}
	return &gatewayv1.SignInResponse{Token: s.join(t, resp.GetToken()), ExpiresAt: resp.GetExpiresAt()}, nil
}

// RefreshSession exchanges the token. It does not touch the session first: Refresh itself tells whether there is one.
func (s *server) RefreshSession(ctx context.Context, _ *gatewayv1.RefreshSessionRequest) (*gatewayv1.RefreshSessionResponse, error) {
	text, err := required(ctx)
	if err != nil {
		return nil, err
	}
	t := s.split(text)
	resp, err := s.session.Refresh(toward(ctx, t.key), &sessionv1.RefreshRequest{Token: t.rest})
	if err != nil {
		return nil, passOn("session", err)
	}
	return &gatewayv1.RefreshSessionResponse{Token: s.join(t, resp.GetToken()), ExpiresAt: resp.GetExpiresAt()}, nil
}

// SignOut ends the session. It does not touch it first: to sign out of a session that has ended already is no error, and
// the browser's cookie goes either way. To end a person's other sessions takes a session that is still good.
func (s *server) SignOut(ctx context.Context, req *gatewayv1.SignOutRequest) (*gatewayv1.SignOutResponse, error) {
	if req.GetEverywhere() {
		ctx, person, t, err := s.known(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := s.session.RevokeAll(toward(ctx, t.key), &sessionv1.RevokeAllRequest{PersonId: person})
		if err != nil {
			return nil, passOn("session", err)
		}
		return &gatewayv1.SignOutResponse{Ended: resp.GetEnded()}, nil
	}
	text, err := required(ctx)
	if err != nil {
		return nil, err
	}
	t := s.split(text)
	resp, err := s.session.Revoke(toward(ctx, t.key), &sessionv1.RevokeRequest{Token: t.rest})
	if err != nil {
		return nil, passOn("session", err)
	}
	return &gatewayv1.SignOutResponse{Ended: resp.GetEnded()}, nil
}

// ListShows lists what is on sale, to anyone. Whoever comes with a session is not asked for it, unless it claims to be
// critical: what is public needs no proof, going before others does. Without the proof it is a stranger's call.
func (s *server) ListShows(ctx context.Context, _ *gatewayv1.ListShowsRequest) (*gatewayv1.ListShowsResponse, error) {
	if c, _ := splitClaim(bearer(ctx)); c.made && c.class == criticality.Critical {
		if _, _, err := s.person(ctx); err != nil {
			ctx = criticality.Unknown(ctx)
		}
	}
	resp, err := s.catalog.ListShows(ctx, &catalogv1.ListShowsRequest{})
	if err != nil {
		return nil, passOn("catalog", err)
	}
	return &gatewayv1.ListShowsResponse{Shows: shows(resp.GetShows())}, nil
}

// GetSeatMap tells which seats are free.
func (s *server) GetSeatMap(ctx context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
	ctx, _, err := s.person(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.catalog.GetSeatMap(ctx, &catalogv1.GetSeatMapRequest{ShowId: req.GetShowId()})
	if err != nil {
		return nil, passOn("catalog", err)
	}
	return seatMap(resp), nil
}

// Checkout buys seats for the session's person.
func (s *server) Checkout(ctx context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
	ctx, person, err := s.person(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.order.Checkout(ctx, &orderv1.CheckoutRequest{
		IdempotencyKey: req.GetIdempotencyKey(),
		PersonId:       person,
		ShowId:         req.GetShowId(),
		SeatIds:        req.GetSeatIds(),
		CardToken:      req.GetCardToken(),
	})
	if err != nil {
		return nil, passOn("order", err)
	}
	return &gatewayv1.CheckoutResponse{Order: order(resp.GetOrder())}, nil
}

// GetOrder returns an order of the session's person; another person's is not found.
func (s *server) GetOrder(ctx context.Context, req *gatewayv1.GetOrderRequest) (*gatewayv1.GetOrderResponse, error) {
	ctx, person, err := s.person(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.order.GetOrder(ctx, &orderv1.GetOrderRequest{OrderId: req.GetOrderId(), PersonId: person})
	if err != nil {
		return nil, passOn("order", err)
	}
	return &gatewayv1.GetOrderResponse{Order: order(resp.GetOrder())}, nil
}

// GetTicket returns the ticket of an order of the session's person.
func (s *server) GetTicket(ctx context.Context, req *gatewayv1.GetTicketRequest) (*gatewayv1.GetTicketResponse, error) {
	ctx, person, err := s.person(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.ticketing.GetTicket(ctx, &ticketingv1.GetTicketRequest{OrderId: req.GetOrderId(), PersonId: person})
	if err != nil {
		return nil, passOn("ticketing", err)
	}
	return &gatewayv1.GetTicketResponse{Ticket: ticket(resp.GetTicket())}, nil
}
