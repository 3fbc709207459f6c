package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway.dev/platform/keyspace"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// The rules that Check judges by.
const (
	// SeatSoldTwice: two live holds, or two confirmed orders, have one seat.
	SeatSoldTwice = "seat-sold-twice"
	// BitmapDisagrees: a seat is marked taken and nobody has it, or the reverse.
	BitmapDisagrees = "bitmap-disagrees"
	// HeldForEver: a hold is overdue, or nothing will ever expire it.
	HeldForEver = "held-for-ever"
	// SaleWithoutOrder: a confirmed hold has no confirmed order.
	SaleWithoutOrder = "sale-without-order"
	// OrderWithoutSale: a confirmed order has no confirmed hold of its seats.
	OrderWithoutSale = "order-without-sale"
	// ChargeWithoutOrder: money was taken and stays taken for no confirmed order.
	ChargeWithoutOrder = "charge-without-order"
	// OrderWithoutCharge: a confirmed order was not paid, or not its amount.
	OrderWithoutCharge = "order-without-charge"
	// ChargedTwice: the bank took money more than once for one reference.
	ChargedTwice = "charged-twice"
	// PaymentDisagrees: payment and bank tell different stories.
	PaymentDisagrees = "payment-disagrees"
	// PaymentUnfinished: an order is final and its payment is not.
	PaymentUnfinished = "payment-unfinished"
	// TicketMissing: a confirmed order got no ticket in time.
	TicketMissing = "ticket-missing"
	// TicketWithoutOrder: a ticket stands for no confirmed order, or not for its
	// seats, or shares its id with another.
	TicketWithoutOrder = "ticket-without-order"
	// OrderTwice: two orders have one id.
	OrderTwice = "order-twice"
	// OrderUnfinished: an order has not become final in time.
	OrderUnfinished = "order-unfinished"
	// Unreadable: a record cannot be decoded.
	Unreadable = "unreadable"
)

// Violation is one broken rule.
type Violation struct {
	Rule string `json:"rule"`
	// ID is what it is about: an order, or a show and seat.
	ID string `json:"id"`
	// Text tells what is wrong with it.
	Text string `json:"text"`
}

// Result is the judgement over a snapshot.
type Result struct {
	Counts     Counts      `json:"counts"`
	Violations []Violation `json:"violations"`
	// Unsettled is how many orders are not final, or final and not yet followed
	// by their ticket: work under way, which may be inconsistent for a moment.
	Unsettled int `json:"unsettled"`
}

// Counts is what was found in the stores.
type Counts struct {
	Shows        int            `json:"shows"`
	Holds        map[string]int `json:"holds"`
	SeatsSold    int            `json:"seats_sold"`
	Orders       map[string]int `json:"orders"`
	Payments     map[string]int `json:"payments"`
	Transactions map[string]int `json:"bank_transactions"`
	Tickets      int            `json:"tickets"`
	Refunds      int            `json:"refunds"`
}

// Check judges a snapshot. It is pure. An order that is not final is exempt
// from the rules that compare stores, since its saga is at work on them, but
// only for grace; a hold may be overdue for as long.
func Check(s *Snapshot, grace time.Duration) Result {
	c := &checker{
		s: s, grace: grace,
		result:   Result{Violations: []Violation{}}, // [] in JSON, not null
		orders:   make(map[string]*orderv1.Order, len(s.Orders)),
		holds:    make(map[string]Hold, len(s.Holds)),
		payments: make(map[string]*paymentv1.Payment, len(s.Payments)),
		bank:     make(map[string]*bankv1.Transaction, len(s.Transactions)),
		tickets:  make(map[string]*ticketingv1.Ticket, len(s.Tickets)),
	}
	for _, o := range s.Orders {
		if c.orders[o.GetOrderId()] != nil {
			c.add(OrderTwice, o.GetOrderId(), "two orders have this id")
		}
		c.orders[o.GetOrderId()] = o
	}
	for _, h := range s.Holds {
		c.holds[h.Show+"/"+h.ID] = h
	}
	for _, p := range s.Payments {
		c.payments[p.GetPaymentId()] = p
	}
	for _, t := range s.Transactions {
		c.bank[t.GetReference()] = t
	}
	for _, name := range s.Unreadable {
		c.add(Unreadable, name, "the record cannot be decoded")
	}
	c.seats()
	c.checkTickets()
	c.checkOrders()
	c.checkMoney()
	c.result.Counts = count(s)
	slices.SortFunc(c.result.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Text, b.Text))
	})
	return c.result
}

