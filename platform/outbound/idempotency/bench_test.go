package idempotency

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"

	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// BenchmarkRepeatable is a method that was looked up before.
func BenchmarkRepeatable(b *testing.B) {
	c := New(protoregistry.GlobalFiles)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Repeatable(inventoryv1.InventoryService_Hold_FullMethodName) {
			b.Fatal("a hold may be sent again")
		}
	}
}
