package audit

import (
	"time"

	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// Snapshot is what the stores hold. They are read one after another, so what
// changes meanwhile may look inconsistent; see Settle.
type Snapshot struct {
	// At is when the reading began, by the clock of the reader.
	At time.Time
	// Shows are the shows of which inventory keeps a bitmap.
	Shows        []Show
	Holds        []Hold
	Orders       []*orderv1.Order
	Payments     []*paymentv1.Payment
	Tickets      []*ticketingv1.Ticket
	Transactions []*bankv1.Transaction
	// Unreadable names records that cannot be decoded.
	Unreadable []string
}

// Show is what inventory keeps of a show as a whole.
type Show struct {
	ID string
	// Taken is the bitmap of seats held or sold: seat i is bit i, the first in
	// the highest bit of the first byte.
	Taken []byte
	// Expiring are the ids of the holds that inventory is going to expire.
	Expiring map[string]bool
}

// Hold is one hold of seats, by whatever name of a state inventory gives it.
type Hold struct {
	Show, ID string
	// Seats are seat numbers, row by row from 0 on.
	Seats       []int
	State       string
	Expires     time.Time
	AmountCents int64
}

func (s Show) taken(seat int) bool {
	return seat/8 < len(s.Taken) && s.Taken[seat/8]&(0x80>>(seat%8)) != 0
}