type checker struct {
	s      *Snapshot
	grace  time.Duration
	result Result

	orders   map[string]*orderv1.Order
	holds    map[string]Hold // by show/id
	payments map[string]*paymentv1.Payment
	bank     map[string]*bankv1.Transaction
	tickets  map[string]*ticketingv1.Ticket // by order id
}

func (c *checker) add(rule, id, format string, args ...any) {
	c.result.Violations = append(c.result.Violations, Violation{Rule: rule, ID: id, Text: fmt.Sprintf(format, args...)})
}

// standing is what can be expected of an order's traces in other stores.
type standing uint8

const (
	missing   standing = iota // there is no such order
	underWay                  // anything may be there
	confirmed                 // sold and charged
	cancelled                 // neither
)

func (c *checker) standing(id string) standing {
	o := c.orders[id]
	switch {
	case o == nil:
		return missing
	case o.GetState() == orderv1.OrderState_ORDER_STATE_CONFIRMED:
		return confirmed
	case o.GetState() == orderv1.OrderState_ORDER_STATE_CANCELLED:
		return cancelled
	default:
		return underWay
	}
}

// seats checks holds against each other, the bitmap, time and orders.
func (c *checker) seats() {
	type place struct {
		show string
		seat int
	}
	holder := make(map[place]string)
	byShow := make(map[string]Show, len(c.s.Shows))
	for _, show := range c.s.Shows {
		byShow[show.ID] = show
	}
	for _, h := range c.s.Holds {
		if h.State != keyspace.HoldHeld && h.State != keyspace.HoldConfirmed {
			continue
		}
		for _, seat := range h.Seats {
			at := place{h.Show, seat}
			id := fmt.Sprintf("%s seat %d", h.Show, seat)
			if other, twice := holder[at]; twice {
				c.add(SeatSoldTwice, id, "held by %s and by %s", min(h.ID, other), max(h.ID, other))
			}
			holder[at] = h.ID
			if !byShow[h.Show].taken(seat) {
				c.add(BitmapDisagrees, id, "marked free, but %s by %s", h.State, h.ID)
			}
		}
		switch h.State {
		case keyspace.HoldHeld:
			if overdue := c.s.At.Sub(h.Expires); overdue > c.grace {
				c.add(HeldForEver, h.ID, "%d seats of %s should have come free %s ago", len(h.Seats), h.Show, overdue.Round(time.Second))
			} else if !byShow[h.Show].Expiring[h.ID] {
				c.add(HeldForEver, h.ID, "%d seats of %s are held and nothing will expire them", len(h.Seats), h.Show)
			}
		case keyspace.HoldConfirmed:
			switch c.standing(h.ID) {
			case missing:
				c.add(SaleWithoutOrder, h.ID, "%d seats of %s are sold to no order", len(h.Seats), h.Show)
			case cancelled:
				c.add(SaleWithoutOrder, h.ID, "%d seats of %s are sold to an order that was cancelled", len(h.Seats), h.Show)
			}
		}
	}
	for _, show := range c.s.Shows {
		for seat := range len(show.Taken) * 8 {
			if _, has := holder[place{show.ID, seat}]; show.taken(seat) && !has {
				c.add(BitmapDisagrees, fmt.Sprintf("%s seat %d", show.ID, seat), "marked taken, but nobody holds it")
			}
		}
	}
}

