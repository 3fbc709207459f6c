package validation

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	r := New()
	hold := &inventoryv1.HoldRequest{HoldId: "h", ShowId: "s", SeatIds: []string{"A-1"}}
	for name, c := range map[string]struct {
		message any
		field   string // to blame; "" for a good message
		says    string
	}{
		"good":         {hold, "", ""},
		"no message":   {"text", "", ""},
		"twice a seat": {&inventoryv1.HoldRequest{HoldId: "h", ShowId: "s", SeatIds: []string{"A-1", "A-1"}}, "seat_ids", "seat_ids: repeated value must contain unique items"},
		"negative":     {&paymentv1.ChargeRequest{PaymentId: "payment-1", AmountCents: -5, CardToken: "tok_1"}, "amount_cents", "amount_cents: must be greater than 0 and less than or equal to 100000000"},
		"redacted":     {&paymentv1.ChargeRequest{PaymentId: "payment-1", AmountCents: 5, CardToken: "4111"}, "card_token", "card_token: breaks the rule string.pattern"},
		"empty token":  {&sessionv1.TouchRequest{}, "token", "token: breaks the rule string.min_len"},
	} {
		err := r.Check(c.message)
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		p := problem.From(err)
		if err == nil || p.Code != codes.InvalidArgument || p.Reason != problem.InvalidArgument || p.Metadata["field"] != c.field || status.Convert(err).Message() != c.says {
			t.Errorf("%s: %v with metadata %v, want %q to blame and %q", name, err, p.Metadata, c.field, c.says)
		}
	}
}

func TestWarmCompilesWhatTheServerTakes(t *testing.T) {
	r := New()
	server := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(server, inventoryv1.UnimplementedInventoryServiceServer{})
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "not.described.Anywhere", HandlerType: (*any)(nil)}, nil)
	if err := r.Warm(server.GetServiceInfo()); err != nil {
		t.Fatal(err)
	}
	request := proto.Message(&inventoryv1.HoldRequest{HoldId: "h", ShowId: "s", SeatIds: []string{"A-1"}})
	if n := testing.AllocsPerRun(1, func() { _ = r.Check(request) }); n > 100 {
		t.Errorf("the first check after Warm makes %v allocations: it compiles", n)
	}
}
