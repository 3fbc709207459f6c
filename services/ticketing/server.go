package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// Reasons of ticketing.
const (
	// reasonTicketPending (NotFound, retryable): the order has no ticket yet.
	// An order that does not exist, or was not paid, looks the same from here.
	reasonTicketPending = "TICKET_PENDING"
	// reasonOrderUnknown (NotFound): the ticket is not this person's; the same
	// words as for an order that is not there.
	reasonOrderUnknown = "ORDER_UNKNOWN"
)

// pendingRetry is how long a ticket usually takes to be issued.
const pendingRetry = 50 * time.Millisecond

// server answers TicketingService.
type server struct {
	ticketingv1.UnimplementedTicketingServiceServer
	store *store
}

// GetTicket shows the ticket of an order to whoever bought it.
func (s *server) GetTicket(ctx context.Context, req *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error) {
	ticket, err := s.store.get(ctx, req.GetOrderId())
	switch {
	case err != nil:
		return nil, err
	case ticket == nil:
		return nil, problem.New(codes.NotFound, reasonTicketPending, "the ticket of order %s is not issued yet; ask again", req.GetOrderId()).
			Retry(pendingRetry)
	case ticket.GetPersonId() != req.GetPersonId():
		return nil, problem.New(codes.NotFound, reasonOrderUnknown, "there is no order %s", req.GetOrderId())
	}
	return &ticketingv1.GetTicketResponse{Ticket: ticket}, nil
}