// checkOrders checks every order's age and what follows from its being final.
func (c *checker) checkOrders() {
	buyer := make(map[string]string)
	for _, o := range c.s.Orders {
		id := o.GetOrderId()
		switch c.standing(id) {
		case underWay:
			c.result.Unsettled++
			since := o.GetCreatedAt()
			if since == nil {
				since = o.GetUpdatedAt()
			}
			if age := c.s.At.Sub(since.AsTime()); age > c.grace {
				c.add(OrderUnfinished, id, "%s for %s", name(o.GetState().String(), "ORDER_STATE_"), age.Round(time.Second))
			}
		case confirmed:
			for _, seat := range o.GetSeatIds() {
				at := o.GetShowId() + " " + seat
				if other, twice := buyer[at]; twice {
					c.add(SeatSoldTwice, at, "sold to %s and to %s", min(id, other), max(id, other))
				}
				buyer[at] = id
			}
			h, ok := c.holds[o.GetShowId()+"/"+id]
			switch {
			case !ok:
				c.add(OrderWithoutSale, id, "confirmed, but inventory has no hold of it")
			case h.State != keyspace.HoldConfirmed:
				c.add(OrderWithoutSale, id, "confirmed, but its hold is %s", h.State)
			case len(h.Seats) != len(o.GetSeatIds()):
				c.add(OrderWithoutSale, id, "%d seats ordered, %d sold", len(o.GetSeatIds()), len(h.Seats))
			}
			switch t := c.bank[id]; {
			case t.GetState() != bankv1.TransactionState_TRANSACTION_STATE_CAPTURED:
				c.add(OrderWithoutCharge, id, "confirmed, but at the bank it is %s", bankState(t))
			case t.GetAmountCents() != o.GetAmountCents():
				c.add(OrderWithoutCharge, id, "costs %d cents, charged were %d", o.GetAmountCents(), t.GetAmountCents())
			}
			if c.tickets[id] == nil {
				c.result.Unsettled++
				if age := c.s.At.Sub(o.GetUpdatedAt().AsTime()); age > c.grace {
					c.add(TicketMissing, id, "confirmed %s ago, but no ticket was issued", age.Round(time.Second))
				}
			}
		}
	}
}

// checkTickets checks every ticket against its order.
func (c *checker) checkTickets() {
	orderOf := make(map[string]string)
	for _, t := range c.s.Tickets {
		id := t.GetOrderId()
		if c.tickets[id] != nil {
			c.add(TicketWithoutOrder, id, "two tickets for one order: %s and %s", c.tickets[id].GetTicketId(), t.GetTicketId())
		}
		c.tickets[id] = t
		if other, twice := orderOf[t.GetTicketId()]; twice && other != id {
			c.add(TicketWithoutOrder, id, "ticket %s is also the ticket of %s", t.GetTicketId(), other)
		}
		orderOf[t.GetTicketId()] = id
		switch c.standing(id) {
		case missing:
			c.add(TicketWithoutOrder, id, "ticket %s is for an order that does not exist", t.GetTicketId())
		case cancelled:
			c.add(TicketWithoutOrder, id, "ticket %s is for an order that was cancelled", t.GetTicketId())
		case confirmed:
			if o := c.orders[id]; t.GetShowId() != o.GetShowId() || !sameSeats(t.GetSeatIds(), o.GetSeatIds()) {
				c.add(TicketWithoutOrder, id, "ticket %s admits to %s %v, ordered was %s %v",
					t.GetTicketId(), t.GetShowId(), t.GetSeatIds(), o.GetShowId(), o.GetSeatIds())
			}
		}
	}
}

