package audit

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/keyspace"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

const grace = 30 * time.Second

var at = time.Date(2031, time.March, 7, 19, 30, 0, 0, time.UTC)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(at.Add(-d)) }

// office is a snapshot in which everything is as it should be: o-1 bought seats
// o-2 was declined, o-3 was refunded, o-4 is under way, and someone
// holds seat 7.
func office() *Snapshot {
	order := func(id string, state orderv1.OrderState, cents int64, seats ...string) *orderv1.Order {
		return &orderv1.Order{OrderId: id, ShowId: "s", SeatIds: seats, AmountCents: cents, State: state, CreatedAt: ago(time.Minute), UpdatedAt: ago(time.Minute)}
	}
	young := order("o-4", orderv1.OrderState_ORDER_STATE_PAID, 100, "A-5")
	young.CreatedAt, young.UpdatedAt = ago(time.Second), ago(time.Second)
	return &Snapshot{
		At:    at,
		Shows: []Show{{ID: "s", Taken: []byte{0b1100_1001}, Expiring: map[string]bool{"o-4": true, "h-9": true}}},
		Holds: []Hold{
			{Show: "s", ID: "o-1", Seats: []int{0, 1}, State: keyspace.HoldConfirmed, Expires: at.Add(-time.Hour), AmountCents: 200},
			{Show: "s", ID: "o-2", Seats: []int{0}, State: keyspace.HoldReleased},
			{Show: "s", ID: "o-3", Seats: []int{2}, State: keyspace.HoldExpired},
			{Show: "s", ID: "o-4", Seats: []int{4}, State: keyspace.HoldHeld, Expires: at.Add(time.Minute), AmountCents: 100},
			{Show: "s", ID: "h-9", Seats: []int{7}, State: keyspace.HoldHeld, Expires: at.Add(-time.Second)},
		},
		Orders: []*orderv1.Order{
			order("o-1", orderv1.OrderState_ORDER_STATE_CONFIRMED, 200, "A-1", "A-2"),
			order("o-2", orderv1.OrderState_ORDER_STATE_CANCELLED, 100, "A-1"),
			order("o-3", orderv1.OrderState_ORDER_STATE_CANCELLED, 100, "A-3"),
			young,
		},
		Payments: []*paymentv1.Payment{
			{PaymentId: "o-1", AmountCents: 200, State: paymentv1.PaymentState_PAYMENT_STATE_CAPTURED},
			{PaymentId: "o-2", AmountCents: 100, State: paymentv1.PaymentState_PAYMENT_STATE_DECLINED},
			{PaymentId: "o-3", AmountCents: 100, State: paymentv1.PaymentState_PAYMENT_STATE_REFUNDED},
			{PaymentId: "o-4", AmountCents: 100, State: paymentv1.PaymentState_PAYMENT_STATE_PENDING},
		},
		Transactions: []*bankv1.Transaction{
			{Reference: "o-1", AmountCents: 200, State: bankv1.TransactionState_TRANSACTION_STATE_CAPTURED, Captures: 1},
			{Reference: "o-2", AmountCents: 100, State: bankv1.TransactionState_TRANSACTION_STATE_DECLINED},
			{Reference: "o-3", AmountCents: 100, State: bankv1.TransactionState_TRANSACTION_STATE_REFUNDED, Captures: 1},
			{Reference: "o-4", AmountCents: 100, State: bankv1.TransactionState_TRANSACTION_STATE_CAPTURED, Captures: 1},
		},
		Tickets: []*ticketingv1.Ticket{{TicketId: "t-1", OrderId: "o-1", ShowId: "s", SeatIds: []string{"A-2", "A-1"}}},
	}
}

func TestCheckFindsNothingWhereAllIsWell(t *testing.T) {
	r := Check(office(), grace)
	if len(r.Violations) != 0 || r.Unsettled != 1 {
		t.Errorf("got %v and %d under way, want none and 1", r.Violations, r.Unsettled)
	}
	c := r.Counts
	if c.Orders["confirmed"] != 1 || c.Orders["cancelled"] != 2 || c.Orders["paid"] != 1 || c.Payments["captured"] != 1 || c.Tickets != 1 ||
		c.Refunds != 1 || c.Holds["confirmed"] != 1 || c.SeatsSold != 2 || c.Shows != 1 || c.Transactions["captured"] != 2 {
		t.Errorf("counts: got %+v", c)
	}
	if r := Check(&Snapshot{At: at}, grace); len(r.Violations) != 0 || r.Unsettled != 0 {
		t.Errorf("nothing ever sold: got %+v", r)
	}
}

