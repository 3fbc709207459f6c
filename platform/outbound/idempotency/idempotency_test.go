package idempotency

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"

	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestIdempotencyIsReadFromTheContract(t *testing.T) {
	c := New(protoregistry.GlobalFiles)
	for method, want := range map[string]struct{ repeatable, reads bool }{
		inventoryv1.InventoryService_Hold_FullMethodName:            {true, false}, // IDEMPOTENT
		inventoryv1.InventoryService_GetAvailability_FullMethodName: {true, true},  // NO_SIDE_EFFECTS
		sessionv1.SessionService_SignIn_FullMethodName:              {},
		sessionv1.SessionService_Refresh_FullMethodName:             {},
		"/spillway.inventory.v1.InventoryService/NoSuch":            {},
		"/no.such.Service/Method":                                   {},
		"/spillway.inventory.v1/InventoryService":                   {}, // a service, no method
		"": {},
	} {
		for range 2 { // looked up, then remembered
			if got := c.Repeatable(method); got != want.repeatable {
				t.Errorf("%q may be sent again: %v, want %v", method, got, want.repeatable)
			}
			if got := c.Reads(method); got != want.reads {
				t.Errorf("%q only reads: %v, want %v", method, got, want.reads)
			}
		}
	}
}