// checkMoney checks the bank's books against orders and payments.
func (c *checker) checkMoney() {
	for _, t := range c.s.Transactions {
		id := t.GetReference()
		if t.GetCaptures() > 1 {
			c.add(ChargedTwice, id, "money was taken %d times", t.GetCaptures())
		}
		if t.GetState() == bankv1.TransactionState_TRANSACTION_STATE_CAPTURED {
			switch c.standing(id) {
			case missing:
				c.add(ChargeWithoutOrder, id, "%d cents were charged for no order", t.GetAmountCents())
			case cancelled:
				c.add(ChargeWithoutOrder, id, "%d cents were charged for an order that was cancelled, and not refunded", t.GetAmountCents())
			}
		}
		took := t.GetState() == bankv1.TransactionState_TRANSACTION_STATE_CAPTURED || t.GetState() == bankv1.TransactionState_TRANSACTION_STATE_REFUNDED
		if took && c.payments[id] == nil && c.standing(id) != underWay {
			c.add(PaymentDisagrees, id, "the bank has %s, payment has no record", bankState(t))
		}
	}
	for _, p := range c.s.Payments {
		id := p.GetPaymentId()
		if c.standing(id) == underWay {
			continue
		}
		t := c.bank[id]
		var want []bankv1.TransactionState
		switch p.GetState() {
		case paymentv1.PaymentState_PAYMENT_STATE_CAPTURED:
			want = []bankv1.TransactionState{bankv1.TransactionState_TRANSACTION_STATE_CAPTURED}
		case paymentv1.PaymentState_PAYMENT_STATE_REFUNDED:
			want = []bankv1.TransactionState{bankv1.TransactionState_TRANSACTION_STATE_REFUNDED}
		case paymentv1.PaymentState_PAYMENT_STATE_DECLINED:
			want = []bankv1.TransactionState{bankv1.TransactionState_TRANSACTION_STATE_DECLINED, bankv1.TransactionState_TRANSACTION_STATE_VOIDED}
		case paymentv1.PaymentState_PAYMENT_STATE_VOIDED:
			// What payment never asked for, the bank need not know.
			want = []bankv1.TransactionState{bankv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED,
				bankv1.TransactionState_TRANSACTION_STATE_VOIDED, bankv1.TransactionState_TRANSACTION_STATE_DECLINED}
		default:
			c.add(PaymentUnfinished, id, "still %s at payment, %s at the bank", name(p.GetState().String(), "PAYMENT_STATE_"), bankState(t))
			continue
		}
		if !slices.Contains(want, t.GetState()) {
			c.add(PaymentDisagrees, id, "%s at payment, %s at the bank", name(p.GetState().String(), "PAYMENT_STATE_"), bankState(t))
		} else if len(want) == 1 && p.GetAmountCents() != t.GetAmountCents() {
			c.add(PaymentDisagrees, id, "%d cents at payment, %d at the bank", p.GetAmountCents(), t.GetAmountCents())
		}
	}
}

func sameSeats(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// name is an enum value's name without its prefix, in small letters.
func name(value, prefix string) string { return strings.ToLower(strings.TrimPrefix(value, prefix)) }

func bankState(t *bankv1.Transaction) string {
	if t == nil {
		return "unknown"
	}
	return name(t.GetState().String(), "TRANSACTION_STATE_")
}

func count(s *Snapshot) Counts {
	c := Counts{
		Shows: len(s.Shows), Tickets: len(s.Tickets),
		Holds: map[string]int{}, Orders: map[string]int{}, Payments: map[string]int{}, Transactions: map[string]int{},
	}
	for _, h := range s.Holds {
		c.Holds[h.State]++
		if h.State == keyspace.HoldConfirmed {
			c.SeatsSold += len(h.Seats)
		}
	}
	for _, o := range s.Orders {
		c.Orders[name(o.GetState().String(), "ORDER_STATE_")]++
	}
	for _, p := range s.Payments {
		c.Payments[name(p.GetState().String(), "PAYMENT_STATE_")]++
	}
	for _, t := range s.Transactions {
		c.Transactions[bankState(t)]++
		if t.GetState() == bankv1.TransactionState_TRANSACTION_STATE_REFUNDED {
			c.Refunds++
		}
	}
	return c
}