func TestCheckFindsEveryKindOfViolation(t *testing.T) {
	type v = Violation
	for _, tc := range []struct {
		name  string
		spoil func(*Snapshot)
		want  []v // Rule and ID
	}{
		{"two holds have a seat", func(s *Snapshot) {
			s.Holds = append(s.Holds, Hold{Show: "s", ID: "h-8", Seats: []int{1}, State: keyspace.HoldHeld, Expires: at.Add(time.Minute)})
			s.Shows[0].Expiring["h-8"] = true
		}, []v{{Rule: SeatSoldTwice, ID: "s seat 1"}}},
		{"the same seat number in two shows", func(s *Snapshot) {
			s.Holds = append(s.Holds, Hold{Show: "z", ID: "h-8", Seats: []int{1}, State: keyspace.HoldHeld, Expires: at.Add(time.Minute)})
			s.Shows = append(s.Shows, Show{ID: "z", Taken: []byte{0x40}, Expiring: map[string]bool{"h-8": true}})
		}, nil},
		{"two confirmed orders have a seat", func(s *Snapshot) {
			s.Orders = append(s.Orders, &orderv1.Order{OrderId: "o-5", ShowId: "s", SeatIds: []string{"A-2"}, AmountCents: 100,
				State: orderv1.OrderState_ORDER_STATE_CONFIRMED, UpdatedAt: ago(0)})
			s.Holds = append(s.Holds, Hold{Show: "s", ID: "o-5", Seats: []int{3}, State: keyspace.HoldConfirmed})
			s.Shows[0].Taken[0] |= 0b0001_0000
			s.Payments = append(s.Payments, &paymentv1.Payment{PaymentId: "o-5", AmountCents: 100, State: paymentv1.PaymentState_PAYMENT_STATE_CAPTURED})
			s.Transactions = append(s.Transactions, &bankv1.Transaction{Reference: "o-5", AmountCents: 100, State: bankv1.TransactionState_TRANSACTION_STATE_CAPTURED, Captures: 1})
		}, []v{{Rule: SeatSoldTwice, ID: "s A-2"}}},
		{"a sold seat is marked free", func(s *Snapshot) { s.Shows[0].Taken[0] &^= 0x80 }, []v{{Rule: BitmapDisagrees, ID: "s seat 0"}}},
		{"a show's bitmap is gone", func(s *Snapshot) { s.Shows[0].Taken = nil },
			[]v{{Rule: BitmapDisagrees, ID: "s seat 0"}, {Rule: BitmapDisagrees, ID: "s seat 1"}, {Rule: BitmapDisagrees, ID: "s seat 4"}, {Rule: BitmapDisagrees, ID: "s seat 7"}}},
		{"a seat is taken by nobody", func(s *Snapshot) { s.Shows[0].Taken = append(s.Shows[0].Taken, 0x01) }, []v{{Rule: BitmapDisagrees, ID: "s seat 15"}}},
		{"a hold is overdue", func(s *Snapshot) { s.Holds[4].Expires = at.Add(-grace - time.Second) }, []v{{Rule: HeldForEver, ID: "h-9"}}},
		{"a hold that nothing expires", func(s *Snapshot) { delete(s.Shows[0].Expiring, "h-9") }, []v{{Rule: HeldForEver, ID: "h-9"}}},
		{"seats sold to no order", func(s *Snapshot) { s.Holds[4].State = keyspace.HoldConfirmed }, []v{{Rule: SaleWithoutOrder, ID: "h-9"}}},
		{"seats sold to a cancelled order", func(s *Snapshot) { s.Holds[2].State = keyspace.HoldConfirmed; s.Shows[0].Taken[0] |= 0x20 },
			[]v{{Rule: SaleWithoutOrder, ID: "o-3"}}},
		{"a confirmed order without a hold", func(s *Snapshot) { s.Holds = s.Holds[1:]; s.Shows[0].Taken[0] &^= 0xc0 }, []v{{Rule: OrderWithoutSale, ID: "o-1"}}},
		{"a confirmed order whose hold expired", func(s *Snapshot) { s.Holds[0].State = keyspace.HoldExpired; s.Shows[0].Taken[0] &^= 0xc0 },
			[]v{{Rule: OrderWithoutSale, ID: "o-1"}}},
		{"fewer seats sold than ordered", func(s *Snapshot) { s.Holds[0].Seats = []int{0}; s.Shows[0].Taken[0] &^= 0x40 }, []v{{Rule: OrderWithoutSale, ID: "o-1"}}},
		{"charged for no order", func(s *Snapshot) {
			s.Transactions = append(s.Transactions, &bankv1.Transaction{Reference: "o-7", AmountCents: 5, State: bankv1.TransactionState_TRANSACTION_STATE_CAPTURED, Captures: 1})
			s.Payments = append(s.Payments, &paymentv1.Payment{PaymentId: "o-7", AmountCents: 5, State: paymentv1.PaymentState_PAYMENT_STATE_CAPTURED})
		}, []v{{Rule: ChargeWithoutOrder, ID: "o-7"}}},
		{"charged for a cancelled order", func(s *Snapshot) {
			s.Transactions[2].State = bankv1.TransactionState_TRANSACTION_STATE_CAPTURED
			s.Payments[2].State = paymentv1.PaymentState_PAYMENT_STATE_CAPTURED
		}, []v{{Rule: ChargeWithoutOrder, ID: "o-3"}}},
		{"confirmed and not charged", func(s *Snapshot) { s.Transactions = s.Transactions[1:]; s.Payments = s.Payments[1:] }, []v{{Rule: OrderWithoutCharge, ID: "o-1"}}},
		{"confirmed and refunded", func(s *Snapshot) {
			s.Transactions[0].State = bankv1.TransactionState_TRANSACTION_STATE_REFUNDED
			s.Payments[0].State = paymentv1.PaymentState_PAYMENT_STATE_REFUNDED
		}, []v{{Rule: OrderWithoutCharge, ID: "o-1"}}},
		{"charged another amount", func(s *Snapshot) { s.Transactions[0].AmountCents = 1; s.Payments[0].AmountCents = 1 }, []v{{Rule: OrderWithoutCharge, ID: "o-1"}}},
		{"charged twice", func(s *Snapshot) { s.Transactions[2].Captures = 2 }, []v{{Rule: ChargedTwice, ID: "o-3"}}},
		{"charged twice while under way", func(s *Snapshot) { s.Transactions[3].Captures = 2 }, []v{{Rule: ChargedTwice, ID: "o-4"}}},
		{"payment does not know of a charge", func(s *Snapshot) { s.Payments = s.Payments[1:] }, []v{{Rule: PaymentDisagrees, ID: "o-1"}}},
		{"payment says declined, the bank took money", func(s *Snapshot) { s.Payments[0].State = paymentv1.PaymentState_PAYMENT_STATE_DECLINED },
			[]v{{Rule: PaymentDisagrees, ID: "o-1"}}},
		{"payment says voided, the bank refunded", func(s *Snapshot) { s.Payments[2].State = paymentv1.PaymentState_PAYMENT_STATE_VOIDED },
			[]v{{Rule: PaymentDisagrees, ID: "o-3"}}},
		{"payment says voided, the bank never heard of it", func(s *Snapshot) {
			s.Payments[1].State = paymentv1.PaymentState_PAYMENT_STATE_VOIDED
			s.Transactions = slices.Delete(s.Transactions, 1, 2)
		}, nil},
		{"payment and bank differ in the amount", func(s *Snapshot) { s.Payments[0].AmountCents = 3 }, []v{{Rule: PaymentDisagrees, ID: "o-1"}}},
		{"an order is final, its payment is not", func(s *Snapshot) { s.Payments[2].State = paymentv1.PaymentState_PAYMENT_STATE_CANCELLING },
			[]v{{Rule: PaymentUnfinished, ID: "o-3"}}},
		{"no ticket", func(s *Snapshot) { s.Tickets = nil }, []v{{Rule: TicketMissing, ID: "o-1"}}},
		{"no ticket yet", func(s *Snapshot) { s.Tickets = nil; s.Orders[0].UpdatedAt = ago(time.Second) }, nil},
		{"a ticket for no order", func(s *Snapshot) {
			s.Tickets = append(s.Tickets, &ticketingv1.Ticket{TicketId: "t-7", OrderId: "o-7"})
		}, []v{{Rule: TicketWithoutOrder, ID: "o-7"}}},
		{"a ticket for a cancelled order", func(s *Snapshot) {
			s.Tickets = append(s.Tickets, &ticketingv1.Ticket{TicketId: "t-7", OrderId: "o-3"})
		}, []v{{Rule: TicketWithoutOrder, ID: "o-3"}}},
		{"two tickets for one order", func(s *Snapshot) {
			s.Tickets = append(s.Tickets, &ticketingv1.Ticket{TicketId: "t-7", OrderId: "o-1", ShowId: "s", SeatIds: []string{"A-1", "A-2"}})
		}, []v{{Rule: TicketWithoutOrder, ID: "o-1"}}},
		{"one ticket for two orders", func(s *Snapshot) {
			s.Tickets = append(s.Tickets, &ticketingv1.Ticket{TicketId: "t-1", OrderId: "o-4"})
		}, []v{{Rule: TicketWithoutOrder, ID: "o-4"}}},
		{"a ticket for other seats", func(s *Snapshot) { s.Tickets[0].SeatIds = []string{"A-1"} }, []v{{Rule: TicketWithoutOrder, ID: "o-1"}}},
		{"a ticket for another show", func(s *Snapshot) { s.Tickets[0].ShowId = "z" }, []v{{Rule: TicketWithoutOrder, ID: "o-1"}}},
		{"an order that never ends", func(s *Snapshot) { s.Orders[3].CreatedAt = ago(grace + time.Second) }, []v{{Rule: OrderUnfinished, ID: "o-4"}}},
		{"an order recorded twice", func(s *Snapshot) { s.Orders = append(s.Orders, s.Orders[1]) }, []v{{Rule: OrderTwice, ID: "o-2"}}},
		{"a record that cannot be read", func(s *Snapshot) { s.Unreadable = []string{"payment:x"} }, []v{{Rule: Unreadable, ID: "payment:x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := office()
			tc.spoil(s)
			r := Check(s, grace)
			var got []v
			for _, found := range r.Violations {
				if found.Text == "" {
					t.Errorf("%s of %s says nothing", found.Rule, found.ID)
				}
				got = append(got, v{Rule: found.Rule, ID: found.ID})
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", r.Violations, tc.want)
			}
		})
	}
}
