package keyspace

import "testing"

// The layout is data at rest: a changed name loses what is stored. This test
// is the reminder to write a migration.
func TestNamesAreFixed(t *testing.T) {
	for got, want := range map[string]string{
		InventoryTaken("opening-night"):       "inventory:{opening-night}:taken",
		InventoryExpiring("opening-night"):    "inventory:{opening-night}:expiring",
		InventoryHold("opening-night", "o-1"): "inventory:{opening-night}:hold:o-1",
		Payment("o-1"):                        "payment:o-1",
		Session("ab12"):                       "session:ab12",
		SessionPerson("ada"):                  "session:person:ada",
		Checkouts().Name:                      "CHECKOUTS",
		Checkouts().Subjects[0]:               "orders.opened",
		Sales().Name:                          "SALES",
		Sales().Subjects[0]:                   "orders.paid",
		Orders().Bucket:                       "orders",
		Tickets().Bucket:                      "tickets",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHoldOf(t *testing.T) {
	show, hold, ok := HoldOf(InventoryHold("opening-night", "o-1"))
	if !ok || show != "opening-night" || hold != "o-1" {
		t.Errorf("HoldOf = %q, %q, %v", show, hold, ok)
	}
	for _, key := range []string{"", "payment:x", "inventory:{a}:taken", "inventory:{a}:expiring", "inventory:{}:hold:x", "inventory:{a}:hold:"} {
		if show, hold, ok := HoldOf(key); ok {
			t.Errorf("HoldOf(%q) = %q, %q, true", key, show, hold)
		}
	}
}
