package main

import (
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// The functions of this file turn what services record into what people see, field by field: a field that is added to a
// service's record stays inside until somebody adds it here.

func shows(in []*catalogv1.Show) []*gatewayv1.Show {
	out := make([]*gatewayv1.Show, 0, len(in))
	for _, s := range in {
		out = append(out, &gatewayv1.Show{
			ShowId:      s.GetShowId(),
			Title:       s.GetTitle(),
			Venue:       s.GetVenue(),
			StartsAt:    s.GetStartsAt(),
			PriceCents:  s.GetPriceCents(),
			Rows:        s.GetRows(),
			SeatsPerRow: s.GetSeatsPerRow(),
		})
	}
	return out
}

func seatMap(in *catalogv1.GetSeatMapResponse) *gatewayv1.GetSeatMapResponse {
	out := &gatewayv1.GetSeatMapResponse{ShowId: in.GetShowId(), Free: in.GetFree()}
	for _, r := range in.GetRows() {
		out.Rows = append(out.Rows, &gatewayv1.SeatRow{Row: r.GetRow(), Seats: r.GetSeats()})
	}
	return out
}

func order(in *orderv1.Order) *gatewayv1.Order {
	out := &gatewayv1.Order{
		OrderId:     in.GetOrderId(),
		ShowId:      in.GetShowId(),
		SeatIds:     in.GetSeatIds(),
		AmountCents: in.GetAmountCents(),
		State:       orderState(in.GetState()),
	}
	// While an order is being undone its reason is known already, but it has not ended.
	if out.State == gatewayv1.OrderState_ORDER_STATE_CANCELLED {
		out.Reason = in.GetReason()
	}
	return out
}

// orderState folds the steps of the saga, which are nobody's business outside, into "under way".
func orderState(in orderv1.OrderState) gatewayv1.OrderState {
	switch in {
	case orderv1.OrderState_ORDER_STATE_PENDING,
		orderv1.OrderState_ORDER_STATE_HELD,
		orderv1.OrderState_ORDER_STATE_PAID,
		orderv1.OrderState_ORDER_STATE_CANCELLING:
		return gatewayv1.OrderState_ORDER_STATE_PENDING
	case orderv1.OrderState_ORDER_STATE_CONFIRMED:
		return gatewayv1.OrderState_ORDER_STATE_CONFIRMED
	case orderv1.OrderState_ORDER_STATE_CANCELLED:
		return gatewayv1.OrderState_ORDER_STATE_CANCELLED
	default:
		return gatewayv1.OrderState_ORDER_STATE_UNSPECIFIED
	}
}

func ticket(in *ticketingv1.Ticket) *gatewayv1.Ticket {
	return &gatewayv1.Ticket{
		TicketId: in.GetTicketId(),
		OrderId:  in.GetOrderId(),
		ShowId:   in.GetShowId(),
		SeatIds:  in.GetSeatIds(),
		IssuedAt: in.GetIssuedAt(),
	}
}
